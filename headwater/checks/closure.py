"""The exact upstream tables that a version was built from, as its provenance records them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headwater.errors import LakeError, UnknownName

if TYPE_CHECKING:
    from headwater.lake import Lake, Table, TableRef


def closure(lake: Lake, table: Table) -> list[TableRef]:
    """Return every table version that ``table`` was built from, inputs before what uses them.

    Follows ``provenance.inputs`` transitively; ``table`` itself is not in the list. An incremental
    version also names its own former version, which is not followed: by contract the same table comes
    out of a full build from its other inputs. An input whose version is gone from the lake is listed
    all the same (it is part of the record), but what it was built from cannot be known any more. The
    order is deterministic.
    """
    found: dict[tuple[str, int], TableRef] = {}
    _collect(lake, table, found, visiting=set())
    return list(found.values())


def _collect(
    lake: Lake,
    table: Table,
    found: dict[tuple[str, int], TableRef],
    visiting: set[tuple[str, int]],
) -> None:
    for ref in sorted(table.provenance.inputs, key=lambda r: (r.name, r.version)):
        key = (ref.name, ref.version)
        if ref.name == table.name or key in found or key in visiting:
            continue
        visiting.add(key)  # a damaged record must not loop for ever
        upstream = open_version(lake, ref)
        if upstream is not None:
            _collect(lake, upstream, found, visiting)
        found[key] = ref


def open_version(lake: Lake, ref: TableRef) -> Table | None:
    """Open exactly the version that ``ref`` names, or ``None`` when the lake no longer has it."""
    try:
        return lake.table(ref.name, version=ref.version)
    except (UnknownName, LakeError):
        return None
