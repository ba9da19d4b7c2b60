"""From the samples of a TIFF page to RGB, or to plain channels.

What a page's tags say decides, as libtiff reads them (and OpenSlide through it). `refusal` names what no reader can
hand over whole in 8 bits a sample; `Colour` turns decoded segments into pixels and says what it cannot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["JPEG", "JPEG2000", "CannotReadError", "Colour", "refusal"]

WHITE_IS_ZERO, GREY, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_OTHERS = {
    4: "a transparency mask",
    5: "CMYK: which RGB its inks are is for a colour profile to say",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "the mosaic of a colour filter",
    34892: "linear raw samples of a camera",
    32844: "logarithmic luminance",
    32845: "logarithmic luminance",
}
JPEG = 7
OLD_JPEG = 6
JPEG2000 = frozenset({33003, 33004, 33005, 34712})
APERIO_YCBCR = 33003
ASSOCIATED, UNASSOCIATED = 1, 2


class CannotReadError(ValueError):
    """A page is of a kind that this package's own reader does not take; the text says which."""


def _base_samples(photometric: int) -> int:
    """Colour samples of a px."""
    return 3 if photometric in (RGB, YCBCR) else 1


def _alpha(page: Any) -> int | None:
    """Return the kind of alpha of a page with one extra sample; None where it has no extra sample.

    Raises
    ------
    CannotReadError
        There are extra samples that are no alpha.
    """
    extra = int(page.samplesperpixel) - _base_samples(int(page.photometric))
    kinds = tuple(int(kind) for kind in page.extrasamples)
    if extra == 0:
        return None
    if extra == 1 and kinds in ((ASSOCIATED,), (UNASSOCIATED,)):
        if page.is_tiled and int(page.photometric) not in (RGB, YCBCR):
            raise CannotReadError("grey or palette with alpha in tiles, which readers show differently")
        return kinds[0]
    raise CannotReadError(
        f"{extra} extra {'sample' if extra == 1 else 'samples'} a px of a kind it does not name as alpha"
    )


def refusal(page: Any, *, channels: bool = False) -> str | None:
    """Say why a page cannot be kept whole; None where it can.

    Parameters
    ----------
    page : tifffile.TiffPage
        Any page.
    channels : bool
        Whether its samples may be channels of their own.

    Notes
    -----
    1, 2 and 4 bits a sample are kept exactly: their values are spread over 0..255 and can be told from it.
    """
    return _depth_refusal(page) or _colour_refusal(page, channels)


def _depth_refusal(page: Any) -> str | None:
    """Say why the samples of a page are none of 8 bits or less."""
    bits, kind = page.bitspersample, page.sampleformat
    tag = page.tags.get("BitsPerSample")
    mixed = tag is not None and isinstance(tag.value, tuple) and len(set(tag.value)) > 1
    reasons = (
        (not isinstance(bits, int) or mixed, "its samples have different numbers of bits"),
        (kind == 3, f"its samples are floating point ({bits} bits); 8 bits a sample are kept"),
        (kind in (5, 6), "its samples are complex numbers"),
        (not isinstance(bits, int) or bits > 8, f"{bits} bits a sample; 8 are kept, and cutting them is not lossless"),
        (kind not in (1, 4), "its samples are signed; unsigned ones are kept"),
        (bits not in (1, 2, 4, 8), f"{bits} bits a sample are not supported"),
    )
    return next((reason for wrong, reason in reasons if wrong), None)


def _colour_refusal(page: Any, channels: bool) -> str | None:
    """Say why the colours or the place of a page's px are of no kind that is kept."""
    photometric = int(page.photometric)
    orientation = page.tags.get("Orientation")
    if photometric not in (WHITE_IS_ZERO, GREY, RGB, PALETTE, YCBCR):
        return f"its colours are {_OTHERS.get(photometric, f'of a kind that is not known (photometric {photometric})')}"
    if orientation is not None and orientation.value != 1:
        return f"its orientation tag turns or mirrors it ({orientation.value}); write it upright first"
    if getattr(page, "imagedepth", 1) != 1:
        return "it has a depth (several planes in one page)"
    if photometric == PALETTE and not _palette_fits(page):
        return "its palette has colours of 16 bits; 8 bits a sample are kept"
    try:
        if not (channels and photometric in (GREY, WHITE_IS_ZERO)):
            _alpha(page)
    except CannotReadError as error:
        return str(error)
    return None


