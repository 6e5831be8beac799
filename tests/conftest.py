"""What all tests share."""

from __future__ import annotations

import os
import sys
from collections import Counter

import pytest

_status = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files without slow tests first, whatever the seed of the order: a mistake is told early.

    Then the files with most slow tests: begun last, one of them would keep a single core busy at the end.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (item.path in slow, -slow[item.path]))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_status] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without tearing the interpreter down.

    DuckDB's binding lists everything that is still referenced at interpreter exit on stderr
    ("nanobind: leaked …"), which Hypothesis and pytest cause between them in one long process.
    A worker of pytest-xdist has told its results before this.
    That a *command* leaves stderr clean is tested in processes of their own (test_house, tests/dbt).
    """
    if _status in config.stash and "COVERAGE_RUN" not in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_status])
