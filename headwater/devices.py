"""Which device computes: the best there is, or the one that was asked for."""

from __future__ import annotations

import re
from typing import Any

from headwater.errors import MissingExtra, UsageError

_SPELLED = re.compile(r"cpu|mps|cuda(:\d+)?")


def best(torch: Any) -> str:
    """``cuda``, ``mps`` or ``cpu``: the first of these that this machine and this build of torch have."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose(device: str | None, *, extra: str = "embeddings") -> str:
    """``cuda``, ``mps`` or ``cpu``: the first of these there is, unless one is named.

    Raises
    ------
    UsageError
        No such device, or this machine has none.
    MissingExtra
        PyTorch is not installed; ``extra`` is the one that brings it to what asks.
    """
    torch = _torch(extra)
    if not device:
        return best(torch)
    if not _SPELLED.fullmatch(device):
        raise UsageError(f"unknown device {device!r}", hint="expected cuda, cuda:1, mps or cpu")
    if device.startswith("cuda"):
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(device.partition(":")[2] or 0) >= there:
            seen = f"PyTorch {torch.__version__} sees {there or 'no'} CUDA device{'s' if there > 1 else ''}"
            raise UsageError(
                f"device {device} was asked for; {seen}",
                hint="leave the device out to take the best there is, or say cpu",
            )
    if device == "mps" and not torch.backends.mps.is_available():
        raise UsageError(
            "device mps was asked for; this machine has none",
            hint="leave the device out to take the best there is, or say cpu",
        )
    return device


def check(device: str | None) -> None:
    """Refuse a device that is not there, without importing torch where none or ``cpu`` is named."""
    if device and device != "cpu":
        choose(device)


def _torch(extra: str) -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtra.of("torch", extra) from None
    return torch
