"""What occurs twice: two bits for each value, and first occurrences in sorted runs.

The bits (:func:`new_marks`) say of a 64-bit hash: never seen, seen, or shared. Two hashes that fall on one
place can make a value look shared that is not, never the other way round; what looks shared is compared
exactly afterwards, so a small table costs work and changes nothing.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import inline_kernel, kernel

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint32]

ACROSS, WITHIN, REFERENCE, QUERY = range(4)
"""How :func:`mark` counts: shared by two documents; by two places, whatever the document; seen in a
reference; and shared with the reference."""

_U = np.uint64


def new_marks(memory_bytes: int) -> Words:
    """A table of at most ``memory_bytes``, a power of two; 32 places in each word."""
    words = 1 << max(10, (max(memory_bytes, 1) // 8).bit_length() - 1)
    return np.zeros(words, dtype=np.uint64)


@inline_kernel
def _place(marks, value):
    # The low bits: an anchor is a minimum, so its high bits are mostly zero.
    word = np.int64((value >> _U(5)) & _U(len(marks) - 1))
    return word, (value & _U(31)) << _U(1)


@inline_kernel
def is_marked(marks, value):
    word, shift = _place(marks, value)
    return ((marks[word] >> shift) & _U(2)) != 0


@kernel
def mark(marks: Words, values: Words, counts: npt.NDArray[np.int64], how: int) -> None:
    """Enter the values of documents, one after the other; ``counts[i]`` of them are of document ``i``."""
    at = 0
    for row in range(len(counts)):
        until = at + counts[row]
        if how != 2:
            for i in range(at, until):
                word, shift = _place(marks, values[i])
                if ((marks[word] >> shift) & _U(1)) != 0:
                    marks[word] |= _U(2) << shift
                elif how == 1:
                    marks[word] |= _U(1) << shift
        if how == 0 or how == 2:
            for i in range(at, until):
                word, shift = _place(marks, values[i])
                marks[word] |= _U(1) << shift
        at = until


@kernel
def later_occurrences(
    keys: Words,
    rows: Places,
    held: npt.NDArray[np.int64],
    key: Words,
    reference: int,
    within: bool,
    out: Places,
) -> int:
    """Of rows sorted by key and place, those that repeat an earlier one; how many.

    ``keys`` (rows, 2); ``rows`` (4, rows): document, number, start, end. ``key`` (2) and ``held`` (4:
    document, number and start of the first occurrence, and whether there is one) carry the open key from
    call to call. With ``reference`` documents the first occurrence must be among them and the later one must
    not. ``out`` (7, rows): the row's four values, then document, number and start of the first occurrence.
    """
    found = 0
    for i in range(rows.shape[1]):
        if held[3] == 0 or keys[i, 0] != key[0] or keys[i, 1] != key[1]:
            key[0], key[1] = keys[i, 0], keys[i, 1]
            held[0], held[1], held[2], held[3] = rows[0, i], rows[1, i], rows[2, i], 1
            continue
        doc = np.int64(rows[0, i])
        if doc == held[0] and not within:
            continue
        if reference > 0 and (doc < reference or held[0] >= reference):
            continue
        for part in range(4):
            out[part, found] = rows[part, i]
        out[4, found], out[5, found], out[6, found] = held[0], held[1], held[2]
        found += 1
    return found


@kernel
def marked(marks: Words, values: Words) -> npt.NDArray[np.bool_]:
    """Which of the values look shared."""
    out = np.empty(len(values), dtype=np.bool_)
    for i in range(len(values)):
        out[i] = is_marked(marks, values[i])
    return out
