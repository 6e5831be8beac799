"""The training orders that runs read: exact versions, their ``exposures``, their spans."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import DataMismatch, HeadwaterError, LakeError, UnknownName, UsageError
from headwater.lake.table import in_list

if TYPE_CHECKING:
    from headwater.lake import Lake, Table, TableRef
    from headwater.trace.runs import Run

DEFAULT_ORDER = "sequences"
"""The order that a question without a run is asked of."""

SPAN_BATCH_ROWS = 4_096

FORMS = ("plain", "PSM", "SPM")
"""What ``form`` of a span means: as it is, or fill-in-the-middle as prefix-suffix-middle or
suffix-prefix-middle."""

FLAT = pa.schema(
    {
        "sequence_index": pa.int64(),
        "doc_id": pa.binary(16),
        "start": pa.int32(),
        "length": pa.int32(),
        "source": pa.string(),
        "epoch": pa.int32(),
        "form": pa.int8(),
    }
)
"""One row per span; ``epoch`` and ``form`` are 0 in orders that were packed before they were kept."""


def open_order(lake: Lake, ref: TableRef, *, run_id: str) -> Table:
    """The exact version a run read. Raises ``DataMismatch`` when the lake holds another."""
    table = lake.table(ref.name, version=ref.version)
    if table.digest != ref.digest:
        raise DataMismatch(
            f"run {run_id} read {table.ref} with digest {ref.digest}, the lake holds {table.digest}",
            hint="the table was dropped and made anew after the run; its steps can no longer be traced",
        )
    return table


def open_orders(lake: Lake, runs: Iterable[Run], *, strict: bool) -> tuple[dict[str, Table], list[str]]:
    """The sequences that runs read, by digest, and the runs of which some are gone (an error if strict)."""
    orders: dict[str, Table] = {}
    gone = []
    for run in runs:
        try:
            found = {ref.digest: open_order(lake, ref, run_id=run.run_id) for ref in run.tables}
        except (DataMismatch, UnknownName):
            if strict:
                raise
            gone.append(run.run_id)
            continue
        orders.update(found)
    return orders, gone


def exposures_of_order(lake: Lake, order: Table) -> Table | None:
    """The version of its exposures table that was derived from this content, or ``None``.

    ``sequences`` has ``exposures``, an order of another name ``NAME_exposures``.
    """
    schema, _, short = order.name.rpartition(".")
    name = f"{schema}.exposures" if short == DEFAULT_ORDER else f"{schema}.{short}_exposures"
    if not lake.exists(name):
        return None
    wanted = (order.name, order.digest)
    latest = lake.table(name)
    if wanted in {(ref.name, ref.digest) for ref in latest.provenance.inputs}:
        return latest
    for row in reversed(lake.versions(name).select(["version", "inputs"]).to_pylist()):
        if wanted in {(ref["table"], ref["digest"]) for ref in json.loads(row["inputs"])}:
            try:
                return lake.table(name, version=row["version"])
            except (UnknownName, LakeError):
                return None
    return None


def id_range(doc_id: str) -> tuple[bytes, bytes]:
    """The smallest and largest id that begin with these hex digits (dashes are ignored)."""
    digits = doc_id.strip().replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        raise UsageError(f"{doc_id!r} is not a document id", hint="give up to 32 hex digits")
    return bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))


def packed_ids(lake: Lake, order: Table, low: bytes, high: bytes) -> list[bytes]:
    """The documents of an order whose id lies in a range, through the index where there is one."""
    between = f"doc_id >= X'{low.hex()}' and doc_id <= X'{high.hex()}'"
    exposures = exposures_of_order(lake, order)
    if exposures is not None:
        return list(pc.unique(exposures.to_arrow(["doc_id"], filter=between)["doc_id"]).to_pylist())
    bounds = [pa.scalar(bound, pa.binary()) for bound in (low, high)]
    found: set[bytes] = set()
    for batch in flat_spans(order):
        ids = batch["doc_id"].cast(pa.binary())
        inside = pc.and_(pc.greater_equal(ids, bounds[0]), pc.less_equal(ids, bounds[1]))
        found.update(pc.unique(ids.filter(inside)).to_pylist())
    return list(found)


def flat_spans(order: Table, first: int = 0, stop: int | None = None) -> Iterator[pa.RecordBatch]:
    """The spans of sequences ``first`` to ``stop`` (not included) as rows of ``FLAT``, streamed."""
    count = (order.num_rows if stop is None else min(stop, order.num_rows)) - first
    if count <= 0:
        return
    scanner = order.dataset.scanner(
        columns=["sequence_index", "spans"],
        offset=first,
        limit=count,
        batch_size=SPAN_BATCH_ROWS,
        scan_in_order=True,
    )
    for batch in scanner.to_reader():
        yield flat(batch)


def taken_spans(order: Table, indices: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """The spans of some sequences as rows of ``FLAT``."""
    for start in range(0, len(indices), SPAN_BATCH_ROWS):
        part = list(indices[start : start + SPAN_BATCH_ROWS])
        taken = order.dataset.take(part, columns=["sequence_index", "spans"]).combine_chunks()
        for batch in taken.to_batches():
            yield flat(batch)


def flat(sequences: pa.RecordBatch) -> pa.RecordBatch:
    """One row per span of ``sequences``."""
    spans = sequences["spans"]
    counts = np.diff(spans.offsets.to_numpy())
    values = spans.flatten()
    names = {values.type.field(i).name for i in range(values.type.num_fields)}
    columns: list[pa.Array] = [pa.array(np.repeat(sequences["sequence_index"].to_numpy(), counts))]
    for field in list(FLAT)[1:]:
        if field.name in names:
            columns.append(values.field(field.name).cast(field.type))
        else:
            columns.append(pa.array(np.zeros(len(values), field.type.to_pandas_dtype()), field.type))
    return pa.record_batch(columns, schema=FLAT)


def look_up(lake: Lake, order: Table, ids: pa.Array) -> pa.Table:
    """``source`` and ``path`` of documents, in the order of ``ids``; null where nothing tells them."""
    found = {name: pa.nulls(len(ids), pa.string()) for name in ("source", "path")}
    for home in homes_of(lake, order) if len(ids) else ():
        names = [n for n in found if n in home.schema.names and found[n].null_count]
        if names:
            rows = home.to_arrow(["doc_id", *names], filter=in_list("doc_id", ids))
            places = pc.index_in(ids, rows["doc_id"].combine_chunks())
            for name in names:
                values = rows[name].combine_chunks().take(places).cast(pa.string())
                found[name] = pc.coalesce(found[name], values)
    return pa.table(found)


def homes_of(lake: Lake, order: Table) -> list[Table]:
    """What tells of an order's documents, where it is still there: the packed table, then the tables that
    hold their text (one, unless it was packed from a mixture of several)."""
    from headwater.sequences.source import MIXTURE_COLUMNS, text_of, texts_of

    homes: list[Table] = []
    try:
        packed = order.provenance.extra["packed_table"]
        homes.append(lake.table(packed["table"], version=packed["version"]))
        mixed = set(homes[0].schema.names) >= MIXTURE_COLUMNS
        texts = texts_of(lake, homes[0]) if mixed else (text_of(lake, homes[0]),)
    except (HeadwaterError, KeyError):
        return homes
    return [*homes, *(text for text in texts if text.ref != homes[0].ref)]
