"""What can go wrong with slides and archives.

::

    WsiError
    +-- UsageError              the caller asked for something impossible; names the option
    +-- MissingDependencyError  (also ImportError) an optional package is absent; names the extra
    +-- SourceError             the slide cannot be opened or read
    +-- ArchiveError            the archive cannot be opened, or is not one that this package reads

Damage inside single chunks is no exception: `dlpr_wsi.pipeline.verify` collects it in its report.
"""

from __future__ import annotations

__all__ = ["ArchiveError", "MissingDependencyError", "SourceError", "UsageError", "WsiError"]


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


class SourceError(WsiError):
    """A slide cannot be opened or read."""


class ArchiveError(WsiError):
    """A path holds no archive that this package reads, or one that does not belong to the slide."""
