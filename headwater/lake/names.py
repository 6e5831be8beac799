"""Names of schemas and tables: letters, digits and underscores, so that they are safe in paths and SQL."""

from __future__ import annotations

import re

from headwater.errors import UsageError

RAW_SCHEMA = "raw"
"""Where ingest puts what it read; every target reads it, no model writes it."""

SYSTEM_TABLES = frozenset(
    {
        "builds",
        "rules",
        "decisions",
        "approvals",
        "takedowns",
        "training_runs",
        "training_steps",
        "training_sources",
        "checkpoints",
        "completions",
        "evaluations",
        "generation_samples",
        "loss_spikes",
        "stage_accounts",
        "tokenizers",
        "versions",
    }
)
"""Tables of a schema that Headwater keeps for itself; a model may not take their names."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_name(kind: str, name: str) -> str:
    """Return ``name``, or raise ``UsageError`` when it could not be a folder and an SQL identifier."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"got {name!r} as the name of a {kind}",
            hint="use letters, digits and underscores, and begin with a letter",
        )
    return name


def read_version(text: str | None) -> int | str | None:
    """A version as a person writes it: digits are its number, all else a tag or ``approved``; None stays."""
    return int(text) if text and text.isdigit() else text


def qualified(name: str, schema: str) -> str:
    """``schema.table`` for a bare or already qualified table name."""
    head, dot, tail = name.rpartition(".")
    return f"{check_name('schema', head) if dot else schema}.{check_name('table', tail)}"
