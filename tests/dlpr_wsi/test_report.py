"""What reports say."""

from dataclasses import replace

import pytest

from dlpr_wsi.report import growth_note
from dlpr_wsi.sources import SourceCodec
from dlpr_wsi.sources.opening import open_slide


@pytest.fixture
def facts(plain_slide):
    source = open_slide(plain_slide)
    source.close()
    return replace(source.facts, file_bytes=1000)


@pytest.mark.parametrize(("tau", "kept"), [(0, "exactly"), (2, "within tau 2")])
def test_growth_over_a_lossy_source_is_said(facts, tau, kept):
    note = growth_note(replace(facts, codec=SourceCodec("JPEG", True)), 4500, tau)
    assert "4.50 times the size of the source file: the source is a lossy JPEG slide" in note
    assert f"decoded pixels {kept} takes more bytes" in note


def test_growth_over_a_lossless_source_is_said_without_blame(facts):
    note = growth_note(facts, 1200, 0)
    assert "1.20 times" in note
    assert "lossy" not in note


def test_no_growth_no_note(facts):
    assert growth_note(replace(facts, codec=SourceCodec("JPEG", True)), 1000, 0) is None
