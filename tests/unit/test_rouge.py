"""ROUGE-L against a plain definition, the growing pool against one pair at a time, and a vocabulary."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import BadInput, DataMismatch, UsageError
from headwater.kernels.rouge import accept_distinct
from headwater.operators import operator


def words(text: str) -> list[str]:
    """As rouge_score's tokenizer without a stemmer."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def plain(first: str, second: str) -> float:
    """Precision, recall and their F-measure, from a whole table of common subsequences."""
    a, b = words(first), words(second)
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else max(table[i - 1][j], table[i][j - 1])
    if not table[-1][-1]:
        return 0.0
    precision, recall = table[-1][-1] / len(a), table[-1][-1] / len(b)
    return 2 * precision * recall / (precision + recall)


def column(texts: list[str | None]) -> pa.Array:
    return pa.array(texts, pa.large_string())


@pytest.mark.parametrize(
    ("text", "reference", "score"),
    [
        # rouge_score's README: the, quick, brown, jumps, the: precision 5/8, recall 5/9.
        ("The quick brown dog jumps on the log.", "The quick brown fox jumps over the lazy dog", 10 / 17),
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin 2004, section 3.1
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("one two", "one two", 1.0),
        ("one two", "", 0.0),
        ("", "", 0.0),
        ("Testing ONE, two", "testing two one", 4 / 6),
        ("İstanbul 300K", "i stanbul 300k", 1.0),
        ("größe", "gr e", 1.0),
    ],
)  # fmt: skip
def test_known_values(text: str, reference: str, score: float) -> None:
    assert operator("rouge_l")(column([text]), column([reference]))[0].as_py() == pytest.approx(score)
    assert plain(text, reference) == pytest.approx(score)


def test_nulls_stay_null() -> None:
    found = operator("rouge_l")(column(["a b", None, "a"]), column(["a c", "a", None]))
    assert found.to_pylist() == [0.5, None, None]


TEXTS = st.lists(st.text(alphabet="ab1 Cé.\u0130\u212a", max_size=24), min_size=1, max_size=12)


@settings(deadline=None)  # it compiles
@given(TEXTS, TEXTS)
def test_it_is_what_it_is_defined_as(first: list[str], second: list[str]) -> None:
    size = min(len(first), len(second))
    found = operator("rouge_l")(column(first[:size]), column(second[:size])).to_pylist()
    assert found == pytest.approx([plain(a, b) for a, b in zip(first, second, strict=False)])


@settings(deadline=None)
@given(TEXTS, TEXTS, st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_the_pool_grows_as_if_every_pair_were_compared(
    pool: list[str], candidates: list[str], threshold: float
) -> None:
    found = accept_distinct(column(pool), column(candidates), threshold)
    accepted = list(pool)
    for text, score, taken in zip(candidates, found.score, found.accepted, strict=True):
        best = max(plain(text, other) for other in accepted)
        assert taken == (best < threshold)
        if taken:
            assert score == pytest.approx(best)
            accepted.append(text)


def test_an_empty_pool_and_what_refuses_a_text() -> None:
    found = accept_distinct(column([]), column(["a b c d", "a b c e", "x y", "A b c D!"]), 0.7)
    assert found.accepted.tolist() == [True, False, True, False]
    assert found.nearest.tolist() == [-1, 0, -1, 0] and found.score.tolist() == [0.0, 0.75, 0.0, 1.0]
    assert accept_distinct(column(["a"]), column([]), 0.7).accepted.tolist() == []


def test_a_vocabulary_is_a_list_of_words(tmp_path: Path) -> None:
    texts = column(["The dog ran.", "The dog philosophized", "", None, "Don't run 3 dogs"])
    found = operator("vocabulary")(texts, words="the dog dogs\nran run don t").to_pylist()
    assert [row and (row["num_words"], row["num_outside"]) for row in found] == [
        (3, 0), (3, 1), (0, 0), None, (5, 1),
    ]  # fmt: skip
    assert found[1]["outside_share"] == pytest.approx(1 / 3) and found[2]["outside_share"] == 0
    file = tmp_path / "words.txt"
    file.write_text("the\ndog\n")
    assert operator("vocabulary")(texts, file=str(file))[0].as_py()["num_outside"] == 1
    with pytest.raises(DataMismatch, match="has the digest"):
        operator("vocabulary")(texts, file=str(file), digest="0" * 32)
    with pytest.raises(BadInput, match="no words"):
        operator("vocabulary")(texts, words="…")
    with pytest.raises(UsageError, match="either words or file"):
        operator("vocabulary")(texts)


def test_every_call_form_agrees() -> None:
    texts, references = ["the dog ran", None, "", "a cat"] * 3, ["the dogs ran", "a", "b", "the cat"] * 3
    listed = "the dog"
    table = pa.table(
        {"text": pa.array(texts, pa.large_string()), "reference": pa.array(references, pa.large_string())}
    )
    rouge = operator("rouge_l")(table["text"], table["reference"])
    outside = operator("vocabulary")(table["text"], words=listed)

    con = duckdb.connect()
    operator("rouge_l").register(con)
    operator("vocabulary").register(con)
    con.register("t", table)
    found = con.sql(
        f"select rouge_l(text, reference) as r, vocabulary(text, words := '{listed}') as v from t"
    )
    in_sql = found.to_arrow_table()
    con.close()
    assert in_sql["r"].combine_chunks().cast(rouge.type).equals(rouge)
    assert in_sql["v"].to_pylist() == outside.to_pylist()

    frame = pl.DataFrame(table).select(
        operator("rouge_l").polars("text", "reference").alias("r"),
        operator("vocabulary").polars("text", words=listed).alias("v"),
    )
    assert frame["r"].to_list() == rouge.to_pylist()
    # Polars has no null structs: a row without text comes back with null fields.
    whole = [row or dict.fromkeys(outside.type.names) for row in outside.to_pylist()]
    assert [row or dict.fromkeys(outside.type.names) for row in frame["v"].to_list()] == whole

    (batch,) = table.combine_chunks().to_batches()
    pieces = list(operator("rouge_l").batches([batch.slice(0, 5), batch.slice(5)], keep=()))
    assert pa.concat_arrays([piece.column("rouge_l") for piece in pieces]).equals(rouge)
    assert operator("vocabulary").apply(batch, words=listed).column("vocabulary").equals(outside)
