"""The ``tokens`` table: each document's token ids, once per tokenizer, kept up to date by id."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadInput
from headwater.lake import Provenance
from headwater.operators import operator
from headwater.sequences.order import SHUFFLE_SEED, ids_gone, ids_to_encode
from headwater.tokenizer import Encoder, by_bytes, load, train

if TYPE_CHECKING:
    from headwater.lake import Lake, Table
    from headwater.sequences.source import Source

SAMPLE_BYTES = 16 << 20
"""Text a tokenizer is trained on. Training ran at about 5 MB/s on two cores; merges for an 8k vocabulary
hardly move beyond this much."""

LOOKUP_ROWS = 256
"""Documents fetched at once: a few megabytes of code, and not gigabytes where documents are books."""

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much is done, and how much there is."""


def tokens_schema(dtype: pa.DataType) -> pa.Schema:
    """Columns of ``tokens``; ``num_tokens`` does not count the end-of-text token."""
    return pa.schema(
        {
            "doc_id": pa.binary(16),
            "text_hash": pa.binary(16),
            "tokens": pa.list_(dtype),
            "num_tokens": pa.int32(),
        }
    )


def choose_tokenizer(
    lake: Lake, source: Source, path: Path | None, vocab_size: int, *, retrain: bool
) -> tuple[Encoder, bool]:
    """The tokenizer to encode with, and whether it was trained just now.

    A given file is taken as it is. Otherwise the last one that was trained on this table with the same
    settings is kept, though the table grew since: a vocabulary must outlive the versions of its corpus,
    or every token and every model would go with it. ``retrain`` makes a new one.
    """
    if path is not None:
        encoder = _read(path)
        _register(lake, encoder)
        return encoder, False
    settings = {"recipe": 1, "sample_bytes": SAMPLE_BYTES, "vocab_size": vocab_size}
    if not retrain and (known := _trained_before(lake, source.table.name, settings)):
        return load(lake, known), False
    encoder = Encoder(train(_sample(source), vocab_size))
    _register(lake, encoder, trained_on=source.table.ref, settings=settings)
    return encoder, True


