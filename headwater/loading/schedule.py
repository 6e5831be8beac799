"""Which sequences a step takes: pure arithmetic on the position, equal on every rank."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headwater.errors import UsageError

BatchSizes = int | Sequence[tuple[int, int]]
"""Sequences in a step over all ranks; or a ramp-up ``[(from_sequence, size), …]`` that begins at 0."""


class Run(NamedTuple):
    """``steps`` consecutive steps of ``size`` sequences each, the first of them at ``first``."""

    first: int
    size: int
    steps: int


class Schedule:
    """The global batch size at each position of a table.

    A step that begins at position ``p`` takes the size of the last entry with ``from_sequence <= p``,
    whole, even where it runs past the next entry.
    """

    def __init__(self, sizes: BatchSizes, dp_world_size: int) -> None:
        entries = [(0, sizes)] if isinstance(sizes, int) else [(int(a), int(b)) for a, b in sizes]
        if not entries or entries[0][0] != 0:
            raise UsageError(
                f"got the batch sizes {entries}", hint="begin at sequence 0: [(0, 64), (100_000, 128)]"
            )
        self._froms = [start for start, _ in entries]
        self._sizes = [size for _, size in entries]
        if sorted(set(self._froms)) != self._froms:
            raise UsageError(
                f"got batch sizes from the sequences {self._froms}", hint="each later than the one before"
            )
        for size in self._sizes:
            if size < 1 or size % dp_world_size:
                raise UsageError(
                    f"a global batch of {size} sequences does not divide among {dp_world_size} ranks",
                    hint="choose a multiple of the number of ranks",
                )

    def size_at(self, sequence: int) -> int:
        """Sequences in the step that begins at ``sequence``."""
        return self._sizes[bisect_right(self._froms, sequence) - 1]

    def runs(self, first: int, stop: int) -> Iterator[Run]:
        """The full steps in ``[first, stop)``, those of one size together."""
        while True:
            entry = bisect_right(self._froms, first) - 1
            size = self._sizes[entry]
            steps = (stop - first) // size
            if entry + 1 < len(self._froms):
                steps = min(steps, -((first - self._froms[entry + 1]) // size))
            if steps < 1:
                return
            yield Run(first, size, steps)
            first += steps * size

    def steps(self, first: int, stop: int) -> int:
        """Full steps in ``[first, stop)``."""
        return sum(run.steps for run in self.runs(first, stop))

    def end(self, first: int, stop: int) -> int:
        """Where the last full step in ``[first, stop)`` ends; ``first`` when there is none."""
        return max((run.first + run.steps * run.size for run in self.runs(first, stop)), default=first)
