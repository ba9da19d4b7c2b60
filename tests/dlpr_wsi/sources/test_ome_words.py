"""The words of OME metadata."""

import pytest

from dlpr_wsi.sources.ome import hex_colour, is_picture
from dlpr_wsi.sources.ome_xml import parse_ome_xml
from dlpr_wsi.sources.units import micrometres

LENGTHS = {  # every length unit of OME-Zarr's specification, in metres as its own standard defines it
    "angstrom": 1e-10,
    "attometer": 1e-18,
    "centimeter": 1e-2,
    "decimeter": 1e-1,
    "exameter": 1e18,
    "femtometer": 1e-15,
    "foot": 0.3048,
    "gigameter": 1e9,
    "hectometer": 1e2,
    "inch": 0.0254,
    "kilometer": 1e3,
    "megameter": 1e6,
    "meter": 1,
    "micrometer": 1e-6,
    "mile": 1609.344,
    "millimeter": 1e-3,
    "nanometer": 1e-9,
    "parsec": 3.0856775814913673e16,
    "petameter": 1e15,
    "picometer": 1e-12,
    "terameter": 1e12,
    "yard": 0.9144,
    "yoctometer": 1e-24,
    "yottameter": 1e24,
    "zeptometer": 1e-21,
    "zettameter": 1e21,
}
SYMBOLS = {  # those of OME-XML
    "Ym": 1e24, "Em": 1e18, "Pm": 1e15, "Tm": 1e12, "Gm": 1e9, "Mm": 1e6, "km": 1e3, "hm": 1e2, "dam": 10, "m": 1,
    "dm": 0.1, "cm": 0.01, "mm": 1e-3, "µm": 1e-6, "μm": 1e-6, "um": 1e-6, "nm": 1e-9, "pm": 1e-12, "fm": 1e-15,
    "Å": 1e-10, "thou": 25.4e-6, "li": 0.0254 / 12, "in": 0.0254, "ft": 0.3048, "yd": 0.9144, "mi": 1609.344,
    "pt": 0.0254 / 72, "ua": 149597870700, "ly": 9460730472580800, "pc": 3.0856775814913673e16,
}  # fmt: skip


@pytest.mark.parametrize("unit", [*LENGTHS, *SYMBOLS])
def test_every_unit_of_length(unit):
    metres = (LENGTHS | SYMBOLS)[unit]
    assert micrometres(0.25e-6 / metres, unit) == pytest.approx(0.25, rel=1e-12)


def test_decimal_fractions_stay_as_they_are_written():
    assert micrometres(250, "nm") == 0.25
    assert micrometres(0.00025, "millimeter") == 0.25
    assert micrometres(2528, "angstrom") == pytest.approx(0.2528, rel=1e-15)


@pytest.mark.parametrize(
    "unit", ["pixel", "reference frame", "second", "", "meters per second", "M", "MM", "metric", None]
)
def test_what_is_no_length(unit):
    assert micrometres(0.25, unit) is None


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_lengths_that_are_none(value):
    assert micrometres(value, "um") is None
    assert micrometres(1e300, "parsec") is None


def test_words_of_a_picture():
    red_green_blue = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert is_picture(["red", "GREEN", " Blue "], [None] * 3)
    assert is_picture(["Channel:0:0", "1", ""], red_green_blue)
    assert not is_picture(["488", "561", "640"], [None] * 3)  # wavelengths
    assert is_picture(["C1", "C2", "C3"], red_green_blue)
    assert not is_picture(["blue", "green", "red"], [None] * 3)
    assert not is_picture([None] * 3, [None, None, (0, 0, 255)])
    assert is_picture([None] * 3, [(255, 255, 255)] * 3)
    assert not is_picture([None] * 4, [None] * 4)
    assert not is_picture([], [])


def test_colours():
    assert hex_colour("00aaFF") == hex_colour("#00AAFF") == hex_colour("00AAFF80") == (0, 170, 255)
    assert hex_colour("0af") is hex_colour(7) is hex_colour("00AAFG") is None


def test_xml():
    document = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image Name="CMU-1.svs [label image]"/>'
        '<Image Name="macro image 1.25x"><Pixels PhysicalSizeX="1" PhysicalSizeY="x"/></Image><Instrument/>'
        '<Image Name="S1 label of Jane Doe"><Pixels PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.5">'
        '<Channel Name="DAPI" Color="65535"/><Channel Color="-16776961"/><Channel Color="no" SamplesPerPixel="3"/>'
        "</Pixels></Image></OME>"
    )
    label, macro, slide = parse_ome_xml(document)
    assert (label.role, macro.role, slide.role) == ("label", "macro", None)
    assert (macro.mpp_x, macro.mpp_y) == (1, None)
    assert (slide.mpp_x, slide.mpp_y) == (0.25, 0.5)
    assert [channel.name for channel in slide.channels] == ["DAPI", None, None]
    assert [channel.colour for channel in slide.channels] == [(0, 0, 255), (255, 0, 0), None]
    assert [channel.samples for channel in slide.channels] == [1, 1, 3]
    assert "Jane" not in str(slide)
