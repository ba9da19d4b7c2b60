"""The codestreams in streams/, made with OpenJPEG's opj_compress 2.5.0 (Debian: libopenjp2-tools).

python tests/dlpr/modes/j2k/make_streams.py

imagecodecs offers few of the encoder's options, so the files are kept. An existing file is never written over.
Names that begin with grok are by Grok 10.0.5 (Debian: libgrokj2k1), those with ffmpeg by the encoder of FFmpeg that is
its own (PyAV 19.0.2, ``pip install av``): other writers of the same format.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

STREAMS = Path(__file__).parent / "streams"

LOSSY = ["-I", "-r", "9"]
LAYERS = ["-r", "60,30,15,9"]
CASES = {
    "lossless": ["-n", "4"],
    "layers": LAYERS,
    "layers-9-7": ["-I", *LAYERS],
    "lrcp": ["-p", "LRCP", *LAYERS],
    "rlcp": ["-p", "RLCP", *LAYERS],
    "rpcl": ["-p", "RPCL", "-c", "[64,64],[32,32]", *LAYERS],
    "pcrl": ["-p", "PCRL", "-c", "[32,64]", *LAYERS],
    "cprl": ["-p", "CPRL", "-c", "[64,32],[32,32],[16,16]", *LAYERS],
    "small-precincts": ["-c", "[16,16],[8,8],[4,4]", "-n", "4", *LOSSY],
    "small-blocks": ["-b", "4,4", *LOSSY],
    "wide-blocks": ["-b", "256,16", *LOSSY],
    "sop-eph": ["-SOP", "-EPH", *LAYERS],
    "parts-by-resolution": ["-TP", "R", *LOSSY],
    "parts-by-layer": ["-TP", "L", *LAYERS],
    "parts-by-component": ["-TP", "C", "-p", "CPRL", *LOSSY],
    "tiles": ["-t", "37,41", "-n", "3", *LOSSY],
    "tiles-off-grid": ["-t", "37,41", "-T", "3,5", "-d", "10,21", "-n", "3", *LAYERS],
    "tiles-parts-rpcl": ["-t", "64,64", "-TP", "R", "-p", "RPCL", "-c", "[32,32]", *LOSSY],
    "off-grid": ["-d", "13,7", *LOSSY],
    "off-grid-5-3": ["-d", "1,1", "-n", "3", "-r", "8"],
    "poc": ["-n", "6", "-r", "9", "-POC", "T1=0,0,1,3,3,LRCP/T1=3,0,1,6,3,RLCP"],
    "poc-left-out": ["-r", "20,9", "-POC", "T1=0,0,1,6,3,RPCL/T1=0,0,2,6,3,CPRL"],  # the second layer is not there
    "bypass": ["-M", "1", "-n", "3"],
    "bypass-layers": ["-M", "1", "-r", "20,8,2"],
    "reset": ["-M", "2", *LOSSY],
    "terminate-all": ["-M", "4", *LAYERS],
    "bypass-terminate-all": ["-M", "5", "-n", "3"],
    "causal": ["-M", "8", *LAYERS],
    "predictable-termination": ["-M", "16", *LOSSY],
    "segmentation-symbols": ["-M", "32", *LOSSY],
    "all-styles": ["-M", "63", "-n", "4"],
    "all-styles-layers": ["-M", "63", "-I", *LAYERS],
    "no-transform": ["-mct", "0", *LOSSY],
    "guard": ["-GB", "5", *LOSSY],
    "one-resolution": ["-n", "1", *LOSSY],
    "seven-resolutions": ["-n", "7", *LOSSY],
    "lengths": ["-PLT", "-TLM", *LOSSY],
    "region-of-interest": ["-ROI", "c=0,U=3", *LOSSY],
}

GROK = {
    "lossy": ["-I", "-r", "9"],
    "layers": ["-I", "-r", "80,40,20,9", "-p", "RPCL", "-c", "[64,64],[32,32]", "-S", "-E"],
    "causal": ["-M", "8", "-r", "30,9"],
    "parts": ["-u", "R", "-b", "32,32", "-X", "-r", "9"],
}
FFMPEG = {
    "9-7": {},
    "5-3-layers": {"pred": "dwt53", "layer_rates": "60,30,15,8", "prog": "rpcl", "sop": "1", "eph": "1"},
    "9-7-tiles": {"tile_width": "48", "tile_height": "64", "prog": "cprl", "layer_rates": "40,20"},
}


def picture() -> np.ndarray:
    """Waves, an edge and some noise, uint8 [88, 107, 3]."""
    rng = np.random.default_rng(15)
    y, x = np.mgrid[:88, :107]
    waves = np.stack([170 + 60 * np.sin(x / s) * np.cos(y / 9) for s in (6, 8, 11)], axis=-1)
    waves[20:50, 60:90] -= 80
    return np.clip(waves + rng.normal(0, 5, waves.shape), 0, 255).astype(np.uint8)


def compress(source: Path, target: Path, *options: str, program: str = "opj_compress") -> None:
    """Run opj_compress, or another program of the same options."""
    if not target.exists():
        command = [program, "-i", str(source), "-o", str(target), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not target.exists():
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def by_ffmpeg(image: np.ndarray, target: Path, options: dict[str, str]) -> None:
    """Run FFmpeg's own encoder."""
    if target.exists():
        return
    import av

    context = av.CodecContext.create("jpeg2000", "w")
    context.height, context.width, context.pix_fmt = *image.shape[:2], "rgb24"
    context.time_base = Fraction(1, 25)
    context.options = {"format": "j2k", **options}
    packets = [*context.encode(av.VideoFrame.from_ndarray(image, format="rgb24")), *context.encode(None)]
    target.write_bytes(b"".join(bytes(packet) for packet in packets))


