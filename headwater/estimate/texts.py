"""A sample of the texts of a table, by a seeded hash of the ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from headwater.errors import UsageError
from headwater.operators import operator
from headwater.sequences.source import text_of

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

SEED = 43


def sampled_texts(lake: Lake, name: str, count: int) -> tuple[Table, list[str]]:
    """The table at its latest version, and at most ``count`` of its texts."""
    table = lake.table(name)
    text = text_of(lake, table)
    ids = table.to_arrow(["doc_id"])["doc_id"].combine_chunks()
    if not len(ids):
        raise UsageError(f"{table.ref} holds no documents", hint="build it first")
    hashes = operator("seeded_hash")(ids, seed=SEED).to_numpy(zero_copy_only=False)
    chosen = ids.take(pa.array(np.argsort(hashes, kind="stable")[:count]))
    return table, [each for batch in text.with_text(chosen) for each in batch["text"].to_pylist()]
