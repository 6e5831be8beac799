"""Finding a text in what was packed: any string, exactly, and what saw the documents."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_lake import LENGTH, doc, log_attempt, make, steps, write_order

from headwater.errors import UsageError
from headwater.lake import Lake
from headwater.trace import trace_text
from headwater.trace.text import CONTEXT_CHARACTERS, MAX_QUERY_SHOWN, contains, excerpt

TEXTS = {
    "a": "A plain text. [x]+(.*) $1 \\d a\x00b 100% 'quoted' \"too\"; drop table documents; --",
    "b": "naïve café, 日本語のテキスト, 👩‍👩‍👧, e\u0301 is not \u00e9",
    "c": "x" * 40_000 + "needle" + "y" * 40_000,
    "w1": "dropped text: needle",
    "w2": "",
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """All five documents have a text; ``w1`` was never packed, ``b`` is not trained on."""
    lake = make(tmp_path_factory.mktemp("text") / "lake", list(TEXTS), TEXTS)
    order = write_order(lake, [[(n, 0, LENGTH, 0, 0)] for n in ["a", "c", "w2", "b"]])
    log_attempt(lake, order, 1, 0, steps(1, 3), (1, 3))
    return lake


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("needle", ["c"]),
        ("[x]+(.*) $1 \\d", ["a"]),
        ("a\x00b", ["a"]),
        ("'quoted' \"too\"; drop table", ["a"]),
        ("100%", ["a"]),
        ("日本語のテキスト", ["b"]),
        ("👩‍👩‍👧", ["b"]),
        ("e\u0301", ["b"]),
        ("x" * 40_000 + "needle", ["c"]),
        ("x" * 40_001, []),
        ("PLAIN", []),
        ("nai\u0308ve", []),
    ],
    ids=range(12),
)
def test_any_text_is_taken_as_it_is(lake: Lake, text: str, names: list[str]) -> None:
    found = trace_text(lake, text)
    assert [hit.doc_id for hit in found.hits] == [doc(n).hex() for n in names]
    assert found.packed == len(names) == found.trace.asked
    assert all(len(hit.excerpt) <= MAX_QUERY_SHOWN + 2 * CONTEXT_CHARACTERS + 8 for hit in found.hits)
    json.dumps(found.to_json())


def test_what_saw_it_and_what_was_not_packed(lake: Lake) -> None:
    found = trace_text(lake, "needle")
    assert (found.matches, found.packed) == (2, 1)
    (run,) = found.trace.runs
    assert run.steps == (2,) and run.last_clean_checkpoint == (1, "r/step-00000001")
    (hit,) = found.hits
    assert (hit.path, hit.occurrences) == ("c.txt", 1) and hit.excerpt.startswith("…xxx")
    assert found.bytes_scanned == sum(len(t.encode()) for t in TEXTS.values())
    assert trace_text(lake, "日本").trace.runs[0].steps == ()


def test_seen_documents_are_listed_first_and_a_set_narrows(lake: Lake) -> None:
    found = trace_text(lake, "x")
    assert [hit.path for hit in found.hits] == ["a.txt", "c.txt"]
    only = trace_text(lake, "x", only=pa.array([doc("c")], pa.binary(16)))
    assert [hit.path for hit in only.hits] == ["c.txt"] and only.ids.to_pylist() == [doc("c")]


def test_texts_that_cannot_be_looked_for(lake: Lake) -> None:
    with pytest.raises(UsageError, match="empty"):
        trace_text(lake, "")
    with pytest.raises(UsageError, match="not valid UTF-8"):
        trace_text(lake, b"\xff".decode("utf-8", "surrogateescape"))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.text(max_size=8), max_size=5), st.text(min_size=1, max_size=3))
def test_the_matcher_is_substring(texts: list[str | None], text: str) -> None:
    found = contains(pa.array(texts, pa.large_string()), text).to_pylist()
    assert found == [each is not None and text in each for each in texts]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.text(min_size=1, max_size=400), st.text(max_size=200))
def test_an_excerpt_is_short_and_holds_the_text_or_its_ends(before: str, text: str, after: str) -> None:
    shown = excerpt(before + text + after, text)
    assert len(shown) <= MAX_QUERY_SHOWN + 2 * CONTEXT_CHARACTERS + 8
    assert (text if len(text) <= MAX_QUERY_SHOWN else text[:50]) in shown


def test_a_reader_of_arrow_slices_is_right(lake: Lake) -> None:
    texts = pa.array(["aa", "b", "a"], pa.large_string()).slice(1)
    assert contains(texts, "a").to_pylist() == [False, True]
