"""Token ids spelled as bytes, cut at characters, and put together to fill the middle."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import kernel
from headwater.kernels.packing import copy

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.unsignedinteger[Any]]


@kernel
def spelled_lengths(
    values: Tokens, begins: Integers, counts: Integers, spelling: Integers, lengths: Integers
) -> None:
    """Bytes that the tokens of each document spell, -1 when one of them spells nothing.

    Id t spells ``spelling[t + 1] - spelling[t]`` bytes; none means a special token or an id not in use.
    """
    for i in range(len(begins)):
        total = 0
        for k in range(begins[i], begins[i] + counts[i]):
            token = np.int64(values[k])
            size = spelling[token + 1] - spelling[token] if token + 1 < len(spelling) else 0
            if size == 0:
                total = -1
                break
            total += size
        lengths[i] = total


@kernel
def spell(
    values: Tokens, begins: Integers, counts: Integers, spelling: Integers, alphabet: Bytes, out: Bytes
) -> None:
    """Write the bytes of the documents' tokens end to end."""
    at = 0
    for i in range(len(begins)):
        for k in range(begins[i], begins[i] + counts[i]):
            token = np.int64(values[k])
            for b in range(spelling[token], spelling[token + 1]):
                out[at] = alphabet[b]
                at += 1


@kernel
def cut_points(
    data: Bytes,
    offsets: Integers,
    first: npt.NDArray[np.uint64],
    second: npt.NDArray[np.uint64],
    out: Integers,
) -> None:
    """Bounds of three parts of each UTF-8 text in ``data``: ``out[3 i : 3 i + 3]`` are where they begin.

    Of the c + 1 places between c characters, ``first`` and ``second`` (random bits) choose one each,
    uniformly but for c / 2^32; equal places leave the middle empty.
    """
    for i in range(len(offsets) - 1):
        begin, end = offsets[i], offsets[i + 1]
        characters = 0
        for k in range(begin, end):
            characters += 1 if data[k] & 0xC0 != 0x80 else 0
        places = np.uint64(characters + 1)
        a = np.int64(((first[i] >> np.uint64(32)) * places) >> np.uint64(32))
        b = np.int64(((second[i] >> np.uint64(32)) * places) >> np.uint64(32))
        low, high = min(a, b), max(a, b)
        out[3 * i] = begin
        out[3 * i + 1] = out[3 * i + 2] = end
        seen = 0
        for k in range(begin, end):
            if data[k] & 0xC0 == 0x80:
                continue
            if seen == low:
                out[3 * i + 1] = k
            if seen == high:
                out[3 * i + 2] = k
                break
            seen += 1
    out[3 * (len(offsets) - 1)] = offsets[len(offsets) - 1]


@kernel
def spells_text(
    values: Tokens,
    bounds: Integers,
    spelling: Integers,
    alphabet: Bytes,
    data: Bytes,
    offsets: Integers,
    out: npt.NDArray[np.bool_],
) -> None:
    """Whether tokens ``values[bounds[3 i] : bounds[3 i + 3]]`` spell text i of ``data``."""
    for i in range(len(offsets) - 1):
        at, end = offsets[i], offsets[i + 1]
        same = True
        for k in range(bounds[3 * i], bounds[3 * i + 3]):
            token = np.int64(values[k])
            for b in range(spelling[token], spelling[token + 1]):
                if at == end or data[at] != alphabet[b]:
                    same = False
                    break
                at += 1
            if not same:
                break
        out[i] = same and at == end


@kernel
def join_parts(
    values: Tokens,
    bounds: Integers,
    texts: Integers,
    suffix_first: npt.NDArray[np.bool_],
    prefix_id: int,
    middle_id: int,
    suffix_id: int,
    out: Tokens,
) -> None:
    """Put together the parts of each of ``texts``: text i's begin at ``bounds[3 i]``, ``[3 i + 1]``, ...

    ``suffix_first`` puts the prefix before the middle and not before the suffix.
    """
    at = 0
    for n in range(len(texts)):
        first = 3 * texts[n]
        prefix, middle, suffix, end = bounds[first], bounds[first + 1], bounds[first + 2], bounds[first + 3]
        out[at] = prefix_id
        at += 1
        if not suffix_first[n]:
            at = copy(values, prefix, middle - prefix, out, at)
        out[at] = suffix_id
        at = copy(values, suffix, end - suffix, out, at + 1)
        out[at] = middle_id
        first = prefix if suffix_first[n] else middle
        at = copy(values, first, suffix - first, out, at + 1)
