"""The reference decoder undoes the reference encoder, and keeps the definitions of the format literally."""

import numpy as np
import pytest

from dlpr import bitstream, reference
from dlpr.errors import ChecksumError, CorruptError, DlprError, UnsupportedError
from dlpr.layout import Layout
from dlpr.modes.networks.exact import reference as networks_reference
from dlpr.modes.networks.exact.geometry import NEAR, TAPS, Patch
from dlpr.modes.networks.exact.layers import shuffle2
from dlpr.modes.networks.exact.linear import Group, LinearStage, pack_linear, parse_linear
from dlpr.modes.networks.exact.mixture import Grid, MixtureTables
from dlpr.modes.networks.exact.rans import LaneDecoder, LaneEncoder, Latents, uniform


def test_round_trip(cases, weights):
    for case in cases:
        out = reference.decode(case.data, weights)
        error = np.abs(out.astype(int) - case.planes[..., [1, 0, 2] if out.shape[-1] == 3 else [0]])
        assert error.max() <= case.tau, case.name


def test_constant_and_stored(weights):
    layout, height, width = Layout.of((1, 3, 4, 5))
    image = np.zeros((1, 3, 4, 5), np.uint8) + np.array([1, 2, 3], np.uint8)[:, None, None]
    for mode, payload in ((bitstream.Mode.CONSTANT, b"\1\2\3"), (bitstream.Mode.STORED, image.tobytes())):
        header = bitstream.Header(mode, 0, layout, height, width, bitstream.crc32c(image, 0))
        data = bitstream.pack(bitstream.Stream(header, payload))
        np.testing.assert_array_equal(reference.decode(data), image)
        with pytest.raises(UnsupportedError):
            networks_reference.decode_payload(bitstream.parse(data), weights)


def test_lossy_layer_from_a_prefix(cases, weights):
    for case in cases:
        whole = bitstream.parse(case.data)
        if whole.payload.lossy:
            prefix = bitstream.parse_lossy(case.data[: 52 + len(whole.payload.lossy_part)])
            x_tilde = networks_reference.decode_lossy(prefix, weights)
            assert x_tilde.shape == case.planes.shape
            np.testing.assert_array_equal(x_tilde, networks_reference.decode_lossy(whole, weights))
        else:
            with pytest.raises(UnsupportedError):
                networks_reference.decode_lossy(whole, weights)


def test_changed_bytes_give_typed_errors(coded, weights, reseal):
    """Any byte changed under right checksums of the bytes: a typed error, or the samples' checksum tells."""
    rng = np.random.default_rng(0)
    reasons = set()
    good = reference.decode(coded, weights)
    for _ in range(60):
        data = bytearray(coded)
        data[int(rng.integers(24, len(data)))] ^= 1 << int(rng.integers(8))
        try:
            out = reference.decode(reseal(data), weights)
        except DlprError as error:
            reasons.add(error.reason)
        else:
            np.testing.assert_array_equal(out, good)
    assert "corrupt" in reasons


def test_wrong_pixel_checksum(coded, weights, reseal):
    data = bytearray(coded)
    data[16] ^= 1
    with pytest.raises(ChecksumError) as info:
        reference.decode(reseal(data), weights)
    assert info.value.reason == "pixels"


def test_bank_entry_beyond_the_bank(coded, weights, reseal):
    data = bytearray(coded)
    data[35] = weights.sizes.bank
    with pytest.raises(CorruptError) as info:
        reference.decode(reseal(data), weights)
    assert info.value.offset == 35


# ---- section 6: borders, straight from their definition ----


def test_taps_and_features_as_defined():
    rng = np.random.default_rng(3)
    h, w, base = 6, 5, (10, 20, 30)
    samples = rng.integers(0, 256, (h, w, 3))

    def p(y, x, c):
        if y < 0 or (x < 0 and y == 0):
            return base[c]
        if x < 0:
            return p(y - 1, 0, c)
        return samples[y, min(x, w - 1), c]

    patch = Patch(h, w, base)
    seen = 0
    for s in range(patch.steps):
        rows, columns = patch.step(s)
        assert all(x + 2 * y == s for y, x in zip(rows, columns, strict=True))
        taps = patch.taps(rows, columns)
        features = patch.features(rows, columns, np.zeros(len(rows), np.int64))
        for i, (y, x) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            expected = [[p(y + dy, x + dx, c) for c in range(3)] for dy, dx in TAPS]
            np.testing.assert_array_equal(taps[i], expected)
            b = [(p(y - 1, x, c) + p(y, x - 1, c) + 1) >> 1 for c in range(3)]
            np.testing.assert_array_equal(features[i, :66], (4 * (np.array(expected) - b)).ravel())
            near = []
            for dy, dx in TAPS[:NEAR]:
                there = y + dy >= 0 and 0 <= x + dx < w
                near += [7 * samples[y + dy, x + dx, c] if there else 0 for c in range(3)]
                near += [samples[y + dy, x + dx, c] - 64 if there else 0 for c in range(3)]
            np.testing.assert_array_equal(features[i, 66:132], near)
            assert features[i, 132] == max(-2047, -64 * b[0])
        for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
            at, seen = patch.at(y, x), seen + 1
            v = samples[y, x]
            patch.samples[at], patch.residuals[at], patch.logs[at] = v, 7 * v, v - 64
            patch.complete(y, x)
    assert seen == h * w


