"""Where operators run: one machine's threads now, Dask tasks over the same seam later."""

from headwater.engine.local import ordered_map

__all__ = ["ordered_map"]
