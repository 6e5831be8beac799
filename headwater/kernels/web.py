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
from headwater.kernels.chunks import HEAD, LONGEST, WORDS_PER_SLOT, next_chunk, slots_for
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel
from headwater.kernels.refinedweb import removed_words
from headwater.kernels.repetition import DATATROVE, DOLMA, UNION, most_repeats, repeated_ngrams, table_size
from headwater.kernels.text import STOP_WORDS
from headwater.kernels.wordsplit import SEGMENTS, SPACED, TOKENS, like_exception, split_words, word_bound

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
LONGEST_COUNTED = 1023  # characters of a word, for the median
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
_LOW = _U(0xFFFFFFFF)
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
    cp = np.empty(4097, dtype=np.uint32)
    starts, ends = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    hashes, before = np.empty(1026, dtype=np.uint64), np.empty(1027, dtype=np.int64)
    stack = np.empty(2048, dtype=np.int64)
    line_starts, line_ends = np.empty(256, dtype=np.int64), np.empty(256, dtype=np.int64)
    breaks = np.empty(254, dtype=np.int64)
    slots, slot_keys = np.empty(16, dtype=np.uint32), np.empty(16, dtype=np.uint64)
    names, places = np.empty(16, dtype=np.uint32), np.empty(16, dtype=np.uint32)
    times, stamp = np.empty(16, dtype=np.uint32), np.empty(16, dtype=np.uint8)
    c = np.zeros(out.shape[0], dtype=np.int64)
    chunk = np.zeros(out.shape[0], dtype=np.int64)
    lengths = np.empty(LONGEST_COUNTED + 1, dtype=np.int64)
    size = slots_for(offsets[-1] - offsets[0]) if split == TOKENS else 1
    keys, records = np.zeros(size, dtype=np.uint64), np.empty(size, dtype=np.uint32)
    pool = np.empty(WORDS_PER_SLOT * size, dtype=np.uint64)
    tail = np.int64(0)
    grams, copies = np.zeros(15, dtype=np.int64), np.zeros(5, dtype=np.int64)
    for row in range(len(offsets) - 1):
        for i in range(len(c)):
            c[i] = 0
        size = offsets[row + 1] - offsets[row]
        if size >= len(cp):
            cp = np.empty(size + 1, dtype=np.uint32)
        bound = s.count_breaks(data, offsets[row], offsets[row + 1])
        if bound + 2 > len(line_starts):
            line_starts, line_ends = np.empty(bound + 2, dtype=np.int64), np.empty(bound + 2, dtype=np.int64)
            breaks = np.empty(bound, dtype=np.int64)
        count, num_breaks = s.decode_breaks(data, offsets[row], offsets[row + 1], cp, breaks)
        c[_CHARS] = count
        bound = word_bound(cp, count, table, flags)
        if bound > len(starts):
            starts, ends = np.empty(bound, dtype=np.int64), np.empty(bound, dtype=np.int64)
            hashes, before = np.empty(bound + 2, dtype=np.uint64), np.empty(bound + 3, dtype=np.int64)
            stack = np.empty(2 * bound, dtype=np.int64)
        if split == TOKENS and 2 * bound + HEAD + 4 + tail > len(pool):
            grown = np.empty(2 * bound + HEAD + 4 + WORDS_PER_SLOT * len(keys), dtype=np.uint64)
            grown[:tail] = pool[:tail]
            pool = grown
        if split == TOKENS:
            words, tail = _tokens(
                cp, count, which, fold, table, flags, stops, starts, ends, stack, keys, records, pool, tail,
                chunk, hashes, before, c,
            )  # fmt: skip
            for k in range(num_breaks):
                c[_NEWLINES] += cp[breaks[k]] == 10
        else:
            words = split_words(cp, 0, count, split, table, flags, starts, ends, stack)
            _hash_words(cp, starts, ends, words, hashes, before)
            _word_counts(cp, starts, ends, words, which, fold, counting, table, flags, stops, lengths, c)
            _symbols(cp, 0, count, dotted, c)
        distinct = c[_DISTINCT]
        c[_DISTINCT] = 0
        while distinct > 0:
            c[_DISTINCT] += distinct & 1
            distinct >>= 1
        if ngram_split != split:
            words = split_words(cp, 0, count, ngram_split, table, flags, starts, ends, stack)
            _hash_words(cp, starts, ends, words, hashes, before)
        if table_size(words) > len(slots):
            size = table_size(words)
            slots, slot_keys = np.empty(size, dtype=np.uint32), np.empty(size, dtype=np.uint64)
            names, places = np.empty(size, dtype=np.uint32), np.empty(size, dtype=np.uint32)
            times, stamp = np.empty(size, dtype=np.uint32), np.empty(size, dtype=np.uint8)
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
        lines, later_chars = found, copies[1]
        c[_LINES] = found
        c[_DUP_LINES], c[_DUP_LINE_CHARS] = copies[2 * every], copies[2 * every + 1]
        c[_DUP_LINE_OF] = copies[4]
        found = s.segments(cp, count, paragraph_cut, breaks, num_breaks, table, line_starts, line_ends)
        s.repeated_segments(cp, line_starts, line_ends, found, copies)
        c[_PARAGRAPHS] = found
        c[_DUP_PARAGRAPHS], c[_DUP_PARAGRAPH_CHARS] = copies[2 * every], copies[2 * every + 1]
        c[_DUP_PARAGRAPH_OF] = copies[4]
        found = s.segments(cp, count, s.WRITTEN, breaks, num_breaks, table, line_starts, line_ends)
        if line_cut == s.FEED_RUNS and found == lines:  # the same lines: none of them is blank
            copies[1] = later_chars
        else:
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
def _tokens(
    cp, count, which, fold, table, flags, stops, starts, ends, stack, keys, records, pool, tail, chunk,
    hashes, before, c,
):  # fmt: skip
    """Tokens of a document and all counts of them, through the memory of chunks.

    Returns how many tokens, and where the next record goes in ``pool``. Ellipses and number signs do not
    cross white space (``dotted`` below 2), and the counts of words never look beyond one.
    """
    words = np.int64(0)
    before[0] = chars = np.int64(0)
    mask = _U(len(keys) - 1)
    plain_words, plain_chars = np.int64(0), np.int64(0)
    first = second = third = _U(0)
    ellipses = distinct = _U(0)
    at = np.int64(0)
    while True:
        begin, at, plain = next_chunk(cp, at, count, table)
        if begin == count:
            break
        key = t.hash_span(cp, begin, at)
        length = at - begin
        if plain and length > 4 and not like_exception(cp, begin, at):  # stop words have at most four
            hashes[words] = key
            words += 1
            chars += length
            before[words] = chars
            plain_words += 1
            plain_chars += length
            continue
        slot = (key >> _U(20)) & mask
        if keys[slot] == key:
            place = _U(records[slot])
        else:
            tokens = split_words(cp, begin, at, TOKENS, table, flags, starts, ends, stack)
            room = HEAD + 2 * max(tokens, 2)
            if tail + room > WORDS_PER_SLOT * len(keys):
                tail = np.int64(0)
                for i in range(len(keys)):
                    keys[i] = _U(0)
            place = _U(tail)
            _record(cp, begin, at, tokens, which, fold, table, flags, stops, starts, ends, chunk, pool, place)
            if length <= LONGEST:
                keys[slot], records[slot] = key, place
                tail += room
        head = pool[place]
        first += head
        second += pool[place + _U(1)]
        third += pool[place + _U(2)]
        ellipses += pool[place + _U(3)] & _LOW
        distinct |= pool[place + _U(3)] >> _U(32)
        place += _U(HEAD)
        tokens = np.int64(head & _LOW)
        # Two at once, whether there are or not: few chunks have more, and a branch costs more than a store.
        one, two = np.int64(pool[place + _U(1)]), np.int64(pool[place + _U(3)])
        hashes[words], hashes[words + 1] = pool[place], pool[place + _U(2)]
        before[words + 1], before[words + 2] = chars + one, chars + one + two
        chars += one + (two if tokens > 1 else np.int64(0))
        for i in range(2, tokens):
            place += _U(2)
            hashes[words + i] = pool[place + _U(2)]
            chars += np.int64(pool[place + _U(3)])
            before[words + i + 1] = chars
        words += tokens
    counted, total = np.int64(first >> _U(32)), np.int64(first & _LOW)
    c[_TOKENS] = words
    c[_WORDS] = plain_words + counted
    c[_LENGTH_WORDS] = plain_words + (counted if which == 1 else total)
    c[_WORD_CHARS] = plain_chars + np.int64(second & _LOW)
    c[_ALPHA_WORDS] = plain_words + np.int64(second >> _U(32))
    c[_STOPS], c[_HASHES] = np.int64(third & _LOW), np.int64(third >> _U(32))
    c[_ELLIPSES], c[_DISTINCT] = np.int64(ellipses), np.int64(distinct)
    return words, tail


