"""Lineage at table level: which exact versions a version was made from, and what was made from it.

A version's inputs are part of its own properties (the lake's first contract), so going up is reading
properties; going down reads the ``versions`` view, which is rebuilt from the same properties.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater.errors import UnknownName, UsageError
from headwater.lake.names import read_version

if TYPE_CHECKING:
    from headwater.lake import Lake, Table, TableRef
    from headwater.lake.approvals import Approval


def open_ref(lake: Lake, text: str) -> Table:
    """Open what a person wrote: ``table``, ``schema.table`` or ``schema:table``, with ``@version`` or not.

    The version is a number, a tag or ``approved``. Raises ``UnknownName`` for what is not there.
    """
    name, at, wanted = text.strip().partition("@")
    name = name.replace(":", ".", 1)
    if not name or (at and not wanted):
        raise UsageError(f"{text!r} does not name a table", hint="write table, schema.table or table@version")
    return lake.table(name, version=read_version(wanted) if at else None)


def open_optional(lake: Lake, name: str) -> Table | None:
    """The table at its latest version, or ``None`` where the lake has none of that name."""
    try:
        return lake.table(name)
    except UnknownName:
        return None


@dataclass(frozen=True, kw_only=True)
class Node:
    """A table version in a lineage tree."""

    ref: TableRef
    kind: str
    num_rows: int | None
    build_id: str
    fingerprint: str
    inputs: tuple[Node, ...] = ()
    note: str = ""
    """Why nothing more is shown: the version is no longer stored, or it stands above already."""

    def to_json(self) -> dict[str, Any]:
        """The tree as plain data."""
        return {
            **self.ref.to_dict(),
            "kind": self.kind,
            "num_rows": self.num_rows,
            "build_id": self.build_id,
            "fingerprint": self.fingerprint,
            "note": self.note,
            "inputs": [node.to_json() for node in self.inputs],
        }


def tree(lake: Lake, table: str | Table) -> Node:
    """The version's inputs, their inputs, and so on; a version met before is shown once in full."""
    top = open_ref(lake, table) if isinstance(table, str) else table
    return _node(lake, top.ref, top, set())


def upstream(lake: Lake, ref: TableRef) -> list[TableRef]:
    """Every version that ``ref`` was made from, directly or not, inputs before what uses them."""
    from headwater.checks.closure import closure

    table = _open_exact(lake, ref)
    return closure(lake, table) if table is not None else []


def downstream(lake: Lake, ref: TableRef) -> list[TableRef]:
    """Every version that was made from ``ref``, directly or not, nearest first, each once."""
    from headwater.lake import TableRef

    children: dict[tuple[str, int], list[TableRef]] = {}
    columns = ["table", "version", "digest", "inputs"]
    for row in lake.versions().select(columns).to_pylist():
        child = TableRef(name=row["table"], version=row["version"], digest=row["digest"])
        for parent in json.loads(row["inputs"] or "[]"):
            children.setdefault((parent["table"], int(parent["version"])), []).append(child)
    found: dict[tuple[str, int], TableRef] = {}
    todo = [ref]
    while todo:
        at = todo.pop(0)
        for child in children.get((at.name, at.version), []):
            if (child.name, child.version) not in found:
                found[child.name, child.version] = child
                todo.append(child)
    return list(found.values())


def approvals_of(lake: Lake, table: Table) -> list[Approval]:
    """The standing approvals of exactly this content, for it or for a table made from it, oldest first."""
    from headwater.lake.approvals import record_tables, standing

    own = (table.name, table.digest)
    return [
        approval
        for approval in standing(lake, record_tables(lake, table.name))
        if own in {(ref.name, ref.digest) for ref in (approval.table, *approval.closure)}
    ]


def _node(lake: Lake, ref: TableRef, table: Table | None, seen: set[tuple[str, int]]) -> Node:
    if table is None:
        return Node(ref=ref, kind="?", num_rows=None, build_id="", fingerprint="", note="no longer stored")
    own = table.provenance
    parents, note = own.inputs, ""
    if own.inputs and (ref.name, ref.version) in seen:
        parents, note = (), "shown above"
    seen.add((ref.name, ref.version))
    # An incremental version names its own former version among its inputs: a chain as long as its life.
    earlier = [parent for parent in parents if parent.name == ref.name]
    if earlier:
        note = f"added to version {earlier[0].version}"
    return Node(
        ref=ref,
        kind=own.kind,
        num_rows=table.num_rows,
        build_id=own.build_id or "",
        fingerprint=own.fingerprint,
        inputs=tuple(
            _node(lake, parent, _open_exact(lake, parent), seen)
            for parent in parents
            if parent not in earlier
        ),
        note=note,
    )


def _open_exact(lake: Lake, ref: TableRef) -> Table | None:
    """The version itself, or ``None`` when clean-up has removed it: the record of it is still an answer."""
    from headwater.checks.closure import open_version

    return open_version(lake, ref) if ref.version else None
