"""What can go wrong with slides and archives.

::

    WsiError
    +-- UsageError              the caller asked for something impossible; names the option
    +-- MissingDependencyError  (also ImportError) an optional package is absent; names the extra
    +-- SourceError             the slide cannot be opened or read
    +-- ConversionError         tiles of the slide cannot be converted; names them
    +-- GrowthError             the archive would be larger than the slide, and --no-growth was given
    +-- ArchiveError            the archive cannot be opened, or is not one that this package reads

Damage inside single chunks is no exception: `dlpr_wsi.pipeline.verify` collects it in its report.
"""

from __future__ import annotations

__all__ = [
    "ArchiveError",
    "ConversionError",
    "GrowthError",
    "MissingDependencyError",
    "SourceError",
    "UsageError",
    "WsiError",
]

_SHOWN = 20  # tiles named one by one in a message


class WsiError(Exception):
    """Base of the errors of this package."""


class UsageError(WsiError):
    """An option or argument cannot be honoured.

    Parameters
    ----------
    option : str
        The option or argument as written on the command line.
    message : str
        What is wrong with it.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"argument {option}: {message}")
        self.option = option


class MissingDependencyError(WsiError, ImportError):
    """A package of an optional extra is not installed.

    Parameters
    ----------
    package : str
        What is missing.
    extra : str
        The extra of dlpr-wsi that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; it comes with: pip install 'dlpr-wsi[{extra}]'")
        self.package = package
        self.extra = extra


class GrowthError(WsiError):
    """An archive would be larger than its slide, and that was not wanted. None was made, the slide is as it was."""


class SourceError(WsiError):
    """A slide cannot be opened or read."""


class ArchiveError(WsiError):
    """A path holds no archive that this package reads, or one that does not belong to the slide."""


class ConversionError(WsiError):
    """Some tiles of a slide could not be converted. The rest is done and kept for another run.

    Parameters
    ----------
    source : object
        The slide.
    bad : tuple
        The tiles; each prints as one line that names it.
    """

    def __init__(self, source: object, bad: tuple[object, ...]) -> None:
        shown = "".join(f"\n  {tile}" for tile in bad[:_SHOWN])
        more = f"\n  ... and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        super().__init__(
            f"{source}: {len(bad)} {'tile' if len(bad) == 1 else 'tiles'} could not be converted:{shown}{more}\n"
            "  no archive was made; the other tiles are kept: run the same command again once the cause is removed"
        )
        self.source = source
        self.bad = bad
