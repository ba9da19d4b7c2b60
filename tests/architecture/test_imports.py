"""The import graph of both packages: no circles, and rooms that are entered by their doors only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"dlpr": ROOT / "codecs" / "dlpr", "dlpr_wsi": ROOT / "dlpr_wsi"}
NATIVE = FOLDERS["dlpr"] / "native"
Graph = dict[str, set[str]]

ROOMS = tuple(f"dlpr.modes.{name}" for name in ("constant", "stored", "jpeg", "j2k", "colour", "networks"))
DOORS = {
    "dlpr.modes.constant",
    "dlpr.modes.stored",
    "dlpr.modes.jpeg.mode",
    "dlpr.modes.j2k.mode",
    "dlpr.modes.colour.mode",
    "dlpr.modes.networks.mode",
}
COMMON = {
    f"dlpr.{name}"
    for name in ("arrays", "config", "crc", "device", "errors", "frame", "layout", "modes.protocol", "quantise")
} | {f"dlpr.modes.mixed.{name}" for name in ("arithmetic", "levels", "residual")}
"""What a room may use from outside."""
TOOLS = {
    "dlpr.modes.jpeg.bench",
    "dlpr.modes.j2k.extract",
    "dlpr.modes.jpeg.extract",
    "dlpr.modes.networks.device_check",
    "dlpr.modes.colour.torch_pixels",
}
"""Modules of rooms that no door leads to: they stand above the codec and may call it."""
ALLOWED = [
    (r"dlpr\.modes\.table", r"(" + "|".join(map(re.escape, DOORS)) + ")"),
    (r"dlpr\.bench", r"dlpr\.modes\.jpeg\.bench"),
    # planes are grey chunks of mode coded or mode jpeg
    (r"dlpr\.modes\.colour\..*", r"dlpr\.modes\.networks\.(mode|payload|weights|exact\.(reference|torch_decoder))"),
    (r"dlpr\.modes\.colour\..*", r"dlpr\.modes\.jpeg\.(fields|payload|recover|reference|stream)"),
    (r"dlpr\.training\..*", r"dlpr\.modes\.networks\..*"),  # the networks are what it trains
    # and what mode colour finds is what they are trained on
    (r"dlpr\.training\.(domain|decompose|origins)", r"dlpr\.modes\.colour\.(chroma|find|lattice|payload)"),
    (r"dlpr\.paper\..*", r"dlpr\.modes\.networks\.exact\.rans"),  # the same integer coder
    (r"dlpr\.evaluation\..*", r"dlpr\.modes\.networks\.weights"),
    # a slide's prior is the caller's to keep
    (r"dlpr(\.codec|\.plugins(\..*)?)?", r"dlpr\.modes\.jpeg\.prior"),
    # and so are weights tuned to it
    (r"(dlpr(\.codec|\.plugins(\..*)?|\.evaluation\..*)?|dlpr_wsi\..*)", r"dlpr\.modes\.networks\.tuned"),
    (r"dlpr\.training\.adapt", r"dlpr\.modes\.colour\.payload"),  # what is coded of planes is tuned to
    # slides hold JPEGs: reading, comparing and writing them back
    (r"dlpr_wsi\..*", r"dlpr\.modes\.jpeg\.(extract|fields|image|intervals|parse|prior|rewrite|synthesis|write)"),
    (r"dlpr_wsi\..*", r"dlpr\.modes\.j2k\.(extract|fields|image|parse|stream|synthesis|write)"),
    (r"dlpr_wsi\..*", r"dlpr\.modes\.networks\.weights"),
]
"""Who, beside a room itself, imports what of a room."""


def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST, known: Iterable[str]) -> set[str]:
    """Modules that a module imports, wherever in it: at its top, in functions, for type checkers."""
    out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                out |= {name for name in (inner if inner in known else node.module,) if name in known}
    return out


def import_graph() -> Graph:
    """Each module and what it imports; `from dlpr import _native` is the extension, not the package."""
    known = {**modules(), "dlpr._native": NATIVE}
    return {name: imports(ast.parse(path.read_text()), known) - {name} for name, path in modules().items()}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return import_graph()


def circle(graph: Graph) -> list[str]:
    """The names along a circle; none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def room_of(name: str) -> str | None:
    return next((room for room in ROOMS if name == room or name.startswith(room + ".")), None)


