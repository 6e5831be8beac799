"""A packed lake and a recipe so small that a run of real processes takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from headwater.lake import Lake
from headwater.sequences import pack

TRAINER = Path(__file__).parents[2] / "trainer"

RECIPE = """
from recipe import Recipe


def tiny() -> Recipe:
    return Recipe(
        hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, num_kv_heads=1,
        global_batch_size=4, micro_batch_size=1, max_steps=12, learning_rate=1e-2,
        min_learning_rate=1e-3, warmup_steps=2, checkpoint_every=4,
    )
"""


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


def command(place: Path, *options: str, processes: int = 1, recipe: str = "tiny.py:tiny") -> list[str]:
    """The command line of a run in ``place``; one process goes without torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start = [sys.executable, *(torchrun if processes > 1 else []), str(TRAINER / "train.py")]
    return [*start, recipe, "--lake", "lake", *options]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train(place: Path, *options: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end, whatever the exit code."""
    line = command(place, *options, **how)
    return subprocess.run(
        line, cwd=place, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )


def losses(place: Path, out: str) -> dict[int, float]:
    """The loss curve of the one run in folder ``out``, from the lake's log: the last attempt of each step."""
    (run,) = (place / out).iterdir()
    rows = Lake(place / "lake").table("training_steps").to_arrow(filter=f"run_id = '{run.name}'").to_pylist()
    return {r["step"]: r["loss"] for r in sorted(rows, key=lambda r: (r["step"], r["attempt"]))}
