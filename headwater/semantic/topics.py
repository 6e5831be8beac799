"""The table ``topics``: what each cluster is about, in a few words that set it apart.

Class-based TF-IDF: of the documents of a cluster (a sample), how many have a word, against how many have it
everywhere. Counted are words of the text's beginning and of the path, identifiers taken apart, and pairs of
neighbors; not how often they stand in one document. Lines that many documents of a cluster share word for
word (a license, a generated header, the same imports) say how the files were made, not what they are about:
they are left out, unless nothing else is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from headwater.dedup.ids import Ids, ids_from_arrow, ids_to_arrow
from headwater.errors import DataMismatch, UnknownName, UsageError
from headwater.kernels.pairs import find_ids
from headwater.kernels.xxh3 import xxh3_64
from headwater.semantic.words import stop_words as standard_words

SAMPLE = 64
"""Documents of a cluster whose text is read, those with the smallest seeded hash of their id."""
CHARS = 8_000
"""Of each text, from its beginning."""
TERMS, EXAMPLES, NAME_TERMS = 10, 5, 3
BATCH = 1024
LEAST_SHARE = 0.15
"""Of a cluster's sample that has a term, and two documents at least (one where there is one)."""
PHRASE = 1.15
"""A pair of words says more than one."""
SHARED_LINES = 0.1
"""Of a cluster's sample that has a line, and three documents at least: from there on it is left out."""
LEAD = 0.6
"""Of the documents whose path begins with one folder, from where on it begins the name."""
MIXED = "mixed"
"""What the name of a cluster begins with where no term reaches that share: its terms are of few documents."""
MAX_TERMS = 2_000
"""Terms of a cluster that are held, those that most of its documents have."""

WORD = r"\p{L}{3,30}"
HUMP = r"(\p{Ll})(\p{Lu})"

TOPICS = pa.schema(
    [
        ("cluster_id", pa.int32()),
        ("name", pa.string()),
        ("size", pa.int64()),
        ("mean_similarity", pa.float32()),
        ("terms", pa.list_(pa.string())),
        ("example_doc_ids", pa.list_(pa.binary(16))),
        ("example_paths", pa.list_(pa.string())),
    ]
)


def topics(
    documents: Any,
    clusters: pa.Table,
    *,
    sample: int = SAMPLE,
    chars: int = CHARS,
    seed: int = 0,
    stop_words: Sequence[str] = (),
) -> pa.RecordBatchReader:
    """Name the clusters.

    Parameters
    ----------
    documents: ``doc_id``, ``text`` and, where there is one, ``path``: a lake table or an Arrow table.
    clusters: what :func:`headwater.semantic.semantic_clusters` returns.
    sample, chars: documents of a cluster that are read, and characters of each.
    stop_words: more words to leave out.

    Returns
    -------
    A row for each cluster, the largest first: ``cluster_id``, ``name`` (the folder that most paths
    begin with, and its three strongest terms; unique),
    ``size``, ``mean_similarity`` (to the centroid), ``terms`` (the ten strongest), and the five most typical
    documents as ``example_doc_ids`` and ``example_paths``.
    """
    if sample < 1 or chars < 1:
        raise UsageError(f"sample and chars must be at least 1, got {sample}, {chars}")
    for column in ("doc_id", "cluster_id", "centroid_similarity", "cluster_rank"):
        if column not in clusters.schema.names:
            raise UnknownName.of("column", column, clusters.schema.names, where="clusters")
    clusters = clusters.filter(clusters["cluster_id"].is_valid())
    ids = ids_from_arrow(clusters["doc_id"])
    cluster = clusters["cluster_id"].to_numpy()
    rank = clusters["cluster_rank"].to_numpy()
    if len(ids) == 0:
        return pa.RecordBatchReader.from_batches(TOPICS, iter(()))
    dropped = standard_words().union(word.lower() for word in stop_words)
    chosen = _first_of_each(cluster, xxh3_64(ids_to_arrow(ids), seed), ids, sample)
    counted = _counted(documents, ids[chosen], cluster[chosen], chars, dropped)
    terms = _strongest_terms(counted)
    shared = set(counted.filter(pl.col("count") >= LEAST_SHARE * pl.col("size"))["cluster"].to_list())
    typical = _first_of_each(cluster, rank, ids, EXAMPLES)
    paths = _paths(documents, ids[typical])
    leads = _leads(cluster[chosen], _paths(documents, ids[chosen]))
    similarity = clusters["centroid_similarity"].to_numpy().astype(np.float64)
    rows, used = [], set[str]()
    for number in np.unique(cluster).tolist():
        own = cluster == number
        examples = [i for i, place in enumerate(typical) if cluster[place] == number]
        lead = leads.get(number) or (None if number in shared else MIXED)
        found = _unlike(terms.get(number, []), lead)
        rows.append(
            {
                "cluster_id": number,
                "name": _name(found, lead, used),
                "size": int(own.sum()),
                "mean_similarity": float(similarity[own].sum() / own.sum()),
                "terms": found,
                "example_doc_ids": ids_to_arrow(ids[typical][examples]).to_pylist(),
                "example_paths": [paths[i] for i in examples],
            }
        )
    return pa.Table.from_pylist(rows, schema=TOPICS).to_reader()


