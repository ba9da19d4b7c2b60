"""The examples of dlpr-v3.md: small streams, taken apart field by field and bit by bit.

python docs/format/examples.py           print them
python docs/format/examples.py --write   put them into dlpr-v3.md, between its markers

The streams are fixed; tests/dlpr/test_format.py decodes them and compares what is printed here with the page. Fields
are read here without the codec's parsers; the coded bits are those that the reference decoder asks for.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import dlpr
from dlpr import reference
from dlpr.modes.jpeg import coefficients
from dlpr.modes.jpeg.prior import remember
from dlpr.modes.mixed import arithmetic, residual

PAGE = Path(__file__).with_name("dlpr-v3.md")
PRIOR = base64.b64decode(
    "RExQUAEBAAD9N3pYWgAAAP8S2UECACEBEAAAAKhwjobhnfcBoQAAEASADHLZDC6JNhxV8hhMOHIm8tUziedQ5vAiwAZHAXe2IfN4YiuqiKeFIcGv"
    "ohw1V4VDGKU6sjqY/lusC2Mc6Ja5dh7cfBySYxHLBjjKErbI9VnvuHWq8xA4v3NAF9ZZ97wTlqndghm+KMw96Me3Be5zdwVxhFf7jZBTyU/oUKRl"
    "0Mx0IH2nc9+yQSFrNE8fuHw4uwC2WPhnDrOmzdfjHQ74DpAuXLsL8YF6M57fajq+IT9g+8YnjMnpPUjLbMu24mkCpRuUK1cX8R1D+9StQYxuIAMO"
    "yaHpIAJIVN826o4yc5cyC6OVSXUSYZ7eM7QxV0nDFBTExF0C/GCtsBi6KhsuETDwXP6wJAjaQ+bAJ/k5ZAkhRy0CdNtNT7kXT8O4gqDQLPppAs5/"
    "mMl0NEAFvcnnGI7wXX/UkzRa85Hkdve7ycGKKHpBuVQJgbFFOg2NitoM4YsBwSibx7OOMdlLTu2+57HIuhx/1QQrRdUeYHqcQbdeUcOJgWCGkOzx"
    "aoSzBueavbCPKbZa2pY0Sz2ToJ5mn2qlrEmj6k/KuyDV31kAAAAAAAABtQP4uwYA9KRxEqgACvwCAAAAAABZWg=="
)
STREAMS = {
    "constant": "444c50520301000002000000040000005c4f30cd187bc1d0c86432",
    "stored": "444c5052030201000100000002000000f4f078dc565546bf0ac81e00ff07",
    "jpeg": "444c50520303002208000000080000005673a3d3455bbbe6000004000000e422d48f3274b1c7585a",
    "prior": "444c5052030300220800000008000000724fb08d1ff29b1a200002000000cbfb857f476e08d5825ac3a832e0",
    "coded": "444c5052030001220c0000000c0000001138ac3a650a0986d11104fe68c7767903050108125454541d0000000b"
    "000000f2d971ce360488"
    "009b0ffb7dfc0448f8c990d55719a74fa2c4d66dfd7a01565d6c08000127001000751d451c100d0100bc018dc77f060fc07d5df244018a188706"
    "10c002cc878165234da6",
    "colour": "444c5052030400000c0000000c0000008d7184254c78f95601000000d11104fe68c776790808487e0b08000125001400ab23"
    "6825450100421c8654519f03d4c3afb99e4d63414aceaef14d854e4f87eca4bf7590997a0481d3f1f1ca7d7a73d7948c1cbfd653371e3a"
    "a245c18d30983b6d3552376bd0140224ba0070008d",
    "j2k": "444c50520305002208000000080000003d6027513d02299e0c0f0000003e05f67c50010266c94ed50a943363b05309ea",
}


def images() -> dict[str, np.ndarray]:
    """What the streams were made from; the block of mode jpeg by hand, see the page."""
    y, x = np.mgrid[:12, :12]
    block = np.array(
        [
            [122, 121, 119, 116, 112, 109, 107, 105],
            [123, 121, 119, 116, 113, 110, 108, 106],
            [123, 122, 120, 117, 114, 111, 109, 108],
            [123, 123, 121, 118, 116, 114, 112, 111],
            [124, 123, 122, 120, 118, 116, 114, 114],
            [124, 124, 123, 121, 120, 118, 117, 116],
            [125, 124, 123, 122, 121, 120, 119, 118],
            [125, 125, 124, 123, 122, 121, 120, 119],
        ],
        np.uint8,
    )
    other = block.copy()
    other[7, 7] = 120
    return {
        "constant": np.full((2, 4, 3), (200, 100, 50), np.uint8),
        "stored": np.array([[[10, 200, 30], [0, 255, 7]]], np.uint8),
        "jpeg": other,
        "prior": block,
        "coded": (40 + 3 * y + 5 * x).astype(np.uint8),
        "j2k": wavelet(),
        "colour": colours(60 + 7 * y + 5 * x + (x * x + 3 * y) % 5, 112, 141),
    }


def wavelet() -> np.ndarray:
    """The image of mode j2k by hand: LL is 20 everywhere, one coefficient of HL is 8."""
    flat, row = np.full(8, 20), np.array([20, 20, 20, 19, 18, 26, 18, 18])
    between = (flat + row) >> 1
    return np.array([flat, between, row, between, flat, flat, flat, flat], np.uint8) + np.uint8(128)


def colours(luma: np.ndarray, cb: int, cr: int) -> np.ndarray:
    """Pixels of a luma plane with one Cb and one Cr, by JFIF's matrix in floating point, rounded."""
    red, blue = 1.402 * (cr - 128), 1.772 * (cb - 128)
    green = -0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    return np.clip(np.rint(np.stack([luma + red, luma + green, luma + blue], -1)), 0, 255).astype(np.uint8)


