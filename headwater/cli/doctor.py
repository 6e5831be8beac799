"""``headwater doctor``: what is here, what is missing, and the command that mends it."""

from __future__ import annotations

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options

_STYLES = {"ok": "green", "note": "dim", "missing": "bold red", "broken": "bold red", "warning": "yellow"}


@click.command("doctor", short_help="Say what is missing and the command that installs it.")
@json_option
@session_options
@pass_session
def command(session: Session) -> int:
    """Check the installation, the project and the lake; exit code 1 when something required is missing."""
    from headwater.doctor import diagnose

    findings = diagnose(session.project_dir, target=session.target, lake=session.lake_uri)
    failed = any(finding.blocks for finding in findings)
    if session.as_json:
        session.emit_json([finding.to_json() for finding in findings])
        return int(failed)
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        words = Text(plain(finding.detail))
        if finding.fix:
            words.append(f"\n→ {plain(finding.fix)}", style="cyan")
        table.add_row(Text(finding.status, _STYLES[finding.status]), Text(plain(finding.name)), words)
    session.out.print(table)
    return int(failed)
