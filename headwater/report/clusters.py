"""Near-duplicate clusters as a reader wants them: who is in one, how alike, and who was kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater.lineage import open_optional
from headwater.report.narrow import connection, load, one, rows
from headwater.sql import run

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Lake, Table

MAX_MEMBERS = 20
"""Members spelled out; a cluster may hold 10^5. Kept ones come first, then the most alike."""
CHUNK = 2000
"""Ids in one ``in (…)`` filter: answered by the scalar index in about 0.1 s."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A document of a cluster."""

    doc_id: str
    source: str | None
    path: str | None
    similarity: float | None
    """Exact Jaccard similarity with the document asked about; ``None`` if linked through others."""
    kept_in: tuple[str, ...]
    """The curated tables that hold it."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The cluster of one document. ``members`` leaves that document out and stops at ``MAX_MEMBERS``."""

    cluster_id: str
    size: int
    members: tuple[Member, ...]


def cluster_of(lake: Lake, doc_id: bytes, clusters: Table | None, curated: Sequence[Table]) -> Cluster | None:
    """The document's cluster in ``clusters`` (or the latest one); ``None`` where clusters were never made."""
    table = clusters if clusters is not None else open_optional(lake, "duplicate_clusters")
    if table is None:
        return None
    own = table.to_arrow(columns=["cluster_id"], filter=f"doc_id = {_x(doc_id)}").to_pylist()
    if not own or own[0]["cluster_id"] is None:
        return None
    cluster_id: bytes = own[0]["cluster_id"]
    with connection() as con:
        load(con, "members", table, ["doc_id"], filter=f"cluster_id = {_x(cluster_id)}")
        size = int(one(con, "select count(*) from members")[0])
        if size < 2:
            return Cluster(cluster_id=cluster_id.hex(), size=1, members=())
        _load_similarity(con, lake, table, doc_id)
        _load_kept(con, curated)
        chosen = rows(
            con,
            """
            with kept as (select doc_id, list(name order by name) as kept_in from kept group by doc_id)
            select m.doc_id, s.similarity, coalesce(k.kept_in, []) as kept_in
            from members m left join alike s using (doc_id) left join kept k using (doc_id)
            where m.doc_id <> $1
            order by k.doc_id is null, s.similarity desc nulls last, m.doc_id
            limit $2
            """,
            [doc_id, MAX_MEMBERS],
        )
    return Cluster(cluster_id=cluster_id.hex(), size=size, members=tuple(_named(lake, chosen)))


def paths_of(lake: Lake, ids: Iterable[bytes]) -> dict[bytes, tuple[str | None, str | None]]:
    """doc_id -> (source, path) for a handful of ids."""
    wanted = list(ids)
    table = open_optional(lake, "documents")
    if table is None or not wanted:
        return {}
    found = table.to_arrow(columns=["doc_id", "source", "path"], filter=among(wanted)).to_pylist()
    return {row["doc_id"]: (row["source"], row["path"]) for row in found}


def among(ids: Iterable[bytes]) -> str:
    """A filter for a handful of ids, which a scalar index answers."""
    return f"doc_id in ({', '.join(_x(i) for i in ids)})"


def _load_similarity(con: duckdb.DuckDBPyConnection, lake: Lake, clusters: Table, doc_id: bytes) -> None:
    """The pairs that the clusters were made from, if their version is recorded; else the latest ones."""
    ref = next(
        (r for r in clusters.provenance.inputs if r.name.endswith(".near_duplicate_pairs")),
        None,
    )
    pairs = (
        lake.table(ref.name, version=ref.version)
        if ref is not None
        else open_optional(lake, "near_duplicate_pairs")
    )
    run(con, "create temp table alike (doc_id blob, similarity double)")
    if pairs is None:
        return
    own = _x(doc_id)
    load(con, "pairs", pairs, ["a", "b", "similarity"], filter=f"a = {own} or b = {own}")
    run(
        con,
        "insert into alike select case when a = $1 then b else a end as other, max(similarity) "
        "from pairs group by other",
        [doc_id],
    )


def _load_kept(con: duckdb.DuckDBPyConnection, curated: Sequence[Table]) -> None:
    run(con, "create temp table kept (doc_id blob, name varchar)")
    ids = con.sql("select doc_id from members order by doc_id").to_arrow_table().column(0)
    for start in range(0, len(ids), CHUNK):
        chunk = among(ids.slice(start, CHUNK).to_pylist())
        for table in curated:
            con.register("_kept", table.to_arrow(columns=["doc_id"], filter=chunk))
            run(con, "insert into kept select doc_id, $1 from _kept", [table.name])
            con.unregister("_kept")


def _named(lake: Lake, chosen: list[dict[str, Any]]) -> Iterable[Member]:
    paths = paths_of(lake, (row["doc_id"] for row in chosen))
    for row in chosen:
        source, path = paths.get(row["doc_id"], (None, None))
        yield Member(
            doc_id=row["doc_id"].hex(),
            source=source,
            path=path,
            similarity=row["similarity"],
            kept_in=tuple(row["kept_in"]),
        )


def _x(doc_id: bytes) -> str:
    return f"X'{doc_id.hex()}'"
