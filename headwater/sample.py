# the names in these queries are ours; every value is a number that was checked
"""A small lake for CI: some of the documents, the same ones on every machine, near-copies together.

A document is in when the seeded hash of its unit is small enough. The unit is its cluster of
near-duplicates where ``duplicate_clusters`` knows it, so that deduplication finds in the sample what it
finds in the whole; without clusters each document is its own unit. A larger share keeps all rows of a
smaller one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.dedup.ids import ids_from_arrow, sorted_distinct
from headwater.errors import UsageError
from headwater.kernels.pairs import find_ids
from headwater.lake import Lake, Provenance
from headwater.lineage import open_optional
from headwater.operators import get
from headwater.report.narrow import connection, load, one
from headwater.sql import run

if TYPE_CHECKING:
    import duckdb

    from headwater.lake import Table

BASE = "raw.documents"
CLUSTERS = "duplicate_clusters"
KIND = "sample"
"""``kind`` of the versions that are written here: what a later sample may replace."""

LOOKUP_SHARE = 0.05
"""Below this share, and with an index on doc_id, look-ups read less than one scan."""


@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """What was taken and where it is."""

    lake: str
    table: str
    version: int
    digest: str
    documents: int
    documents_in_all: int
    text_bytes: int
    units: int
    """Clusters and single documents that were chosen."""
    closed_over: str | None
    """The version of ``duplicate_clusters`` that decided what stays together; ``None`` without one."""
    seed: int
    by_source: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def sample(
    lake: Lake,
    to: str | Lake,
    *,
    share: float | None = None,
    documents: int | None = None,
    seed: int = 0,
    by_source: bool = False,
    progress: Callable[[int], None] | None = None,
) -> SampleReport:
    """Write a sample of ``raw.documents``, with its text, into the lake ``to``.

    Parameters
    ----------
    share: above 0, at most 1. Each unit is in or out by its own hash, so that the share is met on average.
    documents: instead of a share, the first units by hash that together hold at least so many documents.
    by_source: meet the share in every source: at least its part, rounded up, of each. A cluster counts
        for the source of its smallest id.
    progress: called with the documents written so far.

    Raises
    ------
    UsageError
        Neither or both of share and documents, or a lake that holds documents of its own.
    UnknownName
        The lake has no ``raw.documents``.
    """
    if (share is None) == (documents is None):
        raise UsageError("say how much to take", hint="--share 0.01 or --documents 1000, one of them")
    if share is not None and not 0 < share <= 1:
        raise UsageError(f"share must be above 0 and at most 1, got {share}")
    if documents is not None and documents < 1:
        raise UsageError(f"got {documents} documents to take", hint="at least one")
    target = to if isinstance(to, Lake) else Lake(to, schema=lake.schema)
    base = lake.table(BASE)
    _check_target(lake, target)
    clusters = open_optional(lake, CLUSTERS)
    with connection() as con:
        get("seeded_hash").register(con)
        _load_units(con, base, clusters)
        _choose(con, share, documents, seed, by_source)
        units = int(one(con, "select count(*) from chosen")[0])
        ids = con.sql("select m.doc_id from members m semi join chosen using (unit)").to_arrow_table()
    wanted = sorted_distinct(ids_from_arrow(ids["doc_id"]))
    count = _Count(progress)
    facts = {
        "table": base.name,
        "version": base.version,
        "digest": base.digest,
        "share": share,
        "documents": documents,
        "seed": seed,
        "by_source": by_source,
        "closed_over": clusters.ref.to_dict() if clusters else None,
    }
    # The sampled lake does not hold the version this came from: it is named here, not among the inputs.
    written = target.write(
        BASE,
        count.rows(_rows(base, wanted)),
        schema=base.schema,
        provenance=Provenance(kind=KIND, extra={"sample_of": facts}),
    )
    return SampleReport(
        lake=target.uri,
        table=written.name,
        version=written.version,
        digest=written.digest,
        documents=written.num_rows,
        documents_in_all=base.num_rows,
        text_bytes=count.text_bytes,
        units=units,
        closed_over=str(clusters.ref) if clusters else None,
        seed=seed,
        by_source=by_source,
    )


def _check_target(lake: Lake, target: Lake) -> None:
    there = open_optional(target, BASE)
    if there is not None and there.provenance.kind != KIND:
        same = " (it is the lake the sample is taken from)" if target.uri == lake.uri else ""
        raise UsageError(
            f"lake {target.uri} holds documents that are no sample{same}",
            hint="name a lake that is not there yet, or that an earlier sample made",
        )


def _load_units(con: duckdb.DuckDBPyConnection, base: Table, clusters: Table | None) -> None:
    """``members`` (doc_id, source, unit) and ``units`` (unit, rows, source of its smallest id)."""
    columns = ["doc_id", *(["source"] if "source" in base.schema.names else [])]
    load(con, "docs", base, columns)
    source = "source" if "source" in base.schema.names else "''"
    if clusters is None:
        query = f"select doc_id, {source} as source, doc_id as unit from docs"
    else:
        load(con, "clusters", clusters, ["doc_id", "cluster_id"])
        query = (
            f"select d.doc_id, {source} as source, coalesce(k.cluster_id, d.doc_id) as unit "
            "from docs d left join clusters k using (doc_id)"
        )
    run(con, f"create temp table members as {query}")
    run(
        con,
        "create temp table units as select unit, count(*) as rows, arg_min(source, doc_id) as source "
        "from members group by unit",
    )


def _choose(
    con: duckdb.DuckDBPyConnection, share: float | None, documents: int | None, seed: int, by_source: bool
) -> None:
    """``chosen`` (unit): a prefix of the units by hash, of all together or of each source."""
    hashed = f"select *, seeded_hash(unit, seed := {int(seed)}) as place from units"
    if share is not None and not by_source:
        limit = math.floor(share * 2**64)
        test = "true" if limit >= 2**64 else f"place < {limit}::ubigint"
        run(con, f"create temp table chosen as select unit from ({hashed}) where {test}")
        return
    part = "partition by source " if by_source else ""
    total = "sum(rows) over (partition by source)" if by_source else "sum(rows) over ()"
    if share is not None:
        least = f"ceil({total} * {share!r}::double)"
    elif by_source:
        least = f"ceil({total} * {int(documents or 0)} / (select sum(rows) from units))"
    else:
        least = str(int(documents or 0))
    run(
        con,
        f"""create temp table chosen as select unit from (
            select unit, {least} as least,
                   sum(rows) over ({part}order by place, unit rows unbounded preceding) - rows as before
            from ({hashed})
        ) where before < least""",
    )


def _rows(base: Table, wanted: Any) -> Iterator[pa.RecordBatch]:
    """The wanted rows with their text, all columns."""
    from headwater.dedup.ids import ids_to_arrow

    others = [name for name in base.schema.names if name != "doc_id"]
    if base.has_id_index and len(wanted) < LOOKUP_SHARE * base.num_rows:
        for batch in base.with_text(ids_to_arrow(wanted), others):
            yield batch.select(base.schema.names)
        return
    for batch in base.scan():
        there = find_ids(wanted, ids_from_arrow(batch.column("doc_id"))) >= 0
        if there.any():
            yield batch.filter(pa.array(there))


class _Count:
    """Counts what passes."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self.rows_seen = 0
        self.text_bytes = 0
        self._progress = progress

    def rows(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow.compute as pc

        for batch in batches:
            self.rows_seen += batch.num_rows
            if "text" in batch.schema.names:
                self.text_bytes += int(pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0)
            if self._progress:
                self._progress(self.rows_seen)
            yield batch
