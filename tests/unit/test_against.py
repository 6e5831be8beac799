"""One corpus against another: matches, kinds, sides with the same ids, and agreement with all pairs."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import xxhash

from headwater.dedup import near_duplicate_pairs
from headwater.dedup.against import exact_duplicates_against, near_duplicates_against
from headwater.dedup.spans import spans_against
from headwater.errors import UsageError


def corpus(texts: dict[str, str | None]) -> pa.Table:
    ids = [xxhash.xxh3_128_digest(name.encode()) for name in texts]
    return pa.table(
        {"doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(list(texts.values()), pa.large_string())}
    )


def doc(name: str) -> bytes:
    return xxhash.xxh3_128_digest(name.encode())


WORDS = " ".join(f"w{i}" for i in range(60))


def test_best_match_kinds_and_sides() -> None:
    a = corpus(
        {
            "same": WORDS,
            "near": WORDS + " more",
            "alone": "nothing like it at all here",
            "empty": "?!",
            "x": None,
        }
    )
    b = corpus(
        {"other": "some other text of b entirely", "copy": WORDS.upper(), "close": WORDS + " rest", "e": ""}
    )
    found = {row["doc_id"]: row for row in near_duplicates_against(a, b, 0.8, threads=1).to_pylist()}
    assert set(found) == set(a["doc_id"].to_pylist())
    assert found[doc("same")] == {
        "doc_id": doc("same"),
        "match_doc_id": doc("copy"),
        "similarity": 1.0,
        "kind": "equal_shingles",
    }
    near = found[doc("near")]  # 57 shingles; 56 of the copy, 56 of "rest": 56/57 beats 56/58
    assert near["match_doc_id"] == doc("copy") and near["kind"] == "near"
    assert near["similarity"] == pytest.approx(56 / 57)
    for name in ("alone", "empty", "x"):
        assert found[doc(name)]["match_doc_id"] is None and found[doc(name)]["kind"] is None


def test_the_same_ids_on_both_sides_and_no_b() -> None:
    a = corpus({"one": WORDS, "two": "a b c d e f g h"})
    itself = near_duplicates_against(a, a, threads=2)
    assert itself["match_doc_id"].to_pylist() == itself["doc_id"].to_pylist()
    for b in (a.slice(0, 0), corpus({"e": "", "n": None})):
        assert near_duplicates_against(a, b)["match_doc_id"].null_count == 2
        assert exact_duplicates_against(a, b)["match_doc_id"].null_count == 2
    assert near_duplicates_against(a.slice(0, 0), a).num_rows == 0
    with pytest.raises(UsageError, match="threshold"):
        near_duplicates_against(a, a, 1.5)
    with pytest.raises(UsageError, match="more than once"):
        near_duplicates_against(pa.concat_tables([a, a]), a)


def test_exact_by_form() -> None:
    a = corpus({"x": "Some  Text,\n here", "y": "other", "blank": " \n"})
    b = corpus({"1": "some text, here", "2": "Some  Text,\n here", "3": "SOME TEXT! HERE", "4": ""})
    first = min(doc("1"), doc("2"))
    for form, wanted in (("exact", doc("2")), ("whitespace", first), ("words", min(first, doc("3")))):
        found = {r["doc_id"]: r for r in exact_duplicates_against(a, b, form=form, threads=1).to_pylist()}
        assert found[doc("x")]["match_doc_id"] == wanted and found[doc("x")]["kind"] == form
        assert found[doc("y")]["match_doc_id"] is None
        assert found[doc("blank")]["match_doc_id"] is None
    with pytest.raises(UsageError, match="form"):
        exact_duplicates_against(a, b, form="stem")


def real_files() -> pa.Table:
    """Python files of the installed test tools: families of near-duplicates occur in them."""
    root = Path(pytest.__file__).parent.parent
    texts = {}
    for package in ("_pytest", "hypothesis", "pluggy", "iniconfig"):
        for path in sorted((root / package).rglob("*.py")):
            texts[str(path.relative_to(root))] = path.read_text(encoding="utf-8")
    for name in list(texts)[::7]:  # copies with a few words changed
        words = texts[name].split(" ")
        words[:: max(1, len(words) // 3)] = ["changed"] * len(words[:: max(1, len(words) // 3)])
        texts[name + "~"] = " ".join(words)
    return corpus(texts)


def test_agrees_with_all_pairs_on_real_files() -> None:
    docs = real_files()
    side = np.arange(docs.num_rows) % 3 == 0
    a, b = docs.filter(pa.array(side)), docs.filter(pa.array(~side))
    ours = set(a["doc_id"].to_pylist())
    best: dict[bytes, tuple[float, bytes]] = {}
    for row in near_duplicate_pairs(docs, threshold=0.7, threads=1).to_pylist():
        for one, two in ((row["a"], row["b"]), (row["b"], row["a"])):
            if one in ours and two not in ours:
                best[one] = min(best.get(one, (1.0, b"\xff")), (-row["similarity"], two))
    found = near_duplicates_against(iter(a.to_batches(max_chunksize=9)), b, 0.7, threads=2)
    matched = {
        r["doc_id"]: (-r["similarity"], r["match_doc_id"]) for r in found.to_pylist() if r["match_doc_id"]
    }
    assert len(best) > 10 and matched == best

    # A rule: what B has goes, the rest stays, nothing is unknown.
    with duckdb.connect() as con:
        con.register("b_matches", found)
        kept = con.sql(
            "select match_doc_id is null as keep__not_in_other, count(*) from b_matches group by all order by 1"
        ).fetchall()
    assert kept == [(False, len(best)), (True, a.num_rows - len(best))]


def test_spans_of_the_other_corpus_only() -> None:
    passage = " ".join(f"p{i}" for i in range(50))
    a = corpus({"x": f"own words {passage} tail", "y": f"again {passage}"})
    b = corpus({"z": f"before it {passage} after"})
    found = spans_against(a, b, threads=1).read_all().to_pylist()
    assert {row["doc_id"] for row in found} == {doc("x"), doc("y")}
    assert all(row["match_doc_id"] == doc("z") and row["match_start"] == 10 for row in found)
    assert spans_against(b, a.slice(0, 0)).read_all().num_rows == 0
    assert spans_against(a, corpus({"z": passage[:-4]})).read_all().num_rows == 0
