"""Words of one document, by the three definitions that the published rule sets count with.

* ``SPACED``: maximal runs of characters that are not white space (``str.split``): Gopher, Dolma, DCLM.
* ``TOKENS``: those runs cut as spaCy's English tokenizer cuts them, with which datatrove counts: prefixes and
  suffixes off, its exceptions ("do n't", "e.g."), web addresses whole, then infixes.
* ``SEGMENTS``: words of UAX 29 that begin with a letter or digit, as DCLM counts n-grams. Rules WB3 to WB13b
  for scripts written with spaces; an ideograph or kana is a word by itself.

A document is an array of code points; a word is ``starts[i]:ends[i]`` in it.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np

from headwater.kernels import token_classes as t
from headwater.kernels.addresses import is_address
from headwater.kernels.characters import ALNUM as IS_ALNUM
from headwater.kernels.characters import DIGIT as IS_DIGIT
from headwater.kernels.characters import MARK as IS_MARK
from headwater.kernels.characters import SOLO as IS_SOLO
from headwater.kernels.characters import SPACE as IS_SPACE
from headwater.kernels.jit import forced_kernel, inline_kernel

SPACED, TOKENS, SEGMENTS = range(3)
SPLITS = {"whitespace": SPACED, "spacy": TOKENS, "unicode": SEGMENTS}

_U = np.uint64
_FNV_OFFSET, _FNV_PRIME = t.FNV_OFFSET, t.FNV_PRIME
_SPACE, _MARK, _SOLO = np.uint32(IS_SPACE), np.uint32(IS_MARK), np.uint32(IS_SOLO)
_ALNUM, _DIGIT = np.uint32(IS_ALNUM), np.uint32(IS_DIGIT)
_PREFIX, _SUFFIX, _ICON, _LOWER, _UPPER = (
    np.uint16(bit) for bit in (t.PREFIX, t.SUFFIX, t.ICON, t.LOWER, t.UPPER)
)
_LETTER, _LETTER_OR_DIGIT, _BEFORE_STOP, _CAPITAL = (
    np.uint16(bit) for bit in (t.LETTER, t.ALNUM, t.BEFORE_STOP, t.CAPITAL)
)
_PLAIN = np.uint16(t.LETTER | t.PREFIX | t.SUFFIX | t.ICON)  # a few letters of spaCy's are also punctuation
_MASK = np.int64(t.EXCEPTION_SLOTS - 1)
_LONGEST = t.LONGEST_EXCEPTION
_KEYS, _CUTS, _OPENINGS = t.EXCEPTION_KEYS, t.EXCEPTION_CUTS, t.EXCEPTION_OPENINGS
_EDGES, _SIX = t.EXCEPTION_EDGES, np.uint32(63)

# spaCy's units of measure, cut off after a digit: each as up to four code points, 16 bits apiece.
_UNIT_NAMES = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh "
    "mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ "
    "нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ"
)


def _units():
    packed = {}
    for name in _UNIT_NAMES.split():
        packed[sum(ord(c) << (16 * i) for i, c in enumerate(reversed(name)))] = len(name)
    return (
        np.array(sorted(packed), dtype=np.uint64),
        np.array([packed[key] for key in sorted(packed)], dtype=np.int64),
    )


_UNITS, _UNIT_LENGTHS = _units()
_INSIDE = (t.FLAGS[:128] & _ICON) != 0  # what may cut inside a chunk, of ASCII
_INSIDE[[ord(c) for c in ".+-*^,:<>=/~"]] = True
_CURRENCY = np.array([ord(c) for c in "$£€¥฿₽﷼₴"] + list(range(0x20A0, 0x20C0)), dtype=np.uint32)


@inline_kernel
def word_bound(cp, count, table, flags):
    """No split of the document gives more words than this."""
    if count < 1 << 20:
        return count + 4
    bound = 4
    inside = False
    for i in range(count):
        if (table[cp[i]] & _SPACE) != 0:
            inside = False
        else:
            if not inside:
                bound += 4  # a chunk that is an exception has at most three cuts
                inside = True
            if (flags[cp[i]] & _LETTER) == 0:
                bound += 2
    return bound


@inline_kernel
def split_words(cp, low, high, split, table, flags, starts, ends, stack):
    """The words of ``cp[low:high]``; returns how many. ``stack`` has room for twice ``starts``."""
    if split == SEGMENTS:
        return _segments(cp, low, high, table, starts, ends)
    words = 0
    at = low
    while at < high:
        while at < high and (table[cp[at]] & _SPACE) != 0:
            at += 1
        begin = at
        if at == high:
            break
        while at < high and (flags[cp[at]] & _PLAIN) == _LETTER:
            at += 1
        letters = at
        digits = False
        while at < high and (table[cp[at]] & _SPACE) == 0:
            digits = digits or 48 <= cp[at] <= 57
            at += 1
        plain = letters == at
        if split == SPACED or (plain and not like_exception(cp, begin, at)):
            starts[words], ends[words] = begin, at
            words += 1
        elif letters == at - 1 and letters > begin and _ends_word(cp, begin, at, flags):
            starts[words], ends[words] = begin, letters
            starts[words + 1], ends[words + 1] = letters, at
            words += 2
        else:
            first = words
            words = _chunk(cp, begin, at, plain, digits, flags, starts, ends, words, stack)
            if words > first + 1:
                words = _glued(cp, starts, ends, first, words)
    return words


@forced_kernel
def like_exception(cp, low, high):
    """Whether some exception is as long and has the same first and last character, or nearly."""
    length = high - low
    if length > _LONGEST:
        return False
    first, last = _EDGES[length] >> _U(cp[low] & _SIX), _EDGES[32 + length] >> _U(cp[high - 1] & _SIX)
    return (first & last & _U(1)) != 0


@forced_kernel
def _ends_word(cp, low, high, flags):
    """Whether a chunk of letters and one character is a word and a mark, and can be nothing else."""
    code = cp[high - 1]
    if code == 46:
        if (flags[cp[high - 2]] & _BEFORE_STOP) == 0:
            return False
    elif (flags[code] & _SUFFIX) == 0:
        return False
    return (
        not like_exception(cp, low, high) and not like_exception(cp, low, high - 1) and not _glues(cp, high)
    )


@forced_kernel
def _glues(cp, high):
    """Whether the last two characters may begin an exception that is cut and glued (``z.``)."""
    return _OPENINGS[(31 * np.int64(cp[high - 2]) + np.int64(cp[high - 1])) & 4095]


@forced_kernel
def _exception(cp, low, high):
    """Slot of the exception that ``cp[low:high]`` is, or -1."""
    if high <= low or not like_exception(cp, low, high):
        return np.int64(-1)
    value = _FNV_OFFSET
    for i in range(low, high):
        value = (value ^ _U(cp[i])) * _FNV_PRIME
    value |= _U(1)
    slot = np.int64((value >> _U(20)) & _U(_MASK))
    while _KEYS[slot] != 0:
        if _KEYS[slot] == value:
            return slot
        slot = (slot + 1) & _MASK
    return np.int64(-1)


@forced_kernel
def _chunk(cp, low, high, plain, digits, flags, starts, ends, words, stack):
    """spaCy's tokens of a chunk without white space, appended from ``words`` on."""
    found = _exception(cp, low, high)
    if plain and found < 0:
        starts[words], ends[words] = low, high
        return words + 1
    suffixes = 0
    while low < high and found < 0:
        before = after = 0
        code = cp[low]
        flag = flags[code] & _PLAIN
        dollar = (code == 65 or code == 67 or code == 85) and low + 1 < high
        if (flag != _LETTER and not 48 <= code <= 57) or dollar:
            before = _prefix(cp, low, high, flags)
            if before > 0:
                found = _exception(cp, low + before, high)
                if found >= 0:
                    starts[words], ends[words] = low, low + before
                    words += 1
                    low += before
                    break
        code = cp[high - 1]
        flag = flags[code] & _PLAIN
        if flag != _LETTER or digits or code == 115 or code == 83:
            after = _suffix(cp, low + before, high, flags)
            if after > 0:
                found = _exception(cp, low, high - after)
                if found >= 0:
                    stack[2 * suffixes], stack[2 * suffixes + 1] = high - after, high
                    suffixes += 1
                    high -= after
                    break
        if before == 0 and after == 0:
            break
        if before > 0:
            starts[words], ends[words] = low, low + before
            words += 1
            low += before
        if after > 0:
            stack[2 * suffixes], stack[2 * suffixes + 1] = high - after, high
            suffixes += 1
            high -= after
        if before > 0 and after > 0:
            found = _exception(cp, low, high)
    if low < high:
        if found >= 0:
            packed = _CUTS[found]
            start = low
            while packed != 0:
                cut = low + np.int64(packed & _U(255))
                starts[words], ends[words] = start, cut
                words += 1
                start = cut
                packed >>= _U(8)
            starts[words], ends[words] = start, high
            words += 1
        else:
            simple, dotted = True, False
            for i in range(low, high):
                simple = simple and ((flags[cp[i]] & _PLAIN) == _LETTER or 48 <= cp[i] <= 57)
                dotted = dotted or cp[i] == 46
            if simple or (dotted and is_address(cp, low, high, flags)):
                starts[words], ends[words] = low, high
                words += 1
            else:
                words = _infixes(cp, low, high, flags, starts, ends, words)
    while suffixes > 0:
        suffixes -= 1
        starts[words], ends[words] = stack[2 * suffixes], stack[2 * suffixes + 1]
        words += 1
    return words


