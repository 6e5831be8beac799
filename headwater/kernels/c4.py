"""C4's cleaning of a page, line by line: what stays, what it was dropped for, and the text that remains."""

# mypy: disable-error-code="assignment, no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels import segments as s
from headwater.kernels import token_classes as t
from headwater.kernels.characters import DIGIT, LOWER, SPACE, TABLE
from headwater.kernels.chunks import slots_for
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel
from headwater.kernels.wordsplit import TOKENS, split_words, word_bound

COUNTS = (
    "lines",
    "kept_lines",
    "kept_chars",
    "sentences",
    "long_word_lines",
    "unterminated_lines",
    "few_word_lines",
    "javascript_lines",
    "policy_lines",
    "lorem_ipsum_lines",
    "curly_bracket_lines",
    "chars",  # of the page as it came
    "paragraphs",  # lines of at least 200 characters (mC4)
)
(_LINES, _KEPT, _KEPT_CHARS, _SENTENCES, _LONG, _UNTERMINATED, _FEW, _JAVASCRIPT, _POLICY, _LOREM, _CURLY,
 _CHARS, _PARAGRAPHS) = range(len(COUNTS))  # fmt: skip

MAX_WORD_CHARS = 1000
PARAGRAPH_CHARS = 200


class Variant(NamedTuple):
    """How one implementation cleans. Sources: docs/reference/rules.md."""

    cut: int  # lines
    strip: bool
    apostrophe: bool  # ends a line
    dots: bool  # "…" is an ellipsis, and white space may follow the mark
    min_words: int
    recount: bool  # words after citations are gone
    keeps: bool  # lines are only tagged, none is dropped
    any_end: bool = False  # no mark is asked of a line's end


VARIANTS = {
    "datatrove": Variant(s.BREAKS, True, True, False, 3, False, False),
    "fineweb": Variant(s.BREAKS, True, True, False, 3, False, False, True),
    "tfds": Variant(s.BREAKS, True, False, False, 5, True, False),
    "dclm": Variant(s.FEEDS, False, False, True, 5, True, False),
    "dolma": Variant(s.FEEDS, True, False, False, 3, False, True),
}

_PHRASES = (
    "lorem ipsum", "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies",
    "use of cookies", "use cookies",
)  # fmt: skip
_PATTERNS = np.zeros((len(_PHRASES), 16), dtype=np.uint32)
_LENGTHS = np.array([len(phrase) for phrase in _PHRASES], dtype=np.int64)
for _row, _phrase in enumerate(_PHRASES):
    _PATTERNS[_row, : len(_phrase)] = [ord(c) for c in _phrase]
_CITATIONS = np.zeros((2, 17), dtype=np.uint32)
for _row, _phrase in enumerate(("edit]", "citation needed]")):
    _CITATIONS[_row, : len(_phrase)] = [ord(c) for c in _phrase]

_SPACE, _DIGIT, _LOWER = np.uint32(SPACE), np.uint32(DIGIT), np.uint32(LOWER)
_CLOSES, _PUNCTUATION = np.uint16(t.CLOSES), np.uint16(t.PUNCTUATION)


def c4_counts(
    array: pa.Array | pa.ChunkedArray, variant: Variant, min_words: int, *, clean: bool = True
) -> tuple[dict[str, npt.NDArray[np.int64]], pa.Array]:
    """Each of COUNTS per document of a text array without nulls, and the cleaned texts (large strings).

    Without ``clean`` the texts are not made: all are empty.
    """
    data, offsets = flatten(array)
    rows = len(offsets) - 1
    out = np.zeros((len(COUNTS), rows), dtype=np.int64)
    # Nothing gets longer: lines and citations go, and a line feed stands for each line break.
    text = np.empty(int(offsets[-1] - offsets[0]) if clean else 0, dtype=np.uint8)
    ends = np.zeros(rows + 1, dtype=np.int64)
    settings = tuple(variant._replace(min_words=min_words))
    _c4(data, offsets, TABLE, t.FLAGS, settings, clean, out, text, ends)
    cleaned = pa.Array.from_buffers(
        pa.large_string(), rows, [None, pa.py_buffer(ends), pa.py_buffer(text[: ends[-1]].copy())]
    )
    return dict(zip(COUNTS, out, strict=True)), cleaned


