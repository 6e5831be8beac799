"""What every verb shares: where the project and the lake are, how to print, how to fail."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from headwater.lake import Lake
    from headwater.project import Project

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Session:
    """The options given anywhere on the command line, before or after the verb."""

    project_dir: str | None = None
    target: str | None = None
    lake_uri: str | None = None
    as_json: bool = False
    quiet: bool = False
    debug: bool = False

    @functools.cached_property
    def project(self) -> Project:
        """The project of ``--project-dir`` or the nearest one above the current directory."""
        from headwater.project import Project

        return Project.find(self.project_dir or ".", target=self.target, lake=self.lake_uri)

    @functools.cached_property
    def lake(self) -> Lake:
        """The project's lake. With ``--lake`` outside any project, that lake and the target as its schema."""
        from headwater.lake import Lake

        if self.lake_uri and not self.has_project:
            return Lake(self.lake_uri, schema=self.target or "dev")
        return self.project.lake()

    @property
    def has_project(self) -> bool:
        """Whether there is a dbt project here or above; an explicit ``--project-dir`` counts as one."""
        if self.project_dir:
            return True
        here = Path.cwd()
        return any((folder / "dbt_project.yml").is_file() for folder in (here, *here.parents))

    @property
    def title(self) -> str:
        """The project's name and target, for headings."""
        return f"{self.project.name} ({self.project.target})" if self.has_project else self.lake.schema

    @functools.cached_property
    def out(self) -> Console:
        """Standard output. Markup is off: names and paths come from data and may hold anything."""
        from rich.console import Console

        return Console(markup=False, highlight=False, emoji=False, soft_wrap=False)

    @functools.cached_property
    def err(self) -> Console:
        """Standard error: progress, notes, errors."""
        from rich.console import Console

        return Console(stderr=True, markup=False, highlight=False, emoji=False)

    def show(self, value: Any) -> None:
        """Print a result that can say itself: as JSON with ``--json``, else its lines or its data."""
        if self.as_json:
            self.emit_json(value)
        elif hasattr(value, "render"):
            self.out.print(value.render())
        elif hasattr(value, "lines"):
            for line in value.lines():
                self.out.print(plain(line), soft_wrap=True)
        else:
            self.out.print(plain(as_json(value), lines=True), soft_wrap=True)

    def note(self, message: str) -> None:
        """Say something on standard error, unless ``--quiet``."""
        if not self.quiet:
            self.err.print(plain(message), style="dim", soft_wrap=True)

    def emit_json(self, value: Any) -> None:
        """Print one JSON document on standard output."""
        click.echo(as_json(value))

    def complain(self, message: str, hint: str | None = None) -> None:
        """Print an error and its hint on standard error. Needs nothing but click, so it always works."""
        click.echo(click.style("error: ", fg="red", bold=True) + plain(message, lines=True), err=True)
        if hint:
            click.echo(click.style("hint: ", fg="cyan") + plain(hint, lines=True), err=True)


def as_json(value: Any) -> str:
    """``value`` as JSON text: what its ``to_json`` or ``to_dict`` gives, or itself."""
    for method in ("to_json", "to_dict"):
        if hasattr(value, method):
            value = getattr(value, method)()
    return value if isinstance(value, str) else json.dumps(value, indent=2, default=str, ensure_ascii=False)


def plain(text: object, *, lines: bool = False) -> str:
    """``text`` without control characters: a file name must not be able to drive the terminal."""
    return "".join(c if (c.isprintable() or (lines and c == "\n")) else f"\\x{ord(c):02x}" for c in str(text))


def _store(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        del param
        session = ctx.ensure_object(Session)
        if value is not None and value is not False:
            setattr(session, name, value)
        return value

    return callback


def _option(name: str, *flags: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*flags, expose_value=False, callback=_store(name), **settings)


def session_options(function: F) -> F:
    """``--project-dir --target --lake --quiet --debug``, the same before the verb and after it."""
    for option in (
        _option("debug", "--debug", is_flag=True, help="Show the traceback of an error."),
        _option("quiet", "--quiet", "-q", is_flag=True, help="No progress, no notes."),
        _option("lake_uri", "--lake", metavar="URI", help="Lake to use: a folder or s3://bucket/lake."),
        _option("target", "--target", "-t", metavar="NAME", help="dbt target; it names the lake's schema."),
        _option("project_dir", "--project-dir", metavar="DIR", help="Project to work in, or a folder in it."),
    ):
        function = option(function)
    return function


def json_option(function: F) -> F:
    """``--json``, for verbs that read."""
    return _option("as_json", "--json", is_flag=True, help="Print JSON on standard output.")(function)


pass_session = click.make_pass_decorator(Session, ensure=True)
