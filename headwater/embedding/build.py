"""The table of embeddings, moved to today's documents: a text is embedded once per model.

Row numbers of a scratch file stand for the distinct texts that new rows need. It is filled from vectors of
the same model that are there already (the table as it stands, what a killed run left behind), and the rest
is computed. Then the rows are published, in one commit, in the order of the documents.

A run that takes longer than ``SAVE_SECONDS`` appends what it has to the table ``<name>_unfinished``, which
the commit removes: a killed run of hours goes on where it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow, sorted_distinct
from headwater.embedding.load import load_model, model_id
from headwater.embedding.model import EmbeddingModel, Vectors, cut, text_array
from headwater.errors import CommitConflict, DataMismatch, UsageError
from headwater.kernels.pairs import find_ids
from headwater.lake import Lake, Provenance, Table, TableVersion
from headwater.progress import Progress
from headwater.row_tasks import rows_by_id

SAVE_SECONDS = 60.0
GROUP_TEXTS = 4_096
GROUP_BYTES = 64 << 20
"""Texts given to the model at once: enough of them to sort by length."""
ROWS = 8_192
UNFINISHED = "_unfinished"

Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def embedding_schema(dimensions: int) -> pa.Schema:
    """Of a table of embeddings."""
    return pa.schema(
        {
            "doc_id": pa.binary(16),
            "text_hash": pa.binary(16),
            "model": pa.string(),
            "embedding": pa.list_(pa.float32(), dimensions),
        }
    )


class EmbeddingsBuild:
    """What the models ``embeddings`` and ``strong_embeddings`` return: a table that publishes itself.

    Parameters
    ----------
    documents: ``doc_id``, ``text_hash``, ``text``.
    model: as :func:`headwater.embedding.load_model` takes it.
    only: embed the documents of this table (its ``doc_id``) and no others.
    """

    def __init__(
        self, documents: Table, model: str, *, only: Table | None = None, device: str | None = None
    ) -> None:
        self.documents, self.only = documents, only
        self.model_name, self.device = model, device or None
        self._before: Table | None = None

    @cached_property
    def outside(self) -> dict[str, str]:
        """What the rows depend on that is neither code nor table: part of the fingerprint."""
        return {"embedding model": model_id(self.model_name, self.device)}

    def reuse(self, table: Table | None) -> None:
        """A version of the table made on another request, whose vectors of the same model are taken over."""
        self._before = table

    def publish(
        self, lake: Lake, name: str, current: Table | None, provenance: Provenance
    ) -> tuple[TableVersion, str, str]:
        """Write the next version; return it, built | extended | unchanged, and a message."""
        identifier = self.outside["embedding model"]
        if current is not None and (
            not _is_embeddings(current.schema) or current.provenance.extra.get("model") != identifier
        ):
            current = None
        rows = _Rows.of(self.documents, self.only)
        new, gone = _changes(rows, current)
        names = {"model": identifier, "model_name": self.model_name}
        record = replace(provenance, extra={**provenance.extra, **names})
        if current is not None and not len(new) and not len(gone):
            return lake.rerecord(name, record), "unchanged", "no document is new or gone"
        was = lake.table(name).version if lake.exists(name) else 0
        model: EmbeddingModel = load_model(self.model_name, self.device)
        with tempfile.TemporaryDirectory(prefix="headwater-embeddings-") as folder:
            work = _Work(lake, name, Path(folder), sorted_distinct(rows.hashes[new]), model, self.documents)
            for table in (current, self._before, work.unfinished()):
                work.take_over(table)
            count = work.compute(rows)
            record = replace(
                record, extra={**record.extra, "texts_embedded": count.texts, "texts_cut": count.cut}
            )
            with lake.lease(name.partition(".")[0], purpose=f"writes {name}"):
                now = lake.table(name).version if lake.exists(name) else 0
                if now != was:
                    raise CommitConflict(
                        f"{name} moved from version {was} to {now} while its texts were embedded",
                        hint="nothing was published, and what was embedded is kept; build again",
                    )
                schema = embedding_schema(model.dimensions)
                added = pa.RecordBatchReader.from_batches(schema, work.batches(rows, new, schema))
                if current is None:
                    version, status = lake.write(name, added, provenance=record), "built"
                else:
                    version, status = lake.update(name, add=added, remove=gone, provenance=record), "extended"
                work.finish()
        there = f"{len(new):,} new, {len(gone):,} gone, of " if status == "extended" else ""
        return version, status, f"{there}{version.num_rows:,} documents by {model.id}: {count}"


@dataclass(frozen=True)
class _Rows:
    """Ids and text hashes of the documents that belong into the table, in the order of the base table."""

    ids: Ids
    hashes: Ids

    @classmethod
    def of(cls, documents: Table, only: Table | None) -> _Rows:
        for column in ("doc_id", "text_hash", "text"):
            if column not in documents.schema.names:
                raise UsageError(
                    f"{documents.name} has no column {column}, so its documents cannot be embedded",
                    hint="embed a table of documents: doc_id, text_hash, text",
                )
        stored = documents.to_arrow(["doc_id", "text_hash"])
        ids, hashes = ids_from_arrow(stored["doc_id"]), ids_from_arrow(stored["text_hash"], "text_hash")
        if only is None:
            return cls(ids, hashes)
        wanted = sorted_distinct(ids_from_arrow(only.to_arrow(["doc_id"])["doc_id"]))
        there = find_ids(wanted, ids) >= 0
        if there.sum() != len(wanted):
            raise DataMismatch(
                f"{len(wanted) - int(there.sum()):,} of the {len(wanted):,} documents of {only.ref} "
                f"are not in {documents.ref}",
                hint="they may have been removed since; build what stands between the two again",
            )
        return cls(ids[there], hashes[there])


class _Count(NamedTuple):
    """What was computed."""

    texts: int
    taken_over: int
    cut: int
    max_tokens: int
    seconds: float

    def __str__(self) -> str:
        if not self.texts:
            return f"no text embedded, {self.taken_over:,} known already"
        rate = self.texts / max(self.seconds, 1e-9)
        said = [f"{self.texts:,} texts embedded in {self.seconds:,.1f} s ({rate:,.0f}/s)"]
        said += [f"{self.taken_over:,} known already"] if self.taken_over else []
        said += [f"{self.cut:,} cut after {self.max_tokens:,} tokens"] if self.cut else []
        return ", ".join(said)


class _Work:
    """Vectors of the distinct texts ``wanted`` (sorted hashes), in a scratch file."""

    def __init__(
        self, lake: Lake, name: str, folder: Path, wanted: Ids, model: EmbeddingModel, documents: Table
    ) -> None:
        self.lake, self.wanted, self.model, self.documents = lake, wanted, model, documents
        self.name, self.unfinished_name = name, name + UNFINISHED
        self.schema = embedding_schema(model.dimensions)
        shape = (max(len(wanted), 1), model.dimensions)
        self.vectors: Vectors = np.memmap(folder / "vectors", dtype=np.float32, mode="w+", shape=shape)
        self.known: Mask = np.zeros(len(wanted), dtype=np.bool_)

    def unfinished(self) -> Table | None:
        return self.lake.table(self.unfinished_name) if self.lake.exists(self.unfinished_name) else None

    def take_over(self, table: Table | None) -> None:
        """Vectors of the same model and texts that a table holds."""
        columns = ["text_hash", "model", "embedding"]
        if table is None or self.known.all() or not set(columns) <= set(table.schema.names):
            return
        if not table.schema.field("embedding").type.equals(self.schema.field("embedding").type):
            return
        if not any((self._places(batch) >= 0).any() for batch in table.scan(["text_hash"])):
            return
        for batch in table.scan(columns, batch_rows=ROWS):
            places = self._places(batch)
            same = pc.equal(batch["model"], self.model.id).fill_null(False).to_numpy(zero_copy_only=False)
            chosen = np.flatnonzero((places >= 0) & same)
            if len(chosen):
                self.vectors[places[chosen]] = vectors_of(batch["embedding"])[chosen]
                self.known[places[chosen]] = True

    def compute(self, rows: _Rows) -> _Count:
        """Embed the texts that are not known, each once."""
        taken_over = int(self.known.sum())
        places = find_ids(self.wanted, rows.hashes)
        of_row = np.flatnonzero(places >= 0)
        missing = of_row[~self.known[places[of_row]]]
        _, first = np.unique(places[missing], return_index=True)
        ids = sorted_distinct(rows.ids[missing[first]])
        progress = Progress(self.name, len(ids), "texts")
        done = num_cut = 0
        saved, unsaved = monotonic(), list[Positions]()
        columns = ["doc_id", "text_hash", "text"]
        rows_to_read = rows_by_id(self.documents, ids_to_arrow(ids), columns) if len(ids) else ()
        for hashes, texts, longer in _groups(rows_to_read, self.model):
            found = self.model.embed(texts, partial(progress.after, done))
            where = find_ids(self.wanted, hashes)
            self.vectors[where] = found.vectors
            self.known[where] = True
            unsaved.append(where)
            done += len(where)
            num_cut += int((longer | found.truncated).sum())
            if monotonic() - saved > SAVE_SECONDS and done < len(ids):
                self._save(np.concatenate(unsaved))
                saved, unsaved = monotonic(), []
        return _Count(done, taken_over, num_cut, self.model.max_tokens, progress.seconds)

    def batches(self, rows: _Rows, new: Positions, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The new rows, in their order."""
        for at in range(0, len(new), ROWS):
            part = new[at : at + ROWS]
            hashes = rows.hashes[part]
            yield pa.RecordBatch.from_arrays(
                [
                    ids_to_arrow(rows.ids[part]),
                    ids_to_arrow(hashes),
                    pa.repeat(self.model.id, len(part)),
                    vectors_to_arrow(self.vectors[find_ids(self.wanted, hashes)]),
                ],
                schema=schema,
            )

    def finish(self) -> None:
        """Remove what was kept for the case of a kill."""
        if self.lake.exists(self.unfinished_name):
            self.lake.drop(self.unfinished_name)

    def _places(self, batch: pa.RecordBatch) -> Positions:
        found: Positions = find_ids(self.wanted, ids_from_arrow(batch["text_hash"], "text_hash"))
        return found

    def _save(self, where: Positions) -> None:
        schema = pa.schema([field for field in self.schema if field.name != "doc_id"])
        before = self.unfinished()
        fits = before is not None and before.schema.equals(schema)
        columns = [
            ids_to_arrow(self.wanted[where]),
            pa.repeat(self.model.id, len(where)),
            vectors_to_arrow(self.vectors[where]),
        ]
        self.lake.write(
            self.unfinished_name,
            pa.Table.from_arrays(columns, schema=schema),
            mode="append" if fits else "replace",
            provenance=Provenance(kind="unfinished", inputs=(self.documents.ref,)),
        )


