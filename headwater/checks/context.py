"""The Great Expectations project in ``expectations/``: opening it and reading suites through it.

One suite per published table, in ``expectations/<table>.json``; ``great_expectations.yml`` beside
them makes the folder a real file context, so Great Expectations' own tools work there as well.
Importing Great Expectations costs seconds, so nothing here imports it before it is asked to.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headwater.errors import BadInput, CheckFailed, MissingExtra, UnknownName, UsageError

FOLDER = "expectations"
CONFIG = "great_expectations.yml"

TEMPLATE = """\
# A Great Expectations file context: the suites are the JSON files beside this one, each named
# after the table that it judges. Headwater adds the data source at run time, because a check
# reads one exact version of a table; results go to the lake (`approvals`), not to a store here.
config_version: 4
analytics_enabled: false
progress_bars:
  globally: false

stores:
  expectations_store:
    class_name: ExpectationsStore
    store_backend:
      class_name: TupleFilesystemStoreBackend
      base_directory: .
      suppress_store_backend_id: true
  # In memory: files of other stores below this folder would be listed as suites.
  validation_results_store:
    class_name: ValidationResultsStore
    store_backend:
      class_name: InMemoryStoreBackend
  checkpoint_store:
    class_name: CheckpointStore
    store_backend:
      class_name: InMemoryStoreBackend
  validation_definition_store:
    class_name: ValidationDefinitionStore
    store_backend:
      class_name: InMemoryStoreBackend

expectations_store_name: expectations_store
validation_results_store_name: validation_results_store
checkpoint_store_name: checkpoint_store
data_docs_sites: {}
"""
"""What ``create_project`` writes; the reference project's own file is the same text."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Great Expectations' log lines and warnings off the terminal: a check reports by itself."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def great_expectations() -> Any:
    """Import Great Expectations, without analytics; ``MissingExtra`` when it is not installed."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    try:
        with quiet():
            module = importlib.import_module("great_expectations")
            importlib.import_module("sqlalchemy")
            custom_sql = importlib.import_module(
                "great_expectations.expectations.core.unexpected_rows_expectation"
            )
    except ImportError as error:
        raise MissingExtra.of("great-expectations", "checks") from error
    # It prints (to stdout, which may carry our JSON) that a query without {batch} may read other
    # data. Here it cannot: every view is pinned to a version.
    custom_sql.__dict__["print"] = lambda *_args, **_kwargs: None
    return module


def suite_names(project_dir: Path) -> list[str]:
    """Names of the suites in ``<project_dir>/expectations``, sorted; needs no Great Expectations."""
    return sorted(path.stem for path in (project_dir / FOLDER).glob("*.json"))


def create_project(project_dir: Path) -> Path:
    """Make ``<project_dir>/expectations`` a Great Expectations project; returns the folder.

    An existing configuration file is left as it is.
    """
    folder = project_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / CONFIG
    if not config.exists():
        config.write_text(TEMPLATE, encoding="utf-8")
    return folder


def open_context(project_dir: Path) -> Any:
    """Open the file context in ``<project_dir>/expectations``; never writes there.

    Raises ``UsageError`` when the folder is no Great Expectations project, because Great
    Expectations would silently lay out a new one.
    """
    folder = project_dir / FOLDER
    if not (folder / CONFIG).is_file():
        raise UsageError(
            f"there is no Great Expectations project in {folder}",
            hint=f"`from headwater.checks import create_project; create_project({str(project_dir)!r})` "
            f"writes {FOLDER}/{CONFIG}; then add {FOLDER}/<table>.json",
        )
    gx = great_expectations()
    with quiet():
        return gx.get_context(mode="file", context_root_dir=str(folder))


def read_suite(project_dir: Path, name: str) -> Any:
    """Read the suite ``name`` through Great Expectations.

    Raises ``UnknownName`` when there is none, ``BadInput`` when it is broken or when Great
    Expectations would leave out part of it, ``CheckFailed`` when it expects nothing.
    """
    path = project_dir / FOLDER / f"{name}.json"
    if not path.is_file():
        raise _no_suite(project_dir, name)
    stated = _stated(path)
    if stated.get("name") != name:
        raise BadInput(f"{path} holds a suite called {stated.get('name')!r}, expected {name!r}")
    expectations = stated.get("expectations")
    if not isinstance(expectations, list) or not expectations:
        raise CheckFailed(
            f"the suite {name!r} ({path}) is empty, so it can vouch for nothing",
            hint="add at least one expectation",
        )
    context = open_context(project_dir)
    try:
        with quiet():
            suite = context.suites.get(name)
    except Exception as error:
        raise BadInput(f"Great Expectations cannot read {path}: {_first_line(error)}") from error
    _refuse_dropped(path, expectations, suite)
    return suite


def _refuse_dropped(path: Path, stated: list[Any], suite: Any) -> None:
    """Great Expectations only logs an expectation that it does not know, and goes on without it."""
    read = [expectation.expectation_type for expectation in suite.expectations]
    if len(read) == len(stated):
        return
    wanted = [str(entry.get("type")) if isinstance(entry, dict) else str(entry) for entry in stated]
    for kind in read:
        if kind in wanted:
            wanted.remove(kind)
    raise BadInput(
        f"{path}: Great Expectations does not accept {', '.join(wanted) or 'some expectations'}",
        hint="check the type's spelling and its kwargs; a suite is read whole or not at all",
    )


def _stated(path: Path) -> dict[str, Any]:
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is not a JSON file: {error}") from error
    if not isinstance(stated, dict):
        raise BadInput(f"{path} does not hold a suite, but a {type(stated).__name__}")
    return stated


def _no_suite(project_dir: Path, name: str) -> UnknownName:
    known = suite_names(project_dir)
    error = UnknownName.of("suite", name, known, where=str(project_dir / FOLDER))
    example = '{"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}'
    hint = (
        f"{error.hint}\nto make one, write {project_dir / FOLDER / name}.json: "
        f'{{"name": "{name}", "expectations": [{example}]}}'
    )
    return UnknownName(error.message, hint=hint)


def suite_digest(suite: Any) -> str:
    """SHA-256 of what the suite demands: its expectations in any order, without ids or versions."""
    demands = []
    for entry in suite.to_json_dict()["expectations"]:
        kept = {key: entry.get(key) for key in ("type", "kwargs", "severity")}
        demands.append(json.dumps(kept, sort_keys=True, default=str))
    canonical = json.dumps({"name": suite.name, "expectations": sorted(demands)}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
