"""TIFF: pages, pyramids, Aperio slides; written by tifffile, judged by OpenSlide, Pillow, or the arrays themselves."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from diff_common import Truth, Verdict, grey3, level_sizes, on_white, openslide_truth, picture, shrunk, turned
from hypothesis import strategies as st
from PIL import Image

from dlpr_wsi.sources import Selection

LOSSLESS = ("none", "lzw", "deflate", "packbits", "zstd", "lzma", "j2k", "webp")
DECLARED = {"none": None, "j2k": 34712}
SAMPLES = {"rgb": 3, "minisblack": 1, "miniswhite": 1, "ycbcr": 3, "palette": 1, "cmyk": 4}
UNITS = {"none": 1, "inch": 2, "cm": 3}


@dataclass(frozen=True)
class TiffCase:
    """A TIFF that names no vendor, or names one in words only."""

    width: int = 100
    height: int = 80
    seed: int = 0
    photometric: str = "rgb"
    bits: str = "8"  # 1, 8, 16, float
    extra: str = ""  # "", unspecified, assocalpha, unassalpha
    compression: str = "none"  # of LOSSLESS, or jpeg
    subsampling: int = 1  # along both axes: 444, 420; 21 is 422
    planar: bool = False
    tile: int = 64  # 0: strips
    rows: int = 32
    predictor: bool = False
    steps: tuple[float, ...] = ()
    lower: str = "reduced"  # reduced, subifds, plain pages
    pages: int = 1
    page: int | None = None
    missing: int | None = None  # a tile of the last level
    orientation: int = 1
    resolution: tuple[float, str] | None = None
    big: bool = False
    byteorder: str = "<"
    description: str = ""

    @property
    def selection(self):
        return Selection(page=self.page)

    @property
    def verdict(self):
        if self.bits in ("16", "float"):
            return Verdict.REFUSE
        if self.pages > 1 and self.page is None:
            return Verdict.REFUSE
        if self.page is not None and self.page >= self.pages:
            return Verdict.REFUSE
        ordinary = (
            self.photometric != "cmyk"
            and (not self.extra or (self.photometric == "rgb" and self.extra != "unspecified"))
            and self.missing is None
            and self.orientation == 1
            and self.pages == 1
            and self.lower != "plain"
        )
        return Verdict.CONVERT if ordinary else Verdict.EITHER

    def _subsampling(self):
        return {1: (1, 1), 2: (2, 2), 21: (2, 1)}[self.subsampling]

    def _arrays(self, page=0):
        """The stored samples of every level, (h, w, samples)."""
        samples = SAMPLES[self.photometric] + bool(self.extra)
        dtype = {"16": np.uint16, "float": np.float32}.get(self.bits, np.uint8)
        first = picture(self.seed + page, self.height, self.width, samples, dtype)
        if self.bits == "1":
            first = (first > 127).astype(np.uint8)
        if self.extra == "assocalpha":
            first[..., :-1] = first[..., :-1] * (first[..., -1:].astype(float) / 255)
        return [first, *(shrunk(first, *size) for size in level_sizes(self.width, self.height, self.steps))]

    def _palette(self):
        return (np.random.default_rng(self.seed).integers(0, 256, (3, 256)) * 257).astype(np.uint16)

    def write(self, folder: Path) -> Path:
        path = folder / "case.tif"
        options = {
            "photometric": "separated" if self.photometric == "cmyk" else self.photometric,
            "compression": DECLARED.get(self.compression, self.compression),
            "metadata": None,
            "software": False,
            "predictor": self.predictor,
        }
        if self.photometric == "palette":
            options["colormap"] = self._palette()
        if self.compression == "jpeg":
            options["compressionargs"] = {"level": 80}
            if self.photometric == "ycbcr":
                options["subsampling"] = self._subsampling()
        elif self.photometric == "ycbcr":
            options["subsampling"] = (1, 1)
        if self.compression == "webp":
            options["compressionargs"] = {"lossless": True}
        if self.compression == "j2k":
            options["compressionargs"] = {"level": 0}
        if self.extra:
            options["extrasamples"] = [self.extra]
        if self.planar:
            options["planarconfig"] = "separate"
        if self.tile:
            options["tile"] = (self.tile, self.tile)
        else:
            options["rowsperstrip"] = self.rows
        if self.orientation != 1:
            options["extratags"] = [(274, 3, 1, self.orientation, True)]
        if self.resolution is not None:
            value, unit = self.resolution
            options |= {"resolution": (value, value), "resolutionunit": UNITS[unit]}
        with tifffile.TiffWriter(path, bigtiff=self.big, byteorder=self.byteorder) as writer:
            for page in range(self.pages):
                for index, level in enumerate(self._arrays(page)):
                    data = level.transpose(2, 0, 1) if self.planar else level
                    data = data[..., 0] if data.shape[-1] == 1 and not self.planar else data
                    own = dict(options)
                    if self.bits == "1":
                        data, own["bitspersample"] = data.astype(bool), 1
                    if index == 0:
                        own["description"] = self.description
                        if self.lower == "subifds" and self.steps:
                            own["subifds"] = len(self._arrays()) - 1
                    elif self.lower in ("reduced", "subifds"):
                        own["subfiletype"] = 1
                    writer.write(np.ascontiguousarray(data), **own)
        if self.missing is not None:
            self._remove(path)
        return path

    def _remove(self, path):
        """Give a tile of the last level no bytes."""
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0].pages[-1] if self.lower == "subifds" and self.steps else tiff.pages[-1]
            empty_tile(path, page.aspage(), self.missing)

    def _whitened(self, image):
        """Fill the tile that was removed with the background, in the last level of the last picture."""
        if self.missing is None or (self.page or 0) != self.pages - 1:
            return image
        image = np.array(image)
        columns = -(-image.shape[1] // self.tile)
        index = self.missing % (columns * -(-image.shape[0] // self.tile))
        y, x = self.tile * (index // columns), self.tile * (index % columns)
        image[y : y + self.tile, x : x + self.tile] = 255
        return image

    def _shown(self, stored):
        """Samples as they are to be seen, and how far libraries may differ about it."""
        colours = stored[..., : SAMPLES[self.photometric]]
        tolerance = 0
        if self.bits == "1":
            colours = colours * np.uint8(255)
        if self.photometric == "minisblack":
            colours = grey3(colours)
        elif self.photometric == "miniswhite":
            colours = 255 - grey3(colours)
        elif self.photometric == "palette":
            colours = (self._palette() >> 8).astype(np.uint8).T[colours[..., 0]]
        elif self.photometric == "cmyk":
            ink = colours.astype(float)
            colours = np.rint((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255).astype(np.uint8)
            tolerance = 1
        elif self.photometric == "ycbcr":
            colours = np.asarray(Image.fromarray(np.ascontiguousarray(colours), "YCbCr").convert("RGB"))
            tolerance = 2
        if not self.extra or self.extra == "unspecified":
            return colours, tolerance
        alpha = stored[..., -1:]
        tolerance += 1
        if self.extra == "unassalpha":
            return on_white(np.concatenate([colours, alpha], -1)), tolerance
        return np.clip(colours.astype(int) + 255 - alpha, 0, 255).astype(np.uint8), tolerance

    def truths(self, path: Path) -> list[Truth]:
        shown = [self._shown(level) for level in self._arrays(self.page or 0)]
        shown[-1] = (self._whitened(shown[-1][0]), shown[-1][1])
        upright = [turned(image, self.orientation) for image, _ in shown]
        mpp = None
        if self.resolution is not None and self.resolution[1] != "none":
            mpp = ({"inch": 25400, "cm": 10000}[self.resolution[1]] / self.resolution[0],) * 2
        arrays = Truth("the arrays", tuple(upright), mpp, max(t for _, t in shown))
        single = self.lower == "reduced" or not self.steps
        judge = openslide_truth(path) if self.tile and single and self.orientation == 1 and not self.page else None
        if judge is not None:
            # libtiff takes an extra sample that is not declared for alpha; to drop it is as right
            return [judge, arrays] if self.extra else [judge]
        if self.compression == "jpeg":
            return [self._decoded(path, mpp) if self.missing is None else self._decoded_whole(mpp)]
        if self.lower == "plain":
            return [arrays, Truth("page 0", tuple(upright[:1]), mpp, arrays.tolerance)]
        return [arrays]

    def _decoded_whole(self, mpp):
        """Decode the file as it was before a tile was removed: what a decoder makes of a gap is its own affair."""
        with tempfile.TemporaryDirectory() as folder:
            return self._decoded(replace(self, missing=None).write(Path(folder)), mpp)

    def _decoded(self, path, mpp):
        """Lossy data, decoded by Pillow's libtiff; sub-IFDs, which it does not show, by tifffile."""
        frames = []
        if self.big and self.byteorder == ">":  # Pillow does not know it
            with tifffile.TiffFile(path) as tiff:
                frames = [page.aspage().asarray() for page in tiff.pages]
        else:
            with Image.open(path) as image:
                for index in range(image.n_frames):
                    image.seek(index)
                    frames.append(np.asarray(image.convert("RGB")))
        if self.lower == "subifds" and self.steps:
            with tifffile.TiffFile(path) as tiff:
                frames += [entry.aspage().asarray() for entry in tiff.pages[0].pages]
        frames = [f if f.ndim == 3 else grey3(f) for f in frames]
        frames = frames[self.page or 0 : (self.page or 0) + 1] if self.pages > 1 else frames
        frames[-1] = self._whitened(frames[-1])
        return Truth("Pillow", tuple(turned(f, self.orientation) for f in frames), mpp)


