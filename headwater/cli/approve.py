"""``headwater approve``: put an exact table version on record as fit for training, or take that back."""

from __future__ import annotations

import getpass
import os
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from headwater.cli.progress import step_progress
from headwater.cli.session import Session, json_option, pass_session, plain, session_options

if TYPE_CHECKING:
    from headwater.approve import Revocation
    from headwater.lake.approvals import Approval


@click.command("approve", short_help="Check a table and its upstream, and record the approval.")
@click.argument("table")
@click.option("--why", required=True, metavar="TEXT", help="Reason, kept in the record.")
@click.option("--who", metavar="NAME", help="Person or job.  [default: git user.email, else the login name]")
@click.option("--version", metavar="V", help="Version number or tag.  [default: the latest]")
@click.option("--revoke", is_flag=True, help="Take back the standing approval, and all that rests on it.")
@json_option
@session_options
@pass_session
def command(
    session: Session, table: str, why: str, who: str | None, version: str | None, revoke: bool
) -> int:
    """Check TABLE and everything it was made from, and record the approval of that exact version.

    Nothing is recorded when a suite, a dbt test or an upstream table fails: exit code 1.
    """
    from headwater import approve as gate
    from headwater.lake.names import read_version

    person = who or default_person()
    wanted = read_version(version)
    if revoke:
        number = session.lake.table(table, version=wanted).version if wanted is not None else None
        revocation = gate.revoke(session.lake, table, who=person, why=why, version=number)
        _show_revocation(session, revocation)
        return 0
    started = datetime.now(UTC)
    with step_progress(session, f"approve {table}") as step:
        approval = gate.approve(
            session.lake,
            table,
            who=person,
            why=why,
            version=wanted,
            project_dir=session.project.root,
            target=session.project.target,
            on_step=step,
        )
    _show_approval(session, approval, is_new=approval.at >= started)
    return 0


def default_person() -> str:
    """``git config user.email`` where there is one, else the login name."""
    try:
        found = subprocess.run(["git", "config", "user.email"], capture_output=True, text=True, check=False)
        if found.stdout.strip():
            return found.stdout.strip()
    except OSError:
        pass
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def _show_approval(session: Session, approval: Approval, *, is_new: bool) -> None:
    if session.as_json:
        session.emit_json(approval.to_dict())
        return
    suites = ", ".join(f"{s.get('suite')} ({s.get('expectations')})" for s in approval.suites)
    said = (
        "approved" if is_new else f"unchanged: everything held again, approved since {approval.at:%Y-%m-%d}:"
    )
    session.out.print(f"{said} {approval.table}", style="bold green")
    session.out.print(f"  digest    {approval.table.digest}")
    session.out.print(plain(f"  suites    {suites or 'none'}"), soft_wrap=True)
    tests = "left out" if approval.dbt_tests is None else f"{len(approval.dbt_tests)} passed"
    session.out.print(f"  dbt tests {tests}")
    session.out.print(f"  upstream  {len(approval.closure)} table versions")
    session.out.print(plain(f"  by        {approval.who}: {approval.why}"), soft_wrap=True)


def _show_revocation(session: Session, revocation: Revocation) -> None:
    if session.as_json:
        session.emit_json(revocation.to_dict())
        return
    session.out.print(f"revoked the approval of {revocation.table}", style="bold yellow")
    for title, found in (
        (
            "approvals that fell with it",
            [a.table for a in revocation.approvals if a.table != revocation.table],
        ),
        ("table versions made from it", list(revocation.tables)),
        ("training runs that read it", [run.get("run_id") for run in revocation.training_runs]),
    ):
        if found:
            session.out.print(f"  {title}:")
            for each in found:
                session.out.print(plain(f"    {each}"))
