"""128-bit document ids as two uint64 columns: no Python object per document."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import UsageError
from headwater.kernels.flat import whole

Ids = npt.NDArray[np.uint64]
"""(rows, 2): high and low, so that rows order as the bytes do."""


def ids_from_arrow(array: pa.Array | pa.ChunkedArray, name: str = "doc_id") -> Ids:
    """16-byte binary values; UsageError for anything else, or nulls."""
    column = whole(array)
    if column.type in (pa.binary(), pa.large_binary()):
        if len(column) and pc.any(pc.not_equal(pc.binary_length(column), 16)).as_py():
            raise UsageError(f"{name} must be 16 bytes, got other lengths")
        column = column.cast(pa.binary()).cast(pa.binary(16))
    if column.type != pa.binary(16):
        raise UsageError(f"{name} must be binary(16), got {column.type}")
    if column.null_count:
        raise UsageError(f"{name} has {column.null_count} null rows")
    if len(column) == 0:
        return np.empty((0, 2), dtype=np.uint64)
    buffer = column.buffers()[1]
    words = np.frombuffer(buffer, dtype=">u8", count=2 * len(column), offset=16 * column.offset)
    return words.astype(np.uint64).reshape(-1, 2)


def ids_to_arrow(ids: Ids) -> pa.FixedSizeBinaryArray:
    """binary(16)."""
    words = np.ascontiguousarray(ids.astype(">u8"))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(words)])


def sorted_distinct(ids: Ids) -> Ids:
    """Ascending, each once."""
    if len(ids) == 0:
        return ids
    ordered = ids[np.lexsort((ids[:, 1], ids[:, 0]))]
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return np.ascontiguousarray(ordered[first])
