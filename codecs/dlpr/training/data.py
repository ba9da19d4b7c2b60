"""Training pixels: blocks of real images by source, and the same blocks as other scanners might have given them.

A *source* is one sub-folder of the training folder. Sizes differ a thousandfold between sources, so crops are drawn by
source, never by pixel. Blocks start on the 8-pixel grid, where the JPEG grid of most slides lies.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from dlpr import _native
from dlpr.layout import CODING_ORDER
from dlpr.modes.networks.export import linear_prior
from dlpr.quantise import quantise

U8 = npt.NDArray[np.uint8]
SIMULATIONS = ("clean", "jpeg444", "jpeg420", "nearest", "rgbjpeg", "background")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True)
class Block:
    """One block in coding order with its linear stage: x uint8 [h,w,3], pred int16 [h,w,3] in 1/16 level."""

    x: U8
    pred: npt.NDArray[np.int16]
    base: U8
    tau: int = 0
    true: U8 | None = None
    """For tau >= 1: the samples before quantisation (x holds the reconstruction)."""
    anchor: U8 | None = None
    """For tau >= 1: where each sample's grid stands, [h,w,3]."""
    kind: str = "rgb"
    """What the samples are (`dlpr.training.domain`)."""
    channels: int = 3
    """1: only channel 0 is coded, the others are copies of it."""
    entry: int = -1
    """Of the bank; -1 leaves it to the sampler."""

    @property
    def colours(self) -> bool:
        """Red, green and blue, which may have a lossy layer; planes have none."""
        return self.kind in ("rgb", "pixels")


def quantised_block(block: Block, tau: int, x_tilde: U8 | None = None) -> Block:
    """The block as SQRC sees it: reconstructed around the base colour, or around x~, with its own linear stage."""
    anchor = np.broadcast_to(block.base, block.x.shape) if x_tilde is None else x_tilde
    rec, _ = quantise(block.x, anchor, tau)
    pred, *_ = _native.linear_block(np.ascontiguousarray(rec), block.base, 8)
    if block.channels == 1:
        pred = np.broadcast_to(pred[..., :1], pred.shape)
    return replace(block, x=rec, pred=pred, tau=tau, true=block.x, anchor=anchor)


def list_sources(root: Path) -> dict[str, list[Path]]:
    """Images by source (sub-folder), sorted."""
    out = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if files:
            out[folder.name] = files
    return out


def read_rgb(path: Path) -> U8:
    """An image as uint8 [h,w,3]."""
    with Image.open(path) as im:
        return np.asarray(im.convert("RGB"))


def base_colour(x: U8) -> U8:
    """Per-channel median, the colour that stands in for pixels above a chunk."""
    return np.asarray(np.median(x.reshape(-1, x.shape[-1]), axis=0), dtype=np.uint8)


def make_block(rgb: U8) -> Block:
    """Linear stage of an RGB block."""
    x = np.ascontiguousarray(rgb[..., list(CODING_ORDER)])
    base = base_colour(x)
    pred, *_ = _native.linear_block(x, base, 8)
    return Block(x, pred, base)


