"""A packed table written by hand, for tests of its readers: lengths, sources and stages as they ask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from headwater.lake import Lake, Provenance
from headwater.sequences.packing import SPANS

LENGTH = 16
SOURCES = ("books", "code", "web")


def write_packed(
    lake: Lake,
    name: str = "sequences",
    *,
    rows: int = 50,
    length: int = LENGTH,
    seed: int = 0,
    sources: tuple[str, ...] = SOURCES,
    vocab_size: int = 1_000,
    **extra: Any,
) -> pa.Table:
    """Write ``rows`` sequences of random tokens and spans; the last one is padded. Returns the table."""
    random = np.random.default_rng(seed)
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    tokens = random.integers(0, vocab_size, rows * length).astype(dtype)
    spans = []
    for row in range(rows):
        left, mine = length if row < rows - 1 else length - 3, []
        while left:
            count = int(random.integers(1, left + 1))
            source = SOURCES[int(random.integers(0, len(SOURCES)))]
            mine.append({"doc_id": random.bytes(16), "start": 0, "length": count, "source": source})
            left -= count
        spans.append(mine)
    table = pa.table(
        {
            "sequence_index": pa.array(np.arange(rows)),
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens), length),
            "spans": pa.array(spans, SPANS),
        }
    )
    facts = {"sequence_length": length, "tokenizer_id": "t" * 32, "vocab_size": vocab_size, "seed": seed}
    facts["sources"] = dict.fromkeys(sources, 1)
    lake.write(name, table, provenance=Provenance(kind="pack", extra={**facts, **extra}))
    return table
