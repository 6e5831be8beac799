"""Every error Headwater raises on purpose.

    HeadwaterError
    ├── UsageError(ValueError)          wrong use: exit code 2
    │   ├── UnknownName                 a table, version, tag, column, rule or operator that is not there
    │   ├── BadInput                    a file, row or field that cannot be read
    │   │   └── MissingProvenance       a synthetic row that does not say where it comes from
    │   └── MissingExtra(ImportError)   an optional dependency, with the command that installs it
    ├── CheckFailed                     a check, suite or approval said no: exit code 1
    │   ├── NotApproved                 approved data was asked for and there is none
    │   └── ConservationError           a model lost or doubled documents of its base table
    └── LakeError(RuntimeError)         the lake itself: exit code 1
        ├── LeaseHeld                   another process writes to this schema
        ├── CommitConflict              the table moved under a writer; nothing was written
        ├── FormatMismatch              a lake made by another format version
        └── DataMismatch                a table, tokenizer or length differs from what was recorded

A message says what was found and what was expected; the hint, on its own line, says what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeadwaterError(Exception):
    """Root of all errors; ``hint`` is printed on its own line, ``exit_code`` is what the CLI returns."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n\nHint: {hint}" if hint else message)


class UsageError(HeadwaterError, ValueError):
    """The call or the configuration is wrong."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is not known, with the known ones and the nearest matches."""

    @classmethod
    def of(cls, kind: str, name: object, known: Iterable[object], *, where: str = "") -> UnknownName:
        names = sorted({str(k) for k in known})
        near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
        place = f" in {where}" if where else ""
        shown = ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {shown or 'none yet'}"
        return cls(f"unknown {kind} {str(name)!r}{place}", hint=hint)


class BadInput(UsageError):
    """A file, row or field that cannot be read."""


class MissingProvenance(BadInput):
    """A synthetic row without what made it, or a row that hides that something did."""


class MissingExtra(UsageError, ImportError):
    """An optional dependency is not installed."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingExtra:
        return cls(f"{package} is not installed", hint=f"pip install 'headwater[{extra}]'")


class CheckFailed(HeadwaterError):
    """A check said no."""


class NotApproved(CheckFailed):
    """Approved data was asked for, and the table has no standing approval."""


class ConservationError(CheckFailed):
    """A curated model does not account for every document of its base table exactly once."""


class LakeError(HeadwaterError, RuntimeError):
    """The lake cannot do what was asked."""


class LeaseHeld(LakeError):
    """Another process holds the lease on this schema."""


class CommitConflict(LakeError):
    """The table moved under a writer; nothing was published."""


class FormatMismatch(LakeError):
    """The lake was made by another format version."""


class DataMismatch(LakeError):
    """What is there is not what was recorded: both sides are named."""
