"""Spans and lines against brute force, and independence of order, batches and threads."""

import re
from typing import Any

import pyarrow as pa
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.dedup.lines import duplicate_lines
from headwater.dedup.spans import duplicate_spans, spans_against

VOCABULARY = ["a", "b", "Été", "x1", "漢", "w_"]
SEPARATORS = [" ", "\n", ", ", "\t--"]


@st.composite
def corpora(draw: st.DrawFn) -> list[str]:
    """Documents pasted together from few passages, so that runs of every length are shared."""
    passages = draw(
        st.lists(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=14), min_size=1, max_size=4)
    )
    texts = []
    for _ in range(draw(st.integers(1, 6))):
        words = [w for p in draw(st.lists(st.sampled_from(passages), max_size=4)) for w in p]
        if words and draw(st.booleans()):
            words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(VOCABULARY))
        texts.append(draw(st.sampled_from(SEPARATORS)).join(words))
    return texts


def corpus(texts: list[str]) -> pa.Table:
    ids = [xxhash.xxh3_128_digest(f"{i}".encode()) for i in range(len(texts))]
    return pa.table({"doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(texts, pa.large_string())})


def tokens(text: str, unit: str) -> list[tuple[str, int, int]]:
    """Token, first byte, end byte; the vocabulary holds one script without spaces, 漢."""
    pattern = r"漢|[^\W漢]+" if unit == "words" else r"\S+"
    return [
        (
            m[0].lower() if unit == "words" else m[0],
            len(text[: m.start()].encode()),
            len(text[: m.end()].encode()),
        )
        for m in re.finditer(pattern, text)
    ]


def brute_force(
    texts: dict[bytes, str], order: list[bytes], n: int, unit: str, within: bool
) -> list[dict[str, Any]]:
    """Every window's first occurrence, found by looking everywhere; runs on one diagonal joined."""
    split = {doc: tokens(texts[doc], unit) for doc in order}
    first: dict[tuple[str, ...], tuple[bytes, int]] = {}
    spans: list[dict[str, Any]] = []
    for doc in order:
        last = None
        for at in range(len(split[doc]) - n + 1):
            words = split[doc][at : at + n]
            match, place = first.setdefault(tuple(w[0] for w in words), (doc, at))
            if match == doc and (place == at or not within):
                last = None
                continue
            if last == (match, place - 1):
                spans[-1]["end"], spans[-1]["num_tokens"] = words[-1][2], spans[-1]["num_tokens"] + 1
            else:
                spans.append(
                    {
                        "doc_id": doc,
                        "start": words[0][1],
                        "end": words[-1][2],
                        "num_tokens": n,
                        "match_doc_id": match,
                        "match_start": split[match][place][1],
                    }
                )
            last = (match, place)
    return spans


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    corpora(),
    st.integers(2, 9),
    st.sampled_from(["words", "whitespace"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_spans_are_those_of_brute_force(
    texts: list[str], n: int, unit: str, within: bool, random: Any
) -> None:
    docs = corpus(texts)
    by_id = dict(zip(docs["doc_id"].to_pylist(), texts, strict=True))
    options = {"min_tokens": n, "unit": unit, "within_documents": within}
    found = duplicate_spans(docs, threads=1, **options).read_all()
    assert found.to_pylist() == brute_force(by_id, sorted(by_id), n, unit, within)

    # Order of rows, batches, threads, and a table of marks so small that almost everything looks shared.
    shuffled = list(range(len(texts)))
    random.shuffle(shuffled)
    batches = docs.take(pa.array(shuffled)).to_batches(max_chunksize=2)
    assert duplicate_spans(iter(batches), threads=2, memory_bytes=1, **options).read_all().equals(found)

    order = [docs["doc_id"][i].as_py() for i in shuffled]
    ranked = duplicate_spans(docs, keep_first=pa.array(order, pa.binary(16)), threads=1, **options).read_all()
    assert ranked.to_pylist() == brute_force(by_id, order, n, unit, within)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(corpora(), corpora(), st.integers(2, 6))
def test_spans_against_another_corpus(ours: list[str], theirs: list[str], n: int) -> None:
    docs, reference = corpus(ours), corpus(theirs)  # the same ids in both: sides are told apart
    mine = dict(zip(docs["doc_id"].to_pylist(), ours, strict=True))
    other = dict(zip(reference["doc_id"].to_pylist(), theirs, strict=True))
    expected = []
    for doc in sorted(mine):
        texts = {b"r" + key: value for key, value in other.items()} | {doc: mine[doc]}
        spans = brute_force(texts, [*(b"r" + key for key in sorted(other)), doc], n, "words", False)
        expected += [
            {**span, "match_doc_id": span["match_doc_id"][1:]} for span in spans if span["doc_id"] == doc
        ]
    found = spans_against(docs, reference, min_tokens=n, threads=1).read_all()
    assert found.to_pylist() == expected


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.lists(
            st.sampled_from(["one line", "One  LINE ", "", " ", "two, lines", "two lines\r", "x"]), max_size=8
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["exact", "whitespace", "words"]),
    st.integers(1, 9),
    st.booleans(),
)
def test_lines_are_those_of_brute_force(
    written: list[list[str]], form: str, least: int, within: bool
) -> None:
    docs = corpus(["\n".join(lines) for lines in written])
    first: dict[str, tuple[bytes, int]] = {}
    expected = []
    for row in sorted(docs.to_pylist(), key=lambda row: row["doc_id"]):
        at = 0
        for line in row["text"].split("\n"):
            key = line
            if form != "exact":
                key = " ".join(re.findall(r"\w+" if form == "words" else r"\S+", line.lower()))
            if line.strip() and len(key) >= least:
                match = first.setdefault(key, (row["doc_id"], at))
                if match != (row["doc_id"], at) and (within or match[0] != row["doc_id"]):
                    expected.append((row["doc_id"], at, at + len(line), len(line), *match))
            at += len(line) + 1
    options: dict[str, Any] = {"form": form, "min_chars": least, "within_documents": within}
    found = duplicate_lines(docs, threads=1, **options).read_all()
    assert [tuple(row.values()) for row in found.to_pylist()] == expected
    again = duplicate_lines(iter(docs.to_batches(max_chunksize=1)), threads=2, memory_bytes=1, **options)
    assert again.read_all().equals(found)
