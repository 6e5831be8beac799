"""What is installed, what is missing, and the command that mends it. Imports nothing heavy."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from headwater.project import Project

OLDEST = (3, 11)
LOW_DISK_BYTES = 5_000_000_000
"""A warning below this: one build of a few gigabytes of text needs about as much again to spill."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    ``status`` is ``ok``, ``note`` (optional and absent), ``warning``, ``missing`` or ``broken``;
    ``fix`` is a command to run.
    """

    name: str
    status: str
    detail: str
    fix: str = ""

    @property
    def blocks(self) -> bool:
        """Whether Headwater cannot work like this."""
        return self.status in ("missing", "broken")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def diagnose(
    project_dir: str | Path | None = None, *, target: str | None = None, lake: str | None = None
) -> list[Finding]:
    """Look at Python, packages, torch, the sandbox, caches, disk, the project and its lake, in that order."""
    found = [_python(), *_packages(), _torch(), _sandbox(), _numba_cache()]
    project, finding = _project(project_dir, target, lake)
    found.append(finding)
    if project is not None:
        found += _lake(project)
    found.append(_disk(project))
    return found


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < OLDEST:
        return Finding(
            name="Python",
            status="broken",
            detail=f"{version}, needs 3.11 or later",
            fix="install Python 3.11",
        )
    return Finding(name="Python", status="ok", detail=f"{version} ({platform.machine()})")


def _packages() -> Iterable[Finding]:
    """The base requirements, then each extra, by what the installed distribution itself declares."""
    required, extras = _requirements()
    if not required:
        yield Finding(
            name="packages",
            status="warning",
            detail="Headwater runs from a folder, so its requirements are not on record",
            fix="pip install -e .",
        )
    wrong = [(req, have) for req in required if not _fits(req, have := _installed(req.name))]
    if required and not wrong:
        versions = ", ".join(f"{r.name} {_installed(r.name)}" for r in required if r.name in _TELLING)
        yield Finding(name="packages", status="ok", detail=f"{len(required)} of {len(required)}: {versions}")
    for req, have in wrong:
        state = (
            f"{have} is installed, needs {req.specifier}" if have else f"not installed, needs {req.specifier}"
        )
        yield Finding(
            name=req.name,
            status="broken" if have else "missing",
            detail=state,
            fix=f"pip install '{_spec(req)}'",
        )
    for extra, wanted in extras.items():
        yield _extra(extra, wanted)


_TELLING = ("duckdb", "pylance", "polars", "pyarrow", "dbt-core", "numba")


def _extra(extra: str, wanted: list[Requirement]) -> Finding:
    missing = [req for req in wanted if not _fits(req, _installed(req.name))]
    fix = f"pip install 'headwater[{extra}]'"
    if not missing:
        versions = ", ".join(f"{req.name} {_installed(req.name)}" for req in wanted)
        return Finding(name=f"extra {extra}", status="ok", detail=versions)
    absent = ", ".join(
        f"{req.name} {have} (needs {req.specifier})" if (have := _installed(req.name)) else req.name
        for req in missing
    )
    if len(missing) < len(wanted) and any(_installed(req.name) for req in missing):
        return Finding(name=f"extra {extra}", status="warning", detail=f"does not fit: {absent}", fix=fix)
    return Finding(name=f"extra {extra}", status="note", detail=f"not installed: {absent}", fix=fix)


def _requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    from packaging.requirements import Requirement

    try:
        declared = importlib.metadata.requires("headwater") or []
    except importlib.metadata.PackageNotFoundError:
        return [], {}
    base: list[Requirement] = []
    extras: dict[str, list[Requirement]] = {}
    for text in declared:
        req = Requirement(text)
        named = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", text)
        if req.name == "headwater" or (named and named.group(1) in ("all", "dev")):
            continue
        if named:
            extras.setdefault(named.group(1), []).append(req)
        elif req.marker is None or req.marker.evaluate():
            base.append(req)
    return base, extras


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fits(req: Requirement, version: str | None) -> bool:
    return version is not None and req.specifier.contains(version, prereleases=True)


def _spec(req: Requirement) -> str:
    return f"{req.name}{req.specifier}"


def _torch() -> Finding:
    """Which build of torch, read from its files: importing it takes seconds."""
    version = _installed("torch")
    if version is None:
        return Finding(
            name="torch",
            status="note",
            detail="not installed; only training needs it",
            fix="pip install torch",
        )
    build = _torch_build() or ("CPU" if version.endswith("+cpu") else "unknown build")
    gpu = (
        "an NVIDIA driver is here"
        if Path("/proc/driver/nvidia/version").exists()
        else "no NVIDIA driver here"
    )
    return Finding(name="torch", status="ok", detail=f"{version}, built for {build}; {gpu}")


def _torch_build() -> str | None:
    try:
        located = importlib.metadata.distribution("torch").locate_file("torch/version.py")
        text = Path(str(located)).read_text(encoding="utf-8")
    except (OSError, importlib.metadata.PackageNotFoundError):
        return None
    for kind in ("cuda", "hip", "xpu"):
        found = re.search(rf"^{kind}\b[^=\n]*=\s*['\"]([\d.]+)", text, re.MULTILINE)
        if found:
            return f"{kind.upper()} {found.group(1)}"
    return "CPU"


def _sandbox() -> Finding:
    """Whether the tools of the sandbox are here; whether it starts is tried when it is used."""
    missing = [tool for tool in ("bwrap", "setpriv", "prlimit") if shutil.which(tool) is None]
    if missing:
        return Finding(
            name="sandbox",
            status="note",
            detail=f"not installed: {', '.join(missing)}; without it no generated code is run",
            fix="apt-get install bubblewrap util-linux",
        )
    return Finding(name="sandbox", status="ok", detail=f"bubblewrap at {shutil.which('bwrap')}")


def _numba_cache() -> Finding:
    """Compiled kernels are kept beside their module, or where ``NUMBA_CACHE_DIR`` says."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(given) if given else Path(__file__).parent / "kernels"
    if _writable(folder):
        return Finding(name="kernel cache", status="ok", detail=f"writable: {folder}")
    return Finding(
        name="kernel cache",
        status="warning",
        detail=f"{folder} cannot be written, so kernels compile anew in every process",
        fix="export NUMBA_CACHE_DIR=~/.cache/headwater",
    )


