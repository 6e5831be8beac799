"""What the published rules for web text measure, one document at a time, in the way of one implementation.

A document is decoded to code points and cut into words and lines once; everything else reads those.
``VARIANTS`` says how each implementation counts; ``operators/web_stats.py`` turns counts into shares.
"""

# mypy: disable-error-code="assignment, no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels import segments as s
from headwater.kernels import token_classes as t
from headwater.kernels.characters import ALNUM, ALPHA, LOWER, SPACE, TABLE, decode
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel
from headwater.kernels.refinedweb import removed_words
from headwater.kernels.repetition import DATATROVE, DOLMA, UNION, most_repeats, repeated_ngrams, table_size
from headwater.kernels.text import STOP_WORDS
from headwater.kernels.wordsplit import SEGMENTS, SPACED, TOKENS, split_words, word_bound

COUNTS = (
    "chars",
    "words",  # that the length rule counts
    "tokens",  # all words: what ratios are shares of
    "word_chars",  # of the words whose length is averaged
    "length_words",  # how many those are
    "median_twice",
    "hashes",
    "ellipses",
    "symbols",
    "alpha_words",
    "stop_words",
    "distinct_stop_words",
    "quality_lines",
    "bullet_lines",
    "ellipsis_lines",
    "lines",
    "dup_lines",
    "dup_line_chars",
    "dup_line_of",
    "paragraphs",
    "dup_paragraphs",
    "dup_paragraph_chars",
    "dup_paragraph_of",
    "top_2",
    "top_3",
    "top_4",
    "dup_5",
    "dup_6",
    "dup_7",
    "dup_8",
    "dup_9",
    "dup_10",
    "of_5",
    "of_6",
    "of_7",
    "of_8",
    "of_9",
    "of_10",
    "ngram_of",
    "written_lines",
    "terminal_lines",
    "short_lines",
    "fineweb_dup_chars",
    "newlines",
    "max_repeats",
    "removed_words",
)
_AT = {name: place for place, name in enumerate(COUNTS)}
_TOP, _OF, _TERMINAL_LINES = _AT["top_2"], _AT["of_5"], _AT["terminal_lines"]
(_CHARS, _WORDS, _TOKENS, _WORD_CHARS, _LENGTH_WORDS, _MEDIAN, _HASHES, _ELLIPSES, _SYMBOLS, _ALPHA_WORDS,
 _STOPS, _DISTINCT, _QUALITY_LINES, _BULLETS, _ELLIPSIS_LINES, _LINES, _DUP_LINES, _DUP_LINE_CHARS,
 _DUP_LINE_OF, _PARAGRAPHS, _DUP_PARAGRAPHS, _DUP_PARAGRAPH_CHARS, _DUP_PARAGRAPH_OF) = range(23)  # fmt: skip
_NGRAM_OF, _WRITTEN = _AT["ngram_of"], _AT["written_lines"]
_SHORT, _FINEWEB_DUP, _NEWLINES = _AT["short_lines"], _AT["fineweb_dup_chars"], _AT["newlines"]
_REPEATS, _REMOVED = _AT["max_repeats"], _AT["removed_words"]

LONGEST_PHRASE = 13  # dolma 1.2.1, tokenizer_repetitions: MAX_PERIOD
SHORT_LINE_CHARS = 30  # FineWeb: datatrove 0.10, short_line_length


class Variant(NamedTuple):
    """How one implementation counts. Sources: docs/reference/rules.md."""

    split: int  # words of the ratios and lengths
    ngram_split: int  # words of n-grams
    counting: int  # characters of n-grams
    words: int  # 0 all; 1 those not all symbols; 2 those that begin with a letter or digit
    fold: bool  # stop words in lower case
    quality_lines: int
    strip: int  # before a bullet or ellipsis is looked for: 1 both sides, 0 not
    bullets: int  # 0 "•-", 1 "●•*-", 2 "*-"
    dotted: int  # line ends: 0 "…" only, 1 also "...", 2 also ". . ."
    lines: int
    paragraphs: int
    every_copy: bool  # all copies are duplicates, not only the later ones


