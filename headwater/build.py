"""``headwater build``: dbt's build over the lake, with one record of what it did."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.decisions import drop_orphans
from headwater.engine.dask import DaskEngine
from headwater.errors import HeadwaterError, UsageError
from headwater.lake import RAW_SCHEMA, Provenance, new_build_id
from headwater.project import Project, temporary_environment

BUILDS = pa.schema(
    {
        "build_id": pa.string(),
        "target": pa.string(),
        "success": pa.bool_(),
        "git_commit": pa.string(),
        "models": pa.string(),
        "seconds": pa.float64(),
        "at": pa.timestamp("us", tz="UTC"),
    }
)


@dataclass(frozen=True, kw_only=True)
class NodeResult:
    """One model, seed or test of a build. ``status``: built, extended, unchanged, passed, failed, skipped."""

    name: str
    kind: str
    status: str
    seconds: float = 0.0
    rows: int | None = None
    version: int | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did; ``changed`` is False when every model was left as it was."""

    build_id: str
    success: bool
    seconds: float
    nodes: list[NodeResult] = field(default_factory=list)

    @property
    def models(self) -> list[NodeResult]:
        return [node for node in self.nodes if node.kind == "model"]

    @property
    def tests(self) -> list[NodeResult]:
        return [node for node in self.nodes if node.kind.endswith("test")]

    @property
    def changed(self) -> bool:
        return any(node.status in ("built", "extended") for node in self.models)

    def to_json(self) -> dict[str, Any]:
        return {
            "build_id": self.build_id,
            "success": self.success,
            "seconds": round(self.seconds, 3),
            "nodes": [node.__dict__ for node in self.nodes],
        }


def build(
    project_dir: str | Path = ".",
    *,
    target: str | None = None,
    lake: str | None = None,
    select: str | None = None,
    threads: int | None = None,
    workers: int | None = None,
    dask: str | None = None,
    full_refresh: bool = False,
    vars: Mapping[str, Any] | None = None,
    command: str = "build",
    on_event: Callable[[str, str], None] | None = None,
) -> BuildReport:
    """Run dbt (``build``, ``run`` or ``test``) in this process and report per node.

    Parameters
    ----------
    select:
        dbt's node selection.
    workers:
        Run row-wise models on a local Dask cluster of this many processes.
    dask:
        Run them on the cluster of this scheduler (``tcp://host:port``).
    on_event:
        Called as ``(state, node name)`` with state ``start`` or ``end``, for a progress display.

    Raises
    ------
    UsageError
        The project does not parse; the message is dbt's.
    """
    project = Project.find(project_dir, target=target, lake=lake)
    build_id = new_build_id()
    arguments = [command, "--project-dir", str(project.root), "--profiles-dir", str(project.profiles_dir)]
    arguments += ["--target", project.target, "--log-level", "none", "--no-use-colors"]
    arguments += ["--select", *select.split()] if select else []
    arguments += ["--threads", str(threads)] if threads else []
    arguments += ["--full-refresh"] if full_refresh and command != "test" else []
    arguments += ["--vars", json.dumps(dict(vars))] if vars else []
    started = time.perf_counter()
    environment = {
        **project.environment(),
        "HEADWATER_BUILD_ID": build_id,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    with (
        _engine(workers, dask) as engine,
        temporary_environment(environment),
        contextlib.chdir(project.root),
    ):
        result, failures, outcomes = _run_dbt(arguments, on_event, engine)
    nodes = [_node(entry, outcomes, failures) for entry in result]
    report = BuildReport(
        build_id=build_id,
        success=all(node.status not in ("failed", "skipped") for node in nodes),
        seconds=time.perf_counter() - started,
        nodes=nodes,
    )
    if not report.success and not project.lake().tables(RAW_SCHEMA):
        raise UsageError(
            f"lake {project.lake_uri} holds no documents yet, so the models have nothing to read",
            hint="headwater ingest python, or headwater ingest folder|jsonl|parquet PATH --source NAME",
        )
    if report.changed:
        _record(project, report)
        drop_orphans(project.lake(), project.schema)
    return report


def _engine(workers: int | None, address: str | None) -> contextlib.AbstractContextManager[DaskEngine | None]:
    if workers is not None and address is not None:
        raise UsageError("--workers starts a cluster and --dask names a running one", hint="give one of them")
    if workers is None and address is None:
        return contextlib.nullcontext()
    return DaskEngine(workers=workers, address=address)


def _run_dbt(
    arguments: list[str], on_event: Callable[[str, str], None] | None, engine: DaskEngine | None
) -> tuple[list[Any], dict[str, Exception], dict[str, Any]]:
    from dbt.cli.main import dbtRunner

    def listen(event: Any) -> None:
        name = getattr(event.info, "name", "")
        if on_event and name in ("NodeStart", "NodeFinished"):
            on_event("start" if name == "NodeStart" else "end", event.data.node_info.node_name)

    from headwater import dbt_plugin

    with dbt_plugin.use_engine(engine):
        outcome = dbtRunner(callbacks=[listen]).invoke(arguments)
    session = dbt_plugin.end_session()
    if outcome.exception is not None:
        raise UsageError(f"dbt: {outcome.exception}") from outcome.exception
    entries = list(getattr(outcome.result, "results", None) or ())
    return entries, session.failures if session else {}, session.results if session else {}


def _node(entry: Any, outcomes: Mapping[str, Any], failures: Mapping[str, Exception]) -> NodeResult:
    node = entry.node
    kind = str(node.resource_type)
    name = str(node.name)
    status = str(entry.status)
    seconds = float(entry.execution_time or 0.0)
    if status in ("error", "fail", "runtime error"):
        failure = failures.get(name)
        message = str(failure) if isinstance(failure, HeadwaterError) else str(entry.message or "").strip()
        return NodeResult(name=name, kind=kind, status="failed", seconds=seconds, message=message)
    if status == "skipped":
        return NodeResult(name=name, kind=kind, status="skipped", message="an upstream node failed")
    done = outcomes.get(name)
    if kind == "model" and done is not None:
        return NodeResult(
            name=name,
            kind=kind,
            status=done.status,
            seconds=seconds,
            rows=done.rows,
            version=done.version,
            message=done.message,
        )
    return NodeResult(
        name=name,
        kind=kind,
        status="passed" if kind.endswith("test") else "loaded",
        seconds=seconds,
        message="" if status in ("success", "pass") else str(entry.message or ""),
    )


def _record(project: Project, report: BuildReport) -> None:
    from headwater.dbt_plugin import git_commit

    row = {
        "build_id": report.build_id,
        "target": project.target,
        "success": report.success,
        "git_commit": git_commit(project.root),
        "models": json.dumps([node.__dict__ for node in report.models]),
        "seconds": report.seconds,
        "at": datetime.now(UTC),
    }
    lake = project.lake()
    lake.write(
        "builds",
        pa.Table.from_pylist([row], BUILDS),
        mode="append",
        provenance=Provenance(kind="log", build_id=report.build_id),
    )
