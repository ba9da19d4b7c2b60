"""Fuzz the native code under AddressSanitizer and UndefinedBehaviorSanitizer: ``make asan``.

python tests/asan/fuzz.py BUILD [--seconds 60] [--seed 0]

BUILD holds the extension built with -DDLPR_SANITIZE=ON. The script starts itself again with the sanitizer's runtime
preloaded, then codes random images with random options, decodes them, and decodes forgeries of the streams whose
checksums are right, on every instruction set in turn. So it does with random JPEG images, with and without a prior,
with damaged JPEG files and priors, and with what JPEG bytes are made again from; and with damaged JPEG 2000 files,
their structures, and numbers that no encoder makes. The JPEG coder takes its instruction set once for a process
(DLPR_SIMD), so there is a process for each. Anything but a typed error ends it with exit status 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import lzma
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
MARK = "DLPR_ASAN_CHILD"
LEVELS = ("scalar", "avx2")  # of the JPEG coder
REPORTS = ("AddressSanitizer", "UndefinedBehaviorSanitizer", "runtime error:", "Assertion")


def load(name: str, path: Path) -> ModuleType:
    """Import a file under a name."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"fuzz: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def library(name: str) -> str:
    """Path of a library of the compiler."""
    compiler = os.environ.get("CXX", "g++")
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not os.path.isabs(path):
        raise SystemExit(f"fuzz: {compiler} has no {name}; install GCC's sanitizer runtime")
    return path


def again(argv: list[str]) -> int:
    """Run this script with the sanitizer's runtime, on each instruction set, and look at what it says."""
    env = dict(os.environ)
    env[MARK] = "1"
    # libstdc++ too: the runtime looks for __cxa_throw before the extension brings it
    env["LD_PRELOAD"] = f"{library('libasan.so')} {library('libstdc++.so')}"
    env["ASAN_OPTIONS"] = "detect_leaks=0:strict_string_checks=1:detect_stack_use_after_return=1"
    env["UBSAN_OPTIONS"] = "print_stacktrace=1"
    bad = False
    for level in LEVELS:
        env["DLPR_SIMD"] = level
        done = subprocess.run(
            [sys.executable, __file__, *argv], env=env, stderr=subprocess.PIPE, text=True, check=False
        )
        sys.stderr.write(done.stderr)
        bad = bad or done.returncode != 0 or any(word in done.stderr for word in REPORTS)
    print("asan:", "FAILED" if bad else "no reports")
    return int(bad)


def picture(rng: Any, np: Any) -> Any:
    """A small image of some kind and layout."""
    height, width = (int(v) for v in rng.choice([1, 2, 3, 7, 8, 16, 31, 32, 33, 40, 64, 65, 90], 2))
    channels = int(rng.choice([1, 3, 3]))
    y, x = np.mgrid[:height, :width]
    wave = 128 + rng.integers(0, 200) * np.sin(y / rng.uniform(1, 20) + x / rng.uniform(1, 20))
    noise = rng.normal(0, rng.choice([0, 1, 5, 80]), (height, width, channels))
    image = np.clip(wave[..., None] + noise, 0, 255).astype(np.uint8)
    return np.moveaxis(image, -1, 0) if rng.random() < 0.3 else image


def through_jpeg(plane: Any, quality: int) -> Any:
    """A plane after a JPEG of one component."""
    import io

    import numpy as np
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(plane).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(io.BytesIO(out.getvalue())))


def coloured(rng: Any, np: Any) -> Any:
    """A small image made from Y, Cb, Cr by some lattice and filter, some of its pixels changed."""
    from dataclasses import replace

    from dlpr.modes.colour.chroma import ChromaShape, Filter
    from dlpr.modes.colour.lattice import MATRICES, Products, Rounding

    height, width = (int(v) for v in rng.choice([8, 9, 16, 17, 31, 33, 48, 65, 90], 2))
    v, h = ((1, 1), (1, 2), (2, 1), (2, 2))[int(rng.integers(4))]
    kind = Filter.NONE if v * h == 1 else Filter(int(rng.integers(1, 4)))
    shape = ChromaShape(kind, v, h, int(rng.integers(v)), int(rng.integers(h)))
    y, x = np.mgrid[: height + 4, : width + 4]
    waves = [128 + rng.uniform(0, 140) * np.sin(y / rng.uniform(2, 20) + x / rng.uniform(2, 20)) for _ in range(3)]
    planes = [np.clip(w + rng.normal(0, rng.choice([0, 1, 5]), w.shape), 0, 255).astype(np.uint8) for w in waves]
    if rng.random() < 0.5:  # planes of JPEGs
        planes = [through_jpeg(p, int(rng.choice([30, 75, 90, 97]))) for p in planes]
    rows, columns = shape.size(height, width)
    full = [shape.upsample(p[:rows, :columns], height, width) for p in planes[1:]]
    matrix = MATRICES[int(rng.integers(len(MATRICES)))]
    lattice = replace(matrix, rounding=Rounding(int(rng.integers(4))), products=Products(int(rng.integers(3))))
    image = lattice.pixels(planes[0][:height, :width], *full)
    changed = rng.random((height, width)) < rng.choice([0, 0.01, 0.2])
    image[changed] = rng.integers(0, 256, (int(changed.sum()), 3))
    return image


