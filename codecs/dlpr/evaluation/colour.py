"""What the colour layer brings (docs/decisions/0013-colour-layer.md): ``python -m dlpr.evaluation.colour DATA``.

DATA holds ``dev/`` (a sub-folder for each source) and ``kodak/``. Every stream is decoded and compared. JPEG XL's sizes
are kept in a file (``--cache``), for effort 9 is slow.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import dlpr

U8 = npt.NDArray[np.uint8]
SIDE = 256
QUALITIES = (98, 99, 100)
SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
RECOMPRESSED = ("bm_graz", "midog21_ami_br", "mitkovetta", "monuseg")
"""Sources whose images are not from JPEGs of strong compression: they are compressed anew, at high quality."""


@dataclass(frozen=True)
class Row:
    """Sizes of one image in bits/px."""

    group: str
    mode: str
    jpegxl: float
    """JPEG XL, effort 9; with a bound the networks on pixels."""
    pixels: float
    """The networks on red, green, blue."""
    ours: float


class JpegXl:
    """Sizes of JPEG XL, effort 9, remembered in a file."""

    def __init__(self, path: Path) -> None:
        """Read what is known."""
        self.path = path
        self.known: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}

    def size(self, image: U8) -> int:
        """Bytes of an image."""
        import imagecodecs as ic

        key = hashlib.sha1(image.tobytes() + str(image.shape).encode()).hexdigest()
        if key not in self.known:
            self.known[key] = len(ic.jpegxl_encode(image, lossless=True, effort=9))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.known))
        return self.known[key]


def read(path: Path | io.BytesIO) -> U8:
    """An image's red, green, blue."""
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


def tile(image: U8, row: int, column: int) -> U8:
    """A tile of 256 px, or what there is of it."""
    return np.ascontiguousarray(image[row : row + SIDE, column : column + SIDE])


def images(folder: Path, most: int | None = None) -> list[Path]:
    """The first images of a folder."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff"))[:most]


def cases(data: Path, per_source: int) -> Iterator[tuple[str, U8]]:
    """Groups of the decision's table, and their images."""
    from PIL import Image

    dev = data / "dev"
    for source in RECOMPRESSED:
        for path in images(dev / source, per_source):
            original = Image.fromarray(read(path))
            row, column = (101, 131) if min(original.size) > SIDE + 131 else (3, 5)  # off the grid of blocks
            for quality in QUALITIES:
                for name, subsampling in SAMPLINGS.items():
                    out = io.BytesIO()
                    original.save(out, "JPEG", quality=quality, subsampling=subsampling)
                    yield f"quality 98 to 100, {name}", tile(read(io.BytesIO(out.getvalue())), row, column)
    for path in images(dev / "deepliif"):
        yield "deepliif", tile(read(path), 0, 0)
    for path in images(dev / "skimage_ihc"):
        image = read(path)
        for row in (0, 256):
            for column in (0, 256):
                yield "skimage_ihc", tile(image, row, column)
    for path in images(dev / "mitkovetta"):
        image = read(path)
        for k in range(4):
            yield "mitkovetta", tile(image, 256 * k, 256 * k)
    for path in images(dev / "kather5000"):
        yield "kather5000", read(path)
    for path in images(data / "kodak"):
        yield "kodak", read(path)


def measure(group: str, image: U8, jpegxl: JpegXl, tau: int = 0) -> Row:
    """Code an image by every way; with a bound without mode jpeg, and JPEG XL is not tried."""
    bits = 8 / (image.shape[0] * image.shape[1])
    ours = dlpr.encode(image, tau, jpeg="never" if tau else "auto")
    if np.abs(dlpr.decode(ours).astype(np.int16) - image).max() > tau:
        raise SystemExit(f"{group}: decoded pixels differ")
    pixels = dlpr.encode(image, tau, jpeg="never", colour="never")
    mode = dlpr.inspect(ours).mode
    rival = len(pixels) if tau else jpegxl.size(image)
    return Row(group, mode, bits * rival, bits * len(pixels), bits * len(ours))


def main() -> None:
    """Print a line for each group, and milliseconds of the search where it finds nothing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="folder with dev/ and kodak/")
    parser.add_argument("--cache", type=Path, default=Path("runs/jpegxl-e9.json"), help="JPEG XL's sizes")
    parser.add_argument("--per-source", type=int, default=2, help="images compressed anew of each source")
    parser.add_argument("--tau", type=int, default=0, help="bound; beside the networks on pixels instead of JPEG XL")
    parser.add_argument("--only", default="", help="groups whose name begins with this")
    args = parser.parse_args()
    jpegxl = JpegXl(args.cache)
    rows: dict[str, list[Row]] = {}
    for group, image in cases(args.data, args.per_source):
        if group.startswith(args.only):
            rows.setdefault(group, []).append(measure(group, image, jpegxl, args.tau))
    rival = "networks" if args.tau else "JPEG XL e9"
    print(f"group | images | mode jpeg | {rival} | networks on RGB | as chosen | x {rival} (not mode jpeg)")
    for group, members in rows.items():
        free = [r for r in members if r.mode != "jpeg"]
        mean = [float(np.mean([getattr(r, k) for r in members])) for k in ("jpegxl", "pixels", "ours")]
        share = [r.ours / r.jpegxl for r in free]
        ratio = f"{np.mean(share):.3f} (largest {max(share):.3f})" if free else "-"
        print(
            f"{group} | {len(members)} | {len(members) - len(free)} | "
            f"{mean[0]:.3f} | {mean[1]:.3f} | {mean[2]:.3f} | {ratio}"
        )
    everything = [r.ours / r.jpegxl for g, m in rows.items() if g.startswith("quality") for r in m if r.mode != "jpeg"]
    if everything:
        print(f"quality 98 to 100, all | {len(everything)} not mode jpeg | x {rival} {np.mean(everything):.3f}")
    if not args.tau:
        _search_time(args.data)


def _search_time(data: Path) -> None:
    """Time the search on tiles that lie on no lattice, beside the encoder."""
    tiles = [tile(read(p), 0, 0) for p in images(data / "dev" / "monuseg", 4)]
    for t in tiles:
        dlpr.encode(t, jpeg="never", threads=1)
    seconds = {}
    for colour in ("never", "auto"):
        best = []
        for _ in range(5):
            start = time.process_time()
            for t in tiles:
                dlpr.encode(t, jpeg="never", colour=colour, threads=1)
            best.append((time.process_time() - start) / len(tiles))
        seconds[colour] = min(best)
    print(
        f"off the lattice, one core: {1e3 * seconds['never']:.1f} ms without the search, "
        f"{1e3 * seconds['auto']:.1f} with it"
    )


if __name__ == "__main__":
    main()