# ---- fields ----


class Fields:
    """Rows of a table: offset, bytes, field, value."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.rows = [("offset", "bytes", "field", "value")]

    def take(self, size: int, name: str, meaning: str = "{v}") -> int:
        """Read a field; ``{v}`` in its meaning is the number, little-endian."""
        part = self.data[self.at : self.at + size]
        if len(part) != size:
            raise SystemExit(f"examples: {name} goes beyond the stream")
        v = int.from_bytes(part, "little")
        text = meaning.format(v=v, h=part[::-1].hex())
        lines = [part[i : i + 12].hex(" ") for i in range(0, size, 12)]
        self.rows.append((str(self.at), lines[0], name, text))
        self.rows += [("", line, "", "") for line in lines[1:]]
        self.at += size
        return v

    def table(self) -> str:
        """All rows, once every byte is named."""
        if self.at != len(self.data):
            raise SystemExit(f"examples: {len(self.data) - self.at} bytes without a name")
        return aligned(self.rows)


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Columns, side by side."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def header(f: Fields, shape: tuple[int, ...]) -> None:
    """The fields of section 2."""
    f.take(4, "magic", '"DLPR"')
    f.take(1, "version")
    f.take(1, "mode")
    f.take(1, "tau")
    f.take(1, "layout", "height, width, channel; three channels" if len(shape) == 3 else "axes 2, bit 5: one channel")
    f.take(4, "H")
    f.take(4, "W")
    f.take(4, "CRC32C of samples", "{h}")
    f.take(4, "CRC32C of stream", "{h}")


def flat(name: str) -> str:
    """Modes constant and stored."""
    data, shape = bytes.fromhex(STREAMS[name]), images()[name].shape
    f = Fields(data)
    header(f, shape)
    if name == "constant":
        for channel in ("red", "green", "blue"):
            f.take(1, channel)
    else:
        for i in range(shape[0] * shape[1]):
            f.take(3, f"pixel (0, {i})", ", ".join(str(v) for v in data[24 + 3 * i : 27 + 3 * i]))
    return f.table()


def jpeg(name: str) -> str:
    """Mode jpeg, section 15."""
    f = Fields(bytes.fromhex(STREAMS[name]))
    header(f, (8, 8))
    kind = f.take(1, "kind", "no transform, no sampling" + (", a prior is named" if name == "prior" else ""))
    f.take(1, "phase", "py = 0, px = 0")
    a = f.take(4, "A")
    f.take(4, "CRC32C of lossy part", "{h}")
    if kind & 32:
        f.take(8, "prior", "SHA-256 of the prior begins so")
    f.take(1, "lossy part: table", "{v}: luma at quality 50")
    f.take(a - 1, "lossy part: lane", "walk below")
    if f.at < len(f.data):
        f.take(len(f.data) - f.at, "residual part: lane", "walk below" if name == "jpeg" else "")
    return f.table()


def coded() -> str:
    """Mode coded, section 3."""
    f = Fields(bytes.fromhex(STREAMS["coded"]))
    header(f, (12, 12))
    f.take(8, "weights id", "SHA-256 of the weights file begins so")
    f.take(1, "flags", "lossy layer present, anchor x~")
    p = f.take(1, "p", "{v}: patches of 32 x 32, here one of 12 x 12")
    lanes = 1 << f.take(1, "l", "{v}: two lanes, even and odd rows")
    f.take(1, "bank entry")
    f.take(1, "m")
    f.take(3, "base colour", "84, three times")
    a = f.take(4, "A")
    b = f.take(4, "B")
    f.take(4, "CRC32C of lossy part", "{h}")
    f.take(4, "lossy part: x", "{h}, a state between 2^23 and 2^31")
    f.take(a - 4, "lossy part: bytes", "z, then y")
    f.take(1, "linear part: frac")
    f.take(1, "class exponent", "{v}: one class")
    count = f.take(1, "count", "{v}: with c = 0 that many coefficients")
    f.take(2, "bias8")
    f.take(1, "scale offset d")
    f.take(1, "reference", "{v}: the prior of section 7")
    f.take(b - 7, "linear part: x", "{h}, " + ("all of the lane" if b == 11 else f"{count} coefficients"))
    assert p == 5
    sizes = [f.take(1, f"lane table: lane {i}", "{v} bytes") for i in range(lanes)]
    for i, size in enumerate(sizes):
        f.take(4, f"lane {i}: x", "{h}")
        f.take(size - 4, f"lane {i}: bytes", "")
    return f.table()


def colour() -> str:
    """Mode colour, C1 in its own part."""
    f = Fields(bytes.fromhex(STREAMS["colour"]))
    header(f, (12, 12, 3))
    f.take(1, "lattice", "matrix 1, nearest, sum")
    f.take(1, "chroma", "no filter, factors 1, planes apart")
    f.take(1, "tau of luma")
    f.take(1, "tau of chroma")
    f.take(8, "weights id", "SHA-256 of the weights file begins so")
    f.take(1, "luma: kind", "patch exponent 8, lane exponent 0")
    f.take(1, "bank entry")
    f.take(1, "m")
    f.take(1, "base colour")
    b = f.take(1, "B")
    f.take(1, "linear part: frac")
    f.take(1, "class exponent")
    f.take(1, "count")
    f.take(2, "bias8")
    f.take(1, "scale offset d")
    f.take(1, "reference")
    f.take(b - 7, "linear part: x", "{h}")
    size = f.take(1, "lane table: lane 0", "{v} bytes")
    f.take(4, "lane 0: x", "{h}")
    f.take(size - 4, "lane 0: bytes", "")
    for plane in ("Cb", "Cr"):
        f.take(1, f"{plane}: kind", "0: one value")
        f.take(1, "value")
    return f.table()


def j2k() -> str:
    """Mode j2k, J1 in its own part."""
    f = Fields(bytes.fromhex(STREAMS["j2k"]))
    header(f, (8, 8))
    f.take(1, "kind", "components alike; image and tile are the chunk")
    a = f.take(4, "A")
    f.take(4, "CRC32C of lossy part", "{h}")
    f.take(1, "lossy part: component", "sampling 1, 5/3, blocks of one size")
    f.take(1, "levels")
    f.take(1, "guard bits")
    f.take(1, "blocks", "64 x 64")
    f.take(a - 4, "lossy part: lane", "steps, then four bands of 4 x 4")
    return f.table()


# ---- coded bits ----

KINDS = ((91, "DC size"), (90, "DC sign"), (89, "DC zero"), (82, "edge size"), (81, "edge sign"), (74, "edge zero"))
KINDS += ((66, "interior size"), (65, "interior sign"), (64, "interior zero"), (56, "column count"))
KINDS += ((48, "row count"), (0, "reach"))
RESIDUAL = ((27, "flag"), (2, "size"), (1, "sign"), (0, "zero"))


class Trace:
    """What a decoder of a lane did, bit by bit."""

    def __init__(self, kinds: tuple[tuple[int, str], ...], *in_full: int) -> None:
        self.kinds, self.in_full = kinds, in_full
        self.rows: list[tuple[str, ...]] = [
            ("bit", "kind", "sets", "p", "low", "high", "x", "mid", "value", "bytes read")
        ]
        self.what = ""
        self.sets = ""
        self.details: list[str] = []

    def decoder(self) -> type[arithmetic.BitDecoder]:
        """A `BitDecoder` that is watched."""
        trace = self

        class Watched(arithmetic.BitDecoder):
            def bit(self, one: int) -> int:
                low, high, x = self.low, self.high, self.x
                value = super().bit(one)
                cells = (f"{v:08x}" for v in (low, high, x, low + ((high - low) * one >> 16)))
                n = str(len(trace.rows))
                trace.rows.append((n, trace.what, trace.sets, str(one), *cells, str(value), str(self.at)))
                trace.what, trace.sets = "golomb", ""
                return value

        return Watched

    def mixer(self) -> type[arithmetic.MixedDecoder]:
        """A `MixedDecoder` that is watched."""
        trace = self

        class Watched(arithmetic.MixedDecoder):
            def bit(self, at: Any, first: int, second: int, mirror: Any = (False,) * 8) -> int:
                trace.what = next(name for start, name in trace.kinds if first >= start)
                trace.sets = f"{first}, {second}"
                told = len(trace.rows) in trace.in_full
                if told:
                    trace.tell(self, at, first, second, mirror)
                value = super().bit(at, first, second, mirror)
                if told:
                    trace.told(self, at, first, second)
                return value

        return Watched

    def tell(self, mix: Any, at: Any, first: int, second: int, mirror: Any) -> None:
        """State before a bit."""
        slots = [mix._slot(i) for i in at]
        t = [arithmetic.odds(65535 - p if m else p) for (p, _), m in zip(slots, mirror, strict=True)]
        a, b = mix._set(first).w, mix._set(mix._first_sets + second).w
        total = sum(arithmetic._sat16(u + v) * x for u, v, x in zip(a, b, t, strict=True))
        one = arithmetic.squash_table()[min(max(total >> 14, -2047), 2047) + 2047]
        self.details.append(
            f"bit {len(self.rows)}, {self.what}\n"
            f"  slots     {', '.join(map(str, at))}\n"
            f"  p         {', '.join(str(p) for p, _ in slots)}\n"
            f"  r         {', '.join(str(r) for _, r in slots)}\n"
            f"  mirrored  {', '.join(str(i) for i in range(8) if mirror[i]) or 'none'}\n"
            f"  t         {', '.join(map(str, t))}\n"
            f"  a.w       {', '.join(map(str, a))}\n"
            f"  b.w       {', '.join(map(str, b))}\n"
            f"  sum       {total} >> 14 = {total >> 14}; p = {one}"
        )

    def told(self, mix: Any, at: Any, first: int, second: int) -> None:
        """State after it."""
        slots = [mix._slot(i) for i in at]
        row = self.rows[-1]
        error = (int(row[8]) << 16) - int(row[3])
        a, b = mix._set(first), mix._set(mix._first_sets + second)
        self.details[-1] += (
            f"\n  read      {row[8]}; error = {error}\n"
            f"  a.w, n    {', '.join(map(str, a.w))}; {a.n}\n"
            f"  b.w, n    {', '.join(map(str, b.w))}; {b.n}\n"
            f"  slots     {', '.join(f'({p}, {r})' for p, r in slots)}"
        )

    def text(self, first: int = 99, last: int = 0) -> str:
        """The walk: the first bits, the last bits, those in full."""
        rows, last = self.rows, min(last, max(len(self.rows) - 1 - first, 0))
        left_out = [("..",) * len(rows[0])] if first + last < len(rows) - 1 else []
        shown = rows[: 1 + first] + left_out + rows[len(rows) - last :]
        return "\n\n".join([aligned(shown), *self.details])


@contextmanager
def watched(module: Any, trace: Trace) -> Iterator[None]:
    """Have a module decode under a trace's eyes."""
    before = module.BitDecoder, module.MixedDecoder
    module.BitDecoder, module.MixedDecoder = trace.decoder(), trace.mixer()
    try:
        yield
    finally:
        module.BitDecoder, module.MixedDecoder = before


