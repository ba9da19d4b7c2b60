"""`DLPR`, the codec as numcodecs and Zarr users hold it.

One object serves every route into Zarr because it is two things at once:

* a `numcodecs.abc.Codec` with the id ``dlpr``: Zarr format 2, in zarr 2.18 and in zarr 3;
* a dict ``{"name": "dlpr", "configuration": {...}}``: Zarr format 3, where zarr resolves it through the
  entry point to `dlpr.plugins.zarr.DLPRArrayBytesCodec`.

It must not be a zarr codec class itself: such an array is written without complaint and cannot be reopened.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ensure_ndarray, ndarray_copy

from dlpr import codec
from dlpr.device import Device
from dlpr.errors import UnsupportedInputError
from dlpr.layout import coded_shape
from dlpr.modes.jpeg.prior import Prior
from dlpr.modes.networks.tuned import Tuned
from dlpr.plugins import CodecOptions, device_of

__all__ = ["DLPR"]


class DLPR(Codec, dict[str, Any]):  # type: ignore[misc]
    """Lossless and near-lossless coding of uint8 image chunks.

    Parameters
    ----------
    tau : int, default 0
        Largest error allowed per sample, 0 to 255. 0 is lossless.
    threads : int, optional
        Threads used by one call. A setting of this process: it is not stored with the array and does
        not change the bytes.
    lossy_layer : bool, default True
        Whether streams carry a lossy layer that can be decoded alone.
    patch : int, optional
        Side of the residual coder's patches in px: 32, 64, 128 or 256.
    prior : Prior, bytes or str, optional
        The slide's prior for chunks that are coded as JPEG (`dlpr.Prior`), its bytes, or these in base64. It is stored
        with the array: chunks that name it cannot be decoded without.
    tuned : Tuned, bytes or str, optional
        The slide's weights (`dlpr.Tuned`), likewise.
    device : Device or str, optional
        A device of torch on which the networks run (`dlpr.Device`). A setting of this process like ``threads``; for
        arrays that are opened, `dlpr.plugins.use_device`.

    Raises
    ------
    TypeError, ValueError
        An option of the wrong type or out of range, or a device that torch does not know.
    dlpr.errors.DeviceError
        torch is not installed, or cannot use the device.

    Notes
    -----
    Chunks are uint8 and of shape (3, H, W) or (H, W, 3), either with leading ones, or of one channel:
    (H, W), (1, H, W), (H, W, 1). The axis of three colours may have axes of length 1 behind it, as in
    (1, 3, 1, H, W): such a chunk is coded as (1, 1, 3, H, W), and Zarr gives it its own shape again.

    Examples
    --------
    >>> import numpy as np
    >>> codec = DLPR(tau=1)
    >>> codec.get_config()
    {'id': 'dlpr', 'tau': 1}
    >>> dict(codec)
    {'name': 'dlpr', 'configuration': {'tau': 1}}
    >>> tile = np.full((3, 64, 64), 240, np.uint8)
    >>> bool((codec.decode(codec.encode(tile)) == tile).all())
    True

    With Zarr, ``codec`` goes to ``zarr.open(..., zarr_format=2, compressor=codec)`` or to
    ``zarr.create_array(..., serializer=codec, compressors=None)``.
    """

    codec_id = CodecOptions.NAME

    def __init__(
        self,
        tau: int = 0,
        *,
        threads: int | None = None,
        lossy_layer: bool = True,
        patch: int | None = None,
        prior: Prior | bytes | str | None = None,
        tuned: Tuned | bytes | str | None = None,
        device: Device | str | None = None,
    ) -> None:
        self._options = CodecOptions(tau=tau, lossy_layer=lossy_layer, patch=patch, prior=prior, tuned=tuned)
        self._threads = threads
        self._device = Device.of(device)
        dict.__init__(self, name=self.codec_id, configuration=self._options.to_config())

    @property
    def options(self) -> CodecOptions:
        """What is stored with an array."""
        return self._options

    @property
    def tau(self) -> int:
        """Largest error allowed per sample."""
        return self._options.tau

    @property
    def threads(self) -> int | None:
        """Threads used by one call; None is the codec's default."""
        return self._threads

    @property
    def device(self) -> Device | None:
        """Where the networks run; None is that of `dlpr.plugins.use_device`, or the CPU."""
        return self._device

    def encode(self, buf: Any) -> bytes:
        """Encode one chunk.

        Parameters
        ----------
        buf : array-like of uint8
            The chunk with its shape. Any strides but Fortran order, see below.

        Returns
        -------
        bytes
            A DLPR stream.

        Raises
        ------
        dlpr.errors.UnsupportedInputError
            Not uint8, a shape that is not an image, or an array in Fortran order. The last is what Zarr
            passes for an array of ``order="F"``, and it would read the pixels back transposed.
        """
        chunk = ensure_ndarray(buf)
        if chunk.flags.f_contiguous and not chunk.flags.c_contiguous:
            raise UnsupportedInputError(
                f"the chunk of shape {chunk.shape} is in Fortran order; Zarr format 2 arrays must be "
                "created with order='C' (a single array: pass numpy.ascontiguousarray of it)"
            )
        return codec.encode(
            np.ascontiguousarray(chunk).reshape(coded_shape(chunk.shape)),
            self.tau,
            threads=self.threads,
            lossy_layer=self._options.lossy_layer,
            patch=self._options.patch,
            prior=self._options.known_prior,
            tuned=self._options.known_tuned,
            device=device_of(self._device),
        )

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode one chunk.

        Parameters
        ----------
        buf : bytes-like
            A DLPR stream.
        out : writable buffer, optional
            Receives the samples; of the chunk's shape, or of its size in C order.

        Returns
        -------
        numpy.ndarray
            The chunk, uint8, C order, shaped as it was encoded (colours third last, see the class); or ``out``.

        Raises
        ------
        dlpr.errors.BitstreamError
            The stream is damaged or not of a known kind.
        ValueError
            ``out`` has another size.
        """
        o = self._options
        image = np.ascontiguousarray(
            codec.decode(
                ensure_bytes(buf),
                threads=self.threads,
                prior=o.known_prior,
                tuned=o.known_tuned,
                device=device_of(self._device),
            )
        )
        if out is None:
            return image
        target = ensure_ndarray(out)
        if target.nbytes != image.nbytes:
            raise ValueError(f"dlpr: out holds {target.nbytes} bytes, the chunk has {image.nbytes}")
        if target.shape == image.shape and target.dtype == image.dtype:
            np.copyto(target, image)  # by index, whatever the strides of out
        else:
            ndarray_copy(image, target)
        return out

    def get_config(self) -> dict[str, Any]:
        """Return the configuration as Zarr format 2 stores it."""
        return {"id": self.codec_id, **self._options.to_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DLPR:
        """Build the codec from `get_config`'s result without its id."""
        o = CodecOptions.from_config(config)
        return cls(o.tau, lossy_layer=o.lossy_layer, patch=o.patch, prior=o.known_prior, tuned=o.known_tuned)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DLPR):
            return self._options == other._options
        return dict.__eq__(self, other) if isinstance(other, dict) else NotImplemented

    def __ne__(self, other: object) -> bool:
        result = self.__eq__(other)
        return result if result is NotImplemented else not result

    def __hash__(self) -> int:  # type: ignore[override]
        return hash((self.codec_id, self._options))

    def __reduce__(self) -> tuple[Any, ...]:
        o = self._options
        device = None if self._device is None else self._device.name
        return _rebuild, (self.tau, self.threads, o.lossy_layer, o.patch, o.known_prior, o.known_tuned, device)

    def __repr__(self) -> str:
        stored = self._options.to_config()
        if self.threads is not None:
            stored["threads"] = self.threads
        if self._device is not None:
            stored["device"] = self._device.name
        return f"DLPR({', '.join(f'{key}={value!r}' for key, value in stored.items())})"


def _rebuild(
    tau: int,
    threads: int | None,
    lossy_layer: bool,
    patch: int | None,
    prior: Prior | None,
    tuned: Tuned | None = None,
    device: str | None = None,
) -> DLPR:
    """Unpickle a codec."""
    return DLPR(tau, threads=threads, lossy_layer=lossy_layer, patch=patch, prior=prior, tuned=tuned, device=device)
