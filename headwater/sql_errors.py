"""DuckDB's refusals of a model, told by model, rule, position and near names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import duckdb

from headwater.decisions import PREFIX
from headwater.errors import UnknownName, UsageError


def explain_error(
    error: duckdb.Error, sql: str, model: str, columns: Mapping[str, Sequence[str]]
) -> UsageError:
    """Turn DuckDB's refusal of a model into a message that names model, rule, position and near names.

    ``columns`` maps the model's inputs to their columns.
    """
    text = str(error)
    at = _position(text, sql)
    rule = _rule_at(sql, at)
    place = f"model {model!r}" + (f", rule {rule!r}" if rule else "")
    if at is not None:
        line = sql.count("\n", 0, at) + 1
        place += f", line {line}, column {at - (sql.rfind(chr(10), 0, at) + 1) + 1} of the compiled SQL"
    missing = re.search(
        r'(?:Referenced column|column) "([^"]+)" not found|have a column named "([^"]+)"', text
    )
    if missing:
        name = missing[1] or missing[2]
        if name.lower() == "text":
            return UsageError(
                f"{place} reads the text column, which set models do not see",
                hint="compute signals in a row-wise model (meta: {rows_of: <table>}) and join those",
            )
        known = sorted({c for names in columns.values() for c in names})
        found = UnknownName.of("column", name, known)
        return UsageError(f"{place}: {found.message}", hint=found.hint)
    reason = text.split("\n\n")[0].strip()
    return UsageError(
        f"{place}: {reason}", hint="see the compiled SQL with `dbt compile --select " + model + "`"
    )


def _position(message: str, sql: str) -> int | None:
    """Offset in ``sql`` of the caret in a DuckDB error message.

    Every statement of a materialization puts the model's SQL on lines of its own, after its first.
    """
    found = re.search(r"^LINE (\d+): (.*)\n(\s*)\^", message, re.MULTILINE)
    if not found:
        return None
    lines = sql.split("\n")
    number = int(found[1]) - 2
    if not 0 <= number < len(lines):
        return None
    shown = found[2]
    caret = len(found[3]) - len(f"LINE {found[1]}: ")
    # DuckDB shortens long lines with "..." at either end.
    if shown.startswith("..."):
        start = lines[number].find(shown.strip(". ")[:40])
        caret = caret - 3 + max(start, 0)
    return sum(len(line) + 1 for line in lines[:number]) + max(caret, 0)


def _rule_at(sql: str, at: int | None) -> str | None:
    """The rule whose expression holds offset ``at``: the next ``as keep__…`` with no other alias between."""
    if at is None:
        return None
    found = re.compile(rf"\bas\s+\"?{PREFIX}(\w+)", re.IGNORECASE).search(sql, at)
    if found is None or re.search(r"\bfrom\b", sql[at : found.start()], re.IGNORECASE):
        return None
    return found[1]