def test_shuffle_as_defined():
    a = np.arange(8 * 3 * 2).reshape(8, 3, 2)
    out = shuffle2(a)
    for k, i, j in np.ndindex(2, 3, 2):
        for u in range(2):
            for v in range(2):
                assert out[k, 2 * i + u, 2 * j + v] == a[4 * k + 2 * u + v, i, j]


# ---- section 7 ----


def test_prediction_as_defined():
    rng = np.random.default_rng(4)
    for frac in (4, 8, 12):
        counts = (5, 66, 3)
        row = tuple(Group(n, -77, 32, 0, rng.integers(-500, 500, c + n)) for c, n in enumerate(counts))
        stage = LinearStage(frac, (row,))
        bias, own, taps = stage.matrices()
        near, pixel = rng.integers(0, 256, (22, 3)), rng.integers(0, 256, 3)
        for c, n in enumerate(counts):
            regressors = list(pixel[:c])
            for t in range(22):
                regressors += [near[t, k] for k in (c, *(o for o in range(3) if o != c))]
            acc = -77 * 2 ** (frac - 3)
            acc += sum(int(q) * (int(r) - 128) for q, r in zip(row[c].coefficients, regressors[: c + n], strict=True))
            half = 1 << (frac - 5) if frac > 4 else 0
            expected = min(max(((acc + half) >> (frac - 4)) + 2048, -128), 4208)
            total = (taps[0, c] * (near - 128)).sum() + (own[0, c] * (pixel - 128)).sum() + bias[0, c]
            assert int(stage.prediction(total)) == expected


def test_linear_part_round_trip_and_damage(weights):
    rng = np.random.default_rng(6)
    groups = tuple(
        tuple(Group(n, 5, 20, min(k, 1), rng.integers(-300, 300, c + n)) for c, n in enumerate((4, 0, 66)))
        for k in range(4)
    )
    part = pack_linear(LinearStage(9, groups), weights)
    back = parse_linear(part, weights, 3)
    assert back.frac == 9
    for row, other in zip(groups, back.groups, strict=True):
        for group, found in zip(row, other, strict=True):
            np.testing.assert_array_equal(group.coefficients, found.coefficients)
    for n in range(len(part)):
        with pytest.raises(CorruptError):
            parse_linear(part[:n], weights, 3)
    for at, value in ((0, 3), (0, 13), (1, 3), (2, 67), (4, 0x7F), (5, 65), (6, 1)):
        with pytest.raises(CorruptError):
            parse_linear(part[:at] + bytes([value]) + part[at + 1 :], weights, 3)


# ---- section 9 ----


@pytest.mark.parametrize("tau", [0, 1, 3, 60, 255])
def test_every_sample_has_a_symbol_with_a_frequency(weights, tau):
    tables, rng = MixtureTables(weights), np.random.default_rng(tau)
    for _ in range(60):
        out = rng.integers(-8191, 8192, 75) // int(rng.choice([1, 8, 64]))
        pred, anchor = int(rng.integers(-128, 4209)), int(rng.integers(256))
        grid = Grid.of(anchor, tau, int(rng.choice([1, 5, 255])), pred)
        mixture = tables.mixture(out, 2, pred, [int(rng.integers(-4208, 4209)), 9, 0], [300, 5, 0])
        assert mixture.weight.sum() == 32768
        assert (mixture.weight >= 0).all()
        f = tables.cumulative(mixture, grid)
        assert (f[0], f[-1], len(f)) == (0, 65536, grid.hi - grid.lo + 2)
        assert (np.diff(f) > 0).all()
        assert grid.qmin <= grid.lo <= grid.hi <= grid.qmax
        reached = {grid.value(q) for q in range(grid.qmin, grid.qmax + 1)}
        assert all(min(abs(v - r) for r in reached) <= tau for v in range(256))


# ---- section 10 ----


def test_rans_round_trip(weights):
    rng, encoder, latents = np.random.default_rng(8), LaneEncoder(), Latents(weights)
    wanted = []
    for _ in range(2000):
        scale, symbol = int(rng.integers(64)), int(rng.normal(0, 30))
        latents.encode(encoder, scale, symbol)
        n = int(rng.integers(1, 300))
        j = int(rng.integers(n))
        encoder.symbol(uniform(n), j)
        wanted.append((scale, symbol, n, j))
    data = encoder.finish()
    lane = LaneDecoder(data)
    for scale, symbol, n, j in wanted:
        assert latents.decode(lane, scale) == symbol
        assert lane.symbol(uniform(n)) == j
    lane.finish()
    with pytest.raises(CorruptError):
        LaneDecoder(data).finish()


def test_empty_lane():
    assert LaneEncoder().finish() == (1 << 23).to_bytes(4, "little")
    LaneDecoder((1 << 23).to_bytes(4, "little")).finish()
    for bad in (b"", b"\0\0\0", b"\0\0\0\0", b"\xff\xff\xff\xff"):
        with pytest.raises(CorruptError):
            LaneDecoder(bad)