def empty_tile(path, page, index):
    """Write 0 as the byte count of a tile, as scanners do for what they left out."""
    tag = page.tags["TileByteCounts"] if "TileByteCounts" in page.tags else page.tags["StripByteCounts"]
    size = {3: 2, 4: 4, 16: 8}[int(tag.dtype)]
    with path.open("r+b") as file:
        file.seek(tag.valueoffset + size * (index % tag.count))
        file.write(bytes(size))


@st.composite
def tiff_cases(draw):
    """Draw a TIFF; most are of one or two unusual properties, so that refusals of one do not hide another."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    photometric = pick("rgb", "rgb", "ycbcr", "minisblack", "miniswhite", "palette", "cmyk")
    bits = pick(*["8"] * 15, "16", "float", "1")
    if photometric in ("palette", "ycbcr", "cmyk") or (bits == "1" and photometric == "rgb"):
        bits = "8"
    usable = ["none", "lzw", "deflate", "packbits", "zstd", "lzma"]
    if bits == "8" and photometric in ("rgb", "minisblack"):
        usable += ["j2k", "jpeg"] + ["webp"] * (photometric == "rgb")
    if photometric == "ycbcr":
        usable = ["jpeg", "jpeg", "none", "deflate", "lzw"]
    compression = pick(*usable)
    extra = pick(*[""] * 5, "unspecified", "assocalpha", "unassalpha")
    if photometric in ("palette", "ycbcr") or bits == "1" or compression in ("jpeg", "j2k", "webp"):
        extra = ""
    layout = pick("tile", "tile", "strips")
    side = pick(64, 64, 32, 16, 48)
    planar = photometric in ("rgb", "cmyk") and not extra and compression in ("none", "lzw", "deflate")
    planar = planar and pick(*[False] * 3, True)
    steps = pick((), (), (2,), (2, 4), (3.3,), (2.1, 5.7))
    pages = pick(*[1] * 15, 2, 3)
    if pages > 1:
        steps = ()
    return TiffCase(
        width=draw(st.integers(40, 200)),
        height=draw(st.integers(40, 200)),
        seed=draw(st.integers(0, 99)),
        photometric=photometric,
        bits=bits,
        extra=extra,
        compression=compression,
        subsampling=pick(1, 2, 21) if photometric == "ycbcr" and compression == "jpeg" else 1,
        planar=planar,
        tile=side if layout == "tile" else 0,
        rows=pick(16, 32, 64, 1000) if layout == "strips" else 32,
        predictor=compression in ("lzw", "deflate", "zstd") and bits != "1" and pick(True, False),
        steps=steps,
        lower=pick("reduced", "reduced", "subifds", "plain") if steps else "reduced",
        pages=pages,
        page=pick(None, 0, pages - 1, pages) if pages > 1 else None,
        missing=draw(st.integers(0, 40)) if layout == "tile" and not planar and pick(*[False] * 9, True) else None,
        orientation=pick(*[1] * 40, *range(2, 9)),
        resolution=pick(None, (40000.0, "cm"), (101600.0, "inch"), (72.0, "none")),
        big=pick(False, False, True),
        byteorder=pick("<", "<", ">"),
        description=pick(*[""] * 6, "scanned on a Hamamatsu NanoZoomer", "Ventana iScan", "PHILIPS", "ImageJ"),
    )


@dataclass(frozen=True)
class AperioCase:
    """A TIFF as Aperio's scanners write it."""

    width: int = 150
    height: int = 100
    seed: int = 0
    coding: str = "jpeg-ycbcr"  # jpeg-ycbcr, jpeg-rgb, jpeg-jfif, 33003, 33005, deflate
    subsampling: int = 1
    tile: int = 64
    steps: tuple[float, ...] = ()
    missing: tuple[int, int] | None = None  # level, tile
    label: bool = True
    words: str = ""
    big: bool = False

    selection = Selection()

    @property
    def verdict(self):
        """OpenSlide opens all of them, so all of them convert."""
        return Verdict.CONVERT

    def _levels(self):
        first = picture(self.seed, self.height, self.width)
        return [first, *(shrunk(first, *size) for size in level_sizes(self.width, self.height, self.steps))]

    def _coded(self, tile):
        if self.coding == "jpeg-jfif":  # Y, Cb, Cr by its marker, R, G, B by the tag
            coded = io.BytesIO()
            Image.fromarray(tile).save(coded, "JPEG", quality=80, subsampling=0)
            return coded.getvalue()
        if self.coding.startswith("jpeg"):
            return bare_jpeg(tile, self.coding == "jpeg-rgb", {1: 0, 21: 1, 2: 2}[self.subsampling])
        if self.coding == "deflate":
            return imagecodecs.zlib_encode(np.ascontiguousarray(tile).tobytes())
        if self.coding == "33003":
            tile = np.asarray(Image.fromarray(tile).convert("YCbCr"))
        return imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(tile), level=0, codecformat="j2k", mct=False, reversible=True
        )

    def write(self, folder: Path) -> Path:
        path = folder / "case.svs"
        code = {"jpeg-ycbcr": 7, "jpeg-rgb": 7, "jpeg-jfif": 7, "33003": 33003, "33005": 33005, "deflate": 8}[
            self.coding
        ]
        options = {"compression": code, "photometric": "ycbcr" if self.coding == "jpeg-ycbcr" else "rgb"}
        if self.coding == "jpeg-ycbcr":
            options["subsampling"] = {1: (1, 1), 2: (2, 2), 21: (2, 1)}[self.subsampling]
        head = "Aperio Image Library v11.2.1\r\n"
        facts = f"({self.tile}x{self.tile}) Q=70|AppMag = 40|MPP = 0.2525{self.words}"
        with tifffile.TiffWriter(path, bigtiff=self.big) as writer:

            def add(data, text, **own):
                writer.write(data, description=head + text, metadata=None, software=False, **own)

            for index, level in enumerate(self._levels()):
                height, width = level.shape[:2]
                size = f"{self.width}x{self.height}" + (f" -> {width}x{height}" if index else "")
                add(
                    (self._coded(tile) for tile in tiles(level, self.tile)),
                    f"{size} {facts}",
                    shape=level.shape,
                    dtype="u1",
                    tile=(self.tile, self.tile),
                    **options,
                )
                if index == 0:
                    small = shrunk(level, 20, 16)
                    add(small, f"{self.width}x{self.height} -> 20x16 - |", rowsperstrip=16, photometric="rgb")
            if self.label:
                add(picture(1, 20, 24), "label 24x20", subfiletype=1, photometric="rgb", rowsperstrip=20)
                add(picture(2, 16, 40), "macro 40x16", subfiletype=9, photometric="rgb", rowsperstrip=16)
        if self.missing is not None:
            with tifffile.TiffFile(path) as tiff:
                pages = [page.aspage() for page in tiff.pages if page.aspage().is_tiled]
                empty_tile(path, pages[self.missing[0] % len(pages)], self.missing[1])
        return path

    def truths(self, path: Path) -> list[Truth]:
        judge = openslide_truth(path)
        assert judge is not None, "the generator made a slide that OpenSlide does not open"
        return [judge]


