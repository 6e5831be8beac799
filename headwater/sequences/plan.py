"""One order as it was asked for: what its fingerprint is made of, and how its tables are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from headwater.lake import Provenance
from headwater.sequences.order import open_order
from headwater.sequences.packing import (
    EXPOSURES,
    SHUFFLE_TOKENS,
    PackCounts,
    Packing,
    exposures_of,
    pack_pieces,
)
from headwater.sequences.stages import past_facts

if TYPE_CHECKING:
    from headwater.lake import Lake, Table
    from headwater.sequences.order import Order, Wanted
    from headwater.sequences.source import Source
    from headwater.sequences.tokens import Progress
    from headwater.tokenizer import Encoder

PACKING_VERSION = 2
"""Raised when the same inputs would be packed otherwise: old sequences are then made anew."""

SPAN_BATCH_ROWS = 4_096

TRAIN, HELD_OUT = "train", "held_out"

_COUNTED = ("num_documents", "num_tokens", "num_padding", "num_fim", "num_fim_refused", "num_control")


class Plan:
    """An order and its held-out split; :meth:`write` makes those of their tables that would change."""

    def __init__(
        self,
        lake: Lake,
        source: Source,
        encoder: Encoder,
        tokens: Table,
        packing: Packing,
        wanted: Wanted,
        progress: Progress | None,
    ) -> None:
        self.shuffle: dict[str, int] = {}
        self._lake = lake
        self._source = source
        self._encoder = encoder
        self._tokens = tokens
        self._wanted = wanted
        self._progress = progress
        # Held out documents are the same rows whatever the order is: plain, and by no seed of it.
        plain = Packing(sequence_length=packing.sequence_length, method=packing.method, gather=packing.gather)
        self._packing = {TRAIN: packing, HELD_OUT: plain}

    def write(self, name: str, held_name: str) -> tuple[Table, bool, Table | None, bool]:
        """The order and what is held out of it, each with whether a new version was written."""
        splits = {TRAIN: name}
        if self._wanted.hold_out or self._lake.exists(f"{self._lake.schema}.{held_name}"):
            splits[HELD_OUT] = held_name  # an older split is emptied: the order now trains on it
        standing = {split: self._standing(split, table) for split, table in splits.items()}
        if any(found is None for found in standing.values()):
            with open_order(self._lake, self._source, self._tokens, self._wanted) as order:
                # The split first: a kill in between leaves documents held out that nobody trains on yet.
                for split in reversed(splits):
                    if standing[split] is None:
                        standing[split] = self._written(split, splits[split], order), True
        sequences, changed = standing[TRAIN] or (None, False)
        assert sequences is not None
        held, held_changed = standing.get(HELD_OUT) or (None, False)
        return sequences, changed, held, held_changed

    def mixture(self, sequences: Table) -> dict[str, dict[str, Any]] | None:
        """What each part of the mixture got, as the table's own record says."""
        return sequences.provenance.extra.get("mixture")

    def _settings(self, split: str) -> dict[str, Any]:
        wanted, packing = self._wanted, self._packing[split]
        settings: dict[str, Any] = {
            "tokenizer_id": self._encoder.tokenizer_id,
            "sequence_length": packing.sequence_length,
            "method": packing.method,
            "packing_seed": packing.seed,
            "gathered": packing.gather,
            "hold_out": wanted.hold_out,
            "split": split,
            "shuffle_tokens": SHUFFLE_TOKENS,
            "packing_version": PACKING_VERSION,
        }
        if split == HELD_OUT:
            return {**settings, "fim_rate": 0.0, "control": None, "control_tokens": []}
        return {
            **settings,
            "seed": wanted.seed,
            "limit_tokens": wanted.limit_tokens,
            "tokens_total": wanted.tokens_total,
            "fim_rate": wanted.fim_rate,
            "control": wanted.control,
            "control_tokens": sorted(wanted.control_ids),
        }

    def _provenance(self, split: str, counted: dict[str, Any]) -> Provenance:
        settings, wanted = self._settings(split), self._wanted
        past = wanted.past if split == TRAIN else None
        known = json.dumps([settings, past_facts(past)], sort_keys=True)
        others = (wanted.clusters, past.table if past is not None else None)
        inputs = (self._source.table.ref, self._tokens.ref, *(t.ref for t in others if t is not None))
        return Provenance(
            kind="pack",
            fingerprint=xxhash.xxh3_128_hexdigest(known.encode()),
            inputs=tuple(dict.fromkeys(inputs)),
            extra={
                **settings,
                "vocab_size": self._encoder.vocab_size,
                "eos_id": self._encoder.eos_id,
                "packed_table": self._source.table.ref.to_dict(),
                "tokens_table": self._tokens.ref.to_dict(),
                "clusters": wanted.clusters.ref.to_dict() if wanted.clusters is not None else None,
                "approved": self._source.bypass is None,
                "bypass": self._source.bypass,
                "stage": past.stage + 1 if past is not None else 0,
                "continues": past.continues() if past is not None else None,
                "epochs": 1,
                "mixture": None,
                "sources": {},
                **dict.fromkeys(_COUNTED, 0),
                **counted,
            },
        )

    def _standing(self, split: str, table: str) -> tuple[Table, bool] | None:
        """The table as it is when it would be written again, and whether its record had to be renewed."""
        name = f"{self._lake.schema}.{table}"
        if not self._lake.exists(name):
            return None
        current = self._lake.table(name)
        wanted = self._provenance(split, {})
        # The tokens of a document follow from the packed table and the tokenizer; other orders add theirs.
        own = self._tokens.name
        if not _same_inputs(current, wanted, leaving_out=own):
            return None
        had = current.provenance.extra
        fresh = self._provenance(
            split, {key: had[key] for key in (*_COUNTED, "sources", "mixture", "epochs")}
        )
        tokens_moved = had["gathered"] and had["tokens_table"]["digest"] != self._tokens.digest
        if had["bypass"] == fresh.extra["bypass"] and not tokens_moved:
            return current, False
        return self._lake.rerecord(name, fresh), True  # the same rows, and now an approval (or none)

    def _written(self, split: str, table: str, order: Order) -> Table:
        packing, counts = self._packing[split], PackCounts()
        ranked = "ranked" if split == TRAIN else "ranked_held"
        documents, expected = order.count(ranked)
        counted: dict[str, Any] = {"num_documents": documents}
        provenance = self._provenance(split, counted)
        pieces = order.pieces(ranked, with_tokens=not packing.gather)
        rows = pack_pieces(packing, self._encoder, pieces, counts)

        def shown() -> Iterator[pa.RecordBatch]:
            done = 0
            for batch in rows:
                yield batch
                done += batch.num_rows * packing.sequence_length
                if self._progress:
                    self._progress("sequences", min(done, expected), expected)
            # Known at the end of the stream, and recorded by the commit that comes after it.
            assert isinstance(provenance.extra, dict)
            provenance.extra.update(
                {key: getattr(counts, key) for key in _COUNTED if key != "num_documents"},
                sources=dict(sorted(counts.sources.items())),
            )
            if split == TRAIN and order.drawn is not None:
                drawn = {part: got.to_json() for part, got in order.drawn.items()}
                provenance.extra.update(mixture=drawn, epochs=max(got["epochs"] for got in drawn.values()))

        name = f"{self._lake.schema}.{table}"
        reader = pa.RecordBatchReader.from_batches(packing.schema(self._encoder), shown())
        written = self._lake.write(name, reader, provenance=provenance)
        if split == TRAIN:
            self.shuffle = asdict(order.meter)
            _check_tokens(order, self._wanted, expected, counts)
        return written


