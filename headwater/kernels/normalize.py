"""Normalized text, written as UTF-8: what exact and line-by-line deduplication compare.

Three forms (:data:`FORMS`); the first is the bytes as they are:

* ``exact``: nothing is changed;
* ``whitespace``: lower-cased, every run of white space (``str.isspace``) one blank, none at the ends;
* ``words``: the words of :mod:`headwater.kernels.characters`, lower-cased, one blank between them, so that
  punctuation, symbols and white space do not count.

Lower case is one code point to one (the first of ``chr(c).lower()``), as everywhere in the kernels.
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
from headwater.kernels.xxh3 import _SECRET, hash_128

SECRET = _SECRET

FORMS = ("exact", "whitespace", "words")
EXACT, WHITESPACE, WORDS = range(3)

_LOWER, _SPACE, _WORD = np.uint32(LOWER), np.uint32(SPACE), np.uint32(WORD)
_SOLO, _MARK = np.uint32(SOLO), np.uint32(MARK)


def form_number(form: str) -> int:
    """The place of ``form`` in FORMS, or UsageError."""
    if form not in FORMS:
        raise UsageError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    return FORMS.index(form)


def normalized_hashes(array: pa.Array | pa.ChunkedArray, form: str) -> npt.NDArray[np.uint64]:
    """xxh3-128 of each row's normalized UTF-8: shape (rows, 2), high and low. Texts without nulls."""
    data, offsets = flatten(array)
    out = np.empty((len(offsets) - 1, 2), dtype=np.uint64)
    _hashes(data, offsets, TABLE, SECRET, form_number(form), out)
    return out


def normalized(text: str, form: str) -> str:
    """One text in its normalized form: for tests and for looking at what is compared."""
    raw = np.frombuffer(text.encode(), dtype=np.uint8)
    scratch = np.empty(2 * len(raw) + 8, dtype=np.uint8)
    size, _ = _one(np.append(raw, np.uint8(0)), len(raw), TABLE, form_number(form), scratch)
    return scratch[:size].tobytes().decode()


@inline_kernel
def put(code, out, at):
    """Write a code point as UTF-8; where the next goes."""
    if code < np.uint32(0x80):
        out[at] = np.uint8(code)
        return at + 1
    if code < np.uint32(0x800):
        out[at] = np.uint8(np.uint32(0xC0) | (code >> np.uint32(6)))
        out[at + 1] = np.uint8(np.uint32(0x80) | (code & np.uint32(0x3F)))
        return at + 2
    if code < np.uint32(0x10000):
        out[at] = np.uint8(np.uint32(0xE0) | (code >> np.uint32(12)))
        out[at + 1] = np.uint8(np.uint32(0x80) | ((code >> np.uint32(6)) & np.uint32(0x3F)))
        out[at + 2] = np.uint8(np.uint32(0x80) | (code & np.uint32(0x3F)))
        return at + 3
    out[at] = np.uint8(np.uint32(0xF0) | (code >> np.uint32(18)))
    out[at + 1] = np.uint8(np.uint32(0x80) | ((code >> np.uint32(12)) & np.uint32(0x3F)))
    out[at + 2] = np.uint8(np.uint32(0x80) | ((code >> np.uint32(6)) & np.uint32(0x3F)))
    out[at + 3] = np.uint8(np.uint32(0x80) | (code & np.uint32(0x3F)))
    return at + 4


@inline_kernel
def normalize(data, start, end, table, form, out):
    """Write ``data[start:end]`` in its form to ``out`` (twice its length + 8); (bytes, code points).

    The lower case of a code point takes at most one byte and a half for each of its own.
    """
    size = 0
    chars = 0
    if form == 0:
        for i in range(start, end):
            byte = data[i]
            out[size] = byte
            size += 1
            chars += (byte & np.uint8(0xC0)) != np.uint8(0x80)
        return size, chars
    gap = False  # something was skipped since the last character written
    solo = False  # the last character written belongs to a word of one letter
    at = start
    while at < end:
        byte = data[at]
        length = 1
        if byte < 0x80:
            entry = table[byte]
        else:
            code, length = decode(data, at)
            entry = table[code]
        at += length
        if form == 1:
            skipped = (entry & _SPACE) != 0
        else:
            skipped = (entry & (_WORD | _SOLO)) == 0
            if not skipped:
                is_solo = (entry & _SOLO) != 0
                # A letter that is a word by itself begins one, and ends the one before it but for marks.
                if is_solo or (solo and (entry & _MARK) == 0):
                    gap = True
                    solo = is_solo
                elif gap:
                    solo = False
        if skipped:
            gap = True
            continue
        if gap and size > 0:
            out[size] = np.uint8(32)
            size += 1
            chars += 1
        gap = False
        size = put(entry & _LOWER, out, size)
        chars += 1
    return size, chars


@kernel
def _one(data: Bytes, length: int, table: npt.NDArray[np.uint32], form: int, out: Bytes) -> tuple[int, int]:
    size, chars = normalize(data, 0, length, table, form, out)
    return size, chars


@kernel
def _hashes(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    secret: Bytes,
    form: int,
    out: npt.NDArray[np.uint64],
) -> None:
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    scratch = np.empty(2 * longest + 8, dtype=np.uint8)
    lanes = np.empty(8, dtype=np.uint64)
    for row in range(len(offsets) - 1):
        size, _ = normalize(data, offsets[row], offsets[row + 1], table, form, scratch)
        out[row, 0], out[row, 1] = hash_128(scratch, 0, size, secret, lanes)
