"""Headwater: versioned SQL for training data.

Public names load lazily, so that ``import headwater`` and ``headwater --help`` stay fast
and the base install needs neither torch nor Great Expectations.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.dedup import duplicate_clusters, near_duplicate_pairs
    from headwater.dedup.against import near_duplicates_against
    from headwater.lake import Lake, Provenance, Table, TableVersion
    from headwater.operators import operator
    from headwater.streaming import stream

__version__ = "0.1.0"

_HOMES = {
    "Lake": "headwater.lake",
    "Table": "headwater.lake",
    "TableVersion": "headwater.lake",
    "Provenance": "headwater.lake",
    "operator": "headwater.operators",
    "near_duplicate_pairs": "headwater.dedup",
    "duplicate_clusters": "headwater.dedup",
    "near_duplicates_against": "headwater.dedup.against",
    "stream": "headwater.streaming",
}

__all__ = [
    "Lake",
    "Provenance",
    "Table",
    "TableVersion",
    "duplicate_clusters",
    "near_duplicate_pairs",
    "near_duplicates_against",
    "operator",
    "stream",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
