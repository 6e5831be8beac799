"""Where a synthetic document comes from, back to real ones, and what was made from a document.

Documents stand in every table that holds text: ``raw.documents``, and the tables that a generation wrote.
A document that another table holds with a changed text (redacted, cleaned) is the same document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import LakeError, UnknownName
from headwater.lake import RAW_SCHEMA
from headwater.lake.synthetic import SYNTHETIC, SYNTHETIC_FIELDS
from headwater.lake.table import LOOKUP_ROWS, in_list
from headwater.lineage import open_optional
from headwater.report.narrow import literal

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

MAX_ANCESTORS = 1_000
"""Ancestors that a story holds; the others are counted."""
MAX_DEPTH = 64
"""Levels that are followed: a recursion of generators that is deeper is a mistake, or an attack."""
MAX_LISTED = 100
"""Descendants named one by one; the counts are of all."""

_SHOWN = ("source", "path", "origin", "license_declared", *SYNTHETIC_FIELDS.names)
MAX_TEXT = 300


@dataclass(frozen=True, kw_only=True)
class Relative:
    """One document of an ancestry."""

    doc_id: str
    depth: int
    """Steps from the document that was asked about: 1 is a parent."""
    table: str | None
    """Where it stands; ``None`` when no table of the lake holds it."""
    source: str | None = None
    path: str | None = None
    origin: str | None = None
    license: str | None = None
    """The concluded license with its tier, where there is one; else the declared one."""
    generation: int | None = None
    generator: str | None = None
    generator_version: str | None = None
    prompt_id: str | None = None
    parameters: Any = None
    verifier: str | None = None
    reward: float | None = None
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Descendants:
    """What was made from a set of documents, directly or not."""

    count: int
    by_depth: dict[int, int]
    """Steps from the documents -> how many there are."""
    by_table: dict[str, int]
    listed: tuple[dict[str, Any], ...]
    """``doc_id``, ``table``, ``depth`` and ``generator``, the nearest first; at most ``MAX_LISTED``."""
    ids: pa.Array
    """All of them (binary(16))."""

    def to_json(self) -> dict[str, Any]:
        """Everything but the ids, of which the first are listed."""
        return {
            "count": self.count,
            "by_depth": {str(depth): number for depth, number in self.by_depth.items()},
            "by_table": self.by_table,
            "listed": list(self.listed),
        }


@dataclass(frozen=True, kw_only=True)
class Ancestry:
    """A document's own provenance, and everything it comes from."""

    document: Relative
    ancestors: tuple[Relative, ...]
    """Each once, at its least depth; the nearest first."""
    left_out: int
    """Ancestors beyond ``MAX_ANCESTORS`` or ``MAX_DEPTH`` that are named but not followed."""
    cycle: bool
    """Some document is among its own ancestors: the provenance is wrong."""
    prompt: dict[str, Any] | None = None
    """The row of a table of prompts with its prompt_id: ``table``, ``prompt`` and ``recipe``; cut short."""

    @property
    def depth(self) -> int:
        """Steps to the farthest ancestor."""
        return max((one.depth for one in self.ancestors), default=0)

    @property
    def licenses(self) -> dict[str, int]:
        """License -> real ancestors under it; ``unknown`` where none is known."""
        found: dict[str, int] = {}
        for one in self.ancestors:
            if one.table is not None and one.origin != SYNTHETIC:
                name = one.license or "unknown"
                found[name] = found.get(name, 0) + 1
        return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            **{k: v for k, v in asdict(self.document).items() if k != "depth"},
            "prompt": self.prompt,
            "depth": self.depth,
            "licenses_of_real_ancestors": self.licenses,
            "ancestors": [asdict(one) for one in self.ancestors],
            "left_out": self.left_out,
            "cycle": self.cycle,
        }


