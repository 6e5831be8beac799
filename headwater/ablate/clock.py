"""How far an ablation is, how fast it goes, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from headwater.ablate.results import ALL_PAIRS, BITS_PER_BYTE

if TYPE_CHECKING:
    from headwater.ablate.training import Run

Tell = Callable[[str], None]
"""Called with a line about what is done."""


class Clock:
    """Steps of all runs together: how fast they go, and how long they will take."""

    def __init__(self, num_runs: int, tokens: int, tell: Tell) -> None:
        self._num_runs = num_runs
        self._tokens = tokens
        self._tell = tell
        self._steps: dict[str, int] = {}
        self._finished = 0
        self._began = time.perf_counter()

    def advance(self, name: str, step: int) -> None:
        self._steps[name] = step

    def finish(self, run: Run, values: Mapping[tuple[str, str], float]) -> None:
        self._finished += 1
        self._steps[run.name] = run.max_steps
        total = self._num_runs
        done = sum(self._steps.values()) / run.max_steps
        seconds = time.perf_counter() - self._began
        left = seconds * (total - done) / done if done else 0.0
        rate = done * self._tokens / seconds
        said = ", ".join(
            f"{part} {value:.4f}" if measure == BITS_PER_BYTE else f"{part} {100 * value:.1f} %"
            for (measure, part), value in values.items()
            if measure == BITS_PER_BYTE or part == ALL_PAIRS
        )
        self._tell(
            f"{self._finished} of {total}: {run.arm} seed {run.seed}: {said}; {rate:,.0f} tokens/s in all, "
            f"{left / 60:.0f} min left"
        )
