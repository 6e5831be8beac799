"""The dbt project a command works on: its root, its target, and the lake that its profile names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml

from headwater.errors import BadInput, UnknownName, UsageError
from headwater.lake import Lake

PLUGIN_MODULE = "headwater.dbt_plugin"


@dataclass(frozen=True, kw_only=True)
class Project:
    """A dbt project with Headwater's plugin in its profile."""

    root: Path
    name: str
    target: str
    schema: str
    lake_uri: str
    """Absolute path, or a URI."""
    defer: str | None = None
    profiles_dir: Path
    storage_options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1

    @classmethod
    def find(cls, folder: str | Path = ".", *, target: str | None = None, lake: str | None = None) -> Project:
        """Read ``dbt_project.yml`` in ``folder`` or the nearest parent, and the profile it names.

        Raises
        ------
        UsageError
            No project, no profile, no such target, or a target without Headwater's plugin.
        """
        root = _root(Path(folder).resolve())
        project = _yaml(root / "dbt_project.yml")
        profiles_dir = _profiles_dir(root)
        profile_name = project.get("profile")
        profiles = _yaml(profiles_dir / "profiles.yml")
        if profile_name not in profiles:
            raise UnknownName.of("profile", profile_name, profiles, where=str(profiles_dir / "profiles.yml"))
        profile = profiles[profile_name]
        chosen = target or os.environ.get("HEADWATER_TARGET") or str(profile.get("target", "dev"))
        outputs = profile.get("outputs", {})
        if chosen not in outputs:
            raise UnknownName.of("target", chosen, outputs, where=f"profile {profile_name!r}")
        output = outputs[chosen]
        config = _plugin_config(output, profiles_dir, chosen)
        uri = lake or os.environ.get("HEADWATER_LAKE") or str(config.get("lake") or "lake")
        return cls(
            root=root,
            name=str(project.get("name", root.name)),
            target=chosen,
            schema=str(output.get("schema", "main")),
            lake_uri=uri if "://" in uri else str((root / uri).resolve()),
            defer=config.get("defer_to"),
            profiles_dir=profiles_dir,
            storage_options=config.get("storage_options") or {},
            threads=int(output.get("threads", 1)),
        )

    def lake(self) -> Lake:
        """Open the target's lake; bare names live in the target's schema."""
        return Lake(self.lake_uri, schema=self.schema, defer=self.defer, storage_options=self.storage_options)

    def environment(self) -> dict[str, str]:
        """Variables that make dbt read the same lake and target from any working directory."""
        return {
            "HEADWATER_LAKE": self.lake_uri,
            "HEADWATER_TARGET": self.target,
            "DBT_PROFILES_DIR": str(self.profiles_dir),
        }


@contextlib.contextmanager
def temporary_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a block: dbt reads its profile from them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def package_dir() -> Path:
    """Where Headwater's dbt macros are installed: what ``packages.yml`` names as a local package."""
    here = Path(__file__).parent
    installed = here / "_project" / "sql"
    return installed if installed.is_dir() else here.parent / "sql"


def _root(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        if (candidate / "dbt_project.yml").is_file():
            return candidate
    raise UsageError(
        f"no dbt_project.yml in {folder} or above it",
        hint="run inside a Headwater or dbt project, or pass --project-dir",
    )


def _profiles_dir(root: Path) -> Path:
    """Where dbt itself looks: DBT_PROFILES_DIR, the project, ~/.dbt."""
    given = os.environ.get("DBT_PROFILES_DIR")
    for folder in (Path(given) if given else None, root, Path.home() / ".dbt"):
        if folder and (folder / "profiles.yml").is_file():
            return folder
    raise UsageError(
        f"no profiles.yml in {root} or ~/.dbt", hint="add one whose target loads the plugin " + PLUGIN_MODULE
    )


def _plugin_config(output: Mapping[str, Any], profiles_dir: Path, target: str) -> Mapping[str, Any]:
    for plugin in output.get("plugins") or ():
        if plugin.get("module") == PLUGIN_MODULE:
            return plugin.get("config") or {}
    raise UsageError(
        f"target {target!r} in {profiles_dir / 'profiles.yml'} does not load {PLUGIN_MODULE}",
        hint=f"add `plugins: [{{module: {PLUGIN_MODULE}, config: {{lake: lake}}}}]` to the target",
    )


def _yaml(path: Path) -> dict[str, Any]:
    """A YAML file with dbt's ``env_var`` in its string values, and nothing else, rendered."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    rendered = _render(loaded or {})
    if not isinstance(rendered, dict):
        raise BadInput(f"{path} does not hold a mapping")
    return rendered


def _render(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _render(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_render(item) for item in value]
    if isinstance(value, str) and "{{" in value and "env_var" in value:
        return _JINJA.from_string(value).render(env_var=_env_var)
    return value


def _env_var(name: str, default: str | None = None) -> str:
    found = os.environ.get(name, default)
    if found is None:
        raise UsageError(f"the profile needs the environment variable {name}")
    return found


_JINJA = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - YAML, not HTML
