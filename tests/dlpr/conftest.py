"""Random weights and random coded chunks for the tests of the exact decoders."""

import zlib
from dataclasses import asdict, dataclass

import numpy as np
import pytest

from dlpr.bitstream import pack, parse
from dlpr.config import SlideProfile
from dlpr.layout import Layout
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.exact.linear import Group, LinearStage
from dlpr.modes.networks.exact.reference_encoder import Choices, encode
from dlpr.modes.networks.exact.tables import all_tables
from dlpr.modes.networks.weights_check import expected

SMALL = SlideProfile(hidden=8, blocks=2, bank=3, latent=4, hyper=3, widths=(8, 6, 5, 24), tau_classes=3)


def random_tensors(profile, seed):
    """Valid tensors whose networks give lively outputs: no sum can leave 24 bits, shifts keep them in 16."""
    rng = np.random.default_rng(seed)
    tensors = dict(all_tables())
    for name, (dtype, shape) in expected(profile).items():
        if name in tensors:
            continue
        if name.endswith(".weight"):
            value = rng.integers(-40, 41, shape)
        elif name.endswith(".shift"):
            value = rng.integers(6, 10, shape)
        elif name.endswith(("acc_bias", "position")):
            value = rng.integers(-40000, 40000, shape)
        elif name.endswith("mult"):
            value = rng.integers(-9000, 9000, shape)
        elif name == "lic.z_scale":
            value = rng.integers(0, 40, shape)
        elif name == "linear.scale":
            value = rng.integers(10, 60, shape)
        else:
            value = rng.integers(-400, 400, shape)
        tensors[name] = value.astype(dtype)
    return tensors


def extreme_tensors(profile, seed):
    """Tensors whose layers run into every saturation and clamp there is."""
    rng, tensors = np.random.default_rng(seed), random_tensors(profile, seed)
    for name, value in tensors.items():
        if name.startswith(("lic.", "rc.", "sqrc.")) and not name.startswith("lic.z_"):
            if value.dtype == np.int16:
                tensors[name] = rng.integers(-32768, 32768, value.shape).astype(np.int16)
            elif name.endswith("shift"):
                tensors[name] = rng.integers(0, 12, value.shape).astype(np.uint8)
    return tensors


def profile_dict(profile):
    return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(profile).items()}


@pytest.fixture(scope="session")
def random_weights():
    """Make a small random weights file of a seed: ``random_weights(seed, profile=...) -> bytes``."""

    def make(seed, profile=SMALL):
        return store.dump(profile_dict(profile), random_tensors(profile, seed))

    return make


@pytest.fixture(scope="session")
def weights_bytes(random_weights):
    return random_weights(1)


@pytest.fixture(scope="session")
def weights(weights_bytes):
    return store.load(weights_bytes)


def random_linear(rng, channels):
    """A linear stage with groups of all sizes, coefficients near the prior or far from it, references."""
    frac, groups = int(rng.integers(4, 13)), []
    for k in range(int(rng.choice([1, 2, 4]))):
        row = []
        for c in range(channels):
            count = int(rng.choice([0, 1, 2, 5, 6, 33, 66]))
            spread = float(rng.choice([1, 40, 3000]))
            coefficients = np.clip(rng.normal(0, spread, c + count), -8191, 8191).astype(np.int64)
            head = int(rng.integers(-8191, 8192)), int(rng.integers(0, 65)), int(rng.integers(0, min(k, 1) + 1))
            row.append(Group(count, *head, coefficients))
        groups.append(tuple(row))
    return LinearStage(frac, tuple(groups))


