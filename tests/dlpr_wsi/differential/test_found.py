"""Cases that were wrong once, in a reader or in the second reader; found by the generator."""

import pytest
from diff_common import outcome
from diff_dicom import DicomCase
from diff_image import ImageCase
from diff_ome import OmeCase
from diff_tiff import AperioCase, TiffCase
from diff_zarr import ZarrCase

EQUAL = [
    # JPEG of Y, Cb, Cr in SubIFDs was given to imagecodecs with TIFF's number of the colour space
    TiffCase(width=73, photometric="ycbcr", compression="jpeg", subsampling=2, tile=32, steps=(2,), lower="subifds"),
    OmeCase(
        width=51, height=76, compression="jpeg", steps=(3.3,), pixel=None, words="label printed in Leica red", big=True
    ),
    # OpenSlide leaves out of lower levels what a missing tile of level 0 covers
    AperioCase(width=64, height=64, coding="jpeg-rgb", tile=32, steps=(2,), missing=(0, 0)),
    AperioCase(width=99, height=162, coding="33003", steps=(4.02,), big=True),
    AperioCase(width=84, height=137, coding="33005", tile=32, steps=(2, 4), missing=(2, 1)),
    TiffCase(photometric="ycbcr", compression="lzw", tile=48, steps=(2.1, 5.7), lower="subifds", missing=0),
    TiffCase(compression="jpeg", tile=0, rows=1000, steps=(2.1, 5.7), lower="subifds", big=True, byteorder=">"),
    TiffCase(photometric="miniswhite", extra="unassalpha", tile=0),
    OmeCase(axes="TZYXS", sizes=(1, 1, 3), lower_tile=0, steps=(2.1, 5.7), plane=0, time=0),
    OmeCase(sizes=(4,), compression="zstd", tile=0, lower_tile=0, steps=(2,), pixel=None),
    OmeCase(axes="SYX", compression="lzw", tile=32, unit="cm", pixel=2.5e-5, words="Hamamatsu NanoZoomer"),
    OmeCase(tile=48, steps=(2,), after="macro", words="Hamamatsu NanoZoomer", names="rgb"),
    ZarrCase(axes="tczyx", sizes=(1, 3, 1), layout="bf2raw with label", outer=0.5, unit="millimeter", scale=2.5e-4),
    # a bare array without names of axes: (3, H, W) is an RGB picture, whatever its maker meant
    ZarrCase(axes="zyx", sizes=(3,), layout="array", width=48, height=48, plane=0),
    ZarrCase(axes="tyx", sizes=(3,), layout="array", version="0.5", sharded=True, missing=True),
    # with names the second reader has to follow them too
    ZarrCase(axes="zyx", sizes=(3,), layout="array", naming="letters", plane=2),
    ZarrCase(axes="yxc", sizes=(3,), layout="array", naming="words", version="0.5", split=False),
    # a label that was chosen is kept though the slide has 16 bits
    OmeCase(deep=True, tile=0, aside="label", image=0),
    ZarrCase(deep=True, layout="bf2raw with label", image=1),
    # missing tiles of JPEG data that OpenSlide does not judge; Pillow and tifffile have no rule for them
    TiffCase(width=40, height=40, compression="jpeg", byteorder=">", missing=0),
    TiffCase(width=40, height=40, compression="jpeg", steps=(2,), lower="subifds", missing=0),
    TiffCase(width=60, height=54, compression="jpeg", tile=48, steps=(2.1, 5.7), lower="plain", missing=31),
    TiffCase(width=100, height=100, pages=2, page=0, missing=0),
    DicomCase(coding="jpeg", steps=(2.3,), label=True, mpp=0.5),
    DicomCase(coding="jpeg", photometric="YBR_FULL_422", steps=(2.3,), label=True, suffix=""),
]
REFUSED = [
    TiffCase(photometric="cmyk", compression="lzw", byteorder=">"),
    TiffCase(bits="16", extra="assocalpha", compression="deflate", orientation=7),
    TiffCase(pages=2, page=2),
    TiffCase(pages=3),
    OmeCase(axes="ZYX", sizes=(3,)),
    OmeCase(deep=True, axes="CYX"),
    # the label is no slide, however unreadable the slide
    OmeCase(deep=True, width=40, height=30, aside="label"),
    OmeCase(deep=True, width=40, height=30, after="macro"),
    OmeCase(deep=True, aside="second slide"),
    ZarrCase(deep=True, layout="bf2raw with label", width=40, height=40),
    ZarrCase(axes="zyx", sizes=(3,)),
    ZarrCase(axes="zyx", sizes=(3,), layout="array", naming="words"),
    ZarrCase(axes="tczyx", sizes=(1, 2, 3), layout="array"),
    ImageCase("png", "I;16"),
    ImageCase("ppm", "RGB;16"),
]


@pytest.mark.parametrize("case", EQUAL, ids=range(len(EQUAL)))
def test_right_on_every_level(case, tmp_path):
    assert outcome(case, tmp_path) == "equal"


@pytest.mark.parametrize("case", REFUSED, ids=range(len(REFUSED)))
def test_refused_by_name(case, tmp_path):
    assert outcome(case, tmp_path) == "refused"
