"""Scorers in the lake: ``raw.scorers`` has a row per version, ``raw.scorer_rows`` what they learned from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.lake import Lake, Provenance, Table, TableRef
from headwater.lineage import open_optional
from headwater.report.narrow import literal
from headwater.scoring.artifact import Scorer, digest_of, parse
from headwater.scoring.training import Trained

SCORERS, ROWS = "raw.scorers", "raw.scorer_rows"

SCORER_ROWS = pa.schema(
    {
        "name": pa.string(),
        "version": pa.int32(),
        "digest": pa.string(),
        "kind": pa.string(),
        "embedding_model": pa.string(),
        "num_labels": pa.int32(),
        "rank_correlation": pa.float64(),
        "facts": pa.string(),
        "artifact": pa.large_binary(),
        "fitted_at": pa.timestamp("us"),
    }
)
"""``artifact`` is the scorer's file; ``facts`` (JSON) its labels, settings and whole quality, which the file
holds too. ``digest`` names both."""

TRAINING_ROWS = pa.schema(
    {
        "name": pa.string(),
        "version": pa.int32(),
        "text_hash": pa.binary(16),
        "doc_id": pa.binary(16),
        "label": pa.float64(),
        "group": pa.string(),
        "fold": pa.int32(),
        "out_of_fold": pa.float64(),
        "calibrated": pa.float64(),
    }
)
"""``out_of_fold``: the raw score by a model that did not see the row's group, in the first repeat."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A version of a scorer in the lake."""

    name: str
    version: int
    scorer: Scorer
    digest: str
    is_new: bool = True


def save(lake: Lake, trained: Trained, rows: pa.Table | None, inputs: Sequence[TableRef]) -> Stored:
    """Append a version of the scorer, and the rows it was fitted on; an equal one is not written again.

    ``rows``: ``text_hash``, ``doc_id``, ``label`` and ``group``, in the order of training. The rows are
    written first: a version that is there has all of them.
    """
    content = trained.scorer.to_bytes()
    name, digest = trained.scorer.name, digest_of(content)
    version, known = _last(lake, name)
    if known == digest:
        return Stored(name=name, version=version, scorer=trained.scorer, digest=digest, is_new=False)
    version += 1
    provenance = Provenance(kind="scorer", inputs=tuple(sorted(inputs, key=lambda ref: ref.name)))
    if rows is not None:
        columns = {
            "name": pa.array([name] * rows.num_rows),
            "version": pa.array([version] * rows.num_rows, pa.int32()),
            **{n: rows[n] for n in ("text_hash", "doc_id", "label", "group")},
            "fold": pa.array(trained.fold, pa.int32()),
            "out_of_fold": pa.array(trained.out_of_fold),
            "calibrated": pa.array(trained.calibrated),
        }
        lake.write(ROWS, pa.table(columns).cast(TRAINING_ROWS), mode="append", provenance=provenance)
    _append(lake, trained.scorer, content, version, trained.quality.num_labels, provenance)
    return Stored(name=name, version=version, scorer=trained.scorer, digest=digest)


def save_file(lake: Lake, scorer: Scorer, content: bytes) -> Stored:
    """Append a scorer that another lake exported; its training rows stay where they are."""
    version, known = _last(lake, scorer.name)
    digest = digest_of(content)
    if known == digest:
        return Stored(name=scorer.name, version=version, scorer=scorer, digest=digest, is_new=False)
    quality = scorer.facts.get("quality")
    labels = int(quality.get("num_labels", 0)) if isinstance(quality, dict) else 0
    _append(lake, scorer, content, version + 1, labels, Provenance(kind="scorer", extra={"imported": digest}))
    return Stored(name=scorer.name, version=version + 1, scorer=scorer, digest=digest)


def _append(
    lake: Lake, scorer: Scorer, content: bytes, version: int, num_labels: int, provenance: Provenance
) -> None:
    quality = scorer.facts.get("quality")
    row = {
        "name": scorer.name,
        "version": version,
        "digest": digest_of(content),
        "kind": scorer.kind,
        "embedding_model": scorer.embedding_model,
        "num_labels": num_labels,
        "rank_correlation": float(quality["rank_correlation"]) if isinstance(quality, dict) else None,
        "facts": json.dumps(dict(scorer.facts), sort_keys=True),
        "artifact": content,
        "fitted_at": datetime.now(UTC).replace(tzinfo=None),
    }
    lake.write(SCORERS, pa.Table.from_pylist([row], schema=SCORER_ROWS), mode="append", provenance=provenance)


def _last(lake: Lake, name: str) -> tuple[int, str]:
    table = open_optional(lake, SCORERS)
    found = _rows(table, name, ["name", "version", "digest"]) if table is not None else []
    return (found[-1]["version"], found[-1]["digest"]) if found else (0, "")


def _rows(table: Table, name: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Versions of a scorer, oldest first."""
    found: list[dict[str, Any]] = table.to_arrow(list(columns), filter=f"name = {literal(name)}").to_pylist()
    return sorted(found, key=lambda row: row["version"])


def scorers(lake: Lake) -> list[dict[str, Any]]:
    """Every version of every scorer, without its weights."""
    table = open_optional(lake, SCORERS)
    if table is None:
        return []
    rows = table.to_arrow([n for n in SCORER_ROWS.names if n != "artifact"]).to_pylist()
    return sorted(
        ({**row, "facts": json.loads(row["facts"])} for row in rows),
        key=lambda row: (row["name"], row["version"]),
    )


def load(lake: Lake, name: str) -> Stored:
    """The newest version of a scorer, or the one that ``name@version`` says."""
    bare, at, wanted = name.partition("@")
    table = open_optional(lake, SCORERS)
    if at and not wanted.isdigit():
        raise UsageError(f"{name!r} names no version of a scorer", hint="name@3")
    return load_from(table, bare, int(wanted) if at else None, lake.uri)


def load_from(table: Table | None, name: str, version: int | None = None, where: str = "") -> Stored:
    """The same from an opened ``raw.scorers``."""
    rows = _rows(table, name, ["name", "version", "digest", "artifact"]) if table is not None else []
    if not rows:
        known = table.to_arrow(["name"])["name"].to_pylist() if table is not None else []
        raise UnknownName.of("scorer", name, known, where=where)
    found = (
        next((row for row in rows if row["version"] == version), None) if version is not None else rows[-1]
    )
    if found is None:
        raise UnknownName.of("version", version, [row["version"] for row in rows], where=f"scorer {name}")
    if digest_of(found["artifact"]) != found["digest"]:
        raise DataMismatch(
            f"the scorer {name}@{found['version']} in the lake is not the one that was written",
            hint="fit it again",
        )
    scorer = parse(found["artifact"], f"{SCORERS}, {name}@{found['version']}")
    return Stored(name=name, version=found["version"], scorer=scorer, digest=found["digest"], is_new=False)
