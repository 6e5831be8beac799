"""What a check found: counts, column names and aggregates, never a row's values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater.lake import TableRef

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_MAX_NAMES = 50
"""Names of columns or numbers shown per result; more are counted."""

_SCHEMA_EXPECTATIONS = frozenset(
    {
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_be_in_type_list",
        "expect_table_columns_to_match_set",
        "expect_table_columns_to_match_ordered_list",
    }
)
"""Their observed text is a column's name or type, never a value."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One expectation's outcome.

    ``observed`` is a number, a list of numbers, or names of columns and types; ``unexpected_count``
    counts rows; ``details`` explains in words, e.g. the error that kept it from being computed.
    """

    expectation: str
    column: str | None
    success: bool
    observed: Any = None
    unexpected_count: int | None = None
    details: str = ""
    why: str = ""
    """What a violation would mean: the ``why`` in the expectation's ``meta``."""
    rows: tuple[str, ...] = ()
    """Sums over documents that a failed query found, as its ``say`` says them."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "expectation": self.expectation,
            "column": self.column,
            "success": self.success,
            "observed": self.observed,
            "unexpected_count": self.unexpected_count,
            "details": self.details,
            "why": self.why,
            **({"rows": list(self.rows)} if self.rows else {}),
        }

    def __str__(self) -> str:
        where = f" on {self.column}" if self.column else ""
        if self.rows:
            return "\n      ".join([f"{self.why or self.expectation}:", *self.rows])
        found = self.details or _found(self)
        return f"{self.expectation}{where}{f': {found}' if found else ''}"


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """One suite's outcome on one exact table version, and those of its upstream if asked for."""

    table: TableRef
    suite: str
    suite_digest: str
    results: tuple[CheckResult, ...]
    seconds: float
    upstream: tuple[CheckReport, ...] = ()

    @property
    def success(self) -> bool:
        """Whether every expectation held, upstream included."""
        return all(result.success for result in self.results) and all(r.success for r in self.upstream)

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The table's own expectations that did not hold."""
        return tuple(result for result in self.results if not result.success)

    def to_dict(self) -> dict[str, Any]:
        return {
            "table": self.table.name,
            "version": self.table.version,
            "digest": self.table.digest,
            "suite": self.suite,
            "suite_digest": self.suite_digest,
            "success": self.success,
            "seconds": round(self.seconds, 3),
            "results": [result.to_dict() for result in self.results],
            "upstream": [report.to_dict() for report in self.upstream],
        }

    def to_json(self) -> str:
        """The report as JSON text; ``to_dict`` gives the object."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    def render(self) -> RichTable:
        """The report as a table for ``rich.print``."""
        from rich.table import Table as RichTable
        from rich.text import Text

        failed = len(self.failures)
        verdict = f"{failed} of {len(self.results)} failed" if failed else f"all {len(self.results)} held"
        table = RichTable(title=f"{self.table} · suite {self.suite}: {verdict}", title_justify="left")
        for header in ("", "expectation", "column", "found"):
            table.add_column(header)
        for result in self.results:
            mark = Text("ok", "green") if result.success else Text("failed", "bold red")
            # Text, not str: a bracket in a name is no markup.
            table.add_row(
                mark,
                Text(_said(result)),
                Text(result.column or ""),
                Text("\n".join(result.rows) or result.details or _found(result)),
            )
        return table


def results_of(
    suite: Any, outcome: Any, say: Callable[[Any], tuple[str, ...]] | None = None
) -> tuple[CheckResult, ...]:
    """Turn a Great Expectations outcome into results in the order of the suite.

    Great Expectations puts those that could not be computed first. ``say`` gives what a failed query found,
    from its configuration.
    """
    order = {_identity(e.configuration): position for position, e in enumerate(suite.expectations)}
    found = sorted(
        outcome.results,
        key=lambda r: order.get(_identity(r.expectation_config), len(order)),
    )
    return tuple(_result(entry, say) for entry in found)


def _identity(configuration: Any) -> str:
    kwargs = {k: v for k, v in configuration.kwargs.items() if k != "batch_id"}
    return json.dumps([configuration.type, kwargs], sort_keys=True, default=str)


def _result(entry: Any, say: Callable[[Any], tuple[str, ...]] | None) -> CheckResult:
    configuration = entry.expectation_config
    kind = configuration.type
    values = entry.result or {}
    observed = _observed(kind, values.get("observed_value"))
    count = values.get("unexpected_count")
    if kind == "unexpected_rows_expectation":
        count, observed = values.get("observed_value"), None
    is_said = say is not None and not entry.success and not _exception(entry.exception_info)
    return CheckResult(
        expectation=kind,
        column=_column(configuration.kwargs),
        success=bool(entry.success),
        observed=observed,
        unexpected_count=None if count is None else int(count),
        details=_details(configuration, entry),
        why=str((configuration.meta or {}).get("why", "")),
        rows=say(configuration) if say is not None and is_said else (),
    )


def _column(kwargs: Mapping[str, Any]) -> str | None:
    if kwargs.get("column"):
        return str(kwargs["column"])
    several = kwargs.get("column_list") or [kwargs.get("column_A"), kwargs.get("column_B")]
    return ", ".join(str(name) for name in several if name) or None


def _observed(kind: str, value: Any) -> Any:
    """Keep aggregates and names of columns; drop whatever could be a value of a row."""
    if isinstance(value, Mapping):
        return _numbers(value["values"]) if "values" in value else None  # quantiles
    if kind in _SCHEMA_EXPECTATIONS:
        return [str(name) for name in value[:_MAX_NAMES]] if isinstance(value, list) else str(value)
    return _number(value)


def _numbers(values: Any) -> list[int | float | None]:
    return [_number(value) for value in list(values)[:_MAX_NAMES]]


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value
    try:
        number = float(value) if not isinstance(value, str) else math.nan
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _details(configuration: Any, entry: Any) -> str:
    message = _exception(entry.exception_info)
    if message:
        return message
    if not entry.success:
        meta = configuration.meta or {}
        # The suite's author says what a custom query looks for; the query's rows are not shown.
        return str(meta.get("why", ""))
    return ""


def _exception(info: Any) -> str:
    if not isinstance(info, Mapping):
        return ""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            return redact(str(entry.get("exception_message") or "could not be computed"))
    return ""


def redact(message: str) -> str:
    """The first line of an error, without the values that DuckDB quotes (``'…'``)."""
    line = next((part for part in message.splitlines() if part.strip()), "")
    line = re.sub(r"^\(_?duckdb\.(\w+)\)\s*", "", line.strip())
    return re.sub(r"'(?:[^']|'')*'?", "'…'", line)


def _said(result: CheckResult) -> str:
    """The expectation in words: a custom query is told by its reason."""
    if result.why and result.expectation == "unexpected_rows_expectation":
        return f"never: {result.why}"
    return result.expectation.removeprefix("expect_").removeprefix("table_").removeprefix("column_")


def _found(result: CheckResult) -> str:
    if result.success and result.expectation == "expect_table_columns_to_match_set":
        return f"{len(result.observed or ())} columns"
    if result.unexpected_count:
        return f"{result.unexpected_count:,} unexpected rows"
    if isinstance(result.observed, list):
        return ", ".join(_brief(value) for value in result.observed)
    return "" if result.observed is None else _brief(result.observed)


def _brief(value: Any) -> str:
    return (
        f"{value:,.6g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )
