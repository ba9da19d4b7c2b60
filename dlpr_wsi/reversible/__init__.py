"""The slide's files, byte for byte, out of its archive.

::

    slide ── files ── ranges ─┬─ made: bytes that chunks of the archive give again (`makers.py`)
                              └─ kept: everything else, zstd in blocks            (`kept.py`)
    both listed by the byte map (`layout.py`, docs/format/source-map.md), which lies in the archive (`place.py`)

``build.py`` writes it, ``originals.py`` reads it; everything else stands on `Originals`: `open_original`
(``file.py``), ``restore.py``, ``mount.py`` and the viewer's ``/files``.
"""
