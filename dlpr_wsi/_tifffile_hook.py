"""Registers DLPR with tifffile when, and only if, tifffile is imported.

``import dlpr_wsi`` must stay cheap, so it does not import tifffile itself. It puts a finder in front of `sys.meta_path`
that waits for the name ``tifffile``, lets the usual finders find it, and registers after the module has run. Then the
finder takes itself out again.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install"]


def install() -> None:
    """Register now if tifffile is there, else when it comes. Does nothing the second time."""
    if "tifffile" in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    """Register; a tifffile that is too new must still work for everything else."""
    from dlpr.errors import PluginError

    try:
        from dlpr.plugins.tifffile import register

        register()
    except PluginError as error:
        warnings.warn(f"TIFF files with DLPR tiles cannot be read: {error}", RuntimeWarning, stacklevel=2)


class _Finder(MetaPathFinder):
    """Finds tifffile through the other finders and wraps its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return tifffile's spec; None for every other name."""
        if fullname != "tifffile":
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None


class _Loader(Loader):
    """Runs a module through its own loader, then registers."""

    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let the module's own loader do it."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, leave no trace of the wrapping, register."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        _register()
