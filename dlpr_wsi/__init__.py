"""Whole-slide images into DLPR archives, and back to proof.

``dlpr_wsi.sources``
    Where pixels come from: slides through OpenSlide, and finished archives.
``dlpr_wsi.sinks``
    Where they go: a Zarr format 3 array.
``dlpr_wsi.pipeline``
    `convert` and `verify`.
``dlpr_wsi.reversible``
    `open_original`, `restore`, `mount`: the slide's own files, byte for byte, out of archives made for that.
``dlpr_wsi.tile_reader``, ``dlpr_wsi.viewer``
    `TileReader`, which reads regions as OpenSlide does, and the server that shows images in a browser.
``dlpr_wsi.info``, ``dlpr_wsi.cli``
    What a slide or archive is, and the command ``dlpr-wsi``.

The codec itself is the package ``dlpr``, which knows nothing about slides.

Importing this package lets tifffile read TIFF files with DLPR tiles, whenever tifffile is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlpr_wsi import _tifffile_hook

if TYPE_CHECKING:
    from dlpr import DLPR
    from dlpr_wsi.reversible.file import open_original
    from dlpr_wsi.tile_reader import TileReader

__all__ = ["DLPR", "TileReader", "__version__", "open_original"]


def __getattr__(name: str) -> Any:
    """Import the codec and the reader only when they are asked for."""
    if name == "TileReader":
        from dlpr_wsi.tile_reader import TileReader

        return TileReader
    if name == "open_original":
        from dlpr_wsi.reversible.file import open_original

        return open_original
    if name in __all__:
        import dlpr

        return getattr(dlpr, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_tifffile_hook.install()
