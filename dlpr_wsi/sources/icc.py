"""Colour profiles that fit the samples they lie beside."""

from __future__ import annotations

import io

__all__ = ["fitting"]

_HEADER = 128


def fitting(profile: bytes | None, *, rgb: bool = True) -> tuple[bytes | None, tuple[str, ...]]:
    """Return a profile if it is one for RGB samples, and a note if it is not.

    Readers of the archive apply the profile to RGB samples: one for grey or CMYK samples, or one that is damaged, makes
    them fail.

    Parameters
    ----------
    profile : bytes or None
        As the file holds it.
    rgb : bool
        Whether the picture is RGB; channels of fluorescence have no colour profile.

    Examples
    --------
    >>> fitting(b"nothing")
    (None, ('colour profile left out: it is damaged',))
    """
    if not profile:
        return None, ()
    if len(profile) < _HEADER or profile[36:40] != b"acsp":
        return None, ("colour profile left out: it is damaged",)
    space = profile[16:20]
    if not rgb:
        return None, ("colour profile left out: the channels are no RGB picture",)
    if space != b"RGB ":
        named = {b"GRAY": "grey", b"CMYK": "CMYK", b"Lab ": "L*a*b*"}.get(space, "other")
        return None, (f"colour profile left out: it is one for {named} samples, the archive's are RGB",)
    if int.from_bytes(profile[:4], "big") > len(profile) or not _opens(profile):
        return None, ("colour profile left out: it is damaged",)
    return profile, ()


def _opens(profile: bytes) -> bool:
    """Tell whether Little CMS, where Pillow has it, takes a profile."""
    try:
        from PIL import ImageCms
    except ImportError:
        return True
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return False
    return True
