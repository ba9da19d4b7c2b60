"""Write the goldens, the golden errors and the regression sizes. Nothing else writes them.

python tests/golden/make_goldens.py                  add goldens that are missing; never over one that is there
python tests/golden/make_goldens.py --sizes          write tests/regression/sizes.csv anew: on purpose
python tests/golden/make_goldens.py --replace-draft  make all anew; only while CHANGELOG.md calls the format a draft

A golden is a folder v3/<case>/ with input.npy, stream.dlpr, in mode jpeg source.npz (the JPEG image), in
mode j2k source.j2k (the codestream), and case.json:
tau and options, of a window its place in the codestream's image, how many resolutions hold points and whether they are
whole numbers, the id of the weights, the SHA-256 of the stream and of the decoded samples (C order), their shape and
the mode. The inputs are made here from fixed seeds and from the slide in examples/; the committed files count.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import re
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dlpr
from dlpr.bitstream import Mode, crc32c
from dlpr.errors import DlprError
from dlpr.modes.colour.chroma import ChromaShape, Filter
from dlpr.modes.colour.lattice import MATRICES, Lattice, Products, Rounding
from dlpr.modes.j2k.fields import Colour
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.margin import thinned
from dlpr.modes.j2k.parse import parse as parse_j2k
from dlpr.modes.j2k.stream import SourceJ2k
from dlpr.modes.j2k.synthesis import synthesise as synthesise_j2k
from dlpr.modes.j2k.window import window_of
from dlpr.modes.jpeg.image import Coefficients, ColourTransform, JpegImage, Table, Upsampling
from dlpr.modes.jpeg.synthesis import synthesise
from dlpr.modes.jpeg.tables import standard_table
from dlpr.modes.networks import weights

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
GOLDEN = TESTS / "golden" / "v3"
ERRORS = TESTS / "golden-errors"
SIZES = TESTS / "regression" / "sizes.csv"
SLIDE = ROOT / "examples" / "CMU-1-Small-Region.svs"
CODESTREAMS = TESTS / "dlpr" / "modes" / "j2k" / "streams"
FILES = ("input.npy", "stream.dlpr", "case.json")


class Window(NamedTuple):
    """A window of a codestream's image: top, left, height, width; resolutions that hold points; whole numbers."""

    source: SourceJ2k
    place: tuple[int, int, int, int]
    points: int = 0
    whole: bool = False

    @property
    def image(self) -> J2kImage:
        """The window's image, thinned out where the wavelet is 9/7."""
        image = window_of(parse_j2k(*self.source), *self.place)
        first = image.fields.components[0]
        components = tuple(
            replace(c, points=min(self.points, c.levels + 1), whole=self.whole) for c in image.fields.components
        )
        image = replace(image, fields=replace(image.fields, components=components))
        return image if first.wavelet else thinned(image)


def windows() -> dict[str, Window]:
    """Windows by case: over tiles' edges, cut passes, chroma of other sizes, YCbCr."""

    def of(name: str, *place: int, colour: Colour = Colour.NONE, points: int = 0, whole: bool = False) -> Window:
        top, left, height, width = place
        data = (CODESTREAMS / f"{name}.j2k").read_bytes()
        return Window(SourceJ2k(data, colour), (top, left, height, width), points, whole)

    return {
        "j2k-window": of("tiles", 21, 13, 50, 59),
        "j2k-window-causal": of("causal", 40, 47, 31, 33),
        "j2k-window-points": of("half-rows-columns", 7, 30, 61, 55, points=2),
        "j2k-window-whole-numbers": of("half-columns", 9, 20, 60, 66, colour=Colour.YCBCR_BYTE, points=4, whole=True),
        "j2k-window-ycc-tau1": of("no-transform", 19, 35, 60, 48, colour=Colour.YCBCR),
    }


Image = np.ndarray[Any, np.dtype[np.uint8]]
Case = tuple[Image, int, dict[str, Any]]


def slide(x: int, y: int, width: int, height: int) -> Image:
    """A region of the slide, RGB."""
    import openslide

    with openslide.OpenSlide(str(SLIDE)) as opened:
        return np.asarray(opened.read_region((x, y), 0, (width, height)).convert("RGB"))