def _check_tokens(order: Order, wanted: Wanted, expected: int, counts: PackCounts) -> None:
    """Forms change how many tokens a document has; else the packer must have met the order's count."""
    formed = counts.num_fim or (wanted.past is not None and order.has_forms)
    planned = sum(got.tokens for got in order.drawn.values()) if order.drawn is not None else expected
    assert formed or counts.num_tokens == planned, (
        f"the order has {planned} tokens, the packer was given {counts.num_tokens}"
    )


def _same_inputs(current: Table, wanted: Provenance, *, leaving_out: str = "") -> bool:
    """True when ``current`` was packed with these settings from tables of this content."""
    had = {(ref.name, ref.digest) for ref in current.provenance.inputs if ref.name != leaving_out}
    want = {(ref.name, ref.digest) for ref in wanted.inputs if ref.name != leaving_out}
    return current.provenance.fingerprint == wanted.fingerprint and had == want


def write_exposures(lake: Lake, table: str, sequences: Table) -> tuple[Table, bool]:
    """The table ``exposures`` of an order, and whether a new version was written."""
    name = f"{lake.schema}.{table}"
    provenance = Provenance(kind="pack", fingerprint="exposures/2", inputs=(sequences.ref,))
    if lake.exists(name):
        current = lake.table(name)
        if _same_inputs(current, provenance):
            return current, False
    spans: Iterable[pa.RecordBatch] = sequences.scan(["sequence_index", "spans"], batch_rows=SPAN_BATCH_ROWS)
    lake.write(name, (exposures_of(batch) for batch in spans), schema=EXPOSURES, provenance=provenance)
    lake.index(name, "doc_id")
    return lake.table(name), True
