"""``headwater estimate``: what work will take, before it starts. One module for each kind of work."""

from __future__ import annotations

import importlib

import click

KINDS = ("train", "pack", "embed", "generate", "label", "score")


class LazyKinds(click.Group):
    """A group whose commands are the modules of this package, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(KINDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in KINDS:
            return None
        module = importlib.import_module(f"headwater.cli.estimate.{cmd_name}")
        command: click.Command = module.command
        return command


@click.group("estimate", cls=LazyKinds, short_help="What work will take, before it starts.")
def command() -> None:
    """Tokens, parameters, bytes, time and money, before anything starts."""
