"""`DLPRArrayBytesCodec`: the codec of Zarr format 3 (zarr >= 3).

Zarr hands over batches of (chunk, spec) pairs and awaits the results::

    encode:  NDBuffer ... --numpy--> dlpr.encode_batch, one call, in a thread --> Buffer ...
    decode:  Buffer ...   --bytes--> dlpr.decode_batch, one call, in a thread --> NDBuffer ...

An entry may be None (nothing stored, or nothing to store) and stays None. The number of chunks in a batch is
zarr's setting ``codec_pipeline.batch_size``, read when an array is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.common import parse_named_configuration

import dlpr
from dlpr.device import Device
from dlpr.errors import BitstreamError, UnsupportedInputError
from dlpr.layout import Layout, coded_shape
from dlpr.plugins import CodecOptions, device_of

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

__all__ = ["DLPRArrayBytesCodec"]


_Meta: Any = type(ArrayBytesCodec)


class _Explained(_Meta):  # type: ignore[misc]
    """A class that says in messages how it is to be used.

    zarr refuses a codec in the wrong place with words about classes, formatted into its message. It asks nobody
    before, so this is where the right words can come from.
    """

    def __format__(self, spec: str) -> str:
        return format(f"{self!r} (DLPR codes whole chunks, not bytes: pass serializer=DLPR(), compressors=None)", spec)


@dataclass(frozen=True)
class DLPRArrayBytesCodec(ArrayBytesCodec, metaclass=_Explained):
    """DLPR as the serializer of a Zarr format 3 array.

    Users pass `dlpr.DLPR`, which zarr turns into this class.

    Parameters
    ----------
    options : CodecOptions
        What the array's metadata stores.
    threads : int, optional
        Threads used by one batch; not stored.
    device : Device, optional
        Where the networks run (`dlpr.Device`); not stored. None is that of `dlpr.plugins.use_device`, or the CPU.

    Examples
    --------
    >>> DLPRArrayBytesCodec.from_dict({"name": "dlpr", "configuration": {"tau": 3}}).to_dict()
    {'name': 'dlpr', 'configuration': {'tau': 3}}
    """

    is_fixed_size = False

    options: CodecOptions = field(default_factory=CodecOptions)
    threads: int | None = field(default=None, compare=False)
    device: Device | None = field(default=None, compare=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DLPRArrayBytesCodec:
        """Build the codec from its JSON form, or from a `dlpr.DLPR`, whose ``threads`` and ``device`` are kept.

        Raises
        ------
        TypeError, ValueError
            An option that is unknown, of the wrong type or out of range.
        """
        _, configuration = parse_named_configuration(dict(data), CodecOptions.NAME, require_configuration=False)
        options = CodecOptions.from_config(configuration or {})
        return cls(options, threads=getattr(data, "threads", None), device=getattr(data, "device", None))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that the array's metadata stores."""
        return {"name": CodecOptions.NAME, "configuration": self.options.to_config()}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse an array whose chunks are no images of a supported kind, when it is created or opened."""
        _refuse_unsupported(dtype, getattr(chunk_grid, "chunk_shape", None))

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> DLPRArrayBytesCodec:
        """Refuse dtypes that `validate` refuses; inside a shard some versions of zarr ask only here.

        The shape says nothing: zarr passes the whole array's, or a shard's chunk. zarr before 3.4 refuses a
        shard's chunks of unsupported shape only when the first of them is written.
        """
        _refuse_unsupported(array_spec.dtype, None)
        return self

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before encoding."""
        raise NotImplementedError

    async def encode(self, chunks_and_specs: Iterable[tuple[NDBuffer | None, ArraySpec]]) -> list[Buffer | None]:
        """Encode a batch with one call of `dlpr.encode_batch`, off the event loop."""
        pairs = list(chunks_and_specs)
        arrays = [chunk.as_numpy_array() for chunk, _ in pairs if chunk is not None]
        streams = iter(await asyncio.to_thread(self._encode_arrays, arrays) if arrays else ())
        return [None if chunk is None else spec.prototype.buffer.from_bytes(next(streams)) for chunk, spec in pairs]

    async def decode(self, chunks_and_specs: Iterable[tuple[Buffer | None, ArraySpec]]) -> list[NDBuffer | None]:
        """Decode a batch with one call of `dlpr.decode_batch`, off the event loop."""
        pairs = list(chunks_and_specs)
        streams = [chunk.to_bytes() for chunk, _ in pairs if chunk is not None]
        images = iter(await asyncio.to_thread(self._decode_streams, streams) if streams else ())
        return [None if chunk is None else _as_chunk(next(images), spec) for chunk, spec in pairs]

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    def _encode_sync(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        (stream,) = self._encode_arrays([chunk_data.as_numpy_array()])
        return chunk_spec.prototype.buffer.from_bytes(stream)

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        (image,) = self._decode_streams([chunk_data.to_bytes()])
        return _as_chunk(image, chunk_spec)

    def _encode_arrays(self, arrays: Sequence[np.ndarray[Any, Any]]) -> Sequence[bytes]:
        """Encode arrays of any strides by their index order."""
        return dlpr.encode_batch(
            [np.ascontiguousarray(array).reshape(coded_shape(array.shape)) for array in arrays],
            self.options.tau,
            threads=self.threads,
            lossy_layer=self.options.lossy_layer,
            patch=self.options.patch,
            prior=self.options.known_prior,
            tuned=self.options.known_tuned,
            device=device_of(self.device),
        )

    def _decode_streams(self, streams: Sequence[bytes]) -> Sequence[np.ndarray[Any, Any]]:
        """Decode streams in one batch."""
        o, device = self.options, device_of(self.device)
        learnt: dict[str, Any] = {"prior": o.known_prior, "tuned": o.known_tuned}
        return dlpr.decode_batch(streams, threads=self.threads, device=device, **learnt)


def _as_chunk(image: np.ndarray[Any, Any], spec: ArraySpec) -> NDBuffer:
    """Hand a decoded image to zarr, unless the stream belongs to a chunk of another shape."""
    if image.shape != coded_shape(tuple(spec.shape)):
        raise BitstreamError(
            f"the stream holds an image of shape {image.shape}, the array's chunks are {spec.shape}",
            reason="chunk-shape",
        )
    return spec.prototype.nd_buffer.from_numpy_array(image.reshape(spec.shape))


def _refuse_unsupported(dtype: Any, chunk_shape: Sequence[int] | None) -> None:
    """Raise UnsupportedInputError unless chunks of this dtype and shape can be encoded."""
    native = np.dtype(dtype.to_native_dtype() if hasattr(dtype, "to_native_dtype") else dtype)
    if native != np.uint8:
        raise UnsupportedInputError(f"an array of dtype {native} is not supported; supported: uint8")
    if chunk_shape is not None:
        Layout.of(coded_shape(tuple(chunk_shape)))
