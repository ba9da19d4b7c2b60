"""The JPEG 2000 layer: an image as the codestream it was decoded from, up to its quantised wavelet coefficients.

::

    codestream or JP2 --parse.py--> J2kImage (image.py) --synthesis.py--> pixels
                          |              |
                          +-> structure -+--write.py--> the same codestream, byte for byte
"""
