"""What every generated case has: how it is written, what must become of it, and who says which pixels are right."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openslide
import zarr
from PIL import Image

from dlpr_wsi.errors import ConversionError, SourceError, UsageError
from dlpr_wsi.pipeline.convert import ConvertOptions, convert
from dlpr_wsi.pipeline.execute import LocalExecutor
from dlpr_wsi.pipeline.plan import Pyramid, SourceTiles
from dlpr_wsi.pipeline.verify import verify
from dlpr_wsi.sources import Selection

CHUNK = 64
ANY = "any"  # of a resolution that a case says nothing about


class Verdict(StrEnum):
    """What may become of a case."""

    CONVERT = "must convert"
    REFUSE = "must be refused"
    EITHER = "either, but never wrong"


@dataclass(frozen=True)
class Truth:
    """Right pixels by somebody who shares no code with dlpr_wsi.

    ``levels`` are (h, w, samples); a sample may be ``tolerance`` off where two libraries round differently.
    """

    who: str
    levels: tuple[np.ndarray, ...]
    mpp: Any = ANY
    tolerance: int = 0


class Case(Protocol):
    """A file to be, hashable and with a repr that makes it again."""

    @property
    def verdict(self) -> Verdict: ...

    @property
    def selection(self) -> Selection: ...

    def write(self, folder: Path) -> Path: ...

    def truths(self, path: Path) -> list[Truth]: ...


def picture(seed, height, width, samples=3, dtype=np.uint8):
    """Blobs, some grain, and a flat corner: (height, width, samples) over the whole range of the type."""
    rng = np.random.default_rng(seed)
    planes = []
    for _ in range(samples):
        small = rng.integers(0, 256, (height // 24 + 2, width // 24 + 2)).astype(np.uint8)
        planes.append(np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.int16))
    image = np.stack(planes, -1)
    grain = (height // 2, width // 2)
    image[: grain[0], : grain[1]] += rng.integers(-4, 5, (*grain, samples), np.int16)
    image[height * 3 // 4 :, width * 3 // 4 :] = rng.integers(0, 256, samples)
    image = np.clip(image, 0, 255).astype(np.uint8)
    if dtype == np.uint16:
        return image.astype(np.uint16) * 256 + rng.integers(0, 256, image.shape).astype(np.uint16)
    return image.astype(dtype) if dtype == np.uint8 else (image / 255).astype(dtype)


def shrunk(image, width, height):
    """Another size of a picture of any number of samples, nearest pixel."""
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return np.ascontiguousarray(image[rows][:, columns])


def level_sizes(width, height, steps):
    """Sizes of lower levels: ``steps`` are divisors, whole or not."""
    sizes = []
    for step in steps:
        size = (max(1, int(width / step)), max(1, int(height / step)))
        if min(size) >= 4:
            sizes.append(size)
    return sizes


def grey3(image):
    """(h, w) or (h, w, 1) as RGB."""
    return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=-1)


def on_white(rgba):
    """Unassociated alpha on white, by Pillow."""
    image = Image.fromarray(np.ascontiguousarray(rgba), "RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, (255,) * 4), image))[..., :3]


def turned(image, orientation):
    """A picture stored with an Orientation tag (TIFF, EXIF), as it is to be seen."""
    names = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
    way = None if orientation == 1 else Image.Transpose[names[orientation - 2]]
    return image if way is None else np.asarray(Image.fromarray(np.ascontiguousarray(image)).transpose(way))


def openslide_truth(path, who="OpenSlide"):
    """Every level as OpenSlide gives it on its background; None where it does not open the file."""
    try:
        slide = openslide.OpenSlide(path)
    except (openslide.OpenSlideError, openslide.OpenSlideUnsupportedFormatError):
        return None
    with slide:
        colour = bytes.fromhex(slide.properties.get("openslide.background-color", "FFFFFF"))
        levels = []
        for index, size in enumerate(slide.level_dimensions):
            try:
                region = slide.read_region((0, 0), index, size)
            except openslide.OpenSlideError:
                return None
            levels.append(np.asarray(Image.alpha_composite(Image.new("RGBA", size, (*colour, 255)), region))[..., :3])
        names = ("openslide.mpp-x", "openslide.mpp-y")
        mpp = tuple(float(slide.properties[name]) for name in names if name in slide.properties)
        return Truth(who, tuple(levels), mpp if len(mpp) == 2 else None)


def archive_pixels(path):
    """Every level of an archive through zarr, and its mpp from the OME metadata; None where there is no unit."""
    group = zarr.open_group(str(path), mode="r")
    image = group.attrs["ome"]["multiscales"][0]
    levels = tuple(np.asarray(group[d["path"]][:]).transpose(1, 2, 0) for d in image["datasets"])
    units = {axis["name"]: axis.get("unit") for axis in image["axes"]}
    if units["x"] is None:
        return levels, None
    assert units["x"] == units["y"] == "micrometer"
    scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    return levels, (scale[2], scale[1])


def difference(truth, levels, mpp):
    """Say how an archive differs from the truth; empty if it does not."""
    if len(levels) != len(truth.levels):
        return f"{len(levels)} levels, not {len(truth.levels)}"
    for index, (found, right) in enumerate(zip(levels, truth.levels, strict=True)):
        if found.shape != right.shape:
            return f"level {index} has the shape {found.shape}, not {right.shape}"
        worst = int(np.abs(found.astype(int) - right).max())
        if worst > truth.tolerance:
            share = float((np.abs(found.astype(int) - right).max(-1) > truth.tolerance).mean())
            return f"level {index} is off by up to {worst} in {share:.1%} of its px"
    if truth.mpp is ANY:
        return ""
    if (mpp is None) != (truth.mpp is None) or (mpp is not None and not np.allclose(mpp, truth.mpp, rtol=1e-5)):
        return f"mpp {mpp}, not {truth.mpp}"
    return ""


def outcome(case: Case, folder: Path) -> str:
    """Convert a case, compare, verify; return "equal" or "refused", fail for anything else.

    Any exception that is no refusal by name goes on: it is a failure too.
    """
    path, out = case.write(folder), folder / "out.zarr"
    options = ConvertOptions(tile=CHUNK, source_tiles=SourceTiles.AUTO, pyramid=Pyramid.NEVER, selection=case.selection)
    try:
        convert(path, out, options=options, executor=LocalExecutor(1))
    except (SourceError, UsageError, ConversionError) as error:
        assert str(error).strip(), "a refusal without words"
        assert case.verdict is not Verdict.CONVERT, f"refused, though an ordinary kind: {error}"
        return "refused"
    assert case.verdict is not Verdict.REFUSE, "converted, though it cannot be kept whole"
    levels, mpp = archive_pixels(out)
    found = []
    for truth in case.truths(path):
        wrong = difference(truth, levels, mpp)
        if not wrong:
            break
        found.append(f"{truth.who}: {wrong}")
    else:
        raise AssertionError("not what the source shows; " + "; ".join(found))
    report = verify(out, path, executor=LocalExecutor(1))
    assert report.ok, "verify disagrees with a right archive:\n" + "\n".join(map(str, report.bad[:5]))
    return "equal"