@forced_kernel
def _glued(cp, starts, ends, first, words):
    """Put together again what is one token to spaCy although its rules cut it: ``:)``, ``''``, ``z.``."""
    kept = first
    at = first
    while at < words:
        low, _high = starts[at], ends[at]
        last = at
        if at + 1 < words and _OPENINGS[(31 * np.int64(cp[low]) + np.int64(cp[low + 1])) & 4095]:
            value = _FNV_OFFSET
            here = low
            following = at
            while following < words and ends[following] - low <= _LONGEST:
                while here < ends[following]:
                    value = (value ^ _U(cp[here])) * _FNV_PRIME
                    here += 1
                if following > at:
                    slot = np.int64(((value | _U(1)) >> _U(20)) & _U(_MASK))
                    while _KEYS[slot] != 0 and _KEYS[slot] != value | _U(1):
                        slot = (slot + 1) & _MASK
                    if _KEYS[slot] != 0 and _CUTS[slot] == 0:
                        last = following
                following += 1
        starts[kept], ends[kept] = low, ends[last]
        kept += 1
        at = last + 1
    return kept


@forced_kernel
def _prefix(cp, low, high, flags):
    code = cp[low]
    if code == 46:
        at = low
        while at < high and cp[at] == 46:
            at += 1
        return at - low if at - low > 1 else 0
    if code == 43:
        return 0 if low + 1 < high and 48 <= cp[low + 1] <= 57 else 1
    if (flags[code] & _PREFIX) != 0:
        return 1
    dollar = (code == 67 or code == 65) and low + 1 < high and cp[low + 1] == 36
    if dollar:
        return 2
    if code == 85 and low + 2 < high and cp[low + 1] == 83 and cp[low + 2] == 36:
        return 3
    return 0


