"""Runs of the trainer as processes of their own, and what the lake logged of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from headwater.lake import Lake

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

LEAVE = """
sys.stdout.flush()
os._exit(0)  # as train.py: gloo's threads may abort a process that takes its interpreter down
"""
"""The end of a script that opens a process group; it has imported ``os`` and ``sys``."""


def python(processes: int) -> list[str]:
    """What a script is started with; one process goes without torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *(torchrun if processes > 1 else [])]


def command(place: Path, *options: str, processes: int = 1, recipe: str = "tiny.py:tiny") -> list[str]:
    """The command line of a run in ``place``."""
    return [*python(processes), str(TRAINER / "train.py"), recipe, "--lake", "lake", *options]


def environment(**other: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **other}


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
