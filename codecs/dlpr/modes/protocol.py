"""What a mode offers to the rest of the codec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dlpr.arrays import Bytes8
from dlpr.config import EncoderOptions
from dlpr.device import Device
from dlpr.errors import CorruptError
from dlpr.frame import Header, Mode, Stream

__all__ = ["Chunk", "ChunkMode", "Decoded", "Description"]

Decoded = Bytes8 | CorruptError
"""An array shaped as it was encoded, or what is wrong with its stream."""


@dataclass(frozen=True)
class Chunk:
    """One image on its way to a stream."""

    header: Header
    """Mode and checksum are filled in by the mode that codes the chunk (`dlpr.frame.finished`)."""
    planes: Bytes8
    """uint8 [H, W, channels], coding order, contiguous."""
    source: object = None
    """What the caller says it was decoded from; each mode takes what it understands."""


@dataclass(frozen=True)
class Description:
    """What a mode says of a stream; sizes in bytes."""

    bytes_by_part: dict[str, int]
    """Beginning with "header"; they sum to the stream's size."""
    lossy_layer: bool
    lossy_prefix: int
    """Bytes from the start that the lossy layer needs."""
    weights_id: str | None = None
    patch: int | None = None
    lanes: int | None = None
    bank_entry: int | None = None
    interval: int | None = None


class ChunkMode(ABC):
    """The door of a mode's room. Batches hold chunks or streams of any size, layout and tau."""

    mode: ClassVar[Mode]
    keeps_sources: ClassVar[bool] = False
    """Whether its stream settles a chunk whose source is to be kept (`EncoderOptions.keep_source`)."""

    # ---- bytes

    @abstractmethod
    def pack(self, out: bytearray, payload: Any) -> None:
        """Append the payload to a stream's header; ``out`` gets its checksum afterwards."""

    @abstractmethod
    def parse(self, view: memoryview, header: Header) -> object:
        """Read the payload of a stream whose checksum is right.

        Raises
        ------
        BitstreamError
            A field that no encoder writes, bytes that are missing or too many. Nothing is allocated before.
        """

    def parse_lossy(self, view: memoryview, header: Header) -> object | None:
        """Read from a stream's beginning what `decode_lossy` needs; None: all of the stream is needed."""
        return None

    @abstractmethod
    def describe(self, stream: Stream, size: int) -> Description:
        """Sizes of the parts of a stream of ``size`` bytes, and its fields."""

    # ---- encode

    def can_beat(self, chunk: Chunk, size: int) -> bool:
        """Whether a stream below ``size`` bytes is to be hoped for; must cost little beside `encode_batch`."""
        return True

    @abstractmethod
    def encode_batch(self, chunks: Sequence[Chunk], options: EncoderOptions, threads: int) -> list[Stream | None]:
        """Code chunks; None where the mode cannot carry one.

        The result depends on chunk and options alone, not on the rest of the batch or ``threads``.
        """

    def encode_on(
        self, device: Device, chunks: Sequence[Chunk], options: EncoderOptions, threads: int
    ) -> list[Stream | None]:
        """Code chunks as `encode_batch`, on a device where the mode has something for one; the same streams."""
        return self.encode_batch(chunks, options, threads)

    def supersedes(self, chunk: Chunk, stream: Stream, size: int) -> frozenset[Mode]:
        """Modes that need not be tried on a chunk for which this one gave a stream, of ``size`` bytes."""
        return frozenset()

    # ---- decode

    @abstractmethod
    def decode_batch(self, streams: Sequence[Stream], threads: int) -> list[Decoded]:
        """Decode streams of this mode; the caller compares the samples with their checksum.

        Raises
        ------
        WeightsError
            What a stream names is not installed.
        """

    def decode_on(
        self, device: Device, streams: Sequence[Stream], threads: int, expected: Sequence[Bytes8 | None]
    ) -> list[Decoded]:
        """Decode streams as `decode_batch`, on a device where the mode has something for one.

        ``expected``: for each stream the samples [H, W, channels], coding order, that were coded, as far as the caller
        knows, or None. The result does not depend on them; where they are right it is found sooner.
        """
        return self.decode_batch(streams, threads)

    def decode_lossy(self, stream: Stream) -> Bytes8 | None:
        """Decode the lossy layer from what `parse_lossy` gave; None: the mode has none, decode the stream."""
        return None

    @abstractmethod
    def decode_reference(self, stream: Stream, weights: Any = None) -> Bytes8:
        """Decode by the specification in plain Python and NumPy; ``weights`` instead of those that the stream names."""
