"""The check of a device runs, and can say no."""

import pytest

torch = pytest.importorskip("torch")

import dlpr  # noqa: E402
from dlpr.modes.networks import device_check  # noqa: E402

SMALL = ["--device", "cpu", "--count", "1", "--side", "9", "--tile", "8", "--batches", "1", "--seconds", "0.1"]


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(device_check, "TAUS", (1,))
    monkeypatch.setattr(device_check, "OPTIONS", device_check.OPTIONS[:1])
    monkeypatch.setattr(device_check, "speed", lambda work, *_: float(bool(work())))


def test_a_good_device(capsys):
    assert device_check.main(SMALL) == 0
    out = capsys.readouterr().out
    assert "2 decodes on cpu, 0 wrong" in out
    assert "| 1 | 1.000 | 1.000 | 1.000 | - |" in out


def test_a_device_with_wrong_pixels(monkeypatch, capsys):
    plain = dlpr.decode_batch

    def wrong(streams, **options):
        images = plain(streams, **options)
        if options.get("device"):
            images[0][0, 0] ^= 1
        return images

    monkeypatch.setattr(dlpr, "decode_batch", wrong)
    assert device_check.main(SMALL) == 1
    assert "2 wrong" in capsys.readouterr().out


def test_no_such_device(capsys):
    assert device_check.main(["--device", "gpus"]) == 1
    assert "not one that torch knows" in capsys.readouterr().err


def test_images_of_a_folder(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(device_check.images(1, 12)[0]).save(tmp_path / "a.png")
    assert device_check.main(["--device", "cpu", "--images", str(tmp_path), "--crop", "9"]) == 0
    out = capsys.readouterr().out
    assert "1.000000 x the native encoder's" in out
    assert "1 of 1 streams are the same, 0 wrong" in out
    assert device_check.main(["--device", "cpu", "--images", str(tmp_path / "none")]) == 1
