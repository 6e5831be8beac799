"""``headwater what-if``: what another rule or threshold would keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError
from headwater.report.words import change, count, seconds, size

if TYPE_CHECKING:
    from headwater.what_if import Sample, WhatIf


@click.command("what-if", short_help="Show what other rules or thresholds would keep.")
@click.argument("table")
@click.option(
    "--rule", "rules", multiple=True, metavar="NAME=PREDICATE", help="Change or add a rule; repeatable."
)
@click.option("--drop-rule", "dropped", multiple=True, metavar="NAME", help="Leave a rule out; repeatable.")
@click.option(
    "--threshold", "thresholds", multiple=True, metavar="NAME=VALUE",
    help="A duplicate threshold, e.g. near_duplicate=0.85; repeatable.",
)  # fmt: skip
@click.option("--vars", "variables", metavar="YAML", help="dbt variables to change, as for a build.")
@click.option("--samples", type=click.IntRange(min=0), default=10, show_default=True, metavar="N",
              help="Documents to show of each kind.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Chooses the samples.")
@json_option
@session_options
@pass_session
def command(
    session: Session,
    table: str,
    rules: tuple[str, ...],
    dropped: tuple[str, ...],
    thresholds: tuple[str, ...],
    variables: str | None,
    samples: int,
    seed: int,
) -> int:
    """Show what TABLE would gain and lose under other rules, from stored signals alone.

    The model's SQL runs over the exact versions that TABLE was built from, with these rules in the place
    of its own; survivors of duplicate clusters are chosen again. Nothing is written, no text is read.

    \b
    headwater what-if python_textbook --rule long_enough='num_words >= 80'
    headwater what-if python_textbook --drop-rule commented --threshold near_duplicate=0.85
    """
    from headwater.what_if import what_if

    found = what_if(
        session.project,
        table,
        rules=_pairs(rules, "--rule", "long_enough='num_words >= 80'"),
        drop=dropped,
        thresholds=_numbers(_pairs(thresholds, "--threshold", "near_duplicate=0.85")),
        variables=_variables(variables),
        samples=samples,
        seed=seed,
    )
    if session.as_json:
        session.emit_json(found)
    else:
        _Writer(session, found).write()
    return 0


SOURCES_SHOWN = 15
"""Those that change most; --json has all."""


class _Writer:
    """Prints the answer from the totals down to single documents."""

    def __init__(self, session: Session, found: WhatIf) -> None:
        self._out = session.out
        self._found = found

    def write(self) -> None:
        found = self._found
        for note in (*found.notes, *(f"computed again: {name}" for name in found.recomputed)):
            self._line(f"note: {note}", style="dim")
        self._line(f"{found.table}@{found.version}, {count(found.candidates)} candidates", style="bold")
        net = change(found.before.rows, found.after.rows)
        self._line(f"  kept {count(found.before.rows)} → {count(found.after.rows)} ({net})")
        self._amounts("gained", found.gained.rows, found.gained.size, "green")
        self._amounts("lost", found.lost.rows, found.lost.size, "red")
        self._rules()
        self._sources()
        self._samples("gained, for example (it failed before)", found.gained_samples)
        self._samples("lost, for example (it fails now)", found.lost_samples)
        self._line(f"\nfrom stored signals in {seconds(sum(found.seconds.values()))}", style="dim")

    def _amounts(self, word: str, rows: int, amount: int | None, style: str) -> None:
        self._line(f"  {word} {count(rows)}{self._sized(amount, ', ')}", style=style)

    def _sized(self, amount: int | None, before: str = "") -> str:
        if amount is None:
            return ""
        unit = self._found.unit
        return before + (f"{size(amount)} of text" if unit == "bytes of text" else f"{count(amount)} {unit}")

    def _rules(self) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("\nrule", no_wrap=True)
        for name in ("\nfails", "was", "unknown", "only it"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("")
        for rule in self._found.rules:
            new = rule.expression[1]
            was = f"  (was: {rule.expression[0]})" if rule.change == "changed" else ""
            text = f"{rule.change}: {new or rule.expression[0]}{was}" if rule.change else new or ""
            table.add_row(
                Text(plain(rule.rule), "bold" if rule.change else ""),
                count(rule.failed[1]),
                count(rule.failed[0]),
                count(rule.unknown[1]),
                count(rule.only),
                Text(plain(text), "yellow" if rule.change else "dim"),
            )
        self._out.print(table)

    def _sources(self) -> None:
        from rich.table import Table

        if not self._found.by_source:
            return
        sized = self._found.gained.size is not None
        unit = self._found.unit.partition(" (")[0]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("\nsource", no_wrap=True)
        for word in ("gained", "lost", *((f"gained {unit}", f"lost {unit}") if sized else ())):
            table.add_column(f"\n{word}", justify="right", min_width=8)
        shown = self._found.by_source[:SOURCES_SHOWN]
        for row in shown:
            sizes = (_amount(row.gained.size, unit), _amount(row.lost.size, unit)) if sized else ()
            table.add_row(plain(row.source), count(row.gained.rows), count(row.lost.rows), *sizes)
        self._out.print(table)
        more = len(self._found.by_source) - len(shown)
        if more:
            self._out.print(f"and {more:,} more sources (all of them with --json)", style="dim")

    def _samples(self, title: str, samples: tuple[Sample, ...]) -> None:
        if not samples:
            return
        self._line(f"\n{title}", style="bold")
        for sample in samples:
            where = "/".join(part for part in (sample.source, sample.path) if part) or sample.doc_id
            values = ", ".join(f"{name} {_value(value)}" for name, value in sample.values.items())
            rules = f"  {', '.join(sample.rules)}" if sample.rules else ""
            self._line(f"  {where}  {values}{rules}  {sample.doc_id[:12]}")

    def _line(self, text: str, *, style: str | None = None) -> None:
        self._out.print(plain(text, lines=True), style=style, soft_wrap=True)


def _amount(value: int | None, unit: str) -> str:
    return size(value) if unit == "bytes of text" else count(value)


def _value(value: Any) -> str:
    if value is None:
        return "unknown (NULL)"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _pairs(given: tuple[str, ...], option: str, example: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise UsageError(f"{option} {text!r} is not NAME=…", hint=f"{option} {example}")
        if name.strip() in found:
            raise UsageError(f"{option} gives {name.strip()!r} twice")
        found[name.strip()] = value.strip()
    return found


def _numbers(given: dict[str, str]) -> dict[str, float]:
    found = {}
    for name, value in given.items():
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"--threshold {name}={value!r} is not a number") from None
    return found


def _variables(text: str | None) -> dict[str, Any]:
    import yaml

    if text is None:
        return {}
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--vars is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise UsageError("--vars is not a mapping", hint="--vars '{near_duplicate_threshold: 0.85}'")
    return found
