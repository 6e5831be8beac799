"""Lines and paragraphs of one document, and which of them repeat."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np

from headwater.kernels.characters import SPACE
from headwater.kernels.jit import inline_kernel
from headwater.kernels.token_classes import SPREAD, hash_span

(
    FEEDS,  # str.split("\n")
    FEED_RUNS,  # re.split(r"\n+", text)
    WRITTEN,  # str.split("\n"), those that are not blank
    STRIPPED,  # the same, each stripped
    PARAGRAPHS,  # re.split(r"\n{2,}", text.strip())
    STRIPPED_PARAGRAPHS,  # text.split("\n\n"), each stripped, those that are not empty
    BREAKS,  # str.splitlines()
) = range(7)

_U = np.uint64
_SPACE = np.uint32(SPACE)


@inline_kernel
def is_break(code):
    """Whether ``str.splitlines`` ends a line at this code point."""
    return (10 <= code <= 13) or (28 <= code <= 30) or code == 0x85 or code == 0x2028 or code == 0x2029


@inline_kernel
def count_breaks(cp, count):
    """At least as many as there are characters that end a line; segments are at most two more."""
    found = 0
    for i in range(count):
        found += cp[i] < 31 or cp[i] == 0x85 or cp[i] == 0x2028 or cp[i] == 0x2029
    return found


@inline_kernel
def find_breaks(cp, count, breaks):
    """Where every line break stands; returns how many there are."""
    found = 0
    for i in range(count):
        if is_break(cp[i]):
            breaks[found] = i
            found += 1
    return found


@inline_kernel
def _add(cp, low, high, table, strip, written, starts, ends, found):
    if strip or written:
        first, last = low, high
        while first < last and (table[cp[first]] & _SPACE) != 0:
            first += 1
        while last > first and (table[cp[last - 1]] & _SPACE) != 0:
            last -= 1
        if written and first == last:
            return found
        if strip:
            low, high = first, last
    starts[found], ends[found] = low, high
    return found + 1


@inline_kernel
def segments(cp, count, how, breaks, num_breaks, table, starts, ends):
    """Cut ``cp[:count]`` at some of its ``breaks``; returns how many segments there are."""
    low, high = np.int64(0), np.int64(count)
    if how == PARAGRAPHS:
        while low < high and (table[cp[low]] & _SPACE) != 0:
            low += 1
        while high > low and (table[cp[high - 1]] & _SPACE) != 0:
            high -= 1
    strip = how in (STRIPPED, STRIPPED_PARAGRAPHS)
    written = how == WRITTEN or strip
    found = 0
    start = low
    for k in range(num_breaks):
        at = breaks[k]
        if at < start:
            continue
        if at >= high:
            break
        stop = at + 1
        if how == BREAKS:
            if cp[at] == 13 and stop < high and cp[stop] == 10:
                stop += 1
        elif cp[at] != 10:
            continue
        elif how in (FEED_RUNS, PARAGRAPHS):
            while stop < high and cp[stop] == 10:
                stop += 1
            if how == PARAGRAPHS and stop - at < 2:
                continue
        elif how == STRIPPED_PARAGRAPHS:
            if stop == high or cp[stop] != 10:
                continue
            stop += 1
        found = _add(cp, start, at, table, strip, written, starts, ends, found)
        start = stop
    if how != BREAKS or start < high:
        found = _add(cp, start, high, table, strip, written, starts, ends, found)
    return found


@inline_kernel
def repeated_segments(cp, starts, ends, found, out):
    """``out``: later copies, their characters; all copies of what repeats, theirs; all characters."""
    for i in range(5):
        out[i] = 0
    size = 16
    while size < 2 * found:
        size *= 2
    mask = size - 1
    firsts = np.zeros(size, dtype=np.int32)
    keys = np.empty(size, dtype=np.uint64)
    again = np.zeros(found, dtype=np.bool_)
    for i in range(found):
        key = hash_span(cp, starts[i], ends[i])
        slot = np.int64((key * SPREAD) >> _U(20)) & mask
        while firsts[slot] != 0 and keys[slot] != key:
            slot = (slot + 1) & mask
        length = ends[i] - starts[i]
        out[4] += length
        if firsts[slot] == 0:
            firsts[slot] = i + 1
            keys[slot] = key
            continue
        first = firsts[slot] - 1
        out[0] += 1
        out[1] += length
        out[2] += 1
        out[3] += length
        if not again[first]:
            again[first] = True
            out[2] += 1
            out[3] += length
