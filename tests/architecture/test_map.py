"""docs/architecture.md names every module, and every file that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "docs" / "architecture.md").read_text()
FOLDERS = {"codecs/dlpr": ROOT / "codecs" / "dlpr", "dlpr_wsi": ROOT / "dlpr_wsi"}
SUFFIXES = {".py", ".hpp", ".cpp"}


def section(title: str) -> str:
    """Text below a heading of the second level."""
    (text,) = re.findall(rf"^## `{title}`\n(.*?)(?=^## |\Z)", MAP, re.MULTILINE | re.DOTALL)
    return str(text)


@pytest.mark.parametrize("package", FOLDERS)
def test_every_module_has_its_line(package: str) -> None:
    lines = re.findall(r"^\| `([^`]+)` \| (.+) \|$", section(package), re.MULTILINE)
    named = [name for name, _ in lines]
    folder = FOLDERS[package]
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in SUFFIXES}
    there = {name for name in there if not name.endswith("__init__.py")}
    assert sorted(named) == sorted(there), "one line for each module in docs/architecture.md"
    assert all(what.strip() for _, what in lines)


def test_what_is_named_exists() -> None:
    for name in re.findall(r"`([\w/.]+\.(?:py|hpp|cpp)|[\w/]+/)`", MAP):
        places = [ROOT / name, *(folder / name for folder in FOLDERS.values())]
        inside = [p for folder in FOLDERS.values() for p in folder.rglob(name.rstrip("/"))]
        assert any(place.exists() for place in places) or inside, name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", MAP):
        assert (ROOT / "docs" / target).exists(), target
