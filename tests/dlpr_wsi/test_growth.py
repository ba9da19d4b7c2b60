"""Archives that would be larger than their slide: foreseen, said first, and with --no-growth not made."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlpr_wsi.cli import main
from dlpr_wsi.errors import GrowthError
from dlpr_wsi.pipeline import growth
from dlpr_wsi.pipeline.convert import ConvertOptions, convert, preview
from dlpr_wsi.pipeline.estimate import _spread
from dlpr_wsi.pipeline.execute import LocalExecutor
from dlpr_wsi.pipeline.plan import Pyramid, SourceTiles
from dlpr_wsi.sources.opening import open_archive

EXAMPLE = Path(__file__).parents[2] / "examples" / "CMU-1-Small-Region.svs"
PIXELS = ConvertOptions(source_tiles=SourceTiles.NEVER, tile=64)


@pytest.fixture(scope="module")
def webp(tmp_path_factory):
    """A picture that an archive of its pixels outgrows: lossy, and no JPEG that could be found."""
    noise = np.random.default_rng(5).integers(0, 256, (12, 15, 3), np.uint8)
    image = Image.fromarray(noise).resize((180, 120), Image.Resampling.BICUBIC)
    path = tmp_path_factory.mktemp("growth") / "lossy.webp"
    image.save(path, quality=30)
    return path


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def no_task(*_):
    raise AssertionError("a task was run")


class NoTasks(LocalExecutor):
    """Fails at the first task."""

    def run(self, function, job, tasks):
        return super().run(no_task, job, tasks)


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_refused_before_the_first_tile(tmp_path, webp, name):
    with pytest.raises(
        GrowthError, match=r"lossy.webp: the archive would take about .* nothing was converted; --tau 1"
    ):
        convert(webp, tmp_path / name, options=PIXELS, no_growth=True, executor=NoTasks(1))
    assert left(tmp_path) == []


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_what_the_estimate_did_not_see_is_taken_away(tmp_path, webp, name, monkeypatch):
    """The estimate lets it pass: the work stops once the chunks are larger than the slide."""
    monkeypatch.setattr(growth.Limit, "foresee", lambda self, guess: None)
    with pytest.raises(GrowthError, match="what was written has been removed"):
        convert(webp, tmp_path / name, options=PIXELS, no_growth=True, threads=1)
    assert left(tmp_path) == []


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_the_finished_archive_counts_whole(tmp_path, webp, name, monkeypatch):
    """Neither the estimate nor the chunks stop it: the archive does not take its name, one that it replaces stays."""
    monkeypatch.setattr(growth.Limit, "foresee", lambda self, guess: None)
    monkeypatch.setattr(growth.Limit, "add", growth.Limit._count)
    convert(webp, tmp_path / name, options=ConvertOptions(tau=9, tile=64), threads=1)
    before = open_archive(tmp_path / name).facts["tau"]
    with pytest.raises(GrowthError, match="what was written has been removed"):
        convert(webp, tmp_path / name, options=PIXELS, no_growth=True, threads=1, overwrite=True)
    assert left(tmp_path) == [name]
    assert open_archive(tmp_path / name).facts["tau"] == before == 9


def test_what_shrinks_is_converted(tmp_path, plain_slide):
    report = convert(plain_slide, tmp_path / "a.zarr", tile=64, no_growth=True, threads=1)
    assert not report.grew
    assert convert(plain_slide, tmp_path / "a.zarr", tile=64, no_growth=True).already


def test_work_of_an_earlier_run_stays_where_the_estimate_refuses(tmp_path, webp):
    class Interrupted(LocalExecutor):
        def run(self, function, job, tasks):
            yield next(iter(super().run(function, job, tasks)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(webp, tmp_path / "a.zarr", options=PIXELS, executor=Interrupted(1))
    with pytest.raises(GrowthError):
        convert(webp, tmp_path / "a.zarr", options=PIXELS, no_growth=True, threads=1)
    assert left(tmp_path) == [".a.zarr.partial"]
    assert convert(webp, tmp_path / "a.zarr", options=PIXELS, threads=1).resumed == 1
    with pytest.raises(GrowthError, match="was there already"):
        convert(webp, tmp_path / "a.zarr", options=PIXELS, no_growth=True, threads=1)
    assert left(tmp_path) == ["a.zarr"]


def test_levels_made_here_are_named_where_they_are_the_reason(tmp_path, webp):
    options = ConvertOptions(tau=9, tile=64, pyramid=Pyramid.ALWAYS, made_tau=0)
    with pytest.raises(GrowthError, match=r"--pyramid never leaves out the levels made here, [0-9]+ % of it"):
        convert(webp, tmp_path / "a.zarr", options=options, no_growth=True, threads=1)


def test_the_command(tmp_path, webp, plain_slide, capsys):
    args = ["--tile", "64", "--threads", "1"]
    assert main(["convert", str(webp), str(tmp_path / "a.zarr"), "--no-growth", *args]) == 1
    error = capsys.readouterr().err
    assert "warning       the archive will be larger than the slide, about " in error
    assert "error: lossy.webp: the archive would take about" in error
    assert left(tmp_path) == []
    assert main(["convert", str(webp), "--dry-run", *args]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("warning       the archive will be larger")
    assert main(["convert", str(webp), str(tmp_path / "a.zarr"), *args]) == 0
    assert capsys.readouterr().out.startswith("warning       the archive is ")

    slides, out = [str(webp), str(plain_slide)], str(tmp_path / "out")
    assert main(["convert", *slides, "--out", out, "--no-growth", *args]) == 1
    table = capsys.readouterr().out.splitlines()
    assert "FAILED: lossy.webp: the archive would take" in table[1]
    assert table[2].endswith("ok")
    assert left(tmp_path / "out") == ["plain.zarr"]
    assert main(["convert", *slides, "--out", out, *args]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "warning: 1 of 2 archives are larger than their slides, marked below"
    assert table[2].endswith("LARGER THAN THE SLIDE")
    assert table[3].endswith("ok, there already")
    assert main(["convert", *slides, "--out", out, "--json", *args]) == 0
    assert [row["grew"] for row in json.loads(capsys.readouterr().out)] == [True, False]


@pytest.mark.parametrize("pyramid", [Pyramid.NEVER, Pyramid.ALWAYS])
def test_the_estimate_of_a_real_slide(tmp_path, real_slide, svs, pyramid):
    slide = svs if pyramid is Pyramid.NEVER else real_slide
    options = ConvertOptions(pyramid=pyramid, tile=64)
    guess = preview(slide, options, threads=1).estimate
    size = convert(slide, tmp_path / "a.zarr", options=options, threads=1).archive_bytes
    assert guess.margin > 0
    assert abs(guess.archive_bytes - size) <= max(2 * guess.margin, 0.15 * size)
    assert guess.least <= guess.archive_bytes


@pytest.mark.parametrize(("rows", "columns", "count"), [(6, 5, 6), (1, 40, 6), (300, 200, 48), (7, 7, 48), (3, 1, 3)])
def test_a_sample_is_spread_over_rows_and_columns(rows, columns, count):
    places = _spread(rows, columns, count)
    assert len(set(places)) == count
    assert all(0 <= row < rows and 0 <= column < columns for row, column in places)
    for axis, size in enumerate((rows, columns)):
        halves = [2 * place[axis] >= size for place in places]
        assert size == 1 or 0.3 * count <= sum(halves) <= 0.7 * count


def test_the_estimate_of_kept_tiles(tmp_path):
    """By the bytes in the file: 16 of 130 tiles tell the size of all within a few per cent."""
    guess = preview(EXAMPLE, threads=1).estimate
    assert guess.tiles == 16
    assert abs(guess.archive_bytes - 770_113) <= 0.03 * 770_113
    assert guess.margin <= 0.1 * guess.archive_bytes
