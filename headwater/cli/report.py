"""``headwater report``: the page about a curated table."""

from __future__ import annotations

from pathlib import Path

import click

from headwater.cli.progress import step_progress
from headwater.cli.session import Session, json_option, pass_session, plain, session_options


@click.command("report", short_help="Write one HTML page about a curated table.")
@click.argument("table", default="python_textbook")
@click.option("-o", "--output", type=click.Path(dir_okay=False), default="report.html", show_default=True)
@click.option(
    "--step", type=click.IntRange(min=0), metavar="N", help="Training step to trace.  [default: the last]"
)
@json_option
@session_options
@pass_session
def command(session: Session, table: str, output: str, step: int | None) -> int:
    """Write one HTML file about TABLE: funnel, rules, samples, checks, training, lineage.

    The file loads nothing when it is opened. With --json, print the funnel instead of writing a page.
    """
    from headwater.report import funnel, write_report

    if session.as_json:
        session.emit_json(funnel(session.lake, table))
        return 0
    with step_progress(session, f"report on {table}"):
        written = write_report(session.lake, Path(output), table=table, project=session.title, step=step)
    session.out.print(plain(f"{written}"), soft_wrap=True)
    return 0
