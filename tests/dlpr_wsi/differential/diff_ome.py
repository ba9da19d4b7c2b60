"""OME-TIFF, written by tifffile and judged by the arrays it was made from; JPEG by what Pillow decodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from diff_common import Truth, Verdict, level_sizes, on_white, picture, shrunk
from diff_tiff import DECLARED
from hypothesis import strategies as st

from dlpr_wsi.sources import Selection

MICROMETRES = {"": 1.0, "µm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "pixel": None}
ASIDE = ("label", "macro", "thumbnail", "overview")  # names of images that are not the slide
COLOURS = {"rgb": (-16776961, 16711935, 65535), "odd": (16711935, -16776961, 65535)}  # as OME writes RGBA


@dataclass(frozen=True)
class OmeCase:
    """An OME-TIFF; ``axes`` with ``sizes`` of those that are not Y, X."""

    axes: str = "YXS"
    sizes: tuple[int, ...] = (3,)
    width: int = 100
    height: int = 80
    seed: int = 0
    deep: bool = False
    compression: str = "none"
    tile: int = 64  # 0: strips
    lower_tile: int = 64
    steps: tuple[float, ...] = ()
    predictor: bool = False
    pixel: float | None = 0.25
    unit: str = "µm"
    names: str = ""  # of channels: rgb, stains, odd (colours that are none of red, green, blue in order)
    aside: str = ""  # another image's name, before the slide
    after: str = ""  # another image's name, after it
    words: str = ""
    plane: int | None = None
    time: int | None = None
    image: int | None = None
    big: bool = False
    byteorder: str = "<"

    @property
    def selection(self):
        return Selection(image=self.image, plane=self.plane, time=self.time)

    def _size(self, axis):
        return dict(zip([a for a in self.axes if a not in "YX"], self.sizes, strict=True)).get(axis, 1)

    def _own(self):
        """Return the slide's number among the images."""
        return 1 if self.aside else 0

    @property
    def verdict(self):
        others = [name for name in (self.aside, self.after) if name]
        if self.image is not None and self.image > len(others):
            return Verdict.REFUSE
        if self.image is not None and self.image != self._own():
            return Verdict.CONVERT  # the other image, of 8 bits whatever the slide has
        if self.deep:
            return Verdict.REFUSE
        for axis, chosen in (("Z", self.plane), ("T", self.time)):
            if self._size(axis) > 1 and chosen is None:
                return Verdict.REFUSE
            if chosen is not None and chosen >= self._size(axis):
                return Verdict.REFUSE
        if others and self.image is None and any(name not in ASIDE for name in others):
            return Verdict.EITHER
        if self._size("S") == 4 or self.image is not None or self._size("S") * self._size("C") > 4:
            return Verdict.EITHER
        return Verdict.CONVERT

    def _levels(self):
        """Arrays in the order of the axes, every level."""
        planes = int(np.prod(self.sizes)) if self.sizes else 1
        first = picture(self.seed, self.height, self.width, planes, np.uint16 if self.deep else np.uint8)
        levels = []
        for size in [(self.width, self.height), *level_sizes(self.width, self.height, self.steps)]:
            stack = shrunk(first, *size)
            others = [self._size(a) for a in self.axes if a not in "YX"]
            stack = stack.reshape(size[1], size[0], *others)
            order = ["Y", "X", *(a for a in self.axes if a not in "YX")]
            levels.append(np.ascontiguousarray(stack.transpose([order.index(a) for a in self.axes])))
        return levels

    def write(self, folder: Path) -> Path:
        path = folder / "case.ome.tif"
        rgb = "S" in self.axes
        options = {"photometric": "rgb" if rgb else "minisblack", "predictor": self.predictor}
        options["compression"] = DECLARED.get(self.compression, self.compression)
        if self.compression == "jpeg":
            options["compressionargs"] = {"level": 80}
        if self.compression == "j2k":
            options["compressionargs"] = {"level": 0}
        if self.compression == "webp":
            options["compressionargs"] = {"lossless": True}
        if rgb and self.axes.index("S") < self.axes.index("Y"):
            options["planarconfig"] = "separate"
        with tifffile.TiffWriter(path, ome=True, bigtiff=self.big, byteorder=self.byteorder) as writer:
            if self.aside:
                self._other(writer, self.aside)
            levels = self._levels()
            for index, level in enumerate(levels):
                side = self.lower_tile if index else self.tile
                own = {"tile": (side, side)} if side else {"rowsperstrip": 32}
                if index == 0:
                    own |= {"metadata": self._metadata(), "subifds": len(levels) - 1}
                else:
                    own |= {"subfiletype": 1, "metadata": None}
                writer.write(level, **options, **own)
            if self.after:
                self._other(writer, self.after)
        return path

    def _metadata(self):
        found = {"axes": self.axes, "Name": f"slide {self.words}".strip()}
        if self.pixel is not None:
            found |= {"PhysicalSizeX": self.pixel, "PhysicalSizeY": self.pixel}
            if self.unit:
                found |= {"PhysicalSizeXUnit": self.unit, "PhysicalSizeYUnit": self.unit}
        count = self._size("C")
        if self.names and "C" in self.axes and count > 1:
            words = {"rgb": ("red", "green", "blue"), "stains": ("DAPI", "FITC", "Cy5"), "odd": ("a", "b", "c")}
            channel = {"Name": [(words[self.names] * 3)[k] for k in range(count)]}
            if self.names in COLOURS:
                channel["Color"] = [(COLOURS[self.names] * 3)[k] for k in range(count)]
            found["Channel"] = channel
        return found

    @staticmethod
    def _other(writer, name):
        other = picture(7, 30, 40)
        writer.write(other, photometric="rgb", tile=(32, 32), metadata={"axes": "YXS", "Name": name})

    def truths(self, path: Path) -> list[Truth]:
        factor = MICROMETRES[self.unit]
        mpp = None if self.pixel is None or factor is None else (self.pixel * factor,) * 2
        if self.image is not None and self.image != self._own():
            return [Truth("the other image", (picture(7, 30, 40),), None)]
        levels = []
        for level in self._levels():
            cut = {"Z": self.plane or 0, "T": self.time or 0}
            index = tuple(cut.get(axis, slice(None)) for axis in self.axes)
            left = [axis for axis in self.axes if axis not in cut]
            shown = level[index]
            if "S" in left and "C" in left:
                shown = np.take(shown, 0, left.index("C"))
                left.remove("C")
            last = next((a for a in left if a in "SC"), None)
            shown = shown[..., None] if last is None else np.moveaxis(shown, left.index(last), -1)
            if last == "S" and shown.shape[-1] == 4:
                shown = on_white(shown)  # tifffile declares the fourth sample as unassociated alpha
            levels.append(shown)
        if self.compression == "jpeg":
            levels = self._decoded(path)
        return [Truth("the arrays", tuple(levels), mpp, int(self._size("S") == 4))]

    def _decoded(self, path):
        """What tifffile decodes of lossy data: the pages of a level's size."""
        with tifffile.TiffFile(path) as tiff:
            top = tiff.pages[1 if self.aside else 0]
            return [page.aspage().asarray() for page in (top, *(top.pages or ()))]


