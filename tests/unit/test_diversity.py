"""Diversity at equal sample sizes: repeated openings, phrases, near-copies, vocabulary, spread of embeddings."""

from __future__ import annotations

import random
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import headwater as hw
from headwater.errors import UnknownName, UsageError
from headwater.synthesis import diversity as inside
from headwater.synthesis.diversity import DIVERSITY, diversity, effective_documents, mean_cosine


def corpus(**parts: list[str]) -> tuple[pa.Table, pa.Table]:
    texts = [text for several in parts.values() for text in several]
    ids = pa.array([i.to_bytes(16, "big") for i in range(len(texts))], pa.binary(16))
    names = [name for name, several in parts.items() for _ in several]
    return pa.table({"doc_id": ids, "text": pa.array(texts, pa.large_string())}), pa.table(
        {"doc_id": ids, "part": names}
    )


def varied(count: int, vocabulary: int, words: int = 60, opening: str = "") -> list[str]:
    draw = random.Random(vocabulary * 1000 + count)
    return [opening + " ".join(f"w{draw.randrange(vocabulary)}" for _ in range(words)) for _ in range(count)]


def measured(*given: Any, **settings: Any) -> dict[str, dict[str, Any]]:
    return {row["part"]: row for row in diversity(*given, embedding_model="", **settings).to_pylist()}


def test_a_poor_part_shows_in_every_measure() -> None:
    rich = varied(60, 5_000)
    poor = [*varied(40, 40, opening="once upon a time "), *(["the same story word for word again " * 8] * 20)]
    found = measured(*corpus(real=rich, synthetic=poor))
    real, synthetic = found["real"], found["synthetic"]
    assert (
        real["sampled_words"] == synthetic["sampled_words"] == min(60 * 60, sum(len(t.split()) for t in poor))
    )
    assert (
        synthetic["first_3_words_share"] == pytest.approx(40 / 60) and real["first_3_words_share"] <= 2 / 60
    )
    for measure in ("distinct_1", "distinct_2", "distinct_3", "vocabulary", "heaps_exponent"):
        assert synthetic[measure] < real[measure], measure
    assert synthetic["near_duplicate_share"] == pytest.approx(20 / 60) and real["near_duplicate_share"] == 0
    assert real["note"] is None and real["embedded_documents"] == 0


def test_parts_are_measured_at_the_size_of_the_smallest() -> None:
    found = measured(*corpus(big=varied(300, 900), small=varied(30, 900)))
    assert found["big"]["num_documents"] == 300 and found["big"]["sampled_documents"] == 30
    assert found["big"]["sampled_words"] == found["small"]["sampled_words"] == 1_800
    same = abs(found["big"]["vocabulary"] - found["small"]["vocabulary"])
    assert same < 40  # drawn from the same words


def test_a_part_that_is_too_small_does_not_shrink_the_others() -> None:
    found = measured(*corpus(big=varied(100, 900), tiny=["only three words", ""]))
    assert found["big"]["sampled_documents"] == 100 and found["big"]["note"] is None
    tiny = found["tiny"]
    assert tiny["sampled_documents"] == 1 and tiny["sampled_words"] == 3 and tiny["heaps_exponent"] is None
    assert "only 1 documents with words, where others have 100" in tiny["note"]


def test_it_does_not_depend_on_the_order_of_rows_or_tables(tmp_path: Any) -> None:
    documents, parts = corpus(a=varied(50, 300), b=varied(50, 30))
    shuffled = np.random.default_rng(0).permutation(100)
    assert measured(documents, parts) == measured(documents.take(shuffled), parts.take(shuffled[::-1]))
    lake = hw.Lake(tmp_path / "lake")
    lake.write("first", documents.slice(0, 30))
    lake.write("second", documents.slice(30))
    held = [lake.table("first"), lake.table("second")]
    assert measured(held, parts) == measured(documents, parts)
    assert measured(documents, parts, seed=1)["a"]["sampled_words"] == 3_000


def test_bounds_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "LOOKUP_ROWS", 7)
    found = measured(*corpus(a=varied(90, 300), b=varied(70, 30)), sample_documents=25, sample_words=1_000)
    assert {row["sampled_documents"] for row in found.values()} == {25}
    assert {row["sampled_words"] for row in found.values()} == {1_000}
    curve = found["a"]["heaps_curve"]
    assert curve[-1] == {"words": 1_000, "vocabulary": found["a"]["vocabulary"]}


def test_wrong_use_is_told() -> None:
    documents, parts = corpus(a=["x y z"])
    with pytest.raises(UnknownName, match="part"):
        diversity(documents, parts.rename_columns(["doc_id", "label"]))
    with pytest.raises(UsageError, match="sample_words=0"):
        diversity(documents, parts, sample_words=0)
    assert diversity(documents.slice(0, 0), parts.slice(0, 0)).schema == DIVERSITY
    gone = measured(documents.slice(0, 0), parts)["a"]
    assert gone["sampled_documents"] == 0 and gone["vocabulary"] == 0


def test_spread_of_embeddings() -> None:
    same = np.tile(np.array([[1.0, 0.0]], np.float32), (5, 1))
    assert mean_cosine(same) == pytest.approx(1) and effective_documents(same) == pytest.approx(1)
    apart = np.eye(4, dtype=np.float32)
    assert mean_cosine(apart) == pytest.approx(0) and effective_documents(apart) == pytest.approx(4)
    assert mean_cosine(same[:1]) is None and effective_documents(same[:0]) is None


class FakeModel:
    id = "fake@00000000"

    def encode(self, texts: pa.Array, progress: Any = None) -> Any:
        vectors = np.zeros((len(texts), 8), np.float32)
        for row, text in enumerate(texts.to_pylist()):
            vectors[row, len(text) % 8] = 1.0
        return vectors


def test_embeddings_are_measured_where_there_is_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("headwater.embedding")
    module.load_model = lambda name: FakeModel()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "headwater.embedding", module)
    documents, parts = corpus(a=varied(30, 300), b=["equal text here"] * 30)
    found = {row["part"]: row for row in diversity(documents, parts, embed_documents=20).to_pylist()}
    assert found["b"]["embedded_documents"] == 20 and found["b"]["embedding_model"] == FakeModel.id
    assert found["b"]["mean_cosine"] == pytest.approx(1) and found["b"][
        "effective_documents"
    ] == pytest.approx(1)
    assert found["a"]["effective_documents"] > 2


def test_without_the_extra_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "headwater.embedding", None)
    (row,) = diversity(*corpus(a=varied(30, 300))).to_pylist()
    assert row["mean_cosine"] is None and row["note"].startswith("not embedded: ")