def tiles(image, side):
    """Cut a picture into square tiles, the last ones filled up with their edge."""
    for y in range(0, image.shape[0], side):
        for x in range(0, image.shape[1], side):
            part = image[y : y + side, x : x + side]
            yield np.pad(part, ((0, side - part.shape[0]), (0, side - part.shape[1]), (0, 0)), mode="edge")


def bare_jpeg(image, rgb, subsampling):
    """Return a JPEG without the markers that say which colours it has, as TIFF tiles are."""
    coded = io.BytesIO()
    Image.fromarray(image).save(coded, "JPEG", quality=80, subsampling=subsampling, keep_rgb=rgb)
    data, out, at = coded.getvalue(), b"\xff\xd8", 2
    while data[at + 1] != 0xDA:
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] not in (0xE0, 0xEE):
            out += data[at : at + size]
        at += size
    return out + data[at:]


@st.composite
def aperio_cases(draw):
    """Draw an Aperio slide."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    coding = pick("jpeg-ycbcr", "jpeg-ycbcr", "jpeg-rgb", "jpeg-jfif", "33003", "33005", "deflate")
    return AperioCase(
        width=draw(st.integers(64, 200)),
        height=draw(st.integers(64, 200)),
        seed=draw(st.integers(0, 99)),
        coding=coding,
        subsampling=pick(1, 2, 21) if coding == "jpeg-ycbcr" else 1,
        tile=pick(64, 64, 32, 48),
        steps=pick((), (2,), (2, 4), (2.3,), (2.1, 5.7), (4.02,)),
        missing=pick(None, None, None, (0, 0), (0, 3), (1, 0), (2, 1)),
        label=pick(True, False),
        words=pick("", "|Patient = Jane Doe", "|Scanner = Hamamatsu"),
        big=pick(False, True),
    )
