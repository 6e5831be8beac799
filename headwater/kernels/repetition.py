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
    room to work in: ``words`` entries each, and :func:`table_size` slots.
    """
    for i in range(15):
        out[i] = 0
    active = words
    for i in range(words):
        names[i] = np.int64(hashes[i] >> _U(1))
        places[i] = i
        stamp[i] = 0
    for n in range(2, 11):
        while active > 0 and places[active - 1] + n > words:  # places ascend
            active -= 1
        mask = table_size(active) - 1
        for i in range(mask + 1):
            slots[i] = 0
        for k in range(active):
            place = places[k]
            key = (_U(names[place]) * _ROLL) ^ hashes[place + n - 1]
            key = (key ^ (key >> _U(33))) * _MIX
            slot = np.int64(key >> _U(33)) & mask
            while slots[slot] != 0 and slot_keys[slot] != key:
                slot = (slot + 1) & mask
            first = slots[slot] - 1
            if first < 0:
                first = place
                slots[slot] = place + 1
                slot_keys[slot] = key
                times[place] = 1
            else:
                times[first] += 1
            names[place] = first
        if n <= 4:
            out[n - 2] = _top(places, active, names, times, before, words, n, counting)
        else:
            out[n - 2] = _repeated(places, active, names, times, before, n, counting, stamp)
            if counting == DOLMA:
                total = np.int64(0)
                for i in range(words - n + 1):
                    total += before[i + n] - before[i]
                out[n + 4] = total
        kept = 0
        for k in range(active):
            places[kept] = places[k]
            kept += times[names[places[k]]] > 1
        active = kept


@inline_kernel
def _top(places, active, names, times, before, words, n, counting):
    most = np.int64(1)
    length = np.int64(0)
    for k in range(active):
        place = places[k]
        if times[names[place]] < 2 or times[names[place]] < most or names[place] != place:
            continue
        here = before[place + n] - before[place]
        if times[place] > most:
            most = np.int64(times[place])
            length = here
        elif counting == UNION:
            length = max(length, here)
    if most == 1:
        if counting == UNION or words < n:
            return np.int64(0)
        length = before[n] - before[0]  # all occur once: the first
    return most * (length + (n - 1 if counting == DATATROVE else 0))


@inline_kernel
def _repeated(places, active, names, times, before, n, counting, stamp):
    chars = np.int64(0)
    until = np.int64(0)
    for k in range(active):
        place = places[k]
        if times[names[place]] < 2:
            continue
        if counting == DOLMA:
            chars += before[place + n] - before[place]
        elif counting == UNION:
            chars += before[place + n] - before[max(until, place)]
            until = place + n
        elif place >= until:
            if stamp[names[place]] == n:
                chars += before[place + n] - before[place]
                until = place + n
            else:
                stamp[names[place]] = n
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
