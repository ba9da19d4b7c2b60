"""The viewer: decoded chunks on demand, and the server that shows them in a browser.

::

    stores.py    an archive or a slide as a grid of chunks
    cache.py     least recently used, bounded in bytes
    engine.py    decodes chunks: coalescing, priorities, cancellation
    pyramid.py   regions of any level, put together from chunks
    deepzoom.py, iiif.py, compare.py, render.py    what a response shows
    app.py       routes; guard.py and server.py: limits, headers, the process

`dlpr_wsi.tile_reader` builds on the first four and needs no web framework.
"""
