"""The words of a text in their order, as hashes: what a text begins with, what it repeats, how many it has.

A word is defined in :mod:`headwater.kernels.characters`, as for shingles: lower-cased, without marks of
punctuation. Two different words, or n-grams, share a 64-bit hash with probability 2**-64.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.characters import LOWER, MARK, SOLO, TABLE, WORD, decode
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import kernel

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_U = np.uint64
_FNV_OFFSET, _FNV_PRIME = _U(0xCBF29CE484222325), _U(0x100000001B3)  # FNV-1a, 64 bit
_ROLL = _U(0x9E3779B97F4A7C15)  # odd; 2**64 / golden ratio
_MIX_1, _MIX_2 = _U(0xFF51AFD7ED558CCD), _U(0xC4CEB9FE1A85EC53)  # MurmurHash3's 64-bit finalizer
_LOWER, _WORD, _SOLO, _MARK = np.uint32(LOWER), np.uint32(WORD), np.uint32(SOLO), np.uint32(MARK)
_WORD_SOLO = np.uint32(WORD | SOLO)


class WordSequence(NamedTuple):
    """Row ``i`` has the words ``hashes[offsets[i]:offsets[i + 1]]``."""

    hashes: Hashes
    offsets: Ints

    @property
    def counts(self) -> Ints:
        """Words of each row."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Ints:
        """The row of each word."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)


def word_sequence(array: pa.Array | pa.ChunkedArray) -> WordSequence:
    """The words of a text array; a null has none."""
    data, offsets = flatten(array)
    hashes, ends = _words(data, offsets, TABLE)
    return WordSequence(hashes, ends)


def ngrams(words: WordSequence, n: int) -> tuple[Hashes, Ints]:
    """The hash of every run of ``n`` words within a row, in order; and the row of each."""
    if len(words.hashes) < n:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    size = len(words.hashes) - n + 1
    mixed = np.zeros(size, np.uint64)
    for k in range(n):
        mixed = (mixed + words.hashes[k : k + size]) * _ROLL
        mixed ^= mixed >> _U(29)
    owners = words.owners
    inside = owners[:size] == owners[n - 1 :]
    return mixed[inside], owners[:size][inside]


def first_ngrams(words: WordSequence, n: int) -> tuple[Hashes, npt.NDArray[np.bool_]]:
    """The hash of the first ``n`` words of each row, and which rows have as many."""
    long_enough = words.counts >= n
    starts = words.offsets[:-1][long_enough]
    mixed = np.zeros(len(starts), np.uint64)
    for k in range(n):
        mixed = (mixed + words.hashes[starts + k]) * _ROLL
        mixed ^= mixed >> _U(29)
    return mixed, long_enough


def repeated_share(words: WordSequence, n: int) -> npt.NDArray[np.float64]:
    """The share of a row's n-grams that occurred in it before; 0 for a row that has none."""
    longest = int(words.counts.max(initial=0))
    slots = 1 << max(4, (2 * longest).bit_length())
    return _repeated(words.hashes, words.offsets, n, slots)


@kernel
def _repeated(hashes: Hashes, offsets: Ints, n: int, slots: int) -> npt.NDArray[np.float64]:
    rows = len(offsets) - 1
    keys = np.empty(slots, dtype=np.uint64)
    stamps = np.zeros(slots, dtype=np.int64)  # a slot is taken when it bears the row's number
    shares = np.zeros(rows)
    for row in range(rows):
        start, end = offsets[row], offsets[row + 1]
        total = end - start - n + 1
        if total < 1:
            continue
        mask = 16
        while mask < 2 * total:
            mask *= 2
        mask -= 1
        repeated = 0
        for at in range(start, end - n + 1):
            key = _U(0)
            for k in range(n):
                key = (key + hashes[at + k]) * _ROLL
                key ^= key >> _U(29)
            slot = np.int64(key & _U(mask))
            while stamps[slot] == row + 1 and keys[slot] != key:
                slot = (slot + 1) & mask
            if stamps[slot] == row + 1:
                repeated += 1
            else:
                stamps[slot] = row + 1
                keys[slot] = key
        shares[row] = repeated / total
    return shares


@kernel
def _words(data: Bytes, offsets: Offsets, table: npt.NDArray[np.uint32]) -> tuple[Hashes, Ints]:
    rows = len(offsets) - 1
    # A word is one byte at least; pages of the buffer that no word reaches are never touched.
    hashes = np.empty(offsets[rows] - offsets[0] + 1, dtype=np.uint64)
    ends = np.zeros(rows + 1, dtype=np.int64)
    count = 0
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        word = _FNV_OFFSET
        inside = False
        solo = False
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
                word ^= word >> _U(29)
                word *= _MIX_2
                hashes[count] = word ^ (word >> _U(32))
                count += 1
                inside = False
                solo = False
            word = _FNV_OFFSET
            if flags != 0:
                word = (word ^ _U(entry & _LOWER)) * _FNV_PRIME
                inside = True
                solo = (entry & _SOLO) != 0
        ends[row + 1] = count
    return hashes[:count].copy(), ends
