"""Where pixels go.

``dlpr_wsi.sinks.omezarr``
    OME-Zarr 0.5 and 0.4: metadata, shards, chunks.
``dlpr_wsi.sinks.place``
    Names that appear only when what they name is complete.
``dlpr_wsi.sinks.tiff``
    Tiled TIFF, assembled from a finished archive.
"""
