# the names in these queries are ours; every value is a parameter
"""Documents of a training order that contain a text, and what saw them.

The text is looked for as it is, byte by byte of UTF-8, in the text of the packed documents: no pattern, no
normalization. One streamed scan with a native matcher; what was found is then a set of ids like any other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import UsageError
from headwater.sql import run as execute
from headwater.trace.document import open_all
from headwater.trace.documents import DocumentsTrace, trace_documents
from headwater.trace.orders import homes_of
from headwater.trace.seen import asked

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

CONTEXT_CHARACTERS = 60
"""Of an excerpt, on either side of the text."""

MAX_EXCERPTS = 20
MAX_QUERY_SHOWN = 120
"""Characters of a long text that an excerpt repeats."""

SCAN_ROWS = 2_048


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A packed document that contains the text."""

    doc_id: str
    source: str | None
    path: str | None
    occurrences: int
    excerpt: str
    """The first occurrence and what stands around it."""


@dataclass(frozen=True, kw_only=True)
class TextTrace:
    """Where a text occurs in what was packed, and what saw the documents."""

    text_tables: tuple[str, ...]
    """What was searched."""
    matches: int
    """Documents that contain the text, packed or not."""
    packed: int
    """Of them, in a training order."""
    hits: tuple[Hit, ...]
    """At most ``MAX_EXCERPTS`` of the packed ones: those that some step holds first."""
    trace: DocumentsTrace
    """What saw any of the packed ones."""
    ids: pa.Array
    """The packed ones, by id."""
    bytes_scanned: int
    seconds: float
    """Of the search of the text alone."""

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes_scanned / 1e6 / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        facts = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "ids"}
        facts |= {"hits": [asdict(hit) for hit in self.hits], "trace": self.trace.to_json()}
        return {**facts, "megabytes_per_second": round(self.megabytes_per_second, 1)}


def trace_text(
    lake: Lake,
    text: str,
    run_id: str | None = None,
    *,
    only: pa.Array | None = None,
    runs_folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TextTrace:
    """Search the packed documents for ``text`` and trace those that contain it.

    Parameters
    ----------
    only: ids (binary(16)) to search among; all without it.
    progress: called with (documents searched, documents in all).

    Raises
    ------
    UsageError
        An empty text, or one that is not valid Unicode; or the order's text is gone from the lake.
    """
    _check(text)
    _, orders, _, _ = open_all(lake, run_id)
    homes = _text_tables(lake, orders)
    started = time.perf_counter()
    found: list[pa.ChunkedArray] = []
    scanned, done, total = 0, 0, sum(table.num_rows for table in homes)
    for table in homes:
        for batch in table.scan(["doc_id", "text"], batch_rows=SCAN_ROWS):
            found.append(batch["doc_id"].filter(contains(batch["text"], text)))
            scanned += int(pc.sum(pc.binary_length(batch["text"])).as_py() or 0)
            done += batch.num_rows
            if progress:
                progress(done, total)
    seconds = time.perf_counter() - started
    ids = pc.unique(pa.chunked_array(found, pa.binary(16))).sort()
    if only is not None:
        ids = ids.filter(pc.is_in(ids, only))
    with asked(lake, orders, ids) as there:
        query = "select distinct doc_id from packed order by 1"
        mine = pa.array([bytes(d) for (d,) in execute(there.con, query)], pa.binary(16))
    trace = trace_documents(lake, mine, run_id, runs_folder=runs_folder)
    return TextTrace(
        text_tables=tuple(str(table.ref) for table in homes),
        matches=len(ids),
        packed=len(mine),
        hits=tuple(_hits(homes, _first(trace, mine), text)),
        trace=trace,
        ids=mine,
        bytes_scanned=scanned,
        seconds=seconds,
    )


def contains(texts: pa.Array, text: str) -> pa.Array:
    """Where ``text`` occurs in ``texts``; false for null."""
    import polars as pl

    # Polars looks with SIMD: 3.7 GB/s a core on code, against 0.4 of Arrow's matcher.
    column = pl.Series(pl.from_arrow(texts))
    return column.str.contains(text, literal=True).fill_null(False).to_arrow()


def _check(text: str) -> None:
    if not text:
        raise UsageError("the text to look for is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(
            "the text to look for is not valid UTF-8", hint="no document can hold it: documents are UTF-8"
        ) from None


def _text_tables(lake: Lake, orders: dict[str, Table]) -> list[Table]:
    """The distinct contents in which the orders' documents have their text."""
    found: dict[tuple[str, str], Table] = {}
    for order in orders.values():
        tables = [home for home in homes_of(lake, order) if home.has_text]
        if not tables:
            raise UsageError(
                f"the text of {order.ref} is no longer in the lake",
                hint="search by --doc or --where, or another run with --run",
            )
        for table in tables:
            found.setdefault((table.name, table.digest), table)
    return list(found.values())


def _first(trace: DocumentsTrace, ids: pa.Array) -> pa.Array:
    seen = [bytes.fromhex(row["doc_id"]) for run in trace.runs for row in run.exposures[:MAX_EXCERPTS]]
    chosen = dict.fromkeys([*seen, *ids.slice(0, MAX_EXCERPTS).to_pylist()])
    return pa.array(list(chosen)[:MAX_EXCERPTS], pa.binary(16))


def _hits(homes: list[Table], ids: pa.Array, text: str) -> list[Hit]:
    """The documents in the order of ``ids``."""
    from headwater.lake.table import in_list

    found: dict[str, Hit] = {}
    for table in homes if len(ids) else ():
        names = [name for name in ("doc_id", "source", "path", "text") if name in table.schema.names]
        for row in table.to_arrow(names, filter=in_list("doc_id", ids)).to_pylist():
            if text in row["text"]:
                found[row["doc_id"].hex()] = Hit(
                    doc_id=row["doc_id"].hex(),
                    source=row.get("source"),
                    path=row.get("path"),
                    occurrences=row["text"].count(text),
                    excerpt=excerpt(row["text"], text),
                )
    return [found[doc.hex()] for doc in ids.to_pylist() if doc.hex() in found]


def excerpt(document: str, text: str) -> str:
    """The first occurrence with its surroundings; a long text is shown by its ends."""
    at = document.index(text)
    before = document[max(at - CONTEXT_CHARACTERS, 0) : at]
    after = document[at + len(text) : at + len(text) + CONTEXT_CHARACTERS]
    half = MAX_QUERY_SHOWN // 2
    shown = text if len(text) <= MAX_QUERY_SHOWN else f"{text[:half]} … {text[-half:]}"
    return f"{'…' if at > CONTEXT_CHARACTERS else ''}{before}{shown}{after}"