def options(rng: Any, bank: int) -> dict[str, Any]:
    """Random options."""
    return {
        "anchor": str(rng.choice(["base", "lossy"])),
        "lossy_layer": bool(rng.random() < 0.7),
        "min_lossy_side": int(rng.choice([1, 32])),
        "patch": int(rng.choice([32, 64, 128, 256])),
        "lanes": int(rng.choice([1, 2, 4, 8, 16, 32])),
        "linear_stage": bool(rng.random() < 0.8),
        "linear_classes": int(rng.choice([1, 2, 4])),
        "linear_context": int(rng.choice([2, 3])),
        "coefficient_bits": int(rng.integers(4, 13)),
        "coefficient_price": float(rng.choice([0.0, 6.0, 500.0])),
        "search": bool(rng.random() < 0.5),
        "bank_entry": int(rng.integers(bank)) if rng.random() < 0.5 else None,
    }


def fuzz_jpeg(dlpr: Any, rng: Any, np: Any, tests: ModuleType, files: list[bytes], priors: dict[int, Any]) -> None:
    """Round trips of one JPEG image, forgeries of its streams, and some damaged JPEG files and priors."""
    from dlpr.errors import BitstreamError, UnsupportedInputError
    from dlpr.modes.jpeg.parse import add_restarts, parse
    from dlpr.modes.jpeg.synthesis import synthesise

    image = tests.some_image(rng, tests.FORMS[int(rng.integers(6))], 40, float(rng.choice([1, 5, 2000])))
    pixels, tau = tests.spoilt(rng, synthesise(image), float(rng.choice([0, 0.02, 0.2]))), int(rng.integers(4))
    names = [prior.id for prior in priors.values()]
    for prior in (None, priors[image.components]):
        data = tests.stream_of(image, pixels, tau, prior)
        out = dlpr.decode(data)
        if int(np.abs(out.astype(int) - pixels.reshape(out.shape)).max()) > tau:
            raise SystemExit("fuzz: mode jpeg is off by more than tau")
        for _ in range(20):
            bad = tests.forged(rng, data, names)
            for layer in ("full", "lossy"):
                with suppress(BitstreamError):
                    dlpr.decode(bad, layer=layer)
    spoil_prior(dlpr, rng, priors, lambda name: tests.renamed(tests.stream_of(image, pixels, tau), name))
    for _ in range(20):
        changed = bytearray(files[int(rng.integers(len(files)))])
        for _ in range(int(rng.integers(1, 5))):
            changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
        with suppress(UnsupportedInputError):
            read = parse(bytes(changed))
            if read.height * read.width < 1 << 16:
                synthesise(read)
        with suppress(UnsupportedInputError):
            at = changed.find(b"\xff\xda") + 14
            add_restarts(bytes(changed[:at]), bytes(changed[at:]))


def fuzz_j2k(rng: Any, np: Any, tests: ModuleType, files: list[bytes]) -> None:
    """Samples of any numbers, damaged codestreams, and damaged structures of what could be read."""
    from dlpr.errors import CorruptError, UnsupportedInputError
    from dlpr.modes.j2k.synthesis import synthesise, synthesise_reference
    from dlpr.modes.j2k.write import Structure, rebuild, take_apart, write

    image = tests.some_image(rng, 40)
    if not np.array_equal(synthesise(image), synthesise_reference(image)):
        raise SystemExit("fuzz: native samples of JPEG 2000 differ from the reference")
    with suppress(UnsupportedInputError):  # random numbers are none that passes leave
        write(image)
    for _ in range(20):
        changed = bytearray(files[int(rng.integers(len(files)))])
        early = min(len(changed), 300) if rng.random() < 0.5 else len(changed)
        for _ in range(int(rng.integers(1, 5))):
            changed[int(rng.integers(early))] = int(rng.integers(256))
        try:
            read, parts = take_apart(bytes(changed))
        except UnsupportedInputError:
            continue
        if read.fields.height * read.fields.width < 1 << 16:
            synthesise(read)
        write(read)
        bad = [bytearray(part) for part in parts]
        for _ in range(int(rng.integers(1, 4))):
            part = bad[int(rng.integers(2))]
            if part:
                part[int(rng.integers(len(part)))] = int(rng.integers(256))
        for other in (read, image):
            with suppress(CorruptError):
                rebuild(other, Structure(bytes(bad[0]), bytes(bad[1])))


