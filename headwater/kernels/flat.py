"""Arrow string and binary arrays as the flat buffers the kernels read."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import UsageError

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

_EMPTY = np.zeros(1, dtype=np.uint8)
_EMPTY.flags.writeable = False


Scalar = TypeVar("Scalar", bound=np.generic)


class Flat(NamedTuple):
    """Row ``i`` is ``data[offsets[i]:offsets[i + 1]]``; both arrays are read-only views where possible.

    Offsets are absolute in ``data``: a sliced array does not begin at zero. A null row may have any
    length; callers decide nulls by :func:`is_null`.
    """

    data: Bytes  # uint8
    offsets: Offsets  # int64, one more than rows


def whole(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous Array; dictionary-encoded values decoded, string views as large strings."""
    if isinstance(array, pa.ChunkedArray):
        # Small offsets cannot address the concatenation of more than 2 GiB.
        if array.num_chunks > 1 and array.nbytes >= 2**31 - 1:
            array = array.cast(_large(array.type))
        array = (
            array.chunk(0)
            if array.num_chunks == 1
            else pa.concat_arrays(array.chunks or [pa.array([], array.type)])
        )
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.type in (pa.string_view(), pa.binary_view()):
        array = array.cast(_large(array.type))
    if pa.types.is_null(array.type):
        array = array.cast(pa.large_string())
    return array


def flatten(array: pa.Array | pa.ChunkedArray) -> Flat:
    """``(data, offsets)`` of a string, binary (small, large, view, dictionary) or fixed-size binary array.

    Copies nothing but 32-bit offsets (widened) and chunked or dictionary input. Raises UsageError for
    other types.
    """
    array = whole(array)
    kind = array.type
    rows = len(array)
    if pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
        offsets = (np.arange(rows + 1, dtype=np.int64) + array.offset) * width
        return Flat(_bytes(array.buffers()[1]), _frozen(offsets))
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        dtype: type[np.signedinteger] = np.int32
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        dtype = np.int64
    else:
        raise UsageError(f"expected a string or binary array, got {kind}")
    _, offset_buffer, data = array.buffers()
    if rows == 0 or offset_buffer is None:
        return Flat(_bytes(data), _frozen(np.zeros(rows + 1, dtype=np.int64)))
    offsets = np.frombuffer(offset_buffer, dtype=dtype)[array.offset : array.offset + rows + 1]
    return Flat(_bytes(data), _frozen(np.ascontiguousarray(offsets, dtype=np.int64)))


def is_null(array: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_] | None:
    """A mask of the null rows, or None when there are none."""
    if array.null_count == 0:
        return None
    return np.asarray(pc.is_null(whole(array)).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _bytes(buffer: pa.Buffer | None) -> Bytes:
    # Read-only always: numba would compile again for writable arrays. Never a null pointer.
    if buffer is None or buffer.size == 0:
        return _EMPTY
    return _frozen(np.frombuffer(buffer, dtype=np.uint8))


def _frozen(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    view = array.view()
    view.flags.writeable = False
    return view


def _large(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = kind in (pa.string(), pa.large_string(), pa.string_view())
    return (
        pa.large_string() if text else pa.large_binary() if kind in (pa.binary(), pa.binary_view()) else kind
    )
