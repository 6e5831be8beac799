"""The windows of files in which notices stand, as words.

A *word* here is what survives any comment syntax: a run of ASCII letters and digits, in lower case (each
byte that is not ASCII becomes ``~``); a full stop stays between digits, a plus at the end of a word
(``gplv2+``). Everything else separates words, so ``#``, ``//``, `` * `` and ``dnl`` never have to be told
apart. A *paragraph* ends at a line without words. A *window* is the part of a file around words such as
``license``, ``redistribut…``, ``permission``: neighboring paragraphs that hold one, cut to some words
before and after. Lines that begin with ``copyright`` are left out until such a word, so that equal notices
of different owners are equal.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_U = np.uint64

WORDS_BEFORE, WORDS_AFTER = 40, 60
"""Words kept before and after a word that opens a window: a notice's subject and its version."""
GAP_WORDS, LONG_GAP_WORDS, LONG_WINDOW_WORDS = 110, 600, 300
"""A window goes on across so many other words; across more of them once it is long, which only license
texts are."""
PARAGRAPH_WORDS = 4_000
"""A longer paragraph (a minified file) is cut."""

# What opens a window, in lower case: whole words, and (with a star) beginnings. A blank within stands for
# one white-space byte. "permission" and not "permissions", "public domain" and not "public": code is full
# of them.
_OPENERS = tuple(
    """
    licen*|copying|gpl*|lgpl*|agpl*|redistri*|permission|warrant*|spdx*|copyleft*|unlicens*|proprietary|
    confidential|bsd*|mit|apache*|artistic|public domain|rights reserved|terms of|terms as|terms and|
    same terms|creative commons|creativecommons|freely|gnu|mpl*|epl|cddl*|wtfpl|beerware|beer ware|eupl|
    cc0*|ofl|sublicen*|misrepresented|copyable|relicen*|without restriction|distributed under|
    distributed in|distributed as|free software|perl itself|as is|fsf|cecill*|no copyright|disclaim*|
    uncopyrighted
    """.replace("\n    ", "")
    .strip()
    .split("|")
)
_LONGEST = max(map(len, _OPENERS))
_SKIPPED_FIRST = ("dnl", "rem", "c")
_COPYRIGHT_FIRST = ("copyrigh", "author", "authors", "copr")
BYTES_BEFORE, BYTES_AFTER = 800, 1_600
"""Read before and after an opener: more than the words that are kept, with their comment marks."""
LONG_BYTES, LONG_BYTES_AFTER = 4_000, 6_000
"""After so many bytes of openers it is a license text: its long sections have none."""
FILE_BYTES, TAIL_BYTES = 1 << 20, 1 << 16
"""Read of a file around openers, and of its end after that."""


def _packed(word: str) -> int:
    return int.from_bytes(word.encode()[:8], "little")


def _opener_table() -> tuple[npt.NDArray[np.uint8], Ints, npt.NDArray[np.int32]]:
    """Openers as rows of bytes; their lengths, negative for beginnings; rows by first two letters."""
    rows = np.zeros((len(_OPENERS), _LONGEST), dtype=np.uint8)
    lengths = np.zeros(len(_OPENERS), dtype=np.int64)
    order = sorted(_OPENERS)
    by_pair = np.full((65_536, 2), -1, dtype=np.int32)
    for i, opener in enumerate(order):
        word = opener.rstrip("*").encode()
        rows[i, : len(word)] = np.frombuffer(word, np.uint8)
        lengths[i] = -len(word) if opener.endswith("*") else len(word)
        pair = word[0] | word[1] << 8
        by_pair[pair, 0] = i if by_pair[pair, 0] < 0 else by_pair[pair, 0]
        by_pair[pair, 1] = i + 1
    return rows, lengths, by_pair


_OPEN_ROWS, _OPEN_LENGTHS, _OPEN_PAIRS = _opener_table()
_SKIPPED = np.array([_packed(word) for word in _SKIPPED_FIRST], dtype=np.uint64)
_COPYRIGHT = np.array([_packed(word) for word in _COPYRIGHT_FIRST], dtype=np.uint64)


def _word_bytes() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, dtype=np.uint8)
    for byte in (*range(ord("a"), ord("z") + 1), *range(ord("0"), ord("9") + 1)):
        table[byte] = byte
    table[0x80:] = ord("~")
    for byte in range(ord("A"), ord("Z") + 1):
        table[byte] = byte + 32
    return table


_WORD_BYTES = _word_bytes()


