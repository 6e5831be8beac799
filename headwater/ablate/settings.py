"""What is the same in every arm of an ablation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is the same in every arm. ``tokens`` are rounded down to whole steps."""

    recipe: str = "ablation_1m"
    tokens: int = 2_000_000
    seeds: tuple[int, ...] = (0, 1, 2)
    sequence_length: int = 256
    vocab_size: int = 4096
    tokenizer: str | None = None
    held_out: float = 0.02
    held_out_sources: tuple[str, ...] = ()
    held_out_bytes: int = 400_000
    pairs: int = 600
    jobs: int = 2