def random_choices(rng, profile, height, width, channels, **fixed):
    """Choices of an encoder that picks at random; ``lossy`` and any field of `Choices` can be given."""
    gh, gw = -(-height // 64), -(-width // 64)
    choice = {
        "bank_entry": int(rng.integers(profile.bank)),
        "interval": int(rng.choice([1, 2, 7, 40, 255])),
        "patch_exp": 5,
        "lane_exp": int(rng.integers(4)),
        "base": tuple(int(v) for v in rng.integers(0, 256, 3)) if channels == 3 else (int(rng.integers(256)),) * 3,
        "linear": random_linear(rng, channels),
    }
    if fixed.pop("lossy", rng.random() < 0.5):
        far = rng.random((profile.latent, 4 * gh, 4 * gw)) < 0.02
        choice["z_sym"] = rng.integers(-6, 7, (profile.hyper, gh, gw))
        choice["y_sym"] = np.where(far, rng.integers(-900, 900, far.shape), rng.integers(-3, 4, far.shape))
        choice["anchor_lossy"] = bool(rng.random() < 0.5)
    return Choices(**{**choice, **fixed})


@dataclass
class Case:
    """A coded chunk: what went in, and the stream."""

    name: str
    planes: np.ndarray
    tau: int
    data: bytes


CASES = {
    # name: (H, W, channels, tau, fixed choices)
    "one-pixel": (1, 1, 3, 0, {}),
    "one-pixel-grey": (1, 1, 1, 0, {"lossy": True}),
    "row": (1, 37, 3, 0, {"lossy": True}),
    "column": (41, 1, 3, 1, {}),
    "two-wide": (19, 2, 3, 0, {"lane_exp": 2}),
    "odd": (13, 17, 3, 0, {"lossy": False}),
    "odd-lossy": (17, 13, 3, 0, {"lossy": True, "anchor_lossy": False}),
    "odd-anchor": (11, 15, 3, 0, {"lossy": True, "anchor_lossy": True}),
    "patches": (35, 40, 3, 0, {"lossy": True}),
    "patches-tau": (34, 33, 3, 3, {"lossy": True, "anchor_lossy": True, "lane_exp": 3}),
    "grey": (15, 20, 1, 0, {"lossy": False, "interval": 1}),
    "grey-lossy": (14, 18, 1, 1, {"lossy": True, "anchor_lossy": True}),
    "grey-patches": (33, 40, 1, 0, {"lossy": True, "anchor_lossy": False}),
    "blocks": (9, 70, 3, 1, {"lossy": True, "anchor_lossy": False}),
    "escapes": (12, 12, 3, 0, {"interval": 1, "lane_exp": 0}),
    "all-symbols": (12, 12, 3, 0, {"interval": 255, "lane_exp": 1}),
    "lanes-5": (10, 9, 3, 0, {"lane_exp": 5}),
    "patch-8": (36, 6, 3, 1, {"patch_exp": 8, "lane_exp": 3}),
    "tau-2": (9, 9, 3, 2, {}),
    "tau-5": (9, 10, 3, 5, {"interval": 1}),
    "tau-15": (12, 11, 3, 15, {"lossy": True, "anchor_lossy": True, "interval": 1}),
    "tau-60": (10, 12, 3, 60, {"lossy": True}),
    "tau-255": (10, 11, 3, 255, {}),
    "tau-254-grey": (6, 7, 1, 254, {}),
}


def content(rng, name, height, width, channels):
    """Pixels: a gradient with noise, except where the name asks for all that can be."""
    if name in ("escapes", "all-symbols", "tau-15"):
        return rng.choice(np.array([0, 1, 127, 254, 255], np.uint8), (height, width, channels))
    yy, xx = np.mgrid[:height, :width][..., None]
    return np.clip(90 + 3 * yy - 2 * xx + rng.normal(0, 9, (height, width, channels)), 0, 255).astype(np.uint8)


def code_cases(weights, names):
    """Random chunks, coded by the reference encoder."""
    made = []
    for name in names:
        height, width, channels, tau, fixed = CASES[name]
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        choices = random_choices(rng, SMALL, height, width, channels, **fixed)
        planes = content(rng, name, height, width, channels)
        made.append(Case(name, planes, tau, pack(encode(planes, tau, weights, choices))))
    return made


@pytest.fixture(scope="session")
def cases(weights):
    """Chunks of all kinds."""
    return code_cases(weights, CASES)


@pytest.fixture(scope="session")
def extreme_weights():
    return store.load(store.dump(profile_dict(SMALL), extreme_tensors(SMALL, 2)))


@pytest.fixture(scope="session")
def extreme_cases(extreme_weights):
    """Some chunks under weights that saturate everywhere."""
    return code_cases(
        extreme_weights, ["odd-anchor", "tau-5", "patches-tau", "blocks", "grey-lossy", "tau-15", "lanes-5"]
    )


@pytest.fixture(scope="session")
def analysis_tensors():
    """The encoder's layers, which the native model wants to see too."""
    rng, n, nz = np.random.default_rng(0), SMALL.latent, SMALL.hyper
    layers = {
        "g_e.c0": (48, 48, 3), "g_e.c1": (64, 48, 3), "g_e.c2": (64, 64, 3), "g_e.c3": (96, 64, 3),
        "g_e.c4": (n, 96, 3), "h_e.c0": (n, n, 1), "h_e.c1": (n, 4 * n, 1), "h_e.c2": (nz, 4 * n, 1),
    }  # fmt: skip
    tensors = {}
    for name, (out, inputs, k) in layers.items():
        tensors[f"lic.{name}.weight"] = rng.integers(-9, 10, (out, inputs, k, k)).astype(np.int8)
        tensors[f"lic.{name}.acc_bias"] = np.zeros(out, np.int32)
        tensors[f"lic.{name}.shift"] = np.full(out, 8, np.uint8)
        tensors[f"lic.{name}.mult"] = np.full(out, 1000, np.int16)
        tensors[f"lic.{name}.bias"] = np.zeros(out, np.int16)
    return tensors


@pytest.fixture(scope="session")
def coded(weights):
    """One small coded stream with a lossy layer, several patches and lanes."""
    rng = np.random.default_rng(5)
    choices = random_choices(rng, SMALL, 33, 7, 3, lossy=True, lane_exp=1, linear=None, interval=9)
    planes = content(rng, "coded", 33, 7, 3)
    return pack(encode(planes, 1, weights, choices, Layout.of((1, 3, 33, 7))[0]))


@pytest.fixture(scope="session")
def parsed_cases(cases):
    return [parse(case.data) for case in cases]


@pytest.fixture(scope="session")
def reseal():
    """Make the checksums of the bytes right again after a change, so that later checks are reached."""

    def seal(data):
        from dlpr.bitstream import crc32c

        out = bytearray(data)
        if len(out) >= 52 and out[5] == 0:
            size = int.from_bytes(out[40:44], "little")
            crc = crc32c(bytes(out[52 : 52 + size]), crc32c(bytes(out[24:48]), crc32c(bytes(out[:16]), 0)))
            out[48:52] = crc.to_bytes(4, "little")
        out[20:24] = crc32c(bytes(out[24:]), crc32c(bytes(out[:20]), 0)).to_bytes(4, "little")
        return bytes(out)

    return seal
