"""From the labels of a lake to a scorer in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import DataMismatch, UsageError
from headwater.lake import Lake, Table, TableRef
from headwater.lineage import open_optional
from headwater.scoring.artifact import EMBEDDING, KINDS, NGRAMS, check_scorer_name
from headwater.scoring.folds import group_names
from headwater.scoring.labels import DOCUMENTS, LABELS, find_documents
from headwater.scoring.store import Stored, save
from headwater.scoring.training import (
    BITS,
    FOLDS,
    REPEATS,
    Trained,
    train_embedding_head,
    train_ngrams,
)

EMBEDDINGS, CLUSTERS = "embeddings", "duplicate_clusters"
MANY_LABELS = 2_000
"""So many labels and more take minutes to validate once."""


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """A scorer that was fitted, and where it is."""

    stored: Stored
    trained: Trained
    missing: int
    """Labels whose text (or embedding) the lake does not hold: left out."""
    inputs: tuple[TableRef, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.stored.name,
            "version": self.stored.version,
            "digest": self.stored.digest,
            "kind": self.stored.scorer.kind,
            "is_new": self.stored.is_new,
            "missing": self.missing,
            "inputs": [ref.to_dict() for ref in self.inputs],
            "facts": dict(self.stored.scorer.facts),
            "calibration": {
                "knots": self.stored.scorer.calibration.knots.tolist(),
                "values": self.stored.scorer.calibration.values.tolist(),
            },
        }


@dataclass(frozen=True, kw_only=True)
class LabeledTexts:
    """What a fit reads: one row per labeled text that the lake holds, in the order of its hash."""

    rows: pa.Table
    """text_hash, doc_id, label (the mean over annotators), group."""
    missing: int
    rubric: str
    annotators: tuple[str, ...]
    inputs: tuple[TableRef, ...]
    base: Table


def labeled_texts(
    lake: Lake,
    *,
    rubric: str | None = None,
    annotators: Sequence[str] = (),
    documents: str = DOCUMENTS,
) -> LabeledTexts:
    """Labels by one rubric, averaged over the annotators (those named, or all), with their documents.

    Raises UsageError when there are none, or of several rubrics and none is chosen.
    """
    table = open_optional(lake, LABELS)
    if table is None or not table.num_rows:
        raise UsageError("the lake has no labels", hint="headwater label import labels.csv, or label page")
    rows = table.to_arrow(["text_hash", "rubric", "annotator", "annotator_version", "score"]).to_pylist()
    for row in rows:
        version = row["annotator_version"]
        row["who"] = f"{row['annotator']}@{version}" if version else row["annotator"]
    rubrics = sorted({row["rubric"] for row in rows})
    if rubric is None and len(rubrics) > 1:
        raise UsageError(f"labels by {len(rubrics)} rubrics", hint=f"--rubric one of {', '.join(rubrics)}")
    rubric = rubric or rubrics[0]
    names = sorted({row["who"] for row in rows} | {row["annotator"] for row in rows})
    unknown = [name for name in annotators if name not in names]
    if rubric not in rubrics or unknown:
        what = f"the rubric {rubric}" if rubric not in rubrics else f"the annotator {unknown[0]}"
        known = rubrics if rubric not in rubrics else names
        raise UsageError(f"no label is by {what}", hint=f"there are {', '.join(known[:10])}")
    scores: dict[bytes, list[int]] = {}
    who = set()
    for row in rows:
        if row["rubric"] == rubric and (not annotators or {row["who"], row["annotator"]} & set(annotators)):
            scores.setdefault(row["text_hash"], []).append(row["score"])
            who.add(row["who"])
    base = lake.table(documents)
    found = find_documents(base, scores)
    hashes = sorted(found)
    clusters = open_optional(lake, CLUSTERS)
    groups = group_names(
        [found[h].source for h in hashes],
        [found[h].path for h in hashes],
        _clusters(clusters, [found[h].doc_id for h in hashes]) if clusters is not None else None,
    )
    kept = pa.table(
        {
            "text_hash": pa.array(hashes, pa.binary(16)),
            "doc_id": pa.array([found[h].doc_id for h in hashes], pa.binary(16)),
            "label": pa.array([float(np.mean(scores[h])) for h in hashes], pa.float64()),
            "group": pa.array(groups, pa.string()),
        }
    )
    inputs = [table.ref, base.ref, *([clusters.ref] if clusters is not None else [])]
    return LabeledTexts(
        rows=kept,
        missing=len(scores) - len(hashes),
        rubric=rubric,
        annotators=tuple(sorted(who)),
        inputs=tuple(inputs),
        base=base,
    )


def _clusters(table: Table, doc_ids: Sequence[bytes]) -> list[bytes | None]:
    """The cluster of near-copies of each document."""
    wanted = pa.array(sorted(set(doc_ids)), pa.binary(16))
    found: dict[bytes, bytes] = {}
    for batch in table.scan(["doc_id", "cluster_id"]):
        mine = batch.filter(pc.is_in(batch.column("doc_id"), wanted))
        found.update(zip(mine["doc_id"].to_pylist(), mine["cluster_id"].to_pylist(), strict=True))
    return [found.get(doc_id) for doc_id in doc_ids]


def fit(
    lake: Lake,
    name: str,
    *,
    kind: str = NGRAMS,
    rubric: str | None = None,
    annotators: Sequence[str] = (),
    documents: str = DOCUMENTS,
    embeddings: str = EMBEDDINGS,
    embedding_model: str | None = None,
    bits: int = BITS,
    num_folds: int = FOLDS,
    repeats: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> FitReport:
    """Fit a scorer on the lake's labels, validate and calibrate it, and store it with its training rows.

    Parameters
    ----------
    kind: ``ngrams`` or ``embedding``.
    embeddings: the table of embeddings that an ``embedding`` scorer reads.
    embedding_model: embed the labeled texts with this model instead (of ``headwater.embedding``).
    repeats: of the validation, with other folds; without it 5, and 1 for more than MANY_LABELS n-gram rows.

    Raises
    ------
    UsageError
        Too few labels, all alike, or of too few sources to hold some out.
    """
    say = progress or (lambda _: None)
    check_scorer_name(name)
    if kind not in KINDS:
        raise UsageError(f"got {kind!r} as a kind of scorer", hint=f"one of {', '.join(KINDS)}")
    if num_folds < 2 or (repeats is not None and repeats < 1):
        raise UsageError("a cross-validation has at least two folds and one repeat")
    say("labels")
    found = labeled_texts(lake, rubric=rubric, annotators=annotators, documents=documents)
    rows, missing, inputs = found.rows, found.missing, list(found.inputs)
    facts: dict[str, Any] = {
        "labels": {"rubric": found.rubric, "annotators": list(found.annotators), "num_labels": rows.num_rows,
                   "table": found.inputs[0].to_dict()},
    }  # fmt: skip
    if repeats is None:
        repeats = 1 if kind == NGRAMS and rows.num_rows > MANY_LABELS else REPEATS
    settings: dict[str, Any] = {
        "name": name,
        "num_folds": num_folds,
        "repeats": repeats,
        "seed": seed,
        "facts": facts,
    }
    if kind == NGRAMS:
        say(f"{rows.num_rows:,} texts")
        trained = train_ngrams(
            _texts(found.base, rows),
            rows["label"].to_numpy(),
            rows["group"].to_pylist(),
            bits=bits,
            **settings,
        )
    else:
        vectors, model, rows, ref = _vectors(lake, found, embeddings, embedding_model, say)
        missing += found.rows.num_rows - rows.num_rows
        facts["labels"]["num_labels"] = rows.num_rows
        inputs += [ref] if ref else []
        trained = train_embedding_head(
            vectors, rows["label"].to_numpy(), rows["group"].to_pylist(), embedding_model=model, **settings
        )
    say("writing")
    stored = save(lake, trained, rows, inputs)
    return FitReport(stored=stored, trained=trained, missing=missing, inputs=tuple(inputs))


def _texts(base: Table, rows: pa.Table) -> pa.Array:
    parts = [batch.column("text") for batch in base.with_text(rows["doc_id"])]
    return (
        pa.concat_arrays([part.cast(pa.large_string()) for part in parts])
        if parts
        else pa.array([], pa.large_string())
    )


def _vectors(
    lake: Lake, found: LabeledTexts, embeddings: str, model_name: str | None, say: Callable[[str], None]
) -> tuple[npt.NDArray[np.float32], str, pa.Table, TableRef | None]:
    """The embeddings of the labeled texts, their model's id, the rows that have one, the table's version."""
    if model_name is not None:
        from headwater.embedding import load_model

        say(f"embedding {found.rows.num_rows:,} texts")
        model = load_model(model_name)
        return model.encode(_texts(found.base, found.rows)), model.id, found.rows, None
    table = open_optional(lake, embeddings)
    if table is None:
        raise UsageError(
            f"the lake has no table {embeddings}", hint="build it, or give --embedding-model minilm"
        )
    wanted = found.rows["text_hash"].combine_chunks()
    vectors: dict[bytes, npt.NDArray[np.float32]] = {}
    models: set[str] = set()
    for batch in table.scan(["text_hash", "model", "embedding"]):
        mine = batch.filter(pc.is_in(batch.column("text_hash"), wanted))
        for key, row in zip(mine["text_hash"].to_pylist(), rows_of(mine["embedding"]), strict=True):
            vectors[key] = row
        models |= set(pc.unique(mine["model"]).to_pylist())
    if len(models) > 1:
        raise DataMismatch(
            f"{table.ref} holds embeddings of {len(models)} models",
            hint=f"there are {', '.join(sorted(models))}",
        )
    if not vectors:
        raise UsageError(
            f"{table.ref} has the embedding of no labeled text", hint="embed these documents first"
        )
    rows = found.rows.filter(pc.is_in(found.rows["text_hash"], pa.array(sorted(vectors), pa.binary(16))))
    stacked = np.stack([vectors[key] for key in rows["text_hash"].to_pylist()])
    return stacked, models.pop(), rows, table.ref


def rows_of(column: pa.Array) -> npt.NDArray[np.float32]:
    """A column of vectors of one length as (rows, dimensions)."""
    size = column.type.list_size
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float32).reshape(-1, size)


__all__ = ["EMBEDDING", "NGRAMS", "FitReport", "LabeledTexts", "fit", "labeled_texts", "rows_of"]