def _jpeg(im: Image.Image, quality: int, subsampling: int) -> Image.Image:
    b = io.BytesIO()
    im.save(b, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(b)


def _nearest_chroma_jpeg(rgb: U8, quality: int, fx: int, fy: int) -> U8:
    y, cb, cr = Image.fromarray(rgb).convert("YCbCr").split()
    w, h = y.size

    def chroma(c: Image.Image) -> Image.Image:
        small = c.resize((w // fx, h // fy), Image.Resampling.BOX)
        return _jpeg(small, quality, 0).convert("L").resize((w, h), Image.Resampling.NEAREST)

    return np.asarray(Image.merge("YCbCr", (_jpeg(y, quality, 0).convert("L"), chroma(cb), chroma(cr))).convert("RGB"))


def _rgb_jpeg(rgb: U8, quality: int) -> U8:
    """JPEG of the three channels as they are, without colour transform (some Aperio slides)."""
    return np.stack([np.asarray(_jpeg(Image.fromarray(rgb[..., c]), quality, 0)) for c in range(3)], -1)


def glass(tissue: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Tissue that fades into the bare slide along a random soft border; levels 0..255."""
    h, w, _ = tissue.shape
    colour = rng.uniform(205, 250) + rng.normal(0, 3, 3)
    ramp = np.linspace(-1, 1, h)[:, None] * rng.normal(0, 2) + np.linspace(-1, 1, w)[None] * rng.normal(0, 2)
    coarse = Image.fromarray(rng.normal(0, 1, (5, 5)).astype(np.float32)).resize((w, h), Image.Resampling.BICUBIC)
    field = np.asarray(coarse) - rng.choice([-0.5, 0.5, 1.0, 3.0, 3.0])
    mask = 1 / (1 + np.exp(-field * rng.choice([4, 20, 60])))[..., None]
    faint = colour + ramp[..., None] + (tissue - tissue.mean((0, 1))) * rng.choice([0, 0, 0.01, 0.03, 0.1])
    noise = rng.normal(0, 1, (h, w, 3)) * rng.choice([0, 0.3, 0.6, 1.0, 1.5, 2.0])
    if rng.random() < 0.5:
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))) / 2
    return np.asarray(mask * tissue + (1 - mask) * faint + noise, np.float32)


def scanned(rgb: U8, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """An image as another scanner might see it, in levels: shrunk (which removes its JPEG), colours, blur, noise."""
    s = float(rng.choice([1.5, 2, 2, 3]))
    side = int(min(rgb.shape[:2]) / s) // 16 * 16
    filters = [Image.Resampling.BOX, Image.Resampling.LANCZOS, Image.Resampling.BICUBIC]
    im = Image.fromarray(rgb).resize((side, side), filters[int(rng.integers(3))])
    x = (np.asarray(im).astype(np.float32) / 255) ** rng.uniform(0.7, 1.4)
    x = np.clip(x @ (np.eye(3) + rng.normal(0, 0.06, (3, 3))).T * rng.uniform(0.85, 1.1), 0, 1)
    if rng.random() < 0.4:
        soft = Image.fromarray((x * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.5)))
        x = np.clip(x + rng.uniform(-0.8, 1.2) * (x - np.asarray(soft).astype(np.float32) / 255), 0, 1)
    x = x * 255 + rng.normal(0, 1, x.shape) * rng.choice([0, 0.5, 1, 2, 3.5])
    if rng.random() < 0.2:
        x = (x + np.roll(x, 1, 1)) / 2
    return np.asarray(x, np.float64)


def simulate_scanner(rgb: U8, kind: str, rng: np.random.Generator) -> U8:
    """An image as another scanner might have given it: `scanned`, then a JPEG of some kind."""
    x = scanned(rgb, rng)
    if kind == "background":
        x = np.asarray(glass(x.astype(np.float32), rng), np.float64)
        kind = ["clean", "jpeg444", "jpeg420", "rgbjpeg", "rgbjpeg", "jpeg420"][int(rng.integers(6))]
    out = np.clip(np.rint(x), 0, 255).astype(np.uint8)
    quality = int(rng.choice([30, 35, 50, 70, 75, 80, 85, 90, 95, 98]))
    if kind == "jpeg444":
        out = np.asarray(_jpeg(Image.fromarray(out), quality, 0))
    elif kind == "jpeg420":
        out = np.asarray(_jpeg(Image.fromarray(out), quality, int(rng.choice([1, 2]))))
    elif kind == "rgbjpeg":
        out = _rgb_jpeg(out, quality)
    elif kind == "nearest":
        out = _nearest_chroma_jpeg(out, quality, 2, int(rng.choice([1, 2])))
    return out


def shared_images(train: Path, held_out: Path) -> list[Path]:
    """Images of ``train`` whose file is byte for byte in ``held_out`` too, whatever its name or source."""

    def digest(path: Path) -> bytes:
        return hashlib.sha256(path.read_bytes()).digest()

    held = {digest(p) for files in list_sources(held_out).values() for p in files}
    return [p for files in list_sources(train).values() for p in files if digest(p) in held]


def real_blocks(files: list[Path], count: int, rng: np.random.Generator, size: int = 256) -> list[Block]:
    """About ``count`` blocks of one source, sides multiples of 16 and at least 128."""
    order = [files[i] for i in rng.permutation(len(files))]
    out: list[Block] = []
    per = max(1, -(-count // len(order)))
    for path in order[:count]:
        rgb = read_rgb(path)
        h, w = (min(size, n // 16 * 16) for n in rgb.shape[:2])
        if min(h, w) < 128:
            continue
        for _ in range(per if max(rgb.shape[:2]) > size + 32 else 1):
            y = int(rng.integers(0, (rgb.shape[0] - h) // 8 + 1)) * 8
            x = int(rng.integers(0, (rgb.shape[1] - w) // 8 + 1)) * 8
            out.append(make_block(rgb[y : y + h, x : x + w]))
    return out


def simulated_blocks(
    sources: dict[str, list[Path]], kind: str, count: int, rng: np.random.Generator, size: int = 256
) -> list[Block]:
    """``count`` blocks of simulated scanners, sources in turn."""
    names = list(sources)
    out: list[Block] = []
    while len(out) < count:
        files = sources[names[int(rng.integers(len(names)))]]
        rgb = read_rgb(files[int(rng.integers(len(files)))])
        side = min(*rgb.shape[:2], 640)
        if side < 400:
            continue
        y, x = (int(rng.integers(0, n - side + 1)) for n in rgb.shape[:2])
        sim = simulate_scanner(rgb[y : y + side, x : x + side], kind, rng)
        n = min(size, sim.shape[0] // 16 * 16)
        if n >= 128:
            out.append(make_block(sim[:n, :n]))
    return out


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an .npz so that a kill leaves no half file."""
    tmp = path.with_suffix(".tmp")
    with tmp.open("wb") as f:
        np.savez(f, **arrays)
    tmp.replace(path)


def build_blocks(
    root: Path, cache: Path, per_source: int, per_simulation: int, seed: int, without: str | None = None
) -> dict[str, list[Block]]:
    """Blocks by group: each source under its name, each kind of simulated scanner as ``sim:<kind>``; cached on disk.

    ``without`` leaves a source out, of the simulated scanners too; the other sources give the same blocks as always.
    """
    groups: dict[str, list[Block]] = {}
    sources = list_sources(root)
    kept = {name: files for name, files in sources.items() if name != without}
    cache.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate([*sources, *(f"sim:{k}" for k in SIMULATIONS)]):
        simulated = name.startswith("sim:")
        if name == without:
            continue
        stem = f"{name.replace(':', '_')}-{per_source}-{per_simulation}-{seed}"
        path = cache / (f"{stem}-without-{without}.npz" if simulated and without else f"{stem}.npz")
        if not path.exists():
            rng = np.random.default_rng([seed, i])
            if simulated:
                blocks = simulated_blocks(kept, name[4:], per_simulation, rng)
            else:
                blocks = real_blocks(sources[name], per_source, rng)
            arrays = {f"{k}{j}": getattr(b, k) for j, b in enumerate(blocks) for k in ("x", "pred", "base")}
            save_arrays(path, arrays)
            print(f"blocks {name}: {len(blocks)}", flush=True)
        groups[name] = load_blocks(path)
    return groups


def load_blocks(path: Path) -> list[Block]:
    """Blocks of one file of the cache; those of one channel as views of three equal ones."""
    with np.load(path) as z:
        if "kind" in z.files:
            return [_block(z, j, str(kind)) for j, kind in enumerate(z["kind"])]
        return [Block(z[f"x{j}"], z[f"pred{j}"], z[f"base{j}"]) for j in range(len(z.files) // 3)]


def _block(z: Any, j: int, kind: str) -> Block:
    x, pred = z[f"x{j}"], z[f"pred{j}"]
    full = (*x.shape[:2], 3)
    return Block(
        np.broadcast_to(x, full), np.broadcast_to(pred, full), z[f"base{j}"], kind=kind, channels=int(x.shape[2])
    )


def refit(groups: dict[str, list[Block]], limits: dict[str, int]) -> dict[str, list[Block]]:
    """The same blocks with the linear stage kept within limits: ``max_taps``, ``max_classes``, ``context``."""
    return {
        name: [Block(b.x, _native.linear_block(b.x, b.base, 8, **limits)[0], b.base) for b in blocks]
        for name, blocks in groups.items()
    }


def coefficient_prior(groups: Iterable[list[Block]], **limits: int) -> dict[str, npt.NDArray[Any]]:
    """Prior of the linear stage's coefficients (tensors of the weights file) from every eighth block of three channels.

    Of a single channel two thirds of the coefficients are zero, whatever the image.
    """
    coefficients, counts = [], []
    for blocks in groups:
        for block in [b for b in blocks if b.channels > 1][::8]:
            _, classes, coef, count, _ = _native.linear_block(block.x, block.base, 8, **limits)
            coefficients.append(coef[:classes])
            counts.append(count[:classes])
    return linear_prior(np.concatenate(coefficients), np.concatenate(counts))


def sample_tiles(root: Path, per_source: int, size: int = 256, seed: int = 0) -> dict[str, list[U8]]:
    """``per_source`` tiles [size,size,3] of each source on the 8-pixel grid; smaller images give what they have."""
    rng = np.random.default_rng(seed)
    out: dict[str, list[U8]] = {}
    for name, files in list_sources(root).items():
        order = [files[i] for i in rng.permutation(len(files))]
        tiles: list[U8] = []
        for path in order * (-(-per_source // len(order))):
            rgb = read_rgb(path)
            h, w = (size if n >= size else n // 32 * 32 for n in rgb.shape[:2])
            if min(h, w) < 64:
                continue
            y, x = (int(rng.integers(0, (n - s) // 8 + 1)) * 8 for n, s in zip(rgb.shape[:2], (h, w), strict=True))
            tiles.append(np.ascontiguousarray(rgb[y : y + h, x : x + w]))
            if len(tiles) == per_source:
                break
        out[name] = tiles
    return out