VARIANTS = {
    "datatrove": Variant(
        TOKENS, TOKENS, DATATROVE, 1, False, s.BREAKS, 1, 0, 1, s.FEED_RUNS, s.PARAGRAPHS, False
    ),
    "dclm": Variant(
        SPACED, SEGMENTS, UNION, 2, True, s.STRIPPED, 1, 1, 2, s.STRIPPED, s.STRIPPED_PARAGRAPHS, True
    ),
    "dolma": Variant(
        SPACED, SPACED, DOLMA, 0, False, s.FEEDS, 0, 2, 0, s.FEEDS, s.STRIPPED_PARAGRAPHS, True
    ),
    "dolma_v2": Variant(
        SPACED, SPACED, DOLMA, 0, False, s.FEED_RUNS, 0, 2, 0, s.FEED_RUNS, s.STRIPPED_PARAGRAPHS, True
    ),
    "paper": Variant(
        SPACED, SPACED, UNION, 0, True, s.WRITTEN, 1, 1, 1, s.STRIPPED, s.STRIPPED_PARAGRAPHS, False
    ),
}  # fmt: skip

_U = np.uint64
_SPACE, _ALPHA, _ALNUM, _LOWER = np.uint32(SPACE), np.uint32(ALPHA), np.uint32(ALNUM), np.uint32(LOWER)
_SYMBOL, _TERMINAL, _LETTER = np.uint16(t.SYMBOL), np.uint16(t.TERMINAL), np.uint16(t.LETTER)
_STOP_CODES = np.array([int.from_bytes(word.encode(), "big") for word in STOP_WORDS], dtype=np.uint64)
_HASH, _DOT, _DOTS = np.uint32(ord("#")), np.uint32(ord(".")), np.uint32(ord("…"))


def web_counts(array: pa.Array | pa.ChunkedArray, variant: Variant) -> dict[str, npt.NDArray[np.int64]]:
    """Each of COUNTS per document of a text array without nulls."""
    data, offsets = flatten(array)
    out = np.zeros((len(COUNTS), len(offsets) - 1), dtype=np.int64)
    _web_counts(data, offsets, TABLE, t.FLAGS, _STOP_CODES, tuple(variant), out)
    return dict(zip(COUNTS, out, strict=True))


@inline_kernel
def decode_all(data, start, end, cp):
    """Code points of ``data[start:end]``; returns how many."""
    count = 0
    at = start
    while at < end:
        byte = data[at]
        if byte < 0x80:
            cp[count] = byte
            at += 1
        else:
            cp[count], size = decode(data, at)
            at += size
        count += 1
    return count