def _palette_fits(page: Any) -> bool:
    """Tell whether the 16-bit entries of a palette are 8-bit ones."""
    entries = page.colormap
    if entries is None:
        return False
    low, high = entries & 255, entries >> 8
    return bool((entries < 256).all() or (low == 0).all() or (low == high).all())


class Colour:
    """Turns decoded segments of a page into pixels.

    Parameters
    ----------
    page : tifffile.TiffPage
        A page that `refusal` has nothing against.
    channels : bool
        Whether the samples of a grey page are channels of their own.

    Raises
    ------
    CannotReadError
        The page is of a kind that OpenSlide may read but this class does not.
    """

    def __init__(self, page: Any, *, channels: bool = False) -> None:
        self._photometric = int(page.photometric)
        self._bits = int(page.bitspersample)
        self._compression = int(page.compression)
        self._tiled = bool(page.is_tiled)
        self._samples = int(page.samplesperpixel)
        grey = self._photometric in (WHITE_IS_ZERO, GREY)
        self._alpha = None if grey and channels else _alpha(page)
        self.alpha = self._alpha is not None
        """Whether the picture is laid on white where it is transparent."""
        self.samples = self._samples if grey and channels else 1 if grey and not self.alpha else 3
        """Samples of a px after the conversion."""
        self._palette = _palette(page) if self._photometric == PALETTE else None
        self._ycbcr = None
        if getattr(page, "fillorder", 1) != 1:
            raise CannotReadError("its bits are in reverse order (FillOrder 2)")
        if self._compression == OLD_JPEG:
            raise CannotReadError("old-style JPEG compression")
        if self._compression == JPEG and (self.alpha or self._photometric == PALETTE):
            raise CannotReadError("JPEG data with alpha or a palette")
        if self._compression == JPEG and int(page.planarconfig) == 1 and self._samples not in (1, 3):
            raise CannotReadError(f"JPEG data of {self._samples} samples a px")
        if self._photometric == YCBCR and self._compression != JPEG:
            if self._compression in JPEG2000:
                raise CannotReadError("JPEG 2000 data tagged as Y, Cb, Cr")
            if page.is_subsampled:
                raise CannotReadError("subsampled Y, Cb, Cr that is no JPEG")
            self._ycbcr = _ycbcr_tables(page)
        if self._photometric == YCBCR and self._compression == JPEG and int(page.planarconfig) != 1:
            raise CannotReadError("Y, Cb, Cr as JPEG planes of their own")

    def pixels(self, segment: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Convert a segment of shape (h, w, samples as stored) to (h, w, ``samples``)."""
        if self._palette is not None:
            colours = self._palette[segment[..., 0]]
            return colours if not self.alpha else self._composite(colours, segment[..., 1])
        if self._bits < 8:
            segment = segment * np.uint8(255 // ((1 << self._bits) - 1))
        if self._ycbcr is not None:
            segment = np.concatenate([self._to_rgb(segment), segment[..., 3:]], axis=-1)
        if self._photometric == WHITE_IS_ZERO:
            colours = 255 - (segment[..., :1] if self.alpha else segment)
            segment = np.concatenate([colours, segment[..., 1:]], axis=-1) if self.alpha else colours
        if not self.alpha:
            return segment
        colours = segment[..., :-1]
        if colours.shape[-1] == 1:
            colours = np.repeat(colours, 3, axis=-1)
        return self._composite(colours, segment[..., -1])

    def _composite(self, colours: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay colours on white: for tiles in the steps of libtiff, Cairo and OpenSlide's Python binding."""
        from PIL import Image

        wide, a = colours.astype(np.uint32), alpha.astype(np.uint32)[..., None]
        if self._alpha == UNASSOCIATED and self._tiled:
            wide = (wide * a + 127) // 255
        elif self._alpha == ASSOCIATED and (wide > a).any():
            raise ValueError("colours above their alpha in a picture that it calls premultiplied")
        if self._alpha == ASSOCIATED or self._tiled:
            wide = 255 * wide // np.maximum(a, 1)
        rgba = np.concatenate([wide.astype(np.uint8), alpha[..., None]], axis=-1)
        backdrop = Image.new("RGBA", (alpha.shape[1], alpha.shape[0]), (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(backdrop, Image.fromarray(rgba)), np.uint8)[..., :3]

    def _to_rgb(self, segment: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Convert Y, Cb, Cr with libtiff's tables."""
        assert self._ycbcr is not None
        y_tab, cr_r, cb_b, cr_g, cb_g = self._ycbcr
        y, cb, cr = y_tab[segment[..., 0]], segment[..., 1], segment[..., 2]
        rgb = np.stack([y + cr_r[cr], y + ((cb_g[cb] + cr_g[cr]) >> 16), y + cb_b[cb]], axis=-1)
        return np.asarray(np.clip(rgb, 0, 255), np.uint8)


def _palette(page: Any) -> NDArray[np.uint8]:
    """Return the colours of a palette as (256, 3)."""
    entries = page.colormap
    small = entries if (entries < 256).all() else entries >> 8
    colours = np.zeros((256, 3), np.uint8)
    colours[: small.shape[1]] = small.T[:256]
    return colours


def _numbers(page: Any, name: str, default: tuple[float, ...]) -> NDArray[np.float32]:
    """Return a tag of fractions as floats."""
    tag = page.tags.get(name)
    if tag is None:
        return np.array(default, np.float32)
    flat = np.array(tag.value, np.float64).ravel()
    if flat.size == 2 * len(default):
        with np.errstate(divide="ignore", invalid="ignore"):
            flat = flat[::2] / flat[1::2]
    if flat.size != len(default) or not np.isfinite(flat).all():
        raise CannotReadError(f"its tag {name} makes no sense")
    return np.asarray(flat, np.float32)


def _ycbcr_tables(page: Any) -> tuple[NDArray[np.int64], ...]:
    """Build the fixed-point tables with which libtiff converts Y, Cb, Cr (the equations of TIFF 6.0, section 21)."""
    red, green, blue = _numbers(page, "YCbCrCoefficients", (0.299, 0.587, 0.114))
    reference = _numbers(page, "ReferenceBlackWhite", (0, 255, 128, 255, 128, 255))
    if green == 0:
        raise CannotReadError("its tag YCbCrCoefficients makes no sense")
    one, two = np.float32(1), np.float32(2)

    def fix(value: np.float32) -> int:
        return int(float(min(max(value, np.float32(0)), two)) * 65536 + 0.5)

    def code(black: np.float32, white: np.float32, top: int, first: int) -> Any:
        values = (np.arange(first, first + 256) - int(black)).astype(np.float32) * np.float32(top)
        scaled = values / (white - black if white != black else one)
        return np.clip(scaled, np.float32(-4096), np.float32(4096)).astype(np.int64)

    f1, f3 = two - two * red, two - two * blue
    d1, d2, d3, d4 = fix(f1), -fix(red * f1 / green), fix(f3), -fix(blue * f3 / green)
    middle = np.float32(128)
    cr = code(reference[4] - middle, reference[5] - middle, 127, -128)
    cb = code(reference[2] - middle, reference[3] - middle, 127, -128)
    y = code(reference[0], reference[1], 255, 0)
    half = 1 << 15
    tables = (y, (d1 * cr + half) >> 16, (d3 * cb + half) >> 16, d2 * cr, d4 * cb + half)
    return tuple(np.asarray(table, np.int64) for table in tables)
