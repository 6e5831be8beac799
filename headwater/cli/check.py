"""``headwater check``: run a table's expectation suite against one exact version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headwater.cli.progress import step_progress
from headwater.cli.session import Session, json_option, pass_session, session_options
from headwater.errors import UsageError

if TYPE_CHECKING:
    from headwater.checks import CheckReport


@click.command("check", short_help="Check tables against their suites.")
@click.argument("tables", metavar="[TABLE]…", nargs=-1)
@click.option("--version", metavar="V", help="Version number, tag, or 'approved'.  [default: the latest]")
@json_option
@session_options
@pass_session
def command(session: Session, tables: tuple[str, ...], version: str | None) -> int:
    """Check tables against their suites in expectations/.

    Without TABLE, every suite whose table is in the lake. Exit code 1 when an expectation fails.
    """
    from headwater.checks import check, suite_names
    from headwater.lake.names import read_version

    root = session.project.root
    if version and len(tables) != 1:
        raise UsageError("--version needs exactly one table", hint="headwater check TABLE --version N")
    names = list(tables)
    if not names:
        known = suite_names(root)
        names = [name for name in known if session.lake.exists(name)]
        for name in sorted(set(known) - set(names)):
            session.note(f"skipped {name}: the suite's table is not in the lake yet")
    if not names:
        raise UsageError("nothing to check", hint="build a table that has a suite in expectations/")
    wanted = read_version(version)
    reports: list[CheckReport] = []
    with step_progress(session, "check") as step:
        for name in names:
            step(name)
            report = check(session.lake, name, version=wanted, project_dir=root)
            reports.append(report)
            if not session.as_json:
                session.out.print(report.render())
    if session.as_json:
        session.emit_json([report.to_dict() for report in reports])
    return 0 if all(report.success for report in reports) else 1