@forced_kernel
def _suffix(cp, low, high, flags):
    if low >= high:
        return 0
    code = cp[high - 1]
    before = cp[high - 2] if high - 2 >= low else np.uint32(0)
    if code == 46:
        at = high
        while at > low and cp[at - 1] == 46:
            at -= 1
        if high - at > 1:
            return high - at
        if (flags[before] & _BEFORE_STOP) != 0:
            return 1
        third = cp[high - 3] if high - 3 >= low else np.uint32(0)
        if third == 176 and (before | 0x20) in (99, 102, 107):
            return 1
        return 1 if (flags[before] & _CAPITAL) != 0 and (flags[third] & _CAPITAL) != 0 else 0
    longest = 0
    if (flags[code] & _SUFFIX) != 0:
        longest = 1
    if (code == 115 or code == 83) and (before == 39 or before == 0x2019):
        longest = 2
    if code == 0x2026 and before == 0x2026:
        longest = 2
    if 48 <= before <= 57 and (code == 43 or _among(code, _CURRENCY)):
        longest = max(longest, 1)
    # Up to four characters of a unit, the last first, after a digit.
    packed = _U(0)
    at = high
    while at > low and high - at < 4 and cp[at - 1] < 0x10000:
        at -= 1
        packed |= _U(cp[at]) << _U(16 * (high - 1 - at))
        if at > low and 48 <= cp[at - 1] <= 57:
            place = np.searchsorted(_UNITS, packed)
            if place < len(_UNITS) and _UNITS[place] == packed:
                longest = max(longest, high - at)
            if high - at == 3 and cp[at + 1] == 83 and cp[at] == 85 and code == 36:
                longest = 3
            if high - at == 2 and (cp[at] == 67 or cp[at] == 65) and code == 36:
                longest = 2
            break
    return longest