@kernel
def _web_counts(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    flags: npt.NDArray[np.uint16],
    stops: npt.NDArray[np.uint64],
    variant: tuple[int, ...],
    out: npt.NDArray[np.int64],
) -> None:
    split, ngram_split, counting, which, fold = variant[0], variant[1], variant[2], variant[3], variant[4]
    quality, strip, bullets, dotted = variant[5], variant[6], variant[7], variant[8]
    line_cut, paragraph_cut, every = variant[9], variant[10], variant[11]
    cp = np.empty(4096, dtype=np.uint32)
    starts, ends = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    hashes, before = np.empty(1024, dtype=np.uint64), np.empty(1025, dtype=np.int64)
    stack = np.empty(2048, dtype=np.int64)
    line_starts, line_ends = np.empty(256, dtype=np.int64), np.empty(256, dtype=np.int64)
    breaks = np.empty(254, dtype=np.int64)
    slots, slot_keys = np.empty(16, dtype=np.int32), np.empty(16, dtype=np.uint64)
    names, places = np.empty(16, dtype=np.int64), np.empty(16, dtype=np.int32)
    times, stamp = np.empty(16, dtype=np.int32), np.empty(16, dtype=np.int8)
    c = np.zeros(out.shape[0], dtype=np.int64)
    grams, copies = np.zeros(15, dtype=np.int64), np.zeros(5, dtype=np.int64)
    for row in range(len(offsets) - 1):
        for i in range(len(c)):
            c[i] = 0
        size = offsets[row + 1] - offsets[row]
        if size > len(cp):
            cp = np.empty(size, dtype=np.uint32)
        count = decode_all(data, offsets[row], offsets[row + 1], cp)
        c[_CHARS] = count
        bound = word_bound(cp, count, table, flags)
        if bound > len(starts):
            starts, ends = np.empty(bound, dtype=np.int64), np.empty(bound, dtype=np.int64)
            hashes, before = np.empty(bound, dtype=np.uint64), np.empty(bound + 1, dtype=np.int64)
            stack = np.empty(2 * bound, dtype=np.int64)
        bound = s.count_breaks(cp, count)
        if bound + 2 > len(line_starts):
            line_starts, line_ends = np.empty(bound + 2, dtype=np.int64), np.empty(bound + 2, dtype=np.int64)
            breaks = np.empty(bound, dtype=np.int64)
        num_breaks = s.find_breaks(cp, count, breaks)
        words = split_words(cp, 0, count, split, table, flags, starts, ends, stack)
        _hash_words(cp, starts, ends, words, hashes, before)
        _word_counts(cp, starts, ends, words, which, fold, counting, table, flags, stops, c)
        _symbols(cp, count, dotted, c)
        if ngram_split != split:
            words = split_words(cp, 0, count, ngram_split, table, flags, starts, ends, stack)
            _hash_words(cp, starts, ends, words, hashes, before)
        if table_size(words) > len(slots):
            slots = np.empty(table_size(words), dtype=np.int32)
            slot_keys = np.empty(table_size(words), dtype=np.uint64)
            names, places = (
                np.empty(table_size(words), dtype=np.int64),
                np.empty(table_size(words), dtype=np.int32),
            )
            times, stamp = (
                np.empty(table_size(words), dtype=np.int32),
                np.empty(table_size(words), dtype=np.int8),
            )
        repeated_ngrams(hashes, before, words, counting, names, times, stamp, places, slots, slot_keys, grams)
        c[_NGRAM_OF] = before[words]
        if counting == DOLMA:
            c[_REPEATS] = most_repeats(hashes, words, LONGEST_PHRASE)
        for i in range(9):
            c[_TOP + i] = grams[i]
        for i in range(6):
            c[_OF + i] = grams[9 + i]
        found = s.segments(cp, count, quality, breaks, num_breaks, table, line_starts, line_ends)
        _marked_lines(cp, line_starts, line_ends, found, strip, bullets, dotted, table, c)
        found = s.segments(cp, count, line_cut, breaks, num_breaks, table, line_starts, line_ends)
        s.repeated_segments(cp, line_starts, line_ends, found, copies)
        c[_LINES] = found
        c[_DUP_LINES], c[_DUP_LINE_CHARS] = copies[2 * every], copies[2 * every + 1]
        c[_DUP_LINE_OF] = copies[4]
        found = s.segments(cp, count, paragraph_cut, breaks, num_breaks, table, line_starts, line_ends)
        s.repeated_segments(cp, line_starts, line_ends, found, copies)
        c[_PARAGRAPHS] = found
        c[_DUP_PARAGRAPHS], c[_DUP_PARAGRAPH_CHARS] = copies[2 * every], copies[2 * every + 1]
        c[_DUP_PARAGRAPH_OF] = copies[4]
        found = s.segments(cp, count, s.WRITTEN, breaks, num_breaks, table, line_starts, line_ends)
        s.repeated_segments(cp, line_starts, line_ends, found, copies)
        c[_WRITTEN], c[_FINEWEB_DUP] = found, copies[1]
        for i in range(found):
            c[_TERMINAL_LINES] += (flags[cp[line_ends[i] - 1]] & _TERMINAL) != 0
            c[_SHORT] += line_ends[i] - line_starts[i] <= SHORT_LINE_CHARS
        if ngram_split == SEGMENTS:
            found = s.segments(cp, count, s.FEEDS, breaks, num_breaks, table, line_starts, line_ends)
            c[_REMOVED] = removed_words(cp, line_starts, line_ends, found, table)
        for i in range(len(c)):
            out[i, row] = c[i]


@inline_kernel
def _hash_words(cp, starts, ends, words, hashes, before):
    before[0] = 0
    for i in range(words):
        hashes[i] = t.hash_span(cp, starts[i], ends[i])
        before[i + 1] = before[i] + ends[i] - starts[i]


