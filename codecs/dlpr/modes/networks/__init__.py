"""Mode coded: the DLPR networks (docs/format sections 3 to 12).

::

    pixels --mode.py, native--> CodedPayload (payload.py) --mode.py, native; or exact/reference.py, torch--> pixels
    images --training--> model/ (float, torch) --export.py--> weights file (weights.py, checked by weights_check.py)
"""
