"""The torch encoder makes the native encoder's choices, in any company; proofs agree with the decoders."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dlpr import _native, bitstream  # noqa: E402
from dlpr.config import EncoderOptions  # noqa: E402
from dlpr.errors import DlprError  # noqa: E402
from dlpr.frame import Header, Mode  # noqa: E402
from dlpr.layout import Layout  # noqa: E402
from dlpr.modes.networks import mode  # noqa: E402
from dlpr.modes.networks import weights as store  # noqa: E402
from dlpr.modes.networks.exact import reference, torch_expected  # noqa: E402
from dlpr.modes.networks.exact.known_geometry import geometry  # noqa: E402
from dlpr.modes.networks.exact.torch_encoder import Settings, encode_chunks  # noqa: E402
from dlpr.modes.networks.exact.torch_parts import Model, exact_matmul  # noqa: E402

SLAB = 1 << 13
CASES = {
    # (H, W, channels, tau, options)
    "plain": (40, 33, 3, 0, {}),
    "tau-1": (33, 34, 3, 1, {}),
    "tau-3-anchor": (35, 36, 3, 3, {"anchor": "lossy"}),
    "tau-15": (19, 40, 3, 15, {}),
    "grey": (34, 33, 1, 0, {}),
    "grey-tau-3": (40, 32, 1, 3, {"anchor": "lossy"}),
    "patches-lanes": (70, 45, 3, 0, {"patch": 32, "lanes": 4}),
    "grey-patches-tau": (37, 70, 1, 1, {"patch": 32, "lanes": 8}),
    "no-lossy": (20, 21, 3, 0, {"lossy_layer": False}),
    "no-linear": (16, 18, 3, 0, {"linear_stage": False}),
    "no-search": (24, 17, 3, 0, {"search": False}),
    "one-class-context-2": (24, 17, 3, 0, {"linear_classes": 1, "linear_context": 2, "coefficient_bits": 12}),
    "entry": (24, 17, 3, 1, {"bank_entry": 5, "coefficient_bits": 4}),
    "one-pixel": (1, 1, 3, 0, {}),
    "row": (1, 50, 3, 0, {}),
    "column": (50, 1, 3, 1, {"patch": 32}),
    "beyond-a-patch": (33, 257, 3, 0, {"search": False}),
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shipped():
    return Model(store.find(store.default_id()), torch.device("cpu"))


def chunks(name, count=2):
    """Smooth pixels with noise, one flat chunk among them: its predictor is a large part of it."""
    height, width, channels, tau, options = CASES[name]
    rng = np.random.default_rng(len(name))
    yy, xx = np.mgrid[:height, :width][..., None]
    made = []
    for i in range(count):
        noise = rng.normal(0, (0, 4)[i % 2], (height, width, channels))
        made.append(np.clip(90 + 2 * yy - xx + 20 * np.sin(xx / 3) + noise, 0, 255).astype(np.uint8))
    header = Header(Mode.STORED, tau, Layout.of((height, width, channels))[0], height, width, 0)
    return made, mode._native_options(header, EncoderOptions(**options))


def torch_encode(model, planes, options, slab=SLAB):
    with torch.inference_mode(), exact_matmul(model.device):
        return encode_chunks(planes, Settings.of(planes[0], options), model, slab)


@pytest.mark.parametrize("name", CASES)
def test_makes_the_native_encoders_choices(name, shipped):
    planes, options = chunks(name)
    expected = _native.encode_batch(shipped.native, [(p, options) for p in planes], 1)
    for got, want in zip(torch_encode(shipped, planes, options), expected, strict=True):
        assert got == want


def test_alone_or_in_company_in_slabs_of_any_size(shipped):
    planes, options = chunks("patches-lanes", 3)
    together = torch_encode(shipped, planes, options)
    assert [torch_encode(shipped, [p], options, 1 << 11)[0] for p in planes] == together


def test_sums_beyond_24_bits_in_the_analysis():
    weights = store.find(store.default_id())
    rng = np.random.default_rng(0)
    tensors = dict(weights.tensors)
    tensors["lic.g_e.c2.weight"] = rng.choice(np.array([-127, 127], np.int8), tensors["lic.g_e.c2.weight"].shape)
    model = Model(store.Weights(weights.id, weights.profile, tensors, ""), torch.device("cpu"))
    a = torch.from_numpy(rng.integers(-2047, 2048, (1, 64, 4, 4))).to(torch.int32)
    a[:] = torch.where(a < 0, -2047, 2047)
    got = model.convolve("lic.g_e.c2", a, wide=True)
    w = torch.from_numpy(tensors["lic.g_e.c2.weight"].astype(np.float64))
    sums = torch.nn.functional.conv2d(a.double(), w, padding=1).to(torch.int64)
    assert int(sums.abs().max()) > 1 << 22
    shift, mult, bias = (tensors[f"lic.g_e.c2.{k}"].astype(np.int64)[:, None, None] for k in ("shift", "mult", "bias"))
    acc = sums.numpy()[0] + tensors["lic.g_e.c2.acc_bias"].astype(np.int64)[:, None, None]
    t = np.clip((acc + ((1 << shift) >> 1)) >> shift, -32768, 32767)
    np.testing.assert_array_equal(got[0].numpy(), np.clip(((t * mult + 2048) >> 12) + bias, -2047, 2047))


@pytest.mark.parametrize("size", [(1, 1), (5, 1), (1, 70), (40, 33), (64, 64), (70, 45)])
@pytest.mark.parametrize(("patch_exp", "lane_exp"), [(5, 0), (5, 2), (8, 1)])
def test_every_pixel_has_its_place(size, patch_exp, lane_exp):
    g = geometry(*size, patch_exp, lane_exp)
    pixels = np.arange(size[0] * size[1])
    for ids in (g.order, np.concatenate(g.parities), np.concatenate(g.steps)):
        np.testing.assert_array_equal(np.sort(ids), pixels)
    assert len(set(g.place.tolist())) == len(pixels)
    assert max(g.place.max(), g.border[0].max()) < g.places
    assert not set(g.border[0].tolist()) & set(g.place.tolist())
    assert len(g.ends) == (-(-size[0] >> patch_exp) * -(-size[1] >> patch_exp)) << lane_exp
    assert g.ends[-1] == len(pixels)


# ---- proofs ----


def prove(model, streams, expected):
    with torch.inference_mode(), exact_matmul(model.device):
        return torch_expected.prove(model, streams, expected, SLAB)


@pytest.mark.parametrize("kind", ["", "extreme_"])
def test_proves_what_the_reference_decodes(request, kind):
    weights = request.getfixturevalue(f"{kind}weights")
    cases = request.getfixturevalue(f"{kind}cases")
    model, streams = Model(weights, torch.device("cpu")), [bitstream.parse(case.data) for case in cases]
    for case, stream, got in zip(cases, streams, prove(model, streams, [c.planes for c in cases]), strict=True):
        np.testing.assert_array_equal(got, reference.decode_payload(stream, weights), err_msg=case.name)


def test_proves_nothing_of_other_pixels(cases, weights):
    model, streams = Model(weights, torch.device("cpu")), [bitstream.parse(case.data) for case in cases]
    rng = np.random.default_rng(3)
    for case, stream in zip(cases, streams, strict=True):
        other = reference.decode_payload(stream, weights)
        y, x, c = (int(rng.integers(n)) for n in other.shape)
        step = 2 * case.tau + 1
        if step > 120:
            continue
        other[y, x, c] = other[y, x, c] + step if other[y, x, c] < 128 else other[y, x, c] - step
        assert prove(model, [stream], [other]) == [None], case.name
    assert prove(model, streams[:1], [np.zeros((9, 9, 3), np.uint8)]) == [None]


def test_proves_nothing_of_damaged_streams(coded, weights, reseal):
    model = Model(weights, torch.device("cpu"))
    good = bitstream.parse(coded)
    planes = reference.decode_payload(good, weights)
    np.testing.assert_array_equal(prove(model, [good], [planes])[0], planes)
    rng = np.random.default_rng(4)
    refused = 0
    for _ in range(40):
        data = bytearray(coded)
        data[int(rng.integers(35, len(data)))] ^= 1 << int(rng.integers(8))
        try:
            stream = bitstream.parse(reseal(data))
        except DlprError:
            continue
        (got,) = prove(model, [stream], [planes])
        if got is None:
            refused += 1
        else:  # then it must be so
            np.testing.assert_array_equal(reference.decode_payload(stream, weights), got)
    assert refused > 10
