"""The JPEG layer: an image as the JPEG it was decoded from, and what that JPEG lacks (docs/format sections 15 to 19).

::

    JPEG bytes --parse.py--> JpegImage (image.py) --synthesis.py--> pixels of libjpeg, bit for bit
                                  |                                    |
                                  +--stream.py, native coder--> stream of mode jpeg <-- the pixels to be coded
    stream --stream.py (native) or reference.py (arithmetic.py, coefficients.py, residual.py)--> pixels
"""
