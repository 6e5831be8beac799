"""Packing, whatever the pieces: nothing lost or doubled, spans true, and batches without influence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.kernels.packing import best_fit
from headwater.kernels.sequence_batch import IGNORE, lay_out_sequences
from headwater.sequences import best_fit as best_fit_module
from headwater.sequences.packing import METHODS, PackCounts, Packing, exposures_of, pack_pieces

pytest.importorskip("tokenizers")

from headwater.tokenizer import Encoder, train

ENCODER = Encoder(train([["def f(x):\n    return x  # größer\n" * 9]], 300)).with_special_tokens(["<|good|>"])
EOS_ID = ENCODER.eos_id
GOOD = ENCODER.special_id("<|good|>")
FIRST_TEXT_ID = 4  # the special tokens come first in a trained vocabulary

Piece = dict[str, Any]


@st.composite
def pieces(draw: st.DrawFn) -> list[Piece]:
    """Pieces of documents of every kind: repeated, cut off, begun before, with control tokens, empty."""
    found = []
    for i in range(draw(st.integers(0, 14))):
        text = draw(st.text(alphabet="def (x)\n漢e\u0301", max_size=60))
        tokens = ENCODER.encode(pa.array([text], pa.large_string()))[0].as_py()
        start = draw(st.sampled_from([0, 0, 0, 1, 5]))
        found.append(
            {
                "doc_id": i.to_bytes(16, "big"),
                "source": draw(st.sampled_from(["a", "b", None])),
                "epoch": draw(st.integers(0, 2)),
                "form": draw(st.sampled_from([-1, -1, 0])),
                "fim_rate": draw(st.sampled_from([0.0, 0.5, 1.0])),
                "control": draw(st.sampled_from([-1, GOOD])),
                "start": start,
                "stop": draw(st.sampled_from([-1, -1, -1, start + 3, start])),
                "num_tokens": len(tokens),
                "tokens": tokens,
            }
        )
    return found


SCHEMA = pa.schema(
    {
        "doc_id": pa.binary(16),
        "source": pa.string(),
        "epoch": pa.int32(),
        "form": pa.int8(),
        "fim_rate": pa.float32(),
        "control": pa.int32(),
        "start": pa.int32(),
        "stop": pa.int32(),
        "num_tokens": pa.int32(),
        "tokens": pa.list_(ENCODER.dtype),
    }
)


def batch_of(rows: list[Piece]) -> pa.RecordBatch:
    return pa.Table.from_pylist(rows, schema=SCHEMA).combine_chunks().to_batches(max_chunksize=None)[0]


def batches_of(rows: list[Piece], size: int) -> list[pa.RecordBatch]:
    return [batch_of(rows[i : i + size]) for i in range(0, len(rows), size)]


def packed(packing: Packing, batches: list[pa.RecordBatch]) -> tuple[list[dict[str, Any]], PackCounts]:
    counts = PackCounts()
    made = list(pack_pieces(packing, ENCODER, batches, counts))
    for batch in made:
        assert batch.schema == packing.schema(ENCODER)
    return [row for batch in made for row in batch.to_pylist()], counts


def laid_out(batch: pa.RecordBatch, length: int) -> tuple[Any, Any]:
    """Labels and segments as a trainer gets them."""
    flat = batch["spans"].flatten()
    lengths = flat.field("length").to_numpy()
    size = batch.num_rows * length
    labels, segments = np.empty(size, np.int64), np.empty(size, np.int32)
    none, sources = np.empty(0, np.int32), np.zeros(len(lengths), np.int32)
    bad = lay_out_sequences(
        batch["tokens"].flatten().to_numpy(),
        batch["spans"].offsets.to_numpy(),
        lengths,
        sources,
        length,
        np.empty(0, np.int64),
        labels,
        segments,
        none,
        np.empty((batch.num_rows, 0), np.int32),
    )
    assert bad < 0
    return labels.reshape(-1, length), segments.reshape(-1, length)


def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of some sequences, so that there are several."""
    monkeypatch.setattr(best_fit_module, "WINDOW_TOKENS", 120)
    monkeypatch.setattr(best_fit_module, "WINDOW_SEQUENCES", 1)
    monkeypatch.setattr("headwater.sequences.packing.SHUFFLE_TOKENS", 150)


