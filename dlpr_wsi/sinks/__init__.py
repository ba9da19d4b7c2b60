"""Where pixels go.

``dlpr_wsi.sinks.zarr3``
    A Zarr format 3 array, written under a temporary name and renamed when it is complete.
"""
