"""``headwater build``: run the project's models and tests."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.progress import step_progress
from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError
from headwater.progress import listening
from headwater.report.words import count, seconds

if TYPE_CHECKING:
    from headwater.build import BuildReport, NodeResult

_STYLES = {
    "failed": "bold red",
    "skipped": "yellow",
    "built": "green",
    "extended": "green",
    "unchanged": "dim",
}


@click.command("build", short_help="Build the project's models and run their tests.")
@click.option("--select", "-s", metavar="NODES", help="dbt node selection, e.g. python_textbook+.")
@click.option("--full-refresh", is_flag=True, help="Rebuild models even where nothing changed.")
@click.option("--vars", "variables", metavar="YAML", help="Variables, e.g. '{min_words: 100}'.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Models at a time.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Run row-wise models on N Dask processes."
)
@click.option("--dask", metavar="ADDRESS", help="Run them on a running Dask scheduler, tcp://host:port.")
@json_option
@session_options
@pass_session
def command(
    session: Session,
    select: str | None,
    full_refresh: bool,
    variables: str | None,
    threads: int | None,
    workers: int | None,
    dask: str | None,
) -> int:
    """Build the project's models and run their tests.

    Row-wise models compute only new rows; a model whose SQL, parameters and inputs are what they were
    is left as it is. Exit code 1 when a model or a test failed.
    """
    from headwater.build import build

    with step_progress(session, "build") as step:
        running: dict[str, str] = {}

        def show() -> None:
            step(", ".join(f"{name} {said}".strip() for name, said in running.items()))

        def on_event(state: str, name: str) -> None:
            running[name] = ""
            if state != "start":
                del running[name]
            show()

        def on_progress(work: str, message: str) -> None:
            name = work.rpartition(".")[2]
            if name in running:
                running[name] = message
            show()

        with _predictions(session), listening(on_progress):
            report = build(
                session.project_dir or ".",
                target=session.target,
                lake=session.lake_uri,
                select=select,
                threads=threads,
                workers=workers,
                dask=dask,
                full_refresh=full_refresh,
                vars=parse_vars(variables),
                on_event=on_event,
            )
    if session.as_json:
        session.emit_json(report)
    else:
        _show(session, report)
    return 0 if report.success else 1


@contextlib.contextmanager
def _predictions(session: Session) -> Iterator[None]:
    """Print what long work predicts of its memory and time, before it starts."""
    if session.as_json or session.quiet:
        yield
        return

    class Printed(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            session.out.print(plain(record.getMessage()), style="dim", soft_wrap=True)

    logger, handler = logging.getLogger("headwater.dedup"), Printed(logging.INFO)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # dbt gives the root logger a handler of its own
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def parse_vars(text: str | None) -> dict[str, Any]:
    """A YAML mapping, as dbt takes it."""
    if not text:
        return {}
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--vars is not YAML: {error}", hint="--vars '{name: value}'") from None
    if not isinstance(found, dict):
        raise UsageError(f"--vars is not a mapping: {text}", hint="--vars '{name: value}'")
    return found


def _show(session: Session, report: BuildReport) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, justify in (
        ("model", "left"),
        ("status", "left"),
        ("version", "right"),
        ("rows", "right"),
        ("time", "right"),
    ):
        table.add_column(name, justify=justify, header_style="dim")  # type: ignore[arg-type]
    for node in report.models:
        table.add_row(
            plain(node.name),
            Text(node.status, _STYLES.get(node.status, "")),
            count(node.version) if node.version is not None else "",
            count(node.rows) if node.rows is not None else "",
            seconds(node.seconds),
        )
    session.out.print(table)
    _show_failures(session, [node for node in report.nodes if node.status == "failed"])
    passed = sum(node.status == "passed" for node in report.tests)
    done = f"{passed} of {len(report.tests)} tests passed, " if report.tests else ""
    changed = "" if report.changed else ", nothing changed"
    verdict = Text("ok", "bold green") if report.success else Text("failed", "bold red")
    session.out.print(Text.assemble(verdict, f"  {done}{seconds(report.seconds)}{changed}"))


def _show_failures(session: Session, failed: list[NodeResult]) -> None:
    for node in failed:
        session.out.print()
        session.out.print(f"{node.kind} {plain(node.name)} failed", style="bold red")
        session.out.print(plain(node.message, lines=True), soft_wrap=True)
    if failed:
        session.out.print()
