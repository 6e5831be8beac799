"""Normalized forms against Python, exact clusters, and the operators that go with them."""

import re
from pathlib import Path

import duckdb
import jinja2
import pyarrow as pa
import pytest
import xxhash
from dedup_documents import HOSTILE, corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.dedup.exact import exact_duplicates
from headwater.errors import UsageError
from headwater.kernels.normalize import normalized
from headwater.operators import operator, register_all


def lower(text: str) -> str:
    """One code point to one, as the kernels lower-case."""
    return "".join(c.lower()[0] for c in text)


def test_forms() -> None:
    assert normalized("  The\tCAT,\n\n sat. ", "exact") == "  The\tCAT,\n\n sat. "
    assert normalized("  The\tCAT,\n\n sat. ", "whitespace") == "the cat, sat."
    assert normalized("  The\tCAT,\n\n sat. ", "words") == "the cat sat"
    assert normalized("x=1;y_2", "words") == "x 1 y_2"
    assert normalized("漢字 and漢x", "words") == "漢 字 and 漢 x"
    assert normalized("...", "words") == ""
    with pytest.raises(UsageError, match="form must be one of"):
        normalized("x", "stemmed")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_whitespace_form_is_that_of_python(text: str) -> None:
    # \x1c to \x1f are white space to str.split, and to the kernels.
    assert normalized(text, "whitespace") == lower(" ".join(text.split()))
    assert normalized(text, "exact") == text


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="aÉß_1 ,.\n\u0301é\u00a0-Ωж", max_size=40))
def test_words_form_is_that_of_shingles(text: str) -> None:
    words = re.findall(r"(?:[\w\u0301])+", lower(text))
    assert normalized(text, "words") == " ".join(words)


def test_operator_is_the_hash_of_the_form() -> None:
    for form in ("exact", "whitespace", "words"):
        for text in HOSTILE:
            hashed = operator("normalized_text_hash")(pa.array([text], pa.large_string()), form=form)
            assert hashed[0].as_py() == xxhash.xxh3_128_digest(normalized(text, form).encode())
    plain = operator("text_hash")(pa.array(HOSTILE, pa.large_string()))
    exact = operator("normalized_text_hash")(pa.array(HOSTILE, pa.large_string()), form="exact")
    assert exact.equals(plain)


def test_clusters_by_form() -> None:
    docs = corpus(["One text.", "one  TEXT.", "one text", "other", "One text.", "", " ", None])
    ids = docs["doc_id"].to_pylist()
    for form, members in (("exact", [0, 4]), ("whitespace", [0, 1, 4]), ("words", [0, 1, 2, 4])):
        found = exact_duplicates(docs, form=form, threads=1).read_all()
        first = min(ids[i] for i in members)
        assert found.to_pylist() == [
            {"doc_id": doc, "cluster_id": first, "kind": form} for doc in sorted(ids[i] for i in members)
        ]
        again = exact_duplicates(iter(docs.to_batches(max_chunksize=3)), form=form, threads=2).read_all()
        assert again.equals(found)
    assert exact_duplicates(docs.slice(0, 0)).read_all().num_rows == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=30), st.sampled_from(HOSTILE[:9])), max_size=8))
def test_hostile_texts(texts: list[str]) -> None:
    docs = corpus(list(texts))
    found = exact_duplicates(docs, form="words", threads=1).read_all()
    keys = [normalized(text, "words") for text in texts]
    assert found.num_rows == sum(bool(key) and keys.count(key) > 1 for key in keys)


def macro(call: str) -> str:
    """SQL of a macro, rendered as dbt renders it."""
    source = (Path(__file__).parents[2] / "sql" / "macros" / "duplicates.sql").read_text(encoding="utf-8")
    return str(jinja2.Environment().from_string(source + "{{ " + call + " }}").render())


def test_macros() -> None:
    docs = corpus(["One", "one", "one", "", "", "x"])
    ids = docs["doc_id"].to_pylist()
    with duckdb.connect() as con:
        register_all(con)
        con.register("docs", docs)
        con.execute(
            """create table hashes as select doc_id::uuid as doc_id, text_hash(text)::uuid as text_hash,
            normalized_text_hash(text)::uuid as lowered from docs"""
        ).fetchall()
        for call, members in (
            ("exact_duplicates('hashes')", [1, 2]),
            ("exact_duplicates('hashes', hash='lowered', kind='whitespace')", [0, 1, 2]),
        ):
            found = con.sql(f"select doc_id::blob, cluster_id::blob from {macro(call)} order by 1").fetchall()
            first = min(ids[i] for i in members)
            assert found == [(doc, first) for doc in sorted(ids[i] for i in members)]
        con.execute(
            """create table spans as from (values ('a', 5, 9), ('a', 0, 4), ('a', 2, 6), ('a', 3, 4), ('b', 7, 8))
            v(doc_id, start, "end")"""
        ).fetchall()
        merged = macro("covered_bytes('spans')")
        covered = con.sql(f"select * from {merged} order by 1").fetchall()
        assert covered == [("a", 4, 9), ("b", 1, 1)]
        rule = macro("not_in_other(compared='c', match='m')")
        rows = con.sql(f"select {rule} from (values (1, null), (1, 2), (null, null)) v(c, m)").fetchall()
        assert rows == [(True,), (False,), (None,)]
