"""Checkpoints: a folder that is there whole or not at all, readable by any number of ranks."""

# ruff: noqa: TID253  (the trainer is about torch)

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.optim import Optimizer

STATE_FILE = "state.json"
"""Step and loader state. A file of its own: under one key of a DCP checkpoint every rank would get the
last rank's copy back."""


def save(folder: Path, model: nn.Module, optimizer: Optimizer, state: dict[str, Any], keep: int) -> Path:
    """Write ``folder/step-N``, then remove all but the newest ``keep``. Every rank calls it."""
    final = folder / f"step-{state['step']:08d}"
    unfinished = final.with_suffix(".tmp")
    if dist.get_rank() == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    dist.barrier()
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=unfinished)
    if dist.get_rank() == 0:
        (unfinished / STATE_FILE).write_text(json.dumps(state, indent=2))
        shutil.rmtree(final, ignore_errors=True)  # of an earlier attempt at the same steps
        unfinished.rename(final)
        for old in saved(folder)[:-keep]:
            shutil.rmtree(old)
    dist.barrier()
    return final


def saved(folder: Path) -> list[Path]:
    """The finished checkpoints in ``folder``, oldest first."""
    return sorted(p for p in folder.glob("step-*") if p.suffix != ".tmp" and (p / STATE_FILE).is_file())


def read_state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text())
    return state


def load(checkpoint: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Fill model and optimizer from ``checkpoint``, whatever number of ranks wrote it."""
    weights, moments = get_state_dict(model, optimizer)
    parts = {"model": weights, "optimizer": moments}
    dcp.load(parts, checkpoint_id=checkpoint)
    set_state_dict(model, optimizer, model_state_dict=parts["model"], optim_state_dict=parts["optimizer"])