@kernel
def _c4(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    flags: npt.NDArray[np.uint16],
    settings: tuple[int, ...],
    clean: bool,
    out: npt.NDArray[np.int64],
    text: npt.NDArray[np.uint8],
    text_ends: npt.NDArray[np.int64],
) -> None:
    cut, strip, apostrophe, dots = settings[0], settings[1], settings[2], settings[3]
    min_words, recount, keeps, any_end = settings[4], settings[5], settings[6], settings[7]
    cp, kept = np.empty(4097, dtype=np.uint32), np.empty(4097, dtype=np.uint32)
    line = np.empty(4097, dtype=np.uint32)
    starts, ends = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    stack = np.empty(2048, dtype=np.int64)
    line_starts, line_ends = np.empty(256, dtype=np.int64), np.empty(256, dtype=np.int64)
    breaks = np.empty(254, dtype=np.int64)
    size = slots_for(offsets[-1] - offsets[0])
    keys, closings = np.zeros(size, dtype=np.uint64), np.empty(size, dtype=np.uint32)
    written = np.int64(0)
    for row in range(len(offsets) - 1):
        size = offsets[row + 1] - offsets[row]
        if size >= len(cp):
            cp, kept = np.empty(size + 1, dtype=np.uint32), np.empty(size + 1, dtype=np.uint32)
            line = np.empty(size + 1, dtype=np.uint32)
        bound = s.count_breaks(data, offsets[row], offsets[row + 1])
        if bound + 2 > len(line_starts):
            line_starts, line_ends = np.empty(bound + 2, dtype=np.int64), np.empty(bound + 2, dtype=np.int64)
            breaks = np.empty(bound, dtype=np.int64)
        count, num_breaks = s.decode_breaks(data, offsets[row], offsets[row + 1], cp, breaks)
        bound = word_bound(cp, count, table, flags)
        if bound > len(starts):
            starts, ends = np.empty(bound, dtype=np.int64), np.empty(bound, dtype=np.int64)
            stack = np.empty(2 * bound, dtype=np.int64)
        found = s.segments(cp, count, cut, breaks, num_breaks, table, line_starts, line_ends)
        out[_CHARS, row] = count
        kept_chars = 0
        for i in range(found):
            low, high = line_starts[i], line_ends[i]
            out[_LINES, row] += 1
            out[_PARAGRAPHS, row] += high - low >= PARAGRAPH_CHARS
            here = cp
            if strip:
                low, high = _stripped(cp, low, high, table)
            long = high - low > MAX_WORD_CHARS and _longest_word(cp, low, high, table) > MAX_WORD_CHARS
            good = keeps or not long
            out[_LONG, row] += long
            empty = low == high
            whole_low, whole_high = low, high
            if good and not keeps and _has(cp, low, high, 91):
                length = _without_citations(cp, low, high, table, line)
                if length < high - low:
                    line[length] = 32
                    here, low, high = line, np.int64(0), length
            if good and not (empty and not strip):
                terminated = any_end or _terminated(here, low, high, apostrophe, dots, keeps, table)
                out[_UNTERMINATED, row] += not terminated
                good = terminated
                if good or keeps:
                    if recount:
                        enough = _has_words(here, low, high, min_words, table)
                    else:
                        enough = _has_words(cp, whole_low, whole_high, min_words, table)
                    out[_FEW, row] += not enough
                    good = good and enough
            if good or keeps:
                phrases, curly = _phrases(here, low, high, table)
                if (phrases & 1) != 0:
                    out[_LOREM, row] += 1
                    good = False
                if (good or keeps) and (phrases & 2) != 0:
                    out[_JAVASCRIPT, row] += 1
                    good = False
                if (good or keeps) and curly:
                    out[_CURLY, row] += 1
                    good = False
                if (good or keeps) and (phrases >> 2) != 0:
                    out[_POLICY, row] += 1
                    good = False
            if not good:
                continue
            out[_KEPT, row] += 1
            out[_SENTENCES, row] += _sentences(
                here, low, high, table, flags, starts, ends, stack, keys, closings
            )
            if kept_chars > 0 or out[_KEPT, row] > 1:
                kept[kept_chars] = 10
                kept_chars += 1
            for k in range(low, high):
                kept[kept_chars] = here[k]
                kept_chars += 1
        low, high = _stripped(kept, np.int64(0), np.int64(kept_chars), table)
        out[_KEPT_CHARS, row] = high - low
        if clean:
            for k in range(low, high):
                written = _encode(kept[k], text, written)
        text_ends[row + 1] = written


