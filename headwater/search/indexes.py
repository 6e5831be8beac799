"""The two indexes of a search: words of ``documents.text``, vectors of ``embeddings.embedding``.

Making one adds a version to its table whose record and content digest are those of the version before, so
that no model counts it as a change and an approval of the content holds. Rows that came after it are still
found: Lance scans them one by one, until the index is refreshed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from headwater.lake import Lake, Table
from headwater.lineage import open_optional

DOCUMENTS = "raw.documents"
EMBEDDINGS = "embeddings"
TEXT, VECTOR = "text", "embedding"

TEXT_INDEX: dict[str, Any] = {
    # Words, and the words in identifiers: readFileLines is found by "read lines". Stop words stay: "is not"
    # and "to be or not to be" are questions too. No positions, which phrases would need.
    "base_tokenizer": "code",
    "split_identifiers": True,
    "stem": True,
    "remove_stop_words": False,
    "with_position": False,
}
VECTOR_INDEX: dict[str, Any] = {"metric": "cosine"}
VECTOR_KIND = "IVF_SQ"
"""A byte for each dimension; the nearest are compared again with the exact vectors."""
VECTOR_ROWS = 10_000
"""From here on a vector index is made. Below, all vectors are compared: 26,000 in 0.06 s."""
FLAT_TEXT_ROWS = 10_000
"""Up to here text is searched without an index, which reads all of it."""


@dataclass(frozen=True, kw_only=True)
class IndexState:
    """One index, or its absence."""

    table: str
    version: int
    column: str
    there: bool
    rows: int
    unindexed_rows: int
    """Rows that came since it was made: searched one by one."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def index_state(table: Table, column: str) -> IndexState:
    """What is indexed of a column."""
    names = [index.name for index in table.dataset.describe_indices() if index.field_names == [column]]
    missing = table.num_rows
    if names:
        stats = table.dataset.stats.index_stats(names[0])
        missing = int(stats["num_unindexed_rows"])
    return IndexState(
        table=table.name,
        version=table.version,
        column=column,
        there=bool(names),
        rows=table.num_rows,
        unindexed_rows=missing,
    )


def index_states(lake: Lake, *, embeddings: str = EMBEDDINGS) -> list[IndexState]:
    """Of the tables that are there."""
    pairs = ((open_optional(lake, DOCUMENTS), TEXT), (open_optional(lake, embeddings), VECTOR))
    return [index_state(table, column) for table, column in pairs if table is not None]


def build_indexes(
    lake: Lake, *, embeddings: str = EMBEDDINGS, progress: Callable[[str], None] | None = None
) -> list[IndexState]:
    """Make the indexes that are missing and refresh those that lag behind; returns them as they are then.

    Raises
    ------
    UnknownName
        The lake has no documents.
    LeaseHeld
        Another process writes to the schema of one of the tables.
    """
    lake.table(DOCUMENTS)
    for state in index_states(lake, embeddings=embeddings):
        is_vector = state.column == VECTOR
        if state.there and not state.unindexed_rows:
            continue
        if not state.rows or (is_vector and not state.there and state.rows < VECTOR_ROWS):
            continue
        if progress is not None:
            progress(f"{state.table}.{state.column}, {state.unindexed_rows:,} rows")
        if is_vector:
            lake.index(state.table, state.column, VECTOR_KIND, **VECTOR_INDEX)
        else:
            lake.index(state.table, state.column, "INVERTED", **TEXT_INDEX)
    return index_states(lake, embeddings=embeddings)
