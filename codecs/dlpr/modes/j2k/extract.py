"""The JPEG 2000 image in a stream of mode j2k."""

from __future__ import annotations

from dlpr import bitstream
from dlpr.arrays import Buffer
from dlpr.frame import Mode
from dlpr.modes.j2k.image import J2kImage
from dlpr.modes.j2k.stream import stored_image

__all__ = ["stored_j2k"]


def stored_j2k(data: Buffer) -> J2kImage | None:
    """The coefficients and passes that a stream of mode j2k holds; None for a stream of another mode.

    `dlpr.modes.j2k.write.write` makes a codestream of them.

    Parameters
    ----------
    data : bytes-like
        A stream.

    Raises
    ------
    BitstreamError
        The stream is damaged.
    """
    stream = bitstream.parse(data)
    return stored_image(stream) if stream.header.mode is Mode.J2K else None