@inline_kernel
def _record(cp, low, high, tokens, which, fold, table, flags, stops, starts, ends, chunk, pool, place):
    for i in range(_QUALITY_LINES):
        chunk[i] = 0
    _word_counts(cp, starts, ends, tokens, which, fold, DATATROVE, table, flags, stops, chunk, chunk)
    _symbols(cp, low, high, 0, chunk)
    pool[place] = _U(tokens) | (_U(chunk[_WORDS]) << _U(32))
    pool[place + _U(1)] = _U(chunk[_WORD_CHARS]) | (_U(chunk[_ALPHA_WORDS]) << _U(32))
    pool[place + _U(2)] = _U(chunk[_STOPS]) | (_U(chunk[_HASHES]) << _U(32))
    pool[place + _U(3)] = _U(chunk[_ELLIPSES]) | (_U(chunk[_DISTINCT]) << _U(32))
    for i in range(tokens):
        pool[place + _U(HEAD + 2 * i)] = t.hash_span(cp, starts[i], ends[i])
        pool[place + _U(HEAD + 1 + 2 * i)] = _U(ends[i] - starts[i])


@inline_kernel
def _hash_words(cp, starts, ends, words, hashes, before):
    before[0] = 0
    for i in range(words):
        hashes[i] = t.hash_span(cp, starts[i], ends[i])
        before[i + 1] = before[i] + ends[i] - starts[i]


