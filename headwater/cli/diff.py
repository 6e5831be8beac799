"""``headwater diff``: what changed between two table versions."""

from __future__ import annotations

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError


@click.command("diff", short_help="Show what changes between two table versions.")
@click.argument("a")
@click.argument("b", required=False)
@click.option("--markdown", is_flag=True, help="Markdown as it is, also on a terminal.")
@json_option
@session_options
@pass_session
def command(session: Session, a: str, b: str | None, markdown: bool) -> int:
    """Show what changes from table version A to B: documents, bytes, rules, values, inputs.

    Write TABLE, TABLE@VERSION, TABLE@approved, or SCHEMA:TABLE (prod:python_textbook
    dev:python_textbook). With one TABLE: its last version against the one before. Prints Markdown for
    a pull request when the output is not a terminal.
    """
    from headwater.diff import diff, previous

    if b is None:
        if "@" in a:
            raise UsageError("diff needs two versions", hint=f"headwater diff {a} {a.partition('@')[0]}")
        a, b = previous(session.lake, a), a
    found = diff(session.lake, a, b)
    if session.as_json:
        session.emit_json(found)
    elif session.out.is_terminal and not markdown:
        from rich.markdown import Markdown

        session.out.print(Markdown(plain(found.to_markdown(), lines=True)))
    else:
        click.echo(found.to_markdown(), nl=False)
    return 0
