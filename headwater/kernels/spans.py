"""Windows of tokens: their anchors, their hashes, and the spans that duplicate windows make.

A token is a 64-bit hash of a *word* (:mod:`headwater.kernels.characters`, lower-cased, punctuation aside) or
of a maximal run of characters that are not *white space* (case and punctuation count). A window is ``n``
consecutive tokens; its 128-bit hash is two polynomials of its tokens, and equal hashes are taken for equal
tokens: among 10**10 windows a false match has a probability below 10**-18.

A window's *anchor* is the smallest hash of the ``n - k + 1`` runs of ``k`` tokens inside it (Schleimer,
Wilkerson, Aiken, "Winnowing", SIGMOD 2003), ``k = n // 2``. Equal windows have equal anchors, and one anchor
stands for ``n / 4`` windows on average, so it is enough to ask first which anchors occur twice.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import UsageError
from headwater.kernels.characters import LOWER, MARK, SOLO, SPACE, TABLE, WORD, decode
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel
from headwater.kernels.shingles import mix
from headwater.kernels.twice import is_marked

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint32]

TOKEN_UNITS = ("words", "whitespace")

_U = np.uint64
_FNV_OFFSET, _FNV_PRIME = _U(0xCBF29CE484222325), _U(0x100000001B3)  # FNV-1a, 64 bit
_ROLL = _U(0x9E3779B97F4A7C15)  # odd; 2**64 / golden ratio
_ROLL_2 = _U(0xD1342543DE82EF95)  # odd; multiplier of Steele and Vigna, arXiv 2001.05304
_ROLL_3 = _U(0xAF251AF3B0F025B5)  # odd; from the same table
_LOWER, _WORD, _SOLO, _MARK = np.uint32(LOWER), np.uint32(WORD), np.uint32(SOLO), np.uint32(MARK)
_WORD_SOLO, _SPACE = np.uint32(WORD | SOLO), np.uint32(SPACE)


def unit_number(unit: str) -> int:
    """The place of ``unit`` in TOKEN_UNITS, or UsageError."""
    if unit not in TOKEN_UNITS:
        raise UsageError(f"unit must be one of {', '.join(TOKEN_UNITS)}, got {unit!r}")
    return TOKEN_UNITS.index(unit)


def anchors(array: pa.Array | pa.ChunkedArray, *, num_tokens: int, unit: str) -> tuple[Words, Offsets]:
    """The anchors of every document's windows, once for each place; how many each document has."""
    data, offsets = flatten(array)
    counts = np.zeros(len(offsets) - 1, dtype=np.int64)
    return _anchors(data, offsets, TABLE, unit_number(unit), num_tokens, counts), counts


def shared_windows(
    array: pa.Array | pa.ChunkedArray, marks: Words, *, num_tokens: int, unit: str
) -> tuple[Words, Places]:
    """The windows whose anchor is marked in ``marks`` (:mod:`headwater.kernels.twice`), in their order.

    Hashes (windows, 2), and (4, windows): row of the document, number of the first token, bytes from the
    start of the document to the first token's start and to the last token's end.
    """
    data, offsets = flatten(array)
    return _shared_windows(data, offsets, TABLE, unit_number(unit), num_tokens, marks)


@inline_kernel
def tokenize(data, start, end, table, unit, hashes, starts, ends):
    """Write every token's hash and bytes (from ``start``); returns how many."""
    count = 0
    word = _FNV_OFFSET
    inside = False
    solo = False
    begin = start
    at = start
    while at <= end:
        entry = _SPACE  # past the end: what closes the last token
        code = np.uint32(32)
        size = 1
        if at < end:
            byte = data[at]
            if byte < 0x80:
                code = np.uint32(byte)
            else:
                code, size = decode(data, at)
            entry = table[code]
        if unit == 0:
            flags = entry & _WORD_SOLO
            if flags == _WORD and inside and not (solo and (entry & _MARK) == 0):
                word = (word ^ _U(entry & _LOWER)) * _FNV_PRIME
                at += size
                continue
        else:
            flags = np.uint32(0) if (entry & _SPACE) != 0 else _WORD
            if flags != 0 and inside:
                word = (word ^ _U(code)) * _FNV_PRIME
                at += size
                continue
        if inside:
            hashes[count] = mix(word)
            starts[count] = begin - start
            ends[count] = at - start
            count += 1
            inside = False
            solo = False
        if flags != 0:
            word = (_FNV_OFFSET ^ _U((entry & _LOWER) if unit == 0 else code)) * _FNV_PRIME
            begin = at
            inside = True
            solo = (flags & _SOLO) != 0
        at += size
    return count


@inline_kernel
def _power(base, exponent):
    value = _U(1)
    for _ in range(exponent):
        value *= base
    return value


@inline_kernel
def _grams(hashes, count, k, top, out):
    """The hash of each run of ``k`` tokens; how many."""
    rolling = _U(0)
    for i in range(count):
        if i >= k:
            rolling -= hashes[i - k] * top
        rolling = rolling * _ROLL + hashes[i]
        if i >= k - 1:
            out[i - k + 1] = mix(rolling)
    return max(0, count - k + 1)


