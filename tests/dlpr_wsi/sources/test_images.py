"""Plain images: depth by header, orientation, transparency, and what is refused."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from dlpr_wsi.errors import SourceError
from dlpr_wsi.sources import Selection
from dlpr_wsi.sources.header import jpeg_header, parse_header
from dlpr_wsi.sources.opening import open_source


def saved(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize("suffix", [".png", ".tif", ""])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "WEBP", "JPEG2000", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_by_content_not_by_suffix(tmp_path, rgb, kind, suffix, mode):
    options = {"WEBP": {"lossless": True}, "JPEG2000": {"irreversible": False}}.get(kind, {})
    data = saved(Image.fromarray(rgb).convert(mode), kind, **options)
    (tmp_path / f"a{suffix}").write_bytes(data)
    source = open_source(tmp_path / f"a{suffix}")
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(source.read(0, 0, 210, 150), wanted)
    assert source.facts.reader.startswith("Pillow")
    assert source.facts.levels[0].width == 210
    source.close()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_spread_over_0_to_255(tmp_path, bits):
    levels = np.arange(2**bits, dtype=np.uint8).repeat(8).reshape(1, -1).repeat(5, 0)
    image = Image.fromarray(levels * np.uint8(255 // (2**bits - 1)))
    data = saved(
        image.convert("1") if bits == 1 else image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", bits=bits
    )
    (tmp_path / "a.png").write_bytes(data)
    assert parse_header(data).bits <= bits
    source = open_source(tmp_path / "a.png")
    np.testing.assert_array_equal(source.read(0, 0, 2**bits * 8, 5)[..., 0], levels * (255 // (2**bits - 1)))
    source.close()


@pytest.mark.parametrize("kind", ["png", "jp2", "ppm", "pgm100", "jpeg12", "pfm", "pam"])
def test_other_depths_are_refused(tmp_path, rgb, kind):
    wide = rgb.astype(np.uint16) * 257
    twelve = (wide >> 4).astype(np.uint16)
    data = {
        "png": lambda: imagecodecs.png_encode(wide),
        "jp2": lambda: imagecodecs.jpeg2k_encode(twelve, level=0, bitspersample=12),
        "ppm": lambda: b"P6 # a comment\n210 150 65535\n" + wide.astype(">u2").tobytes(),
        "pgm100": lambda: b"P5 210 150 100\n" + (rgb[..., 0] % 101).tobytes(),
        "jpeg12": lambda: imagecodecs.jpeg8_encode(twelve, bitspersample=12),
        "pfm": lambda: b"PF\n210 150\n-1.0\n" + rgb.astype("<f4").tobytes(),
        "pam": lambda: b"P7\nWIDTH 210\nHEIGHT 150\nDEPTH 3\nMAXVAL 4095\nENDHDR\n" + twelve.tobytes(),
    }[kind]()
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(SourceError, match=r"bits a sample|floating point|end at 100"):
        open_source(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, rgb, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    (tmp_path / "a").write_bytes(saved(Image.fromarray(rgb), kind, exif=exif, **options))
    with Image.open(tmp_path / "a") as image:
        stored = np.asarray(image)
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored.transpose(1, 0, 2)[:, ::-1],
        7: stored.transpose(1, 0, 2)[::-1, ::-1],
        8: stored.transpose(1, 0, 2)[::-1],
    }[orientation]
    source = open_source(tmp_path / "a")
    np.testing.assert_array_equal(source.read(0, 0, turned.shape[1], turned.shape[0]), turned)
    assert ("turned upright as its orientation tag says" in source.facts.notes) == (orientation != 1)
    source.close()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white_and_said(tmp_path, kit, rgb, mode):
    image = Image.fromarray(rgb).convert("RGBA")
    image.putalpha(Image.fromarray(rgb[..., 1]))
    if mode == "P":
        image = Image.fromarray(rgb).convert("P")
        image.info["transparency"] = 7
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as stored:
        wanted = kit.on_white(stored)
    source = open_source(tmp_path / "a.png")
    np.testing.assert_array_equal(source.read(0, 0, 210, 150), wanted)
    assert any("laid on white" in note for note in source.facts.notes)
    source.close()


def test_cmyk_and_animation_are_refused(tmp_path, rgb):
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(SourceError, match="CMYK"):
        open_source(tmp_path / "a.jpg")
    frames = [Image.fromarray(rgb), Image.fromarray(rgb[::-1])]
    for kind in ("PNG", "WEBP"):
        frames[0].save(tmp_path / "a.x", kind, save_all=True, append_images=frames[1:])
        with pytest.raises(SourceError, match="several pictures"):
            open_source(tmp_path / "a.x")


def test_selection_of_one_picture(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    open_source(tmp_path / "a.png", Selection(image=0, page=0)).close()
    with pytest.raises(SourceError, match="--page 1 is not there"):
        open_source(tmp_path / "a.png", Selection(page=1))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "WEBP", "JPEG2000", "JPEG"])
def test_cut_off_headers(tmp_path, rgb, kind):
    data = saved(Image.fromarray(rgb), kind)
    for size in (2, 4, 8, 12, 20, 30, 60, 200, len(data) // 2):
        (tmp_path / "a.png").write_bytes(data[:size])
        with pytest.raises(SourceError, match=r"a\.png"):
            open_source(tmp_path / "a.png").close()


def test_markers_of_jpeg(kit, rgb):
    assert jpeg_header(kit.jpeg_ycc(rgb)).ycbcr is True
    kept = imagecodecs.jpeg8_encode(rgb, colorspace="RGB", outcolorspace="RGB")
    assert jpeg_header(kept).ycbcr is False
    assert jpeg_header(b"\xff\xd8\xff\xd9") is None
