"""What a failed query says of the rows it found, where its author wrote how to say it.

A check reports counts, never a row's values, which may be somebody's personal data. Where rows are sums over
many documents (a domain, its share, its cap), a suite may say them: ``{"say": "{domain}: {share:.1%}"}``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from headwater.errors import BadInput

if TYPE_CHECKING:
    import duckdb

MAX_ROWS = 8
MAX_CHARS = 60
"""Of a text among the values."""

_SPEC = re.compile(r"[<>^]?\d{0,2},?(?:\.\d)?[%dfge]?")


def said_rows(connection: duckdb.DuckDBPyConnection, query: str, view: str, template: str) -> tuple[str, ...]:
    """The first rows of ``query`` as ``template`` says them, and how many more there are."""
    names = fields_of(template)
    sql = query.replace("{batch}", view).strip().rstrip(";")
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    found = connection.execute(f"select {columns} from ({sql}) limit {MAX_ROWS + 1}").fetchall()
    lines = [
        template.format_map({name: _plain(value) for name, value in zip(names, row, strict=True)})
        for row in found[:MAX_ROWS]
    ]
    return (*lines, "…") if len(found) > MAX_ROWS else tuple(lines)


def fields_of(template: str) -> list[str]:
    """The columns that a template names. Raises ``BadInput`` for more than names and plain formats."""
    names: list[str] = []
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise BadInput(f"the suite says {template!r}: {error}") from error
    for _, name, spec, conversion in parsed:
        if name is None:
            continue
        if not name.isidentifier() or conversion or not _SPEC.fullmatch(spec or ""):
            raise BadInput(
                f"the suite says {template!r}: {name!r} is no column with a plain format",
                hint="for example {domain}, {documents:,} or {share:.1%}",
            )
        names.append(name)
    if not names:
        raise BadInput(f"the suite says {template!r}, which names no column")
    return list(dict.fromkeys(names))


class _Missing:
    """NULL takes any format."""

    def __format__(self, spec: str) -> str:
        return "nothing"


def _plain(value: Any) -> Any:
    if value is None:
        return _Missing()
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Decimal):  # DuckDB's type of 0.05
        return float(value)
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS] + "…"


def template_of(meta: Mapping[str, Any] | None) -> str | None:
    """The ``say`` of an expectation's meta."""
    said = (meta or {}).get("say")
    return str(said) if said else None