def document_tables(lake: Lake) -> list[Table]:
    """Every table of the lake that holds documents with their text, ``raw.documents`` first."""
    schemas = dict.fromkeys(s for s in (RAW_SCHEMA, lake.schema, lake.defer) if s)
    found = []
    for schema in schemas:
        for name in lake.tables(schema):
            try:
                table = open_optional(lake, f"{schema}.{name}")
            except LakeError:
                continue  # made by another program, or killed half-way
            if table is not None and table.has_text and "doc_id" in table.schema.names:
                found.append(table)
    return sorted(found, key=lambda table: (table.name != f"{RAW_SCHEMA}.documents", table.name))


def ancestry(lake: Lake, doc_id: bytes, tables: Sequence[Table] | None = None) -> Ancestry:
    """Where ``doc_id`` comes from. Raises ``UnknownName`` when no table holds it."""
    homes = document_tables(lake) if tables is None else tables
    seen: dict[bytes, Relative] = {}
    frontier, depth, left_out = [doc_id], 0, 0
    while frontier:
        for one, relative in _look_up(lake, homes, frontier, depth).items():
            seen[one] = relative
        parents = dict.fromkeys(
            bytes.fromhex(parent) for one in frontier for parent in seen[one].parents if parent != one.hex()
        )
        new = [parent for parent in parents if parent not in seen]
        depth += 1
        room = MAX_ANCESTORS + 1 - len(seen) if depth <= MAX_DEPTH else 0
        left_out += len(new[room:])
        frontier = new[:room]
    own = seen.pop(doc_id)
    if own.table is None:
        raise UnknownName(f"no document {doc_id.hex()} in the lake")
    everyone = {**seen, doc_id: own}
    return Ancestry(
        document=own,
        ancestors=tuple(seen.values()),
        left_out=left_out,
        cycle=_has_cycle(everyone),
        prompt=_prompt(lake, own.prompt_id) if own.prompt_id else None,
    )


def descendants(
    lake: Lake, ids: pa.Array | Iterable[bytes], tables: Sequence[Table] | None = None
) -> Descendants:
    """Every synthetic document that names one of ``ids`` among its parents, or a child of it, and so on."""
    homes = document_tables(lake) if tables is None else tables
    homes = [table for table in homes if {"parent_ids", "generation"} <= set(table.schema.names)]
    frontier = ids if isinstance(ids, pa.Array) else pa.array(list(ids), pa.binary(16))
    seen = set(frontier.to_pylist())
    by_depth: dict[int, int] = {}
    by_table: dict[str, int] = {}
    listed: list[dict[str, Any]] = []
    found: list[bytes] = []
    for depth in range(1, MAX_DEPTH + 1):
        new: list[bytes] = []
        for table, child, generator in _children(homes, frontier):
            if child in seen:
                continue
            seen.add(child)
            new.append(child)
            by_table[table] = by_table.get(table, 0) + 1
            if len(listed) < MAX_LISTED:
                row = {"doc_id": child.hex(), "table": table, "depth": depth, "generator": generator}
                listed.append(row)
        if not new:
            break
        by_depth[depth] = len(new)
        found += new
        frontier = pa.array(new, pa.binary(16))
    return Descendants(
        count=len(found),
        by_depth=by_depth,
        by_table=dict(sorted(by_table.items())),
        listed=tuple(listed),
        ids=pa.array(found, pa.binary(16)),
    )


def made_from(
    lake: Lake, ids: pa.Array | Iterable[bytes], tables: Sequence[Table] | None = None
) -> dict[str, Any] | None:
    """The :func:`descendants` of ``ids`` as plain data; ``None`` where there are none."""
    found = descendants(lake, ids, tables)
    return found.to_json() if found.count else None


def _prompt(lake: Lake, prompt_id: str) -> dict[str, Any] | None:
    """The prompt itself, from any table of prompts (``prompt_id`` and ``prompt``) of the lake."""
    mine = f"prompt_id = {literal(prompt_id)}"
    for schema in dict.fromkeys(s for s in (lake.schema, lake.defer, RAW_SCHEMA) if s):
        for name in lake.tables(schema):
            try:
                table = open_optional(lake, f"{schema}.{name}")
            except LakeError:
                continue
            if table is None or not {"prompt_id", "prompt"} <= set(table.schema.names):
                continue
            columns = [c for c in ("prompt", "recipe") if c in table.schema.names]
            for row in table.to_arrow(columns, filter=mine).slice(0, 1).to_pylist():
                return {"table": table.name, **{key: _short(value) for key, value in row.items()}}
    return None


