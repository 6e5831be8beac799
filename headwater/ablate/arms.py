"""The arms of an ablation and what is held out of all of them: sets of ids, derived without a build."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.ablate.families import Family, families_of
from headwater.errors import DataMismatch, UsageError
from headwater.lake import Provenance
from headwater.lineage import open_optional, open_ref
from headwater.operators import operator
from headwater.report.losses import Decided, decided, is_curated, load_decisions
from headwater.report.narrow import connection, load
from headwater.sql import run

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Lake, Table

RAW = "raw"
"""The arm of every candidate: the base table of the curated one."""

DROPPED = "dropped"
"""The held-out set of documents that the curated table does not keep."""

HELD_OUT_SEED = 20_220_329
"""Of the hash that holds clusters out: fixed and of its own, so that no order of training goes by it."""

IDS = pa.schema({"doc_id": pa.binary(16)})


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of the comparison, as asked for.

    ``rules`` are those that stand between the base table and the arm (a ladder), ``None`` for a table's rows.
    """

    name: str
    table: Table
    rules: tuple[str, ...] | None = None
    added: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The name as part of a table's name."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is compared: the arms in order, the curated table that they are about (if one is), the base."""

    arms: tuple[Arm, ...]
    curated: Decided | None
    base: Table
    families: tuple[Family, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WrittenArm:
    """An arm as a table of ids in the lake, with sizes in bytes of text (``None`` where no table says)."""

    name: str
    table: Table
    num_documents: int
    text_bytes: int | None
    rules: tuple[str, ...] | None
    added: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Documents that no arm holds, with the sets they belong to."""

    table: Table
    clusters: Table | None
    """``None``: no table of clusters, so that single documents were held out."""
    counts: Mapping[str, int] = field(default_factory=dict)


def ask(
    lake: Lake,
    names: Sequence[str],
    *,
    ladder: bool = False,
    families: Mapping[str, Sequence[str]] | None = None,
) -> Asked:
    """Open the named arms: ``raw``, and tables as ``table``, ``schema.table`` or ``table@version``.

    Raises ``UsageError`` for a ladder without exactly one curated table, or ``raw`` without one.
    """
    if len(set(names)) != len(names):
        raise UsageError("an arm is named twice", hint="name each table once")
    opened = {name: open_ref(lake, name) for name in names if name != RAW}
    curated = [table for table in opened.values() if is_curated(table)]
    facts = decided(lake, curated[0]) if curated else None
    if (ladder or RAW in names) and (facts is None or (ladder and len(curated) != 1)):
        raise UsageError(
            f"'raw' and --ladder need one curated table among {', '.join(names)}, there are {len(curated)}",
            hint="headwater ablate raw python_textbook --ladder",
        )
    if facts is None:
        from headwater.sequences.source import text_of

        bases = {text_of(lake, table).ref: table for table in opened.values()}
        if len(bases) != 1:
            raise UsageError(
                f"the arms have {len(bases)} base tables: {', '.join(str(ref) for ref in bases)}",
                hint="name tables over one table of documents, so that one set of them can be held out",
            )
        base = text_of(lake, next(iter(opened.values())))
        return Asked(arms=_plain(opened, names), curated=None, base=base)
    grouped = tuple(families_of({rule.rule: rule.columns for rule in facts.rules}, families))
    arms = [Arm(name=RAW, table=facts.base, rules=())] if RAW in names or ladder else []
    if ladder:
        so_far: tuple[str, ...] = ()
        for family in grouped:
            so_far += family.rules
            arms.append(Arm(name=f"+{family.name}", table=facts.table, rules=so_far, added=family.rules))
    elif facts is not None:
        arms += list(_plain(opened, names))
    arms += [arm for arm in _plain(opened, names) if ladder and arm.table.ref != facts.table.ref]
    if len(arms) < 2:
        raise UsageError("one arm compares with nothing", hint="headwater ablate raw python_textbook")
    return Asked(arms=tuple(arms), curated=facts, base=facts.base, families=grouped)


def _plain(opened: Mapping[str, Table], names: Sequence[str]) -> tuple[Arm, ...]:
    for name, table in opened.items():
        if "doc_id" not in table.schema.names:
            raise UsageError(f"{table.ref} has no doc_id column", hint="name a table of documents")
        if name == RAW:
            raise UsageError("'raw' means every candidate of the curated table")
    return tuple(Arm(name=name, table=opened[name]) for name in names if name != RAW)


def hold_out(
    lake: Lake, asked: Asked, *, share: float, sources: Sequence[str], name: str = "ablate_held_out"
) -> HeldOut:
    """Write the held-out documents: ``doc_id``, ``source``, ``sets`` and ``h``, the hash they are taken by.

    Whole clusters of near-duplicates are held out, by a seeded hash of the cluster's id, so that no arm holds
    a copy of what the models are measured on. A document's ``sets`` are ``raw``, each named table that holds
    it, ``dropped`` when the curated table does not, and its source when that is among ``sources``.
    """
    if not 0 < share < 0.5:
        raise UsageError(f"got a held-out share of {share}", hint="give one above 0 and below 0.5")
    clusters = open_optional(lake, "duplicate_clusters")
    tables = {arm.table.short_name: arm.table for arm in asked.arms if arm.table.ref != asked.base.ref}
    curated = asked.curated.table.short_name if asked.curated is not None else None
    with connection() as con:
        rows = _held_out_rows(con, asked.base, clusters, tables, sources, share, curated)
    counts = Counter(one for sets in rows["sets"].to_pylist() for one in sets)
    empty = [one for one in (*tables, *sources) if one not in counts]
    if empty or not rows.num_rows:
        raise UsageError(
            f"no document of {', '.join(empty) or asked.base.ref.name} is held out at a share of {share:g}",
            hint="raise --held-out, or name another source",
        )
    table = _write_once(
        lake,
        name,
        rows,
        Provenance(
            kind="ablation",
            fingerprint=f"held_out/2/{share!r}/{HELD_OUT_SEED}/{','.join(sources)}",
            inputs=tuple(
                t.ref for t in (asked.base, *([clusters] if clusters is not None else []), *tables.values())
            ),
            extra={"share": share, "candidates": asked.base.name},
        ),
    )
    return HeldOut(table=table, clusters=clusters, counts=dict(counts))


def _held_out_rows(
    con: duckdb.DuckDBPyConnection,
    base: Table,
    clusters: Table | None,
    tables: Mapping[str, Table],
    sources: Sequence[str],
    share: float,
    curated: str | None,
) -> pa.Table:
    has_source = "source" in base.schema.names
    load(con, "base", base, ["doc_id", *(["source"] if has_source else [])])
    if clusters is None:
        run(con, "create temp table clusters (doc_id blob, cluster_id blob)")
    else:
        load(con, "clusters", clusters, ["doc_id", "cluster_id"])
    found = _arrow(
        con,
        """select doc_id, coalesce(cluster_id, doc_id) as cluster_id
           from base left join clusters using (doc_id)""",
    )
    keys = found["cluster_id"].cast(pa.binary(16)).combine_chunks()
    hashes = operator("seeded_hash")(keys, seed=HELD_OUT_SEED)
    chosen = pa.table({"doc_id": found["doc_id"], "h": hashes})
    con.register("chosen", chosen.filter(pc.less(hashes, pa.scalar(int(share * 2**64), pa.uint64()))))
    sets = ["'raw'"]
    for i, (name, table) in enumerate(tables.items()):
        load(con, f"kept_{i}", table, ["doc_id"])
        if name == curated:
            sets.append(f"case when doc_id not in (select doc_id from kept_{i}) then '{DROPPED}' end")
        sets.append(f"case when doc_id in (select doc_id from kept_{i}) then $names[{i + 1}] end")
    if has_source:
        sets.append("case when list_contains($sources, source) then source end")
    rows = _arrow(
        con,
        f"""select doc_id, {"source" if has_source else "''::varchar as source"},
                   list_filter([{", ".join(sets)}], lambda x: x is not null) as sets, h
            from chosen join base using (doc_id) order by h, doc_id""",
        {
            **({"names": list(tables)} if tables else {}),
            **({"sources": list(sources)} if has_source else {}),
        },
    )
    return rows.set_column(0, "doc_id", rows["doc_id"].cast(pa.binary(16)))


def write_arms(lake: Lake, asked: Asked, held_out: HeldOut) -> list[WrittenArm]:
    """Write each arm, less what is held out, as ``ablate_<arm>`` (``doc_id`` only, sorted).

    A document stands in an arm of a ladder when none of the rules so far failed it and none of them was
    unknown for it: what the build recorded in ``decisions``, asked for fewer rules.

    Raises ``DataMismatch`` when the last arm of the ladder is not the curated table.
    """
    written = []
    sized = "text_bytes" in asked.base.schema.names
    with connection() as con:
        load(con, "base", asked.base, ["doc_id", *(["text_bytes"] if sized else [])])
        load(con, "held", held_out.table, ["doc_id"])
        if asked.curated is not None:
            load_decisions(con, "dropped", lake, asked.curated)
        for arm in asked.arms:
            _select(con, arm)
            if arm.rules is not None and asked.curated is not None:
                _assert_whole(con, arm, asked.curated)
            size = "coalesce(sum(text_bytes), 0)::bigint" if sized else "null::bigint"
            ((count, text_bytes),) = run(
                con, f"select count(*), {size} from arm left join base using (doc_id)"
            )
            if not count:
                raise UsageError(f"arm {arm.name} holds no document", hint="leave it out")
            ids = _arrow(con, "select doc_id from arm order by doc_id").cast(IDS)
            inputs = [arm.table.ref, held_out.table.ref]
            if arm.table.ref != asked.base.ref:
                inputs.append(asked.base.ref)
            provenance = Provenance(
                kind="ablation",
                fingerprint=f"arm/1/{','.join(arm.rules) if arm.rules is not None else 'rows'}",
                inputs=tuple(inputs),
                extra={"candidates": asked.base.name, "arm": arm.name, "rules": list(arm.rules or ())},
            )
            table = _write_once(lake, f"ablate_{arm.short}", ids, provenance)
            written.append(
                WrittenArm(
                    name=arm.name, table=table, num_documents=count, text_bytes=text_bytes, rules=arm.rules,
                    added=arm.added,
                )
            )  # fmt: skip
    return written


def _select(con: duckdb.DuckDBPyConnection, arm: Arm) -> None:
    """The arm's ids as the temporary table ``arm``."""
    if arm.rules is None:
        load(con, "rows", arm.table, ["doc_id"])
        run(con, "create or replace temp table arm as select doc_id from rows anti join held using (doc_id)")
        return
    con.execute(
        """create or replace temp table arm as
           select doc_id from base
           anti join (
             select doc_id from dropped where list_has_any(list_concat(failed, unknown), $rules)
           ) using (doc_id)
           anti join held using (doc_id)"""
        if arm.rules
        else "create or replace temp table arm as select doc_id from base anti join held using (doc_id)",
        {"rules": list(arm.rules)} if arm.rules else None,
    ).fetchall()


def _assert_whole(con: duckdb.DuckDBPyConnection, arm: Arm, facts: Decided) -> None:
    """With every rule, an arm is the curated table, or the decisions are not those of its build."""
    if set(arm.rules or ()) != {rule.rule for rule in facts.rules}:
        return
    load(con, "kept", facts.table, ["doc_id"])
    ((more,),) = run(con, "select count(*) from arm anti join kept using (doc_id)")
    ((less,),) = run(
        con, "select count(*) from kept anti join held using (doc_id) anti join arm using (doc_id)"
    )
    if more or less:
        raise DataMismatch(
            f"all rules of {facts.table.ref} together give {more:,} documents that it does not hold, "
            f"and miss {less:,} that it does",
            hint="its decisions were changed; build it again",
        )


def _arrow(con: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any] | None = None) -> Any:
    return con.sql(sql, params=dict(values) if values else None).to_arrow_table()


def _write_once(lake: Lake, name: str, rows: pa.Table, provenance: Provenance) -> Table:
    """A new version only when it would differ, so that what was trained on it stays its own."""
    full = f"{lake.schema}.{name}"
    if lake.exists(full):
        current = lake.table(full)
        was = current.provenance
        if (was.fingerprint, _contents(was)) == (provenance.fingerprint, _contents(provenance)):
            return current
    lake.write(full, rows, provenance=provenance)
    lake.index(full, "doc_id")
    return lake.table(full)


def _contents(provenance: Provenance) -> set[tuple[str, Any]]:
    return {(ref.name, ref.digest) for ref in provenance.inputs}
