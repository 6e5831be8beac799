"""Lines and paragraphs of one document, and which of them repeat."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np

from headwater.kernels.characters import SPACE, decode
from headwater.kernels.jit import forced_kernel, inline_kernel, load64
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
_HIGH, _CONTROL = _U(0x8080808080808080), _U(0x1F1F1F1F1F1F1F1F)


@forced_kernel
def is_break(code):
    """Whether ``str.splitlines`` ends a line at this code point."""
    return (10 <= code <= 13) or (28 <= code <= 30) or code == 0x85 or code == 0x2028 or code == 0x2029


@inline_kernel
def count_breaks(data, start, end):
    """At least as many as there are characters that end a line in UTF-8; segments are at most two more."""
    if end - start < 1 << 20:
        return end - start
    found = np.int64(0)
    for i in range(start, end):
        byte = data[i]
        found += np.int64((byte < 31) | (byte == 0xC2) | (byte == 0xE2))
    return found


@inline_kernel
def decode_breaks(data, start, end, cp, breaks):
    """Code points of ``data[start:end]`` and where among them lines end; returns how many of each there are.

    ``cp`` has room for one more: a space stands there, at which loops over words end.
    """
    count, found = _U(0), np.int64(0)  # unsigned: no check for negative places
    at, stop = _U(start), _U(end)
    while at < stop:
        if at + _U(8) <= stop:
            eight = load64(data, at)
            if (eight & _HIGH) == 0:
                for k in range(8):
                    cp[count + _U(k)] = (eight >> _U(8 * k)) & _U(255)
                low = ~((eight | _HIGH) - _CONTROL) & _HIGH  # of each byte below 31
                if low != 0:
                    for k in range(8):
                        if ((low >> _U(8 * k + 7)) & _U(1)) != 0 and is_break(cp[count + _U(k)]):
                            breaks[found] = count + _U(k)
                            found += 1
                at += _U(8)
                count += _U(8)
                continue
        code, size = np.uint32(data[at]), 1
        if code >= 0x80:
            code, size = decode(data, at)
        if is_break(code):
            breaks[found] = count
            found += 1
        cp[count] = code
        at += _U(size)
        count += _U(1)
    cp[count] = 32
    return np.int64(count), found


@forced_kernel
def _add(cp, low, high, table, strip, starts, ends, found):
    if strip:
        while low < high and (table[cp[low]] & _SPACE) != 0:
            low += 1
        while high > low and (table[cp[high - 1]] & _SPACE) != 0:
            high -= 1
        if low == high:
            return found
    starts[found], ends[found] = low, high
    return found + 1


@inline_kernel
def segments(cp, count, how, breaks, num_breaks, table, starts, ends):
    """Cut ``cp[:count]`` at some of its ``breaks``; returns how many segments there are."""
    if how == BREAKS:
        return _lines(cp, count, breaks, num_breaks, starts, ends)
    if how in (FEEDS, FEED_RUNS, WRITTEN):
        return _feeds(cp, count, how, breaks, num_breaks, table, starts, ends)
    low, high = np.int64(0), np.int64(count)
    if how == PARAGRAPHS:
        while low < high and (table[cp[low]] & _SPACE) != 0:
            low += 1
        while high > low and (table[cp[high - 1]] & _SPACE) != 0:
            high -= 1
    strip = how != PARAGRAPHS
    found = 0
    start = low
    for k in range(num_breaks):
        at = breaks[k]
        if at < start:
            continue
        if at >= high:
            break
        stop = at + 1
        if cp[at] != 10:
            continue
        if how == PARAGRAPHS:
            while stop < high and cp[stop] == 10:
                stop += 1
            if stop - at < 2:
                continue
        elif how == STRIPPED_PARAGRAPHS:
            if stop == high or cp[stop] != 10:
                continue
            stop += 1
        found = _add(cp, start, at, table, strip, starts, ends, found)
        start = stop
    return _add(cp, start, high, table, strip, starts, ends, found)


@inline_kernel
def _lines(cp, count, breaks, num_breaks, starts, ends):
    """``str.splitlines``. Like the next one without a branch: which line is empty nobody can predict."""
    found = start = np.int64(0)
    for k in range(num_breaks):
        at = breaks[k]
        starts[found], ends[found] = start, at
        found += at >= start  # or it is the line feed after a carriage return
        pair = np.int64((cp[at] == 13) & (at + 1 < count) & (cp[at + 1] == 10))
        start = at + 1 + pair if at >= start else start
    starts[found], ends[found] = start, count
    return found + (start < count)


@inline_kernel
def _feeds(cp, count, how, breaks, num_breaks, table, starts, ends):
    found = start = np.int64(0)
    for k in range(num_breaks + 1):
        at = breaks[k] if k < num_breaks else np.int64(count)
        if k < num_breaks and cp[at] != 10:
            continue
        starts[found], ends[found] = start, at
        added = how == FEEDS or at != start or (how == FEED_RUNS and (found == 0 or k == num_breaks))
        if how == WRITTEN and at > start and (table[cp[at - 1]] & _SPACE) != 0:
            last = at - 1
            while last > start and (table[cp[last - 1]] & _SPACE) != 0:
                last -= 1
            added = last > start
        found += added
        start = at + 1
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
