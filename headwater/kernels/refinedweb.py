"""Words in the lines that RefinedWeb's line-wise filters take out, as DCLM-Baseline runs them."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np

from headwater.kernels.characters import ALNUM, DIGIT, LOWER, SPACE
from headwater.kernels.jit import inline_kernel

_ALNUM, _DIGIT = np.uint32(ALNUM), np.uint32(DIGIT)
_LOWER, _SPACE = np.uint32(LOWER), np.uint32(SPACE)
_MAX_WORDS = 10  # a longer line keeps its phrase


def _codes(phrases):
    codes = np.zeros((len(phrases), 16), dtype=np.uint32)
    for row, phrase in enumerate(phrases):
        codes[row, : len(phrase)] = [ord(c) for c in phrase]
    return codes


_COUNTERS = _codes(
    ("likes", "shares", "comments", "retweets", "reposts", "quotes", "bookmarks", "upvotes", "downvotes",
     "downloads", "views", "followers")
)  # fmt: skip
_PHRASES = _codes(("items in cart", "read more", "sign-in"))


@inline_kernel
def removed_words(cp, starts, ends, found, table):
    """Words (that begin with a letter or digit) of lines dropped whole, or of the phrases cut from a line.

    A line goes when over half of its characters are capitals, all are digits, it is a counter ("3 likes") or
    it has fewer than two words; "items in cart", a final "Read more..." and an initial "Sign-in" are cut from
    lines of at most ten words.
    """
    removed = 0
    for i in range(found):
        low, high = starts[i], ends[i]
        if low == high:
            continue
        capitals = digits = words = counted = 0
        inside = False
        for k in range(low, high):
            entry = table[cp[k]]
            capitals += (entry & _LOWER) != cp[k]
            digits += (entry & _DIGIT) != 0
            space = (entry & _SPACE) != 0
            if not space and not inside:
                words += 1
                counted += (entry & _ALNUM) != 0
            inside = not space
        length = high - low
        if 2 * capitals > length or digits == length or words < 2 or _is_counter(cp, low, high, table):
            removed += counted
        elif words <= _MAX_WORDS:
            cut = 0
            for k in range(low, high):
                if _phrase_at(cp, k, high, _PHRASES, 0, table) > 0:
                    cut += 3
            if high - low >= 12 and _phrase_at(cp, high - 12, high, _PHRASES, 1, table) > 0:
                cut += 2
            cut += _phrase_at(cp, low, high, _PHRASES, 2, table) > 0
            removed += min(cut, counted)
    return removed


@inline_kernel
def _phrase_at(cp, at, high, phrases, row, table):
    """Length of the phrase if it stands at ``at``, else 0."""
    k = 0
    while phrases[row, k] != 0:
        if at + k >= high or (table[cp[at + k]] & _LOWER) != phrases[row, k]:
            return 0
        k += 1
    return k


@inline_kernel
def _is_counter(cp, low, high, table):
    at = low
    while at < high and (table[cp[at]] & _ALNUM) == 0 and cp[at] != 95:
        at += 1
    if at == high or (table[cp[at]] & _DIGIT) == 0:
        return False
    while at < high and ((table[cp[at]] & _DIGIT) != 0 or cp[at] == 44 or cp[at] == 46):
        at += 1
    if at < high and (cp[at] | 0x20) in (107, 109, 98):
        at += 1
    gap = at
    while at < high and (table[cp[at]] & _SPACE) != 0:
        at += 1
    if at == gap:
        return False
    for row in range(len(_COUNTERS)):
        length = _phrase_at(cp, at, high, _COUNTERS, row, table)
        if length > 0:
            rest = at + length
            while rest < high and (table[cp[rest]] & _ALNUM) == 0 and cp[rest] != 95:
                rest += 1
            if rest == high:
                return True
    return False
