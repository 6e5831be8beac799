"""Exact spans: real license headers, byte offsets, settings, many copies, hostile texts."""

import re
from pathlib import Path

import numpy as np
import pytest
from dedup_documents import HOSTILE, corpus, in_order
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.dedup import occurrences
from headwater.dedup.cleaned import without_spans
from headwater.dedup.spans import duplicate_spans
from headwater.errors import UsageError


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def covered(text: str, n: int, earlier: set[tuple[str, ...]]) -> list[tuple[int, int]]:
    """Merged byte ranges of the windows in ``earlier``: the definition, over ASCII text."""
    found = [(m.start(), m.end(), m[0].lower()) for m in re.finditer(r"\w+", text)]
    ranges: list[tuple[int, int]] = []
    for i in range(len(found) - n + 1):
        if tuple(w for _, _, w in found[i : i + n]) in earlier:
            start, end = found[i][0], found[i + n - 1][1]
            if ranges and start <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((start, end))
    return ranges


def test_real_files_share_license_headers() -> None:
    """Files of installed packages: coverage is that of every 50-word window looked up in a set."""
    root = Path(pytest.__file__).parent.parent
    paths = [
        p for name in ("packaging", "_pytest", "hypothesis") for p in sorted((root / name).rglob("*.py"))
    ]
    texts = [t for p in paths[:150] if (t := p.read_text(encoding="utf-8")).isascii()]
    docs = in_order(texts)
    found = duplicate_spans(docs).read_all().to_pylist()
    by_document: dict[int, list[tuple[int, int]]] = {}
    for row in found:
        place, match = (int.from_bytes(row[c], "big") for c in ("doc_id", "match_doc_id"))
        assert match < place
        here = words(texts[place][row["start"] : row["end"]])
        there = words(texts[match][row["match_start"] :])
        assert len(here) == row["num_tokens"] >= 50 and there[: len(here)] == here
        merged = by_document.setdefault(place, [])
        if merged and row["start"] <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], row["end"]))
        else:
            merged.append((row["start"], row["end"]))
    earlier: set[tuple[str, ...]] = set()
    for place, text in enumerate(texts):
        assert by_document.get(place, []) == covered(text, 50, earlier)
        split = words(text)
        earlier |= {tuple(split[i : i + 50]) for i in range(len(split) - 49)}
    headers = [
        row
        for row in found
        if "Mozilla Public" in texts[int.from_bytes(row["doc_id"], "big")][row["start"] : row["end"]]
    ]
    assert len(headers) > 20


def test_offsets_units_and_lengths() -> None:
    passage = " ".join(f"Wörd{i}" for i in range(6))
    docs = in_order([f"é {passage}!", f"ab, ({passage.upper()}) c", f"x {passage} y"])
    found = duplicate_spans(docs, min_tokens=6).read_all().to_pylist()
    texts = [text.encode() for text in docs["text"].to_pylist()]
    assert [texts[i + 1][r["start"] : r["end"]].decode() for i, r in enumerate(found)] == [
        passage.upper(),
        passage,
    ]
    assert all(row["num_tokens"] == 6 and row["match_start"] == 3 for row in found)
    # White-space tokens: case and punctuation count, so only five are shared, by the first and the last.
    assert duplicate_spans(docs, min_tokens=6, unit="whitespace").read_all().num_rows == 0
    exact = duplicate_spans(docs, min_tokens=5, unit="whitespace").read_all().to_pylist()
    assert [(int.from_bytes(r["doc_id"], "big"), r["num_tokens"]) for r in exact] == [(2, 5)]
    assert duplicate_spans(docs, min_tokens=7).read_all().num_rows == 0


def test_settings_are_refused() -> None:
    docs = in_order(["x"])
    for options, message in (({"min_tokens": 1}, "min_tokens"), ({"unit": "bytes"}, "unit must be one of")):
        with pytest.raises(UsageError, match=message):
            duplicate_spans(docs, **options)  # type: ignore[arg-type]


def test_a_passage_in_very_many_documents() -> None:
    """One row for each document, not for each pair of them."""
    passage = " ".join(f"p{i}" for i in range(60))
    docs = in_order([f"{passage} own{i}" for i in range(20_000)])
    found = duplicate_spans(docs, memory_bytes=64 << 20).read_all()
    assert found.num_rows == 19_999 and found["match_doc_id"].unique().to_pylist() == [bytes(16)]
    assert found["num_tokens"].unique().to_pylist() == [60]


def test_groups_and_spans_go_on_from_batch_to_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted rows come in batches; a key's documents, and a document's windows, cross their borders."""
    rng = np.random.default_rng(3)
    passage = [f"p{i}" for i in range(400)]
    texts = []
    for _ in range(120):
        start, length = rng.integers(0, 300), rng.integers(40, 400)
        own = [f"o{rng.integers(0, 10**6)}" for _ in range(5)]
        texts.append(" ".join([*own, *passage[start : start + length], *own[::-1]]))
    docs = in_order(texts)
    whole = duplicate_spans(docs).read_all()
    assert whole.num_rows > 100
    monkeypatch.setattr(occurrences, "_SORTED_ROWS", 2048)
    monkeypatch.setattr(occurrences, "BLOCK_BYTES", 5000)
    assert duplicate_spans(docs).read_all().equals(whole)


def test_cleaned_texts_have_no_duplicate_spans() -> None:
    passage = " ".join(f"p{i}" for i in range(60))
    docs = in_order([f"begin {passage} end", f"other {passage}, more", f"{passage}"])
    cleaned = without_spans(docs, duplicate_spans(docs)).read_all()
    assert cleaned["text"].to_pylist() == [f"begin {passage} end", "other , more", ""]
    assert duplicate_spans(cleaned.select(["doc_id", "text"])).read_all().num_rows == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=40), st.sampled_from(HOSTILE)), max_size=6),
    st.sampled_from(["words", "whitespace"]),
    st.booleans(),
)
def test_hostile_texts(texts: list[str], unit: str, within: bool) -> None:
    docs = corpus(list(texts))
    options = {"min_tokens": 3, "unit": unit, "within_documents": within}
    found = duplicate_spans(docs, threads=1, **options).read_all()  # type: ignore[arg-type]
    cleaned = without_spans(docs, found).read_all()
    cleaned["text"].combine_chunks().validate(full=True)


def test_long_lines_and_many_lines_are_linear() -> None:
    """No timing decides; the sizes would not end if anything were quadratic."""
    texts = ["ab " * 1_500_000, "x" * 5_000_000, "漢" * 1_000_000, "a b\n" * 100_000]
    found = duplicate_spans(in_order([*texts, texts[0]]), within_documents=True).read_all()
    assert found.num_rows >= 4
