"""OME-Zarr and plain arrays, written by zarr and judged by the arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numcodecs
import numpy as np
import zarr
from diff_common import Truth, Verdict, level_sizes, picture, shrunk
from hypothesis import strategies as st

from dlpr_wsi.sources import Selection

MICROMETRES = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "centimeter": 1e4, "": None, "pixel": None}
WORDS = {"t": "time", "c": "band", "z": "plane", "y": "row", "x": "column"}
KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


@dataclass(frozen=True)
class ZarrCase:
    """An OME-Zarr image, alone or in bioformats2raw's layout; or a bare array (``layout`` array)."""

    axes: str = "cyx"
    sizes: tuple[int, ...] = (3,)
    width: int = 100
    height: int = 80
    seed: int = 0
    deep: bool = False
    version: str = "0.4"
    layout: str = "image"  # image, bf2raw, bf2raw with label, array
    steps: tuple[float, ...] = ()
    chunk: int = 64
    split: bool = True  # chunks of one channel
    compressor: str = "blosc"  # none, zlib, gzip, zstd, blosc
    sharded: bool = False
    scale: float = 0.25
    outer: float | None = None  # of a transform of the whole multiscale
    unit: str = "micrometer"
    names: str = ""  # of channels: rgb, stains
    naming: str = ""  # of a bare array's axes: not at all, letters, words
    missing: bool = False
    plane: int | None = None
    time: int | None = None
    image: int | None = None

    @property
    def selection(self):
        return Selection(image=self.image, plane=self.plane, time=self.time)

    def _size(self, axis):
        return dict(zip([a for a in self.axes if a not in "yx"], self.sizes, strict=True)).get(axis, 1)

    def _meant(self):
        """Return axes and sizes as the file tells them: by names, or of a bare array without names by its shape."""
        if self.layout != "array" or self.naming:
            return self.axes, self.sizes
        shape = self._levels()[0].shape
        if len(shape) < 3 or any(n != 1 for n in shape[:-3]) or 3 not in (shape[-3], shape[-1]):
            return None
        return ("cyx" if shape[-3] == 3 else "yxc"), (3,)

    @property
    def verdict(self):
        other = self.image is not None and self.image > 0
        if self.image is not None and self.image > (2 if "label" in self.layout else 0):
            return Verdict.REFUSE
        if (self.deep and not other) or self._meant() is None:
            return Verdict.REFUSE
        if self._meant() != (self.axes, self.sizes):
            return Verdict.REFUSE if self.plane or self.time else Verdict.CONVERT
        for axis, chosen in (("z", self.plane), ("t", self.time)):
            if self._size(axis) > 1 and chosen is None:
                return Verdict.REFUSE
            if chosen is not None and chosen >= self._size(axis):
                return Verdict.REFUSE
        ordinary = not other and self.axes in ("cyx", "yx", "zcyx", "tczyx", "tcyx", "czyx")
        ordinary |= self.layout == "array" and self.axes == "yxc"
        return Verdict.CONVERT if ordinary and self.plane is None and self.time is None else Verdict.EITHER

    def _levels(self):
        planes = int(np.prod(self.sizes)) if self.sizes else 1
        first = picture(self.seed, self.height, self.width, planes, np.uint16 if self.deep else np.uint8)
        order = ["y", "x", *(a for a in self.axes if a not in "yx")]
        levels = []
        for size in [(self.width, self.height), *level_sizes(self.width, self.height, self.steps)]:
            stack = shrunk(first, *size).reshape(size[1], size[0], *self.sizes)
            levels.append(np.ascontiguousarray(stack.transpose([order.index(a) for a in self.axes])))
        if self.missing:
            for level in levels:
                index = tuple(slice(self.chunk) if axis in "yx" else slice(None) for axis in self.axes)
                level[index] = 255
        return levels

    def write(self, folder: Path) -> Path:
        path = folder / "case.zarr"
        form = 2 if self.version == "0.4" else 3
        if self.layout == "array":
            self._array(path, self._levels()[0], form)
            return path
        root = zarr.open_group(str(path), mode="w", zarr_format=form)
        if self.layout == "image":
            self._image(path, root, self._levels(), form)
            return path
        images = [self._levels()]
        if "label" in self.layout:
            images += [[self._other(30)], [self._other(40)]]
        head = {"bioformats2raw.layout": 3}
        root.attrs.update(head if form == 2 else {"ome": head | {"version": "0.5"}})
        for number, levels in enumerate(images):
            self._image(path / str(number), root.create_group(str(number)), levels, form)
        xml = "".join(f'<Image ID="Image:{k}" Name="{n}"/>' for k, n in enumerate(("", "label image", "macro image")))
        (path / "OME").mkdir()
        (path / "OME" / "METADATA.ome.xml").write_text(f"<OME>{xml}</OME>", encoding="utf-8")
        return path

    def _other(self, side):
        shape = [side if a in "yx" else self._size(a) for a in self.axes]
        return np.zeros(shape, np.uint8)

    def _image(self, path, group, levels, form):
        axes = [{"name": a, "type": KINDS[a]} for a in self.axes]
        for axis in axes:
            if axis["type"] == "space" and self.unit:
                axis["unit"] = self.unit
        datasets = []
        for number, level in enumerate(levels):
            factor = levels[0].shape[self.axes.index("x")] / level.shape[self.axes.index("x")]
            scale = [self.scale * factor if a in "yx" else 1.0 for a in self.axes]
            datasets.append({"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
            self._array(path / str(number), level, form)
        image = {"axes": axes, "datasets": datasets, "name": "a slide"}
        if self.outer is not None:
            scale = [self.outer if a in "yx" else 1.0 for a in self.axes]
            image["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
        found = {"multiscales": [image | ({"version": "0.4"} if form == 2 else {})]}
        count = self._size("c")
        if self.names and "c" in self.axes:
            words = {"rgb": ("red", "green", "blue"), "stains": ("DAPI", "FITC", "Cy5")}[self.names]
            shades = {"rgb": ("FF0000", "00FF00", "0000FF"), "stains": ("0000FF", "00FF00", "FF00FF")}[self.names]
            window = {"start": 0, "end": 255, "min": 0, "max": 255}
            found["omero"] = {
                "channels": [
                    {"label": (words * 3)[k], "color": (shades * 3)[k], "active": True, "window": window}
                    for k in range(count)
                ]
            }
        group.attrs.update(found if form == 2 else {"ome": found | {"version": "0.5"}})

    def _array(self, path, level, form):
        chunks = tuple(
            self.chunk if axis in "yx" else (1 if self.split else size)
            for axis, size in zip(self.axes, level.shape, strict=True)
        )
        options = {"fill_value": 255, "chunks": chunks, "shape": level.shape, "dtype": level.dtype}
        if form == 2:
            coder = {
                "none": None,
                "zlib": numcodecs.Zlib(1),
                "gzip": numcodecs.GZip(1),
                "zstd": numcodecs.Zstd(1),
                "blosc": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
            }[self.compressor]
            options |= {"compressors": coder, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
        else:
            from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

            coder = {
                "none": None,
                "zlib": GzipCodec(level=1),
                "gzip": GzipCodec(level=1),
                "zstd": ZstdCodec(level=1),
                "blosc": BloscCodec(cname="lz4", typesize=level.dtype.itemsize),
            }[self.compressor]
            options["compressors"] = coder
            if self.sharded:
                options["shards"] = tuple(2 * c if a in "yx" else c for a, c in zip(self.axes, chunks, strict=True))
        if self.layout == "array" and self.naming:
            names = [axis if self.naming == "letters" else WORDS[axis] for axis in self.axes]
            options |= {"attributes": {"_ARRAY_DIMENSIONS": names}} if form == 2 else {"dimension_names": names}
        zarr.create_array(str(path), zarr_format=form, **options)[...] = level

    def truths(self, path: Path) -> list[Truth]:
        factor = MICROMETRES[self.unit]
        mpp = None if factor is None else (self.scale * (self.outer or 1.0) * factor,) * 2
        if self.layout == "array":
            mpp = None
        if self.image:
            side = 20 + 10 * self.image
            return [Truth("the other image", (np.zeros((side, side, self._size("c")), np.uint8),), mpp)]
        levels = []
        axes, _ = self._meant()
        stored = self._levels()
        if self.layout == "array":
            stored = stored[:1] if self.naming else [stored[0].reshape(stored[0].shape[-3:])]
        for level in stored:
            cut = {"z": self.plane or 0, "t": self.time or 0}
            shown = level[tuple(cut.get(axis, slice(None)) for axis in axes)]
            left = [axis for axis in axes if axis not in cut]
            levels.append(np.moveaxis(shown, left.index("c"), -1) if "c" in left else shown[..., None])
        return [Truth("the arrays", tuple(levels), mpp)]


AXES = (
    ("cyx", (3,)),
    ("cyx", (3,)),
    ("cyx", (1,)),
    ("cyx", (2,)),
    ("cyx", (4,)),
    ("cyx", (5,)),
    ("yx", ()),
    ("zyx", (3,)),
    ("tyx", (3,)),
    ("tczyx", (1, 3, 1)),
    ("tczyx", (1, 3, 1)),
    ("tczyx", (1, 2, 3)),
    ("tczyx", (2, 3, 1)),
    ("tcyx", (1, 3)),
    ("czyx", (3, 2)),
    ("zcyx", (1, 3)),
    ("yxc", (3,)),
    ("tczyx", (1, 1, 1)),
)


@st.composite
def zarr_cases(draw):
    """Draw a Zarr folder."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    axes, sizes = pick(*AXES)
    found = dict(zip([a for a in axes if a not in "yx"], sizes, strict=True))
    layout = pick("image", "image", "image", "bf2raw", "bf2raw with label", "array")
    version = pick("0.4", "0.5")
    chunk = pick(64, 32, 50)
    units = [("micrometer", 0.25), ("micrometer", 1.0), ("nanometer", 250.0), ("millimeter", 2.5e-4)]
    unit, scale = pick(*units, ("centimeter", 2.5e-5), ("", 1.0), ("pixel", 1.0))
    return ZarrCase(
        axes=axes,
        sizes=sizes,
        width=draw(st.integers(48, 200)),
        height=draw(st.integers(48, 200)),
        seed=draw(st.integers(0, 99)),
        deep=pick(*[False] * 14, True),
        version=version,
        layout=layout,
        steps=pick((), (2,), (2, 4), (3.3,)) if layout != "array" else (),
        chunk=chunk,
        split=pick(True, False),
        compressor=pick("none", "zlib", "gzip", "zstd", "blosc"),
        sharded=version == "0.5" and pick(False, False, True),
        scale=scale,
        outer=pick(None, None, 2.0, 0.5),
        unit=unit,
        names=pick("", "", "rgb", "stains"),
        naming=pick("", "letters", "words") if layout == "array" else "",
        missing=pick(False, False, True),
        plane=pick(None, 0, found["z"] - 1, found["z"]) if "z" in found else None,
        time=pick(None, 0, found["t"] - 1) if "t" in found else None,
        image=pick(None, None, 0, 1, 3) if layout.startswith("bf2raw") else None,
    )