@settings(max_examples=150, deadline=None)
@given(rows=pieces(), length=st.integers(2, 40), method=st.sampled_from(METHODS), seed=st.integers(0, 3))
def test_every_token_of_every_closed_piece_once_and_the_spans_say_where(
    rows: list[Piece], length: int, method: str, seed: int
) -> None:
    packing = Packing(sequence_length=length, method=method, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        small_windows(patch)
        sequences, counts = packed(packing, batches_of(rows, 5))
    assert [row["sequence_index"] for row in sequences] == list(range(len(sequences)))
    back: dict[bytes, list[tuple[int, list[int], dict[str, Any]]]] = {}
    for row in sequences:
        at = 0
        for span in row["spans"]:
            assert span["length"] > 0
            tokens = row["tokens"][at : at + span["length"]]
            back.setdefault(span["doc_id"], []).append((span["start"], tokens, span))
            at += span["length"]
        assert 0 < at <= length == len(row["tokens"])
        assert set(row["tokens"][at:]) <= {EOS_ID}
    trained = 0
    for row in rows:
        spans = sorted(back.pop(row["doc_id"], []), key=lambda each: each[0])
        form = spans[0][2]["form"] if spans else 0
        tokens = [token for _, part, _ in spans for token in part]
        for start, part, span in spans:
            assert (span["source"], span["epoch"], span["form"]) == (row["source"] or "", row["epoch"], form)
            assert start == row["start"] + sum(len(p) for s, p, _ in spans if s < start)
            assert len(part) <= length
        closed = [*([GOOD] if row["control"] >= 0 else []), *row["tokens"], EOS_ID]
        if form == 0:
            stop = None if row["stop"] < 0 else row["stop"]
            assert tokens == closed[row["start"] : stop]
        else:
            assert row["fim_rate"] > 0 and row["start"] == 0 and row["stop"] < 0
            assert tokens[: len(closed) - len(row["tokens"]) - 1] == closed[: -len(row["tokens"]) - 1]
            assert tokens[-1] == EOS_ID and sorted(t for t in tokens if 0 < t < FIRST_TEXT_ID) == [1, 2, 3]
        trained += len(tokens)
    assert not back
    assert counts.num_tokens == trained == sum(counts.sources.values())
    assert counts.num_sequences == len(sequences)
    assert counts.num_padding == len(sequences) * length - trained
    if method == "chunk":
        assert counts.num_padding < length


@settings(max_examples=80, deadline=None)
@given(
    rows=pieces(),
    length=st.integers(2, 40),
    method=st.sampled_from(METHODS),
    sizes=st.tuples(*[st.integers(1, 9)] * 2),
)
def test_batches_do_not_matter(rows: list[Piece], length: int, method: str, sizes: tuple[int, int]) -> None:
    packing = Packing(sequence_length=length, method=method, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        small_windows(patch)
        one, two = (packed(packing, batches_of(rows, size)) for size in sizes)
    assert one == two


@settings(max_examples=80, deadline=None)
@given(rows=pieces(), length=st.integers(2, 40), method=st.sampled_from(METHODS))
def test_gathered_spans_are_those_of_plain_documents(rows: list[Piece], length: int, method: str) -> None:
    plain = [{**row, "control": -1, "fim_rate": 0.0, "form": -1} for row in rows]
    batches = batches_of(plain, 4)
    with pytest.MonkeyPatch.context() as patch:
        small_windows(patch)
        whole, _ = packed(Packing(sequence_length=length, method=method), batches)
        bare = [batch.drop_columns(["tokens"]) for batch in batches]
        gathered, _ = packed(Packing(sequence_length=length, method=method, gather=True), bare)
    for row in whole:
        del row["tokens"]
    assert gathered == whole


@settings(max_examples=80, deadline=None)
@given(rows=pieces(), length=st.integers(2, 40), method=st.sampled_from(METHODS))
def test_padding_at_the_end_of_any_row_is_none_of_the_loss(
    rows: list[Piece], length: int, method: str
) -> None:
    packing = Packing(sequence_length=length, method=method)
    with pytest.MonkeyPatch.context() as patch:
        small_windows(patch)
        batches = list(pack_pieces(packing, ENCODER, batches_of(rows, 5)))
    for batch in batches:
        labels, segments = laid_out(batch, length)
        for row, label, segment in zip(batch.to_pylist(), labels, segments, strict=True):
            sizes = [span["length"] for span in row["spans"]]
            want = [n for n, size in enumerate(sizes) for _ in range(size)]
            assert segment.tolist() == want + [-1] * (length - len(want))
            # Loss on every token but the first of each document, and on no padding.
            first = {sum(sizes[:n]) for n in range(len(sizes))}
            learned = [i for i in range(length) if i not in first and i < len(want)]
            assert np.flatnonzero(label != IGNORE).tolist() == learned
            assert label[learned].tolist() == [row["tokens"][i] for i in learned]
        pairs = [tuple(row.values()) for row in exposures_of(batch).to_pylist()]
        assert len(pairs) == len(set(pairs))
        want_pairs = {
            (span["doc_id"], row["sequence_index"]) for row in batch.to_pylist() for span in row["spans"]
        }
        assert set(pairs) == want_pairs


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 70))
def test_best_fit_takes_the_least_room_and_opens_no_row_without_need(
    data: st.DataObject, capacity: int
) -> None:
    lengths = np.array(data.draw(st.lists(st.integers(1, capacity), max_size=60)), dtype=np.int64)
    order = np.array(data.draw(st.permutations(range(len(lengths)))), dtype=np.int64)
    rows = np.empty(len(lengths), dtype=np.int64)
    used = best_fit(lengths, order, capacity, rows)
    room: list[int] = []
    for item in order:
        fits = [left for left in room if left >= lengths[item]]
        if fits:
            assert room[rows[item]] == min(fits)
        else:
            assert rows[item] == len(room)
            room.append(capacity)
        room[rows[item]] -= int(lengths[item])
    assert used == len(room)
