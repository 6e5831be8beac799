"""Texts with byte spans cut out of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headwater.kernels.flat import Bytes, Offsets
from headwater.kernels.jit import kernel

Ints = npt.NDArray[np.int64]


@kernel
def cut(
    data: Bytes, offsets: Offsets, places: Ints, firsts: Ints, spans: Ints, out: Bytes, new_offsets: Ints
) -> int:
    """Copy every row to ``out`` without its spans; -1, or the first row that a span does not fit.

    Row ``i`` owns the spans ``firsts[places[i]]`` to ``firsts[places[i] + 1]`` (none where the place is
    negative), ordered by their start. A span that begins a line and ends one takes the line feed along.
    ``new_offsets`` (rows + 1) is filled in. A border inside a character does not fit.
    """
    size = 0
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        at = begin
        if places[row] >= 0:
            for i in range(firsts[places[row]], firsts[places[row] + 1]):
                first, last = begin + spans[i, 0], begin + spans[i, 1]
                if spans[i, 0] < 0 or last > end or first > last:
                    return row
                for border in (first, last):
                    if border < end and (data[border] & 0xC0) == 0x80:
                        return row
                if last < end and data[last] == 10 and (first == begin or data[first - 1] == 10):
                    last += 1
                while at < first:
                    out[size] = data[at]
                    size += 1
                    at += 1
                at = max(at, last)
        while at < end:
            out[size] = data[at]
            size += 1
            at += 1
        new_offsets[row + 1] = size
    return -1