def fuzz_j2k_streams(dlpr: Any, rng: Any, np: Any, tests: ModuleType) -> None:
    """Streams of mode j2k of any numbers, and forgeries of them."""
    from dlpr.errors import BitstreamError, UnsupportedInputError

    image, tau = tests.some_image(rng, int(rng.choice([1, 3])), 40), int(rng.integers(3))
    pixels = tests.spoilt(rng, tests.synthesise(image), float(rng.choice([0, 0.02, 0.2])))
    data = tests.stream_of(image, pixels, tau)
    out = dlpr.decode(data)
    if int(np.abs(out.astype(int) - pixels.reshape(out.shape)).max()) > tau:
        raise SystemExit("fuzz: mode j2k is off by more than tau")
    for _ in range(20):
        with suppress(UnsupportedInputError):
            bad = tests.forged(rng, data)
            for layer in ("full", "lossy"):
                with suppress(BitstreamError):
                    dlpr.decode(bad, layer=layer)


def fuzz_search(dlpr: Any, rng: Any, np: Any, images: list[Any]) -> None:
    """Search the JPEG 2000 image behind some crop, at times with pixels that no decoder gave."""
    image = images[int(rng.integers(len(images)))]
    height, width = (int(rng.integers(60, min(n, 240) + 1)) for n in image.shape[:2])
    top, left = (int(rng.integers(n - m + 1)) for n, m in zip(image.shape, (height, width), strict=False))
    crop = np.ascontiguousarray(image[top : top + height, left : left + width])
    if rng.random() < 0.3:
        y, x = int(rng.integers(height)), int(rng.integers(width))
        crop[y : y + 40, x : x + 40] = rng.choice([0, 255, 128])
    if rng.random() < 0.2:
        crop = np.ascontiguousarray(crop[..., 1])
    tau = int(rng.choice([0, 0, 1, 4]))
    back = dlpr.decode(dlpr.encode(crop, tau, threads=1))
    if int(np.abs(back.astype(int) - crop.astype(int)).max()) > tau:
        raise SystemExit(f"fuzz: searched: off by more than tau: {crop.shape} {tau}")


def spoil_prior(dlpr: Any, rng: Any, priors: dict[int, Any], stream: Any) -> None:
    """Damage priors: they are refused, or take a stream that names them to a typed error or some pixels."""
    from dlpr.errors import BitstreamError
    from dlpr.modes.jpeg.coefficients import COMPONENT_SLOTS

    good = priors[int(rng.choice(list(priors)))]
    damaged = bytearray(good.data)
    for _ in range(int(rng.integers(1, 4))):
        damaged[int(rng.integers(len(damaged)))] ^= 1 << int(rng.integers(8))
    raw = bytearray(good.raw)  # behind xz: any legal slots and weights at all
    slots = good.components * COMPONENT_SLOTS
    for at in rng.integers(len(raw), size=int(rng.choice([1, 100, 20000]))).tolist():
        raw[at] = int(rng.integers(97 if at < slots and rng.random() < 0.9999 else 256))
    packed = good.data[:8] + lzma.compress(bytes(raw), lzma.FORMAT_XZ, lzma.CHECK_NONE, preset=0)
    for data in (bytes(damaged), packed):
        with suppress(BitstreamError):
            prior = dlpr.Prior(data)
            dlpr.decode(stream(prior.id), prior=prior)


def fuzz_rewrite(rng: Any, np: Any, tests: ModuleType, files: list[bytes]) -> None:
    """JPEG files, templates, hints and heads of intervals, damaged: the very bytes, some bytes, or a typed error."""
    from dlpr.errors import BitstreamError, UnsupportedInputError
    from dlpr.modes.jpeg.intervals import interval_template, join_intervals, split_interval

    for _ in range(10):
        tests.check_damaged_files(rng, files)
        tests.check_damaged_parts(rng, files)
        data = files[int(rng.integers(len(files)))]
        start = data.index(b"\xff\xda")
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        head, scan = tests.damaged(rng, data[:start]), tests.damaged(rng, data[start:-2])
        count = int(rng.choice([1, 2, 8, 12, 500]))
        for first in (head, data[:start]):
            with suppress(UnsupportedInputError, BitstreamError):
                parts = split_interval(first, scan, count)
                hint = parts.hint(parts.image)
                if join_intervals(parts.template, parts.image, [(0, count)], [hint]) != [scan]:
                    raise SystemExit("fuzz: a restart interval is not made again")
                join_intervals(interval_template(head), parts.image, [(0, count), (count - 1, 1)])