@inline_kernel
def _encode(code, text, at):
    if code < 0x80:
        text[at] = code
        return at + 1
    if code < 0x800:
        text[at], text[at + 1] = 0xC0 | (code >> 6), 0x80 | (code & 63)
        return at + 2
    if code < 0x10000:
        text[at], text[at + 1], text[at + 2] = (
            0xE0 | (code >> 12),
            0x80 | ((code >> 6) & 63),
            0x80 | (code & 63),
        )
        return at + 3
    text[at], text[at + 1] = 0xF0 | (code >> 18), 0x80 | ((code >> 12) & 63)
    text[at + 2], text[at + 3] = 0x80 | ((code >> 6) & 63), 0x80 | (code & 63)
    return at + 4


@inline_kernel
def _stripped(cp, low, high, table):
    while low < high and (table[cp[low]] & _SPACE) != 0:
        low += 1
    while high > low and (table[cp[high - 1]] & _SPACE) != 0:
        high -= 1
    return low, high


@inline_kernel
def _longest_word(cp, low, high, table):
    """Characters of the longest word between white space."""
    length = longest = 0
    for i in range(low, high):
        length = 0 if (table[cp[i]] & _SPACE) != 0 else length + 1
        longest = max(longest, length)
    return longest


@inline_kernel
def _has_words(cp, low, high, needed, table):
    """Whether there are so many words between white space; reads no further."""
    words = 0
    outside = True
    at = low
    while at < high and words < needed:
        space = (table[cp[at]] & _SPACE) != 0
        words += outside and not space
        outside = space
        at += 1
    return words >= needed


@inline_kernel
def _has(cp, low, high, code):
    found = np.uint32(0)
    for i in range(np.uint64(low), np.uint64(high)):  # no early end: this way it takes eight at once
        found |= np.uint32(cp[i] == np.uint32(code))
    return found != 0


@inline_kernel
def _without_citations(cp, low, high, table, line):
    """Copy without ``[digits]``, ``[edit]`` and ``[citation needed]``; returns the length."""
    length = np.int64(0)
    at = low
    while at < high:
        if cp[at] == 91:
            stop = at + 1
            while stop < high and (table[cp[stop]] & _DIGIT) != 0:
                stop += 1
            if stop < high and cp[stop] == 93:
                at = stop + 1
                continue
            gone = False
            for row in range(2):
                k = 0
                while _CITATIONS[row, k] != 0 and at + 1 + k < high and cp[at + 1 + k] == _CITATIONS[row, k]:
                    k += 1
                if _CITATIONS[row, k] == 0:
                    at += 1 + k
                    gone = True
                    break
            if gone:
                continue
        line[length] = cp[at]
        length += 1
        at += 1
    return length


@inline_kernel
def _terminated(cp, low, high, apostrophe, dots, tagged, table):
    if dots:
        while high > low and (table[cp[high - 1]] & _SPACE) != 0:
            high -= 1
    if low == high:
        return False
    last = cp[high - 1]
    if last == 46:
        return tagged or not (high - low >= 3 and cp[high - 2] == 46 and cp[high - 3] == 46)
    return last == 33 or last == 63 or last == 34 or (apostrophe and last == 39)


@inline_kernel
def _phrases(cp, low, high, table):
    """(a bit for each phrase that occurs in any case, whether a curly bracket does)."""
    seen = 0
    if _maybe_phrase(cp, low, high):
        for i in range(low, high):
            code = table[cp[i]] & _LOWER
            for row in range(len(_LENGTHS)):
                length = _LENGTHS[row]
                if _PATTERNS[row, 0] == code and i + length <= high:
                    k = 1
                    while k < length and (table[cp[i + k]] & _LOWER) == _PATTERNS[row, k]:
                        k += 1
                    if k == length:
                        seen |= 1 << row
    return seen, _has(cp, low, high, 123)


