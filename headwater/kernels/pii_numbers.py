"""Numbers that name a person or a machine: addresses, cards, accounts, telephones.

Each function reads at most some sixty bytes after its trigger and returns the end of what it accepts, or 0.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, assignment, call-arg"
# ruff: noqa: SIM102 - numba has no any(); one condition a line reads best here
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headwater.kernels.jit import inline_kernel


@inline_kernel
def _digit(byte):
    return 48 <= byte <= 57


@inline_kernel
def _word(byte):
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122 or byte == 95


@inline_kernel
def _open_end(data, at, end):
    """Whether a number may end before ``at``: no letter or digit follows, nor a mark with a digit behind."""
    if at >= end:
        return True
    if _word(data[at]):
        return False
    if (data[at] == 46 or data[at] == 45 or data[at] == 44) and at + 1 < end:
        return not _digit(data[at + 1])
    return True


def _packed(*words: str) -> npt.NDArray[np.uint32]:
    array = np.array([int.from_bytes(word.encode(), "big") for word in words], dtype=np.uint32)
    array.flags.writeable = False
    return array


# Three letters are enough to know the word by: release, section, update, phone, call, mobile.
_VERSIONS = _packed("ver", "lea", "rev", "sec", "pda", "pgr")
_CARDS = _packed("car", "pay", "isa")
_PHONES = _packed("tel", "one", "all", "fax", "bil")


@inline_kernel
def _said_before(data, at, start, words):
    """Whether one of ``words`` (three letters each) stands in the 24 bytes before ``at`` on the same line."""
    said = False
    last = np.uint32(0)
    for i in range(max(start, at - 24), at):
        if data[i] == 10:
            said = False
        last = ((last << np.uint32(8)) | np.uint32(data[i] | 32)) & np.uint32(0xFFFFFF)
        for word in words:
            if word == last:
                said = True
    return said


@inline_kernel
def global_ip4(data, at, start, end):
    """Four octets without leading zeros, globally reachable by IANA's special-purpose registry.

    Version numbers are not addresses: four single digits, a comparison sign or one of the words version,
    release, revision, section, update before it, a fifth part behind it. Nor are numbers of headings, and the
    X.500 attribute OIDs 2.5.4.x and 2.5.29.x.
    """
    a = b = c = d = 0
    place = at
    longest = 0
    for part in range(4):
        value = 0
        size = 0
        while place < end and size < 4 and _digit(data[place]):
            value = value * 10 + (data[place] - 48)
            place += 1
            size += 1
        if size == 0 or size > 3 or value > 255 or (size > 1 and data[place - size] == 48):
            return 0
        longest = max(longest, size)
        if part == 0:
            a = value
        elif part == 1:
            b = value
        elif part == 2:
            c = value
        else:
            d = value
        if part < 3:
            if place >= end or data[place] != 46:
                return 0
            place += 1
    if not _open_end(data, place, end) or longest == 1:
        return 0
    if place + 1 < end and data[place] == 46 and 97 <= data[place + 1] <= 122:  # 11.2.0.4.v3
        return 0
    if a == 0 or a == 10 or a == 127 or a >= 224:
        return 0
    if (a == 100 and 64 <= b < 128) or (a == 169 and b == 254) or (a == 172 and 16 <= b < 32):
        return 0
    if a == 192 and (b == 168 or (b == 0 and (c == 0 or c == 2)) or (b == 88 and c == 99)):
        return 0
    if a == 198 and (b == 18 or b == 19 or (b == 51 and c == 100)):
        return 0
    if (a == 203 and b == 0 and c == 113) or (a == 2 and b == 5 and (c == 4 or c == 29)):
        return 0
    if d == 0 and c == 0 and b == 0:  # a network, or a version
        return 0
    i = at - 1
    while i >= start and at - i < 4 and (data[i] == 32 or data[i] == 34 or data[i] == 39):
        i -= 1
    if i - 1 >= start and data[i] == 61 and data[i - 1] in (60, 61, 62, 33, 126):
        return 0
    if i >= start and (data[i] == 60 or data[i] == 62) and i < at - 1:
        return 0
    if _said_before(data, at, start, _VERSIONS):
        return 0
    if place < end and data[place] == 46:  # "14.5.3.2. Managing …" at the beginning of a line or an element
        i = at - 1
        while i >= start and at - i < 16 and data[i] == 32:
            i -= 1
        if i < start or data[i] == 10 or data[i] == 62:
            return 0
    return place


@inline_kernel
def _hex(byte):
    if 48 <= byte <= 57:
        return byte - 48
    low = byte | 32
    if 97 <= low <= 102:
        return low - 87
    return 255


@inline_kernel
def global_ip6(data, colon, start, end):
    """A global unicast address (2000::/3) around its first colon, spelled with a first group of four digits.

    Not taken: documentation (2001:db8::/32, 3fff::/20), IETF protocol assignments (2001::/23), 6to4
    (2002::/16), and ``::`` with fewer than three groups (``x[2000::2]``). ``(first, end)``, or ``(0, 0)``.
    """
    first = colon - 4
    if first < start or data[first] < 50 or data[first] > 51:
        return 0, 0
    if first > start and (_word(data[first - 1]) or data[first - 1] == 58 or data[first - 1] == 46):
        return 0, 0
    groups = 0
    value = 0
    size = 0
    shortened = False
    lead = second = 0
    place = first
    while place < end and place - first < 46:
        nibble = _hex(data[place])
        if nibble < 16:
            value = value * 16 + nibble
            size += 1
            if size > 4:
                return 0, 0
            place += 1
            continue
        if data[place] != 58:
            break
        if size > 0:
            if groups == 0:
                lead = value
            elif groups == 1:
                second = value
            groups += 1
        elif place > first and data[place - 1] == 58:
            if shortened:
                return 0, 0
            shortened = True
        value = size = 0
        place += 1
    if size > 0:
        if groups == 1:
            second = value
        groups += 1
    elif data[place - 1] == 58:
        if place - 2 < first or data[place - 2] != 58:
            place -= 1  # a colon of the sentence
    if place < end and (_word(data[place]) or (data[place] == 58 and size > 0)):
        return 0, 0
    if groups > 8 or (not shortened and groups != 8) or (shortened and (groups < 3 or groups > 7)):
        return 0, 0
    if lead < 0x2000 or lead > 0x3FFF or lead == 0x2002 or lead == 0x3FFF:
        return 0, 0
    if lead == 0x2001 and (second == 0xDB8 or second < 0x200):
        return 0, 0
    return first, place


@inline_kernel
def _issued(prefix, size):
    """Whether a network issues cards of ``size`` digits that begin with the four digits of ``prefix``.

    ISO/IEC 7812 ranges as the networks publish them: Visa, Mastercard, American Express, Discover, Diners
    Club, JCB, UnionPay. The 13 and 19 digits that Visa, Discover and JCB may have are left out: in files they
    are time stamps and 64-bit integers.
    """
    two, three = prefix // 100, prefix // 10
    if two == 34 or two == 37:
        return size == 15
    if two == 62:
        return 16 <= size <= 19
    if prefix // 1000 == 4 or 51 <= two <= 55 or 2221 <= prefix <= 2720:
        return size == 16
    if prefix == 6011 or 644 <= three <= 649 or two == 65 or 3528 <= prefix <= 3589:
        return size == 16
    if 300 <= three <= 305 or two == 36 or two == 38 or two == 39:
        return size == 14 or size == 16
    return False


@inline_kernel
def _is_literal(data, at, start):
    """Whether code, not a person, wrote the integer at ``at``: behind an operator, ``[``, ``, ``, ``f(``."""
    i = at - 1
    while i >= start and at - i < 8 and data[i] == 32:
        i -= 1
    if i < start:
        return False
    before = data[i]
    if before == 44:
        return i < at - 1
    if before == 40:
        return i > start and (_word(data[i - 1]) or data[i - 1] == 40)
    return before in (43, 45, 42, 47, 61, 37, 91, 123, 94, 38, 124)


@inline_kernel
def card(data, at, run, start, end):
    """14 to 19 digits of an issuer's range with a right Luhn digit, not all alike.

    In groups 4-4-4-4(-3), 4-6-5 or 4-6-4 with one kind of separator (space or hyphen); or in one piece, where
    an integer of a program (a seed, a coefficient) does not count unless card, pay or visa stands before it.
    """
    groups = 1
    place = run
    size = run - at
    second = 0
    if size == 4:
        if run >= end or (data[run] != 32 and data[run] != 45):
            return 0
        mark = data[run]
        while groups < 5 and place + 1 < end and data[place] == mark and _digit(data[place + 1]):
            length = 0
            ahead = place + 1
            while ahead < end and _digit(data[ahead]) and length < 7:
                ahead += 1
                length += 1
            if groups == 1:
                second = length
            if second == 4:
                fits = length == 4 if groups < 4 else length == 3
            else:
                fits = second == 6 and (groups == 1 or (groups == 2 and (length == 4 or length == 5)))
            if not fits:
                break
            place = ahead
            groups += 1
            size += length
        if (second == 4 and groups < 4) or (second == 6 and groups != 3) or (second != 4 and second != 6):
            return 0
    if not _open_end(data, place, end):
        return 0
    prefix = 0
    total = 0
    seen = 0
    alike = True
    for i in range(at, place):
        if not _digit(data[i]):
            continue
        value = np.int64(data[i]) - 48
        if value != np.int64(data[at]) - 48:
            alike = False
        if seen < 4:
            prefix = prefix * 10 + value
        if (size - seen) % 2 == 0:
            value *= 2
            if value > 9:
                value -= 9
        total += value
        seen += 1
    if alike or total % 10 != 0 or not _issued(prefix, size):
        return 0
    if groups == 1 and _is_literal(data, at, start):
        return place if _said_before(data, at, start, _CARDS) else 0
    return place


@inline_kernel
def bank_account(data, at, end, lengths):
    """An IBAN: the length of its country, groups of four or in one piece, remainder 1 modulo 97."""
    length = np.int64(lengths[(np.int64(data[at]) - 65) * 26 + np.int64(data[at + 1]) - 65])
    if length == 0:
        return 0
    remainder = 0
    place = at + 2
    taken = 2
    check = 0
    while taken < length:
        if place >= end:
            return 0
        byte = np.int64(data[place])
        if byte == 32 and taken % 4 == 0 and place > at + 3:
            place += 1
            if place >= end:
                return 0
            byte = np.int64(data[place])
        if 48 <= byte <= 57:
            value = byte - 48
        elif 65 <= byte <= 90:
            value = byte - 55
        else:
            return 0
        if taken < 4:
            if value > 9:
                return 0
            check = check * 10 + value
        else:
            remainder = (remainder * (10 if value < 10 else 100) + value) % 97
        place += 1
        taken += 1
    if place < end and _word(data[place]):
        return 0
    for i in range(2):
        remainder = (remainder * 100 + np.int64(data[at + i]) - 55) % 97
    remainder = (remainder * 100 + check) % 97
    return place if remainder == 1 else 0


@inline_kernel
def _assignable(area, exchange, line):
    """North American numbering plan: area [2-9][0-8]x, exchange [2-9]xx, neither N11; 555-01xx is fiction."""
    if area < 200 or exchange < 200 or area % 100 == 11 or exchange % 100 == 11:
        return False
    return area // 10 % 10 != 9 and not (exchange == 555 and line // 100 == 1)


@inline_kernel
def _digits(data, at, end, count):
    """The value of exactly ``count`` digits at ``at``, or -1."""
    if at + count > end:
        return -1
    value = 0
    for i in range(at, at + count):
        if not _digit(data[i]):
            return -1
        value = value * 10 + (np.int64(data[i]) - 48)
    return value


@inline_kernel
def phone_home(data, at, start, end):
    """``(212) 736-5000``, ``212-736-5000``, ``212.736.5000``, ``1-212-…``; with spaces after tel, phone, ….

    ``(first, end)``, or ``(0, 0)``.
    """
    place = at
    parenthesis = data[at] == 40
    spaced = False
    mark = np.uint8(0)
    if parenthesis:
        if at > start and _word(data[at - 1]):  # a call
            return 0, 0
        area = _digits(data, at + 1, end, 3)
        if area < 0 or at + 4 >= end or data[at + 4] != 41:
            return 0, 0
        place = at + 5
        if place < end and (data[place] == 32 or data[place] == 45 or data[place] == 46):
            place += 1
    else:
        if data[at] == 49 and at + 1 < end and data[at + 1] in (45, 46, 32):
            place = at + 2
            mark = data[at + 1]
        area = _digits(data, place, end, 3)
        place += 3
        if area < 0 or place >= end or data[place] not in (45, 46, 32):
            return 0, 0
        if mark != 0 and data[place] != mark:
            return 0, 0
        mark = data[place]
        spaced = mark == 32
        place += 1
    exchange = _digits(data, place, end, 3)
    place += 3
    if exchange < 0 or place >= end or data[place] not in (45, 46, 32):
        return 0, 0
    if not parenthesis and data[place] != mark:
        return 0, 0
    line = _digits(data, place + 1, end, 4)
    place += 5
    if line < 0 or not _open_end(data, place, end) or not _assignable(area, exchange, line):
        return 0, 0
    if spaced and not _said_before(data, at, start, _PHONES):
        return 0, 0
    return at, place


@inline_kernel
def _calling_code(digits, count, calling):
    """Length of the calling code that the first of ``digits`` (up to three) spell, or 0."""
    value = 0
    for i in range(min(3, count)):
        value = value * 10 + digits[i]
        if calling[value] != 0:
            return i + 1
    return 0


@inline_kernel
def phone_abroad(data, plus, start, end, calling):
    """``+49 30 1234567``: a calling code, then as many digits as its numbering plan has, 8 to 15 in all.

    Digits may be grouped by single spaces, hyphens, dots, slashes and one pair of parentheses; a trunk
    ``(0)`` does not count. The longest valid number that ends with a group is taken; one in a single piece
    must have ten digits or more. ``(first, end)``, or ``(0, 0)``.
    """
    if plus > start and (_word(data[plus - 1]) or data[plus - 1] == 43 or data[plus - 1] == 41):
        return 0, 0
    if plus + 1 >= end or data[plus + 1] < 49 or data[plus + 1] > 57:
        return 0, 0
    digits = np.zeros(16, dtype=np.int64)
    count = 0
    place = plus + 1
    groups = 0
    dots = 0
    best = 0
    opened = False
    while place < end and count <= 15 and place - plus < 40:
        before = count
        while place < end and _digit(data[place]) and count < 16:
            digits[count] = np.int64(data[place]) - 48
            count += 1
            place += 1
        if count > 15 or count == before:
            break
        groups += 1
        if place < end and _word(data[place]):
            break
        if dots == 1 and groups == 2:  # a decimal number
            break
        if not opened and count >= 8 and (groups > 1 or count >= 10):
            code = _calling_code(digits, count, calling)
            if code > 0:
                value = 0
                for i in range(code):
                    value = value * 10 + digits[i]
                national = count - code
                fits = (calling[value] >> np.uint32(national)) & np.uint32(1) != 0
                if fits and value == 1:
                    fits = count == 11 and _assignable(
                        digits[1] * 100 + digits[2] * 10 + digits[3],
                        digits[4] * 100 + digits[5] * 10 + digits[6],
                        digits[7] * 1000 + digits[8] * 100 + digits[9] * 10 + digits[10],
                    )
                if fits:
                    best = place
        # to the next group
        if opened and place < end and data[place] == 41:
            opened = False
            place += 1
        if place < end and data[place] in (32, 45, 46, 47):
            dots += data[place] == 46
            place += 1
        if place < end and data[place] == 40 and not opened:
            if place + 2 < end and data[place + 1] == 48 and data[place + 2] == 41:
                place += 3
                if place < end and data[place] in (32, 45):
                    place += 1
            else:
                opened = True
                place += 1
    if best == 0:
        return 0, 0
    return plus, best
