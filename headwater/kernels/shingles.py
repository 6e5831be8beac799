"""Word shingles, their sets, and MinHash signatures over them.

A word is defined in :mod:`headwater.kernels.characters`; a shingle is ``ngram`` consecutive words (a
document of fewer words, but at least one, has one shingle of all its words; one without words has none).
Shingles are 64-bit hashes; a document's set holds each once. Two different shingles share a hash with
probability 2**-64, so for a pair of documents the Jaccard similarity of the hashes is that of the words.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.characters import LOWER, MARK, SOLO, TABLE, WORD, decode
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel, lower_minima

Words = npt.NDArray[np.uint64]

_U = np.uint64
_FNV_OFFSET, _FNV_PRIME = _U(0xCBF29CE484222325), _U(0x100000001B3)  # FNV-1a, 64 bit
_ROLL = _U(0x9E3779B97F4A7C15)  # odd; 2**64 / golden ratio
_MIX_1, _MIX_2 = _U(0xFF51AFD7ED558CCD), _U(0xC4CEB9FE1A85EC53)  # MurmurHash3's 64-bit finalizer
_LOWER, _WORD, _SOLO, _MARK = np.uint32(LOWER), np.uint32(WORD), np.uint32(SOLO), np.uint32(MARK)
_WORD_SOLO = np.uint32(WORD | SOLO)
_LANES = 16  # lower_minima works on this many permutations at once


class Signatures(NamedTuple):
    """One row per document, in the order given."""

    minhash: npt.NDArray[np.uint32]  # (rows, num_perm); meaningless where num_shingles is 0
    num_shingles: npt.NDArray[np.int64]  # distinct shingles
    set_hash: npt.NDArray[np.uint64]  # (rows, 2): equal for equal shingle sets
    values: Words | None  # the sets, ascending within a document, one after the other; if asked for


def signatures(
    array: pa.Array | pa.ChunkedArray, *, num_perm: int, ngram: int, seed: int, with_sets: bool = False
) -> Signatures:
    """MinHash signatures, set sizes and set hashes of a text array without nulls."""
    data, offsets = flatten(array)
    rows = len(offsets) - 1
    factors, terms = permutations(num_perm, seed)
    minhash = np.empty((rows, num_perm), dtype=np.uint32)
    counts = np.empty(rows, dtype=np.int64)
    set_hash = np.empty((rows, 2), dtype=np.uint64)
    values = _signatures(data, offsets, TABLE, ngram, factors, terms, minhash, counts, set_hash, with_sets)
    return Signatures(minhash, counts, set_hash, values if with_sets else None)


def shingle_sets(array: pa.Array | pa.ChunkedArray, *, ngram: int) -> tuple[Words, npt.NDArray[np.int64]]:
    """Every document's shingle hashes, distinct and ascending, end to end; and how many each has."""
    found = signatures(array, num_perm=0, ngram=ngram, seed=0, with_sets=True)
    assert found.values is not None
    return found.values, found.num_shingles


