"""ROUGE-L: words as ids, longest common subsequences, and a pool of texts that are unlike each other.

Words are those of Google's ``rouge_score`` without stemming: lower-cased runs of ``[a-z0-9]``.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel

Hashes = npt.NDArray[np.uint64]
Ids = npt.NDArray[np.int64]

_BASIS = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)
"""FNV-1a, 64 bits: two of 10^6 different words share a hash with probability 3e-8."""


@inline_kernel
def _put(hashes, found, value):
    if found < len(hashes):
        hashes[found] = value
    return found + 1


@kernel
def _word_hashes(data: Bytes, offsets: Offsets, hashes: Hashes, starts: Offsets) -> int:
    """The words of every row; returns how many there are, however many fit into ``hashes``."""
    found = 0
    for row in range(len(offsets) - 1):
        starts[row] = found
        value, open_word = _BASIS, False
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            code, size, closes = data[at], 1, False
            if 65 <= code <= 90:
                code += 32
            elif code == 0xC4 and at + 1 < end and data[at + 1] == 0xB0:
                code, size, closes = 105, 2, True  # İ: lower() gives i and a dot that is no letter here
            elif code == 0xE2 and at + 2 < end and data[at + 1] == 0x84 and data[at + 2] == 0xAA:
                code, size = 107, 3  # the Kelvin sign, the other one whose lower() is in a to z
            at += size
            if 97 <= code <= 122 or 48 <= code <= 57:
                value = (value ^ np.uint64(code)) * _PRIME
                open_word = True
                if not closes:
                    continue
            if open_word:
                found = _put(hashes, found, value)
                value, open_word = _BASIS, False
        if open_word:
            found = _put(hashes, found, value)
    starts[len(offsets) - 1] = found
    return found


def word_hashes(text: pa.Array | pa.ChunkedArray) -> tuple[Hashes, Offsets]:
    """``hashes[starts[i] : starts[i + 1]]`` are the words of row ``i``, in order; a null row has any."""
    data, offsets = flatten(text)
    starts = np.zeros(len(offsets), dtype=np.int64)
    room = int(offsets[-1] - offsets[0]) // 4 + len(offsets)
    hashes = np.empty(room, dtype=np.uint64)
    found = _word_hashes(data, offsets, hashes, starts)
    if found > room:
        hashes = np.empty(found, dtype=np.uint64)
        _word_hashes(data, offsets, hashes, starts)
    return hashes[:found], starts


def word_ids(*columns: pa.Array | pa.ChunkedArray) -> list[tuple[Ids, Offsets]]:
    """The words of several columns as ids from 0 on, the same word the same id in all of them."""
    parts = [word_hashes(column) for column in columns]
    _, ids = np.unique(np.concatenate([hashes for hashes, _ in parts]), return_inverse=True)
    ends = np.cumsum([0, *(len(hashes) for hashes, _ in parts)])
    return [
        (np.ascontiguousarray(ids[ends[i] : ends[i + 1]], dtype=np.int64), starts)
        for i, (_, starts) in enumerate(parts)
    ]


@inline_kernel
def _common(a, b, row):
    """Words of the longest common subsequence; ``row`` is scratch, longer than ``b``."""
    row[: len(b) + 1] = 0
    for i in range(len(a)):
        diagonal = 0
        for j in range(len(b)):
            above = row[j + 1]
            if a[i] == b[j]:
                row[j + 1] = diagonal + 1
            elif row[j] > above:
                row[j + 1] = row[j]
            diagonal = above
    return row[len(b)]


@inline_kernel
def _measure(common, first, second):
    """The F-measure of precision and recall; symmetric, and 0 where a side has no words."""
    total = first + second
    return 2.0 * common / total if common > 0 else 0.0


@kernel
def _rows(a: Ids, a_starts: Offsets, b: Ids, b_starts: Offsets, out: npt.NDArray[np.float64]) -> None:
    longest = 0
    for i in range(len(out)):
        longest = max(longest, b_starts[i + 1] - b_starts[i])
    row = np.zeros(longest + 1, dtype=np.int64)
    for i in range(len(out)):
        first, second = a[a_starts[i] : a_starts[i + 1]], b[b_starts[i] : b_starts[i + 1]]
        out[i] = _measure(_common(first, second, row), len(first), len(second))


def rouge_l_rows(text: pa.Array, reference: pa.Array) -> npt.NDArray[np.float64]:
    """The F-measure of each pair of rows."""
    (a, a_starts), (b, b_starts) = word_ids(text, reference)
    out = np.zeros(len(text), dtype=np.float64)
    _rows(a, a_starts, b, b_starts, out)
    return out


@kernel
def _accept(
    ids: Ids,
    starts: Offsets,
    num_pool: int,
    threshold: float,
    kinds: int,
    best: npt.NDArray[np.float64],
    nearest: Ids,
    work: Ids,
) -> None:
    rows = len(starts) - 1
    longest = 0
    for i in range(rows):
        longest = max(longest, starts[i + 1] - starts[i])
    scratch = np.zeros(longest + 1, dtype=np.int64)
    counts = np.zeros(kinds, dtype=np.int64)
    pool = np.empty(rows, dtype=np.int64)
    for i in range(num_pool):
        pool[i] = i
    size = num_pool
    for i in range(num_pool, rows):
        own = ids[starts[i] : starts[i + 1]]
        for word in own:
            counts[word] += 1
        top, at = 0.0, np.int64(-1)
        for k in range(size):
            other = ids[starts[pool[k]] : starts[pool[k] + 1]]
            # What no common subsequence exceeds: the shorter text, and the words that both have.
            if _measure(min(len(own), len(other)), len(own), len(other)) <= top:
                work[0] += 1
                continue
            shared = 0
            for word in other:
                if counts[word] > 0:
                    shared += 1
                counts[word] -= 1
            for word in other:
                counts[word] += 1
            if _measure(shared, len(own), len(other)) <= top:
                work[1] += 1
                continue
            work[2] += 1
            found = _measure(_common(own, other, scratch), len(own), len(other))
            if found > top:
                top, at = found, pool[k]
                if top >= threshold:
                    break
        for word in own:
            counts[word] -= 1
        best[i], nearest[i] = top, at
        if top < threshold:
            pool[size] = i
            size += 1


class Distinct:
    """What :func:`accept_distinct` found, for the candidates only.

    ``score`` is the highest ROUGE-L to the pool (for a refused text that of the first that refuses it, which
    may not be the highest), ``nearest`` the row it was found at: below the pool's length one of the pool,
    from there on a candidate; -1 where nothing is shared. ``pruned`` counts pairs settled by length and by
    words, ``compared`` those settled by a subsequence.
    """

    def __init__(self, best: npt.NDArray[np.float64], nearest: Ids, threshold: float, work: Ids) -> None:
        self.score = best
        self.nearest = nearest
        self.accepted = best < threshold
        self.pruned = int(work[0] + work[1])
        self.compared = int(work[2])


def accept_distinct(pool: pa.Array, candidates: pa.Array, threshold: float) -> Distinct:
    """Accept, in order, the candidates whose ROUGE-L to everything accepted before is below ``threshold``.

    The pool counts as accepted. Exact: a pair is left out only where it cannot exceed what was found.
    """
    if pool.type != candidates.type:
        pool = pool.cast(candidates.type)
    ((ids, starts),) = word_ids(pa.concat_arrays([pool, candidates]))
    rows = len(pool) + len(candidates)
    best, nearest = np.zeros(rows), np.full(rows, -1, dtype=np.int64)
    work = np.zeros(3, dtype=np.int64)
    _accept(ids, starts, len(pool), threshold, int(ids.max(initial=-1)) + 1, best, nearest, work)
    return Distinct(best[len(pool) :], nearest[len(pool) :], threshold, work)


@kernel
def _outside(hashes: Hashes, starts: Offsets, known: Hashes, out: npt.NDArray[np.int64]) -> None:
    for i in range(len(out)):
        for word in hashes[starts[i] : starts[i + 1]]:
            at = np.searchsorted(known, word)
            if at == len(known) or known[at] != word:
                out[i] += 1


def outside_words(text: pa.Array, known: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Words of each row, and how many of them are not among ``known`` (sorted hashes)."""
    hashes, starts = word_hashes(text)
    out = np.zeros(len(text), dtype=np.int64)
    _outside(hashes, starts, known, out)
    return np.diff(starts), out
