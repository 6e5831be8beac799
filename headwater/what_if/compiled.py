"""The models behind a table as dbt would build them now: compiled SQL or code, settings, fingerprint."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headwater.errors import UnknownName, UsageError
from headwater.models import ModelSpec, fingerprint_of
from headwater.project import Project, temporary_environment

_VAR = re.compile(r"""\bvar\(\s*['"](\w+)['"]""")


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """One model of the project."""

    spec: ModelSpec
    meta: Mapping[str, Any]
    """Its configured ``meta``: ``candidates``, ``rows_of``, ``threshold``, …"""
    schema: str
    """The target's schema."""
    unit_path: str
    """File of the model, relative to the project."""

    @property
    def is_python(self) -> bool:
        return self.spec.sql is None

    def fingerprint(self, others: Mapping[str, str] | None = None) -> str:
        """What a build would record; ``others`` are the digests of its inputs outside the lake."""
        return fingerprint_of(self.spec, self.schema, others or {})


def compiled_models(
    project: Project, model: str, variables: Mapping[str, Any] | None = None
) -> dict[str, Compiled]:
    """``model`` and every model it is made from, by bare name, as dbt compiles them in this process.

    Nothing is built and the lake is only read; dbt's own files go to ``what-if`` below its target path.

    Raises
    ------
    UsageError
        The project does not compile; the message is dbt's.
    UnknownName
        No such model, or a variable that neither the project nor one of these models knows.
    """
    folder = _target_path(project.root) / "what-if"
    arguments = ["compile", "--select", f"+{model},resource_type:model"]
    arguments += ["--project-dir", str(project.root), "--profiles-dir", str(project.profiles_dir)]
    arguments += ["--target", project.target, "--target-path", str(folder), "--log-path", str(folder)]
    arguments += ["--log-level", "none", "--log-level-file", "none", "--no-use-colors"]
    arguments += ["--no-populate-cache"]
    arguments += ["--vars", json.dumps(dict(variables))] if variables else []
    environment = {**project.environment(), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    with temporary_environment(environment), contextlib.chdir(project.root):
        nodes = _compile(arguments)
    found = {str(node.name): _compiled(node, project.schema) for node in nodes}
    if model not in found:
        known = [str(node.name) for node in nodes] or _model_names(project.root)
        raise UnknownName.of("model", model, known, where=f"project {project.name}")
    if variables:
        declared = {*_declared(project.root), *(name for node in nodes for name in _variables_of(node))}
        for name in variables:
            if name not in declared:
                raise UnknownName.of("variable", name, sorted(declared), where=f"project {project.name}")
    return found


def _compile(arguments: list[str]) -> list[Any]:
    from dbt.cli.main import dbtRunner

    from headwater import dbt_plugin

    outcome = dbtRunner().invoke(arguments)
    dbt_plugin.end_session()
    if outcome.exception is not None:
        raise UsageError(f"dbt: {outcome.exception}") from outcome.exception
    results = list(getattr(outcome.result, "results", None) or ())
    for result in results:
        if str(result.status) in ("error", "fail"):
            raise UsageError(f"dbt cannot compile {result.node.name}: {str(result.message).strip()}")
    return [result.node for result in results if str(result.node.resource_type) == "model"]


def _compiled(node: Any, schema: str) -> Compiled:
    # As the `lance` materialization hands a model over: see lance_spec in sql/macros/lance.sql.
    meta = dict(node.config.meta or {})
    sql = node.compiled_code if node.language == "sql" else None
    spec = ModelSpec(
        name=f"{node.schema}.{node.alias or node.name}",
        sql=sql,
        source=sql if sql is not None else node.compiled_code or node.raw_code,
        rows_of=meta.get("rows_of"),
        candidates=meta.get("candidates"),
        order_by=meta.get("order_by"),
    )
    return Compiled(spec=spec, meta=meta, schema=schema, unit_path=str(node.original_file_path))


def _variables_of(node: Any) -> Iterator[str]:
    yield from _VAR.findall(str(node.raw_code))
    yield from _VAR.findall(json.dumps(node.unrendered_config, default=str).replace('\\"', '"'))


def _declared(root: Path) -> Iterator[str]:
    """Variables of ``dbt_project.yml``, those of single packages among them."""
    for name, value in (_project_file(root).get("vars") or {}).items():
        if isinstance(value, dict):
            yield from value
        yield name


def _model_names(root: Path) -> list[str]:
    """Names of model files, for an error message."""
    folders = _project_file(root).get("model-paths") or ["models"]
    files = (file for folder in folders for file in (root / folder).rglob("*.[ps][yq]*"))
    return sorted({file.stem for file in files if file.suffix in (".sql", ".py")})


def _target_path(root: Path) -> Path:
    configured = os.environ.get("DBT_TARGET_PATH") or str(_project_file(root).get("target-path") or "target")
    return root / ("target" if "{{" in configured else configured)


def _project_file(root: Path) -> dict[str, Any]:
    loaded = yaml.safe_load((root / "dbt_project.yml").read_text(encoding="utf-8"))
    return loaded if isinstance(loaded, dict) else {}
