"""Hostile texts through the detectors of personal data: bounds, order, redaction, layout, time."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.operators import operator
from headwater.pii.dolma import _emails

PIECES = st.sampled_from(
    ["jane@firm.info", "(212) 736-5000", "212-736-5000", "+49 30 1234567", "93.184.216.34", "2606:4700:4700::1111",
     "4111 1111 1111 1111", "4111111111111111", "DE89370400440532013000", "AKIAQWERTYUIOP234567", "ghp_" + "aB3" * 12,
     'password = "', "Xk29dLq0Zm4tRw8v", '"', "eyJhbGciOiJIUzI1NiJ9.", "-----BEGIN PRIVATE KEY-----", "-----END ", "xoxb-",
     "sk_live_", "@", ".", ":", "::", "+", "(", "-", "_", "=", " ", "\n", "\0", "\u202e", "😀", "é", "漢", "0", "1", "A", "J", "e"]
)  # fmt: skip
TEXT = st.lists(PIECES | st.text(max_size=8), max_size=30).map("".join)


def spans_of(texts: list[str], **parameters: str) -> list[list[dict[str, object]]]:
    return operator("pii_spans")(pa.array(texts, pa.large_string()), **parameters).to_pylist()


@given(texts=st.lists(TEXT, min_size=1, max_size=6), detectors=st.sampled_from(["headwater", "dolma"]))
@settings(max_examples=200, deadline=None)
def test_spans_are_ordered_disjoint_and_whole_characters(texts: list[str], detectors: str) -> None:
    found = spans_of(texts, detectors=detectors)
    for text, spans in zip(texts, found, strict=True):
        data, last = text.encode(), 0
        for span in spans:
            assert last <= span["start"] < span["end"] <= len(data)
            assert data[span["start"] : span["end"]].decode()  # no character is cut
            last = span["end"]
    # A text's spans do not depend on its neighbors.
    assert [spans_of([text], detectors=detectors)[0] for text in texts] == found


@given(
    text=TEXT,
    detectors=st.sampled_from(["headwater", "dolma"]),
    placeholders=st.sampled_from(["dolma", "angle"]),
)
@settings(max_examples=200, deadline=None)
def test_redaction_leaves_nothing_to_find(text: str, detectors: str, placeholders: str) -> None:
    op = operator("redact_pii")
    once = op(pa.array([text]), detectors=detectors, placeholders=placeholders)
    assert operator("pii_counts")(once, detectors=detectors)[0].as_py()["num_pii_spans"] == 0
    assert spans_of(once.to_pylist(), detectors=detectors) == [[]]
    assert op(once, detectors=detectors, placeholders=placeholders).equals(once)
    if not spans_of([text], detectors=detectors)[0]:
        assert once.to_pylist() == [text]


@given(text=TEXT)
@settings(max_examples=100, deadline=None)
def test_national_numbers_never_fail(text: str) -> None:
    pytest.importorskip("phonenumbers")
    assert spans_of([text], region="DE") is not None


DOLMA_EMAIL = re.compile("[.\\s@,?!;:)(]*([^\\s@]+@[^\\s@,?!;:)(]+?)[.\\s@,?!;:)(]?[\\s\n\r]")


@given(line=st.text(alphabet="ab(@.,: \t\u00a0é", max_size=40))
@example(line=":@. :@a ")
@settings(max_examples=1_000, deadline=None)
def test_dolma_addresses_are_those_of_its_expression(line: str) -> None:
    expected = [
        match.span()
        for match in DOLMA_EMAIL.finditer(line)
        if match.group(1).split("@", 1)[0].strip() != "(" and "." in match.group(1).split("@", 1)[1]
    ]
    assert list(_emails(line)) == expected


HOSTILE = {
    "digits": "1" * 3_000_000,
    "at signs": "@" * 1_000_000,
    "addresses": "a@b.co " * 200_000,
    "an endless address": "a." * 1_000_000 + "@" + "b." * 1_000_000 + "com",
    "plus": "+1 " * 1_000_000,
    "parentheses": "(212) " * 500_000,
    "colons": "2001:" * 600_000,
    "key heads": "-----BEGIN PRIVATE KEY-----" * 40_000,
    "token heads": "eyJ" * 1_000_000,
    "dotted tokens": "eyJaaaaaaaa." * 100_000,
    "assignments": 'password="' * 200_000,
    "white space": " \t" * 1_500_000 + "212 736 5000",
    "short lines": "a@b\n" * 100_000,
    "one line": "x" * 5_000_000 + "@",
    "one word and an address": "x" * 1_000_000 + " bob@firm.info " + "y" * 1_000_000,
    "emoji": "👩‍👩‍👧‍👦" * 100_000,
    "nothing": "",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("detectors", ["headwater", "dolma"])
def test_hostile_documents_end(name: str, detectors: str) -> None:
    text = pa.array([HOSTILE[name]], pa.large_string())
    counts = operator("pii_counts")(text, detectors=detectors)[0].as_py()
    assert counts["num_pii_spans"] >= 0
    if name == "addresses":
        assert counts["email"] == 200_000
