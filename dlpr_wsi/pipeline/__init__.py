"""Slide to archive, and the proof that they agree.

``plan``      levels, chunks and shards: pure numbers
``encode``    the calls of the codec
``work``      what a worker does: one shard, from the slide to a checked file
``execute``   where tasks run: this process, or Dask workers; bounded in flight
``plugin``    a Dask worker's state
``gpu``       coding on a torch device
``journal``   what makes a conversion resumable
``estimate``  the archive's size from a sample of tiles
``convert``   slide -> archive
``batch``     many slides, one table
``verify``    archive against its hashes, and against the slide
"""
