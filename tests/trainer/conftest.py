"""A packed lake and a recipe so small that a run of real processes takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from trainer_runs import RECIPE

from headwater.lake import Lake
from headwater.sequences import pack


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``lake`` (``dev.sequences``: 64 tokens, unapproved) and ``tiny.py``."""
    place = tmp_path_factory.mktemp("trainer")
    (place / "tiny.py").write_text(RECIPE)
    words = np.random.default_rng(4).zipf(1.5, (120, 80)) % 50
    texts = [" ".join(f"w{w}" for w in row[: 10 + i % 70]) for i, row in enumerate(words)]
    ids = [xxhash.xxh3_128_digest(f"{i}{text}".encode()) for i, text in enumerate(texts)]
    columns = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "text": pa.array(texts, pa.large_string()),
        "source": pa.array(["made"] * len(ids)),
    }
    lake = Lake(place / "lake")
    lake.write("book", pa.table(columns))
    pack(lake, "book", sequence_length=64, vocab_size=300, require_approved=False)
    return place
