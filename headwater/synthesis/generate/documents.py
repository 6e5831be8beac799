"""From completions to documents: answered prompts become rows of a table of generated texts.

The table only grows. A run adds what is not there yet, by ``doc_id``; no refresh, other generator or other
prompts takes a row away (accumulate, never replace). What is good enough is for a curated model to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.dedup.ids import ids_from_arrow, sorted_distinct
from headwater.errors import BadInput
from headwater.kernels.pairs import find_ids
from headwater.lake import Provenance, TableVersion
from headwater.lake.table import in_list
from headwater.lineage import open_optional
from headwater.synthesis.generate.completions import TABLE
from headwater.synthesis.provenance import SYNTHETIC_DOCUMENTS, SYNTHETIC_FIELDS, synthetic_rows

if TYPE_CHECKING:
    from headwater.lake import Lake, Table
    from headwater.synthesis.generate.prompts import Request

LOOKUP_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Added:
    """What a table of generated documents has gained."""

    table: str
    version: int
    documents: int
    new: int


class Wanted:
    """The prompts of a run, by completion: what their documents will say beside the text. Held as Arrow."""

    SCHEMA = pa.schema(
        {
            "completion_id": pa.binary(16),
            "prompt_id": pa.string(),
            "recipe": pa.string(),
            "parent_ids": pa.list_(pa.binary(16)),
            "generation": pa.int32(),
            "metadata": pa.string(),
        }
    )

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._rows: list[dict[str, Any]] = []

    def add(self, completion_id: bytes, request: Request) -> None:
        """Note a prompt."""
        self._rows.append(
            {
                "completion_id": completion_id,
                "prompt_id": request.prompt.prompt_id,
                "recipe": request.recipe,
                "parent_ids": list(request.parent_ids),
                "generation": request.generation,
                "metadata": json.dumps(request.metadata, ensure_ascii=False, sort_keys=True),
            }
        )
        if len(self._rows) >= 8 * LOOKUP_ROWS:
            self._close_batch()

    def parts(self) -> Iterator[list[dict[str, Any]]]:
        """All of them, some hundred at a time."""
        self._close_batch()
        for batch in self._batches:
            for start in range(0, batch.num_rows, LOOKUP_ROWS):
                yield batch.slice(start, LOOKUP_ROWS).to_pylist()

    def _close_batch(self) -> None:
        if self._rows:
            self._batches.append(pa.RecordBatch.from_pylist(self._rows, schema=self.SCHEMA))
            self._rows = []


def add_documents(
    lake: Lake,
    wanted: Wanted,
    to: str,
    *,
    inputs: tuple[Table, ...] = (),
    license_declared: str | None = None,
    extra: dict[str, Any] | None = None,
) -> Added | None:
    """Append the answers of these prompts that ``to`` does not hold yet; None when there is none at all.

    ``source`` is the recipe, ``path`` the prompt's id, ``metadata`` the prompt's own with the finish reason
    and the number of tokens, for rules to look at.
    """
    completions = open_optional(lake, f"{lake.schema}.{TABLE}")
    if completions is None:
        return None
    current = open_optional(lake, to)
    if current is not None:
        lacking = [name for name in SYNTHETIC_DOCUMENTS.names if name not in current.schema.names]
        if lacking == SYNTHETIC_FIELDS.names:  # a table of real documents, which generated ones may join
            current = lake.widen(to, SYNTHETIC_FIELDS)
        elif lacking:
            raise BadInput(
                f"{current.ref} cannot take generated documents: it has no {', '.join(lacking)}",
                hint="name another table: --to raw.generated_documents is made when it is missing",
            )
    rows = _New(completions, wanted, current, license_declared)
    if rows.first is None:
        return (
            None
            if current is None
            else Added(table=to, version=current.version, documents=current.num_rows, new=0)
        )
    provenance = Provenance(
        kind="generate",
        inputs=tuple(table.ref for table in (*inputs, completions)),
        extra=extra or {},
    )
    schema = SYNTHETIC_DOCUMENTS if current is None else current.schema
    version: TableVersion = lake.write(
        to, rows.batches(schema), mode="append", provenance=provenance, schema=schema
    )
    lake.index(to, "doc_id")
    return Added(
        table=version.name, version=lake.table(to).version, documents=version.num_rows, new=rows.num_rows
    )


class _New:
    """Rows that are not in the table yet; the first of them is made at once, to see whether there is any."""

    def __init__(
        self, completions: Table, wanted: Wanted, current: Table | None, license_declared: str | None
    ) -> None:
        self._completions = completions
        self._there = (
            sorted_distinct(ids_from_arrow(current.to_arrow(["doc_id"])["doc_id"]))
            if current is not None
            else None
        )
        self._license = license_declared
        self._made: set[bytes] = set()
        self.num_rows = 0
        self._parts = (self._rows(part) for part in wanted.parts())
        self._rest = (part for part in self._parts if part is not None)
        self.first: pa.Table | None = next(self._rest, None)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        part = self.first
        while part is not None:
            self.num_rows += part.num_rows
            yield from _shaped(part, schema).to_batches()
            part = next(self._rest, None)

    def _rows(self, part: list[dict[str, Any]]) -> pa.Table | None:
        asked = {row["completion_id"]: row for row in part}
        columns = [
            "completion_id", "text", "error", "generator", "generator_version", "parameters", "finish_reason",
            "prompt_tokens", "completion_tokens",
        ]  # fmt: skip
        condition = in_list("completion_id", pa.array(sorted(asked), pa.binary(16)))
        answers: dict[bytes, dict[str, Any]] = {}
        for row in self._completions.to_arrow(columns, filter=condition).to_pylist():
            if row["error"] is None:
                answers.setdefault(row["completion_id"], row)
        found = [(row, answers[key]) for key, row in asked.items() if key in answers]
        if not found:
            return None
        made = synthetic_rows(
            [answer["text"] for _, answer in found],
            source=[row["recipe"] for row, _ in found],
            generator=[answer["generator"] for _, answer in found],
            generator_version=[answer["generator_version"] for _, answer in found],
            prompt_ids=[row["prompt_id"] for row, _ in found],
            parent_ids=[row["parent_ids"] for row, _ in found],
            generations=[row["generation"] + 1 for row, _ in found],
            parameters=[answer["parameters"] for _, answer in found],
            license_declared=self._license,
            metadata=[_metadata(row, answer) for row, answer in found],
        )
        fresh = self._fresh(made["doc_id"].combine_chunks())
        made = made.filter(pa.array(fresh))
        return made if made.num_rows else None

    def _fresh(self, ids: pa.Array) -> list[bool]:
        there = (
            find_ids(self._there, ids_from_arrow(ids)) >= 0 if self._there is not None else [False] * len(ids)
        )
        fresh = []
        for doc_id, known in zip(ids.to_pylist(), there, strict=True):
            fresh.append(not known and doc_id not in self._made)
            self._made.add(doc_id)
        return fresh


def _metadata(row: dict[str, Any], answer: dict[str, Any]) -> str:
    own = {name: answer[name] for name in ("finish_reason", "prompt_tokens", "completion_tokens")}
    return json.dumps({**json.loads(row["metadata"]), **own}, ensure_ascii=False, sort_keys=True)


def _shaped(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """In the columns of a table that may have more than generated documents bring."""
    columns = [
        part[field.name].cast(field.type)
        if field.name in part.schema.names
        else pa.nulls(part.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
