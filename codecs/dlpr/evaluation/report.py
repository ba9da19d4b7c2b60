"""Tables of an evaluation: macro means over sources, ratios to the peers, confidence intervals over tiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from dlpr.evaluation.measure import NETWORK, OWN, Result

LOSSLESS_REFERENCES = ("JPEG XL e9", "JPEG XL e7", "WebP", "JPEG 2000", "HTJ2K", "JPEG-LS")
NEAR_REFERENCES = ("quantise, JPEG XL e7", "JPEG-LS NEAR")
RESAMPLES = 2000


def bits_per_pixel(results: Sequence[Result]) -> float:
    """8 x bytes over pixels of some tiles."""
    return 8 * sum(r.bytes for r in results) / sum(r.pixels for r in results)


def by_source(results: Sequence[Result], codec: str, tau: int) -> dict[str, list[Result]]:
    """Tiles of one codec and tau, source by source, in tile order."""
    out: dict[str, list[Result]] = defaultdict(list)
    for r in results:
        if r.codec == codec and r.tau == tau:
            out[r.source].append(r)
    return {s: sorted(rs, key=lambda r: r.tile) for s, rs in out.items()}


def macro(results: Sequence[Result], codec: str, tau: int, sources: Sequence[str] | None = None) -> float:
    """Mean over sources of their bits per pixel."""
    own = by_source(results, codec, tau)
    return float(np.mean([bits_per_pixel(own[s]) for s in sources or own]))


def ratio_interval(own: Sequence[Result], other: Sequence[Result], seed: int = 0) -> tuple[float, float]:
    """95 % interval of bytes(own) / bytes(other): tiles drawn again with replacement, in pairs."""
    a, b = np.array([r.bytes for r in own], float), np.array([r.bytes for r in other], float)
    pick = np.random.default_rng(seed).integers(0, len(a), (RESAMPLES, len(a)))
    low, high = np.quantile(a[pick].sum(1) / b[pick].sum(1), [0.025, 0.975])
    return float(low), float(high)


def codecs_at(results: Sequence[Result], tau: int) -> list[str]:
    """Codecs measured at a tau, in the order of the tables."""
    found = {r.codec for r in results if r.tau == tau}
    order = [OWN, NETWORK, *LOSSLESS_REFERENCES, *NEAR_REFERENCES]
    return [c for c in order if c in found] + sorted(found - set(order))


def speed(results: Sequence[Result], codec: str, tau: int) -> tuple[float, float]:
    """Encode and decode speed of one thread, MP/s: median over tiles."""
    rows = [r for r in results if r.codec == codec and r.tau == tau]
    encode = np.median([r.pixels / 1e6 / max(r.encode_s, 1e-9) for r in rows])
    return float(encode), float(np.median([r.pixels / 1e6 / max(r.decode_s, 1e-9) for r in rows]))


def _set_table(results: Sequence[Result], tau: int) -> list[str]:
    own = macro(results, OWN, tau)
    lines = [
        f"**{'lossless' if tau == 0 else f'tau = {tau}'}**",
        "",
        "| codec | bits/px | dlpr is | encode MP/s | decode MP/s |",
        "|---|---|---|---|---|",
    ]
    for c in codecs_at(results, tau):
        value, (enc, dec) = macro(results, c, tau), speed(results, c, tau)
        ratio = "" if c == OWN else f"{own / value:.3f} x"
        lines.append(f"| {c} | {value:.3f} | {ratio} | {enc:.2f} | {dec:.2f} |")
    return [*lines, ""]


def _source_table(results: Sequence[Result], tau: int, reference: str, unseen: Sequence[str]) -> list[str]:
    own, other = by_source(results, OWN, tau), by_source(results, reference, tau)
    network = by_source(results, NETWORK, tau) or own
    lines = [
        f"**By source, {'lossless' if tau == 0 else f'tau = {tau}'}, beside {reference}**",
        "",
        f"| source | in training | tiles | as JPEG | dlpr, bits/px | {reference} | ratio | 95 % interval |"
        " networks only, ratio | 95 % interval |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s, rows in own.items():
        a, b = bits_per_pixel(rows), bits_per_pixel(other[s])
        low, high = ratio_interval(rows, other[s])
        alone = bits_per_pixel(network[s]) / b
        from_, to = ratio_interval(network[s], other[s])
        known = "no" if s in unseen else "a relative"
        jpegs = sum(r.mode == "jpeg" for r in rows)
        lines.append(
            f"| {s} | {known} | {len(rows)} | {jpegs} | {a:.3f} | {b:.3f} | {a / b:.3f} | {low:.3f} to {high:.3f} |"
            f" {alone:.3f} | {from_:.3f} to {to:.3f} |"
        )
    for says, group in (
        ("all", list(own)),
        ("sources without a relative in training", [s for s in own if s in unseen]),
    ):
        if group and unseen:
            a, b = macro(results, OWN, tau, group), macro(results, reference, tau, group)
            alone = macro(results, NETWORK if network is not own else OWN, tau, group) / b
            tiles = sum(len(own[s]) for s in group)
            jpegs = sum(r.mode == "jpeg" for s in group for r in own[s])
            lines.append(
                f"| **{says}, macro mean** | | {tiles} | {jpegs} | {a:.3f} | {b:.3f} | **{a / b:.3f}** | |"
                f" **{alone:.3f}** | |"
            )
    return [*lines, ""]


def markdown(results: Sequence[Result], about: dict[str, str], unseen: Sequence[str], links: Sequence[str]) -> str:
    """The results page."""
    lines = [
        "# Results",
        "",
        "Real bytes, headers included; every stream was decoded and compared. All codecs in one run on the same tiles.",
        "Speed: median over tiles, one thread for each tile, as many tiles at once as threads.",
        "*As JPEG*: tiles whose pixels were found to be a decoded JPEG, and that are kept as its coefficients and what"
        " they lack. *Networks only* is the same codec with that and the colour layer turned off"
        ' (`jpeg="never"`, `colour="never"`).',
        "",
        *(f"- {k}: {v}" for k, v in about.items()),
        *(f"- [{name}]({name})" for name in links),
        "",
    ]
    for name in dict.fromkeys(r.set for r in results):
        rows = [r for r in results if r.set == name]
        taus = sorted({r.tau for r in rows})
        sources = {r.source for r in rows}
        tiles = len({(r.source, r.tile) for r in rows})
        lines += [f"## {name}", "", f"{tiles} tiles or images, {len(sources)} source(s); macro mean over sources.", ""]
        lines += [f"![bits per pixel over tau](rate-{name}.png)", "", f"![size and speed](speed-{name}.png)", ""]
        lines += [f"![bytes by part](parts-{name}.png)", ""]
        for tau in taus:
            lines += _set_table(rows, tau)
        if len(sources) > 1:
            for tau in taus:
                references = LOSSLESS_REFERENCES if tau == 0 else NEAR_REFERENCES
                found = [c for c in references if c in codecs_at(rows, tau)]
                if found:
                    lines += _source_table(rows, tau, found[0], unseen)
    return "\n".join(lines).rstrip() + "\n"
