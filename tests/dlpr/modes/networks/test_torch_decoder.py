"""The torch decoder equals the reference bit for bit, whatever shares its batch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dlpr import bitstream  # noqa: E402
from dlpr.errors import CorruptError, DlprError, UnsupportedError  # noqa: E402
from dlpr.layout import from_planes  # noqa: E402
from dlpr.modes.networks.exact import reference, torch_decoder, torch_parts  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_equals_the_reference_in_one_mixed_batch(parsed_cases, cases, weights):
    out = torch_decoder.decode_batch(parsed_cases, weights)
    for case, stream, planes in zip(cases, parsed_cases, out, strict=True):
        bitstream.check_pixels(stream.header, from_planes(planes, stream.header.layout))
        np.testing.assert_array_equal(planes, reference.decode_payload(stream, weights), err_msg=case.name)


def test_equals_the_reference_where_everything_saturates(extreme_cases, extreme_weights):
    streams = [bitstream.parse(case.data) for case in extreme_cases]
    for stream, planes in zip(streams, torch_decoder.decode_batch(streams, extreme_weights), strict=True):
        np.testing.assert_array_equal(planes, reference.decode_payload(stream, extreme_weights))


def test_alone_or_in_company(parsed_cases, weights):
    some = parsed_cases[:4]
    together = torch_decoder.decode_batch(some, weights)
    for stream, planes in zip(some, together, strict=True):
        np.testing.assert_array_equal(torch_decoder.decode_batch([stream], weights)[0], planes)
    assert torch_decoder.decode_batch([], weights) == []


def test_lossy_layers(parsed_cases, weights):
    lossy = [s for s in parsed_cases if s.payload.lossy]
    for stream, planes in zip(lossy, torch_decoder.decode_lossy_batch(lossy, weights), strict=True):
        np.testing.assert_array_equal(planes, reference.decode_lossy(stream, weights))
    with pytest.raises(UnsupportedError):
        torch_decoder.decode_lossy_batch([s for s in parsed_cases if not s.payload.lossy], weights)


def test_damage_as_the_reference_sees_it(coded, weights, reseal):
    rng = np.random.default_rng(1)
    good = bitstream.parse(coded)
    refused = 0
    for _ in range(12):
        data = bytearray(coded)
        data[int(rng.integers(35, len(data)))] ^= 1 << int(rng.integers(8))
        try:
            stream = bitstream.parse(reseal(data))
        except DlprError:
            continue
        try:
            expected = reference.decode_payload(stream, weights)
        except CorruptError:
            refused += 1
            with pytest.raises(CorruptError, match="stream 1"):
                torch_decoder.decode_batch([good, stream], weights)
        else:
            np.testing.assert_array_equal(torch_decoder.decode_batch([good, stream], weights)[1], expected)
    assert refused


def test_products_are_exact_up_to_the_bound():
    with torch_parts.exact_matmul(torch.device("cpu")):
        a = torch.full((1, 128), 1023.0)
        b = torch.full((128, 1), 127.0)
        assert int((a @ b).item()) == 128 * 1023 * 127 < 1 << 24


def test_restores_the_precision():
    before = torch.get_float32_matmul_precision()
    with torch_parts.exact_matmul(torch.device("cpu")):
        pass
    assert torch.get_float32_matmul_precision() == before