def _first_of_each(cluster: Any, key: Any, ids: Ids, count: int) -> Any:
    """Places of the ``count`` rows with the smallest key in each cluster, by cluster; ties by id."""
    order = np.lexsort((ids[:, 1], ids[:, 0], key, cluster))
    ordered = cluster[order]
    first = np.searchsorted(ordered, ordered, side="left")
    return order[np.arange(len(order)) - first < count]


def _counted(documents: Any, ids: Ids, cluster: Any, chars: int, dropped: frozenset[str]) -> pl.DataFrame:
    """(cluster, term, count, size of its sample) of every term that enough of a cluster's documents have."""
    sizes = np.bincount(cluster)
    size = pl.DataFrame({"cluster": np.arange(len(sizes), dtype=np.int32), "size": sizes})
    parts, start = [], 0
    while start < len(ids):
        # Whole clusters, so that each is counted at once and only its common terms are held.
        stop = int(np.searchsorted(cluster, cluster[min(start + BATCH, len(ids)) - 1], side="right"))
        texts = pl.concat(list(_texts(documents, ids[start:stop], chars))).with_columns(
            pl.Series("cluster", cluster[start:stop], dtype=pl.Int32),
            pl.Series("doc", np.arange(start, stop)),
        )
        start = stop
        counted = _common(_terms(_without_shared_lines(texts, size), dropped), size)
        silent = texts.join(counted, on="cluster", how="anti")
        if len(silent):
            counted = pl.concat([counted, _common(_terms(silent, dropped), size, least_share=0.0)])
        ordered = counted.sort("cluster", "count", "term", descending=[False, True, False])
        parts.append(ordered.group_by("cluster", maintain_order=True).head(MAX_TERMS))
    return pl.concat(parts)


def _common(terms: pl.DataFrame, size: pl.DataFrame, least_share: float = LEAST_SHARE) -> pl.DataFrame:
    counted = terms.group_by("cluster", "term").agg(pl.len().alias("count")).join(size, on="cluster")
    return counted.filter(
        (pl.col("count") >= pl.min_horizontal(pl.lit(2), "size"))
        & (pl.col("count") >= least_share * pl.col("size"))
    )


def _without_shared_lines(texts: pl.DataFrame, size: pl.DataFrame) -> pl.DataFrame:
    lines = (
        texts.select("cluster", "doc", "path", pl.col("text").str.split("\n").alias("line"))
        .explode("line")
        .with_columns(pl.col("line").str.strip_chars())
    )
    shared = (
        lines.filter(pl.col("line") != "")
        .group_by("cluster", "line")
        .agg(pl.col("doc").n_unique().alias("docs"))
        .join(size, on="cluster")
        .filter((pl.col("docs") >= 3) & (pl.col("docs") >= SHARED_LINES * pl.col("size")))
    )
    own = lines.join(shared, on=["cluster", "line"], how="anti", maintain_order="left")
    return own.group_by("cluster", "doc", maintain_order=True).agg(
        pl.col("path").first(), pl.col("line").str.join("\n").alias("text")
    )


def _terms(texts: pl.DataFrame, dropped: frozenset[str]) -> pl.DataFrame:
    """(cluster, doc, term): each word and pair of neighbors of a path and its text, once."""
    whole = pl.col("path") + " . " + pl.col("text")
    words = whole.str.replace_all(HUMP, "$1 $2").str.extract_all(WORD)
    said = (
        texts.select("cluster", "doc", words.alias("word"))
        .explode("word")
        .drop_nulls("word")
        .with_columns(pl.col("word").str.to_lowercase())
        .with_columns((~pl.col("word").is_in(list(dropped))).alias("says"))
    )
    beside = said.with_columns(
        pl.col("word").shift(-1).alias("next"),
        (pl.col("says").shift(-1) & (pl.col("doc").shift(-1) == pl.col("doc"))).alias("paired"),
    )
    single = said.filter("says").select("cluster", "doc", pl.col("word").alias("term"))
    double = beside.filter(pl.col("says") & pl.col("paired") & (pl.col("word") != pl.col("next"))).select(
        "cluster", "doc", (pl.col("word") + " " + pl.col("next")).alias("term")
    )
    return pl.concat([single, double]).unique()