def ramp(height: int, width: int) -> Image:
    """A smooth image with a little noise."""
    rng = np.random.default_rng([height, width])
    y, x = np.mgrid[:height, :width]
    wave = 150 + 60 * np.sin(y / 11) + 40 * np.cos(x / 7)
    return np.clip(wave[..., None] + rng.normal(0, 2, (height, width, 3)) - [0, 25, 50], 0, 255).astype(np.uint8)


def colour_cases() -> dict[str, Case]:
    """Pixels made from Y, Cb, Cr: every filter, a few matrices, joint planes, constant chroma, a bound."""
    photo = replace(MATRICES[8], rounding=Rounding.FLOOR, products=Products.GREEN_OF_ROUNDED)
    down = replace(MATRICES[0], rounding=Rounding.FLOOR)

    def made(lattice: Lattice, shape: ChromaShape, height: int, width: int) -> Image:
        rows, columns = shape.size(height, width)
        chroma = ramp(2 * rows, 2 * columns)[::2, ::2]
        full = [shape.upsample(chroma[..., c] // 3 + 80, height, width) for c in (0, 1)]
        image = lattice.pixels(ramp(height, width)[..., 2], *full)
        image[3, 5] = 255, 0, 9
        return image

    def behind(lattice: Lattice, shape: ChromaShape, height: int, width: int) -> Image:
        """Luma and chroma of JPEGs; no decoder that mode jpeg knows made these pixels."""
        tissue = slide(900, 1200, 2 * width, height).astype(np.int64)
        grey, size = tissue.sum(2) // 3, shape.size(height, width)
        red, blue = (128 + (tissue[..., c] - grey) // 2 for c in (0, 2))
        planes = [(grey[:, :width], 85), *((c[: size[0], : 2 * size[1] : 2], 180) for c in (blue, red))]
        phases = [(3, 5), (3, 2), (3, 2)]
        y, cb, cr = (
            synthesise(jpeg_image(p.astype(np.uint8), (1, 1), phase, (code, code), ycc=False))[..., 0]
            for (p, code), phase in zip(planes, phases, strict=True)
        )
        return lattice.pixels(y, *(shape.upsample(p, height, width) for p in (cb, cr)))

    chw = made(MATRICES[1], ChromaShape(Filter.MEAN, 2, 1, 1), 40, 41)
    pairs = behind(down, ChromaShape(Filter.REPETITION, 1, 2, 0, 1), 120, 110)
    return {
        "colour-jpeg-planes": (pairs, 0, {"jpeg": "auto"}),
        "colour-420": (made(MATRICES[0], ChromaShape(Filter.TRIANGLE, 2, 2, 1, 0), 61, 54), 0, {}),
        "colour-422-floor": (made(down, ChromaShape(Filter.REPETITION, 1, 2, 0, 1), 50, 47), 0, {}),
        "colour-444": (made(MATRICES[0], ChromaShape(), 48, 50), 0, {}),
        "colour-bt601-video": (made(MATRICES[4], ChromaShape(Filter.TRIANGLE, 1, 2), 40, 44), 0, {}),
        "colour-photoycc": (made(photo, ChromaShape(Filter.MEAN, 2, 2), 52, 50), 0, {}),
        "colour-grey": (np.repeat(ramp(40, 36)[..., :1], 3, -1), 0, {}),
        "colour-420-tau1": (made(MATRICES[0], ChromaShape(Filter.TRIANGLE, 2, 2), 56, 58), 1, {}),
        "colour-chw": (np.ascontiguousarray(np.moveaxis(chw, -1, 0)[None]), 0, {}),
        "colour-420-bank-32": (made(MATRICES[0], ChromaShape(Filter.TRIANGLE, 2, 2, 0, 1), 58, 52), 0, {}),
        "colour-444-bank-32": (made(MATRICES[0], ChromaShape(), 46, 44), 0, {"bank_entry": 31}),
    }


def golden_cases() -> dict[str, Case]:
    """Input, tau and options by name."""
    tissue, edge = slide(900, 1200, 72, 68), slide(60, 300, 64, 64)
    noise = np.random.default_rng(1).integers(0, 256, (16, 17, 3), np.uint8)
    cases: dict[str, Case] = {
        "rgb-tau0": (tissue, 0, {}),
        "rgb-tau1": (tissue[:64, :64], 1, {}),
        "rgb-tau2-bank-32": (tissue[:48, :56], 2, {"bank_entry": 30}),
        "rgb-tau5": (tissue[4:, 8:], 5, {"coefficient_bits": 10}),
        "rgb-tau15-odd": (tissue[:47, :59], 15, {}),
        "anchor-lossy-tau2": (tissue[:52, :70], 2, {"anchor": "lossy"}),
        "patches-lanes": (slide(1400, 1800, 75, 66), 0, {"patch": 32, "lanes": 4}),
        "patches-lanes-tau3": (slide(1400, 1800, 66, 40), 3, {"patch": 32, "lanes": 32, "anchor": "lossy"}),
        "no-lossy-layer": (tissue[:40, :40], 0, {"lossy_layer": False}),
        "no-linear-stage": (edge[:33, :40], 0, {"linear_stage": False, "bank_entry": 0, "search": False}),
        "background": (edge, 0, {}),
        "grey-chw": (np.ascontiguousarray(tissue[None, :50, :45, 1]), 0, {}),
        "grey-hw-tau1": (np.ascontiguousarray(tissue[:36, :36, 0]), 1, {"anchor": "lossy"}),
        "chw-leading": (np.ascontiguousarray(np.moveaxis(ramp(41, 34), -1, 0)[None]), 0, {}),
        "column-tau2": (np.ascontiguousarray(tissue[:, :1]), 2, {"min_lossy_side": 1}),
        "row-tau1": (np.ascontiguousarray(tissue[:1]), 1, {}),
        "tiny": (np.array([[[1, 2, 3]], [[9, 8, 7]]], np.uint8), 0, {}),
        "constant": (np.full((32, 48, 3), (243, 240, 246), np.uint8), 0, {}),
        "constant-within-tau": (np.clip(noise // 64 + 240, 0, 255).astype(np.uint8), 2, {}),
        "stored": (noise, 0, {}),
        **jpeg_cases(),
        **colour_cases(),
        **j2k_cases(),
    }
    # The slide is a JPEG inside, which an encoder finds; here its pixels are to be coded.
    return {name: (image, tau, {"jpeg": "given", **options}) for name, (image, tau, options) in cases.items()}


def forward(plane: Image, table: Table) -> Coefficients:
    """Quantised coefficients of a plane of whole blocks, in integers that are the same everywhere."""
    k, x = np.mgrid[:8, :8]
    scale = np.where(k == 0, np.sqrt(1 / 8), 1 / 2)
    basis = np.rint(4096 * scale * np.cos((2 * x + 1) * k * np.pi / 16)).astype(np.int64)
    rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
    blocks = plane.astype(np.int64).reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3) - 128
    d = (np.einsum("ku,abuv,lv->abkl", basis, blocks, basis) + (1 << 23)) >> 24
    return (np.sign(d) * ((np.abs(d) + table // 2) // table)).astype(np.int16)


def jpeg_image(
    rgb: Image,
    sampling: tuple[int, int],
    phase: tuple[int, int],
    tables: tuple[int, int],
    ycc: bool = True,
    box: bool = False,
    crop: bool = True,
) -> JpegImage:
    """Some JPEG image of a region, with tables of these codes; grey if it has two axes."""
    (v, h), (y0, x0) = sampling, phase
    height, width = rgb.shape[:2]
    pad = ((y0, -(y0 + height) % (8 * v)), (x0, -(x0 + width) % (8 * h)))
    wide = np.pad(rgb, (*pad, (0, 0))[: rgb.ndim], "edge").astype(np.int64)
    planes = [wide] if rgb.ndim == 2 else [wide[..., c] for c in range(3)]
    if ycc:
        r, g, b = planes
        y = (77 * r + 150 * g + 29 * b + 128) >> 8
        planes = [y, 128 + ((144 * (b - y) + 128) >> 8), 128 + ((183 * (r - y) + 128) >> 8)]
    steps = tuple(standard_table(tables[min(c, 1)]) for c in range(len(planes)))
    blocks = [forward(p if c == 0 else p[::v, ::h], steps[c]) for c, p in enumerate(planes)]
    transform = ColourTransform.YCBCR if ycc else ColourTransform.NONE
    up = Upsampling.BOX if box else Upsampling.FANCY
    return JpegImage(height, width, phase, transform, sampling, up, crop, steps, tuple(blocks))


def jpeg_cases() -> dict[str, Case]:
    """Pixels of JPEG images, and some that are not quite."""
    tissue = slide(900, 1200, 56, 50)
    rgb = jpeg_image(tissue, (1, 1), (0, 0), (30, 30), ycc=False)
    odd = jpeg_image(tissue[:37, :45], (2, 2), (5, 11), (80, 180), crop=False)
    grey = jpeg_image(tissue[:40, :41, 1], (1, 1), (7, 2), (60, 60), ycc=False)
    steps = (standard_table(50) // 2 + np.arange(64).reshape(8, 8) % 5).astype(np.uint16)
    blocks = tuple(c[:5, :5] for c in rgb.coefficients)
    tables = (steps, steps, standard_table(120))
    own = replace(rgb, tables=tables, height=33, width=30, phase=(6, 3), coefficients=blocks)
    spoilt = synthesise(rgb).copy()
    spoilt[10:14, 20:33] ^= 5
    spoilt[-1] ^= 1
    images = {
        "jpeg-rgb": rgb,
        "jpeg-444": jpeg_image(tissue[:40, :48], (1, 1), (0, 0), (75, 175)),
        "jpeg-422": jpeg_image(tissue[:35, :50], (1, 2), (0, 0), (90, 190)),
        "jpeg-440-phase": jpeg_image(tissue[:50, :33], (2, 1), (9, 4), (85, 185)),
        "jpeg-420": jpeg_image(tissue[:45, :51], (2, 2), (0, 0), (50, 150)),
        "jpeg-420-phase": odd,
        "jpeg-420-box": jpeg_image(tissue[:33, :40], (2, 2), (0, 8), (70, 170), box=True),
        "jpeg-own-table": own,
    }
    out: dict[str, Case] = {name: (synthesise(image), 0, {"source_jpeg": image}) for name, image in images.items()}
    out["jpeg-grey-hw"] = (synthesise(grey)[..., 0], 0, {"source_jpeg": grey})
    chw = np.ascontiguousarray(np.moveaxis(synthesise(odd), -1, 0)[None])
    out["jpeg-chw-leading"] = (chw, 0, {"source_jpeg": odd})
    for tau in (0, 2):
        out[f"jpeg-residual-tau{tau}"] = (spoilt, tau, {"source_jpeg": rgb})
    return out


def j2k_cases() -> dict[str, Case]:
    """Pixels of JPEG 2000 images, and some that are not quite."""

    def made(name: str, colour: Colour = Colour.NONE) -> tuple[Image, SourceJ2k]:
        source = SourceJ2k((CODESTREAMS / f"{name}.j2k").read_bytes(), colour)
        return synthesise_j2k(parse_j2k(*source)), source

    names = {
        "j2k-97": "layers-9-7",
        "j2k-53": "off-grid-5-3",
        "j2k-causal": "causal",
        "j2k-rgb": "no-transform",
        "j2k-tiles": "tiles-off-grid",
        "j2k-subsampled": "half-rows-columns",
    }
    out: dict[str, Case] = {}
    for name, file in names.items():
        pixels, source = made(file)
        out[name] = (pixels, 0, {"source": source})
    grey, source = made("grey")
    out["j2k-grey-hw"] = (grey[..., 0], 0, {"source": source})
    ycc, source = made("no-transform", Colour.YCBCR)
    out["j2k-ycc-chw"] = (np.ascontiguousarray(np.moveaxis(ycc, -1, 0)), 0, {"source": source})
    pixels, source = made("small-blocks")
    pixels[10:14, 20:33] ^= 5
    pixels[-1] ^= 1
    for tau in (0, 2):
        out[f"j2k-residual-tau{tau}"] = (pixels, tau, {"source": source})
    for name, window in windows().items():
        pixels, tau = synthesise_j2k(window.image), int(name.endswith("tau1"))
        pixels[3::11, 5::7] ^= 1 + 2 * tau
        out[name] = (pixels, tau, {"source": window.image})
    return out


def save_source(path: Path, image: JpegImage) -> None:
    """Write a JPEG image."""
    choices = (image.transform, *image.sampling, image.upsampling, image.crop_edges)
    fields = (image.height, image.width, *image.phase, *choices)
    arrays = {f"table{c}": t for c, t in enumerate(image.tables)}
    arrays |= {f"coefficients{c}": q for c, q in enumerate(image.coefficients)}
    np.savez_compressed(path, fields=np.array(fields, np.int64), **arrays)


def load_source(folder: Path, case: dict[str, Any]) -> JpegImage | SourceJ2k | J2kImage | None:
    """Read what a golden was decoded from."""
    codestream, path = folder / "source.j2k", folder / "source.npz"
    if codestream.exists():
        source = SourceJ2k(codestream.read_bytes(), Colour(case["colour"]))
        top, left, height, width = case.get("window", (0, 0, 0, 0))
        if not height:
            return source
        return Window(source, (top, left, height, width), case["points"], case.get("whole", False)).image
    if not path.exists():
        return None
    with np.load(path) as file:
        h, w, y, x, transform, sv, sh, up, crop = (int(v) for v in file["fields"])
        n = len(file.files) // 2
        tables = tuple(file[f"table{c}"] for c in range(n))
        coefficients = tuple(file[f"coefficients{c}"] for c in range(n))
    return JpegImage(
        h, w, (y, x), ColourTransform(transform), (sv, sh), Upsampling(up), bool(crop), tables, coefficients
    )


def size_cases() -> dict[str, Case]:
    """Further chunks of which only the size is kept."""
    out: dict[str, Case] = {}
    places = {"tissue": (900, 1200), "edge": (60, 300), "background": (1900, 40), "dense": (1400, 1800)}
    for name, (x, y) in places.items():
        tile = slide(x, y, 256, 256)
        for tau in (0, 1, 3):
            out[f"slide-{name}-256-tau{tau}"] = (tile, tau, {"jpeg": "given"})
        for tau in (0, 3):
            out[f"slide-{name}-256-tau{tau}-searched"] = (tile, tau, {})
    tissue = slide(900, 1200, 256, 256)
    out["slide-tissue-256-patches64"] = (tissue, 0, {"patch": 64, "lanes": 8, "jpeg": "given"})
    out["slide-tissue-256-anchor-lossy-tau3"] = (tissue, 3, {"anchor": "lossy", "jpeg": "given"})
    out["ramp-200x150"] = (ramp(200, 150), 0, {})
    out["constant-256"] = (np.full((256, 256, 3), 240, np.uint8), 0, {})
    out["noise-64"] = (np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8), 0, {})
    return out


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def write_golden(name: str, case: Case) -> bool:
    """Write one golden; False if it is there."""
    folder = GOLDEN / name
    if folder.exists():
        return False
    image, tau, options = case
    data = dlpr.encode(image, tau, threads=1, **options)
    decoded, info = dlpr.decode(data, threads=1), dlpr.inspect(data)
    if int(np.abs(decoded.astype(int) - image.astype(int)).max()) > tau:
        raise SystemExit(f"{name}: the decoded samples are off by more than tau; nothing written")
    npy = io.BytesIO()
    np.save(npy, image)
    record = {
        "tau": tau,
        "options": {key: value for key, value in options.items() if key not in ("source_jpeg", "source")},
        "weights_id": info.weights_id,
        "mode": info.mode,
        "shape": list(decoded.shape),
        "stream_sha256": sha256(data),
        "decoded_sha256": sha256(decoded.tobytes()),
    }
    window = windows().get(name)
    source = window.source if window else options.get("source")
    if source:
        record["colour"] = int(source.colour)
    if window:
        record |= {"window": window.place, "points": window.points} | ({"whole": True} if window.whole else {})
    folder.mkdir(parents=True)
    (folder / "input.npy").write_bytes(npy.getvalue())
    if "source_jpeg" in options:
        save_source(folder / "source.npz", options["source_jpeg"])
    if source:
        (folder / "source.j2k").write_bytes(source.data)
    (folder / "stream.dlpr").write_bytes(data)
    (folder / "case.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return True


def seal(data: bytes) -> bytes:
    """Make the checksum of a stream's bytes right."""
    out = bytearray(data)
    struct.pack_into("<I", out, 20, crc32c(bytes(out[24:]), crc32c(bytes(out[:20]), 0)))
    return bytes(out)


def seal_all(data: bytes) -> bytes:
    """Make both checksums of the bytes of a stream of mode coded, jpeg or j2k right."""
    out = bytearray(data)
    start = {Mode.JPEG: 34, Mode.J2K: 33}.get(Mode(out[5]), 52)
    (a,) = struct.unpack_from("<I", out, start - (12 if out[5] == Mode.CODED else 8))
    a += 8 if out[5] == Mode.JPEG and out[24] & 32 else 0  # the prior's name
    crc = crc32c(bytes(out[start : start + a]), crc32c(bytes(out[24 : start - 4]), crc32c(bytes(out[:16]), 0)))
    struct.pack_into("<I", out, start - 4, crc)
    return seal(bytes(out))


def change(data: bytes, at: int, value: int) -> bytes:
    """Set one byte."""
    return data[:at] + bytes([value]) + data[at + 1 :]


def error_cases() -> dict[str, bytes]:
    """Bad streams by name."""
    good = dlpr.encode(slide(900, 1200, 33, 33), 1, threads=1, patch=32)
    plain = dlpr.encode(np.full((8, 8, 3), 9, np.uint8))
    info = dlpr.inspect(good)
    linear = info.lossy_prefix
    lanes = linear + info.bytes_by_part["linear"]
    image, _, source = jpeg_cases()["jpeg-residual-tau0"]
    jpeg = dlpr.encode(image, 0, threads=1, **source)
    residual = dlpr.inspect(jpeg).lossy_prefix
    image, _, source = j2k_cases()["j2k-residual-tau0"]
    j2k = dlpr.encode(image, 0, threads=1, **source)
    rest = dlpr.inspect(j2k).lossy_prefix
    image, _, source = j2k_cases()["j2k-window-points"]
    window = dlpr.encode(image, 0, threads=1, **source)
    return {
        "empty": b"",
        "truncated-header": good[:23],
        "truncated-payload": good[:-1],
        "truncated-payload-sealed": seal(good[:-1]),
        "flipped-header": change(good, 9, good[9] ^ 1),
        "flipped-lossy": change(good, 60, good[60] ^ 16),
        "flipped-lane": change(good, len(good) - 5, good[-5] ^ 1),
        "wrong-magic": change(good, 0, 0x45),
        "wrong-version": seal(change(good, 4, 4)),
        "draft-version": seal(change(good, 4, 1)),
        "draft-version-2": seal(change(good, 4, 2)),
        "unknown-mode": seal(change(good, 5, 6)),
        "reserved-layout-bit": seal(change(good, 7, 0x40)),
        "three-channels-hw": seal(change(good, 7, 2)),
        "no-rows": seal(good[:8] + bytes(4) + good[12:]),
        "huge": seal(good[:8] + b"\xff" * 8 + good[16:]),
        "reserved-flag": seal_all(change(good, 32, good[32] | 4)),
        "patch-exponent-4": seal_all(change(good, 33, 4)),
        "lane-exponent-6": seal_all(change(good, 34, 6)),
        "bank-entry-255": seal_all(change(good, 35, 255)),
        "interval-0": seal_all(change(good, 36, 0)),
        "unknown-weights": seal_all(good[:24] + bytes(range(8)) + good[32:]),
        "lossy-checksum": seal(change(good, 48, good[48] ^ 1)),
        "linear-frac-13": seal(change(good, linear, 13)),
        "short-lane": seal(change(good, lanes, 3)),
        "bad-lane-state": seal(good[:-4] + bytes(4)),
        "wrong-pixels": seal(change(good, 16, good[16] ^ 1)),
        "trailing-byte": seal(plain + b"\0"),
        "jpeg-kind-reserved": seal_all(change(jpeg, 24, 0x40)),
        "jpeg-unknown-prior": seal_all(change(jpeg, 24, 0x20)),
        "jpeg-subsampled-rgb": seal_all(change(jpeg, 24, 6)),
        "jpeg-box-without-subsampling": seal_all(change(jpeg, 24, 9)),
        "jpeg-phase-beyond-mcu": seal_all(change(jpeg, 25, 0x80)),
        "jpeg-lossy-checksum": seal(change(jpeg, 40, jpeg[40] ^ 1)),
        "jpeg-lossy-too-long": seal(change(jpeg, 29, 1)),
        "jpeg-table-202": seal_all(change(jpeg, 34, 202)),
        "jpeg-table-again-first": seal_all(change(jpeg, 34, 0)),
        "jpeg-lane-cut": seal_all(jpeg[:26] + struct.pack("<I", 400) + jpeg[30:434]),
        "jpeg-other-coefficients": seal_all(change(jpeg, residual - 9, jpeg[residual - 9] ^ 64)),
        "jpeg-residual-cut": seal(jpeg[: residual + 20]),
        "jpeg-trailing-byte": seal(jpeg + b"\0"),
        "jpeg-without-residual": seal(jpeg[:residual]),
        "j2k-kind-reserved": seal_all(change(j2k, 24, j2k[24] | 16)),
        "j2k-lossy-checksum": seal(change(j2k, 50, j2k[50] ^ 1)),
        "j2k-lossy-too-long": seal(change(j2k, 28, 1)),
        "j2k-component-reserved": seal_all(change(j2k, 33, j2k[33] | 128)),
        "j2k-levels-33": seal_all(change(j2k, 34, 33)),
        "j2k-first-sampling-2": seal_all(change(j2k, 33, j2k[33] | 1)),
        "j2k-window-whole": seal_all(change(window, 24, window[24] | 8)),
        "j2k-window-beside": seal_all(change(window, 42, 200)),
        "j2k-window-far": seal_all(window[:33] + struct.pack("<6H", 0, 0, 1200, 900, 1100, 800) + window[45:]),
        "j2k-window-whole-5-3": seal_all(change(change(window, 56, 130), 53, window[53] | 16)),
        "j2k-window-points-0": seal_all(change(window, 56, 0)),
        "j2k-window-points-9": seal_all(change(window, 56, 9)),
        "j2k-lane-cut": seal_all(j2k[:25] + struct.pack("<I", 400) + j2k[29:433]),
        "j2k-other-coefficients": seal_all(change(j2k, rest - 9, j2k[rest - 9] ^ 64)),
        "j2k-residual-cut": seal(j2k[: rest + 9]),
        "j2k-without-residual": seal(j2k[:rest]),
    }


def write_errors() -> None:
    """Write the bad streams and what they are refused for."""
    shutil.rmtree(ERRORS, ignore_errors=True)
    ERRORS.mkdir(parents=True)
    table = {}
    for name, data in error_cases().items():
        (ERRORS / f"{name}.dlpr").write_bytes(data)
        try:
            dlpr.decode(data)
        except DlprError as error:
            table[name] = {"error": type(error).__name__, "reason": error.reason, "offset": error.offset}
        else:
            raise SystemExit(f"{name} decodes: it is no golden error")
    (ERRORS / "reasons.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")


def measured_sizes() -> dict[str, int]:
    """Bytes of every case under the default weights, by name."""
    cases = {**golden_cases(), **size_cases()}
    return {name: len(dlpr.encode(image, tau, threads=1, **o)) for name, (image, tau, o) in sorted(cases.items())}


def write_sizes() -> None:
    """Write the regression sizes."""
    SIZES.parent.mkdir(exist_ok=True)
    with SIZES.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["case", "bytes"])
        out.writerows(measured_sizes().items())


def format_is_draft(changelog: str) -> bool:
    """Whether the changelog still calls version 3 of the format a draft."""
    return re.search(r"^### Format\n(?:(?!^#).*\n)*?- Version 3 is a draft", changelog, re.MULTILINE) is not None


def main(argv: list[str] | None = None) -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--sizes", action="store_true", help="write the regression sizes anew, nothing else")
    group.add_argument("--replace-draft", action="store_true", help="make everything anew")
    args = parser.parse_args(argv)
    if args.replace_draft:
        if not format_is_draft((ROOT / "CHANGELOG.md").read_text("utf-8")):
            print("make_goldens: version 3 of the format is published; its goldens stay as they are", file=sys.stderr)
            return 2
        shutil.rmtree(GOLDEN, ignore_errors=True)
    if not args.sizes:
        written = [name for name, case in golden_cases().items() if write_golden(name, case)]
        print(f"{len(written)} goldens written, weights {weights.default_id().hex()}: {', '.join(written) or 'none'}")
        if args.replace_draft or not (ERRORS / "reasons.json").exists():
            write_errors()
            print("golden errors written")
    if args.sizes or args.replace_draft or not SIZES.exists():
        write_sizes()
        print("regression sizes written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
