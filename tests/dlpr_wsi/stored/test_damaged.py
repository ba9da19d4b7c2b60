"""Containers whose descriptions are damaged: a store opens without levels or with fewer, soon, and never raises."""

import random
import time

import pytest
from kit_bif import Area, bif
from kit_common import tissue
from kit_mirax import mirax
from kit_scn import scn

from dlpr_wsi.stored.opening import open_store

openslide = pytest.importorskip("openslide")
VENDORS = {"a.scn": "leica", "a.bif": "ventana", "a.mrxs": "mirax"}
AREAS = (Area(0, 0, 3, 2, 64, 0), Area(4, 3, 2, 3, 472, 400))
DIGITS = b"0123456789"


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder, image = tmp_path_factory.mktemp("damaged"), tissue(1100, 800)
    scn(folder / "a.scn", [(301, 123, image[:300, :400]), (900, 700, image[:200, :200])])
    bif(folder / "a.bif", image, AREAS)
    mirax(folder / "a.mrxs", image, photos=(4, 3), divisions=2, places=lambda c, r: (c * 240 + r, r * 180 + c))
    sizes = {}
    for name in VENDORS:
        with openslide.OpenSlide(folder / name) as slide:
            sizes[name] = slide.level_dimensions
    return folder, sizes


def harmed(data, random_, text):
    """Change some bytes: any, digits, or a number that becomes a very large one."""
    out = bytearray(data)
    first, last = text
    for _ in range(random_.choice((1, 1, 2, 4))):
        at = random_.randrange(first, last)
        digits = [index for index in range(first, last) if out[index] in DIGITS]
        kind = random_.randrange(4)
        if kind == 0 or not digits:
            out[at] = random_.randrange(256)
        elif kind == 1:
            out[random_.choice(digits)] = random_.choice(DIGITS)
        elif kind == 2:
            index = random_.choice(digits)
            out[index : index + 1] = b"9" * random_.choice((3, 6, 12))
        else:
            out[at : at + 4] = b"\xff\xff\xff\x7f"
    return bytes(out)


def opened(path, sizes):
    """Open a store and ask for some chunks of each level."""
    store = open_store(path, VENDORS[path.name], sizes[path.name])
    try:
        for level in store.levels.values():
            grid = level.grid()
            for row in range(min(grid.rows, 3)):
                try:
                    level.tile(row, grid.columns // 2)
                except Exception:  # the conversion takes it for a tile that cannot be read
                    continue
        return len(store.levels)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("name", "file", "begin"),
    [
        ("a.scn", "a.scn", b"<?xml"),
        ("a.bif", "a.bif", b"<EncodeInfo"),
        ("a.mrxs", "a/Slidedat.ini", b"[GENERAL]"),
        ("a.mrxs", "a/Index.dat", b"01.02"),
    ],
)
def test_damaged_descriptions(slides, name, file, begin):
    folder, sizes = slides
    genuine = (folder / file).read_bytes()
    first = genuine.index(begin)
    last = genuine.rindex(b"</") if begin.startswith(b"<") else len(genuine)
    assert opened(folder / name, sizes) == 2
    found = set()
    try:
        for seed in range(60):
            (folder / file).write_bytes(harmed(genuine, random.Random(seed), (first, last)))
            start = time.monotonic()
            found.add(opened(folder / name, sizes))
            assert time.monotonic() - start < 5
    finally:
        (folder / file).write_bytes(genuine)
    assert found >= {0, 2}


def test_an_image_of_impossible_size_takes_no_time(slides):
    folder, sizes = slides
    ini = folder / "a" / "Slidedat.ini"
    genuine = ini.read_bytes()
    try:
        ini.write_bytes(genuine.replace(b"DIGITIZER_WIDTH = 128", b"DIGITIZER_WIDTH = 1099511627689"))
        assert opened(folder / "a.mrxs", sizes) == 0
    finally:
        ini.write_bytes(genuine)