def _read(path: Path) -> Encoder:
    try:
        return Encoder(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the tokenizer {path}: {error}", hint="give a tokenizer.json") from error


def _own(lake: Lake, table: str) -> str:
    """Tables of a pack lie in the target's own schema, never in the one it defers to."""
    return f"{lake.schema}.{table}"


def _trained_before(lake: Lake, table: str, settings: dict[str, Any]) -> str | None:
    if not lake.exists(_own(lake, "tokenizers")):
        return None
    rows = lake.table(_own(lake, "tokenizers")).to_arrow(["tokenizer_id", "trained_on", "settings"])
    wanted = json.dumps(settings, sort_keys=True)
    same = rows.filter((pc.field("trained_on") == table) & (pc.field("settings") == wanted))
    return str(same["tokenizer_id"][-1].as_py()) if same.num_rows else None


def _register(lake: Lake, encoder: Encoder, **facts: Any) -> None:
    name = _own(lake, "tokenizers")
    row = encoder.row(**facts)
    if lake.exists(name):
        known = lake.table(name).to_arrow(["tokenizer_id", "trained_on", "settings"])
        if row.select(known.schema.names).to_pylist()[0] in known.to_pylist():
            return
    lake.write(name, row, mode="append", provenance=Provenance(kind="log"))


def _sample(source: Source) -> Iterator[list[str]]:
    """Texts in hash order until there are ``SAMPLE_BYTES`` of them: the same whatever order they lie in."""
    left = SAMPLE_BYTES
    for ids in ids_to_encode(source.table, None, SHUFFLE_SEED):
        for start in range(0, ids.num_rows, LOOKUP_ROWS):
            for batch in source.text.with_text(ids["doc_id"].slice(start, LOOKUP_ROWS)):
                for piece in by_bytes(batch["text"], left):
                    yield piece.to_pylist()
                    left -= pc.sum(pc.binary_length(piece)).as_py() or 0
                    if left <= 0:
                        return


@dataclass(frozen=True, kw_only=True)
class TokensBuild:
    """The ``tokens`` table after a pack, with how many documents were encoded and removed."""

    table: Table
    changed: bool
    num_encoded: int
    num_removed: int
    encoded_bytes: int


def build_tokens(
    lake: Lake,
    source: Source,
    encoder: Encoder,
    *,
    seed: int,
    limit_tokens: int | None,
    progress: Progress | None,
) -> TokensBuild:
    """Encode the documents that have no tokens yet and drop those that are gone, as one version.

    With ``limit_tokens``, only the documents that the first so many tokens of the order need.
    """
    name = _own(lake, "tokens")
    provenance = Provenance(
        kind="rows",
        fingerprint=f"tokens/1/{encoder.tokenizer_id}",
        inputs=tuple(dict.fromkeys((source.table.ref, source.text.ref))),
        extra={"tokenizer_id": encoder.tokenizer_id, "vocab_size": encoder.vocab_size},
    )
    current = lake.table(name) if lake.exists(name) else None
    if current is not None and current.provenance.fingerprint != provenance.fingerprint:
        current = None
    work = _Work(source, current, encoder, seed, limit_tokens, progress)
    gone = ids_gone(source.table, current) if current is not None else None
    new = pa.RecordBatchReader.from_batches(tokens_schema(encoder.dtype), work.batches())
    if current is None:
        lake.write(name, new, provenance=provenance)
        changed = True
    else:
        changed = lake.update(name, add=new, remove=gone, provenance=provenance).changed
        if not changed and _digests(current.provenance.inputs) != _digests(provenance.inputs):
            lake.rerecord(name, provenance)  # the same rows, made from what stands now
    if changed:
        lake.index(name, "doc_id")
    removed = len(gone) if gone is not None else 0
    return TokensBuild(
        table=lake.table(name),
        changed=changed,
        num_encoded=work.done,
        num_removed=removed,
        encoded_bytes=work.encoded_bytes,
    )


def _digests(refs: Any) -> set[tuple[str, str]]:
    return {(ref.name, ref.digest) for ref in refs}


class _Work:
    """Encodes what is missing, in the global order, up to the limit."""

    def __init__(
        self,
        source: Source,
        current: Table | None,
        encoder: Encoder,
        seed: int,
        limit: int | None,
        progress: Progress | None,
    ) -> None:
        self.done = 0
        self.encoded_bytes = 0
        self._source = source
        self._current = current
        self._encoder = encoder
        self._seed = seed
        self._left = limit
        self._progress = progress

    def batches(self) -> Iterator[pa.RecordBatch]:
        seen = 0
        for ids in ids_to_encode(self._source.table, self._current, self._seed):
            for start in range(0, ids.num_rows, LOOKUP_ROWS):
                part = ids.slice(start, LOOKUP_ROWS)
                yield from self._encode(part)
                seen += part.num_rows
                if self._progress:
                    self._progress("tokens", seen, self._source.table.num_rows)
                if self._left is not None and self._left <= 0:
                    return

    def _encode(self, ids: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        wanted = ids["doc_id"].filter(ids["num_tokens"].is_null())
        batches = map(self._encoded, self._texts(wanted))
        kept = batches if self._left is None else self._up_to_limit(ids, list(batches))
        for batch in kept:
            self.done += batch.num_rows
            yield batch

    def _up_to_limit(self, ids: pa.RecordBatch, batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The documents that the limit still reaches, in order, known ones counted."""
        assert self._left is not None
        fresh = pa.Table.from_batches(batches, tokens_schema(self._encoder.dtype))
        counts = ids["num_tokens"].to_numpy(zero_copy_only=False).copy()
        is_new = ids["num_tokens"].is_null().to_numpy(zero_copy_only=False)
        counts[is_new] = fresh["num_tokens"].to_numpy()
        before = (counts + 1).cumsum() - (counts + 1)
        inside = before < self._left
        self._left -= int((counts[inside] + 1).sum())
        yield from fresh.slice(0, int((inside & is_new).sum())).to_batches()

    def _texts(self, ids: pa.Array) -> Iterator[pa.RecordBatch]:
        for batch in self._source.text.with_text(ids):
            start = 0
            for piece in by_bytes(batch["text"], SAMPLE_BYTES):
                yield batch.slice(start, len(piece))
                start += len(piece)

    def _encoded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self.encoded_bytes == 0:
            self._encoder.check(batch["text"])
        self.encoded_bytes += pc.sum(pc.binary_length(batch["text"])).as_py() or 0
        tokens = self._encoder.encode(batch["text"])
        counts = pc.list_value_length(tokens).cast(pa.int32())
        columns = [batch["doc_id"], operator("text_hash")(batch["text"]), tokens, counts]
        return pa.record_batch(columns, schema=tokens_schema(self._encoder.dtype))