@forced_kernel
def _among(code, codes):
    for i in range(len(codes)):  # noqa: SIM110 - numba has no any()
        if codes[i] == code:
            return True
    return False


@forced_kernel
def _infixes(cp, low, high, flags, starts, ends, words):
    start = low
    at = low
    while at < high:
        code = cp[at]
        if code < 128 and not _INSIDE[code]:
            at += 1
            continue
        length = 0
        flag = flags[code]
        if (flag & _PLAIN) != _LETTER and not (48 <= code <= 57):
            before = cp[at - 1] if at > low else np.uint32(0)
            after = cp[at + 1] if at + 1 < high else np.uint32(0)
            if code == 46:
                stop = at
                while stop < high and cp[stop] == 46:
                    stop += 1
                if stop - at > 1:
                    length = stop - at
                elif (flags[before] & _LOWER) != 0 and (flags[after] & _UPPER) != 0:
                    length = 1
            elif (
                code == 0x2026
                or (flag & _ICON) != 0
                or (
                    (code == 43 or code == 45 or code == 42 or code == 94)
                    and 48 <= before <= 57
                    and (48 <= after <= 57 or after == 45)
                )
                or (code == 44 and (flags[before] & _LETTER) != 0 and (flags[after] & _LETTER) != 0)
            ):
                length = 1
            elif (flags[before] & _LETTER_OR_DIGIT) != 0:
                if (code == 58 or code == 60 or code == 62 or code == 61 or code == 47) and (
                    flags[after] & _LETTER
                ) != 0:
                    length = 1
                elif code == 45 or code == 0x2013 or code == 0x2014 or code == 126:
                    run = at
                    most = 3 if code == 45 else 2 if code == 0x2014 else 1
                    while run < high and cp[run] == code and run - at <= most:
                        run += 1
                    if run - at <= most and run < high and (flags[cp[run]] & _LETTER) != 0:
                        length = run - at
        if length > 0:
            if at != low:
                if at != start:
                    starts[words], ends[words] = start, at
                    words += 1
                starts[words], ends[words] = at, at + length
                words += 1
                start = at + length
            at += length
        else:
            at += 1
    if start < high:
        starts[words], ends[words] = start, high
        words += 1
    return words


@inline_kernel
def _segments(cp, low, high, table, starts, ends):
    words = 0
    at = low
    while at < high:
        entry = table[cp[at]]
        if (entry & _ALNUM) == 0 and cp[at] != 95:
            at += 1
            continue
        begin = at
        counted = (entry & _ALNUM) != 0
        solo = (entry & _SOLO) != 0
        at += 1
        while at < high:
            code = cp[at]
            entry = table[code]
            if (entry & _MARK) != 0 or code == 0x200D:
                at += 1
            elif solo or (entry & _SOLO) != 0:
                break
            elif (entry & _ALNUM) != 0 or code == 95:
                at += 1
            elif at + 1 < high and _joins(code, cp[at - 1], cp[at + 1], table):
                at += 2
            else:
                break
        if counted:
            starts[words], ends[words] = begin, at
            words += 1
    return words


@inline_kernel
def _joins(code, before, after, table):
    """Whether ``code`` stands inside a word: MidLetter between letters, MidNum between digits (WB6-WB12)."""
    first, second = table[before], table[after]
    if (second & _ALNUM) == 0 or (first & _ALNUM) == 0 or (second & _SOLO) != 0:
        return False
    between_digits = (first & _DIGIT) != 0 and (second & _DIGIT) != 0
    between_letters = (first & _DIGIT) == 0 and (second & _DIGIT) == 0
    if code == 39 or code == 46 or code == 0x2018 or code == 0x2019 or code == 0x2024:
        return between_digits or between_letters
    if code == 58 or code == 0xB7 or code == 0x2027:
        return between_letters
    return (code == 44 or code == 59) and between_digits
