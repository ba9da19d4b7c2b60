"""The specification does not go stale: its examples, its tables and the sections that the code names."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import dlpr
from dlpr import reference
from dlpr.modes.jpeg import coefficients
from dlpr.modes.mixed import residual as jpeg_residual
from dlpr.modes.networks import weights

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "format" / "dlpr-v3.md"
NUMBERS = r"[Ss]ections? +(\d+(?:(?: to |, | and |-)\d+)*)"


@pytest.fixture(scope="module")
def examples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("format_examples", PAGE.with_name("examples.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_examples_of_the_page_are_what_the_decoder_sees(examples: ModuleType) -> None:
    page = PAGE.read_text()
    assert examples.placed(page) == page, "python docs/format/examples.py --write"
    assert set(re.findall(r"<!-- example (\S+) -->", page)) == set(examples.examples())


def test_examples_decode_to_their_images(examples: ModuleType) -> None:
    images = examples.images()
    assert images.keys() == examples.STREAMS.keys()
    assert {dlpr.inspect(bytes.fromhex(s)).mode for s in examples.STREAMS.values()} == {
        "constant",
        "stored",
        "jpeg",
        "coded",
        "colour",
        "j2k",
    }
    for name, text in examples.STREAMS.items():
        data, expected = bytes.fromhex(text), images[name]
        out = dlpr.decode(data, prior=examples.PRIOR)
        assert out.shape == expected.shape
        assert int(np.abs(out.astype(int) - expected).max()) <= dlpr.inspect(data).tau
        assert np.array_equal(reference.decode(data), out)
    assert weights.default_id().hex() in PAGE.read_text()


def named(text: str) -> set[int]:
    """Numbers of the sections that a text names."""
    found = set()
    for run in re.findall(NUMBERS, text):
        found |= {int(n) for n in re.findall(r"\d+", run)}
    return found


def test_sections_that_the_code_names_exist() -> None:
    page = PAGE.read_text()
    headings = [int(n) for n in re.findall(r"^## (\d+)\. ", page, re.MULTILINE)]
    assert headings == list(range(1, len(headings) + 1))
    files = [p for p in (ROOT / "codecs" / "dlpr").rglob("*") if p.suffix in {".py", ".hpp", ".cpp", ".inl"}]
    found = {p: named(p.read_text()) for p in files if "paper" not in p.parts}  # paper: sections of the article
    assert sum(map(bool, found.values())) > 40
    missing = {str(p): n - set(headings) for p, n in {**found, PAGE: named(page)}.items() if n - set(headings)}
    assert not missing


def test_tables_of_the_page_are_the_decoder_s() -> None:
    page = PAGE.read_text()
    rows = re.findall(r"^\| ([\w ]+) \| (\d+) \| (\d+(?:, \d+){7}) \| (\d+) \|$", page, re.MULTILINE)
    kinds = [(int(slots), tuple(map(int, contexts.split(", "))), int(first)) for _, slots, contexts, first in rows]
    assert kinds == list(coefficients.KINDS)
    assert f"{coefficients.COMPONENT_SLOTS - coefficients.GOLOMB_SLOTS:,} + {coefficients.GOLOMB_SLOTS}" in page
    sets = 8 * (coefficients.FIRST_SETS + coefficients.SECOND_SETS)
    assert f"({coefficients.COMPONENT_SLOTS:,} + {sets:,}) bytes" in page
    assert " ".join(f"({', '.join(map(str, row))})" for row in coefficients.FOLD) in page
    for contexts in (jpeg_residual.FLAG, jpeg_residual.SAMPLE):
        assert ", ".join(map(str, contexts)) in page
