"""What the floats of a stream depend on, and the refusal of streams from elsewhere.

The networks decide the coder's probabilities in floating point, and one last bit that differs between two machines
ruins everything after it. So a stream of the paper profile names what it was computed with, and a decoder with anything
else refuses it before it computes. (The slide profile is integer and has no such limit.)
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch
from torch import nn

from dlpr.errors import UnsupportedError

DIGEST = 4
ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_MAX_CPU_ISA",
    "KMP_DETERMINISTIC_REDUCTION",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "OMP_DYNAMIC",
    "ONEDNN_MAX_CPU_ISA",
)


class PlatformError(UnsupportedError):
    """The stream was written with other floats: another machine, torch, thread count or other settings."""

    reason = "platform"


@dataclass(frozen=True)
class Fingerprint:
    """What decides the last bit of a float, in words."""

    library: str
    """Version of torch."""
    processor: str
    """Processor model and instruction set flags."""
    device: str
    """Device that the networks run on."""
    settings: str
    """Math libraries, their switches and environment variables."""
    threads: str
    """Threads of one operation."""

    @classmethod
    def here(cls, device: torch.device, threads: int) -> Fingerprint:
        """Fingerprint of this process; take it inside :func:`repeatable_floats`."""
        name = "cpu" if device.type == "cpu" else str(device)
        if device.type == "cuda":
            name = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, {torch.backends.cudnn.version()}"
        switches = {
            "capability": torch.backends.cpu.get_cpu_capability(),
            "mkldnn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
            "mkl": torch.backends.mkl.is_available(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
            "precision": torch.get_float32_matmul_precision(),
            **{key: os.environ[key] for key in ENVIRONMENT if key in os.environ},
        }
        return cls(torch.__version__, _processor(), name, repr(switches), str(threads))

    def pack(self) -> bytes:
        """Four bytes of SHA-256 per field."""
        return b"".join(hashlib.sha256(text.encode()).digest()[:DIGEST] for text in astuple(self))

    def check(self, packed: bytes, offset: int) -> None:
        """Compare with a stream's.

        Parameters
        ----------
        packed : bytes
            What :meth:`pack` gave where the stream was written.
        offset : int
            Where it stands in the stream.

        Raises
        ------
        PlatformError
            If a field differs; the message names all that do.
        """
        mine = self.pack()
        cut = [slice(at, at + DIGEST) for at in range(0, len(mine), DIGEST)]
        differing = [i for i, s in enumerate(cut) if mine[s] != packed[s]]
        if differing:
            names = [f.name for f in fields(self)]
            what = "; ".join(f"{names[i]} (here: {_short(astuple(self)[i])})" for i in differing)
            raise PlatformError(
                "a stream of the float paper profile is read only where it was written, and these differ: "
                f"{what}. Decode it there, or use the slide profile for archives",
                offset=offset + DIGEST * differing[0],
            )


PACKED_SIZE = DIGEST * len(fields(Fingerprint))


def _short(text: str) -> str:
    """Text cut to a line."""
    return text if len(text) <= 60 else text[:57] + "..."


def _processor() -> str:
    """Model name and flags of the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU part")
        pairs = [line.partition(":") for line in info.read_text().split("\n\n")[0].splitlines()]
        found = {key.strip(): value.strip() for key, _, value in pairs if key.strip() in wanted}
        if found:
            return f"{found.pop('model name', platform.machine())} {sorted(found.items())}"
    return f"{platform.machine()} {platform.processor()}"


def weights_id(model: nn.Module, profile: object) -> bytes:
    """Eight bytes of SHA-256 over the profile and every parameter."""
    digest = hashlib.sha256(repr(profile).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()[:8]


@contextmanager
def repeatable_floats(threads: int) -> Iterator[None]:
    """Fix what torch lets one fix (threads, deterministic kernels, no TF32) and put it back afterwards.

    These are settings of the process: do not train in another thread meanwhile.
    """
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn, precision = torch.is_deterministic_algorithms_warn_only_enabled(), torch.get_float32_matmul_precision()
    tf32, benchmark = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = False
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=warn)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32, benchmark