def test_the_graph_is_seen() -> None:
    tree = ast.parse("import a.b\nfrom a import c, d\ndef f():\n    from a.e import g\nif X:\n    import h\n")
    assert imports(tree, {"a", "a.b", "a.c", "a.e", "h"}) == {"a", "a.b", "a.c", "a.e", "h"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_no_circles(graph: Graph) -> None:
    assert len(graph) > 100
    assert not circle(graph), "modules import each other in a circle"


def test_the_codec_does_not_know_slides(graph: Graph) -> None:
    assert not {
        n for n, used in graph.items() if re.match(r"dlpr\b", n) and any(u.startswith("dlpr_wsi") for u in used)
    }


def test_rooms_are_entered_by_their_doors(graph: Graph) -> None:
    wrong = [
        f"{name} imports {u}"
        for name, used in graph.items()
        for u in used
        if room_of(u) not in (None, room_of(name))
        and not any(re.fullmatch(a, name) and re.fullmatch(b, u) for a, b in ALLOWED)
    ]
    assert not wrong, "only the table of modes knows the rooms; state a new edge in ALLOWED if there must be one"


def test_rooms_use_what_is_common(graph: Graph) -> None:
    wrong = [
        f"{name} imports {u}"
        for name, used in graph.items()
        for u in used - COMMON - {"dlpr._native"}
        if room_of(name) is not None
        and name not in TOOLS
        and room_of(u) != room_of(name)
        and not any(re.fullmatch(a, name) and re.fullmatch(b, u) for a, b in ALLOWED)
    ]
    assert not wrong


def test_no_door_leads_to_a_tool(graph: Graph) -> None:
    assert not [f"{name} imports {u}" for name in graph for u in graph[name] & TOOLS if room_of(name) is not None]


def test_only_rooms_know_a_mode() -> None:
    """Numbers of modes are compared with in the frame and the rooms only; `codec.py` names none but a placeholder."""
    pattern = re.compile(r"Mode\.(CODED|JPEG|CONSTANT)|Payload\b")
    for name in ("codec.py", "bitstream.py", "reference.py", "layout.py"):
        text = "\n".join(line for line in (FOLDERS["dlpr"] / name).read_text().splitlines() if ">>>" not in line)
        assert not pattern.search(text), name


def test_decoding_loads_little() -> None:
    code = """
import sys, dlpr
for path in sys.argv[1:]:
    dlpr.decode(open(path, "rb").read())
    dlpr.inspect(open(path, "rb").read())
heavy = ("torch", "zarr", "numcodecs", "tifffile", "scipy", "PIL", "dlpr.training", "dlpr.paper", "dlpr.reference")
print([name for name in sys.modules if name.startswith(heavy) or name.endswith((".reference", ".export"))])
"""
    golden = ROOT / "tests" / "golden" / "v3"
    streams = [str(golden / name / "stream.dlpr") for name in ("constant", "stored", "jpeg-420", "rgb-tau1")]
    done = subprocess.run([sys.executable, "-c", code, *streams], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_native_includes() -> None:
    """No circles among headers; rooms include what is common and themselves."""
    graph: Graph = {}
    for path in [*NATIVE.rglob("*.hpp"), *NATIVE.rglob("*.cpp"), *NATIVE.rglob("*.inl")]:
        used = set(re.findall(r'#include "([^"]+)"', path.read_text()))
        name = path.relative_to(NATIVE).as_posix()
        assert all((NATIVE / u).is_file() for u in used), name
        graph[name] = used
        folder = name.split("/")[0]
        if folder != "bindings":
            assert {u.split("/")[0] for u in used} <= {folder, "common", "mixed"}, name
    assert len(graph) > 30
    assert not circle(graph)