@inline_kernel
def _maybe_phrase(cp, low, high):
    """Whether three letters that every phrase has some of occur: jav, coo, rms, acy, psu.

    None of them is the lower case of a character beyond ASCII. No branch: eight characters at once.
    """
    found = np.uint32(0)
    bit, one, two = np.uint32(0x20), np.uint64(1), np.uint64(2)
    for i in range(np.uint64(low), np.uint64(max(low, high - 2))):
        a, b, c = np.uint32(cp[i] | bit), np.uint32(cp[i + one] | bit), np.uint32(cp[i + two] | bit)
        found |= np.uint32((a == 106) & (b == 97) & (c == 118))
        found |= np.uint32((a == 99) & (b == 111) & (c == 111))
        found |= np.uint32((a == 114) & (b == 109) & (c == 115))
        found |= np.uint32((a == 97) & (b == 99) & (c == 121))
        found |= np.uint32((a == 112) & (b == 115) & (c == 117))
    return found != 0


@inline_kernel
def _sentences(cp, low, high, table, flags, starts, ends, stack, keys, closings):
    """How many sentences spaCy's sentencizer finds: one ends after its closing marks and what is punctuation.

    Only chunks with a closing mark are cut into tokens, each distinct one once (``keys``, ``closings``: see
    :mod:`headwater.kernels.chunks`): any other holds a token that is no punctuation exactly if it holds a
    character that is none. ``cp[high]`` is white space.
    """
    sentences = 0
    closed = False
    last = low  # where the previous token ended
    at = low
    mask = np.uint64(len(keys) - 1)
    while at < high:
        while at < high and (table[cp[at]] & _SPACE) != 0:
            at += 1
        if at == high:
            break
        begin = at
        some, every = np.uint16(0), _PUNCTUATION
        code = cp[at]
        while (table[code] & _SPACE) == 0:
            some |= flags[code]
            every &= flags[code]
            at += 1
            code = cp[at]
        gap = begin - last
        if sentences == 0:
            sentences = 1
        elif closed and (
            gap > 1 or (gap == 1 and cp[begin - 1] != 32)
        ):  # white space is a token, no punctuation
            sentences += 1
            closed = False
        last = at
        if (some & _CLOSES) == 0:
            if closed and every == 0:
                sentences += 1
                closed = False
            continue
        key = t.hash_span(cp, begin, at)
        slot = (key >> np.uint64(20)) & mask
        if keys[slot] != key:
            keys[slot] = key
            tokens = split_words(cp, begin, at, TOKENS, table, flags, starts, ends, stack)
            closings[slot] = _closing(cp, tokens, flags, starts, ends)
        ended = closings[slot] >> np.uint32(2)
        sentences += np.int64(ended >> np.uint32(1)) + (1 if closed and (ended & np.uint32(1)) != 0 else 0)
        if (closings[slot] & np.uint32(1)) != 0:
            closed = (closings[slot] & np.uint32(2)) != 0
    return sentences


@inline_kernel
def _closing(cp, tokens, flags, starts, ends):
    """What the tokens of a chunk do to sentences.

    Bit 0: they decide whether one is closed after them; bit 1: it is; bit 2: one that was closed before them
    ends in them; from bit 3 on: how many others do.
    """
    closed = first = False
    decided = False
    more = np.uint32(0)
    for i in range(tokens):
        if ends[i] - starts[i] == 1 and (flags[cp[starts[i]]] & _CLOSES) != 0:
            closed = decided = True
            continue
        punctuation = True
        for k in range(starts[i], ends[i]):
            punctuation = punctuation and (flags[cp[k]] & _PUNCTUATION) != 0
        if punctuation:
            continue
        if closed:
            more += np.uint32(1)
        elif not decided:
            first = True
        closed = False
        decided = True
    return (
        np.uint32(decided)
        | (np.uint32(closed) << np.uint32(1))
        | (np.uint32(first) << np.uint32(2))
        | np.uint32(more << np.uint32(3))
    )
