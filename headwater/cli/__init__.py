"""The command line: ``headwater VERB``.

Nothing heavy is imported here. Each verb is one module that imports click and this package only;
what it needs to work is imported inside the function, so ``headwater --help`` stays under half a second.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from headwater import __version__
from headwater.cli.session import Session, session_options
from headwater.errors import HeadwaterError

# In the order a user meets them, which is also the order of ``--help``.
VERBS = (
    "ingest",
    "evals",
    "generate",
    "build",
    "check",
    "approve",
    "why",
    "diff",
    "what-if",
    "export",
    "sample",
    "label",
    "scorer",
    "pack",
    "search",
    "trace",
    "release",
    "ablate",
    "self-train",
    "estimate",
    "report",
    "doctor",
)

INTERRUPTED = 130  # 128 + SIGINT, what a shell expects


class LazyGroup(click.Group):
    """A group whose verbs are the modules of this package, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"headwater.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=2, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"verbs: {', '.join(VERBS)}"
            raise click.UsageError(f"no such verb {args[0]!r}; {hint}", ctx) from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headwater")
@session_options
def cli() -> None:
    """Versioned SQL for training data.

    Curate in SQL, gate with checks, train on what passed, and answer for every row why it is in or out.

    Exit codes: 0 ok, 1 a check failed or the work could not be done, 2 wrong use.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error is one message and a hint, never a traceback."""
    session = Session()
    try:
        result = cli.main(
            args=list(argv) if argv is not None else None,
            prog_name="headwater",
            standalone_mode=False,
            obj=session,
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        session.complain("interrupted: nothing half-written is visible; run the same command again")
        return INTERRUPTED
    except HeadwaterError as error:
        if session.debug:
            raise
        session.complain(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        # The reader of a pipe (`| head`) went away: not an error, and Python must not print about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if session.debug:
            raise
        session.complain(
            f"{type(error).__name__}: {error}",
            "this is not an error Headwater expected; run the same command with --debug to see the traceback",
        )
        return 1
