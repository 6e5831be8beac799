"""Saving and loading weights: in the background, whole or not at all, by any number of ranks."""

# ruff: noqa: TID253  (the trainer is about torch)

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.optim import Optimizer

from headwater.errors import DataMismatch, HeadwaterError
from headwater.training.checkpoints import damage, finish, one_before, read_state, saved, set_aside

__all__ = ["Checkpoints", "load", "read_state", "saved"]

SLOWEST_SAVE = timedelta(minutes=30)
"""How long a rank waits for the others' files."""

Saved = tuple[Path, dict[str, Any]]


class Checkpoints:
    """The saves of one attempt, one at a time: written by a thread, final only when complete.

    A crash leaves a ``.tmp`` folder, never half a checkpoint. A save that fails (a full disk) removes what it
    wrote and leaves the older ones alone; :meth:`poll` and :meth:`wait` raise its reason.
    """

    def __init__(self, folder: Path, step: int, *, keep: int, background: bool) -> None:
        self._folder, self._keep, self._background = folder, keep, background
        # A group of its own: the thread's collectives must not mix with those of the steps.
        self._group = dist.new_group(backend="gloo", timeout=SLOWEST_SAVE)
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[Saved] | None = None
        if dist.get_rank() == 0:
            set_aside(folder, step)

    @property
    def failed(self) -> bool:
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def save(self, model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Copy the weights, and write ``step-N`` from the copy. Every rank calls it, after :meth:`wait`.

        The state is a file of rank 0's: under a key of DCP every rank would get the last rank's copy back.
        """
        unfinished = self._folder / f"step-{state['step']:08d}.tmp"
        weights, moments = get_state_dict(model, optimizer)
        parts = {"model": weights, "optimizer": moments}
        upload = dcp.async_save(parts, checkpoint_id=unfinished, process_group=self._group)
        self._pending = self._thread.submit(self._finish, upload, unfinished, state)
        if not self._background:
            self._pending.exception()  # waits, and leaves the telling to wait()

    def poll(self) -> Saved | None:
        """Path and state of a save that has become final since the last call."""
        return self.wait() if self._pending and self._pending.done() else None

    def wait(self) -> Saved | None:
        """As :meth:`poll`, when the save that is under way has ended."""
        pending, self._pending = self._pending, None
        return pending.result() if pending else None

    def _finish(self, upload: Future[Any], unfinished: Path, state: dict[str, Any]) -> Saved:
        try:
            upload.result()  # on rank 0 it comes after every rank has written
            if dist.get_rank() == 0:
                finish(unfinished, state, keep=self._keep)
        except BaseException as error:  # DCP's is no Exception
            if dist.get_rank() == 0:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise HeadwaterError(
                f"could not save {unfinished.stem}: {_reason(error)}",
                hint=f"the older checkpoints are as they were; make room, then --resume {self._folder.name}",
            ) from None
        return unfinished.with_suffix(""), state


def load(checkpoint: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Fill model and optimizer from ``checkpoint``, whatever number of ranks wrote it.

    Raises ``DataMismatch`` on every rank when a file is not as it was written, or holds other shapes. The
    ranks share the reading of the files.
    """
    found: list[list[str]] = [[]] * dist.get_world_size()
    dist.all_gather_object(found, damage(checkpoint, dist.get_rank(), dist.get_world_size()))
    if any(found):
        what = "; ".join(text for texts in found for text in texts)
        raise DataMismatch(f"{checkpoint} is damaged: {what}", hint=one_before(checkpoint))
    weights, moments = get_state_dict(model, optimizer)
    parts = {"model": weights, "optimizer": moments}
    try:
        dcp.load(parts, checkpoint_id=checkpoint)
    except CheckpointException as error:
        raise DataMismatch(
            f"cannot load {checkpoint}: {_reason(error)}", hint=one_before(checkpoint)
        ) from None
    set_state_dict(model, optimizer, model_state_dict=parts["model"], optim_state_dict=parts["optimizer"])


def _reason(error: BaseException) -> str:
    failures = getattr(error, "failures", None)  # of DCP: {rank: (error, traceback)}
    first = next(iter(failures.values()))[0] if failures else error
    while first.__context__ is not None and not isinstance(first, OSError):
        first = first.__context__
    text = f"{type(first).__name__}: {first}".splitlines()[0]
    short = "unexpected pos" in text  # all that torch's writer says of a write that came back short
    return f"{text} (PytorchStreamWriter could not write: is the disk full?)" if short else text