def _strongest_terms(counted: pl.DataFrame) -> dict[int, list[str]]:
    """The terms of each cluster that set it apart most, the strongest first."""
    number = counted["cluster"].n_unique()
    # Shares as integers: their sum does not depend on the order of rows.
    share = (pl.col("count") * (1 << 20) // pl.col("size")).cast(pl.Int64).alias("share")
    shares = counted.with_columns(share)
    everywhere = shares.group_by("term").agg(pl.col("share").sum().alias("everywhere"))
    rarity = (1 + number * (1 << 20) / pl.col("everywhere")).log()
    phrase = pl.when(pl.col("term").str.contains(" ", literal=True)).then(PHRASE).otherwise(1.0)
    scored = (
        shares.join(everywhere, on="term")
        .with_columns((pl.col("share") * rarity * phrase).round(3).alias("score"))
        .sort("cluster", "score", "term", descending=[False, True, False])
        .group_by("cluster", maintain_order=True)
        .agg(pl.col("term").head(60))
    )
    return {row["cluster"]: row["term"] for row in scored.to_dicts()}


def _unlike(terms: Sequence[str], lead: str | None) -> list[str]:
    """The first ten, without those of which a word is a form of one that stands already."""
    kept: list[str] = []
    said = re.findall(r"[^\W\d_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", lead or "").lower())
    for term in terms:
        words = term.split()
        if not any(_alike(word, other) for word in words for other in said):
            kept.append(term)
            said += words
        if len(kept) == TERMS:
            break
    return kept


def _alike(one: str, two: str) -> bool:
    short, long = sorted((one, two), key=len)
    return long.startswith(short) or (len(short) >= 6 and long[:6] == short[:6])


def _leads(cluster: Any, paths: Sequence[str | None]) -> dict[int, str]:
    """The folder that most paths of a cluster begin with, where it is most of them."""
    found: dict[int, list[str]] = {}
    for number, path in zip(cluster.tolist(), paths, strict=True):
        folder, slash, _ = (path or "").lstrip("/").partition("/")
        found.setdefault(number, []).append(folder if slash else "")
    leads = {}
    for number, folders in found.items():
        count, lead = max((folders.count(folder), folder) for folder in set(folders))
        if lead and count >= LEAD * len(folders) and not lead.endswith(":"):  # of a URL: the scheme
            leads[number] = lead
    return leads


def _name(terms: Sequence[str], lead: str | None, used: set[str]) -> str:
    """The first three terms behind the lead; more of them, then a number, where the name is taken."""

    def spelled(count: int) -> str:
        said = ", ".join(terms[:count])
        return f"{lead}: {said}" if lead and said else said or (lead or MIXED)

    name, count = spelled(NAME_TERMS), NAME_TERMS
    while name in used and count < len(terms):
        count += 1
        name = spelled(count)
    plain, again = name, 2
    while name in used:
        name, again = f"{plain} ({again})", again + 1
    used.add(name)
    return name


def _texts(documents: Any, ids: Ids, chars: int) -> Iterator[pl.DataFrame]:
    """``path`` (empty where there is none) and the beginning of ``text``."""
    columns = ["path", "text"] if "path" in documents.schema.names else ["text"]
    for batch in _rows(documents, ids, columns):
        frame = pl.DataFrame(pl.from_arrow(batch))
        path = pl.col("path").fill_null("") if "path" in columns else pl.lit("").alias("path")
        yield frame.select(path, pl.col("text").fill_null("").str.head(chars))


def _paths(documents: Any, ids: Ids) -> list[str | None]:
    column = next((name for name in ("path", "url") if name in documents.schema.names), None)
    if column is None:
        return [None] * len(ids)
    return [path for batch in _rows(documents, ids, [column]) for path in batch.column(column).to_pylist()]


def _rows(documents: Any, ids: Ids, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """``columns`` of these documents, in the order of ``ids``."""
    if hasattr(documents, "with_text"):
        yield from documents.with_text(ids_to_arrow(ids), columns)
        return
    own = ids_from_arrow(documents["doc_id"])
    order = np.lexsort((own[:, 1], own[:, 0]))
    places = find_ids(np.ascontiguousarray(own[order]), ids)
    if (places < 0).any():
        missing = ids_to_arrow(ids[places < 0][:1])[0].as_py().hex()
        raise DataMismatch(
            f"document {missing} has a cluster, but no text", hint="the clusters are of other documents"
        )
    yield from documents.select(columns).take(pa.array(order[places])).to_batches()


__all__ = ["TOPICS", "topics"]
