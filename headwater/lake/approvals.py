"""Reading approvals: which version of a table may be trained on (contract C4).

The record is the ``approvals`` table of a schema: rows that approve and rows that revoke, only ever
appended. An approval binds to a content digest. Writing it is :mod:`headwater.approve`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.errors import DataMismatch, NotApproved
from headwater.lake.names import RAW_SCHEMA
from headwater.lake.provenance import TableRef

if TYPE_CHECKING:
    from headwater.lake.lake import Lake

APPROVALS_SCHEMA = pa.schema(
    {
        "approval_id": pa.string(),
        "action": pa.string(),
        "table": pa.string(),
        "version": pa.int64(),
        "content_digest": pa.string(),
        "closure": pa.string(),
        "suites": pa.string(),
        "dbt_tests": pa.string(),
        "revokes": pa.string(),
        "who": pa.string(),
        "why": pa.string(),
        "at": pa.timestamp("us", tz="UTC"),
    }
)
"""Columns of ``<schema>.approvals``; ``closure``, ``suites`` and ``dbt_tests`` hold JSON lists.
``dbt_tests`` is null when they were left out, ``revokes`` is null for an approval."""


@dataclass(frozen=True, kw_only=True)
class Approval:
    """One approval as recorded.

    ``closure`` lists what the version was built from, ``suites`` the suites that held (name, digest,
    number of expectations), ``dbt_tests`` the tests that passed (``None`` when they were left out),
    ``record`` the table it stands in.
    """

    approval_id: str
    table: TableRef
    closure: tuple[TableRef, ...] = ()
    suites: tuple[dict[str, Any], ...] = ()
    dbt_tests: tuple[dict[str, Any], ...] | None = None
    who: str
    why: str
    at: datetime
    record: str = field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            "approval_id": self.approval_id,
            **self.table.to_dict(),
            "closure": [ref.to_dict() for ref in self.closure],
            "suites": list(self.suites),
            "dbt_tests": None if self.dbt_tests is None else list(self.dbt_tests),
            "who": self.who,
            "why": self.why,
            "at": self.at.isoformat(),
        }

    def to_json(self) -> str:
        """The record as JSON text; ``to_dict`` gives the object."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)


def record_tables(lake: Lake, name: str) -> list[str]:
    """Where approvals of the qualified table ``name`` may stand, the place for new ones first.

    Beside the table, so that ``dev`` never approves for ``prod``; what ingest wrote belongs to no
    target and is approved per target.
    """
    schema = name.partition(".")[0]
    if schema != RAW_SCHEMA:
        return [f"{schema}.approvals"]
    return [f"{target}.approvals" for target in dict.fromkeys((lake.schema, lake.defer)) if target]


def standing(lake: Lake, records: Iterable[str]) -> list[Approval]:
    """Every approval of the given record tables that no later row revokes, oldest first."""
    found: list[tuple[datetime, int, Approval]] = []
    for record in records:
        if not lake.exists(record):
            continue
        rows = lake.table(record).to_arrow().to_pylist()
        revoked = {row["revokes"] for row in rows if row["action"] == "revoke"}
        for position, row in enumerate(rows):
            if row["action"] == "approve" and row["approval_id"] not in revoked:
                found.append((row["at"], position, _approval(row, record)))
    return [approval for *_, approval in sorted(found, key=lambda entry: entry[:2])]


def _approval(row: dict[str, Any], record: str) -> Approval:
    return Approval(
        approval_id=row["approval_id"],
        table=TableRef(name=row["table"], version=row["version"], digest=row["content_digest"]),
        closure=tuple(TableRef.from_dict(ref) for ref in json.loads(row["closure"] or "[]")),
        suites=tuple(json.loads(row["suites"] or "[]")),
        dbt_tests=None if row["dbt_tests"] is None else tuple(json.loads(row["dbt_tests"])),
        who=row["who"],
        why=row["why"],
        at=row["at"],
        record=record,
    )


def standing_approval(lake: Lake, table: str, version: int | None = None) -> Approval | None:
    """The latest approval of ``table`` (of this ``version`` of it) that was not revoked, or ``None``.

    A version that only maintenance made, with the content of an approved one, counts as approved.

    Raises
    ------
    DataMismatch
        The approved version does not hold what was approved.
    UnknownName
        No such table or version.
    """
    name = lake.table(table).name
    approvals = [a for a in standing(lake, record_tables(lake, name)) if a.table.name == name]
    if version is not None:
        digest = lake.table(name, version=version).digest
        exact = [a for a in approvals if a.table.version == version]
        approvals = exact or [a for a in approvals if a.table.digest == digest]
    if not approvals:
        return None
    approval = approvals[-1]
    _verify(lake, approval)
    return approval


def _verify(lake: Lake, approval: Approval) -> None:
    found = lake.table(approval.table.name, version=approval.table.version)
    if found.digest != approval.table.digest:
        raise DataMismatch(
            f"{approval.table} was approved with digest {approval.table.digest}, "
            f"but the lake holds {found.digest}",
            hint="the table was dropped and made anew, or changed by another program; approve it again",
        )


def approval_of_content(lake: Lake, ref: TableRef) -> Approval | None:
    """The latest standing approval of exactly the content of ``ref``, whatever its version number."""
    approvals = standing(lake, record_tables(lake, ref.name))
    same = [a for a in approvals if a.table.name == ref.name and a.table.digest == ref.digest]
    return same[-1] if same else None


def approved_ref(lake: Lake, table: str) -> TableRef:
    """The version that ``lake.table(table, version="approved")`` opens.

    Raises ``NotApproved`` when no approval stands, ``DataMismatch`` when its content is another.
    """
    approval = standing_approval(lake, table)
    if approval is None:
        found = lake.table(table)
        raise NotApproved(
            f"{found.name} has no standing approval (its latest version is {found.version})",
            hint=f"headwater check {table}, then headwater approve {table} --why '…'",
        )
    return approval.table
