"""How far long work has come, for whoever wants to know: a display that listens, or a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

LINE_SECONDS = 30.0
"""Without a display (plain ``dbt build``, a log file) one line in so many seconds goes to standard error."""

_listeners: list[Callable[[str, str], None]] = []


@contextlib.contextmanager
def listening(listener: Callable[[str, str], None]) -> Iterator[None]:
    """``listener(work, message)`` hears of all progress inside the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Progress:
    """Counts towards ``total`` and tells of it at most twice a second."""

    def __init__(self, work: str, total: int, unit: str) -> None:
        self.work, self.total, self.unit = work, total, unit
        self.started = time.monotonic()
        self._told = 0.0
        self._printed = self.started

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def __call__(self, done: int) -> None:
        """``done`` of the total, so far."""
        now = time.monotonic()
        if now - self._told < 0.5:
            return
        self._told = now
        message = self.message(done)
        for listener in _listeners:
            listener(self.work, message)
        if not _listeners and now - self._printed >= LINE_SECONDS:
            self._printed = now
            print(f"{self.work}: {message}", file=sys.stderr, flush=True)  # noqa: T201

    def after(self, before: int, done: int) -> None:
        """``done`` more than ``before``: for a part of the work that counts from zero."""
        self(before + done)

    def message(self, done: int) -> str:
        """``12,000 of 25,872 texts, 430/s, 32 s left``."""
        rate = done / max(self.seconds, 1e-9)
        text = f"{done:,} of {self.total:,} {self.unit}, {rate:,.{0 if rate >= 10 else 1}f}/s"
        return text if not done else f"{text}, {rough_time((self.total - done) / max(rate, 1e-9))} left"


def rough_time(seconds: float) -> str:
    """``32 s`` / ``12 min`` / ``2.5 h``: as exact as a prediction is."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
