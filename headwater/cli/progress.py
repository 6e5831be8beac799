"""Progress on standard error, and nothing at all where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headwater.cli.session import Session, plain

if TYPE_CHECKING:
    from rich.progress import Progress

NOTE_CHARACTERS = 48


@contextmanager
def byte_progress(session: Session, title: str) -> Iterator[Callable[[int, int | None, str], None]]:
    """A bar over bytes: call the result with ``(done, total or None, what is being read)``."""
    if not _watched(session):
        yield lambda *_: None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with _bar(session, columns) as bar:
        task = bar.add_task(plain(title), total=None, note="")

        def advance(done: int, total: int | None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=plain(note)[-NOTE_CHARACTERS:])

        yield advance


@contextmanager
def step_progress(session: Session, title: str) -> Iterator[Callable[[str], None]]:
    """A spinner with the step that is running: call the result with its name."""
    if not _watched(session):
        yield lambda *_: None
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with _bar(session, columns) as bar:
        task = bar.add_task(plain(title), total=None)
        yield lambda step: bar.update(task, description=plain(f"{title}: {step}" if step else title))


def _bar(session: Session, columns: tuple[object, ...]) -> Progress:
    from rich.progress import Progress

    return Progress(*columns, console=session.err, transient=True)  # type: ignore[arg-type]


def _watched(session: Session) -> bool:
    return not session.quiet and session.err.is_terminal
