"""Spans of personal data and secrets in documents, in one pass over the bytes.

A table of trigger bytes (``@ + ( : = _ - A J`` and digits) says where a detector looks; all other bytes cost
one look-up. A detector reads a bounded stretch around its trigger, so time is linear in the text whatever it
holds. What each one accepts is written at the function; secrets are in :mod:`headwater.kernels.credentials`.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, assignment, call-arg"
# ruff: noqa: SIM102, SIM109 - numba has no any(); one condition a line reads best here
# numba infers the types of the helpers below; annotating them would only repeat its work.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.kernels.credentials import (
    ASSIGNED,
    KINDS_OF_SECRETS,
    SCALED_LOG2,
    assigned_secret,
    aws_key,
    google_key,
    private_key,
    token_before_dash,
    token_before_underscore,
    web_token,
)
from headwater.kernels.flat import Bytes, Offsets, flatten
from headwater.kernels.jit import inline_kernel, kernel
from headwater.kernels.pii_data import CALLING_CODES, IBAN_LENGTHS, TOP_LEVEL_DOMAINS
from headwater.kernels.pii_numbers import bank_account, card, global_ip4, global_ip6, phone_abroad, phone_home

Places = npt.NDArray[np.int64]

KINDS = ("email", "phone", "ip_address", "credit_card", "iban", *KINDS_OF_SECRETS)
EMAIL, PHONE, IP, CARD, IBAN = range(5)
NONE = -1
PASSWORD = ASSIGNED

_SPACE = np.uint8(32)
_LAST_LETTERS = tuple(ord(c) for c in "dtnyDTNY")  # of the names that secrets are assigned to
_AT, _DIGIT, _PAREN, _PLUS, _COLON, _UNDERSCORE, _DASH, _CAPITAL_A, _CAPITAL_J, _EQUALS = range(1, 11)


def _classes() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, dtype=np.uint8)
    for trigger, code in zip("@(+:_-AJ=", (1, 3, 4, 5, 6, 7, 8, 9, 10), strict=True):
        table[ord(trigger)] = code
    table[48:58] = _DIGIT
    return table


def _frozen(array):
    array.flags.writeable = False
    return array


_FNV_OFFSET, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


def _label_hash(label: str) -> int:
    value = int(_FNV_OFFSET)
    for byte in label.encode():
        value = ((value ^ byte) * int(_FNV_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return value


def _iban_table() -> npt.NDArray[np.uint8]:
    table = np.zeros(26 * 26, dtype=np.uint8)
    for country, length in IBAN_LENGTHS.items():
        table[(ord(country[0]) - 65) * 26 + ord(country[1]) - 65] = length
    return table


def _calling_table() -> npt.NDArray[np.uint32]:
    table = np.zeros(1000, dtype=np.uint32)
    for code, lengths in CALLING_CODES.items():
        table[code] = sum(1 << length for length in lengths)
    return table


_CLASSES = _frozen(_classes())
_DOMAINS = _frozen(np.sort(np.array([_label_hash(label) for label in TOP_LEVEL_DOMAINS], dtype=np.uint64)))
_EXAMPLE = np.uint64(_label_hash("example"))
_RESERVED = _frozen(np.sort(np.array([_label_hash(label) for label in ("com", "net", "org")], np.uint64)))
_IBAN_LENGTHS = _frozen(_iban_table())
_CALLING = _frozen(_calling_table())


class Spans(NamedTuple):
    """Spans ordered by row and start, none overlapping another; offsets in bytes of the row's text."""

    row: Places
    kind: npt.NDArray[np.int8]  # place in KINDS
    start: Places
    end: Places  # exclusive


def find_spans(array: pa.Array | pa.ChunkedArray) -> Spans:
    """Every span of a text array without nulls (valid UTF-8, as Arrow strings are)."""
    data, offsets = flatten(array)
    found = _find(data, offsets, _CLASSES, _DOMAINS, _RESERVED, _IBAN_LENGTHS, _CALLING, SCALED_LOG2)
    return settled(found[:, 0], found[:, 1], found[:, 2], found[:, 3])


def settled(row: Places, kind: Places, start: Places, end: Places) -> Spans:
    """Order the spans; of overlapping ones the more certain kind stays (then the longer, then the first).

    An assignment (``password = …``) gives way to the token that it assigns, a phone number to a card.
    """
    order = np.lexsort((-end, start, row))
    row, kind, start, end = row[order], kind[order], start[order], end[order]
    kept = _without_overlaps(row, kind, start, end)
    return Spans(row[kept], kind[kept].astype(np.int8), start[kept], end[kept])


