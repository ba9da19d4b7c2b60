"""Where the networks' bits go on images: ``python -m dlpr.training.decompose WEIGHTS.dlpw DEV``.

Tiles are encoded without JPEG and without lossy layer; real bytes give header, coefficients and lanes. Float networks
rebuilt from the weights give the bits of every sample, by what is coded (`dlpr.training.domain`), channel, activity and
row, and what they would be with what a decoder could learn on the way (all from the rows before only):

* *scale*: the best of five factors on all scales, in 8 contexts of activity for each channel;
* *bias*: the mean error so far, in the same contexts;
* *two experts*: the best and the second bank entry mixed, weights by context.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import dlpr
from dlpr import _native, bitstream
from dlpr.layout import CODING_ORDER
from dlpr.modes.colour.find import find_batch
from dlpr.modes.colour.payload import ColourPayload, joint_image
from dlpr.modes.networks import weights as store
from dlpr.modes.networks.model.residual import ResidualCompressor
from dlpr.modes.networks.payload import CodedPayload
from dlpr.training.batches import LOG_TABLE, OPEN
from dlpr.training.data import U8, Block, sample_tiles
from dlpr.training.domain import CHROMA, JOINT, LUMA, RGB, coded_block
from dlpr.training.likelihood import sample_bits
from dlpr.training.rebuild import rebuild

F64 = npt.NDArray[np.float64]
SCALES = (-0.3, -0.15, 0.0, 0.15, 0.3)
CONTEXTS = 8
FIRST_ROWS = 3


@dataclass(frozen=True)
class Coded:
    """One image of samples as the networks coded it; sizes in bytes."""

    block: Block
    entry: int
    interval: int
    lanes: int
    linear: int


def coded_images(rgb: U8, weights_id: bytes) -> tuple[list[Coded], int]:
    """What the networks code of a tile, and the bytes of everything else in its stream."""
    data = dlpr.encode(rgb, jpeg="never", lossy_layer=False, weights_id=weights_id, threads=1)
    payload = bitstream.parse(data).payload
    parts: list[tuple[U8, str, object]] = []
    if isinstance(payload, CodedPayload):
        parts = [(np.ascontiguousarray(rgb[..., list(CODING_ORDER)]), RGB, payload)]
    elif isinstance(payload, ColourPayload):
        (found,) = find_batch([np.ascontiguousarray(rgb)])
        assert found is not None
        if payload.joint:
            parts = [(joint_image(found.planes), JOINT, payload.planes[0])]
        else:
            kinds = (LUMA, CHROMA, CHROMA)
            parts = [(a[..., None], k, p) for a, k, p in zip(found.planes, kinds, payload.planes, strict=True)]
    out = []
    for x, kind, p in parts:
        if isinstance(p, CodedPayload):
            lanes = sum(len(lane) for patch in p.lanes for lane in patch)
            block = coded_block(np.ascontiguousarray(x), kind)
            out.append(Coded(block, p.bank_entry, p.interval, lanes, len(p.linear_part)))
    return out, len(data) - sum(c.lanes + c.linear for c in out)


class Samples:
    """Features of every pixel of a block, and the bits of its samples under the network."""

    def __init__(self, net: ResidualCompressor, block: Block) -> None:
        """Take the features."""
        h, w = block.x.shape[:2]
        self.net, self.block, self.shape = net, block, (h, w)
        where = np.indices((h, w), np.int32).reshape(2, -1).T.copy()
        x, pred = (np.ascontiguousarray(a) for a in (block.x, block.pred))
        causal, _ = _native.block_features(x, pred, block.base, LOG_TABLE, where)
        features = np.zeros((h * w, 148), np.float32)
        features[:, : causal.shape[1]] = causal / 64
        self.features = torch.from_numpy(features)
        self.position = torch.from_numpy((where[:, 0] % 8 * 8 + where[:, 1] % 8).astype(np.int64))
        value, p = x.reshape(-1, 3).astype(np.float32), pred.reshape(-1, 3).astype(np.float32) / 16
        self.e = torch.from_numpy(value - p)
        self.lower = torch.from_numpy(np.where(value == 0, -OPEN, value - 0.5).astype(np.float32) - p)
        self.upper = torch.from_numpy(np.where(value == 255, OPEN, value + 0.5).astype(np.float32) - p)
        near = np.abs(causal[:, 66 : 66 + 5 * 6].reshape(-1, 5, 6)[..., :3].astype(np.int32)).sum(1)
        order = np.argsort(np.argsort(near, 0, kind="stable"), 0)
        self.context = order * CONTEXTS // len(order)
        """Activity of the residuals around each sample [n,3], in equal parts of the image."""

    def params(self, entry: int) -> torch.Tensor:
        """Mixture parameters [n,75] under a bank entry."""
        with torch.no_grad():
            first = self.features @ self.net.masked.weight.T + self.net.position.view(64, -1)[self.position]
            out: torch.Tensor = self.net(first[None], torch.tensor([entry]))[0]
        return out

    def bits(self, params: torch.Tensor, scale: float = 0.0, shift: torch.Tensor | None = None) -> F64:
        """Bits [h,w,channels]; ``scale`` is added to all log-scales, ``shift`` [n,3] to all means (levels)."""
        changed = params
        if scale:
            changed = params.clone()
            changed[:, 15:30] += scale
        move = torch.zeros_like(self.e) if shift is None else shift
        # moving the means is moving the sample; the residuals of the channels before stay what they are
        with torch.no_grad():
            bits = sample_bits(changed, self.e, self.lower - move, self.upper - move)
        c = self.block.channels
        return bits.double().numpy()[:, :c].reshape(*self.shape, c)


def learned(choices: F64, context: npt.NDArray[np.int64]) -> float:
    """Bits if in each row every context and channel takes the choice that was best in the rows before.

    choices [k, h, w, c], context [h, w, c]; the middle choice at first.
    """
    k, h, _, c = choices.shape
    so_far = np.zeros((k, CONTEXTS, c))
    so_far[np.arange(k) != k // 2] += 1.0
    total = 0.0
    for y in range(h):
        for ch in range(c):
            at = context[y, :, ch]
            best = so_far[:, :, ch].argmin(0)
            total += choices[best[at], y, np.arange(len(at)), ch].sum()
            for i in range(k):
                so_far[i, :, ch] += np.bincount(at, choices[i, y, :, ch], CONTEXTS)
    return float(total)


def mixed(first: F64, second: F64, context: npt.NDArray[np.int64]) -> float:
    """Bits of a mixture of two distributions; in each context and channel by how well each did in the last rows."""
    h, _, c = first.shape
    odds = np.zeros((CONTEXTS, c))
    total = 0.0
    for y in range(h):
        for ch in range(c):
            at = context[y, :, ch]
            a, b = first[y, :, ch], second[y, :, ch]
            share = 1 / (1 + 2.0 ** np.clip(0.02 * odds[at, ch], -30, 30))
            total -= np.log2(share * 2.0**-a + (1 - share) * 2.0**-b).sum()
            odds[:, ch] = 0.98 * odds[:, ch] + np.bincount(at, a - b, CONTEXTS)
    return float(total)


def mean_errors(samples: Samples, params: torch.Tensor) -> torch.Tensor:
    """What to add to the means [n,3] from the errors in the rows before, by context; channels alone."""
    n = len(params)
    mean, _, mean_by, _, logit = params.view(n, 5, 3, 5).unbind(1)
    share = torch.softmax(logit, -1)
    centre = mean * 4
    for c in range(3):
        for before in range(c):
            centre[:, c] += mean_by[:, before + (c == 2)] * samples.e[:, before, None]
    error = (samples.e - (share * centre).sum(-1)).numpy()
    h, w = samples.shape
    out = np.zeros((h, w, 3), np.float32)
    total, count = np.zeros((CONTEXTS, 3)), np.full((CONTEXTS, 3), 30.0)
    context, error = samples.context.reshape(h, w, 3), error.reshape(h, w, 3)
    for y in range(h):
        for ch in range(3):
            at = context[y, :, ch]
            out[y, :, ch] = (total / count)[at, ch]
            total[:, ch] += np.bincount(at, error[y, :, ch], CONTEXTS)
            count[:, ch] += np.bincount(at, minlength=CONTEXTS)
    return torch.from_numpy(out.reshape(n, 3))


def decompose(net: ResidualCompressor, coded: Coded) -> dict[str, float]:
    """Bits of one image by part; names that begin with ``=`` are what the lanes would be otherwise."""
    s = Samples(net, coded.block)
    params = s.params(coded.entry)
    bits = s.bits(params)
    c = coded.block.channels
    context = s.context.reshape(*s.shape, 3)[..., :c]
    out = {f"channel {i}": float(bits[..., i].sum()) for i in range(c)}
    out |= {f"activity {k}": float(bits[context == k].sum()) for k in range(CONTEXTS)}
    out["first rows"] = float(bits[:FIRST_ROWS].sum() - bits[FIRST_ROWS:].mean() * bits[:FIRST_ROWS].size)
    out["float"] = float(bits.sum())
    out["above 12 bits"] = float(bits[bits > 12].sum())
    out["lanes"], out["linear"] = 8.0 * coded.lanes, 8.0 * coded.linear
    every = [float(s.bits(s.params(k)).sum()) for k in range(net.cfg.bank)]
    order = np.argsort(every)
    out["= neutral entry"], out["= best entry"] = every[0], every[order[0]]
    out["= 8 entries"] = min(every[:8])
    choices = np.stack([s.bits(params, f) for f in SCALES])
    out["= scale"] = learned(choices, context)
    out["= best scale of the image"] = float(choices.sum((1, 2)).min(0).sum())
    out["= bias"] = float(s.bits(params, 0.0, mean_errors(s, params)).sum())
    best, second = (s.bits(s.params(int(k))) for k in order[:2])
    out["= two experts"] = mixed(best, second, context)
    return out


def _rows(found: dict[str, list[tuple[dict[str, float], int]]]) -> Iterator[str]:
    for kind, images in found.items():
        pixels = sum(n for _, n in images)
        total: dict[str, float] = defaultdict(float)
        for parts, _ in images:
            for name, bits in parts.items():
                total[name] += bits
        yield f"{kind}: {len(images)} images, {pixels} px, {(total['lanes'] + total['linear']) / pixels:.3f} bits/px"
        for name, bits in total.items():
            share = bits / total["float"] - (1 if name.startswith("=") else 0)
            yield f"  {name:28s} {bits / pixels:8.4f} {share:+.2%}"


def main() -> None:
    """Print the parts for each kind of image."""
    parser = argparse.ArgumentParser(
        prog="python -m dlpr.training.decompose", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("weights", type=Path, help="weights file")
    parser.add_argument("images", type=Path, help="folder with one sub-folder for each source")
    parser.add_argument("--sources", nargs="*", help="only these")
    parser.add_argument("--per-source", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    loaded = store.load(args.weights)
    os.environ[store.SEARCH_PATH] = str(args.weights.resolve().parent)
    net = rebuild(loaded, loaded.sizes).rc
    found: dict[str, list[tuple[dict[str, float], int]]] = defaultdict(list)
    other, everything = 0, 0
    for name, tiles in sample_tiles(args.images, args.per_source).items():
        for tile in tiles if not args.sources or name in args.sources else []:
            coded, rest = coded_images(tile, loaded.id)
            other += rest
            everything += rest + sum(c.lanes + c.linear for c in coded)
            for c in coded:
                found[c.block.kind].append((decompose(net, c), c.block.x.shape[0] * c.block.x.shape[1]))
    for line in _rows(found):
        print(line)
    print(f"headers, tables and residuals of planes: {other / everything:.2%} of all bytes")


if __name__ == "__main__":
    main()
