"""One search: two rankings, one order, and what is known of each hit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow, sorted_distinct
from headwater.embedding import EmbeddingModel, load_model
from headwater.embedding.model import Vectors
from headwater.errors import BadInput, UnknownName, UsageError
from headwater.kernels.pairs import find_ids
from headwater.lake import Lake, Table
from headwater.lake.table import LOOKUP_ROWS, in_list
from headwater.lineage import open_optional
from headwater.search.facts import Standing, facts_of
from headwater.search.indexes import (
    DOCUMENTS,
    EMBEDDINGS,
    FLAT_TEXT_ROWS,
    TEXT,
    VECTOR,
    index_state,
)

MODES = ("hybrid", "vector", "text")
RRF = 60
"""Cormack, Clarke and Büttcher 2009: the score of a document is the sum of 1 / (60 + rank)."""
DEPTH = 100
"""Each ranking is at least so long: a document that is second in both beats one that is first in one."""
MAX_LIMIT = 1_000
MAX_QUERY = 10_000
"""Characters."""
NPROBES = 20
REFINE = 10
"""Of a vector index: parts that are looked into, and how many times the limit is compared exactly."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One document."""

    rank: int
    doc_id: str
    score: float
    """Of the mode: the sum of 1 / (60 + rank), the cosine, or BM25."""
    vector_rank: int | None
    text_rank: int | None
    source: str | None
    path: str | None
    origin: str | None
    license: str | None
    """SPDX expression that was concluded; what the source declared where none was."""
    license_tier: str | None
    license_by: str
    """``license_concluded@version``, ``declared``, or empty."""
    tables: tuple[Standing, ...]
    """What each curated table says of the document."""
    approved: bool
    """An approved version of a curated table keeps it."""
    line: int
    snippet: str


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """The hits, and what they were searched in."""

    query: str
    mode: str
    documents: str
    """``table@version``."""
    embeddings: str | None
    model: str | None
    hits: tuple[Hit, ...]
    notes: tuple[str, ...]
    """What a reader should know: an index that lags behind, documents without a vector."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def search(
    lake: Lake,
    query: str,
    *,
    mode: str | None = None,
    limit: int = 10,
    table: str | None = None,
    where: str | None = None,
    embeddings: str = EMBEDDINGS,
    model: str | None = None,
    device: str | None = None,
) -> SearchReport:
    """The documents that answer ``query`` best.

    Parameters
    ----------
    query: words. It is no query language: signs have no meaning, and nothing in it is run.
    mode: ``vector`` (by meaning), ``text`` (BM25 over words) or ``hybrid`` (both, fused by reciprocal rank);
        by default hybrid where ``embeddings`` is built, else text.
    table: only the documents that this table holds.
    where: only the documents for which this filter over the columns of ``raw.documents`` is true.
    embeddings: the table of vectors.
    model: the model for the query, where the embeddings do not say, or it has moved.

    Raises
    ------
    UsageError
        An empty query, a filter that cannot be read, text without an index that would read everything.
    UnknownName
        No such table.
    """
    words = _query(query)
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"got a limit of {limit}", hint=f"between 1 and {MAX_LIMIT:,}")
    if mode is not None and mode not in MODES:
        raise UnknownName.of("mode", mode, MODES)
    documents = lake.table(DOCUMENTS)
    notes: list[str] = []
    vectors = open_optional(lake, embeddings)
    if mode is None:
        mode = "hybrid" if vectors is not None else "text"
        if vectors is None:
            notes.append(
                f"no table {embeddings}, so searched by words alone: "
                "headwater build --vars '{embeddings: true}' makes it"
            )
    if mode != "text" and vectors is None:
        raise UnknownName(
            f"the lake has no table {embeddings!r} to search by meaning",
            hint="headwater build --vars '{embeddings: true}', or --mode text",
        )
    allowed = _allowed(lake, documents, table, where)
    depth = max(limit, DEPTH)
    rankings: dict[str, tuple[Ids, list[float]]] = {}
    used: EmbeddingModel | None = None
    if mode != "text" and vectors is not None:
        used = _model(vectors, model, device)
        rankings["vector"] = _by_meaning(vectors, documents, used.encode_query(words), allowed, depth, notes)
    if mode != "vector":
        rankings["text"] = _by_words(documents, words, allowed, depth, notes)
    order = _fused(rankings)[:limit]
    shown = vectors if mode != "text" else None
    return SearchReport(
        query=words,
        mode=mode,
        documents=str(documents.ref),
        embeddings=str(shown.ref) if shown is not None else None,
        model=used.id if used is not None else None,
        hits=_hits(lake, documents, words, order),
        notes=tuple(notes),
    )


def _query(query: str) -> str:
    # What a terminal could not decode comes as lone surrogates, which no UTF-8 holds.
    words = query.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ").strip()
    if not words:
        raise UsageError("the query is empty", hint='headwater search "binary search tree"')
    if len(words) > MAX_QUERY:
        raise UsageError(f"the query has {len(words):,} characters", hint=f"at most {MAX_QUERY:,}")
    return words


def _model(embeddings: Table, name: str | None, device: str | None) -> EmbeddingModel:
    """The model that made the embeddings."""
    made_by = str(embeddings.provenance.extra.get("model") or _first_model(embeddings) or "")
    chosen = name or str(embeddings.provenance.extra.get("model_name") or made_by.partition("@")[0])
    if not chosen:
        raise UsageError(f"{embeddings.ref} is empty", hint="--mode text")
    try:
        model = load_model(chosen, device)
    except BadInput as error:
        raise BadInput(
            f"{embeddings.ref} was made by {made_by}: {error.message}",
            hint="say where that model is: --model FOLDER; or --mode text",
        ) from None
    if made_by and model.id != made_by:
        raise UsageError(
            f"{embeddings.ref} was made by {made_by}, and {chosen} is {model.id} here: "
            "their vectors cannot be compared",
            hint="build the embeddings again, or --model with the folder of that model, or --mode text",
        )
    return model


def _first_model(embeddings: Table) -> str | None:
    for batch in embeddings.scan(["model"]):
        for value in batch["model"].slice(0, 1).to_pylist():
            return str(value)
    return None


def _allowed(lake: Lake, documents: Table, table: str | None, where: str | None) -> Ids | None:
    """Sorted ids that may be found; ``None``: all."""
    allowed = None
    if table is not None:
        held = lake.table(table)
        if "doc_id" not in held.schema.names:
            raise UsageError(f"{held.ref} has no doc_id, so it cannot narrow a search")
        allowed = sorted_distinct(ids_from_arrow(held.to_arrow(["doc_id"])["doc_id"]))
    if where is not None:
        try:
            found = documents.to_arrow(["doc_id"], filter=where)
        except (ValueError, OSError) as error:
            said = str(error).splitlines()[0].split(", /")[0]
            columns = ", ".join(name for name in documents.schema.names if name != TEXT)
            raise UsageError(
                f"cannot read the filter {where!r}: {said}",
                hint=f"SQL over {columns}, e.g. \"license_declared = 'MIT'\"",
            ) from None
        true = sorted_distinct(ids_from_arrow(found["doc_id"]))
        allowed = true if allowed is None else allowed[find_ids(true, allowed) >= 0]
    return allowed


Fetch = Callable[[int, str | None], pa.Table]
"""The first so many rows of a ranking, of those for which a filter is true."""


def _ranked(
    fetch: Fetch, allowed: Ids | None, there: Callable[[Ids], Any] | None, depth: int, rows: int, column: str
) -> tuple[Ids, list[float]]:
    """Ids and numbers of the best ``depth`` that are allowed and there."""
    only = None
    if allowed is not None and not len(allowed):
        return np.empty((0, 2), dtype=np.uint64), []
    if allowed is not None and len(allowed) <= LOOKUP_ROWS:
        only = in_list("doc_id", ids_to_arrow(allowed))
    wanted = depth
    while True:
        found = fetch(wanted, only)
        ids = ids_from_arrow(found["doc_id"])
        good = np.ones(len(ids), dtype=np.bool_)
        if allowed is not None and only is None:
            good &= find_ids(allowed, ids) >= 0
        if there is not None and len(ids):
            good &= there(ids)
        if good.sum() >= depth or len(ids) < wanted or wanted >= rows:
            break
        wanted = min(8 * wanted, rows)
    # Equal numbers are ordered by id, so that the same question has the same answer.
    numbers = found[column].to_numpy()[good]
    ids = ids[good]
    by = -numbers if column == "_score" else numbers
    order = np.lexsort((ids[:, 1], ids[:, 0], by))[:depth]
    return ids[order], [float(x) for x in numbers[order]]


def _by_meaning(
    embeddings: Table, documents: Table, query: Vectors, allowed: Ids | None, depth: int, notes: list[str]
) -> tuple[Ids, list[float]]:
    made_from = next((ref for ref in embeddings.provenance.inputs if ref.name == documents.name), None)
    there: Callable[[Ids], Any] | None = None
    if made_from is None or made_from.digest != documents.digest:
        stored = sorted_distinct(ids_from_arrow(documents.to_arrow(["doc_id"])["doc_id"]))
        embedded = ids_from_arrow(embeddings.to_arrow(["doc_id"])["doc_id"])
        missing = len(stored) - int((find_ids(stored, embedded) >= 0).sum())
        if missing and made_from is not None:
            notes.append(
                f"{missing:,} of {len(stored):,} documents are not in {embeddings.ref}: headwater build"
            )
        there = partial(_among, stored)
    if not query.any():
        notes.append("the model knows no word of the query: nothing was searched by meaning")
        return np.empty((0, 2), dtype=np.uint64), []
    state = index_state(embeddings, VECTOR)
    if state.there and state.unindexed_rows:
        notes.append(
            f"{state.unindexed_rows:,} rows of {embeddings.ref} are not in its index yet and are searched "
            "one by one: headwater search --index"
        )

    def fetch(count: int, only: str | None) -> pa.Table:
        nearest = {"column": VECTOR, "q": query, "k": count, "metric": "cosine"}
        if state.there:
            nearest |= {"nprobes": NPROBES, "refine_factor": REFINE}
        found: pa.Table = embeddings.dataset.scanner(
            columns=["doc_id", "_distance"], nearest=nearest, filter=only, prefilter=True
        ).to_table()
        return found.filter(pc.is_finite(found["_distance"]))

    ids, distances = _ranked(fetch, allowed, there, depth, embeddings.num_rows, "_distance")
    return ids, [1.0 - distance for distance in distances]


def _among(stored: Ids, ids: Ids) -> Any:
    return find_ids(stored, ids) >= 0


def _by_words(
    documents: Table, query: str, allowed: Ids | None, depth: int, notes: list[str]
) -> tuple[Ids, list[float]]:
    from lance.query import MatchQuery

    state = index_state(documents, TEXT)
    if not state.there and documents.num_rows > FLAT_TEXT_ROWS:
        raise UsageError(
            f"{documents.ref} has no full-text index, and without one a search reads the text of all "
            f"{documents.num_rows:,} documents",
            hint="headwater search --index makes it, once; or --mode vector",
        )
    if state.there and state.unindexed_rows:
        notes.append(
            f"{state.unindexed_rows:,} rows of {documents.ref} are not in its index yet and are searched "
            "one by one: headwater search --index"
        )

    def fetch(count: int, only: str | None) -> pa.Table:
        found: pa.Table = documents.dataset.scanner(
            columns=["doc_id", "_score"],
            full_text_query=MatchQuery(query, TEXT),
            limit=count,
            filter=only,
            prefilter=True,
        ).to_table()
        return found

    return _ranked(fetch, allowed, None, depth, documents.num_rows, "_score")


@dataclass(frozen=True)
class _Place:
    doc_id: bytes
    score: float
    vector_rank: int | None
    text_rank: int | None


def _fused(rankings: dict[str, tuple[Ids, list[float]]]) -> list[_Place]:
    """One order of all: by reciprocal rank where there are two rankings, then by id."""
    ranks: dict[bytes, dict[str, int]] = {}
    scores: dict[bytes, float] = {}
    for name, (ids, numbers) in rankings.items():
        for rank, (doc_id, number) in enumerate(zip(ids_to_arrow(ids).to_pylist(), numbers, strict=True), 1):
            ranks.setdefault(doc_id, {})[name] = rank
            score = 1.0 / (RRF + rank) if len(rankings) > 1 else number
            scores[doc_id] = scores.get(doc_id, 0.0) + score
    order = sorted(ranks, key=lambda doc_id: (-scores[doc_id], doc_id))
    return [_Place(d, scores[d], ranks[d].get("vector"), ranks[d].get("text")) for d in order]


def _hits(lake: Lake, documents: Table, query: str, places: Sequence[_Place]) -> tuple[Hit, ...]:
    if not places:
        return ()
    known = facts_of(lake, documents, [place.doc_id for place in places], query)
    return tuple(
        Hit(
            rank=rank,
            doc_id=place.doc_id.hex(),
            score=round(place.score, 6),
            vector_rank=place.vector_rank,
            text_rank=place.text_rank,
            **known[place.doc_id],
        )
        for rank, place in enumerate(places, 1)
    )