# Lower is more certain: keys with a checked form, cards and accounts with check digits, then the rest.
_RANK = _frozen(
    np.array([3, 6, 5, 2, 1] + [9 if name == "password" else 0 for name in KINDS_OF_SECRETS], dtype=np.int64)
)


@kernel
def _overlaps(row, kind, start, end, rank, keep):
    last = -1
    for i in range(len(row)):
        keep[i] = True
        if last >= 0 and row[last] == row[i] and start[i] < end[last]:
            if rank[kind[i]] < rank[kind[last]]:
                keep[last] = False
                last = i
            else:
                keep[i] = False
        else:
            last = i


def _without_overlaps(row: Places, kind: Places, start: Places, end: Places) -> npt.NDArray[np.bool_]:
    keep = np.zeros(len(row), dtype=np.bool_)
    if len(row):
        contiguous = [np.ascontiguousarray(part) for part in (row, kind, start, end)]
        _overlaps(*contiguous, _RANK, keep)
    return keep


@inline_kernel
def is_alnum(byte):
    return 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


@inline_kernel
def _is_hex(byte):
    return 48 <= byte <= 57 or 65 <= byte <= 70 or 97 <= byte <= 102


@inline_kernel
def _is_local(byte):
    # RFC 5322 atoms without the characters that code and prose put next to an address.
    return is_alnum(byte) or byte == 46 or byte == 95 or byte == 37 or byte == 43 or byte == 45 or byte == 39


@inline_kernel
def _lower(byte):
    return byte + 32 if 65 <= byte <= 90 else byte


@inline_kernel
def _label(data, start, end):
    value = _FNV_OFFSET
    for i in range(start, end):
        value = (value ^ np.uint64(_lower(data[i]))) * _FNV_PRIME
    return value


@inline_kernel
def _among(value, ordered):
    place = np.searchsorted(ordered, value)
    return place < len(ordered) and ordered[place] == value


@inline_kernel
def _email(data, at, start, end, domains, reserved):
    """``local@label.….tld`` with a top-level domain of IANA's list.

    Not taken: user names in URLs (``//user:word@host``), ``git@`` and ``hg@`` of repository addresses,
    calls (``a@b.to(…)``), and the names that RFC 2606 reserves for examples.
    """
    first = at
    while first > start and at - first < 65 and _is_local(data[first - 1]):
        first -= 1
    if at - first > 64:
        return NONE, 0, 0
    while first < at and (data[first] == 46 or data[first] == 39 or data[first] == 45 or data[first] == 37):
        first += 1
    if first == at or data[at - 1] == 46:
        return NONE, 0, 0
    if first > start and data[first - 1] == 47:
        return NONE, 0, 0
    if first > start and data[first - 1] == 58:
        i = first - 1
        while i > start and first - i < 64 and data[i - 1] > 32 and data[i - 1] != 47:
            i -= 1
        if i - 1 > start and data[i - 1] == 47 and data[i - 2] == 47:
            return NONE, 0, 0
    size = at - first
    if (size == 3 and data[first] == 103 and data[first + 1] == 105 and data[first + 2] == 116) or (
        size == 2 and data[first] == 104 and data[first + 1] == 103
    ):
        return NONE, 0, 0
    place = at + 1
    label = before = place
    dots = 0
    while place < end and place - at <= 255:
        byte = data[place]
        if is_alnum(byte) or (byte == 45 and place > label):
            place += 1
        elif (
            byte == 46
            and place > label
            and data[place - 1] != 45
            and place + 1 < end
            and is_alnum(data[place + 1])
        ):
            dots += 1
            place += 1
            before = label
            label = place
        else:
            break
    while place > label and data[place - 1] == 45:
        place -= 1
    if dots == 0 or place - label < 2:
        return NONE, 0, 0
    if place < end and (data[place] == 40 or data[place] == 64 or data[place] == 95):
        return NONE, 0, 0
    top = _label(data, label, place)
    if not _among(top, domains):
        return NONE, 0, 0
    if _among(top, reserved) and _label(data, before, label - 1) == _EXAMPLE:
        return NONE, 0, 0
    return EMAIL, first, place


@inline_kernel
def _next_trigger(data, i, end, classes):
    while i < end and classes[data[i]] == 0:
        i += 1
    return i


