"""``pack``: from an approved table to a training order, each table written only when it would change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from headwater.errors import UsageError
from headwater.lake import Provenance
from headwater.sequences.order import open_order
from headwater.sequences.packing import (
    EXPOSURES,
    SHUFFLE_TOKENS,
    Packer,
    exposures_of,
    pack_documents,
    shuffle_windows,
)
from headwater.sequences.source import open_source
from headwater.sequences.tokens import Progress, TokensBuild, build_tokens, choose_tokenizer

if TYPE_CHECKING:
    from headwater.lake import Lake, Table
    from headwater.sequences.source import Source
    from headwater.tokenizer import Encoder

PACKING_VERSION = 1
"""Raised when the same inputs would be packed otherwise: old sequences are then made anew."""

SPAN_BATCH_ROWS = 4_096


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """What a pack made, and what it left as it was.

    ``num_tokens`` counts the end-of-text token of each document; ``num_padding`` the rest of the last
    sequence. Tables are ``name@version``. ``seconds`` is wall time by stage. ``encoder`` is the library that
    encoded; ``why_slow`` says why it was not the fast one.
    """

    table: str
    approved: bool
    bypass: str | None
    tokenizer_id: str
    tokenizer_trained: bool
    vocab_size: int
    tokens: str
    tokens_changed: bool
    num_documents: int
    num_encoded: int
    num_removed: int
    encoded_bytes: int
    encoder: str
    why_slow: str
    num_tokens: int
    sequences: str
    sequences_digest: str
    sequences_changed: bool
    sequence_length: int
    num_sequences: int
    num_padding: int
    gathered: bool
    exposures: str
    exposures_changed: bool
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """False when nothing was written."""
        return self.tokens_changed or self.sequences_changed or self.exposures_changed

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {**asdict(self), "changed": self.changed}

    def lines(self) -> list[str]:
        """The report in words, a fact a line."""
        new = "" if self.sequences_changed else " (unchanged: same order over the same tokens)"
        tokens = f"{self.num_encoded:,} documents encoded, {self.num_removed:,} removed"
        if self.num_encoded and self.seconds.get("tokens"):
            rate = self.encoded_bytes / 1e6 / self.seconds["tokens"]
            tokens += f", {rate:,.1f} MB/s by {self.encoder}"
        return [
            f"tokenizer {self.tokenizer_id[:12]}, {self.vocab_size:,} ids, "
            + ("trained now" if self.tokenizer_trained else "kept"),
            f"{self.tokens}: {tokens if self.tokens_changed else 'unchanged'}",
            f"{self.sequences}: {self.num_sequences:,} sequences of {self.sequence_length:,} from "
            f"{self.num_tokens:,} tokens of {self.num_documents:,} documents{new}",
            *([f"slow encoder: {self.why_slow}"] if self.why_slow and self.num_encoded else []),
            *([f"approval bypassed: {self.bypass}"] if self.bypass else []),
        ]


def pack(
    lake: Lake,
    table: str = "python_textbook",
    *,
    sequence_length: int = 512,
    vocab_size: int = 8192,
    seed: int = 0,
    tokenizer: str | Path | None = None,
    gather: bool = False,
    require_approved: bool = True,
    limit_tokens: int | None = None,
    retrain_tokenizer: bool = False,
    progress: Progress | None = None,
) -> PackReport:
    """Make the training order of ``table``: ``tokens``, ``sequences`` and ``exposures`` in the lake's schema.

    Parameters
    ----------
    sequence_length:
        Tokens in a sequence.
    vocab_size:
        Ids of the tokenizer to train; without effect when one is given or kept.
    seed:
        Of the global order of documents, and of the shuffle that keeps a long document's sequences from
        standing side by side.
    tokenizer:
        Path of a ``tokenizer.json`` with ``<|endoftext|>``. Without it, a byte-level BPE is trained once
        on a sample of the table and kept from then on (``retrain_tokenizer`` makes a new one).
    gather:
        Store spans only; readers fetch the tokens from ``tokens``.
    require_approved:
        False packs the latest version, approved or not, and records the bypass; ``prod`` refuses that.
    limit_tokens:
        Pack whole documents from the start of the order until there are this many tokens.
    progress:
        Called with ``(stage, done, total)``.

    Raises
    ------
    NotApproved
        No approval of ``table`` stands.
    """
    _check(sequence_length, vocab_size, limit_tokens)
    clock = _Clock()
    with lake.lease(purpose="pack"):
        source = open_source(lake, table, require_approved=require_approved)
        with clock("tokenizer"):
            path = Path(tokenizer) if tokenizer is not None else None
            encoder, trained = choose_tokenizer(lake, source, path, vocab_size, retrain=retrain_tokenizer)
        with clock("tokens"):
            tokens = build_tokens(
                lake, source, encoder, seed=seed, limit_tokens=limit_tokens, progress=progress
            )
        plan = _Plan(lake, source, encoder, tokens, sequence_length, seed, gather, limit_tokens, progress)
        with clock("sequences"):
            sequences, sequences_changed = plan.sequences()
        with clock("exposures"):
            exposures, exposures_changed = _exposures(lake, sequences)
    facts = sequences.provenance.extra
    return PackReport(
        table=str(source.table.ref),
        approved=source.bypass is None,
        bypass=source.bypass,
        tokenizer_id=encoder.tokenizer_id,
        tokenizer_trained=trained,
        vocab_size=encoder.vocab_size,
        tokens=str(tokens.table.ref),
        tokens_changed=tokens.changed,
        num_documents=facts["num_documents"],
        num_encoded=tokens.num_encoded,
        num_removed=tokens.num_removed,
        encoded_bytes=tokens.encoded_bytes,
        encoder=encoder.encoder,
        why_slow=encoder.why_slow,
        num_tokens=facts["num_tokens"],
        sequences=str(sequences.ref),
        sequences_digest=sequences.digest,
        sequences_changed=sequences_changed,
        sequence_length=sequence_length,
        num_sequences=sequences.num_rows,
        num_padding=sequences.num_rows * sequence_length - facts["num_tokens"],
        gathered=gather,
        exposures=str(exposures.ref),
        exposures_changed=exposures_changed,
        seconds=clock.seconds,
    )


def _check(sequence_length: int, vocab_size: int, limit_tokens: int | None) -> None:
    if sequence_length < 2:
        raise UsageError(f"got sequence_length {sequence_length}", hint="give 2 tokens or more")
    if vocab_size < 257:
        raise UsageError(
            f"got vocab_size {vocab_size}", hint="a byte-level vocabulary has 256 bytes and <|endoftext|>"
        )
    if limit_tokens is not None and limit_tokens < 1:
        raise UsageError(f"got limit_tokens {limit_tokens}", hint="give a positive number of tokens, or none")


@dataclass(frozen=True)
class _Plan:
    """One order, as asked for: what its fingerprint is made of, and how it is written."""

    lake: Lake
    source: Source
    encoder: Encoder
    tokens: TokensBuild
    sequence_length: int
    seed: int
    gather: bool
    limit_tokens: int | None
    progress: Progress | None

    def settings(self) -> dict[str, Any]:
        return {
            "tokenizer_id": self.encoder.tokenizer_id,
            "sequence_length": self.sequence_length,
            "seed": self.seed,
            "epochs": 1,
            "gathered": self.gather,
            "limit_tokens": self.limit_tokens,
            "shuffle_tokens": SHUFFLE_TOKENS,
            "packing_version": PACKING_VERSION,
        }

    def provenance(self, num_documents: int, num_tokens: int) -> Provenance:
        settings = self.settings()
        return Provenance(
            kind="pack",
            fingerprint=xxhash.xxh3_128_hexdigest(json.dumps(settings, sort_keys=True).encode()),
            inputs=(self.source.table.ref, self.tokens.table.ref),
            extra={
                **settings,
                "vocab_size": self.encoder.vocab_size,
                "eos_id": self.encoder.eos_id,
                "packed_table": self.source.table.ref.to_dict(),
                "tokens_table": self.tokens.table.ref.to_dict(),
                "approved": self.source.bypass is None,
                "bypass": self.source.bypass,
                "num_documents": num_documents,
                "num_tokens": num_tokens,
            },
        )

    def sequences(self) -> tuple[Table, bool]:
        """The table, and whether a new version was written."""
        name = f"{self.lake.schema}.sequences"
        current = self.lake.table(name) if self.lake.exists(name) else None
        if current is not None and _same_order(current, self.provenance(0, 0)):
            facts = current.provenance.extra
            fresh = self.provenance(facts["num_documents"], facts["num_tokens"])
            if facts["bypass"] == fresh.extra["bypass"]:
                return current, False
            return self.lake.rerecord(name, fresh), True  # the same rows, and now an approval (or none)
        with open_order(self.source, self.tokens.table, self.seed, self.limit_tokens) as order:
            packer = Packer(self.sequence_length, self.encoder.dtype, self.encoder.eos_id, gather=self.gather)
            rows = pack_documents(packer, order.documents(with_tokens=not self.gather))
            rows = shuffle_windows(rows, self.sequence_length, self.seed)
            reader = pa.RecordBatchReader.from_batches(packer.schema, self._shown(rows, order.num_tokens))
            provenance = self.provenance(order.num_documents, order.num_tokens)
            written = self.lake.write(name, reader, provenance=provenance)
        assert packer.num_tokens == order.num_tokens, "the order and the packer disagree on the tokens"
        return written, True

    def _shown(self, batches: Iterator[pa.RecordBatch], total: int) -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in batches:
            yield batch
            done += batch.num_rows * self.sequence_length
            if self.progress:
                self.progress("sequences", min(done, total), total)


def _same_order(current: Table, wanted: Provenance) -> bool:
    """True when ``current`` was packed with these settings from tables of this content."""
    had = {(ref.name, ref.digest) for ref in current.provenance.inputs}
    want = {(ref.name, ref.digest) for ref in wanted.inputs}
    return current.provenance.fingerprint == wanted.fingerprint and had == want


def _exposures(lake: Lake, sequences: Table) -> tuple[Table, bool]:
    name = f"{lake.schema}.exposures"
    provenance = Provenance(kind="pack", fingerprint="exposures/1", inputs=(sequences.ref,))
    if lake.exists(name):
        current = lake.table(name)
        if _same_order(current, provenance):
            return current, False
    spans = sequences.scan(["sequence_index", "spans"], batch_rows=SPAN_BATCH_ROWS)
    lake.write(name, (exposures_of(batch) for batch in spans), schema=EXPOSURES, provenance=provenance)
    lake.index(name, "doc_id")
    return lake.table(name), True


class _Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - start, 3)