def _children(homes: Sequence[Table], parents: pa.Array) -> Iterator[tuple[str, bytes, str | None]]:
    """Table, id and generator of every document that names one of ``parents``."""
    for table in homes:
        columns = ["doc_id", "parent_ids", *(c for c in ("generator",) if c in table.schema.names)]
        for batch in table.scan(columns, filter="generation > 0"):
            named = pc.is_in(pc.list_flatten(batch["parent_ids"]).cast(pa.binary(16)), value_set=parents)
            rows = pc.unique(pc.list_parent_indices(batch["parent_ids"]).filter(named))
            some = batch.take(rows)
            generators = some["generator"].to_pylist() if "generator" in columns else [None] * len(rows)
            for child, generator in zip(some["doc_id"].to_pylist(), generators, strict=True):
                yield table.name, child, generator


def _look_up(lake: Lake, homes: Sequence[Table], ids: Sequence[bytes], depth: int) -> dict[bytes, Relative]:
    """Each document from the first table that holds it; those that none holds have ``table=None``."""
    found: dict[bytes, tuple[str, dict[str, Any]]] = {}
    for table in homes:
        wanted = [one for one in ids if one not in found]
        columns = ["doc_id", *(name for name in _SHOWN if name in table.schema.names)]
        for row in _rows(table, columns, wanted):
            found.setdefault(row["doc_id"], (table.name, row))
    licenses = _licenses(lake, list(found))
    relatives = {}
    for one in ids:
        name, row = found.get(one, (None, {}))
        parameters = row.get("parameters")
        relatives[one] = Relative(
            doc_id=one.hex(),
            depth=depth,
            table=name,
            license=licenses.get(one) or _short(row.get("license_declared")),
            parameters=_parsed(parameters),
            parents=tuple(parent.hex() for parent in row.get("parent_ids") or () if parent is not None),
            **{
                key: _short(row.get(key))
                for key in ("source", "path", "origin", "generator", "generator_version", "prompt_id",
                            "verifier", "generation", "reward")
            },
        )  # fmt: skip
    return relatives


def _rows(table: Table, columns: Sequence[str], ids: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(ids), LOOKUP_ROWS):
        some = pa.array(ids[start : start + LOOKUP_ROWS], pa.binary(16))
        yield from table.to_arrow(columns, filter=in_list("doc_id", some)).to_pylist()


def _licenses(lake: Lake, ids: Sequence[bytes]) -> dict[bytes, str]:
    table = open_optional(lake, "license_concluded")
    if table is None or not {"license_spdx", "license_tier"} <= set(table.schema.names):
        return {}
    return {
        row["doc_id"]: f"{row['license_spdx']} ({row['license_tier']})"
        for row in _rows(table, ["doc_id", "license_spdx", "license_tier"], ids)
        if row["license_spdx"]
    }


def _has_cycle(everyone: dict[bytes, Relative]) -> bool:
    """Whether taking away documents without parents, again and again, leaves any (Kahn)."""
    parents = {
        one: {bytes.fromhex(p) for p in relative.parents} & everyone.keys() - {one}
        for one, relative in everyone.items()
    }
    children: dict[bytes, list[bytes]] = {one: [] for one in everyone}
    for one, named in parents.items():
        for parent in named:
            children[parent].append(one)
    waiting = {one: len(named) for one, named in parents.items()}
    ready = [one for one, number in waiting.items() if not number]
    done = 0
    while ready:
        one = ready.pop()
        done += 1
        for child in children[one]:
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    return done < len(everyone)


def _parsed(parameters: Any) -> Any:
    try:
        return json.loads(parameters) if parameters else None
    except (ValueError, RecursionError):
        return _short(parameters)


def _short(value: Any) -> Any:
    return value[:MAX_TEXT] + "…" if isinstance(value, str) and len(value) > MAX_TEXT else value
