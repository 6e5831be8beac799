"""Integer counts over documents, one pass over the bytes.

Definitions (``operators/text_stats.py`` turns the counts into shares):

* character: a Unicode code point; classes are those of :mod:`headwater.kernels.characters`;
* word: a maximal run of non-white-space characters (``str.isspace``), as Gopher and C4 count them;
* line: what stands between line feeds, without a final carriage return; a last line without characters is
  none. Blank: nothing but white space.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.characters import ALNUM, ALPHA, DIGIT, LOWER, SPACE, TABLE, decode
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel

_U = np.uint64
_FNV_OFFSET, _FNV_PRIME = _U(0xCBF29CE484222325), _U(0x100000001B3)
_ALNUM, _ALPHA, _DIGIT, _SPACE = np.uint32(ALNUM), np.uint32(ALPHA), np.uint32(DIGIT), np.uint32(SPACE)
_LOWER = np.uint32(LOWER)

COUNTS = (
    "num_chars",
    "alnum_chars",
    "alpha_chars",
    "digit_chars",
    "space_chars",
    "newlines",
    "num_words",
    "word_chars",
    "alpha_words",
    "hashes",
    "ellipses",
    "stop_words",
    "num_lines",
    "blank_lines",
    "max_line_length",
    "line_chars",
    "terminal_lines",
    "short_lines",
    "bullet_lines",
    "ellipsis_lines",
    "duplicate_lines",
    "duplicate_line_chars",
)
(
    _CHARS,
    _ALNUMS,
    _ALPHAS,
    _DIGITS,
    _SPACES,
    _NEWLINES,
    _WORDS,
    _WORD_CHARS,
    _ALPHA_WORDS,
    _HASHES,
    _ELLIPSES,
    _STOP_WORDS,
    _LINES,
    _BLANK,
    _MAX_LINE,
    _LINE_CHARS,
    _TERMINAL,
    _SHORT,
    _BULLET,
    _ELLIPSIS_LINES,
    _DUPLICATE,
    _DUPLICATE_CHARS,
) = range(len(COUNTS))

SHORT_LINE_CHARS = 30  # FineWeb (arXiv 2406.17557, 3.6): lines of at most 30 characters
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher (arXiv 2112.11446, A1.1)
TERMINAL = (
    ".!?\"'”’…。！？"  # C4's four marks, FineWeb's apostrophe, and their typographic and full-width forms
)
BULLETS = "•‣◦⁃▪●○-*"
_DOT, _ELLIPSIS, _HASH, _NEWLINE, _RETURN = (np.uint32(ord(c)) for c in ".…#\n\r")


_NONE = np.uint32(0xFFFFFFFF)


def _packed(word: str) -> int:
    return int.from_bytes(word.encode(), "little")


_STOP = np.array([_packed(word) for word in STOP_WORDS], dtype=np.uint64)
_TERMINAL_CODES = np.array([ord(c) for c in TERMINAL], dtype=np.uint32)
_BULLET_CODES = np.array([ord(c) for c in BULLETS], dtype=np.uint32)


def text_counts(array: pa.Array | pa.ChunkedArray) -> dict[str, npt.NDArray[np.int64]]:
    """Each of COUNTS per document of a text array without nulls; valid UTF-8, as Arrow strings are."""
    data, offsets = flatten(array)
    out = np.zeros((len(COUNTS), len(offsets) - 1), dtype=np.int64)
    _text_counts(data, offsets, TABLE, _STOP, _TERMINAL_CODES, _BULLET_CODES, out)
    return dict(zip(COUNTS, out, strict=True))


@inline_kernel
def _among(code, codes):
    for i in range(len(codes)):  # noqa: SIM110 - numba has no any()
        if codes[i] == code:
            return True
    return False


@kernel
def _text_counts(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    stops: npt.NDArray[np.uint64],
    terminals: npt.NDArray[np.uint32],
    bullets: npt.NDArray[np.uint32],
    out: npt.NDArray[np.int64],
) -> None:
    seen = np.zeros(1024, dtype=np.uint64)
    count = np.zeros(out.shape[0], dtype=np.int64)
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        lines = 1
        for i in range(start, end):
            lines += data[i] == 10
        size = 16
        while size < 2 * lines:
            size *= 2
        if size > len(seen):
            seen = np.empty(size, dtype=np.uint64)
        for i in range(size):
            seen[i] = _U(0)
        _document(data, start, end, table, stops, terminals, bullets, seen, size - 1, count)
        for i in range(len(count)):
            out[i, row] = count[i]


@inline_kernel
def _document(data, start, end, table, stops, terminals, bullets, seen, mask, count):
    for i in range(len(count)):
        count[i] = 0
    chars = 0
    alnums = alphas = digits = spaces = 0
    word_length = 0  # of the word that is open
    word_alpha = False
    core = _U(0)  # the open word from its first to its last alphanumeric, as bytes, while it fits in five
    core_length = core_until = 0
    stop_mask = 0
    dots = 0
    line_start = 0  # in characters
    line_hash = _FNV_OFFSET
    first_code = last_code = _NONE  # of the line, white space aside
    trailing_dots = 0
    returned = False  # the last character was a carriage return
    at = start
    while True:
        finished = at >= end
        code, size = np.uint32(10), 1
        if not finished:
            byte = data[at]
            if byte < 0x80:
                code = np.uint32(byte)
            else:
                code, size = decode(data, at)
        entry = table[code]
        at += size
        if code == _DOT and not finished:
            dots += 1
        elif dots > 0:
            count[_ELLIPSES] += dots // 3
            dots = 0
        if (entry & _SPACE) == 0:
            if word_length == 0:
                core, core_length, core_until, word_alpha = _U(0), 0, 0, False
            word_length += 1
            if (entry & _ALNUM) != 0:
                alnums += 1
                if (entry & _ALPHA) != 0:
                    alphas += 1
                    word_alpha = True
                elif (entry & _DIGIT) != 0:
                    digits += 1
                if core_length < 5:
                    core |= _U(entry & _LOWER) << _U(8 * core_length)
                    core_length += 1
                    core_until = core_length
                    if code > np.uint32(127):
                        core_length = 99
                else:
                    core_length = 99
            elif core_length > 0:
                if code == _HASH:
                    count[_HASHES] += 1
                elif code == _ELLIPSIS:
                    count[_ELLIPSES] += 1
                if core_length < 5:  # may end the core, or stand inside it
                    core |= _U(code & np.uint32(0x7F)) << _U(8 * core_length)
                    core_length += 1
            elif code == _HASH:
                count[_HASHES] += 1
            elif code == _ELLIPSIS:
                count[_ELLIPSES] += 1
            if first_code == _NONE:
                first_code = code
            trailing_dots = trailing_dots + 1 if code == _DOT else 0
            last_code = code
        else:
            if word_length > 0:
                count[_WORDS] += 1
                count[_WORD_CHARS] += word_length
                count[_ALPHA_WORDS] += word_alpha
                if core_until <= 4 and core_until > 1 and core_length < 99:
                    kept = core & ((_U(1) << _U(8 * core_until)) - _U(1))
                    for i in range(len(stops)):
                        if stops[i] == kept:
                            stop_mask |= 1 << i
                word_length = 0
            if not finished:
                spaces += 1
        if code == _NEWLINE:
            length = chars - line_start
            if not finished or length > 0:
                if returned and not finished:
                    length -= 1
                count[_LINES] += 1
                count[_LINE_CHARS] += length
                count[_MAX_LINE] = max(count[_MAX_LINE], length)
                if first_code == _NONE:
                    count[_BLANK] += 1
                else:
                    count[_SHORT] += length <= SHORT_LINE_CHARS
                    count[_TERMINAL] += _among(last_code, terminals)
                    count[_BULLET] += _among(first_code, bullets)
                    count[_ELLIPSIS_LINES] += trailing_dots >= 3 or last_code == _ELLIPSIS
                    value = line_hash | _U(1)
                    slot = np.int64((value * _FNV_PRIME) >> _U(20)) & mask
                    while seen[slot] != 0 and seen[slot] != value:
                        slot = (slot + 1) & mask
                    if seen[slot] == value:
                        count[_DUPLICATE] += 1
                        count[_DUPLICATE_CHARS] += length
                    seen[slot] = value
            if finished:
                break
            count[_NEWLINES] += 1
            line_start = chars + 1
            line_hash = _FNV_OFFSET
            first_code = last_code = _NONE
            trailing_dots = 0
            returned = False
        else:
            # A carriage return counts for the line only once something follows it.
            if returned:
                line_hash = (line_hash ^ _U(13)) * _FNV_PRIME
            returned = code == _RETURN
            if not returned:
                line_hash = (line_hash ^ _U(code)) * _FNV_PRIME
        chars += 1
    count[_CHARS] = chars
    count[_ALNUMS], count[_ALPHAS], count[_DIGITS], count[_SPACES] = alnums, alphas, digits, spaces
    stop_words = 0
    while stop_mask > 0:
        stop_words += stop_mask & 1
        stop_mask >>= 1
    count[_STOP_WORDS] = stop_words