def vectors_of(column: pa.Array) -> Vectors:
    """(rows, dimensions) of a fixed-size list column without nulls."""
    width = column.type.list_size
    found: Vectors = np.asarray(column.flatten()).reshape(-1, width)
    return found


def vectors_to_arrow(vectors: Vectors) -> pa.Array:
    """A FixedSizeList column."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def _is_embeddings(schema: pa.Schema) -> bool:
    if "embedding" not in schema.names:
        return False
    kind = schema.field("embedding").type
    return bool(pa.types.is_fixed_size_list(kind)) and bool(schema.equals(embedding_schema(kind.list_size)))


def _changes(rows: _Rows, current: Table | None) -> tuple[Positions, pa.Array]:
    """Places in ``rows`` of what is not in the table as it should be, and ids of rows that go."""
    if current is None:
        return np.arange(len(rows.ids)), pa.array([], pa.binary(16))
    stored = current.to_arrow(["doc_id", "text_hash"])
    ids, hashes = ids_from_arrow(stored["doc_id"]), ids_from_arrow(stored["text_hash"], "text_hash")
    order = np.lexsort((ids[:, 1], ids[:, 0]))
    ids, hashes = np.ascontiguousarray(ids[order]), hashes[order]
    places = find_ids(ids, rows.ids)
    same = places >= 0
    same[same] = (hashes[places[same]] == rows.hashes[same]).all(axis=1)
    stays = np.zeros(len(ids), dtype=np.bool_)
    stays[places[same]] = True
    return np.flatnonzero(~same), ids_to_arrow(ids[~stays])


def _groups(batches: Iterable[pa.RecordBatch], model: EmbeddingModel) -> Iterator[tuple[Ids, pa.Array, Mask]]:
    """Hashes, texts that are no longer than the model can read, and which were cut; many at a time."""
    held: list[tuple[Ids, pa.Array, Mask]] = []
    texts = size = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        text, longer = cut(text_array(batch["text"]), model.max_tokens)
        held.append((ids_from_arrow(batch["text_hash"], "text_hash"), text, longer))
        texts, size = texts + len(text), size + int(pc.sum(pc.binary_length(text)).as_py() or 0)
        if texts >= GROUP_TEXTS or size >= GROUP_BYTES:
            yield _joined(held)
            held, texts, size = [], 0, 0
    if held:
        yield _joined(held)


def _joined(held: list[tuple[Ids, pa.Array, Mask]]) -> tuple[Ids, pa.Array, Mask]:
    hashes, texts, longer = zip(*held, strict=True)
    return np.concatenate(hashes), pa.concat_arrays(texts), np.concatenate(longer)
