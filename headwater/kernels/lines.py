"""Lines and paragraphs of documents: where each stands, how long it is, and the hash of its normalized form.

A *line* stands between line feeds (what CCNet and Dolma call a paragraph). A *paragraph* is a maximal run of
lines that are not blank (blank: nothing but white space), so blank lines stand between paragraphs. Blank
lines are no unit. A unit's bytes reach from the start of its first line to the end of its last, line feed
excluded.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import UsageError
from headwater.kernels.characters import SPACE, TABLE, decode
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel
from headwater.kernels.normalize import SECRET, form_number, normalize
from headwater.kernels.xxh3 import hash_128

UNITS = ("line", "paragraph")

_SPACE = np.uint32(SPACE)


class Units(NamedTuple):
    """Units of at least ``min_chars``, in the order of the text; and what each document has in all."""

    hashes: npt.NDArray[np.uint64]  # (units, 2)
    row: npt.NDArray[np.uint32]
    chars: npt.NDArray[np.uint32]  # code points of the unit as it stands in the text
    start: npt.NDArray[np.uint32]  # bytes from the start of the document
    end: npt.NDArray[np.uint32]
    num_units: npt.NDArray[np.int64]  # per document, whatever their length
    num_chars: npt.NDArray[np.int64]  # per document: code points of all its units


def units(array: pa.Array | pa.ChunkedArray, *, unit: str, form: str, min_chars: int) -> Units:
    """The units of a text array without nulls whose normalized form has at least ``min_chars`` characters."""
    if unit not in UNITS:
        raise UsageError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}")
    if min_chars < 1:
        raise UsageError(f"min_chars must be at least 1, got {min_chars}")
    data, offsets = flatten(array)
    number = form_number(form)
    rows = len(offsets) - 1
    counts = np.zeros((rows, 2), dtype=np.int64)
    # A unit has at least as many bytes as its normalized form has characters. What stays unwritten costs no
    # memory.
    room = int(offsets[-1] - offsets[0]) // min_chars + 1
    hashes = np.empty((room, 2), dtype=np.uint64)
    places = np.empty((4, room), dtype=np.uint32)
    found = _units(
        data, offsets, TABLE, SECRET, unit == "paragraph", number, min_chars, hashes, places, counts
    )
    row, chars, start, end = (np.ascontiguousarray(part[:found]) for part in places)
    return Units(hashes[:found], row, chars, start, end, counts[:, 0], counts[:, 1])


@inline_kernel
def _line(data, at, end, table):
    """(end of the line that begins at ``at``, its code points, whether it is blank)."""
    chars = 0
    blank = True
    while at < end and data[at] != 10:
        byte = data[at]
        length = 1
        if byte < 0x80:
            entry = table[byte]
        else:
            code, length = decode(data, at)
            entry = table[code]
        blank = blank and (entry & _SPACE) != 0
        at += length
        chars += 1
    return at, chars, blank


@kernel
def _units(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    secret: Bytes,
    paragraphs: bool,
    form: int,
    min_chars: int,
    hashes: npt.NDArray[np.uint64],
    places: npt.NDArray[np.uint32],
    counts: npt.NDArray[np.int64],
) -> int:
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    scratch = np.empty(2 * longest + 8, dtype=np.uint8)
    lanes = np.empty(8, dtype=np.uint64)
    found = 0
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        at = begin
        open_at = np.int64(-1)  # where the open paragraph begins
        open_end = begin
        open_chars = 0
        while at <= end:
            finish, chars, blank = end, 0, True
            if at < end:
                finish, chars, blank = _line(data, at, end, table)
            if not blank:
                if open_at < 0:
                    open_at, open_chars = at, chars
                else:
                    open_chars += chars + 1  # and the line feed between
                open_end = finish
            if open_at >= 0 and (blank or not paragraphs or finish >= end):
                counts[row, 0] += 1
                counts[row, 1] += open_chars
                size, kept = normalize(data, open_at, open_end, table, form, scratch)
                if kept >= min_chars:
                    hashes[found, 0], hashes[found, 1] = hash_128(scratch, 0, size, secret, lanes)
                    places[0, found] = row
                    places[1, found] = open_chars
                    places[2, found] = open_at - begin
                    places[3, found] = open_end - begin
                    found += 1
                open_at = np.int64(-1)
            at = finish + 1
    return found
