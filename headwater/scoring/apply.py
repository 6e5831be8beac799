"""Scores of embedded documents, by a scorer of the lake."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from headwater.errors import DataMismatch, UsageError
from headwater.lake import Table
from headwater.scoring.artifact import EMBEDDING
from headwater.scoring.fit import rows_of
from headwater.scoring.store import load_from

SCORE_ROWS = pa.schema(
    {
        "doc_id": pa.binary(16),
        "text_hash": pa.binary(16),
        "edu_score": pa.float64(),
        "edu_score_raw": pa.float64(),
        "scorer": pa.string(),
    }
)


def scores_of_embeddings(embeddings: Table, scorers: Table, name: str) -> pa.RecordBatchReader:
    """One row for each row of ``embeddings``: the score that ``name`` (or ``name@version``) gives.

    ``scorer`` says ``name@version``. DataMismatch when an embedding is of another model than the scorer's.
    """
    bare, at, version = name.partition("@")
    if at and not version.isdigit():
        raise UsageError(f"{name!r} names no version of a scorer", hint="name@3")
    found = load_from(scorers, bare, int(version) if at else None, str(scorers.ref))
    scorer = found.scorer
    if scorer.kind != EMBEDDING:
        raise UsageError(
            f"the scorer {name} reads text, not embeddings",
            hint="export it, and name the file in the variable edu_scorer",
        )
    label = f"{found.name}@{found.version}"

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in embeddings.scan(["doc_id", "text_hash", "model", "embedding"]):
            models = set(batch["model"].unique().to_pylist())
            if models - {scorer.embedding_model}:
                raise DataMismatch(
                    f"{embeddings.ref} holds embeddings of {sorted(models)[0]}, {label} was fitted on "
                    f"{scorer.embedding_model}",
                    hint="fit the scorer on this table",
                )
            if batch["embedding"].type.list_size != len(scorer.weights):
                raise DataMismatch(
                    f"{embeddings.ref} has {batch['embedding'].type.list_size} dimensions, {label} "
                    f"{len(scorer.weights)}"
                )
            raw = scorer.raw_of_embeddings(rows_of(batch["embedding"]))
            yield pa.record_batch(
                [
                    batch["doc_id"],
                    batch["text_hash"],
                    pa.array(scorer.calibration(raw)),
                    pa.array(raw),
                    pa.array([label] * batch.num_rows, pa.string()),
                ],
                schema=SCORE_ROWS,
            )

    return pa.RecordBatchReader.from_batches(SCORE_ROWS, batches())
