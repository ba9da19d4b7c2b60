"""Plug-ins for other libraries, and the options they share.

``dlpr.plugins.numcodecs``
    `DLPR`: Zarr format 2, and the one object that users pass on every route.
``dlpr.plugins.zarr``
    `DLPRArrayBytesCodec`: Zarr format 3. Found by its entry point, seldom imported by hand.
``dlpr.plugins.tifffile``
    Reads DLPR tiles in TIFF files. Registered by importing it, or dlpr_wsi.

Nothing is imported here that the named library has to provide.
"""

from __future__ import annotations

import base64
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dlpr.device import Device
from dlpr.modes.jpeg.prior import Prior, remember
from dlpr.modes.networks.tuned import Tuned
from dlpr.modes.networks.tuned import remember as remember_tuned

__all__ = ["CodecOptions", "device_of", "use_device"]

_PATCHES = (32, 64, 128, 256)


_default: list[Device | None] = [None]


def use_device(device: Device | str | None) -> None:
    """Let codecs of this process that name no device work on this one, those of arrays opened from now on too.

    Arrays do not store a device, so an array that is opened has none of its own.

    Parameters
    ----------
    device : Device, str or None
        A device of torch, see `dlpr.Device`; None is the native code on the CPU.

    Raises
    ------
    dlpr.errors.UnsupportedInputError, dlpr.errors.DeviceError
        As `dlpr.Device`.
    """
    _default[0] = Device.of(device)


def device_of(device: Device | None) -> Device | None:
    """Return a codec's own device, or else that of `use_device`."""
    return _default[0] if device is None else device


@dataclass(frozen=True)
class CodecOptions:
    """What a Zarr array's metadata stores of the codec.

    Parameters
    ----------
    tau : int
        Largest error allowed per sample, 0 to 255. 0 is lossless.
    lossy_layer : bool
        Whether streams carry a lossy layer that can be decoded alone.
    patch : int or None
        Side of the residual coder's patches in px: 32, 64, 128 or 256. None is the encoder's default.
    prior : Prior, bytes or str, optional
        The slide's (`dlpr.Prior`), its bytes, or these in base64 as the metadata store them. Known to this process from
        now on, so that every route decodes streams that name it.
    tuned : Tuned, bytes or str, optional
        The slide's weights (`dlpr.Tuned`), in the same forms.

    Raises
    ------
    TypeError, ValueError
        A value of the wrong type, or out of range. The message names the option.

    Examples
    --------
    >>> CodecOptions(tau=1).to_config()
    {'tau': 1}
    >>> CodecOptions.from_config({"tau": 2, "patch": 128})
    CodecOptions(tau=2, lossy_layer=True, patch=128, prior=None, tuned=None)
    """

    NAME: ClassVar[str] = "dlpr"
    TIFF_COMPRESSION: ClassVar[int] = 65471  # values from 32768 are for private use
    TIFF_PRIOR_TAG: ClassVar[int] = 65473
    TIFF_TUNED_TAG: ClassVar[int] = 65475

    tau: int = 0
    lossy_layer: bool = True
    patch: int | None = None
    prior: Prior | bytes | str | None = None
    tuned: Tuned | bytes | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tau", _integer("tau", self.tau, 0, 255))
        if not isinstance(self.lossy_layer, bool):
            raise TypeError(f"dlpr: lossy_layer must be true or false, not {self.lossy_layer!r}")
        if self.patch is not None:
            object.__setattr__(self, "patch", _integer("patch", self.patch, 32, 256))
            if self.patch not in _PATCHES:
                raise ValueError(f"dlpr: patch must be one of 32, 64, 128, 256, not {self.patch}")
        if self.prior is not None:
            object.__setattr__(self, "prior", _prior(self.prior))
        if self.tuned is not None:
            object.__setattr__(self, "tuned", _tuned(self.tuned))

    @property
    def known_prior(self) -> Prior | None:
        """The prior, known to this process; None where there is none."""
        return self.prior if isinstance(self.prior, Prior) else None

    @property
    def known_tuned(self) -> Tuned | None:
        """The slide's weights, known to this process; None where there are none."""
        return self.tuned if isinstance(self.tuned, Tuned) else None

    @staticmethod
    def tuned_to_tiff(tuned: Sequence[Tuned]) -> bytes:
        """Content of the tag `TIFF_TUNED_TAG`: tuned weights one after the other, each behind its size (u32)."""
        return b"".join(len(one.data).to_bytes(4, "little") + one.data for one in tuned)

    @staticmethod
    def tuned_of_tiff(data: bytes) -> tuple[Tuned, ...]:
        """Read the tag `TIFF_TUNED_TAG`; this process knows them as long as they are held.

        Raises
        ------
        CorruptError
            The tag is damaged.
        """
        found: list[Tuned] = []
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "little")
            found.append(remember_tuned(data[at + 4 : at + 4 + size]))
            at += 4 + size
        return tuple(found)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CodecOptions:
        """Build options from a JSON object; a key that is not an option is refused by name."""
        unknown = sorted(set(config) - {"tau", "lossy_layer", "patch", "prior", "tuned"})
        if unknown:
            raise ValueError(
                f"dlpr: unknown option {', '.join(unknown)} (known: tau, lossy_layer, patch, prior, tuned); "
                "the array may have been written by a newer version"
            )
        return cls(**config)

    def to_config(self) -> dict[str, Any]:
        """Return the smallest JSON object that `from_config` reads back: tau, and what is not default."""
        config: dict[str, Any] = {"tau": self.tau}
        if not self.lossy_layer:
            config["lossy_layer"] = False
        if self.patch is not None:
            config["patch"] = self.patch
        if isinstance(self.prior, Prior):
            config["prior"] = base64.b64encode(self.prior.data).decode("ascii")
        if isinstance(self.tuned, Tuned):
            config["tuned"] = base64.b64encode(self.tuned.data).decode("ascii")
        return config


def _prior(value: object) -> Prior:
    """Return the prior that an option means; it is remembered."""
    value = _from_base64("prior", value)
    if not isinstance(value, (bytes, Prior)):
        raise TypeError(f"dlpr: prior must be a Prior, bytes or base64, not {type(value).__name__}")
    return remember(value)


def _tuned(value: object) -> Tuned:
    """Return the weights that an option means; they are remembered."""
    value = _from_base64("tuned", value)
    if not isinstance(value, (bytes, Tuned)):
        raise TypeError(f"dlpr: tuned must be a Tuned, bytes or base64, not {type(value).__name__}")
    return remember_tuned(value)


def _from_base64(name: str, value: object) -> object:
    """Return the bytes that a string stands for, and anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise ValueError(f"dlpr: {name} is not base64; take the array's metadata anew") from None


def _integer(name: str, value: object, low: int, high: int) -> int:
    """Return value as an int (NumPy integers too, bool not) or raise an error that names it."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"dlpr: {name} must be an integer from {low} to {high}, not {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"dlpr: {name} must be from {low} to {high}, not {number}")
    return number