AXES = (
    ("YXS", (3,)),
    ("YXS", (3,)),
    ("YXS", (3,)),
    ("YXS", (4,)),
    ("SYX", (3,)),
    ("YX", ()),
    ("CYX", (2,)),
    ("CYX", (3,)),
    ("CYX", (3,)),
    ("CYX", (4,)),
    ("CYX", (5,)),
    ("ZYX", (3,)),
    ("TYX", (2,)),
    ("TCYX", (1, 3)),
    ("TCZYX", (1, 3, 1)),
    ("TCZYX", (1, 2, 3)),
    ("CZYX", (2, 2)),
    ("ZCYX", (2, 3)),
    ("TZCYX", (2, 2, 1)),
    ("ZYXS", (2, 3)),
    ("TZYXS", (1, 1, 3)),
)


@st.composite
def ome_cases(draw):
    """Draw an OME-TIFF."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    axes, sizes = pick(*AXES)
    planes = "Z" in axes and dict(zip([a for a in axes if a not in "YX"], sizes, strict=True))["Z"]
    times = "T" in axes and dict(zip([a for a in axes if a not in "YX"], sizes, strict=True))["T"]
    rgb = axes.endswith("YXS")
    special = ["jpeg", "j2k", "webp"] if axes == "YXS" and sizes == (3,) else ["zstd"]
    compression = pick("none", "deflate", "lzw", *special)
    layout = pick("tile", "tile", "tile", "strips")
    pixel, unit = pick(
        (0.25, "µm"), (0.5, ""), (250.0, "nm"), (2.5e-4, "mm"), (2.5e-5, "cm"), (1.0, "pixel"), (None, "")
    )
    other = pick(*[""] * 6, "label", "macro", "second slide") if axes in ("YXS", "CYX") else ""
    before = pick(True, False)
    if compression == "jpeg":
        layout = "tile"
    return OmeCase(
        axes=axes,
        sizes=sizes,
        width=draw(st.integers(48, 200)),
        height=draw(st.integers(48, 200)),
        seed=draw(st.integers(0, 99)),
        deep=compression in ("none", "deflate") and pick(*[False] * 9, True),
        compression=compression,
        tile=pick(64, 32, 48) if layout == "tile" else 0,
        lower_tile=64 if compression == "jpeg" else pick(64, 32, 0),
        steps=pick((), (2,), (2, 4), (3.3,), (2.1, 5.7)) if axes != "SYX" else (),
        predictor=compression in ("lzw", "deflate") and rgb and pick(False, True),
        pixel=pixel,
        unit=unit,
        names=pick("", "", "rgb", "stains", "odd"),
        aside=other if before else "",
        after="" if before else other,
        words=pick("", "", "Hamamatsu NanoZoomer", "Aperio", "label printed in Leica red"),
        plane=pick(None, 0, int(planes) - 1, int(planes)) if planes else None,
        time=pick(None, 0, int(times) - 1) if times else None,
        image=pick(None, None, 0, 1, 2) if other else None,
        big=pick(False, True),
        byteorder=pick("<", "<", ">"),
    )