def _writable(folder: Path) -> bool:
    at = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=at):
            return True
    except OSError:
        return False


def _project(
    project_dir: str | Path | None, target: str | None, lake: str | None
) -> tuple[Project | None, Finding]:
    try:
        from headwater.project import Project

        project = Project.find(project_dir or ".", target=target, lake=lake)
    except (HeadwaterError, ImportError) as error:
        message = error.message if isinstance(error, HeadwaterError) else str(error)
        hint = (error.hint if isinstance(error, HeadwaterError) else "") or ""
        # Asked for by name, a project that cannot be read is an error; else this is simply not inside one.
        status = "broken" if project_dir else "note"
        return None, Finding(name="project", status=status, detail=message, fix=hint)
    detail = f"{project.name} at {project.root}, target {project.target} (schema {project.schema})"
    return project, Finding(name="project", status="ok", detail=detail)


def _lake(project: Project) -> Iterable[Finding]:
    try:
        lake = project.lake()
        tables = {schema: len(lake.tables(schema)) for schema in sorted(lake.schemas())}
    except HeadwaterError as error:
        yield Finding(name="lake", status="broken", detail=error.message, fix=error.hint or "")
        return
    except (OSError, ValueError) as error:
        yield Finding(name="lake", status="broken", detail=f"cannot read {project.lake_uri}: {error}")
        return
    counted = ", ".join(f"{schema} {n}" for schema, n in tables.items())
    if not tables:
        detail = f"{project.lake_uri}: nothing in it yet"
        yield Finding(name="lake", status="ok", detail=detail, fix="headwater ingest python")
        return
    yield Finding(name="lake", status="ok", detail=f"{project.lake_uri}: tables by schema: {counted}")
    yield from _leases(project, tables)


def _leases(project: Project, schemas: Iterable[str]) -> Iterable[Finding]:
    """Leases that nobody renews any more: a writer takes them over, but a person wonders."""
    if "://" in project.lake_uri:
        return
    from headwater.lake.lease import Owner

    for schema in schemas:
        path = Path(project.lake_uri) / schema / "_lease.json"
        try:
            owner = Owner.decode(path.read_bytes())
        except (OSError, ValueError, TypeError, json.JSONDecodeError):
            continue
        state = "left over; the next writer takes it over" if owner.is_stale else "writing now"
        status = "warning" if owner.is_stale else "ok"
        yield Finding(name=f"lease on {schema}", status=status, detail=f"{owner}: {state}")


def _disk(project: Project | None) -> Finding:
    place = Path.cwd()
    if project is not None and "://" not in project.lake_uri:
        wanted = Path(project.lake_uri)
        place = next((each for each in (wanted, *wanted.parents) if each.exists()), place)
    usage = shutil.disk_usage(place)
    detail = f"{usage.free / 1e9:,.1f} GB free of {usage.total / 1e9:,.1f} GB at {place}"
    return Finding(name="disk", status="ok" if usage.free >= LOW_DISK_BYTES else "warning", detail=detail)
