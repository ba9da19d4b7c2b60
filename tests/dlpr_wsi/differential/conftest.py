"""Counts outcomes of generated cases and says them at the end."""

from collections import Counter

import pytest

pytest.importorskip("zarr", minversion="3.0")
for _needed in ("openslide", "tifffile", "imagecodecs", "pydicom"):
    pytest.importorskip(_needed)

COUNTS = Counter()


@pytest.fixture(scope="session")
def counts():
    return COUNTS


def pytest_terminal_summary(terminalreporter):
    if COUNTS:
        told = ", ".join(f"{kind} {number}" for kind, number in sorted(COUNTS.items()))
        terminalreporter.write_line(f"generated cases: {told}")
