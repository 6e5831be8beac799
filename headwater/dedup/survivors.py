"""Who may not be evicted: documents of an approved version, and documents that a training run has read.

``best_of`` puts them first in their cluster (``sticky``), so that a better copy among new documents does not
replace what was approved or trained on. SQL sees them as the view ``survivors_so_far`` (``"table"``, doc_id),
which reads the recorded versions when it is asked, and is empty where nothing was approved or trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.ids import ids_from_arrow, sorted_distinct
from headwater.errors import HeadwaterError, LakeError, UnknownName
from headwater.kernels.pairs import find_ids
from headwater.lake import Lake, Table
from headwater.lake.approvals import standing
from headwater.lake.names import RAW_SCHEMA
from headwater.sql import run

VIEW = "survivors_so_far"
IS_SURVIVOR = "_hw_survived"
"""The SQL macro by which ``best_of`` asks; a model whose SQL holds it depends on the survivors."""

MACRO = (
    f"{IS_SURVIVOR}(model, id) as "
    f'id in (select survivor.doc_id from {VIEW} survivor where survivor."table" = model)'
)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Documents that stay: those of ``table`` with a ``sequence_index`` below ``before``, or all of them."""

    why: str
    """``approved`` or ``trained``."""
    table: Table
    before: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"why": self.why, **self.table.ref.to_dict(), "before_sequence": self.before}

    def covers(self, recorded: Mapping[str, Any]) -> bool:
        """True when these are the recorded documents, or more of the same (a run that went on)."""
        mine = self.to_dict()
        before = recorded.get("before_sequence")
        if self.before is not None and before is not None and before <= self.before:
            mine["before_sequence"] = before
        return mine == dict(recorded)

    def ids(self) -> Iterator[pa.Array]:
        columns = ["doc_id"] if self.before is None else ["doc_id", "sequence_index"]
        for batch in self.table.scan(columns):
            if self.before is None:
                yield batch["doc_id"]
            else:
                yield batch["doc_id"].filter(pc.less(batch["sequence_index"], self.before))


