"""Pixels of a JPEG image, in the integers of libjpeg (docs/format section 16).

::

    coefficients --dequantise--> --two passes of the inverse transform--> component planes
                 --chroma: triangle filter or repetition--> --colour transform--> RGB

libjpeg and libjpeg-turbo give these samples bit for bit by default ("islow" transform, "fancy" upsampling).
`synthesise` is native; `synthesise_reference` is the specification made executable.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dlpr.modes.jpeg.image import Coefficients, ColourTransform, JpegImage, Table, Upsampling

__all__ = ["inverse_pass", "inverse_transform", "synthesise", "synthesise_reference"]

U8 = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_A, _B, _C, _D = 4433, 6270, -15137, 9633
_ODD = (2446, 16819, 25172, 12299)
_Z = (-7373, -20995, -16069, -3196)


def synthesise(image: JpegImage) -> U8:
    """Compute the pixels of a JPEG image.

    Parameters
    ----------
    image : JpegImage

    Returns
    -------
    numpy.ndarray
        uint8 [height, width, components]; red, green, blue where there are three.

    Examples
    --------
    >>> steps, blocks = np.full((8, 8), 16, np.uint16), np.zeros((1, 1, 8, 8), np.int16)
    >>> blocks[0, 0, 0, 0] = 10
    >>> image = JpegImage(2, 3, (0, 0), ColourTransform.NONE, (1, 1), Upsampling.FANCY, True, (steps,), (blocks,))
    >>> synthesise(image).tolist()
    [[[148], [148], [148]], [[148], [148], [148]]]
    """
    from dlpr._native import jpeg_synthesise  # the rest of this module works in a tree without the extension

    pixels: U8 = jpeg_synthesise(native_fields(image), [np.ascontiguousarray(c) for c in image.coefficients])
    return pixels


def native_fields(image: JpegImage) -> tuple[object, ...]:
    """Everything but the coefficients, as the native code takes it."""
    tables = np.ascontiguousarray(np.stack(image.tables).reshape(-1, 64))
    return (
        image.height,
        image.width,
        *image.phase,
        int(image.transform),
        *image.sampling,
        int(image.upsampling),
        int(image.crop_edges),
        tables,
    )


def synthesise_reference(image: JpegImage) -> U8:
    """Compute what `synthesise` computes, in NumPy."""
    planes = [inverse_transform(c, t) for c, t in zip(image.coefficients, image.tables, strict=True)]
    (y0, x0), (v, h) = image.phase, image.sampling
    if (v, h) != (1, 1):
        for c in (1, 2):
            plane = planes[c]
            if image.crop_edges:
                plane = plane[: -(-(y0 + image.height) // v), : -(-(x0 + image.width) // h)]
            planes[c] = upsample(plane, v, h, image.upsampling)
    window = np.stack([p[y0 : y0 + image.height, x0 : x0 + image.width] for p in planes], axis=-1)
    return np.asarray(_to_rgb(window) if image.transform is ColourTransform.YCBCR else window, np.uint8)


def inverse_transform(coefficients: Coefficients, table: Table) -> Ints:
    """Samples 0..255 of a component, [8 block rows, 8 block columns]."""
    d = np.clip(coefficients.astype(np.int64) * table.astype(np.int64), -16383, 16383)
    columns = inverse_pass(d.transpose(2, 0, 1, 3), 11)  # vertical frequency first
    rows = inverse_pass(np.clip(columns, -32768, 32767).transpose(3, 1, 2, 0), 18)
    samples = np.clip(rows.transpose(1, 3, 2, 0) + 128, 0, 255)  # block row, y, block column, x
    return np.ascontiguousarray(samples.reshape(8 * coefficients.shape[0], 8 * coefficients.shape[1]))


def inverse_pass(d: Ints, shift: int) -> Ints:
    """One pass of the inverse transform over the first axis, rounded and divided by 2**shift."""
    z = (d[2] + d[6]) * _A
    even2, even3 = z + d[6] * _C, z + d[2] * _B
    even0, even1 = (d[0] + d[4]) << 13, (d[0] - d[4]) << 13
    e = (even0 + even3, even1 + even2, even1 - even2, even0 - even3)
    t0, t1, t2, t3 = d[7], d[5], d[3], d[1]
    z5 = (t0 + t2 + t1 + t3) * _D
    z1, z2 = (t0 + t3) * _Z[0], (t1 + t2) * _Z[1]
    z3, z4 = (t0 + t2) * _Z[2] + z5, (t1 + t3) * _Z[3] + z5
    o = (
        t3 * _ODD[3] + z1 + z4,
        t2 * _ODD[2] + z2 + z3,
        t1 * _ODD[1] + z2 + z4,
        t0 * _ODD[0] + z1 + z3,
    )
    sums = [e[i] + o[i] for i in range(4)] + [e[3 - i] - o[3 - i] for i in range(4)]
    return (np.stack(sums) + (1 << (shift - 1))) >> shift


def upsample(plane: Ints, v: int, h: int, upsampling: Upsampling) -> Ints:
    """Bring a plane to v times its height and h times its width; samples beyond its edges repeat the edge."""
    if upsampling is Upsampling.BOX:
        return plane.repeat(v, axis=0).repeat(h, axis=1)
    rows = plane
    if v == 2:
        padded = np.pad(plane, ((1, 1), (0, 0)), "edge")
        rows = np.empty((2 * plane.shape[0], plane.shape[1]), np.int64)
        rows[0::2], rows[1::2] = 3 * plane + padded[:-2], 3 * plane + padded[2:]
        if h == 1:
            rows[0::2] += 1
            rows[1::2] += 2
            return rows >> 2
    padded = np.pad(rows, ((0, 0), (1, 1)), "edge")
    out = np.empty((rows.shape[0], 2 * rows.shape[1]), np.int64)
    low, high, shift = (8, 7, 4) if v == 2 else (1, 2, 2)
    out[:, 0::2] = (3 * rows + padded[:, :-2] + low) >> shift
    out[:, 1::2] = (3 * rows + padded[:, 2:] + high) >> shift
    return out


def _to_rgb(ycc: Ints) -> Ints:
    """YCbCr to RGB."""
    y, cb, cr = ycc[..., 0], ycc[..., 1] - 128, ycc[..., 2] - 128
    red = y + ((91881 * cr + 32768) >> 16)
    green = y + ((-22554 * cb - 46802 * cr + 32768) >> 16)
    blue = y + ((116130 * cb + 32768) >> 16)
    return np.asarray(np.clip(np.stack([red, green, blue], axis=-1), 0, 255), np.int64)
