"""Counts outcomes of generated cases and says them at the end; keeps libtiff's words about damaged tiles off stderr."""

import os
import re
import sys
import tempfile
from collections import Counter

import pytest

pytest.importorskip("zarr", minversion="3.0")
for _needed in ("openslide", "tifffile", "imagecodecs", "pydicom"):
    pytest.importorskip(_needed)

COUNTS = Counter()


@pytest.fixture(scope="session")
def counts():
    return COUNTS


@pytest.fixture(autouse=True)
def quiet_libtiff():
    """Take libtiff's lines out of what is written to file descriptor 2; all others go on to it."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            others = [line for line in caught if not re.match(rb"TIFF\w+: ", line)]
            sys.stderr.write(b"".join(others).decode(errors="replace"))


def pytest_terminal_summary(terminalreporter):
    if COUNTS:
        told = ", ".join(f"{kind} {number}" for kind, number in sorted(COUNTS.items()))
        terminalreporter.write_line(f"generated cases: {told}")