@dataclass
class Survivors:
    """What stays, by the bare name of the curated table."""

    kept: dict[str, list[Kept]] = field(default_factory=dict)
    failures: dict[str, HeadwaterError] = field(default_factory=dict)
    """Tables whose record cannot be read any more; a model that asks for them fails."""

    @classmethod
    def of(cls, lake: Lake) -> Survivors:
        """Read approvals and runs of the lake's schema; for tables without any, of the one it defers to."""
        found = cls()
        for schema in dict.fromkeys(s for s in (lake.schema, lake.defer) if s):
            own = cls()
            own._add_approved(lake, schema)
            own._add_trained(lake, schema)
            for name in own.kept.keys() | own.failures.keys():
                if name not in found.kept and name not in found.failures:
                    found.kept[name] = own.kept.get(name, [])
                    if name in own.failures:
                        found.failures[name] = own.failures[name]
        return found

    def record(self, name: str) -> list[dict[str, Any]]:
        """The exact versions that a build of the table ``name`` takes its survivors from.

        Raises LakeError where one of them is gone.
        """
        if name in self.failures:
            raise LakeError(
                f"the survivors of {name} cannot be read: {self.failures[name]}",
                hint="revoke the approval that names the missing version, or use best_of(…, sticky=false)",
            )
        return [kept.to_dict() for kept in self.kept.get(name, [])]

    def settled(self, name: str, table: Table, recorded: Sequence[Mapping[str, Any]]) -> bool:
        """True when ``table``, built with the ``recorded`` survivors, is what today's would give as well.

        That is so when they are the same; and when all of today's are in the table, and either it is itself
        what was approved since, or nobody that it was built with has lost the claim (by a revoked approval).
        """
        now = self.kept.get(name, [])
        if [kept.to_dict() for kept in now] == list(recorded):
            return True
        is_itself = any(kept.before is None and kept.table.digest == table.digest for kept in now)
        return (is_itself or all(any(k.covers(r) for k in now) for r in recorded)) and self._all_in(
            name, table
        )

    def _all_in(self, name: str, table: Table) -> bool:
        """True when every survivor is among the documents of ``table``: none of them was evicted."""
        others = [
            k for k in self.kept.get(name, []) if k.before is not None or k.table.digest != table.digest
        ]
        if not others:
            return True
        held = [ids_from_arrow(batch["doc_id"]) for batch in table.scan(["doc_id"])]
        ids = sorted_distinct(np.concatenate(held)) if held else np.empty((0, 2), dtype=np.uint64)
        return all(bool((find_ids(ids, ids_from_arrow(part)) >= 0).all()) for k in others for part in k.ids())

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the recorded versions scannable on a cursor."""
        for name, _, source in self._scans():
            con.register(name, source.table.dataset)

    def create_view(self, con: duckdb.DuckDBPyConnection) -> None:
        """Create the view and the macro over it, once per database (after :meth:`register`)."""
        parts = ['select null::varchar as "table", null::uuid as doc_id where false']
        for name, model, source in self._scans():
            below = "" if source.before is None else f" where sequence_index < {source.before}"
            parts.append(f"select '{model}' as \"table\", doc_id::uuid as doc_id from {name}{below}")
        run(con, f"create or replace view {VIEW} as {' union all '.join(parts)}")
        run(con, f"create or replace macro {MACRO}")

    def _scans(self) -> Iterator[tuple[str, str, Kept]]:
        """(registered name, curated table, source)."""
        for model, sources in self.kept.items():
            for number, source in enumerate(sources):
                yield f"_survivors__{model}__{number}", model, source

    def _add_approved(self, lake: Lake, schema: str) -> None:
        latest = {a.table.name: a for a in standing(lake, [f"{schema}.approvals"])}
        for name, approval in latest.items():
            if name.partition(".")[0] == RAW_SCHEMA:
                continue
            short = name.rpartition(".")[2]
            try:
                table = lake.table(name, version=approval.table.version)
            except (UnknownName, LakeError) as error:
                self.failures[short] = error
                continue
            if table.digest != approval.table.digest:
                self.failures[short] = LakeError(f"{table.ref} is not what was approved")
            elif "doc_id" in table.schema.names:
                self.kept.setdefault(short, []).append(Kept(why="approved", table=table))

    def _add_trained(self, lake: Lake, schema: str) -> None:
        for row in _consumed(lake, schema):
            try:
                sequences = lake.table(row["table"], version=row["version"])
            except (UnknownName, LakeError):
                continue  # what that run read is gone, and with it the way to its documents
            packed = sequences.provenance.extra.get("packed_table")
            exposures = _exposures_of(lake, sequences)
            if sequences.digest != row["digest"] or not packed or exposures is None:
                continue
            short = str(packed["table"]).rpartition(".")[2]
            kept = Kept(why="trained", table=exposures, before=int(row["consumed"]))
            self.kept.setdefault(short, []).append(kept)


def _consumed(lake: Lake, schema: str) -> list[dict[str, Any]]:
    """(table, version, digest, consumed) of every version that runs have read, ordered."""
    if not (lake.exists(f"{schema}.training_runs") and lake.exists(f"{schema}.training_steps")):
        return []
    con = duckdb.connect(":memory:")
    try:
        con.register("runs", lake.table(f"{schema}.training_runs").to_arrow())
        con.register("steps", lake.table(f"{schema}.training_steps").to_arrow())
        rows = con.sql(
            """select r."table", r.version, r.digest, max(first_sequence + count) as consumed
            from steps s join (select distinct run_id, "table", version, digest from runs) r using (run_id)
            group by all order by all"""
        ).to_arrow_table()
    finally:
        con.close()
    return list(rows.to_pylist())


def _exposures_of(lake: Lake, sequences: Table) -> Table | None:
    """The version of ``exposures`` that was derived from these sequences."""
    name = f"{sequences.name.rpartition('.')[0]}.exposures"
    if not lake.exists(name):
        return None
    wanted = (sequences.name, sequences.digest)
    for row in reversed(lake.versions(name).select(["version", "inputs"]).to_pylist()):
        if wanted in {(ref["table"], ref["digest"]) for ref in json.loads(row["inputs"])}:
            return lake.table(name, version=row["version"])
    return None
