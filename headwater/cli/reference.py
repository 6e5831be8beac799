"""The command reference, made from the commands' own help.

``python -m headwater.cli.reference > docs/reference/cli.md``; a test fails when that file is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from headwater.cli import VERBS, cli

WIDTH = 100
_HEAD = """# The command line

<!-- Made by `python -m headwater.cli.reference > docs/reference/cli.md`; a test fails when it is stale. -->

Options that every verb takes (`--project-dir`, `--target`, `--lake`, `--quiet`, `--debug`) stand before
the verb or after it. `--json` prints one JSON document on standard output; progress, notes and errors
go to standard error. Exit codes: `0` ok, `1` a check failed or the work could not be done, `2` wrong
use, `130` interrupted.
"""


def reference() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    settings = {**cli.context_settings, "max_content_width": WIDTH, "terminal_width": WIDTH}
    top = click.Context(cli, info_name="headwater", **settings)
    yield _section("headwater", cli.get_help(top))
    for verb in VERBS:
        command = cli.get_command(top, verb)
        assert command is not None
        yield from _with_its_own(command, verb, top)


def _with_its_own(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """The section of a command, and of each command of its own."""
    context = click.Context(
        command, info_name=name, parent=parent, max_content_width=WIDTH, terminal_width=WIDTH
    )
    yield _section(context.command_path, command.get_help(context))
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            assert found is not None
            yield from _with_its_own(found, each, context)


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
