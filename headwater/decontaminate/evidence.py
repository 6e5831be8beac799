"""The table of evidence, extended by what is new: a new set costs itself, a new document its own scan.

One row per document: ``checked`` (the sets it was compared with, each with the digest of its items and the
settings) and ``matches``. What a previous version holds is used as far as its ``checked`` says the same; the
result equals that of a scan of everything, and the text of a document is read only if something is missing.
Joins run in DuckDB over ids and matches, never over text.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.decontaminate.scan import FLAT, MATCH, EvalIndex, Settings
from headwater.dedup.documents import Texts
from headwater.dedup.ids import Ids, ids_from_arrow, sorted_distinct
from headwater.digest import ContentDigest
from headwater.engine import ordered_map
from headwater.kernels.pairs import find_ids
from headwater.lake import Lake, Provenance, Table, TableVersion
from headwater.sql import run

EVIDENCE = pa.schema(
    {
        "doc_id": pa.binary(16),
        "text_hash": pa.binary(16),
        "checked": pa.list_(pa.string()),
        "matches": pa.list_(MATCH),
    }
)
_BATCH_ROWS = 65_536


def eval_evidence(
    documents: Table,
    items: pa.Table,
    previous: Table | None = None,
    *,
    settings: Settings | None = None,
    threads: int | None = None,
    memory_limit: str = "1GB",
) -> pa.RecordBatchReader:
    """Evidence (``EVIDENCE``) of every document against every evaluation set.

    Parameters
    ----------
    documents: ``doc_id``, ``text_hash``, ``text``.
    items: the evaluation items, ``EVAL_ITEMS``.
    previous: an earlier result to extend; evidence made otherwise is not used.
    memory_limit: of DuckDB's joins over ids, which spill.
    """
    chosen = settings or Settings()

    def stream() -> Iterator[pa.RecordBatch]:
        with tempfile.TemporaryDirectory(prefix="headwater-evals-") as folder:
            con = duckdb.connect(config={"memory_limit": memory_limit, "temp_directory": folder})
            try:
                yield from _stream(con, Path(folder), documents, items, previous, chosen, threads)
            finally:
                con.close()

    return pa.RecordBatchReader.from_batches(EVIDENCE, stream())


class EvidenceBuild:
    """What the model ``eval_evidence`` returns: it extends its own table (see ``headwater.models``)."""

    def __init__(
        self,
        documents: Table,
        items: Table,
        *,
        settings: Settings | None = None,
        threads: int | None = None,
    ) -> None:
        self.documents, self.items = documents, items
        self.settings, self.threads = settings, threads

    def publish(
        self, lake: Lake, name: str, current: Table | None, provenance: Provenance
    ) -> tuple[TableVersion, str, str]:
        """Write the next version; ``current`` is None where it may not be extended."""
        extends = current is not None and current.schema.equals(EVIDENCE)
        items = self.items.to_arrow()
        rows = eval_evidence(
            self.documents,
            items,
            current if extends else None,
            settings=self.settings,
            threads=self.threads,
        )
        version = lake.write(name, rows, provenance=provenance)
        sets = pc.count_distinct(items["eval_set"]).as_py()
        message = f"{version.num_rows:,} documents against {sets} evaluation sets"
        return version, "extended" if extends else "built", message


def keys_of(items: pa.Table, settings: Settings) -> dict[str, str]:
    """Evaluation set to what ``checked`` says of it: name, digest of its items, settings."""
    keys = {}
    for name in sorted(pc.unique(items["eval_set"]).to_pylist()):
        rows = items.filter(pc.equal(items["eval_set"], name)).select(["item_id", "field", "text"])
        digest = ContentDigest.of(rows.to_reader()).hex()
        keys[name] = f"{name}@{digest}:{settings}"
    return keys


def _stream(
    con: duckdb.DuckDBPyConnection,
    folder: Path,
    documents: Table,
    items: pa.Table,
    previous: Table | None,
    settings: Settings,
    threads: int | None,
) -> Iterator[pa.RecordBatch]:
    wanted = keys_of(items, settings)
    con.register("documents", documents.dataset)
    known: set[str] = set()
    if previous is not None:
        con.register("previous", previous.dataset)
        known = _checked(con)
    if not known:
        empty = pa.Table.from_batches([], schema=EVIDENCE)
        con.register("previous", empty)
    usable = [name for name, key in wanted.items() if key in known]
    missing = [name for name in wanted if name not in usable]
    if not usable:  # everything is scanned
        new = None
    else:
        keys = "select doc_id, text_hash from"
        rows = con.sql(f"select doc_id from ({keys} documents except {keys} previous)").to_arrow_table()
        new = sorted_distinct(ids_from_arrow(rows["doc_id"]))
    spooled = folder / "matches.arrow"
    with pa.ipc.new_file(str(spooled), FLAT) as sink:
        for found in _found(documents, items, new, missing, settings, folder, threads):
            if found.num_rows:
                sink.write_batch(found)
    with pa.memory_map(str(spooled)) as mapped:
        con.register("fresh", pa.ipc.open_file(mapped).read_all())
        merged = con.sql(_MERGE, params=[sorted(wanted.values()), usable]).to_arrow_reader(_BATCH_ROWS)
        for batch in merged:
            yield batch.cast(EVIDENCE)


_MERGE = f"""
select d.doc_id, d.text_hash, $1::varchar[] as checked,
       list_sort(list_concat(coalesce(p.matches, []), coalesce(f.matches, []))) as matches
from (select doc_id, text_hash from documents) d
left join (
    select doc_id, text_hash,
           list_filter(matches, lambda m: list_contains($2::varchar[], m.eval_set)) as matches
    from previous
) p on p.doc_id = d.doc_id and p.text_hash = d.text_hash
left join (
    select doc_id, list(struct_pack({", ".join(f'"{f.name}" := "{f.name}"' for f in MATCH)})) as matches
    from fresh group by doc_id
) f on f.doc_id = d.doc_id
"""


def _checked(con: duckdb.DuckDBPyConnection) -> set[str]:
    """What every row of the previous evidence was checked against (one and the same for all rows)."""
    rows = run(con, "select distinct checked from previous limit 2")
    return set(rows[0][0] or ()) if len(rows) == 1 else set()


def _found(
    documents: Table,
    items: pa.Table,
    new: Ids | None,
    missing: list[str],
    settings: Settings,
    folder: Path,
    threads: int | None,
) -> Iterator[pa.RecordBatch]:
    """Evidence that no previous version holds: new documents for all sets, the others for missing sets."""
    texts = Texts(documents, folder)
    whole_index = EvalIndex(items, settings)
    if new is None and items.num_rows:
        yield from ordered_map(whole_index.matches, texts, threads=threads)
    elif new is None:
        return
    elif missing:
        partly = items.filter(pc.is_in(items["eval_set"], pa.array(missing, pa.string())))
        part_index = EvalIndex(partly, settings)

        def both(batch: pa.RecordBatch) -> pa.RecordBatch:
            is_new = find_ids(new, ids_from_arrow(batch.column("doc_id"))) >= 0
            found = [
                index.matches(batch.take(pa.array(np.flatnonzero(rows))))
                for index, rows in ((whole_index, is_new), (part_index, ~is_new))
                if rows.any()
            ]
            return pa.concat_batches([part for part in found if part.num_rows] or found[:1])

        yield from ordered_map(both, texts, threads=threads)
    elif len(new):
        yield from ordered_map(whole_index.matches, texts.of(new), threads=threads)
