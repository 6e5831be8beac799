"""Patience with an object store, and errors that say which sequences could not be read."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from headwater.errors import HeadwaterError, LakeError
from headwater.loading.files import Indices
from headwater.loading.rows import Reader, Rows

T = TypeVar("T")

RETRY_SECONDS = 60.0
"""How long an object store may refuse or fail to answer before a read gives up."""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0

_FINAL = re.compile(
    r"status code: (401|403|404)\b|\bnot found\b|no such file|nosuchkey|accessdenied", re.IGNORECASE
)
"""What another attempt would not change, as object stores and Lance word it.

A bare number says nothing: it may be part of a duration (``in 404.05ms``) or of a file's hexadecimal name.
"""

_RUST_PLACE = re.compile(r",? ?\S+\.rs:\d+:\d+$")

_log = logging.getLogger(__name__)


class Retry:
    """Calls again, with growing pauses, what failed on an object store.

    ``num_retries`` counts the repeated calls; ``stop`` ends a pause at once.
    """

    def __init__(self, *, remote: bool) -> None:
        self.num_retries = 0
        self.stop = threading.Event()
        self._remote = remote

    def __call__(self, what: str, call: Callable[[], T]) -> T:
        """Return ``call()``; raise ``LakeError`` naming ``what`` when it fails for good.

        Errors of Headwater's own pass through: they say what is wrong already.
        """
        began = time.monotonic()
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return call()
            except (HeadwaterError, KeyboardInterrupt, SystemExit, GeneratorExit) as error:
                if not (self._remote and _is_wrapped(error)):
                    raise
                failure: BaseException = error
            except BaseException as error:  # Rust panics are no Exception
                failure = error
            reason = first_line(failure)
            waited = time.monotonic() - began
            if not self._remote or _is_final(reason) or waited >= RETRY_SECONDS or self.stop.is_set():
                raise LakeError(
                    f"cannot read {what}: {reason}" + (f" (tried for {waited:.0f} s)" if waited >= 1 else ""),
                    hint="the position is kept: load the last state_dict() when the files are back",
                ) from failure
            _log.warning("cannot read %s, trying again: %s", what, reason)
            self.num_retries += 1
            self.stop.wait(min(pause, RETRY_SECONDS - waited))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


class PatientReader:
    """A reader whose failures name the sequences, after the retries an object store deserves."""

    def __init__(self, reader: Reader, name: str, retry: Retry) -> None:
        self._reader = reader
        self._name = name
        self._retry = retry

    def __call__(self, rows: Indices) -> Rows:
        what = f"sequences {int(rows[0])} to {int(rows[-1])} of {self._name}"
        return self._retry(what, lambda: self._reader(rows))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the place in Lance's source that it may end with."""
    lines = str(error).strip().splitlines()
    return _RUST_PLACE.sub("", lines[0]) if lines else type(error).__name__


def _is_final(reason: str) -> bool:
    return _FINAL.search(reason) is not None


def _is_wrapped(error: BaseException) -> bool:
    """True for what the lake wrapped around an error of its store (opening a table)."""
    return type(error) is LakeError and error.__cause__ is not None
