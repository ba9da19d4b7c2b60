"""The native decoder equals the reference on choices that its own encoder would not make."""

import numpy as np
import pytest

from dlpr import bitstream
from dlpr.errors import BitstreamError, CorruptError
from dlpr.layout import from_planes
from dlpr.modes.networks.exact import reference

native = pytest.importorskip("dlpr._native")


def job(stream):
    h, p = stream.header, stream.payload
    lanes = [lane for patch in p.lanes for lane in patch]
    names = ("lossy", "anchor_lossy", "patch_exp", "lane_exp", "bank_entry", "interval", "base")
    return {
        "H": h.height, "W": h.width, "channels": h.layout.channels, "tau": h.tau,
        **{name: getattr(p, name) for name in names}, "lossy": int(p.lossy), "anchor_lossy": int(p.anchor_lossy),
        "lossy_part": bytes(p.lossy_part), "linear_part": bytes(p.linear_part),
        "lanes": b"".join(lanes), "lane_sizes": [len(lane) for lane in lanes],
    }  # fmt: skip


@pytest.mark.parametrize("simd", native.simd_available())
@pytest.mark.parametrize("kind", ["", "extreme_"])
def test_equals_the_reference(request, analysis_tensors, kind, simd):
    weights = request.getfixturevalue(f"{kind}weights")
    cases = request.getfixturevalue(f"{kind}cases")
    tensors = {name: np.ascontiguousarray(v) for name, v in {**weights.tensors, **analysis_tensors}.items()}
    model = native.Model(dict(weights.profile), tensors, simd)
    streams = [bitstream.parse(case.data) for case in cases]
    results = native.decode_batch(model, [job(s) for s in streams], 1)
    for case, stream, (planes, error) in zip(cases, streams, results, strict=True):
        assert not error, case.name
        bitstream.check_pixels(stream.header, from_planes(planes, stream.header.layout))


def test_damage_as_the_reference_sees_it(coded, weights, analysis_tensors, reseal):
    tensors = {name: np.ascontiguousarray(v) for name, v in {**weights.tensors, **analysis_tensors}.items()}
    model, rng = native.Model(dict(weights.profile), tensors), np.random.default_rng(2)
    agreed = 0
    for _ in range(60):
        data = bytearray(coded)
        data[int(rng.integers(36, len(data)))] ^= 1 << int(rng.integers(8))
        try:
            stream = bitstream.parse(reseal(data))
        except BitstreamError:
            continue
        planes, error = native.decode_batch(model, [job(stream)], 1)[0]
        try:
            expected = reference.decode_payload(stream, weights)
        except CorruptError:
            assert error
        else:
            assert not error
            np.testing.assert_array_equal(planes, expected)
        agreed += 1
    assert agreed > 20
