"""One table that tells a kernel what a tokenizer of English asks about a code point.

``FLAGS[c]`` holds, as bits: PREFIX, SUFFIX (cut off a chunk's start, end), ICON (cuts inside), LOWER and
UPPER (what a full stop between them separates; quotes are both), LETTER, ALNUM, BEFORE_STOP (a full stop
after it is cut off), CAPITAL, SYMBOL (datatrove's punctuation: a word of nothing else is no word), TERMINAL
(its terminal punctuation), PUNCTUATION (Unicode category P), CLOSES (ends a sentence).
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import base64
import zlib

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import forced_kernel, load64, multiply_wide
from headwater.kernels.token_data import NUM_RUNS, PACKED
from headwater.rules import english_exceptions

(
    PREFIX,
    SUFFIX,
    ICON,
    LOWER,
    UPPER,
    LETTER,
    ALNUM,
    BEFORE_STOP,
    CAPITAL,
    SYMBOL,
    TERMINAL,
    PUNCTUATION,
    CLOSES,
) = (1 << bit for bit in range(13))

FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a, 64 bit
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd; 2**64 / golden ratio
EXCEPTION_SLOTS = 4096
_ONE, _TWO, _FOUR, _HALF = (np.uint64(number) for number in (1, 2, 4, 32))


def _flags() -> npt.NDArray[np.uint16]:
    raw = np.frombuffer(zlib.decompress(base64.b85decode(PACKED)), dtype=np.uint8).reshape(6, NUM_RUNS)
    lengths = np.ascontiguousarray(raw[:4].T).view("<u4").ravel()
    flags = np.repeat(np.ascontiguousarray(raw[4:].T).view("<u2").ravel(), lengths).astype(np.uint16)
    flags.flags.writeable = False
    return flags


@forced_kernel
def hash_span(cp, low, high):
    """A 64-bit hash of ``cp[low:high]`` (uint32), after wyhash: four code points to a multiplication.

    The last four may overlap those before. A code point has 21 bits: the first factor has others, so it is
    never 0, and the length stands apart from them.
    """
    low, high = np.uint64(low), np.uint64(high)  # unsigned: no check for negative places
    length = high - low
    value = FNV_OFFSET + length * SPREAD
    if length < 4:
        if length == 0:
            return value
        one = np.uint64(cp[low]) | (np.uint64(cp[low + (length >> _ONE)]) << _HALF)
        upper, lower = multiply_wide(one ^ SPREAD, np.uint64(cp[high - _ONE]) ^ value)
        return upper ^ lower
    at = low
    last = high - _FOUR
    while at < last:
        upper, lower = multiply_wide(load64(cp, at) ^ SPREAD, load64(cp, at + _TWO) ^ value)
        value = upper ^ lower
        at += _FOUR
    upper, lower = multiply_wide(load64(cp, last) ^ SPREAD, load64(cp, last + _TWO) ^ value)
    return upper ^ lower


def hash_of(text: str) -> int:
    """FNV-1a over code points, never 0, as the kernels compute it."""
    value = int(FNV_OFFSET)
    for character in text:
        value = ((value ^ ord(character)) * int(FNV_PRIME)) & (2**64 - 1)
    return value | 1


def _exceptions() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.uint64], int]:
    """An open-addressed table: keys, and cut positions, one byte each (0: no more).

    Third, by length: which first (low 6 bits of the code point) characters an exception has, and, further
    on, which last ones: most chunks are seen to be none without a hash.
    """
    keys = np.zeros(EXCEPTION_SLOTS, dtype=np.uint64)
    cuts = np.zeros(EXCEPTION_SLOTS, dtype=np.uint64)
    edges = [0] * 64
    longest = 0
    for tokens in english_exceptions():
        whole = "".join(tokens)
        edges[len(whole)] |= 1 << (ord(whole[0]) & 63)
        edges[32 + len(whole)] |= 1 << (ord(whole[-1]) & 63)
        key = hash_of(whole)
        slot = (key >> 20) & (EXCEPTION_SLOTS - 1)
        while keys[slot] not in (0, key):
            slot = (slot + 1) & (EXCEPTION_SLOTS - 1)
        ends, packed = 0, 0
        for place, token in enumerate(tokens[:-1]):
            ends += len(token)
            packed |= ends << (8 * place)
        keys[slot], cuts[slot] = key, packed
        longest = max(longest, sum(map(len, tokens)))
    keys.flags.writeable = cuts.flags.writeable = False
    return keys, cuts, np.array(edges, dtype=np.uint64), longest


def _openings() -> npt.NDArray[np.bool_]:
    """``[(31 * a + b) & 4095]``: whether an exception of one token begins with the characters a, b."""
    openings = np.zeros(4096, dtype=np.bool_)
    for tokens in english_exceptions():
        if len(tokens) == 1 and len(tokens[0]) > 1:
            openings[(31 * ord(tokens[0][0]) + ord(tokens[0][1])) & 4095] = True
    return openings


FLAGS = _flags()
EXCEPTION_KEYS, EXCEPTION_CUTS, EXCEPTION_EDGES, LONGEST_EXCEPTION = _exceptions()
EXCEPTION_OPENINGS = _openings()