@inline_kernel
def _word_counts(cp, starts, ends, words, which, fold, counting, table, flags, stops, lengths, c):
    distinct = 0
    longest = 0
    for i in range(words):
        longest = max(longest, ends[i] - starts[i])
    if counting == DOLMA:
        for i in range(len(lengths)):
            lengths[i] = 0
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
            lengths[min(high - low, LONGEST_COUNTED)] += 1
        if 2 <= high - low <= 4:
            value = _U(0)
            for k in range(low, high):
                code = table[cp[k]] & _LOWER if fold else cp[k]
                value = (value << _U(8)) | _U(min(code, np.uint32(255)))
            for k in range(len(stops)):
                if stops[k] == value:
                    c[_STOPS] += 1
                    distinct |= 1 << k
    c[_TOKENS], c[_DISTINCT] = words, distinct
    if counting == DOLMA and words > 0:
        low, high = _at_rank(lengths, (words - 1) // 2), _at_rank(lengths, words // 2)
        if high == LONGEST_COUNTED:  # which stands for all that are longer
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
def _symbols(cp, low, high, dotted, c):
    """Number signs, ellipses as ``str.count`` finds them, line feeds."""
    dots = hashes = ellipses = newlines = np.int64(0)
    until = np.int64(0)  # of the last ". . ."
    for i in range(low, high):
        code = cp[i]
        if code == _DOT:
            dots += 1
            if dotted == 2 and i >= until and i + 4 < high:
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
