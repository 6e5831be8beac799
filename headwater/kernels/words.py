"""Sentences, and how often the words and phrases of a list occur: an automaton over lower-cased text."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headwater.kernels.characters import LOWER, SPACE, TABLE, WORD, decode
from headwater.kernels.flat import Bytes, Offsets
from headwater.kernels.jit import inline_kernel, kernel

_U64 = np.uint64
_LOWER, _SPACE, _WORD = np.uint32(LOWER), np.uint32(SPACE), np.uint32(WORD)
Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]


@inline_kernel
def _ends_sentence(code):
    """1: before white space only; 2: before anything."""
    if code == 46 or code == 33 or code == 63 or code == 0x2026:  # . ! ? …
        return 1
    return 2 if code == 0x3002 or code == 0xFF01 or code == 0xFF1F else 0  # 。 ！ ？


@inline_kernel
def _closes(code):
    return (
        code == 34
        or code == 39
        or code == 41
        or code == 93
        or code == 0x201D
        or code == 0x2019
        or code == 0xBB
    )


@kernel
def _sentences(
    data: Bytes, offsets: Offsets, table: npt.NDArray[np.uint32], owners: Ints, starts: Ints, ends: Ints
) -> int:
    found = 0
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        start = np.int64(-1)  # of the open sentence
        last = at  # the end of its last character that is not white space
        mark = 0
        while at <= end:
            code, size = np.uint32(10), 1
            if at < end:
                code = np.uint32(data[at])
                if code >= np.uint32(0x80):
                    code, size = decode(data, at)
            space = (table[code] & _SPACE) != 0
            if start >= 0 and (code == 10 or (space and mark == 1) or (mark == 2 and not _closes(code))):
                if found < len(owners):
                    owners[found], starts[found], ends[found] = row, start, last
                found += 1
                start = np.int64(-1)
                mark = 0
            if not space:
                if start < 0:
                    start = at
                last = at + size
                kind = _ends_sentence(code)
                if kind > 0:
                    mark = kind
                elif not _closes(code):
                    mark = 0
            at += size
    return found


def sentences(data: Bytes, offsets: Offsets, owners: Ints, starts: Ints, ends: Ints) -> int:
    """Owner, start and end of each sentence, without white space around it; returns how many.

    When more are found than fit, call again with longer arrays.
    """
    return int(_sentences(data, offsets, TABLE, owners, starts, ends))


# Sides of an entry on which the text may go on with a word.
OPEN_LEFT, OPEN_RIGHT = 1, 2


@kernel
def scan(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.uint16],
    goto: Int32s,
    link: Int32s,
    entry: Int32s,
    lengths: Int32s,
    sides: Int32s,
    longest: int,
    out: Ints,
) -> None:
    """Occurrences and different entries in each document: ``out`` is (2, documents).

    ``goto`` is (states, classes), complete; ``link[state]`` the next shorter suffix that is an entry (0:
    none), ``entry[state]`` the entry that ends there (-1: none), ``lengths`` in characters, ``sides``
    where the entry need not stand free. A run of white space counts as one space.
    """
    seen = np.zeros(max(len(lengths), 1), dtype=np.int64)  # the last document (from 1) that had the entry
    words = np.zeros(longest + 1, dtype=np.bool_)  # whether the last characters were word characters
    waiting = np.empty(
        longest + 1, dtype=np.int32
    )  # entries that end at the last character and have to stand free
    width = len(words)
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        state = np.int64(0)
        place = 0  # characters so far
        spaced = False
        num_waiting = 0
        while at <= end:
            code, size = np.uint32(32), 1
            if at < end:
                code = np.uint32(data[at])
                if code >= np.uint32(0x80):
                    code, size = decode(data, at)
            at += size
            flags = table[code]
            space = (flags & _SPACE) != 0
            if space and spaced and at <= end:
                continue
            spaced = space
            word = (flags & _WORD) != 0
            if num_waiting > 0:
                if not word:
                    for i in range(num_waiting):
                        found = waiting[i]
                        out[0, row] += 1
                        out[1, row] += seen[found] != row + 1
                        seen[found] = row + 1
                num_waiting = 0
            if at > end:
                break
            lower = np.uint32(32) if space else flags & _LOWER
            words[place % width] = word
            place += 1
            state = np.int64(goto[state, classes[lower]])
            node = state if entry[state] >= 0 else np.int64(link[state])
            while node > 0:
                found = entry[node]
                before = place - lengths[found] - 1  # the character before the entry
                free = before < 0 or not words[before % width]
                if free or (sides[found] & OPEN_LEFT) != 0:
                    if (sides[found] & OPEN_RIGHT) != 0:
                        out[0, row] += 1
                        out[1, row] += seen[found] != row + 1
                        seen[found] = row + 1
                    elif num_waiting < len(waiting):
                        waiting[num_waiting] = found
                        num_waiting += 1
                node = np.int64(link[node])
