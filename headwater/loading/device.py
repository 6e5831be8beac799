"""Batches on the accelerator, copied while the step before them computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from headwater.errors import MissingExtra

try:
    import torch
except ImportError as error:
    raise MissingExtra.of("torch", "train") from error

if TYPE_CHECKING:
    from headwater.streaming import SequenceStream

Batch = dict[str, Any]

COPIES_AHEAD = 2


def to_device(batches: SequenceStream | Iterable[Batch], device: Any) -> Iterator[Batch]:
    """Yield ``batches`` with their tensors on ``device``.

    On CUDA the copies run on a stream of their own, two batches ahead, from pinned memory
    (``stream(..., pin_memory=True)``; other batches are pinned here). A ``SequenceStream``'s position counts
    what was yielded, not what is being copied, so its ``state_dict()`` stays exact, and a ``seek`` drops the
    batches that were copied ahead. Elsewhere batches are moved one by one, or passed through when they are
    there already.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return _copied_ahead(batches, device)
    return iter(batches) if device.type == "cpu" else _moved(batches, device)


def _moved(batches: Iterable[Batch], device: Any) -> Iterator[Batch]:
    for batch in batches:
        yield {key: _on(value, device) for key, value in batch.items()}


def _copied_ahead(batches: Any, device: Any) -> Iterator[Batch]:
    copier = torch.cuda.Stream(device)
    computing = torch.cuda.current_stream(device)
    waiting: deque[tuple[Batch, Any]] = deque()
    source = iter(batches)
    counted = hasattr(batches, "next_sequence")  # a SequenceStream: the position is put right
    seeks = batches.num_seeks if counted else 0
    while True:
        if counted and batches.num_seeks != seeks:
            waiting.clear()
            seeks = batches.num_seeks
        position = batches.next_sequence if counted else 0
        try:
            while len(waiting) <= COPIES_AHEAD and (batch := next(source, None)) is not None:
                waiting.append(_copied(batch, copier, device))
        finally:
            if counted:
                batches.next_sequence = position
        if not waiting:
            return
        batch, copied = waiting.popleft()
        if counted:
            batches.next_sequence = batch["first_sequence"] + batch["count"]
        computing.wait_event(copied)
        for value in batch.values():
            if isinstance(value, torch.Tensor):
                value.record_stream(computing)  # allocated on the copier's stream, used on this one
        yield batch


def _copied(batch: Batch, copier: Any, device: Any) -> tuple[Batch, Any]:
    """The batch on the device, and the event after its copies.

    torch's pool of pinned memory keeps the source until the copy is done, so nothing is held here.
    """
    with torch.cuda.stream(copier):
        moved = {key: _on(value, device) for key, value in batch.items()}
        return moved, copier.record_event()


def _on(value: Any, device: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if device.type == "cuda" and not value.is_pinned():
        value = value.pin_memory()
    return value.to(device, non_blocking=True)
