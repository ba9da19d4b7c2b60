"""The examples in docstrings are true."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("name", "requirement"),
    [
        ("dlpr", "numpy"),
        ("dlpr.codec", "numpy"),
        ("dlpr.layout", "numpy"),
        ("dlpr.modes.jpeg.image", "numpy"),
        ("dlpr.modes.jpeg.parse", "numpy"),
        ("dlpr.modes.jpeg.synthesis", "numpy"),
        ("dlpr.modes.jpeg.tables", "numpy"),
        ("dlpr.quantise", "numpy"),
        ("dlpr.plugins", "numpy"),
        ("dlpr.modes.jpeg.write", "numpy"),
        ("dlpr.plugins.numcodecs", "numcodecs"),
        ("dlpr.plugins.zarr", "zarr.abc.codec"),
        ("dlpr_wsi.sources.codec", "numpy"),
    ],
)
def test_docstrings(name, requirement):
    pytest.importorskip(requirement)
    failed, attempted = doctest.testmod(import_module(name))
    assert attempted > 0
    assert failed == 0
