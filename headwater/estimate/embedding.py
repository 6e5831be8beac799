"""``estimate embed``: seconds, bytes and memory of embedding a table, measured on a sample of it here."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.dedup.ids import ids_from_arrow, sorted_distinct
from headwater.embedding import EmbeddingModel, load_model
from headwater.errors import UsageError
from headwater.kernels.pairs import find_ids
from headwater.lineage import open_optional
from headwater.operators import operator

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

DOCUMENTS = "raw.documents"
SAMPLE_SECONDS = 8.0
"""Measuring ends then; a slow model has embedded a few dozen texts by this time."""
SAMPLE_TEXTS = 8_192
FIRST_TEXTS = 32
"""Texts of a turn to begin with; the turns grow, because larger ones sort better by length."""
LARGEST_TURN = 1_024
SAMPLE_SEED = 41
ROW_BYTES = 16 + 16 + 17
"""Of a row beside its vector: ``doc_id``, ``text_hash``, ``model``."""
KEY_BYTES = 4 * 16
"""In memory for each document while its table is built: ids and hashes, twice."""


@dataclass(frozen=True, kw_only=True)
class EmbedEstimate:
    """What embedding takes on this machine. Seconds are wall time at the rate of the sample."""

    table: str
    model: str
    device: str
    dimensions: int
    max_tokens: int
    num_documents: int
    num_texts: int
    """Distinct texts: equal ones are embedded once."""
    known_texts: int
    """Of these, embedded by this model already in ``known_in``."""
    known_in: tuple[str, ...]
    sample_texts: int
    texts_per_second: float
    tokens_per_second: float
    truncated_share: float
    """Share of the sample that is longer than the model reads."""
    seconds: float
    lake_bytes: int
    temporary_bytes: int
    memory_bytes: int
    """Peak of this process over the sample, the model included, and the ids of all documents."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def estimate_embedding(
    lake: Lake, name: str = DOCUMENTS, *, model: str = "static", device: str | None = None
) -> EmbedEstimate:
    """Measure ``model`` on a sample of the documents of table ``name`` and predict all of them.

    Texts that one of the lake's tables of embeddings holds by the same model are not counted.

    Raises
    ------
    UsageError
        The table holds no documents.
    BadInput
        There is no such model on this machine.
    """
    table = lake.table(name)
    documents = table if table.has_text else lake.table(DOCUMENTS)
    if "doc_id" not in table.schema.names:
        raise UsageError(f"{table.ref} has no doc_id, so that no documents can be embedded")
    stored = documents.to_arrow(["doc_id", "text_hash"])
    ids, hashes = ids_from_arrow(stored["doc_id"]), ids_from_arrow(stored["text_hash"], "text_hash")
    if table is not documents:
        wanted = sorted_distinct(ids_from_arrow(table.to_arrow(["doc_id"])["doc_id"]))
        there = find_ids(wanted, ids) >= 0
        ids, hashes = ids[there], hashes[there]
        stored = stored.filter(pa.array(there))
    if not len(ids):
        raise UsageError(f"{table.ref} holds no documents", hint="build it first")
    loaded = load_model(model, device)
    texts = sorted_distinct(hashes)
    known = np.zeros(len(texts), dtype=np.bool_)
    known_in = []
    for other in _tables_of(lake, loaded.id):
        found = find_ids(texts, ids_from_arrow(other.to_arrow(["text_hash"])["text_hash"], "text_hash"))
        known[found[found >= 0]] = True
        known_in.append(str(other.ref))
    sample = _sample(documents, stored["doc_id"].combine_chunks(), loaded)
    to_do = len(texts) - int(known.sum())
    width = 4 * loaded.dimensions
    return EmbedEstimate(
        table=str(table.ref),
        model=loaded.id,
        device=loaded.device,
        dimensions=loaded.dimensions,
        max_tokens=loaded.max_tokens,
        num_documents=len(ids),
        num_texts=len(texts),
        known_texts=len(texts) - to_do,
        known_in=tuple(known_in),
        sample_texts=sample.texts,
        texts_per_second=sample.texts / sample.seconds,
        tokens_per_second=sample.tokens / sample.seconds,
        truncated_share=sample.truncated / sample.texts,
        seconds=to_do * sample.seconds / sample.texts,
        lake_bytes=len(ids) * (width + ROW_BYTES),
        temporary_bytes=len(texts) * width,
        memory_bytes=_peak_memory() + len(ids) * KEY_BYTES,
    )


def _tables_of(lake: Lake, model_id: str) -> list[Table]:
    """The target's tables whose latest version this model made."""
    tables = (open_optional(lake, f"{lake.schema}.{name}") for name in lake.tables(lake.schema))
    return [t for t in tables if t is not None and t.provenance.extra.get("model") == model_id]


@dataclass
class _Sample:
    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0


def _sample(documents: Table, ids: pa.Array, model: EmbeddingModel) -> _Sample:
    """Embed documents drawn by a seeded hash of their ids, until there are enough or it took long enough."""
    ids = ids.cast(pa.binary(16))
    hashed = operator("seeded_hash")(ids, seed=SAMPLE_SEED).to_numpy(zero_copy_only=False)
    chosen = ids.take(pa.array(np.argsort(hashed, kind="stable")[:SAMPLE_TEXTS]))
    model.embed(["warm up"] * FIRST_TEXTS)
    sample = _Sample()
    at, turn = 0, FIRST_TEXTS
    while at < len(chosen) and sample.seconds < SAMPLE_SECONDS:
        began = time.perf_counter()
        part = pa.chunked_array(
            [batch["text"] for batch in documents.with_text(chosen.slice(at, turn))]
        ).combine_chunks()
        found = model.embed(part)
        sample.seconds += time.perf_counter() - began
        sample.texts += len(part)
        sample.tokens += int(found.num_tokens.sum())
        sample.truncated += int(found.truncated.sum())
        at, turn = at + turn, min(2 * turn, LARGEST_TURN)
    return sample


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
