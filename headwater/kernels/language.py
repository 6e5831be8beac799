"""What language identification asks of the bytes: paragraphs, letters, samples, byte n-grams, a decision."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headwater.kernels.characters import ALPHA, LOWER, decode
from headwater.kernels.flat import Bytes, Offsets
from headwater.kernels.jit import inline_kernel, kernel

_ALPHA, _LOWER = np.uint32(ALPHA), np.uint32(LOWER)
WINDOWS = 8
"""A long text is read in this many pieces, the first at its start, the last at its end."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]


@inline_kernel
def _blank(byte):
    return byte == 32 or byte == 9 or byte == 11 or byte == 12 or byte == 13


@kernel
def paragraphs(data: Bytes, offsets: Offsets, by_line: bool, owners: Ints, starts: Ints, ends: Ints) -> int:
    """Owner, start and end of each paragraph, in order; returns how many (more than fit: call again).

    A paragraph is a run of lines that are not blank or, ``by_line``, one such line.
    """
    found = 0
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        start = np.int64(-1)
        last = np.int64(-1)
        while at < end:
            line = at
            written = False
            while at < end and data[at] != 10:
                written |= not _blank(data[at])
                at += 1
            if start >= 0 and (by_line or not written):
                if found < len(owners):
                    owners[found], starts[found], ends[found] = row, start, last
                found += 1
                start = np.int64(-1)
            if written:
                if start < 0:
                    start = line
                last = at
            at += 1
        if start >= 0:
            if found < len(owners):
                owners[found], starts[found], ends[found] = row, start, last
            found += 1
    return found


@kernel
def count_letters(data: Bytes, starts: Ints, ends: Ints, table: npt.NDArray[np.uint32], out: Ints) -> None:
    """Letters (``str.isalpha``) of each ``data[starts[i]:ends[i]]``."""
    for i in range(len(starts)):
        at, end = starts[i], ends[i]
        letters = 0
        while at < end:
            code, size = np.uint32(data[at]), 1
            if code >= np.uint32(0x80):
                code, size = decode(data, at)
            letters += (table[code] & _ALPHA) != 0
            at += size
        out[i] = letters


