"""The JPEG that a stream of mode jpeg holds."""

from __future__ import annotations

from dlpr import bitstream
from dlpr._native import jpeg_coefficients
from dlpr.arrays import Buffer
from dlpr.errors import CorruptError
from dlpr.modes.jpeg.image import JpegImage
from dlpr.modes.jpeg.payload import JpegPayload
from dlpr.modes.jpeg.stream import job_fields, start_of

__all__ = ["stored_jpeg"]


def stored_jpeg(data: Buffer) -> JpegImage | None:
    """The coefficients and tables that a stream of mode jpeg holds; None for a stream of another mode.

    Raises
    ------
    BitstreamError
        The stream is damaged, or names a prior that this process does not know.
    """
    s = bitstream.parse(data)
    h, p = s.header, s.payload
    if not isinstance(p, JpegPayload):
        return None
    error, tables, coefficients = jpeg_coefficients(job_fields(h, p), bytes(p.lossy_part), start_of(h, p))
    if error:
        raise CorruptError(error, offset=p.lossy_start)
    return JpegImage(
        h.height,
        h.width,
        p.phase,
        p.transform,
        p.sampling,
        p.upsampling,
        p.crop_edges,
        tuple(tables),
        tuple(coefficients),
    )