class Windows(NamedTuple):
    """Windows of a batch of files, in the order of files and places."""

    text: pa.Array  # large_string: words with single spaces
    row: Ints  # which file
    words: Ints  # how many words
    start: Ints  # first byte in the file
    end: Ints  # one past the last byte
    first_line: Ints  # from 1
    last_line: Ints


def notice_windows(array: pa.Array | pa.ChunkedArray) -> Windows:
    """The notice windows of each file of a text array without nulls."""
    data, offsets = flatten(array)
    out, places = _windows(
        data,
        offsets,
        _WORD_BYTES,
        _OPEN_ROWS,
        _OPEN_LENGTHS,
        _OPEN_PAIRS,
        _SKIPPED,
        _COPYRIGHT,
    )
    ends = np.zeros(len(places) + 1, dtype=np.int64)
    np.cumsum(places[:, 1], out=ends[1:])
    text = pa.Array.from_buffers(
        pa.large_string(), len(places), [None, pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]])]
    )
    columns = (np.ascontiguousarray(places[:, i]) for i in (0, 2, 3, 4, 5, 6))
    row, words, start, end, first, last = columns
    return Windows(text, row, words, start, end, first, last)


def all_words(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Each text as its words, joined by single spaces: how license texts are kept and compared."""
    data, offsets = flatten(array)
    out, ends = _all_words(data, offsets, _WORD_BYTES, _SKIPPED)
    return pa.Array.from_buffers(
        pa.large_string(), len(ends) - 1, [None, pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]])]
    )


@inline_kernel
def _grown(buffer, need):
    if need <= len(buffer):
        return buffer
    larger = np.empty(max(2 * len(buffer), need), dtype=buffer.dtype)
    larger[: len(buffer)] = buffer
    return larger


@inline_kernel
def _is_separator(data, i, end):
    """Bytes of a separator that is not ASCII at ``i``, or 0: no-break space, ©, general punctuation, BOM."""
    if data[i] == 0xC2 and i + 1 < end and data[i + 1] < 0xC0:
        return 2
    if data[i] == 0xE2 and i + 2 < end and (data[i + 1] == 0x80 or data[i + 1] == 0x81):
        return 3
    if data[i] == 0xEF and i + 2 < end and data[i + 1] == 0xBB and data[i + 2] == 0xBF:
        return 3
    return 0


@inline_kernel
def _tag_end(data, i, end):
    """One past the ``>`` of the tag, address or placeholder that begins at ``i``, or ``i``."""
    if i + 2 >= end:
        return i
    second = data[i + 1] | 32
    if not ((97 <= second <= 122) or data[i + 1] == 47):
        return i
    if (
        second == 104
        and i + 4 < end
        and (data[i + 2] | 32) == 116
        and (data[i + 3] | 32) == 116
        and (data[i + 4] | 32) == 112
    ):
        return i  # <http://www.apache.org/licenses/LICENSE-2.0>
    for j in range(i + 1, min(i + 160, end)):
        byte = data[j]
        if byte == 62:
            return j + 1
        if byte == 60 or byte == 10:
            return i
    return i


@inline_kernel
def _next_word(data, i, end, out, at, table):
    """Copy the word at or after ``i`` to ``out[at:]``: ``(after it, its first byte, new at, newlines)``.

    ``at`` is unchanged when there is none. Stops at a line feed: then newlines is 1 and no word is copied.
    """
    while i < end:
        byte = data[i]
        if byte == 10:
            return i + 1, i, at, 1
        if byte == 60:
            after = _tag_end(data, i, end)
            i = after if after > i else i + 1
            continue
        if byte == 92 and i + 1 < end:  # \n in a string
            following = data[i + 1]
            is_escape = following == 110 or following == 116 or following == 114
            if is_escape and (i + 2 >= end or not (97 <= data[i + 2] <= 122)):
                i += 2
                continue
        if table[byte] == 0:
            i += 1
            continue
        if byte >= 0x80:
            width = _is_separator(data, i, end)
            if width > 0:
                i += width
                continue
        break
    if i >= end:
        return end, end, at, 0
    first = i
    while i < end:
        byte = data[i]
        low = table[byte]
        if low == 0:
            if (
                byte == 46
                and i > first
                and 48 <= data[i - 1] <= 57
                and i + 1 < end
                and 48 <= data[i + 1] <= 57
            ):
                low = np.uint8(46)
            elif byte == 43 and (i + 1 >= end or table[data[i + 1]] == 0):
                low = np.uint8(43)
            elif byte == 39 and i + 1 < end and 97 <= data[i + 1] <= 122:  # licensor's
                i += 1
                continue
            else:
                break
        elif byte >= 0x80 and _is_separator(data, i, end) > 0:
            break
        out[at] = low
        at += 1
        i += 1
    return i, first, at, 0


@inline_kernel
def _pack(out, at, end):
    """The first eight bytes of a word as one integer."""
    packed = _U(0)
    for i in range(min(8, end - at)):
        packed |= _U(out[at + i]) << _U(8 * i)
    return packed


@inline_kernel
def _opens(data, i, end, table, rows, lengths, pairs):
    """Whether one of the openers stands at the beginning ``i`` of a word."""
    if i + 3 > end:
        return False
    pair = np.int64(table[data[i]]) | np.int64(table[data[i + 1]]) << 8
    for k in range(pairs[pair, 0], pairs[pair, 1]):
        length = abs(lengths[k])
        if i + length > end:
            continue
        same = True
        for b in range(2, length):
            want = rows[k, b]
            if want == 32:
                byte = data[i + b]
                if byte != 32 and byte != 10 and byte != 45 and byte != 9:
                    same = False
                    break
            elif table[data[i + b]] != want:
                same = False
                break
        if same and (lengths[k] < 0 or i + length == end or table[data[i + length]] == 0):
            return True
    return False


@inline_kernel
def _next_opener(data, i, end, table, rows, lengths, pairs):
    """The first byte at or after ``i`` (which begins no word) where an opener stands, or ``end``."""
    inside = False
    while i < end:
        byte = data[i]
        if table[byte] == 0:
            inside = False
        elif not inside:
            inside = True
            known = i + 1 < end and pairs[np.int64(table[byte]) | np.int64(table[data[i + 1]]) << 8, 0] >= 0
            if known and _opens(data, i, end, table, rows, lengths, pairs):
                return i
        i += 1
    return end


@inline_kernel
def _among(packed, values):
    for i in range(len(values)):  # noqa: SIM110 - numba has no any()
        if packed == values[i]:
            return True
    return False


@kernel
def _all_words(
    data: Bytes, offsets: Offsets, table: Bytes, skipped: Hashes
) -> tuple[npt.NDArray[np.uint8], Ints]:
    rows = len(offsets) - 1
    out = np.empty(2 * (offsets[rows] - offsets[0]) + 16, dtype=np.uint8)
    ends = np.zeros(rows + 1, dtype=np.int64)
    at = 0
    for row in range(rows):
        i, end = offsets[row], offsets[row + 1]
        line_start = True
        begun = at
        while i < end:
            here = at
            if at > begun:
                out[at] = 32
                here = at + 1
            i, _first, after, newline = _next_word(data, i, end, out, here, table)
            if newline:
                line_start = True
                continue
            if after == here:
                break
            if line_start and after - here <= 3 and _among(_pack(out, here, after), skipped):
                line_start = False
                continue
            line_start = False
            at = after
        ends[row + 1] = at
    return out, ends


@kernel
def _windows(
    data: Bytes,
    offsets: Offsets,
    table: Bytes,
    open_rows: npt.NDArray[np.uint8],
    open_lengths: Ints,
    open_pairs: npt.NDArray[np.int32],
    skipped: Hashes,
    copyrights: Hashes,
) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Words of all windows end to end, and per window: row, bytes, words, start, end, first and last line."""
    out = np.empty(65_536, dtype=np.uint8)
    at = 0
    places = np.empty((256, 7), dtype=np.int64)
    count = 0
    # The words of the window that is open and of the paragraph that is being read.
    text = np.empty(65_536, dtype=np.uint8)
    word_at = np.empty(PARAGRAPH_WORDS + 1, dtype=np.int64)  # in `text`, of the paragraph
    word_byte = np.empty(PARAGRAPH_WORDS + 1, dtype=np.int64)
    word_end = np.empty(PARAGRAPH_WORDS + 1, dtype=np.int64)
    word_line = np.empty(PARAGRAPH_WORDS + 1, dtype=np.int64)
    word_open = np.empty(PARAGRAPH_WORDS + 1, dtype=np.bool_)
    for row in range(len(offsets) - 1):
        begin, file_end = offsets[row], offsets[row + 1]
        line, line_at, spent = 1, begin, 0
        opener = _next_opener(data, begin, file_end, table, open_rows, open_lengths, open_pairs)
        while opener < file_end:
            # A region: openers so near each other that their surroundings touch.
            i = max(line_at, opener - BYTES_BEFORE)
            while i > line_at and data[i - 1] != 10 and i > opener - 2 * BYTES_BEFORE:
                i -= 1
            end = min(file_end, opener + BYTES_AFTER)
            region = i
            while end - region < FILE_BYTES:
                opener = _next_opener(data, opener + 1, file_end, table, open_rows, open_lengths, open_pairs)
                if opener - BYTES_BEFORE > end or opener >= file_end:
                    break
                after = LONG_BYTES_AFTER if end - region > LONG_BYTES else BYTES_AFTER
                end = min(file_end, opener + after)
            for b in range(line_at, i):
                line += data[b] == 10
            spent += end - i
            if spent > FILE_BYTES:  # the rest is text about licenses, or hostile: on to the end of the file
                behind = max(end, file_end - TAIL_BYTES)
                opener = _next_opener(data, behind, file_end, table, open_rows, open_lengths, open_pairs)
                spent = 0
            text = _grown(text, 2 * (end - i) + 64)
            used = 0  # bytes of `text`
            kept = 0  # bytes of `text` up to the last word that is surely in the window
            is_open = False
            w_words = w_kept_words = 0
            w_start = w_end = w_first = w_last = 0
            while i < end:
                # One paragraph into `text` after `used`.
                n = opened = 0
                line_start, line_words, skipping = True, 0, False
                while i < end and n < PARAGRAPH_WORDS:
                    j, first, after, newline = _next_word(data, i, end, text, used + 1, table)
                    if newline:
                        i = j
                        line += 1
                        if line_words == 0 and n > 0:
                            break
                        line_start, line_words, skipping = True, 0, False
                        continue
                    i = j
                    if after == used + 1:
                        continue
                    packed = _pack(text, used + 1, after)
                    length = after - used - 1
                    if line_start:
                        line_start = False
                        if length <= 3 and _among(packed, skipped):
                            # "(c) 2010 ..." begins with the word c, too
                            skipping = length == 1 and i < end and data[i] == 41
                            line_words += skipping
                            continue
                        if length >= 4 and _among(packed, copyrights):
                            skipping = True
                    line_words += 1
                    opens = _opens(data, first, end, table, open_rows, open_lengths, open_pairs)
                    if skipping:
                        if not opens:
                            continue
                        skipping = False
                    text[used] = 32
                    word_at[n] = used
                    word_byte[n] = first
                    word_end[n] = i
                    word_line[n] = line
                    word_open[n] = opens
                    n += 1
                    opened += opens
                    used = after
                limit = LONG_GAP_WORDS if w_kept_words > LONG_WINDOW_WORDS else GAP_WORDS
                if opened == 0:
                    w_words += n
                    if is_open and w_words - w_kept_words > limit:
                        out, at, places, count = _close(
                            out, at, places, count, text, kept, row, w_kept_words, w_start - begin,
                            w_end - begin, w_first, w_last,
                        )  # fmt: skip
                        is_open = False
                    if not is_open:
                        used = 0
                    continue
                # Cut to the words around those that open.
                for k in range(n):
                    if not word_open[k]:
                        continue
                    limit = LONG_GAP_WORDS if w_kept_words > LONG_WINDOW_WORDS else GAP_WORDS
                    if is_open and w_words - w_kept_words + k > limit + WORDS_BEFORE:
                        out, at, places, count = _close(
                            out, at, places, count, text, kept, row, w_kept_words, w_start - begin,
                            w_end - begin, w_first, w_last,
                        )  # fmt: skip
                        is_open = False
                    if not is_open:
                        # The window begins here: move its words to the front.
                        origin = max(0, k - WORDS_BEFORE)
                        shift = word_at[origin]
                        for b in range(shift, used):
                            text[b - shift] = text[b]
                        for m in range(origin, n):
                            word_at[m] -= shift
                        used -= shift
                        is_open = True
                        w_start, w_first = word_byte[origin], word_line[origin]
                        w_words = -origin
                        w_kept_words = 0
                    last = min(n - 1, k + WORDS_AFTER)
                    kept = word_at[last + 1] if last + 1 < n else used
                    w_kept_words = w_words + last + 1
                    w_end, w_last = word_end[last], word_line[last]
                w_words += n
            line_at = end
            if is_open:
                out, at, places, count = _close(
                    out, at, places, count, text, kept, row, w_kept_words, w_start - begin, w_end - begin,
                    w_first, w_last,
                )  # fmt: skip
    return out, places[:count]


@inline_kernel
def _close(out, at, places, count, text, kept, row, words, start, end, first, last):
    size = kept - 1  # without the space before the first word
    out = _grown(out, at + size)
    for b in range(size):
        out[at + b] = text[b + 1]
    if count == len(places):
        larger = np.empty((2 * count, 7), dtype=np.int64)
        larger[:count] = places
        places = larger
    places[count, 0], places[count, 1], places[count, 2] = row, size, words
    places[count, 3], places[count, 4], places[count, 5], places[count, 6] = start, end, first, last
    return out, at + size, places, count + 1
