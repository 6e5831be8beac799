"""Which of a set of known texts a text contains, and how much of them, by word n-grams.

A text is words with single spaces (:func:`headwater.kernels.licenses.all_words`). Two different n-grams
share a 64-bit hash with probability 2**-64.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_U = np.uint64
_FNV_OFFSET, _FNV_PRIME = _U(0xCBF29CE484222325), _U(0x100000001B3)  # FNV-1a, 64 bit
_ROLL = _U(0x9E3779B97F4A7C15)  # odd; 2**64 / golden ratio

NGRAM = 4
"""Words of the n-grams by which texts are compared."""


@inline_kernel
def _grown(buffer, need):
    if need <= len(buffer):
        return buffer
    larger = np.empty(max(2 * len(buffer), need), dtype=buffer.dtype)
    larger[: len(buffer)] = buffer
    return larger


def ngram_hashes(array: pa.Array) -> tuple[Hashes, Ints]:
    """Hashes of the NGRAM-word sequences of texts that are words with single spaces; and offsets of rows."""
    data, offsets = flatten(array)
    return _ngram_hashes(data, offsets)


@kernel
def _ngram_hashes(data: Bytes, offsets: Offsets) -> tuple[Hashes, Ints]:
    rows = len(offsets) - 1
    spaces = rows
    for i in range(offsets[0], offsets[rows]):
        spaces += data[i] == 32
    values = np.empty(spaces, dtype=np.uint64)
    ends = np.zeros(rows + 1, dtype=np.int64)
    ring = np.zeros(NGRAM, dtype=np.uint64)
    at = 0
    for row in range(rows):
        seen = 0
        word = _FNV_OFFSET
        for i in range(offsets[row], offsets[row + 1] + 1):
            if i < offsets[row + 1] and data[i] != 32:
                word = (word ^ _U(data[i])) * _FNV_PRIME
                continue
            ring[seen % NGRAM] = word
            seen += 1
            word = _FNV_OFFSET
            if seen >= NGRAM:
                mixed = _U(0)
                for k in range(NGRAM):
                    mixed = (mixed + ring[(seen + k) % NGRAM]) * _ROLL
                    mixed ^= mixed >> _U(29)
                values[at] = mixed
                at += 1
        ends[row + 1] = at
    return values[:at], ends


class Index(NamedTuple):
    """Which texts hold an n-gram: an open-addressing table and postings."""

    slots: Hashes  # a power of two; 0 is empty
    number: npt.NDArray[np.int32]  # n-gram number by slot
    starts: npt.NDArray[np.int32]  # postings of n-gram k: texts[starts[k]:starts[k + 1]]
    texts: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]  # distinct n-grams of each text


def build_index(array: pa.Array) -> Index:
    """Index of license texts (words with single spaces)."""
    values, ends = ngram_hashes(array)
    owner = np.repeat(np.arange(len(ends) - 1, dtype=np.int32), np.diff(ends))
    order = np.lexsort((owner, values))
    values, owner = values[order], owner[order]
    fresh = np.ones(len(values), dtype=np.bool_)
    fresh[1:] = (values[1:] != values[:-1]) | (owner[1:] != owner[:-1])
    values, owner = values[fresh], owner[fresh]
    distinct, starts = np.unique(values, return_index=True)
    size = 1 << int(np.ceil(np.log2(max(2, 2 * len(distinct)))))
    slots, number = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.int32)
    _fill(distinct, slots, number)
    sizes = np.bincount(owner, minlength=len(ends) - 1).astype(np.int32)
    return Index(slots, number, np.append(starts, len(values)).astype(np.int32), owner, sizes)


@kernel
def _fill(distinct: Hashes, slots: Hashes, number: npt.NDArray[np.int32]) -> None:
    mask = _U(len(slots) - 1)
    for k in range(len(distinct)):
        place = distinct[k] & mask
        while slots[place] != _U(0):
            place = (place + _U(1)) & mask
        slots[place] = distinct[k]
        number[place] = k


def common_ngrams(index: Index) -> npt.NDArray[np.int32]:
    """How many n-grams each pair of texts has in common: shape (texts, texts)."""
    shared = np.zeros((len(index.sizes), len(index.sizes)), dtype=np.int32)
    _common(index.starts, index.texts, shared)
    return shared


@kernel
def _common(
    starts: npt.NDArray[np.int32], texts: npt.NDArray[np.int32], shared: npt.NDArray[np.int32]
) -> None:
    for k in range(len(starts) - 1):
        for i in range(starts[k], starts[k + 1]):
            for j in range(starts[k], starts[k + 1]):
                shared[texts[i], texts[j]] += 1


MAX_PICKS = 4


def contained_texts(
    array: pa.Array, index: Index, *, floor: float, fresh: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """The license texts that each window contains: numbers (-1: none) and shares, shape (rows, MAX_PICKS).

    Share: distinct n-grams of the license text that the window has. Picked one after the other: the
    text with the most n-grams in the window, weighted by its share to the fourth power, whose share is
    at least ``floor`` and of which at least ``fresh`` is not yet explained by an earlier pick.
    """
    values, ends = ngram_hashes(array)
    picks = np.full((len(array), MAX_PICKS), -1, dtype=np.int32)
    shares = np.zeros((len(array), MAX_PICKS), dtype=np.float64)
    _contained(values, ends, *index, floor, fresh, picks, shares)
    return picks, shares


@kernel
def _contained(
    values: Hashes,
    ends: Ints,
    slots: Hashes,
    number: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int32],
    texts: npt.NDArray[np.int32],
    sizes: npt.NDArray[np.int32],
    floor: float,
    fresh: float,
    picks: npt.NDArray[np.int32],
    shares: npt.NDArray[np.float64],
) -> None:
    mask = _U(len(slots) - 1)
    stamp = np.full(len(starts), -1, dtype=np.int64)
    total = np.zeros(len(sizes), dtype=np.int64)
    left = np.zeros(len(sizes), dtype=np.int64)
    found = np.empty(4096, dtype=np.int32)
    for row in range(len(ends) - 1):
        n = 0
        for i in range(ends[row], ends[row + 1]):
            value = values[i]
            place = value & mask
            while slots[place] != _U(0) and slots[place] != value:
                place = (place + _U(1)) & mask
            if slots[place] == _U(0):
                continue
            k = number[place]
            if stamp[k] == row:
                continue
            stamp[k] = row
            found = _grown(found, n + 1)
            found[n] = k
            n += 1
            for p in range(starts[k], starts[k + 1]):
                total[texts[p]] += 1
                left[texts[p]] += 1
        for pick in range(MAX_PICKS):
            best = -1
            best_score = 0.0
            for text in range(len(sizes)):
                if total[text] < floor * sizes[text] or left[text] < fresh * sizes[text] or sizes[text] == 0:
                    continue
                share = total[text] / sizes[text]
                score = left[text] * share * share * share * share
                if score > best_score:
                    best, best_score = text, score
            if best < 0:
                break
            picks[row, pick] = best
            shares[row, pick] = total[best] / sizes[best]
            for m in range(n):  # its n-grams explain no other text
                k = found[m]
                if k < 0:
                    continue
                mine = False
                for p in range(starts[k], starts[k + 1]):
                    if texts[p] == best:
                        mine = True
                        break
                if mine:
                    for p in range(starts[k], starts[k + 1]):
                        left[texts[p]] -= 1
                    found[m] = -1
        for text in range(len(sizes)):
            total[text] = 0
            left[text] = 0
