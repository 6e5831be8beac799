"""A memory of chunks (runs without white space) already cut into tokens, with what the rules ask of them.

How a chunk is cut depends on nothing outside it, and most chunks of a text came before: cutting, hashing and
classifying tokens is paid for once per distinct chunk. Chunks are told apart by 64-bit hashes, as words are.

A record in ``pool``: four words of two 32-bit counts each (tokens and words; characters of words and words
with a letter; stop words and number signs; ellipses and a bit for each distinct stop word), then the hash and
the length of each token. ``keys`` and ``records`` are slots with one chunk each: another one that falls there
takes its place, and when the pool is full all are forgotten.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np

from headwater.kernels.characters import SPACE
from headwater.kernels.jit import forced_kernel, inline_kernel

MOST_SLOTS = 1 << 15
LONGEST = 64  # a longer chunk hardly comes again
WORDS_PER_SLOT = 8
HEAD = 4
_SPACE, _U32 = np.uint32(SPACE), np.uint32


@inline_kernel
def slots_for(size):
    """Slots for a batch of so many bytes: a power of two."""
    slots = 256
    while slots < MOST_SLOTS and slots < size // 16:
        slots *= 2
    return slots


@forced_kernel
def next_chunk(cp, at, count, table):
    """(begin, end, all are ASCII letters) of the first chunk from ``at`` on; begin is ``count`` if none is.

    ``cp[count]`` is a space.
    """
    at, count = np.uint64(at), np.uint64(count)  # unsigned: no check for negative places
    while at < count and (table[cp[at]] & _SPACE) != 0:
        at += np.uint64(1)
    begin = at
    farthest = np.uint64(0)
    code = cp[at]
    while (table[code] & _SPACE) == 0:
        farthest = max(farthest, np.uint64(code | _U32(32)) - np.uint64(97))
        at += np.uint64(1)
        code = cp[at]
    return np.int64(begin), np.int64(at), farthest < np.uint64(26)
