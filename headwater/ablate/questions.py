"""What every model of an ablation is asked: held-out texts and minimal pairs, encoded once, in one file.

The scoring process reads the file and needs neither the lake nor the tokenizer. The questions' digest is
part of a result's key: other questions are another ablation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import xxhash

from headwater.ablate.minimal_pairs import KINDS, Pair, balanced, pairs_of
from headwater.digest import ContentDigest
from headwater.token_bytes import bytes_per_token

if TYPE_CHECKING:
    from headwater.ablate.arms import HeldOut
    from headwater.lake import Table
    from headwater.tokenizer import Encoder

DOCUMENT_CHARACTERS = 8_192
"""Of each held-out document the start is scored, so that no long file stands for all."""

LOOKUP_ROWS = 256

TEXTS = pa.schema(
    {
        "doc_id": pa.binary(16),
        "sets": pa.list_(pa.string()),
        "text_bytes": pa.int64(),
        "tokens": pa.list_(pa.int32()),
    }
)
PAIRS = pa.schema(
    {
        "doc_id": pa.binary(16),
        "kind": pa.string(),
        "line": pa.int32(),
        "real": pa.list_(pa.int32()),
        "mutant": pa.list_(pa.int32()),
        "shared": pa.int32(),
    }
)
"""``real`` and ``mutant`` are whole token sequences, context and line; the first ``shared`` are the same."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Counts of what is asked; ``digest`` (32 hex digits) names it."""

    digest: str
    texts: pa.Table
    pairs: pa.Table
    examples: tuple[Pair, ...]

    @property
    def set_bytes(self) -> dict[str, int]:
        """Bytes of text by held-out set."""
        found: dict[str, int] = {}
        for sets, size in zip(
            self.texts["sets"].to_pylist(), self.texts["text_bytes"].to_pylist(), strict=True
        ):
            for one in sets:
                found[one] = found.get(one, 0) + size
        return found

    @property
    def num_tokens(self) -> int:
        """Tokens that one scoring reads."""
        lists = (self.texts["tokens"], self.pairs["real"], self.pairs["mutant"])
        return sum(len(each.combine_chunks().flatten()) for each in lists)

    def write(self, folder: Path) -> None:
        """``texts.arrow`` and ``pairs.arrow`` in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        feather.write_feather(self.texts, str(folder / "texts.arrow"), compression="uncompressed")
        feather.write_feather(self.pairs, str(folder / "pairs.arrow"), compression="uncompressed")


def make_questions(
    held_out: HeldOut,
    text: Table,
    encoder: Encoder,
    *,
    sequence_length: int,
    set_bytes: int,
    num_pairs: int,
) -> Questions:
    """Read held-out documents in the order of their hash until every set has ``set_bytes``, and make pairs.

    Of a pair that is longer than a sequence the start of the context goes.
    """
    wanted = held_out.table.to_arrow(["doc_id", "sets"])
    texts: list[dict[str, Any]] = []
    pairs: list[Pair] = []
    missing = dict.fromkeys(held_out.counts, set_bytes)
    enough = -(-num_pairs // len(KINDS))
    for doc_id, sets, document in _documents(text, wanted):
        open_sets = [one for one in sets if missing[one] > 0]
        if open_sets:
            start = document[:DOCUMENT_CHARACTERS]
            size = len(start.encode())
            # Of sets that have enough, nothing more: documents that others still need would tilt them.
            texts.append({"doc_id": doc_id, "sets": open_sets, "start": start})
            for one in open_sets:
                missing[one] -= size
        if num_pairs and _short_of(pairs, enough):
            pairs += pairs_of(doc_id, document)
        elif not open_sets and max(missing.values()) <= 0:
            break
    chosen = balanced(pairs, num_pairs)
    encoded_texts = _encoded_texts(texts, encoder)
    encoded_pairs = _encoded_pairs(chosen, encoder, sequence_length)
    digest = ContentDigest()
    for batch in (*encoded_texts.to_batches(), *encoded_pairs.to_batches()):
        digest.add(batch)
    return Questions(
        digest=digest.hex(), texts=encoded_texts, pairs=encoded_pairs, examples=tuple(chosen[:1])
    )


def _documents(text: Table, wanted: pa.Table) -> Iterator[tuple[bytes, list[str], str]]:
    ids = wanted["doc_id"].combine_chunks()
    sets = wanted["sets"].to_pylist()
    place = 0
    for start in range(0, len(ids), LOOKUP_ROWS):
        for batch in text.with_text(ids.slice(start, LOOKUP_ROWS)):
            for doc_id, document in zip(batch["doc_id"].to_pylist(), batch["text"].to_pylist(), strict=True):
                yield doc_id, sets[place], document or ""
                place += 1


def _short_of(pairs: Sequence[Pair], each: int) -> bool:
    """Whether some kind has too few in some direction."""
    counts: dict[tuple[str, int], int] = {}
    for pair in pairs:
        counts[pair.kind, pair.length] = counts.get((pair.kind, pair.length), 0) + 1
    half = -(-each // 2)
    return any(
        counts.get((kind, 0), 0) < each and min(counts.get((kind, -1), 0), counts.get((kind, 1), 0)) < half
        for kind in KINDS
    )


def _encoded_texts(texts: list[dict[str, Any]], encoder: Encoder) -> pa.Table:
    """``text_bytes`` leaves out the first token, which nothing predicts."""
    sizes = bytes_per_token(encoder)
    tokens = encoder.encode(pa.array([t["start"] for t in texts], pa.large_string()))
    flat = np.concatenate([[0], np.cumsum(sizes[tokens.flatten().to_numpy()])])
    offsets = tokens.offsets.to_numpy()
    counts = np.diff(offsets)
    first = np.minimum(offsets[:-1] + 1, offsets[1:])
    columns = {name: [t[name] for t in texts] for name in ("doc_id", "sets")}
    encoded = pa.table(
        {
            **columns,
            "text_bytes": flat[offsets[1:]] - flat[first],
            "tokens": tokens.cast(pa.list_(pa.int32())),
        },
        schema=TEXTS,
    )
    return encoded.filter(pa.array(counts > 1))


def _encoded_pairs(pairs: Sequence[Pair], encoder: Encoder, sequence_length: int) -> pa.Table:
    reals = encoder.encode(pa.array([p.context + p.real for p in pairs], pa.large_string())).to_pylist()
    mutants = encoder.encode(pa.array([p.context + p.mutant for p in pairs], pa.large_string())).to_pylist()
    rows = []
    for pair, real, mutant in zip(pairs, reals, mutants, strict=True):
        shortest = min(len(real), len(mutant))
        differ = np.flatnonzero(np.array(real[:shortest]) != np.array(mutant[:shortest]))
        shared = int(differ[0]) if len(differ) else shortest
        if shared == 0 or shared == shortest:
            continue  # nothing before it to judge by, or nothing of one side to judge
        cut = max(len(real), len(mutant)) - sequence_length
        if cut >= shared:
            continue  # the line alone is longer than what models were trained at
        if cut > 0:  # both lose the same start of their context
            real, mutant, shared = real[cut:], mutant[cut:], shared - cut
        rows.append(
            {"doc_id": pair.doc_id, "kind": pair.kind, "line": pair.line, "real": real, "mutant": mutant,
             "shared": shared}
        )  # fmt: skip
    return pa.Table.from_pylist(rows, PAIRS)


def key_of(*parts: object) -> str:
    """A short digest of ``parts`` for names of folders and ids: 12 hex digits."""
    return xxhash.xxh3_128_hexdigest("\x1f".join(str(p) for p in parts).encode())[:12]
