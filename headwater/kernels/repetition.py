"""Repeated n-grams of one document's words, n from 2 to 10, exactly.

An n-gram is named by the place of its first occurrence: the name of its first n - 1 words and the last word
decide the name, so equal names are equal n-grams (words are compared by 64-bit hashes). Only places whose
(n - 1)-gram occurs again can hold a repeated n-gram, so each n looks only at those: ordinary text costs one
full pass for n = 2 and little after.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np

from headwater.kernels.jit import inline_kernel

DATATROVE, DOLMA, UNION = range(3)
"""How characters are counted. DATATROVE: a later copy counts its characters and is stepped over, and the top
n-gram (the first of the most frequent) includes its spaces. DOLMA: every copy, overlaps and all, of the sum
over every n-gram. UNION (the paper, DCLM): characters of words that some repeated n-gram covers."""

_U = np.uint64
_MIX = _U(0xFF51AFD7ED558CCD)  # of MurmurHash3's 64-bit finalizer
_ROLL = _U(0x9E3779B97F4A7C15)  # odd; 2**64 / golden ratio


@inline_kernel
def table_size(words):
    """Slots for :func:`repeated_ngrams`: a power of two, at most half of them taken."""
    size = 16
    while size < 2 * words:
        size *= 2
    return size


@inline_kernel
def repeated_ngrams(hashes, before, words, counting, names, times, stamp, places, slots, slot_keys, out):
    """Characters in the top 2-, 3-, 4-grams (``out[0:3]``) and in repeated 5- to 10-grams (``out[3:9]``).

    ``before[i]`` is the number of characters of the words before word i (one more entry than words). With
    DOLMA, ``out[9:15]`` are the sums that the repeated ones are shares of. The six arrays before ``out`` are
    room to work in: ``words`` entries each, and :func:`table_size` slots; all unsigned, which saves a check
    for negative places at each access.
    """
    for i in range(15):
        out[i] = 0
    for i in range(words):
        stamp[i] = 0
    active = words
    for n in range(2, 11):
        active = _name(hashes, words, n, active, names, times, places, slots, slot_keys)
        kept = 0
        for k in range(active):
            place = places[k] if n > 2 else np.uint32(k)
            places[kept] = place
            kept += times[names[place]] > 1
        active = kept
        if n <= 4:
            out[n - 2] = _top(places, active, names, times, before, words, n, counting)
        else:
            out[n - 2] = _repeated(places, active, names, before, n, counting, stamp)
            if counting == DOLMA:
                total = np.int64(0)
                for i in range(words - n + 1):
                    total += before[i + n] - before[i]
                out[n + 4] = total


@inline_kernel
def _name(hashes, words, n, active, names, times, places, slots, slot_keys):
    """Name the n-grams at ``places`` (every pair of words for n = 2); returns how many there are."""
    if n == 2:
        active = max(words - 1, 0)
    while active > 0 and n > 2 and np.int64(places[active - 1]) + n > words:  # places ascend
        active -= 1
    mask = _U(table_size(active) - 1)
    for i in range(mask + _U(1)):
        slots[i] = 0
    step = _U(n - 1)
    for k in range(active):
        place = _U(k)
        key = hashes[place]
        if n > 2:
            place = _U(places[place])
            name = _U(names[place])
            # Most of what repeats goes on as its first occurrence does: only the others are looked up.
            if hashes[name + step] == hashes[place + step]:
                times[name] = np.uint32(1) if name == place else times[name] + np.uint32(1)
                continue
            key = name
        key = (key * _ROLL) ^ hashes[place + step]
        key = (key ^ (key >> _U(33))) * _MIX
        slot = (key >> _U(33)) & mask
        while slots[slot] != 0 and slot_keys[slot] != key:
            slot = (slot + _U(1)) & mask
        if slots[slot] == 0:
            slots[slot] = place + _U(1)
            slot_keys[slot] = key
            times[place] = 1
            names[place] = place
        else:
            first = _U(slots[slot]) - _U(1)
            times[first] += np.uint32(1)
            names[place] = first
    return active


@inline_kernel
def _top(places, active, names, times, before, words, n, counting):
    most = np.int64(1)
    length = np.int64(0)
    for k in range(active):
        place = places[k]
        count = np.int64(times[names[place]])
        if count > most:  # the first place of its n-gram: an earlier one would have come first
            most = count
            length = before[np.int64(place) + n] - before[place]
        elif counting == UNION and count == most:
            length = max(length, before[np.int64(place) + n] - before[place])
    if most == 1:
        if counting == UNION or words < n:
            return np.int64(0)
        length = before[n] - before[0]  # all occur once: the first
    return most * (length + (n - 1 if counting == DATATROVE else 0))


@inline_kernel
def _repeated(places, active, names, before, n, counting, stamp):
    chars = np.int64(0)
    until = np.int64(0)
    for k in range(active):
        place = np.int64(places[k])
        if counting == DOLMA:
            chars += before[place + n] - before[place]
        elif counting == UNION:
            chars += before[place + n] - before[max(until, place)]
            until = place + n
        elif place >= until:
            name = names[place]
            if stamp[name] == n:
                chars += before[place + n] - before[place]
                until = place + n
            else:
                stamp[name] = n
    return chars


@inline_kernel
def most_repeats(hashes, words, longest):
    """How often a phrase of 1 to ``longest`` words stands one after the other, at most (0: no word)."""
    most = np.int64(min(words, 1))
    for period in range(1, longest + 1):
        if words < period * (most + 1):  # no room for more
            break
        run = np.int64(0)
        for i in range(period, words):
            run = run + 1 if hashes[i] == hashes[i - period] else np.int64(0)
            if run >= period * most:
                most = run // period + 1
    return most
