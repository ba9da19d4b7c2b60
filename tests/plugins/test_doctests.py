"""The examples in docstrings are true: of every module that has some."""

import ast
import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"dlpr": ROOT / "codecs" / "dlpr", "dlpr_wsi": ROOT / "dlpr_wsi"}


def with_examples():
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            tree = ast.parse(file.read_text("utf-8"))
            places = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
            if any(">>> " in (ast.get_docstring(node) or "") for node in places):
                parts = file.relative_to(folder).with_suffix("").parts
                yield ".".join((package, *(part for part in parts if part != "__init__")))


MODULES = list(with_examples())


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    try:
        module = import_module(name)
    except ImportError as error:  # an extra that is not installed
        pytest.skip(str(error))
    failed, attempted = doctest.testmod(module)
    assert attempted > 0 or "+SKIP" in (module.__doc__ or "")
    assert failed == 0


def test_there_are_examples():
    assert len(MODULES) > 20