def jpeg_files(tests: ModuleType) -> list[bytes]:
    """Small JPEG files of several kinds."""
    grey = tests.pixels(20, 30)[..., 0]
    return [
        *(tests.jpeg(tests.pixels(24, 31), subsampling=s, restart_marker_blocks=r) for s in (0, 1, 2) for r in (0, 2)),
        *(tests.jpeg(tests.pixels(24, 31), subsampling=s, restart_marker_blocks=s, progressive=True) for s in (0, 2)),
        tests.jpeg(grey, optimize=True),
        tests.jpeg(grey, progressive=True),
    ]


def fuzz(build: Path, seconds: float, seed: int) -> None:
    """Fuzz for some time."""
    (extension,) = build.glob("_native*.so")
    native = load("dlpr._native", extension)
    import numpy as np

    import dlpr
    from dlpr.errors import BitstreamError
    from dlpr.modes.jpeg.prior import remember
    from dlpr.modes.networks import mode as networks_mode
    from dlpr.modes.networks import weights

    assert networks_mode._native is native, "dlpr was imported with another extension"
    damage = load("test_damage", TESTS / "dlpr" / "test_damage.py")
    jpeg = load("test_jpeg_stream", TESTS / "dlpr" / "modes" / "jpeg" / "test_stream.py")
    files = jpeg_files(load("test_jpeg_parse", TESTS / "dlpr" / "modes" / "jpeg" / "test_parse.py"))
    j2k = load("test_j2k_synthesis", TESTS / "dlpr" / "modes" / "j2k" / "test_synthesis.py")
    j2k_streams = load("test_j2k_stream", TESTS / "dlpr" / "modes" / "j2k" / "test_stream.py")
    searched = [
        load("test_j2k_recover", TESTS / "dlpr" / "modes" / "j2k" / "test_recover.py").decoded.__wrapped__()[0],
        load("test_j2k_whole", TESTS / "dlpr" / "modes" / "j2k" / "test_recover_whole.py").pixels.__wrapped__(),
    ]
    codestreams = [path.read_bytes() for path in j2k.STREAMS.values()]
    rewrite = load("test_jpeg_rewrite", TESTS / "dlpr" / "modes" / "jpeg" / "test_rewrite.py")
    rewritten = rewrite.files()
    known = weights.default_id()
    bank = weights.find(known).sizes.bank
    learnt = load("test_jpeg_prior", TESTS / "dlpr" / "modes" / "jpeg" / "test_prior.py")
    priors = {n: dlpr.Prior.learn([learnt.image(i, 64, components=n) for i in range(3)]) for n in (1, 3)}
    for prior in priors.values():
        remember(prior)
    models = [networks_mode.native_model(known, simd) for simd in native.simd_available()]
    rng = np.random.default_rng(seed)
    start, rounds, forged, refused = time.monotonic(), 0, 0, 0
    while time.monotonic() - start < seconds:
        model = models[rounds % len(models)]
        networks_mode.native_model = lambda *_, model=model: model  # type: ignore[assignment]
        image, tau = (
            (coloured if rng.random() < 0.4 else picture)(rng, np),
            int(rng.choice([0, 0, 1, 2, 5, 15, 60, 200, 255])),
        )
        chosen, threads = options(rng, bank), int(rng.integers(1, 4))
        data = dlpr.encode(image, tau, threads=threads, **chosen)
        back = dlpr.decode(data, threads=threads)
        if int(np.abs(back.astype(int) - image.astype(int)).max()) > tau:
            raise SystemExit(f"fuzz: round {rounds}: off by more than tau: {image.shape} {tau} {chosen}")
        rounds += 1
        fuzz_jpeg(dlpr, rng, np, jpeg, files, priors)
        fuzz_j2k(rng, np, j2k, codestreams)
        fuzz_j2k_streams(dlpr, rng, np, j2k_streams)
        fuzz_search(dlpr, rng, np, searched)
        fuzz_rewrite(rng, np, rewrite, rewritten)
        coded = dlpr.inspect(data).mode == "coded"
        for i in range(30):
            if coded and i % 2:
                bad = damage.forge(rng, data)
            else:
                changed = bytearray(data)
                for _ in range(int(rng.integers(1, 4))):
                    changed[int(rng.integers(7, len(changed)))] = int(rng.integers(256))
                bad = damage.seal(changed)
            if int.from_bytes(bad[8:12], "little") * int.from_bytes(bad[12:16], "little") > 1 << 18:
                continue  # legal but slow
            for layer in ("full", "lossy"):
                forged += 1
                try:
                    dlpr.decode(bad, threads=threads, layer=layer)
                except BitstreamError:
                    refused += 1
    names = f"{', '.join(native.simd_available())}, mode jpeg: {native.jpeg_simd()}"
    print(f"asan: {rounds} round trips, {forged} forged streams decoded, {refused} refused; {names}; seed {seed}")


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if MARK not in os.environ:
        return again(sys.argv[1:])
    fuzz(args.build, args.seconds, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