def walks(name: str) -> tuple[Trace, Trace]:
    """Lossy part and residual part of a stream of mode jpeg, bit by bit."""
    lossy, rest = Trace(KINDS, 1, 2, 15) if name == "jpeg" else Trace(KINDS, 1), Trace(RESIDUAL, 65)
    remember(PRIOR)
    with watched(coefficients, lossy), watched(residual, rest):
        reference.decode(bytes.fromhex(STREAMS[name]))
    return lossy, rest


def prior_fields() -> str:
    """The prior of section 20."""
    f = Fields(PRIOR)
    f.take(4, "magic", '"DLPP"')
    f.take(1, "version")
    f.take(1, "components")
    f.take(2, "reserved")
    raw = dlpr.Prior(PRIOR).raw
    slots = coefficients.COMPONENT_SLOTS
    known = [i for i in range(slots) if raw[i]]
    rows = [*f.rows, ("8", "fd 37 7a 58 5a 00 ..", "xz file", f"{len(PRIOR) - 8} bytes, {len(raw)} bytes decoded")]
    text = aligned(rows) + f"\n\nSHA-256 {hashlib.sha256(PRIOR).hexdigest()}\n"
    text += f"bytes of slots that are not 0: {len(known)} of {slots}; the first: "
    text += ", ".join(f"{i}: {raw[i]}" for i in known[:8]) + "\n"
    weights = np.frombuffer(raw, np.int8, offset=slots).reshape(-1, 8)
    text += f"weights of set 0 of the first family: {', '.join(map(str, weights[0]))}\n"
    text += f"weights of set 0 of the second family: {', '.join(map(str, weights[coefficients.FIRST_SETS]))}\n\n"
    encoded = base64.b64encode(PRIOR).decode()
    return text + "\n".join(encoded[i : i + 108] for i in range(0, len(encoded), 108))


