"""Which of a slide's own properties may leave it.

An allow-list, never a block-list: what is not named here stays behind. Everything allowed is technical, and its value
must look like what it should be: a number, or one short word. Names, dates, times, users, serial numbers, file names,
barcodes, identifiers and free text are not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["allowed_properties"]

_NUMBERS = frozenset(
    {
        "aperio.AppMag",
        "aperio.DisplayColor",
        "aperio.Exposure Scale",
        "aperio.Exposure Time",
        "aperio.Filtered",
        "aperio.Focus Offset",
        "aperio.Gamma",
        "aperio.Left",
        "aperio.MPP",
        "aperio.OriginalHeight",
        "aperio.OriginalWidth",
        "aperio.StripeWidth",
        "aperio.Top",
        "dicom.Columns",
        "dicom.ImagedVolumeHeight",
        "dicom.ImagedVolumeWidth",
        "dicom.LossyImageCompression",
        "dicom.LossyImageCompressionRatio",
        "dicom.Rows",
        "dicom.TotalPixelMatrixColumns",
        "dicom.TotalPixelMatrixRows",
        "hamamatsu.Objective.Lens.Magnificant",
        "hamamatsu.SourceLens",
        "hamamatsu.XOffsetFromSlideCentre",
        "hamamatsu.YOffsetFromSlideCentre",
        "leica.objective",
        "leica.aperture",
        "mirax.GENERAL.OBJECTIVE_MAGNIFICATION",
        "openslide.bounds-height",
        "openslide.bounds-width",
        "openslide.bounds-x",
        "openslide.bounds-y",
        "openslide.mpp-x",
        "openslide.mpp-y",
        "openslide.objective-power",
        "tiff.XResolution",
        "tiff.YResolution",
        "trestle.Objective Power",
        "ventana.Magnification",
        "ventana.ScanRes",
    }
)
_WORDS = {
    "aperio.ColorSpace": r"[A-Za-z]{1,16}",
    "dicom.Modality": r"[A-Z]{1,8}",
    "dicom.LossyImageCompressionMethod": r"ISO_[0-9_]{1,12}",
    "dicom.PhotometricInterpretation": r"[A-Z0-9_]{1,16}",
    "dicom.TransferSyntaxUID": r"1\.2\.840\.10008\.1\.2[0-9.]{0,16}",
    "hamamatsu.Product": r"C[0-9]{4,5}-[0-9]{2}",
    "leica.illumination-source": r"[a-z]{1,16}",
    "openslide.background-color": r"[0-9A-Fa-f]{6}",
    "openslide.vendor": r"[a-z-]{1,16}",
    "tiff.ResolutionUnit": r"inch|centimeter|none",
}
_NUMBER = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?")


def allowed_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the properties that may be stored with an archive, sorted by name.

    Examples
    --------
    >>> allowed_properties({"aperio.MPP": "0.25", "aperio.User": "jdoe", "aperio.AppMag": "Jane Doe"})
    {'aperio.MPP': '0.25'}
    """
    allowed = {}
    for key in sorted(properties):
        value = properties[key].strip()
        if (key in _NUMBERS and _NUMBER.fullmatch(value)) or (key in _WORDS and re.fullmatch(_WORDS[key], value)):
            allowed[key] = value
    return allowed