@lru_cache(maxsize=16)
def permutations(num_perm: int, seed: int) -> tuple[Words, Words]:
    """Odd factors and terms of ``(a * x + b) mod 2**64``, padded to whole vectors.

    SplitMix64 from ``seed``, so that they are the same on every machine and numpy release.
    """
    padded = -(-num_perm // _LANES) * _LANES
    state = _U(seed & 0xFFFFFFFFFFFFFFFF) + np.arange(1, 2 * padded + 1, dtype=np.uint64) * _ROLL
    state = (state ^ (state >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> _U(27))) * _U(0x94D049BB133111EB)
    state ^= state >> _U(31)
    # Drawn in pairs: the first permutations do not change when more are asked for.
    return np.ascontiguousarray(state[0::2] | _U(1)), np.ascontiguousarray(state[1::2])


@inline_kernel
def mix(h):
    h ^= h >> _U(33)
    h *= _MIX_1
    h ^= h >> _U(33)
    h *= _MIX_2
    return h ^ (h >> _U(33))


@inline_kernel
def _collect(data, start, end, table, ngram, top, ring, values):
    """Writes every shingle of one document into ``values`` (never 0); returns how many."""
    count = 0
    words = 0
    slot = 0
    rolling = _U(0)
    word = _FNV_OFFSET
    inside = False
    solo = False
    at = start
    while at <= end:
        entry = np.uint32(0)  # past the end: what closes the last word
        size = 1
        if at < end:
            byte = data[at]
            if byte < 0x80:
                entry = table[byte]
            else:
                code, size = decode(data, at)
                entry = table[code]
        at += size
        flags = entry & _WORD_SOLO
        if flags == _WORD and not (solo and (entry & _MARK) == 0):
            word = (word ^ _U(entry & _LOWER)) * _FNV_PRIME
            inside = True
            continue
        if inside:
            word ^= word >> _U(32)
            word *= _MIX_1
            if words >= ngram:
                rolling -= ring[slot] * top
            rolling = rolling * _ROLL + word
            ring[slot] = word
            slot += 1
            if slot == ngram:
                slot = 0
            words += 1
            if words >= ngram:
                value = mix(rolling)
                values[count] = value if value != 0 else _U(1)
                count += 1
            inside = False
            solo = False
        word = _FNV_OFFSET
        if flags != 0:
            word = (word ^ _U(entry & _LOWER)) * _FNV_PRIME
            inside = True
            solo = (entry & _SOLO) != 0
    if 0 < words < ngram:
        value = mix(rolling)
        values[0] = value if value != 0 else _U(1)
        count = 1
    return count


@inline_kernel
def _distinct(values, count, slots, mask):
    """Drops repeated ``values`` in place (open addressing in ``slots[:mask + 1]``); how many are left."""
    for i in range(mask + 1):
        slots[i] = _U(0)
    kept = 0
    for i in range(count):
        value = values[i]
        at = np.int64(value) & mask
        while slots[at] != 0 and slots[at] != value:
            at = (at + 1) & mask
        if slots[at] == 0:
            slots[at] = value
            values[kept] = value
            kept += 1
    return kept


@kernel
def _signatures(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    ngram: int,
    factors: Words,
    terms: Words,
    minhash: npt.NDArray[np.uint32],
    counts: npt.NDArray[np.int64],
    set_hash: npt.NDArray[np.uint64],
    with_sets: bool,
) -> Words:
    rows = len(offsets) - 1
    num_perm = minhash.shape[1]
    minima = np.empty(len(factors), dtype=np.uint64)
    ring = np.empty(ngram, dtype=np.uint64)
    top = _U(1)  # the weight of the word that leaves the window
    for _ in range(ngram - 1):
        top *= _ROLL
    longest = 0
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    # A word needs two bytes (itself and a separator) or is one letter of three. What stays unwritten costs
    # no memory.
    values = np.empty(longest // 2 + 2, dtype=np.uint64)
    slots = np.empty(1024, dtype=np.uint64)
    sets = np.empty(1024 if with_sets else 0, dtype=np.uint64)
    used = 0
    for row in range(rows):
        count = _collect(data, offsets[row], offsets[row + 1], table, ngram, top, ring, values)
        size = 16
        while size < 2 * count:
            size *= 2
        if size > len(slots):
            slots = np.empty(size, dtype=np.uint64)
        count = _distinct(values, count, slots, size - 1)
        counts[row] = count
        first, second = _U(count), _U(0)
        for i in range(count):
            first += values[i]
            second += (values[i] ^ (values[i] >> _U(29))) * _MIX_2
        set_hash[row, 0], set_hash[row, 1] = mix(first), mix(second ^ first)
        if num_perm > 0:
            minima[:] = ~_U(0)
            for at in range(0, len(factors), 16):
                lower_minima(values, count, factors, terms, at, minima)
            for i in range(num_perm):
                minhash[row, i] = np.uint32(minima[i] >> _U(32))
        if with_sets:
            if used + count > len(sets):
                larger = np.empty(2 * (used + count), dtype=np.uint64)
                larger[:used] = sets[:used]
                sets = larger
            ordered = np.sort(values[:count])
            sets[used : used + count] = ordered
            used += count
    return sets[:used].copy()
