"""SPDX expressions as sets of ids, and their conjunction."""

from __future__ import annotations

import functools
from collections.abc import Sequence


def ids(expression: str) -> frozenset[str]:
    return frozenset(word.strip("()") for word in expression.split() if word not in ("AND", "OR", "WITH"))


def family(name: str) -> str:
    return name.removeprefix("LicenseRef-").split("-")[0]


def covered(other: str, expression: str) -> bool:
    """Whether ``expression`` names every license of ``other``, versions aside."""
    return {family(i) for i in ids(other)} <= {family(i) for i in ids(expression)}


def count(expression: str | None) -> int:
    return len(ids(expression)) if expression else 0


@functools.lru_cache(maxsize=65_536)
def _joined(expressions: tuple[str, ...]) -> str | None:
    kept: list[str] = []
    exact = {family(i) for e in expressions for i in ids(e) if not i.endswith("-unspecified")}
    vague = [e for e in expressions if e.endswith("-unspecified") and " " not in e and family(e) in exact]
    expressions = tuple(e for e in expressions if e not in vague)
    for expression in sorted(expressions, key=lambda e: -len(ids(e))):
        if not any(ids(expression) <= ids(other) for other in kept):
            kept.append(expression)
    kept.sort(key=expressions.index)
    if not kept:
        return None
    return " AND ".join(f"({e})" if " OR " in e and len(kept) > 1 else e for e in kept)


def join(expressions: Sequence[str]) -> str | None:
    """AND of expressions, without those whose licenses another one names already."""
    return _joined(tuple(expressions))
