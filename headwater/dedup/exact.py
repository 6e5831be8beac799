"""Documents with equal texts, or texts that are equal once normalized."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from headwater.dedup.documents import Documents
from headwater.dedup.ids import ids_to_arrow
from headwater.dedup.occurrences import Corpus, blocks, text_of
from headwater.dedup.scratch import scratch
from headwater.engine import ordered_map
from headwater.kernels.normalize import form_number, normalized_hashes

MEMORY_BYTES = 1 << 30

CLUSTERS = pa.schema(
    [pa.field("doc_id", pa.binary(16)), pa.field("cluster_id", pa.binary(16)), pa.field("kind", pa.string())]
)


def exact_duplicates(
    documents: Documents,
    *,
    form: str = "exact",
    memory_bytes: int = MEMORY_BYTES,
    threads: int | None = None,
) -> pa.RecordBatchReader:
    """Documents that share their text, in ``form``, with another one.

    ``documents``: ``doc_id`` (binary(16), unique) and ``text``: an Arrow table, a lake Table, or a stream.
    ``form``: ``exact``, ``whitespace`` or ``words`` (``headwater.kernels.normalize``). Where the lake has a
    hash column, the macro ``headwater.exact_duplicates`` asks it without reading a text.

    Returns ``doc_id``, ``cluster_id`` (the smallest doc_id with that text) and ``kind`` (the form), by
    doc_id. Texts that normalize to nothing are no duplicates. Holds 16 bytes for each document.
    """
    form_number(form)

    def stream() -> Iterator[pa.RecordBatch]:
        with (
            tempfile.TemporaryDirectory(prefix="headwater-exact-") as name,
            scratch(Path(name), limit_bytes=memory_bytes // 2, threads=threads) as connection,
        ):
            corpus = Corpus(documents, Path(name))
            nothing = normalized_hashes(pa.array([""], pa.large_string()), form)[0]

            def hashed(batch: pa.RecordBatch) -> pa.Table:
                hashes = normalized_hashes(text_of(batch), form)
                some = (hashes != nothing).any(axis=1)
                ranks = corpus.ranks(batch.column("doc_id"))[some]
                return pa.table({"doc": ranks, "high": hashes[some, 0].copy(), "low": hashes[some, 1].copy()})

            connection.execute("create table texts (doc uinteger, high ubigint, low ubigint)").fetchall()
            for rows in ordered_map(hashed, blocks(corpus.texts), threads=threads):
                connection.register("incoming", rows)
                connection.execute("insert into texts select * from incoming").fetchall()
                connection.unregister("incoming")
            found = connection.sql(
                """select t.doc, c.first from texts t join (
                    select high, low, min(doc) as first from texts group by high, low having count(*) > 1
                ) c using (high, low) order by 1"""
            )
            for batch in found.to_arrow_reader(1 << 16):
                doc, first = (np.asarray(column.to_numpy()) for column in batch.columns)
                columns = [ids_to_arrow(corpus.ids[doc]), ids_to_arrow(corpus.ids[first])]
                yield pa.record_batch([*columns, pa.repeat(form, len(doc))], schema=CLUSTERS)

    return pa.RecordBatchReader.from_batches(CLUSTERS, stream())
