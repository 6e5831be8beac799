"""Lines and paragraphs: units, settings, shares on real files, and texts without their duplicates."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import xxhash
from dedup_documents import HOSTILE, corpus, in_order
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.dedup.cleaned import without_spans
from headwater.dedup.lines import duplicate_lines
from headwater.errors import DataMismatch, UsageError
from headwater.operators import operator


def spans(docs: pa.Table, **options: object) -> list[tuple[int, str]]:
    """(place of the document, the bytes) of every duplicate unit."""
    place = {doc: i for i, doc in enumerate(docs["doc_id"].to_pylist())}
    texts = docs["text"].to_pylist()
    found = duplicate_lines(docs, threads=1, **options).read_all().to_pylist()  # type: ignore[arg-type]
    return [
        (place[r["doc_id"]], texts[place[r["doc_id"]]].encode()[r["start"] : r["end"]].decode())
        for r in found
    ]


def test_units_and_first_occurrence() -> None:
    docs = in_order(["The same line here.\nanother", "x\n  the SAME line here.  \r\ny", "The same line here"])
    assert spans(docs, min_chars=5) == [(1, "  the SAME line here.  \r")]
    assert spans(docs, min_chars=5, form="words") == [
        (1, "  the SAME line here.  \r"),
        (2, "The same line here"),
    ]
    assert spans(docs, min_chars=5, form="exact") == []
    assert spans(docs, min_chars=20) == []
    paragraphs = in_order(["a first\nand second\n\n\nlast one", "last one\n \t\na first\nand second"])
    assert spans(paragraphs, min_chars=4, unit="paragraph") == [(1, "last one"), (1, "a first\nand second")]
    assert spans(paragraphs, min_chars=4) == [(1, "last one"), (1, "a first"), (1, "and second")]


def test_within_a_document_and_another_order() -> None:
    docs = in_order(["again and again\nagain and again", "again and again"])
    assert spans(docs, min_chars=3) == [(0, "again and again"), (1, "again and again")]
    assert spans(docs, min_chars=3, within_documents=False) == [(1, "again and again")]
    reverse = docs["doc_id"].combine_chunks().take(pa.array([1, 0]))
    assert spans(docs, min_chars=3, keep_first=reverse) == [(0, "again and again")] * 2
    with pytest.raises(DataMismatch, match="does not name document"):
        spans(docs, keep_first=reverse.slice(0, 1))


def test_bad_settings_are_refused() -> None:
    docs = in_order(["x"])
    for options, message in (
        ({"unit": "sentence"}, "unit must be one of line, paragraph"),
        ({"form": "stem"}, "form must be one of"),
        ({"min_chars": 0}, "min_chars"),
    ):
        with pytest.raises(UsageError, match=message):
            duplicate_lines(docs, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="more than once"):
        duplicate_lines(pa.concat_tables([docs, docs])).read_all()


def test_counts_and_shares_are_those_of_python() -> None:
    """Real files: the shares of a document from the operator's counts and the spans, in SQL."""
    root = Path(pytest.__file__).parent.parent / "_pytest"
    texts = [path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))[:60]]
    docs = in_order(texts)
    counted = operator("line_counts").apply(docs.combine_chunks().to_batches()[0])
    found = duplicate_lines(docs, min_chars=10).read_all()
    assert found.num_rows > 500
    with duckdb.connect() as con:
        con.register("counted", pa.Table.from_batches([counted]))
        con.register("found", found)
        rows = con.sql(
            """select c.line_counts.num_units, c.line_counts.num_chars, count(f.start), coalesce(sum(f.num_chars), 0)
            from counted c left join found f using (doc_id) group by c.doc_id, c.line_counts order by c.doc_id"""
        ).fetchall()
    seen: set[str] = set()
    for row, text in zip(rows, texts, strict=True):
        lines = [line for line in text.split("\n") if line.strip()]
        keys = [" ".join(line.split()).lower() for line in lines]
        twice = []
        for line, key in zip(lines, keys, strict=True):
            if len(key) >= 10 and key in seen:
                twice.append(line)
            seen.add(key)
        assert row == (len(lines), sum(map(len, lines)), len(twice), sum(map(len, twice)))


def test_paragraph_counts() -> None:
    texts = ["a\nb\n\n \nç d\n", "", "\n\n", "one"]
    for unit, expected in (
        ("line", [(3, 5), (0, 0), (0, 0), (1, 3)]),
        ("paragraph", [(2, 6), (0, 0), (0, 0), (1, 3)]),
    ):
        counted = operator("line_counts")(pa.array(texts), unit=unit).to_pylist()
        assert [(row["num_units"], row["num_chars"]) for row in counted] == expected


def test_texts_without_their_duplicates() -> None:
    docs = in_order(
        [
            "keep this line\nfirst copy of it\n",
            "first copy of it\nown line\nfirst copy of it",
            "Zoë first copy of it",
        ]
    )
    found = duplicate_lines(docs, min_chars=5).read_all()
    cleaned = without_spans(docs, found).read_all()
    assert cleaned["text"].to_pylist() == [
        "keep this line\nfirst copy of it\n",
        "own line\n",
        "Zoë first copy of it",
    ]
    assert cleaned["parent_ids"].to_pylist() == [[doc] for doc in docs["doc_id"].to_pylist()]
    assert cleaned["doc_id"].equals(docs["doc_id"])
    assert cleaned["text_hash"][1].as_py() == xxhash.xxh3_128_digest(b"own line\n")
    sizes = [len(text.encode()) for text in docs["text"].to_pylist()]
    assert cleaned["text_bytes"].to_pylist() == [sizes[0], 9, sizes[2]]
    assert cleaned["removed_bytes"].to_pylist() == [0, sizes[1] - 9, 0]
    # Cleaned once is clean.
    left = cleaned.select(["doc_id", "text"])
    assert duplicate_lines(left, min_chars=5).read_all().num_rows == 0


def test_overlapping_spans_and_spans_of_another_text() -> None:
    docs = in_order(["0123456789é"])
    doc = docs["doc_id"][0].as_py()

    def cut(*bounds: tuple[int, int]) -> str:
        columns = {
            "start": pa.array([b[0] for b in bounds], pa.int64()),
            "end": pa.array([b[1] for b in bounds], pa.int64()),
        }
        given = pa.table({"doc_id": pa.array([doc] * len(bounds), pa.binary(16)), **columns})
        return str(without_spans(iter(docs.to_batches()), given).read_all()["text"][0].as_py())

    assert cut((6, 8), (2, 5), (3, 4), (4, 7)) == "0189é"
    assert cut((0, 12)) == "" and cut() == "0123456789é"
    for bounds in ((5, 13), (-1, 2), (4, 3), (0, 11)):  # the last one cuts é in two
        with pytest.raises(DataMismatch, match="does not lie in its text"):
            cut(bounds)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=40), st.sampled_from(HOSTILE)), max_size=6),
    st.sampled_from(["line", "paragraph"]),
    st.sampled_from(["exact", "whitespace", "words"]),
)
def test_hostile_texts(texts: list[str], unit: str, form: str) -> None:
    docs = corpus(list(texts))
    found = duplicate_lines(docs, unit=unit, form=form, min_chars=1, threads=1).read_all()
    cleaned = without_spans(docs, found).read_all()
    cleaned["text"].combine_chunks().validate(full=True)
    assert cleaned.num_rows == len(texts)
