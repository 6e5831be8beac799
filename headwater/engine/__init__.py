"""Where operators run: the threads of this process, or the workers of a Dask cluster."""

from headwater.engine.local import ordered_map

__all__ = ["ordered_map"]
