"""Dolma's own three regular expressions, for comparison and for recipes that name them.

The spans are those of ``pii_regex_with_counts_fast_v2`` in dolma 1.2.1 (dolma/taggers/pii.py), paragraph by
paragraph, whitespace and punctuation around an address included, where that tagger looks at a document at
all (it passes over those with more than 10,000 question marks). Its test for URLs begins with a backspace
character (``\\b`` in a plain string) and so never holds; it is left out. Two changes bound the time, which
is quadratic there and leaves the matches as they are: a run of white space is entered at its beginning only,
and addresses are matched outwards from each ``@``.

Python's ``re`` runs over documents that Arrow's linear-time expressions let through, and over no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.kernels.pii import EMAIL, IP, PHONE, Spans, settled

# Addresses, as _emails finds them: [.\s@,?!;:)(]*([^\s@]+@[^\s@,?!;:)(]+?)[.\s@,?!;:)(]?[\s\n\r]
_MARKS = frozenset(".@,?!;:)(")  # and white space
_PHONE = re.compile("(?<!\\s)\\s+\\(?(\\d{3})\\)?[-\\. ]*(\\d{3})[-. ]?(\\d{4})")
_IP = re.compile("(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)\\.){3}(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)")
# Supersets of what can match: \s and \d of Python's str are Unicode's.
_CANDIDATE = r"@|\p{Nd}{3}[)]?[-. ]*\p{Nd}{3}[-. ]?\p{Nd}{4}|[0-9]\.[0-9]+\.[0-9]"
_PARAGRAPH = re.compile(r"[^\n]*\n|[^\n]+$")
MAX_QUESTION_MARKS = 10_000


def dolma_spans(text: pa.Array) -> Spans:
    """Spans of a text array without nulls, in bytes."""
    rows, kinds, starts, ends = [], [], [], []
    for row in np.flatnonzero(pc.match_substring_regex(text, _CANDIDATE).to_numpy(zero_copy_only=False)):
        document = text[int(row)].as_py()
        for kind, start, end in sorted(set(_document(document)), key=lambda span: span[1:]):
            rows.append(int(row))
            kinds.append(kind)
            starts.append(start)
            ends.append(end)
    columns = (np.array(values, dtype=np.int64) for values in (rows, kinds, starts, ends))
    return settled(*columns)


def _document(text: str) -> Iterator[tuple[int, int, int]]:
    if text.count("?") > MAX_QUESTION_MARKS:
        return
    at = 0  # in bytes
    for paragraph in _PARAGRAPH.finditer(text):
        line = paragraph.group()
        ascii_only = line.isascii()
        for kind, start, end in _line(line):
            if ascii_only:
                yield kind, at + start, at + end
            else:
                first = at + len(line[:start].encode())
                yield kind, first, first + len(line[start:end].encode())
        at += len(line) if ascii_only else len(line.encode())


def _line(line: str) -> Iterator[tuple[int, int, int]]:
    for start, end in _emails(line):
        yield EMAIL, start, end
    for match in _PHONE.finditer(line):
        yield PHONE, match.start(), match.end()
    for match in _IP.finditer(line):
        yield IP, match.start(), match.end()


def _is_mark(char: str) -> bool:
    return char in _MARKS or char.isspace()


def _emails(line: str) -> Iterator[tuple[int, int]]:
    """Start and end of each match whose addressee is not ``(`` and whose domain has a dot."""
    after = marks_until = 0
    at = line.find("@")
    while at >= 0:
        found = _address(line, at, after)
        if found is not None and all(map(_is_mark, line[found[1] : found[2]].replace("@", "."))):
            # Nothing but marks: the expression's prefix would rather eat them, and match what follows.
            place = max(found[0], marks_until)
            while place < len(line) and _is_mark(line[place]):
                place += 1
            marks_until = place
            later = line.find("@", place)
            if later < 0:
                later = line.rfind("@", at + 1, place)
            while later > at:  # the last one that is an address: the prefix takes all it can
                other = _address(line, later, after)
                if other is not None and other[0] == found[0]:
                    found, at = other, later
                    break
                later = line.rfind("@", at + 1, min(later, place))
        if found is not None:
            start, first, last, after = found
            addressee, domain = line[first:last].split("@", 1)
            if addressee.strip() != "(" and "." in domain:
                yield start, after
            at = line.find("@", max(after, at + 1))
        else:
            at = line.find("@", at + 1)


def _address(line: str, at: int, after: int) -> tuple[int, int, int, int] | None:
    """The match around ``line[at]`` from ``after`` on: its start, its group's start and end, its end."""
    if at == after or line[at - 1] == "@" or line[at - 1].isspace():
        return None
    last = at + 1
    while True:
        if last == len(line) or line[last] in "@,?!;:)(" or line[last].isspace():
            if last == at + 1 or last == len(line):
                return None
        elif last == at + 1 or line[last] != ".":
            last += 1
            continue
        # a mark or white space, behind at least one character of the domain
        if last + 1 < len(line) and line[last + 1].isspace():
            end = last + 2
        elif line[last].isspace():
            end = last + 1
        elif line[last] == ".":
            last += 1
            continue
        else:
            return None
        break
    run = at
    while run > after and line[run - 1] != "@" and not line[run - 1].isspace():
        run -= 1
    first = run
    while first < at - 1 and _is_mark(line[first]):
        first += 1
    start = run
    while start > after and _is_mark(line[start - 1]):
        start -= 1
    return start, first, last, end
