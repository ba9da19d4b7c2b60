"""Ways to carry a chunk's samples: a room for each, with one door (`protocol.py`), listed in `table.py`.

A new mode is a folder here, a number in `dlpr.frame.Mode` and a line in the table. Nothing outside its room branches on
it: `dlpr.codec` asks every mode for a stream and keeps the smallest.
"""
