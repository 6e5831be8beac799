"""Words and pairs of words of a text as counts in hashed buckets, and a linear model over them.

A word is a run of ASCII letters (in lower case) and bytes of other alphabets, a run of digits, a run of
punctuation, or a line break (one, or several with blank lines between them). White space and ``_`` only
separate: ``HTTPServer_class`` is two words, and ``\"\"\"`` and ``):`` are one each. Each word and each two
words in a row are hashed to 64 bits, of which the highest name the bucket.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import forced_kernel, inline_kernel, kernel

MIN_BITS, MAX_BITS = 8, 20

MAX_BYTES, HEAD_BYTES, TAIL_BYTES = 12_000, 9_000, 2_500
"""Of a text longer than the first, so many bytes of its beginning and end are read: what a label is of."""

_U = np.uint64
_FNV_OFFSET, _FNV_PRIME = _U(0xCBF29CE484222325), _U(0x100000001B3)  # FNV-1a, 64 bit
_ROLL = _U(0x9E3779B97F4A7C15)  # odd; 2**64 / golden ratio
_MIX_A, _MIX_B = _U(0xBF58476D1CE4E5B9), _U(0x94D049BB133111EB)  # the finalizer of splitmix64

_LETTER, _DIGIT, _MARK, _SPACE, _BREAK = range(5)

Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


def _classes() -> npt.NDArray[np.uint8]:
    table = np.full(256, _MARK, dtype=np.uint8)
    for byte in range(256):
        if (chr(byte).isascii() and chr(byte).isalpha()) or byte >= 0x80:
            table[byte] = _LETTER
        elif 48 <= byte <= 57:
            table[byte] = _DIGIT
        elif byte in (10, 13):
            table[byte] = _BREAK
        elif byte <= 32 or byte in (95, 127):
            table[byte] = _SPACE
    return table


_CLASSES = _classes()
_LOWER = np.array([b | 0x20 if 65 <= b <= 90 else b for b in range(256)], dtype=np.uint8)
_CLASSES.flags.writeable = _LOWER.flags.writeable = False


class Counts(NamedTuple):
    """Row ``i`` has ``counts[j]`` features in ``buckets[j]``, ``offsets[i] <= j < offsets[i + 1]``."""

    offsets: Ints
    buckets: Int32s  # each once in a row, in the order in which they occur
    counts: Int32s
    totals: Ints  # words and pairs of each row: the sum of its counts


def ngram_counts(array: pa.Array | pa.ChunkedArray, bits: int) -> Counts:
    """The counts of texts without nulls in ``2 ** bits`` buckets."""
    data, offsets = flatten(array)
    rows = len(offsets) - 1
    ends, totals = np.zeros(rows + 1, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    buckets, counts = _count(data, offsets, _CLASSES, _LOWER, bits, ends, totals)
    return Counts(ends, buckets, counts, totals)


def linear_scores(
    array: pa.Array | pa.ChunkedArray, weights: npt.NDArray[np.float32], intercept: float
) -> Floats:
    """``intercept`` + the weights of a text's buckets times the roots of their counts, over the root of all.

    That is a dot product with the vector of rooted counts scaled to length 1, whose length before that is
    the root of the sum of the counts. Sums run in the order of the text; a text without words has the
    intercept.
    """
    data, offsets = flatten(array)
    out = np.empty(len(offsets) - 1, dtype=np.float64)
    _score(data, offsets, _CLASSES, _LOWER, weights, float(intercept), out)
    return out


@forced_kernel
def _first_part(start, end):
    """The part to read first, and the end of the text when its end is to be read too, else 0."""
    if end - start <= MAX_BYTES:
        return start, end, np.int64(0)
    return start, start + HEAD_BYTES, end


@forced_kernel
def _next_word(data, at, end, classes, lower):
    """The hash of the word at ``at`` or after it (0 at the end), and where it ends."""
    breaks = 0
    while at < end:
        kind = classes[data[at]]
        if kind == _BREAK:
            breaks += data[at] == 10
        elif kind != _SPACE:
            break
        at += 1
    if breaks > 0 and at < end:  # white space at the end says nothing
        return _U(1 if breaks == 1 else 2), at
    if at >= end:
        return _U(0), at
    kind = classes[data[at]]
    value = _FNV_OFFSET
    while at < end and classes[data[at]] == kind:
        value = (value ^ _U(lower[data[at]])) * _FNV_PRIME
        at += 1
    return value | _U(4), at


@inline_kernel
def _doubled(array, used):
    larger = np.empty(2 * len(array), dtype=array.dtype)
    larger[:used] = array[:used]
    return larger


@forced_kernel
def _bucket(value, shift):
    value = (value ^ (value >> _U(30))) * _MIX_A
    value = (value ^ (value >> _U(27))) * _MIX_B
    return np.int64((value ^ (value >> _U(31))) >> shift)


@inline_kernel
def _fill(data, start, stop, classes, lower, shift, held, touched):
    """Counts a text's words and pairs into ``held``; returns how many buckets they ``touched``, and how many
    words and pairs there are. The caller empties the buckets again."""
    at, end, last = _first_part(start, stop)
    found = 0
    before = _U(0)
    total = 0
    while at < end or last > 0:
        if at >= end:
            at, end, last = last - TAIL_BYTES, last, np.int64(0)
            before = _U(0)
        word, at = _next_word(data, at, end, classes, lower)
        if word == _U(0):
            continue
        bucket = _bucket(word * _ROLL, shift)
        if held[bucket] == 0:
            touched[found] = bucket
            found += 1
        held[bucket] += 1
        total += 1
        if before != _U(0):
            bucket = _bucket((before * _ROLL + word) * _ROLL, shift)
            if held[bucket] == 0:
                touched[found] = bucket
                found += 1
            held[bucket] += 1
            total += 1
        before = word
    return found, total


@kernel
def _count(
    data: Bytes,
    offsets: Offsets,
    classes: Bytes,
    lower: Bytes,
    bits: int,
    ends: Ints,
    totals: Ints,
) -> tuple[Int32s, Int32s]:
    shift = _U(64 - bits)
    held = np.zeros(1 << bits, dtype=np.int32)
    touched = np.empty(1 << bits, dtype=np.int32)
    buckets = np.empty(4096, dtype=np.int32)
    counts = np.empty(4096, dtype=np.int32)
    used = 0
    for row in range(len(offsets) - 1):
        found, total = _fill(data, offsets[row], offsets[row + 1], classes, lower, shift, held, touched)
        while used + found > len(buckets):
            buckets = _doubled(buckets, used)
            counts = _doubled(counts, used)
        for i in range(found):
            buckets[used + i] = touched[i]
            counts[used + i] = held[touched[i]]
            held[touched[i]] = 0
        used += found
        totals[row] = total
        ends[row + 1] = used
    return buckets[:used], counts[:used]


@kernel
def _score(
    data: Bytes,
    offsets: Offsets,
    classes: Bytes,
    lower: Bytes,
    weights: npt.NDArray[np.float32],
    intercept: float,
    out: Floats,
) -> None:
    bits = 0
    while (1 << bits) < len(weights):
        bits += 1
    shift = _U(64 - bits)
    held = np.zeros(len(weights), dtype=np.int32)
    touched = np.empty(len(weights), dtype=np.int32)
    for row in range(len(offsets) - 1):
        found, total = _fill(data, offsets[row], offsets[row + 1], classes, lower, shift, held, touched)
        total_weight = 0.0
        for i in range(found):
            bucket = np.int64(touched[i])
            total_weight += np.float64(weights[bucket]) * math.sqrt(np.float64(held[bucket]))
            held[bucket] = 0
        out[row] = intercept + (total_weight / math.sqrt(np.float64(total)) if total > 0 else 0.0)


@kernel
def similarities(offsets: Ints, buckets: Int32s, values: Floats, bits: int, out: Floats) -> None:
    """``out[i, j]``: the dot product of rows ``i`` and ``j`` of ``values`` in ``2 ** bits`` buckets."""
    dense = np.zeros(1 << bits, dtype=np.float64)
    rows = len(offsets) - 1
    for i in range(rows):
        for k in range(offsets[i], offsets[i + 1]):
            dense[buckets[k]] = values[k]
        for j in range(i + 1):
            total = 0.0
            for k in range(offsets[j], offsets[j + 1]):
                total += values[k] * dense[buckets[k]]
            out[i, j] = total
            out[j, i] = total
        for k in range(offsets[i], offsets[i + 1]):
            dense[buckets[k]] = 0.0


@kernel
def combined(offsets: Ints, buckets: Int32s, values: Floats, factors: Floats, out: Floats) -> None:
    """``out``: the sum of the rows, each times its factor."""
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            out[buckets[k]] += factors[i] * values[k]


@kernel
def products(offsets: Ints, buckets: Int32s, values: Floats, weights: Floats, out: Floats) -> None:
    """``out[i]``: the dot product of row ``i`` and the weights."""
    for i in range(len(offsets) - 1):
        total = 0.0
        for k in range(offsets[i], offsets[i + 1]):
            total += values[k] * weights[buckets[k]]
        out[i] = total
