"""What adaptation to a slide brings (docs/decisions/0020): ``python -m dlpr.evaluation.adapt IMAGE... [--shrink N]``.

All images are taken as one slide: cut into chunks, coded as an encoder would; those chunks and planes that the networks
code are the slide's. A part of the chunks, chosen at random, tunes the networks; all are coded again. Sizes are of real
streams; what carries the tuned weights is counted.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import dlpr
from dlpr import bitstream
from dlpr.arrays import Bytes8
from dlpr.config import EncoderOptions
from dlpr.errors import CorruptError
from dlpr.frame import Mode, Stream
from dlpr.layout import to_planes
from dlpr.modes.colour.payload import plane_streams
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.mode import NetworksMode
from dlpr.modes.networks.payload import payload_of
from dlpr.modes.protocol import Chunk
from dlpr.training.adapt import PARTS, AdaptConfig, Sample, adapt, packed, sample_of
from dlpr.training.evaluate import install

U8 = npt.NDArray[np.uint8]
NETWORKS = NetworksMode()
SIDE = 256


@dataclass(frozen=True)
class Coded:
    """What the networks code of one chunk."""

    tile: int
    stream: Stream
    planes: Bytes8

    @property
    def lossy(self) -> bool:
        """It has a lossy layer."""
        return payload_of(self.stream).lossy


def read(path: Path, shrink: int) -> U8:
    """An image, or the level made of it."""
    from PIL import Image

    with Image.open(path) as im:
        rgb = np.asarray(im.convert("RGB"))
    if shrink == 1:
        return rgb
    h, w = (n // shrink * shrink for n in rgb.shape[:2])
    means = rgb[:h, :w].reshape(h // shrink, shrink, w // shrink, shrink, 3).mean((1, 3))
    return np.floor(means + 0.5).astype(np.uint8)


def tiles_of(image: U8) -> list[U8]:
    """Chunks of an image; those narrower than 32 px are left out."""
    h, w = image.shape[:2]
    found = [image[y : y + SIDE, x : x + SIDE] for y in range(0, h, SIDE) for x in range(0, w, SIDE)]
    return [np.ascontiguousarray(t) for t in found if min(t.shape[:2]) >= 32]


def coded_parts(tile: int, image: U8, data: bytes) -> list[Coded]:
    """What the networks code of a chunk."""
    stream = bitstream.parse(data)
    if stream.header.mode is Mode.CODED:
        return [Coded(tile, stream, to_planes(image, stream.header.layout))]
    if stream.header.mode is not Mode.COLOUR:
        return []
    streams = [s for s in plane_streams(stream) if isinstance(s, Stream) and s.header.mode is Mode.CODED]
    out = []
    for s, array in zip(streams, NETWORKS.decode_batch(streams, 1), strict=True):
        if isinstance(array, CorruptError):
            raise array
        out.append(Coded(tile, s, to_planes(array, s.header.layout)))
    return out


def size_of(s: Stream) -> int:
    """Bytes of what the networks wrote."""
    p = payload_of(s)
    return len(p.lossy_part) + len(p.linear_part) + sum(len(lane) for patch in p.lanes for lane in patch)


def sizes(parts: list[Coded], weights_id: bytes | None) -> list[int]:
    """Bytes of all parts with some weights."""
    out = []
    for c in parts:
        options = EncoderOptions(weights_id=weights_id, lossy_layer=c.lossy)
        (stream,) = NETWORKS.encode_batch([Chunk(c.stream.header, c.planes)], options, 1)
        assert stream is not None
        out.append(size_of(stream))
    return out


def main() -> None:
    """Print one line for each kind of adaptation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--shrink", type=int, default=1)
    parser.add_argument("--tau", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.15, help="part of the chunks that is trained on")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    tiles = [t for path in args.images for t in tiles_of(read(path, args.shrink))]
    streams = [dlpr.encode(t, args.tau, threads=1) for t in tiles]
    whole = sum(map(len, streams))
    parts = [c for i, (t, s) in enumerate(zip(tiles, streams, strict=True)) for c in coded_parts(i, t, s)]
    used = sorted({c.tile for c in parts})
    rng = np.random.default_rng(0)
    trained = set(rng.choice(used, max(1, round(args.share * len(used))), replace=False).tolist())
    weights = store.find(store.default_id())
    samples: list[Sample] = [sample_of(c.stream, c.planes, weights) for c in parts if c.tile in trained]
    before = [size_of(c.stream) for c in parts]
    mine = np.array([c.tile in trained for c in parts])
    print(
        f"{len(tiles)} chunks, {whole} bytes; networks {sum(before)} in {len(parts)} images of {len(used)} chunks; "
        f"trained on {len(trained)}"
    )
    for kind in args.parts:
        taus = sorted({s.tau for s in samples})
        tensors = dict(weights.tensors)
        start = time.process_time()
        for tau in taus:
            some = [s for s in samples if s.tau == tau]
            cfg = AdaptConfig(kind, args.steps, lr=args.lr, threads=args.threads)
            now = store.Weights(weights.id, weights.profile, tensors, weights.source)
            tensors = adapt(now, some, cfg)
        seconds = time.process_time() - start
        data = store.dump(weights.profile, tensors)
        sha = hashlib.sha256(data).hexdigest()
        with tempfile.TemporaryDirectory() as folder:
            install(data, sha, Path(folder))
            after = np.array(sizes(parts, bytes.fromhex(sha[:16])))
        old, carried = np.array(before), packed(weights.tensors, tensors)
        on, off = (100 * (after[m].sum() / old[m].sum() - 1) for m in (mine, ~mine))
        total = 100 * (after.sum() - old.sum()) / whole
        print(
            f"{kind:6s} trained {on:+.2f} %, others {off:+.2f} %, all {total:+.2f} %, "
            f"with {carried} bytes of weights {total + 100 * carried / whole:+.2f} %; {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
