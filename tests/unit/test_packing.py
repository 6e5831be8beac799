"""Packing by hand: what rows and spans look like, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from headwater.errors import UsageError
from headwater.sequences.packing import (
    SPAN,
    SPANS,
    PackCounts,
    Packing,
    close_documents,
    exposures_of,
    pack_pieces,
    shuffle_windows,
)

pytest.importorskip("tokenizers")

from headwater.tokenizer import Encoder, train

ENCODER = Encoder(train([["a b c"]], 300))
EOS_ID = ENCODER.eos_id


def pieces(documents: list[list[int]], **columns: Any) -> pa.RecordBatch:
    n = len(documents)
    return pa.record_batch(
        {
            "doc_id": pa.array([bytes([i] * 16) for i in range(n)], pa.binary(16)),
            "source": pa.array(columns.pop("source", ["s"] * n), pa.string()),
            "num_tokens": pa.array([len(each) for each in documents], pa.int32()),
            "tokens": pa.array(documents, pa.list_(ENCODER.dtype)),
            **{name: pa.array(values, pa.int32()) for name, values in columns.items()},
        }
    )


def test_chunks_by_hand() -> None:
    batch = pieces([[11, 12], [21, 22, 23, 24, 25]], source=["a", None], epoch=[0, 3])
    counts = PackCounts()
    (made,) = pack_pieces(Packing(sequence_length=4), ENCODER, [batch], counts)
    assert made.schema == Packing(sequence_length=4).schema(ENCODER)
    one = {"doc_id": bytes(16), "source": "a", "epoch": 0, "form": 0}
    two = {"doc_id": b"\1" * 16, "source": "", "epoch": 3, "form": 0}
    rows = made.to_pylist()
    assert [row["sequence_index"] for row in rows] == [0, 1, 2]
    by_content = {tuple(row["tokens"]): row["spans"] for row in rows}
    assert by_content == {
        (11, 12, EOS_ID, 21): [{**one, "start": 0, "length": 3}, {**two, "start": 0, "length": 1}],
        (22, 23, 24, 25): [{**two, "start": 1, "length": 4}],
        (EOS_ID,) * 4: [{**two, "start": 5, "length": 1}],
    }
    assert rows[-1]["tokens"] == [EOS_ID] * 4, "the padded row stays last"
    assert counts == PackCounts(
        num_pieces=2, num_tokens=9, num_sequences=3, num_padding=3, sources={"a": 3, "": 6}
    )


def test_pieces_begin_and_stop_inside_of_their_documents() -> None:
    batch = pieces([[1, 2, 3, 4]] * 6, start=[0, 2, 0, 4, 5, 2], stop=[2, -1, 99, -1, -1, 2])
    (made,) = pack_pieces(Packing(sequence_length=30), ENCODER, [batch])
    row = made.to_pylist()[0]
    assert [(s["doc_id"][0], s["start"], s["length"]) for s in row["spans"]] == [
        (0, 0, 2),
        (1, 2, 3),
        (2, 0, 5),
        (3, 4, 1),
    ]
    assert row["tokens"][:11] == [1, 2, 3, 4, EOS_ID, 1, 2, 3, 4, EOS_ID, EOS_ID]


@pytest.mark.parametrize("method", ["chunk", "best-fit"])
def test_nothing_is_packed_to_nothing(method: str) -> None:
    packing = Packing(sequence_length=8, method=method)
    assert list(pack_pieces(packing, ENCODER, [])) == []
    assert list(pack_pieces(packing, ENCODER, [pieces([])])) == []
    assert list(pack_pieces(packing, ENCODER, [pieces([[1]], start=[9])])) == []


def test_a_document_in_two_epochs_is_exposed_once_by_a_sequence() -> None:
    batch = pa.Table.from_batches(
        [pieces([[1]], epoch=[0]), pieces([[1]], epoch=[1]), pieces([[1], [2]], epoch=[2, 2])]
    ).combine_chunks()
    (made,) = pack_pieces(Packing(sequence_length=20), ENCODER, batch.to_batches())
    assert len(made["spans"][0]) == 4
    assert exposures_of(made).to_pylist() == [
        {"doc_id": bytes(16), "sequence_index": 0},
        {"doc_id": b"\1" * 16, "sequence_index": 0},
    ]


def test_spans_of_older_sequences_are_read() -> None:
    """Those that were packed before spans had an epoch and a form."""
    old = pa.list_(pa.struct([SPAN.field(i) for i in range(4)]))
    spans = [[{"doc_id": bytes(16), "start": 0, "length": 4, "source": ""}]]
    batch = pa.record_batch({"sequence_index": pa.array([7]), "spans": pa.array(spans, old)})
    assert exposures_of(batch).to_pylist() == [{"doc_id": bytes(16), "sequence_index": 7}]


def test_a_slice_of_sequences_has_the_exposures_of_its_rows() -> None:
    (made,) = pack_pieces(Packing(sequence_length=2), ENCODER, [pieces([[1], [2], [3], [4]])])
    assert exposures_of(made.slice(1, 2)).equals(exposures_of(made).slice(1, 2))


def test_documents_are_closed_wherever_their_batch_begins() -> None:
    lists = pa.array([[1], [2, 3], [], [4]], pa.list_(pa.uint16()))
    for first in range(5):
        stream, lengths = close_documents(lists.slice(first), 9)
        want = [[*each, 9] for each in lists.to_pylist()[first:]]
        assert stream.tolist() == [token for each in want for token in each]
        assert lengths.tolist() == [len(each) for each in want] and stream.dtype == np.uint16


def test_the_shuffle_keeps_a_padded_last_row_only_when_asked() -> None:
    spans = [[{"doc_id": bytes(16), "start": 0, "length": 2 if i == 19 else 4}] for i in range(20)]
    rows = pa.record_batch({"sequence_index": pa.array(range(20)), "spans": pa.array(spans, SPANS)})
    for pad_last in (True, False):
        (made,) = shuffle_windows([rows], 4, 3, pad_last=pad_last)
        lengths = made["spans"].flatten().field("length").to_pylist()
        assert sorted(lengths) == [2] + [4] * 19
        assert (lengths[-1] == 2) == pad_last


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="no packing method 'first-fit'"):
        Packing(sequence_length=8, method="first-fit")
    with pytest.raises(UsageError, match="sequence_length 1"):
        Packing(sequence_length=1)
