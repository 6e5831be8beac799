"""The ``tokens`` table: each document's token ids, once per tokenizer, kept up to date by id.

All orders of a schema share it: what depends on the text alone is made once, whatever is packed from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadInput, UnknownName
from headwater.lake import Provenance
from headwater.operators import operator
from headwater.sequences.database import (
    ID_BATCH_ROWS,
    database,
    fixed_ids,
    hashed,
    nothing_known,
)
from headwater.tokenizer import Encoder, by_bytes, load, train

if TYPE_CHECKING:
    from headwater.lake import Lake, Table, TableRef
    from headwater.sequences.source import Source

SHUFFLE_SEED = 0
"""Seed of the sample that a tokenizer is trained on: fixed, so that another order keeps the tokenizer."""

RECIPES = (2, 1)
"""How tokenizers were trained here, the present way first: 2 has the fill-in-the-middle tokens (1: none)."""

SAMPLE_BYTES = 16 << 20
"""Text a tokenizer is trained on. Training ran at about 5 MB/s on two cores; merges for an 8k vocabulary
hardly move beyond this much."""

LOOKUP_ROWS = 256
"""Documents fetched at once: a few megabytes of code, and not gigabytes where documents are books."""

_ID = re.compile("[0-9a-f]{32}")

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
    lake: Lake,
    source: Source,
    given: str | Path | None,
    vocab_size: int,
    *,
    retrain: bool,
    special_tokens: Sequence[str] = (),
) -> tuple[Encoder, bool]:
    """The tokenizer to encode with, and whether it was trained just now.

    ``given`` is the path of a ``tokenizer.json``, or the id of one in the lake. Without it, the last one that
    was trained on this table with the same settings is kept, though the table grew since: a vocabulary must
    outlive the versions of its corpus, or every token and every model would go with it. ``retrain`` makes a
    new one. ``special_tokens`` are added at the end of the vocabulary where they are missing.
    """
    encoder, trained = _chosen(lake, source, given, vocab_size, retrain=retrain)
    with_them = encoder.with_special_tokens(special_tokens) if special_tokens else encoder
    if with_them.tokenizer_id != encoder.tokenizer_id:
        _register(lake, with_them)
    return with_them, trained


def _chosen(
    lake: Lake, source: Source, given: str | Path | None, vocab_size: int, *, retrain: bool
) -> tuple[Encoder, bool]:
    if isinstance(given, str) and _ID.fullmatch(given) and not Path(given).exists():
        return load(lake, given), False
    if given is not None:
        encoder = _read(Path(given))
        _register(lake, encoder)
        return encoder, False
    wanted = [{"recipe": n, "sample_bytes": SAMPLE_BYTES, "vocab_size": vocab_size} for n in RECIPES]
    for settings in [] if retrain else wanted:
        if known := _trained_before(lake, source.table.name, settings):
            return load(lake, known), False
    encoder = Encoder(train(_sample(source), vocab_size))
    _register(lake, encoder, trained_on=source.table.ref, settings=wanted[0])
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
    for ids in ids_to_encode(source, None, SHUFFLE_SEED):
        for start in range(0, ids.num_rows, LOOKUP_ROWS):
            for batch in _texts_of(source, ids.slice(start, LOOKUP_ROWS)):
                for piece in by_bytes(batch["text"], left):
                    yield piece.to_pylist()
                    left -= pc.sum(pc.binary_length(piece)).as_py() or 0
                    if left <= 0:
                        return


def ids_to_encode(source: Source, tokens: Table | None, seed: int) -> Iterator[pa.RecordBatch]:
    """Every document of the source's table in hash order: ``doc_id``, ``num_tokens``, null where it has no
    tokens yet, and ``home``, the number of the base table that holds its text.
    """
    several = len(source.texts) > 1
    readers = {f"text{i}": text.scan(["doc_id"]) for i, text in enumerate(source.texts)} if several else {}
    readers["wanted"] = hashed(source.table.scan(["doc_id"]), seed)
    readers["known"] = tokens.scan(["doc_id", "num_tokens"]) if tokens else nothing_known()
    homes = " union all ".join(f"select doc_id, {i} as home from text{i}" for i in range(len(source.texts)))
    home, join = "0", ""
    if several:
        home = "t.home"
        join = f"left join (select doc_id, min(home) as home from ({homes}) group by doc_id) t using (doc_id)"
    with database(**readers) as con:
        rows = con.sql(
            f"select w.doc_id, k.num_tokens, {home} as home "
            f"from wanted w left join known k using (doc_id) {join} order by w.h, w.doc_id"
        )
        yield from map(fixed_ids, rows.to_arrow_reader(ID_BATCH_ROWS))


def ids_gone(texts: Sequence[Table], tokens: Table) -> pa.Array:
    """Documents that have tokens but are in none of the base tables any more."""
    readers = {f"text{i}": text.scan(["doc_id"]) for i, text in enumerate(texts)}
    kept = " union all ".join(f"select doc_id from {name}" for name in readers)
    with database(known=tokens.scan(["doc_id"]), **readers) as con:
        rows = con.sql(f"select doc_id from known anti join ({kept}) using (doc_id)").to_arrow_table()
    return rows["doc_id"].cast(pa.binary(16)).combine_chunks()


def _texts_of(source: Source, ids: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """``doc_id`` and ``text`` of documents with their ``home``, those of one base table after the other."""
    if ids["home"].null_count:
        missing = ids.filter(ids["home"].is_null())["doc_id"][0].as_py().hex()
        raise UnknownName(
            f"document {missing} of {source.table.ref} is in none of its base tables, "
            f"{', '.join(str(text.ref) for text in source.texts)}",
            hint="build the table again: its base tables have changed",
        )
    for home, text in enumerate(source.texts):
        wanted = ids["doc_id"].filter(pc.equal(ids["home"], home)) if len(source.texts) > 1 else ids["doc_id"]
        if len(wanted):
            yield from text.with_text(wanted)


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
    fingerprint = f"tokens/2/{encoder.text_id}"
    current = lake.table(name) if lake.exists(name) else None
    known = current.provenance.fingerprint if current is not None else ""
    if known not in (fingerprint, f"tokens/1/{encoder.tokenizer_id}"):  # 1: of one order, same tokens
        current = None
    bases = _bases(source, current if known == fingerprint else None)
    provenance = Provenance(
        kind="rows",
        fingerprint=fingerprint,
        inputs=tuple(bases.values()),
        extra={"tokenizer_id": encoder.tokenizer_id, "vocab_size": encoder.vocab_size},
    )
    schema = current.schema if current is not None else tokens_schema(encoder.dtype)
    work = _Work(source, current, encoder, schema, seed, limit_tokens, progress)
    gone = ids_gone(_latest(lake, source, bases), current) if current is not None else None
    new = pa.RecordBatchReader.from_batches(schema, work.batches())
    if current is None:
        lake.write(name, new, provenance=provenance)
        changed = True
    else:
        changed = lake.update(name, add=new, remove=gone, provenance=provenance).changed
        if not changed and (known != fingerprint or current.provenance.inputs != provenance.inputs):
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


def _bases(source: Source, current: Table | None) -> dict[str, TableRef]:
    """The base tables that the tokens were made from, by name, each at the latest version that was read."""
    refs = [*(current.provenance.inputs if current is not None else ()), *(t.ref for t in source.texts)]
    found: dict[str, TableRef] = {}
    for ref in sorted(refs, key=lambda ref: (ref.name, ref.version)):
        found[ref.name] = ref
    return found


def _latest(lake: Lake, source: Source, bases: dict[str, TableRef]) -> list[Table]:
    """What may hold a document that has tokens: the base tables as they stand, and as this pack reads."""
    standing = {name: lake.table(name) for name in bases if lake.exists(name)}
    read = [t for t in source.texts if t.name not in standing or standing[t.name].version != t.version]
    return [*standing.values(), *read]


class _Work:
    """Encodes what is missing, in the global order, up to the limit."""

    def __init__(
        self,
        source: Source,
        current: Table | None,
        encoder: Encoder,
        schema: pa.Schema,
        seed: int,
        limit: int | None,
        progress: Progress | None,
    ) -> None:
        self.done = 0
        self.encoded_bytes = 0
        self._source = source
        self._current = current
        self._encoder = encoder
        self._schema = schema
        self._seed = seed
        self._left = limit
        self._progress = progress

    def batches(self) -> Iterator[pa.RecordBatch]:
        seen = 0
        for ids in ids_to_encode(self._source, self._current, self._seed):
            for start in range(0, ids.num_rows, LOOKUP_ROWS):
                part = ids.slice(start, LOOKUP_ROWS)
                yield from self._encode(part)
                seen += part.num_rows
                if self._progress:
                    self._progress("tokens", seen, self._source.table.num_rows)
                if self._left is not None and self._left <= 0:
                    return

    def _encode(self, ids: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        wanted = ids.filter(ids["num_tokens"].is_null())
        batches = map(self._encoded, self._texts(wanted))
        kept = batches if self._left is None else self._up_to_limit(ids, list(batches))
        for batch in kept:
            self.done += batch.num_rows
            yield batch

    def _up_to_limit(self, ids: pa.RecordBatch, batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The documents that the limit still reaches, in order, known ones counted."""
        assert self._left is not None
        fresh = pa.Table.from_batches(batches, self._schema)
        counts = ids["num_tokens"].to_numpy(zero_copy_only=False).copy()
        is_new = ids["num_tokens"].is_null().to_numpy(zero_copy_only=False)
        counts[is_new] = fresh["num_tokens"].to_numpy()
        before = (counts + 1).cumsum() - (counts + 1)
        inside = before < self._left
        self._left -= int((counts[inside] + 1).sum())
        yield from fresh.slice(0, int((inside & is_new).sum())).to_batches()

    def _texts(self, ids: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for batch in _texts_of(self._source, ids):
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
        kind = self._schema.field("tokens").type  # that of the table, where control tokens made ids wider
        columns = [batch["doc_id"], operator("text_hash")(batch["text"]), tokens.cast(kind), counts]
        return pa.record_batch(columns, schema=self._schema)
