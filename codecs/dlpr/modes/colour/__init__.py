"""Mode colour: pixels that were YCbCr, as the planes they were made from (docs/format/colour-layer.md).

::

    pixels --find.py, native--> lattice (lattice.py), chroma's size and filter (chroma.py), planes Y, Cb, Cr
    planes --mode.py: each a grey chunk of mode coded--> ColourPayload (payload.py), with a residual for what they lack
    ColourPayload --mode.py, native; or reference.py, torch_pixels.py--> planes, upsampled, pixels
"""