@inline_kernel
def _word_counts(cp, starts, ends, words, which, fold, counting, table, flags, stops, c):
    distinct = 0
    longest = 0
    for i in range(words):
        longest = max(longest, ends[i] - starts[i])
    lengths = np.zeros(min(longest, 1023) + 1 if counting == DOLMA else 1, dtype=np.int64)
    for i in range(words):
        low, high = starts[i], ends[i]
        alpha = marked = False
        counted = which == 0
        for k in range(low, high):
            code = cp[k]
            if (table[code] & _ALPHA) != 0:
                alpha = True
                counted = counted or which == 1
                if counting != DOLMA:
                    break
            counted = counted or (which == 1 and (flags[code] & _SYMBOL) == 0)
            marked = marked or code in (_HASH, _DOTS)
        if which == 2:
            counted = (table[cp[low]] & _ALNUM) != 0
        c[_WORDS] += counted
        if counted or which != 1:
            c[_WORD_CHARS] += high - low
            c[_LENGTH_WORDS] += 1
        c[_ALPHA_WORDS] += alpha
        c[_SYMBOLS] += marked
        if counting == DOLMA:
            lengths[min(high - low, 1023)] += 1
        if 2 <= high - low <= 4:
            value = _U(0)
            for k in range(low, high):
                code = table[cp[k]] & _LOWER if fold else cp[k]
                value = (value << _U(8)) | _U(min(code, np.uint32(255)))
            for k in range(len(stops)):
                if stops[k] == value:
                    c[_STOPS] += 1
                    distinct |= 1 << k
    c[_TOKENS] = words
    while distinct > 0:
        c[_DISTINCT] += distinct & 1
        distinct >>= 1
    if counting == DOLMA and words > 0:
        low, high = _at_rank(lengths, (words - 1) // 2), _at_rank(lengths, words // 2)
        if high == len(lengths) - 1 and longest > high:  # the last entry stands for all that are longer
            every = np.sort(ends[:words] - starts[:words])
            low, high = every[(words - 1) // 2], every[words // 2]
        c[_MEDIAN] = low + high


@inline_kernel
def _at_rank(histogram, rank):
    passed = 0
    for length in range(len(histogram)):
        passed += histogram[length]
        if passed > rank:
            return length
    return 0


@inline_kernel
def _symbols(cp, count, dotted, c):
    """Number signs, ellipses as ``str.count`` finds them, line feeds."""
    dots = hashes = ellipses = newlines = np.int64(0)
    until = np.int64(0)  # of the last ". . ."
    for i in range(count):
        code = cp[i]
        if code == _DOT:
            dots += 1
            if dotted == 2 and i >= until and i + 4 < count:
                spaced = cp[i + 1] == 32 and cp[i + 2] == _DOT and cp[i + 3] == 32 and cp[i + 4] == _DOT
                if spaced:
                    ellipses += 1
                    until = i + 5
        else:
            if dots > 0:
                ellipses += dots // 3
                dots = np.int64(0)
            hashes += code == _HASH
            ellipses += code == _DOTS
            newlines += code == 10
    c[_HASHES], c[_ELLIPSES], c[_NEWLINES] = hashes, ellipses + dots // 3, newlines


@inline_kernel
def _marked_lines(cp, starts, ends, found, strip, bullets, dotted, table, c):
    c[_QUALITY_LINES] = found
    for i in range(found):
        low, high = starts[i], ends[i]
        if strip != 0:
            while low < high and (table[cp[low]] & _SPACE) != 0:
                low += 1
            while high > low and (table[cp[high - 1]] & _SPACE) != 0:
                high -= 1
        if low == high:
            continue
        first, last = cp[low], cp[high - 1]
        bullet = first == 45
        if bullets == 0:
            bullet = bullet or first == 0x2022
        else:
            bullet = bullet or first == 42
            if bullets == 1:
                bullet = bullet or first == 0x2022 or first == 0x25CF
        c[_BULLETS] += bullet
        ends_so = last == _DOTS
        if dotted >= 1 and last == _DOT and high - low >= 3:
            ends_so = cp[high - 2] == _DOT and cp[high - 3] == _DOT
            if dotted == 2 and high - low >= 5 and cp[high - 2] == 32 and cp[high - 3] == _DOT:
                ends_so = ends_so or (cp[high - 4] == 32 and cp[high - 5] == _DOT)
        c[_ELLIPSIS_LINES] += ends_so