@kernel
def sampled(
    data: Bytes,
    starts: Ints,
    ends: Ints,
    limit: int,
    table: npt.NDArray[np.uint32],
    lower: Bytes,
    lower_offsets: Ints,
    plain: Bytes,
    plain_offsets: Ints,
) -> None:
    """Each text lower-cased in ``lower`` and as it is in ``plain``, one after the other.

    A text longer than ``limit`` bytes gives WINDOWS pieces of ``limit // WINDOWS`` bytes, evenly spaced. One
    in capitals (more than half of its letters) is lower-cased in ``plain`` too. Both arrays have room for one
    and a half times the bytes read and WINDOWS more for each text.
    """
    put = 0
    copied = 0
    for i in range(len(starts)):
        size = ends[i] - starts[i]
        pieces = 1 if size <= limit else WINDOWS
        width = size if size <= limit else limit // WINDOWS
        lower_offsets[i] = put
        plain_offsets[i] = copied
        letters = 0
        capitals = 0
        for piece in range(pieces):
            at = starts[i] + ((size - width) * piece // (pieces - 1) if pieces > 1 else 0)
            end = at + width
            while at < end and (data[at] & 0xC0) == 0x80:
                at += 1
            while at < end:
                code, length = np.uint32(data[at]), 1
                if code >= np.uint32(0x80):
                    if at + (2 if code < 0xE0 else 3 if code < 0xF0 else 4) > end:
                        break
                    code, length = decode(data, at)
                for k in range(length):
                    plain[copied + k] = data[at + k]
                copied += length
                at += length
                entry = table[code]
                letters += (entry & _ALPHA) != 0
                capitals += (entry & _LOWER) != code
                code = entry & _LOWER
                if code < np.uint32(0x80):
                    lower[put] = code
                    put += 1
                elif code < np.uint32(0x800):
                    lower[put] = np.uint32(0xC0) | (code >> np.uint32(6))
                    lower[put + 1] = np.uint32(0x80) | (code & np.uint32(0x3F))
                    put += 2
                elif code < np.uint32(0x10000):
                    lower[put] = np.uint32(0xE0) | (code >> np.uint32(12))
                    lower[put + 1] = np.uint32(0x80) | ((code >> np.uint32(6)) & np.uint32(0x3F))
                    lower[put + 2] = np.uint32(0x80) | (code & np.uint32(0x3F))
                    put += 3
                else:
                    lower[put] = np.uint32(0xF0) | (code >> np.uint32(18))
                    lower[put + 1] = np.uint32(0x80) | ((code >> np.uint32(12)) & np.uint32(0x3F))
                    lower[put + 2] = np.uint32(0x80) | ((code >> np.uint32(6)) & np.uint32(0x3F))
                    lower[put + 3] = np.uint32(0x80) | (code & np.uint32(0x3F))
                    put += 4
            if piece + 1 < pieces:
                lower[put] = plain[copied] = 32
                put += 1
                copied += 1
        if 2 * capitals > letters:
            copied = plain_offsets[i]
            for k in range(lower_offsets[i], put):
                plain[copied] = lower[k]
                copied += 1
    lower_offsets[len(starts)] = put
    plain_offsets[len(starts)] = copied


@kernel
def bayes(
    data: Bytes,
    offsets: Ints,
    moves: npt.NDArray[np.uint32],
    rows: Ints,
    features: Int32s,
    weights: Floats,
    prior: Floats,
    out: Floats,
) -> None:
    """langid's scores: log posteriors of naive Bayes over byte n-grams over the root of the length.

    ``moves[rows[state] + byte]`` is the automaton's next state, ``features[state]`` the n-gram that ends
    there (-1: none), ``weights`` (n-grams, labels); a count enters as ``log(1 + count)``. Without n-grams all
    are 0.
    """
    seen = np.zeros(len(weights), dtype=np.int32)
    found = np.empty(1024, dtype=np.int32)
    labels = out.shape[1]
    for i in range(len(offsets) - 1):
        state = np.int64(0)
        count = 0
        for at in range(offsets[i], offsets[i + 1]):
            state = np.int64(moves[rows[state] + data[at]])
            feature = features[state]
            if feature >= 0:
                if seen[feature] == 0:
                    if count == len(found):
                        larger = np.empty(2 * count, dtype=np.int32)
                        larger[:count] = found
                        found = larger
                    found[count] = feature
                    count += 1
                seen[feature] += 1
        for k in range(labels):
            out[i, k] = prior[k] if count > 0 else np.float32(0)
        for f in range(count):
            feature = found[f]
            times = np.float32(np.log1p(np.float64(seen[feature])))
            seen[feature] = 0
            for k in range(labels):
                out[i, k] += times * weights[feature, k]
        scale = np.float32(1 / np.sqrt(max(offsets[i + 1] - offsets[i], 1)))
        for k in range(labels):
            out[i, k] *= scale


@kernel
def choose(
    first: Floats,
    second: Floats,
    places: Ints,
    weight: float,
    absent: float,
    label: Ints,
    chosen: npt.NDArray[np.float64],
) -> None:
    """The best label of each row by ``log first + weight * second``, and its share of the exponentials.

    ``first`` holds probabilities, ``second`` log posteriors, ``places`` (labels, 2) the columns of ``second``
    that speak of each label of ``first`` (-1: none). A label that ``second`` does not know counts as
    ``absent`` less than the best that it knows. With no columns in ``second``, ``first`` decides. -1 and 0:
    no feature.
    """
    labels = first.shape[1]
    joined = np.empty(labels, dtype=np.float64)
    for row in range(len(first)):
        if first[row, np.argmax(first[row])] == 0:
            label[row], chosen[row] = -1, 0.0
            continue
        if second.shape[1] == 0:
            label[row] = np.argmax(first[row])
            chosen[row] = min(first[row, label[row]], np.float32(1))
            continue
        most = -np.inf
        for k in range(labels):
            joined[k] = np.nan
            for column in places[k]:
                if column >= 0 and not joined[k] >= second[row, column]:
                    joined[k] = second[row, column]
            if joined[k] > most:
                most = joined[k]
        best = 0
        for k in range(labels):
            known = joined[k] if not np.isnan(joined[k]) else most - absent
            joined[k] = np.log(np.float64(first[row, k]) + 1e-30) + weight * (known - most)
            if joined[k] > joined[best]:
                best = k
        total = 0.0
        for k in range(labels):
            total += np.exp(joined[k] - joined[best])
        label[row], chosen[row] = best, 1 / total