@kernel
def _find(
    data: Bytes,
    offsets: Offsets,
    classes: npt.NDArray[np.uint8],
    domains: npt.NDArray[np.uint64],
    reserved: npt.NDArray[np.uint64],
    iban_lengths: npt.NDArray[np.uint8],
    calling: npt.NDArray[np.uint32],
    scaled_log2: npt.NDArray[np.float64],
) -> Places:
    out = np.empty((1024, 4), dtype=np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        i = start
        while True:
            # A loop of its own: within the large one the compiler spends 15 ns a byte on it, here one.
            i = _next_trigger(data, i, end, classes)
            if i == end:
                break
            trigger = classes[data[i]]
            kind, first, after = NONE, np.int64(0), np.int64(0)
            step = i + 1
            before = data[i - 1] if i > start else _SPACE
            behind = data[i + 1] if i + 1 < end else _SPACE
            # The cheapest necessary condition of each detector stands here: most triggers end at it.
            if trigger == _DIGIT:
                run = i + 1
                while run < end and 48 <= data[run] <= 57:
                    run += 1
                step = run
                if run - i > 2 or 65 <= before <= 90 or (run < end and data[run] in (45, 46, 32)):
                    kind, first, after = _number(data, i, run, start, end, iban_lengths)
            elif trigger == _EQUALS or trigger == _COLON:
                if (
                    trigger == _COLON
                    and (_is_hex(before) or before == 58)
                    and (_is_hex(behind) or behind == 58)
                ):
                    first, after = global_ip6(data, i, start, end)
                    if after > 0:
                        kind = IP
                if kind == NONE and (before == 32 or before == 34 or before == 39 or before in _LAST_LETTERS):
                    kind, first, after = assigned_secret(data, i, start, end, scaled_log2)
            elif trigger == _PAREN:
                if 48 <= behind <= 57:
                    first, after = phone_home(data, i, start, end)
                    kind = PHONE if after > 0 else NONE
            elif trigger == _UNDERSCORE:
                if before == 107 or before == 98 or (i - 3 >= start and data[i - 2] == 104):
                    kind, first, after = token_before_underscore(data, i, start, end)
            elif trigger == _DASH:
                if behind == 45:
                    if i + 5 < end and data[i + 5] == 66 and before != 45:
                        kind, first, after = private_key(data, i, start, end)
                elif i - 4 >= start and (data[i - 4] == 108 or data[i - 4] == 120):
                    kind, first, after = token_before_dash(data, i, start, end)
            elif trigger == _CAPITAL_A:
                if i + 3 < end and data[i + 3] == 65:
                    kind, first, after = aws_key(data, i, start, end)
                elif behind == 73:
                    kind, first, after = google_key(data, i, start, end)
            elif trigger == _CAPITAL_J:
                if before == 121:
                    kind, first, after = web_token(data, i, start, end)
            elif trigger == _AT:
                kind, first, after = _email(data, i, start, end, domains, reserved)
            elif 48 <= behind <= 57:
                first, after = phone_abroad(data, i, start, end, calling)
                kind = PHONE if after > 0 else NONE
            if kind == NONE:
                i = step
                continue
            if count == len(out):
                larger = np.empty((2 * count, 4), dtype=np.int64)
                larger[:count] = out
                out = larger
            out[count, 0], out[count, 1] = row, kind
            out[count, 2], out[count, 3] = first - start, after - start
            count += 1
            # What an assignment assigns may be a token of a known form: look into it.
            i = step if kind == PASSWORD else max(step, after)
    return out[:count].copy()


@inline_kernel
def _number(data, i, run, start, end, iban_lengths):
    """What the digits ``data[i:run]`` begin: an account, an address, a card, a phone number, or nothing."""
    if i - 2 >= start and 65 <= data[i - 1] <= 90 and 65 <= data[i - 2] <= 90:
        if i - 2 == start or not is_alnum(data[i - 3]):
            after = bank_account(data, i - 2, end, iban_lengths)
            if after > 0:
                return IBAN, i - 2, after
        return NONE, 0, 0
    if i > start:
        before = data[i - 1]
        if is_alnum(before) or before == 95 or before >= 0x80:
            return NONE, 0, 0
        if (before == 46 or before == 45 or before == 44 or before == 47) and i - 2 >= start:
            if is_alnum(data[i - 2]):
                return NONE, 0, 0
    size = run - i
    if run < end and data[run] == 46 and size <= 3:
        after = global_ip4(data, i, start, end)
        if after > 0:
            return IP, i, after
    if 13 <= size <= 19 or size == 4:
        after = card(data, i, run, start, end)
        if after > 0:
            return CARD, i, after
    if size == 3 or (size == 1 and data[i] == 49):
        first, after = phone_home(data, i, start, end)
        if after > 0:
            return PHONE, first, after
    return NONE, 0, 0
