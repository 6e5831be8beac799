"""XXH64 (seed 0), the hash that datatrove takes of a shingle.

The algorithm and its constants are those of xxHash (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel, load32, load64

_U = np.uint64
_P1, _P2, _P3 = _U(0x9E3779B185EBCA87), _U(0xC2B2AE3D27D4EB4F), _U(0x165667B19E3779F9)
_P4, _P5 = _U(0x85EBCA77C2B2AE63), _U(0x27D4EB2F165667C5)


def xxh64(array: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """xxh64 of each row's bytes, shape (rows,). Rows without nulls."""
    data, offsets = flatten(array)
    out = np.empty(len(offsets) - 1, dtype=np.uint64)
    _rows(data, offsets, out)
    return out


@kernel
def _rows(data: Bytes, offsets: Offsets, out: npt.NDArray[np.uint64]) -> None:
    for row in range(len(offsets) - 1):
        out[row] = hash_64(data, offsets[row], offsets[row + 1] - offsets[row])


@inline_kernel
def _rotate(h, by):
    return (h << _U(by)) | (h >> _U(64 - by))


@inline_kernel
def _round(lane, word):
    return _rotate(lane + word * _P2, 31) * _P1


@inline_kernel
def _merge(h, lane):
    return (h ^ _round(_U(0), lane)) * _P1 + _P4


@inline_kernel
def hash_64(data, at, length):
    """xxh64 of ``data[at:at+length]``."""
    end = at + length
    if length >= 32:
        a, b, c, d = _P1 + _P2, _P2, _U(0), _U(0) - _P1
        while at + 32 <= end:
            a = _round(a, load64(data, at))
            b = _round(b, load64(data, at + 8))
            c = _round(c, load64(data, at + 16))
            d = _round(d, load64(data, at + 24))
            at += 32
        h = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        h = _merge(_merge(_merge(_merge(h, a), b), c), d)
    else:
        h = _P5
    h += _U(length)
    while at + 8 <= end:
        h = _rotate(h ^ _round(_U(0), load64(data, at)), 27) * _P1 + _P4
        at += 8
    if at + 4 <= end:
        h = _rotate(h ^ (load32(data, at) * _P1), 23) * _P2 + _P3
        at += 4
    while at < end:
        h = _rotate(h ^ (_U(data[at]) * _P5), 11) * _P1
        at += 1
    h ^= h >> _U(33)
    h *= _P2
    h ^= h >> _U(29)
    h *= _P3
    return h ^ (h >> _U(32))