def main() -> int:
    """Make what is missing."""
    STREAMS.mkdir(exist_ok=True)
    image = picture()
    with tempfile.TemporaryDirectory() as folder:
        colour, grey, raw = (Path(folder) / name for name in ("a.ppm", "a.pgm", "a.raw"))
        colour.write_bytes(b"P6\n107 88\n255\n" + image.tobytes())
        grey.write_bytes(b"P5\n107 88\n255\n" + image[..., 0].tobytes())
        for name, options in CASES.items():
            compress(colour, STREAMS / f"{name}.j2k", *options)
        for name, options in GROK.items():
            compress(colour, STREAMS / f"grok-{name}.j2k", *options, program="grk_compress")
        for name, own in FFMPEG.items():
            by_ffmpeg(image, STREAMS / f"ffmpeg-{name}.j2k", own)
        compress(colour, STREAMS / "file.jp2", *LOSSY)
        compress(grey, STREAMS / "grey.j2k", *LAYERS)
        for name, v, h in (("half-rows-columns", 2, 2), ("half-columns", 1, 2)):
            raw.write_bytes(image[..., 0].tobytes() + image[::v, ::h, 1].tobytes() + image[::v, ::h, 2].tobytes())
            sampling = f"107,88,3,8,u@1x1:{h}x{v}:{h}x{v}"
            compress(raw, STREAMS / f"{name}.j2k", "-F", sampling, "-mct", "0", "-n", "4", *LOSSY)
            compress(raw, STREAMS / f"{name}-5-3.j2k", "-F", sampling, "-mct", "0", "-n", "4", "-r", "4")
        for height, width in ((1, 1), (5, 3), (1, 40), (40, 1)):
            colour.write_bytes(f"P6\n{width} {height}\n255\n".encode() + image[:height, :width].tobytes())
            size = f"{height}x{width}"
            compress(colour, STREAMS / f"size-{size}.j2k", "-n", "1")
            compress(colour, STREAMS / f"size-{size}-odd.j2k", "-n", "2", "-d", "3,5", "-I")
            compress(colour, STREAMS / f"size-{size}-odd-5-3.j2k", "-n", "2", "-d", "3,5")
    return 0


if __name__ == "__main__":
    sys.exit(main())