def samples(name: str) -> str:
    """Decoded samples, a row a line."""
    data = bytes.fromhex(STREAMS[name])
    remember(PRIOR)
    return "\n".join(" ".join(f"{v:3}" for v in row) for row in reference.decode(data))


def examples() -> dict[str, str]:
    """Return every block of the page by its marker."""
    walk, rest = walks("jpeg")
    return {
        "constant": flat("constant"),
        "stored": flat("stored"),
        "jpeg": jpeg("jpeg"),
        "jpeg-lossy": walk.text(),
        "jpeg-residual": rest.text(6, 4),
        "jpeg-samples": samples("jpeg"),
        "prior-stream": jpeg("prior"),
        "prior": prior_fields(),
        "prior-lossy": walks("prior")[0].text(),
        "coded": coded(),
        "coded-samples": samples("coded"),
        "colour": colour(),
        "j2k": j2k(),
    }


def placed(page: str) -> str:
    """Return the page with the blocks as they are now."""
    for name, text in examples().items():
        pattern = rf"(<!-- example {name} -->\n```text\n).*?(\n```\n)"
        page, n = re.subn(pattern, lambda m, text=text: m[1] + text + m[2], page, flags=re.DOTALL)  # type: ignore[misc]
        if n != 1:
            raise SystemExit(f"examples: the page has {n} places for {name}")
    return page


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(placed(PAGE.read_text()))
    else:
        for name, text in examples().items():
            print(f"-- {name}\n{text}\n")
