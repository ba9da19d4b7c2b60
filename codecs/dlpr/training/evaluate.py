"""Dev results of a model: real bytes of the integer codec, and the bits of its float parent under the same choices."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import dlpr
from dlpr import _native
from dlpr.config import EncoderOptions
from dlpr.layout import CODING_ORDER
from dlpr.modes.networks.model.slide import SlideModel
from dlpr.training.batches import TrainConfig, collate, cut
from dlpr.training.contexts import linear_bits, linear_stages
from dlpr.training.data import Block, base_colour, quantised_block
from dlpr.training.loop import step_loss

U8 = npt.NDArray[np.uint8]


def learned_only(**options: Any) -> EncoderOptions:
    """Encoder options under which every chunk goes through the networks, whatever its pixels were decoded from."""
    if "jpeg" in {f.name for f in fields(EncoderOptions)}:
        options = {"jpeg": "never", "colour": "never", **options}
    return EncoderOptions(**options)


def float_bits(model: SlideModel, rgb: U8, tau: int, context: int = 0) -> float:
    """Bits of one tile under the float networks: neutral bank entry, lossy layer on, linear stage not counted.

    ``context`` n >= 1 takes the exact taps of M_7^n, for which the model was trained.
    """
    x = np.ascontiguousarray(rgb[..., list(CODING_ORDER)])
    base = base_colour(x)
    pred = linear_stages(x, base, (context,))[0].pred if context else _native.linear_block(x, base, 8)[0]
    block = Block(x, pred, base)
    if tau:
        block = quantised_block(block, tau)
    side = int(x.shape[0])
    if x.shape[0] != x.shape[1] or side % 64:
        raise ValueError("square tiles with sides that are multiples of 64 only")
    cfg = TrainConfig(phase="sqrc" if tau else "rc", crop=side, context=context, threads=torch.get_num_threads())
    cells = np.arange((side // 2) ** 2)
    batch = collate([cut(block, 0, 0, cells, side, context)], [0], [tau], model.rc.cfg.tau_classes)
    with torch.no_grad():
        parts = step_loss(model, batch, cfg, lic_on=True, keep=torch.ones(1), noisy=False)
    bits = parts["bits"] + parts["rate"]
    return float(bits) * side * side


@dataclass(frozen=True)
class Comparison:
    """Bits per pixel of one source: integer codec and float parent, both without header and linear part."""

    source: str
    tau: int
    integer: float
    float_: float


def compare_float(
    model: SlideModel, weights_id: bytes, tiles: dict[str, list[U8]], taus: tuple[int, ...] = (0, 1)
) -> list[Comparison]:
    """Quantisation loss: the integer codec with one predictor and bank entry 0 against the float networks."""
    out = []
    options = learned_only(search=False, weights_id=weights_id)
    for name, source in tiles.items():
        usable = [t for t in source if t.shape[0] == t.shape[1] and t.shape[0] % 64 == 0]
        if not usable:
            continue
        pixels = sum(t.shape[0] * t.shape[1] for t in usable)
        for tau in taus:
            infos = [dlpr.inspect(s) for s in dlpr.encode_batch(usable, tau, options=options)]
            integer = sum(8 * (i.bytes_by_part["lossy"] + i.bytes_by_part["lanes"]) for i in infos if i.mode == "coded")
            floats = sum(float_bits(model, t, tau) for t in usable)
            out.append(Comparison(name, tau, integer / pixels, floats / pixels))
    return out


def likelihood_sizes(model: SlideModel, tiles: dict[str, list[U8]], context: int) -> dict[str, float]:
    """Bits per pixel by source: float networks (see :func:`float_bits`) and the linear stage at its estimated price.

    Tiles are cut to squares with sides that are multiples of 64. ``context`` 0 is the format's own linear stage.
    """
    out = {}
    for name, source in tiles.items():
        bits, pixels = 0.0, 0
        for tile in source:
            side = min(tile.shape[:2]) // 64 * 64
            rgb = np.ascontiguousarray(tile[:side, :side])
            x = np.ascontiguousarray(rgb[..., list(CODING_ORDER)])
            if context:
                linear = linear_stages(x, base_colour(x), (context,))[0].bits
            else:
                _, classes, _, counts, _ = _native.linear_block(x, base_colour(x), 8)
                linear = linear_bits(int((counts[:classes] + np.arange(3)).sum()), classes)
            bits += float_bits(model, rgb, 0, context) + linear
            pixels += side * side
        out[name] = bits / pixels
    return out


def install(weights: bytes, sha256: str, folder: Path) -> None:
    """Make a weights file that is not shipped visible to this process."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{sha256[:16]}.dlpw").write_bytes(weights)
    os.environ["DLPR_WEIGHTS_PATH"] = str(folder)


def summary(rows: list[Comparison]) -> dict[str, Any]:
    """Macro means by tau, for the training card."""
    out: dict[str, Any] = {}
    for tau in sorted({r.tau for r in rows}):
        a = float(np.mean([r.integer for r in rows if r.tau == tau]))
        b = float(np.mean([r.float_ for r in rows if r.tau == tau]))
        out[f"tau {tau}"] = {"integer_bpp": round(a, 4), "float_bpp": round(b, 4), "loss": round(a / b - 1, 5)}
    return out