@inline_kernel
def _least(grams, window, reach, current):
    """Where the smallest (last of equals) of ``grams[window:window+reach]`` is, given the one before."""
    last = window + reach - 1
    if current >= window:
        return last if grams[last] <= grams[current] else current
    current = window
    for i in range(window + 1, last + 1):
        if grams[i] <= grams[current]:
            current = i
    return current


@inline_kernel
def _longest(offsets):
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


@kernel
def _anchors(
    data: Bytes, offsets: Offsets, table: Places, unit: int, n: int, counts: npt.NDArray[np.int64]
) -> Words:
    k = max(1, n // 2)
    reach = n - k + 1
    top = _power(_ROLL, k - 1)
    # A token takes two bytes (itself and a separator) or is one letter of three. What stays unwritten costs
    # no memory.
    most = _longest(offsets) // 2 + 2
    hashes = np.empty(most, dtype=np.uint64)
    starts = np.empty(most, dtype=np.uint32)
    ends = np.empty(most, dtype=np.uint32)
    grams = np.empty(most, dtype=np.uint64)
    out = np.empty((offsets[-1] - offsets[0]) // 2 + 2 * len(offsets), dtype=np.uint64)
    used = 0
    for row in range(len(offsets) - 1):
        count = tokenize(data, offsets[row], offsets[row + 1], table, unit, hashes, starts, ends)
        if count < n:
            continue
        _grams(hashes, count, k, top, grams)
        current = -1
        before = used
        for window in range(count - n + 1):
            place = _least(grams, window, reach, current)
            if place != current:
                out[used] = grams[place]
                used += 1
                current = place
        counts[row] = used - before
    return out[:used].copy()


@kernel
def _shared_windows(
    data: Bytes, offsets: Offsets, table: Places, unit: int, n: int, marks: Words
) -> tuple[Words, Places]:
    k = max(1, n // 2)
    reach = n - k + 1
    top = _power(_ROLL, k - 1)
    top_2, top_3 = _power(_ROLL_2, n - 1), _power(_ROLL_3, n - 1)
    most = _longest(offsets) // 2 + 2
    hashes = np.empty(most, dtype=np.uint64)
    starts = np.empty(most, dtype=np.uint32)
    ends = np.empty(most, dtype=np.uint32)
    grams = np.empty(most, dtype=np.uint64)
    room = (offsets[-1] - offsets[0]) // 2 + 2 * len(offsets)
    keys = np.empty((room, 2), dtype=np.uint64)
    places = np.empty((4, room), dtype=np.uint32)
    used = 0
    for row in range(len(offsets) - 1):
        count = tokenize(data, offsets[row], offsets[row + 1], table, unit, hashes, starts, ends)
        if count < n:
            continue
        _grams(hashes, count, k, top, grams)
        current = -1
        shared = False
        rolled = -1  # the window that the two polynomials stand at
        first, second = _U(0), _U(0)
        for window in range(count - n + 1):
            place = _least(grams, window, reach, current)
            if place != current:
                shared = is_marked(marks, grams[place])
                current = place
            if not shared:
                continue
            if rolled >= 0 and rolled == window - 1:
                old = hashes[window - 1]
                new = hashes[window + n - 1]
                first = (first - old * top_2) * _ROLL_2 + new
                second = (second - (old ^ (old >> _U(31))) * top_3) * _ROLL_3 + (new ^ (new >> _U(31)))
            else:
                first, second = _U(0), _U(0)
                for i in range(window, window + n):
                    first = first * _ROLL_2 + hashes[i]
                    second = second * _ROLL_3 + (hashes[i] ^ (hashes[i] >> _U(31)))
            rolled = window
            keys[used, 0], keys[used, 1] = mix(first), mix(second)
            places[0, used] = row
            places[1, used] = window
            places[2, used] = starts[window]
            places[3, used] = ends[window + n - 1]
            used += 1
    return keys[:used].copy(), places[:, :used].copy()


@kernel
def merge_windows(rows: Places, n: int, open_span: npt.NDArray[np.int64], out: npt.NDArray[np.int64]) -> int:
    """Join windows that follow each other in both documents into spans.

    ``rows`` (7, windows): document, number of the first token, start and end byte, and document, first token
    and start byte of the match; ordered by document and token. ``open_span`` (9) carries the span that is
    open from call to call: its six output values, then the last window's token number and match token
    number, and whether there is one. ``out`` (windows + 1, 6): document, start, end, tokens, match document,
    match start. Returns how many spans were closed.
    """
    closed = 0
    for i in range(rows.shape[1]):
        doc, token, match, match_token = (
            np.int64(rows[0, i]), np.int64(rows[1, i]), np.int64(rows[4, i]), np.int64(rows[5, i]),
        )  # fmt: skip
        if (
            open_span[8] == 1
            and open_span[0] == doc
            and open_span[4] == match
            and open_span[6] + 1 == token
            and open_span[7] + 1 == match_token
        ):
            open_span[2] = rows[3, i]
            open_span[3] += 1
            open_span[6], open_span[7] = token, match_token
            continue
        if open_span[8] == 1:
            out[closed] = open_span[:6]
            closed += 1
        open_span[0], open_span[1], open_span[2], open_span[3] = doc, rows[2, i], rows[3, i], n
        open_span[4], open_span[5] = match, rows[6, i]
        open_span[6], open_span[7], open_span[8] = token, match_token, 1
    return closed
