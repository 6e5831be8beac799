"""Seeds from real rows, as Cosmopedia had them: a cluster's texts, each for an audience and in a style.

The published set (30 M prompts, 145 clusters of web samples for four fifths of them) is by Hugging Face; the
words of the prompts below are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from headwater.errors import BadInput, UsageError
from headwater.operators import register_all
from headwater.synthesis.recipes.prompts import prompt_row, write_prompts

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

AUDIENCES = ("young children", "high-school students", "college students", "researchers", "general readers")
STYLES = {
    "textbook": "a section of a textbook: definitions, then an example worked through",
    "article": "a blog post that begins from a question and answers it",
    "story": "a story in which somebody finds out why this matters",
    "howto": "step-by-step instructions, with what can go wrong at each step",
}

SEEDED = (
    "[[seed, {characters} characters]]\n\n"
    "Take the subject of this text, not its words, and write {style}. Write for {audience}."
)


def seeded_prompts(
    lake: Lake,
    table: str,
    name: str = "cosmopedia_prompts",
    *,
    limit: int = 100,
    seed: int = 0,
    clusters: str | None = None,
    audiences: Sequence[str] = AUDIENCES,
    styles: dict[str, str] | None = None,
    characters: int = 800,
) -> Table:
    """Prompts over rows of ``table``: every row gives one, with an audience and a style of its own.

    ``clusters`` is a table of ``doc_id`` and ``cluster_id`` (or ``topic_id``): then all clusters give equally
    many, so that a large one does not drown the others. Rows, audiences and styles follow from the seed and
    the id alone. The seed's text enters when the prompt is sent; the prompt's row holds its id as parent.
    """
    styles = styles or STYLES
    if not audiences or not styles:
        raise BadInput("there are no audiences or no styles", hint="give at least one of each")
    source = lake.table(table)
    grouped = lake.table(clusters) if clusters else None
    rows = []
    for row in _chosen(source, grouped, limit, seed):
        audience = audiences[row["a"] % len(audiences)]
        style = sorted(styles)[row["s"] % len(styles)]
        text = SEEDED.format(characters=characters, style=styles[style], audience=audience)
        metadata = {"audience": audience, "style": style, "cluster": row["cluster"], "source": row["source"]}
        rows.append(
            prompt_row(
                "cosmopedia", text, parents=[bytes(row["doc_id"])], generation=row["generation"],
                metadata=metadata,
            )
        )  # fmt: skip
    return write_prompts(lake, name, rows, inputs=[source, *([grouped] if grouped else [])])


def _chosen(source: Table, clusters: Table | None, limit: int, seed: int) -> list[dict[str, Any]]:
    """Rows by their turn in their cluster, then by a seeded hash. DuckDB sees ids and names only."""
    names = source.schema.names
    columns = ["doc_id", *(name for name in ("source", "generation") if name in names)]
    con = duckdb.connect(":memory:")
    try:
        register_all(con)
        con.register("source_rows", source.to_arrow(columns))
        join, cluster = "", "null"
        if clusters is not None:
            label = next((n for n in ("cluster_id", "topic_id", "topic") if n in clusters.schema.names), None)
            if label is None or "doc_id" not in clusters.schema.names:
                raise UsageError(
                    f"{clusters.ref} has no doc_id with a cluster_id",
                    hint=f"it has {', '.join(clusters.schema.names)}",
                )
            found = clusters.to_arrow(["doc_id", label])
            con.register("cluster_rows", pa.table([found["doc_id"], found[label]], ["doc_id", "cluster"]))
            join, cluster = "left join cluster_rows using (doc_id)", "cluster::varchar"
        own = {name: name if name in names else "null" for name in ("source", "generation")}
        rows = con.sql(
            f"""
            with hashed as (
                select doc_id, {own["source"]}::varchar as source, {cluster} as cluster,
                    coalesce({own["generation"]}::int, 0) as generation,
                    seeded_hash(doc_id, seed := {int(seed)}) as h
                from source_rows {join}
            )
            select *, (h % 65521)::int as a, (h // 65521 % 65521)::int as s
            from hashed
            order by row_number() over (partition by cluster order by h, doc_id), h, doc_id
            limit {int(limit)}
            """  # noqa: S608 - names of columns and numbers
        ).to_arrow_table()
        return list(rows.to_pylist())
    finally:
        con.close()
