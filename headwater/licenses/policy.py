"""The policy as data (SPDX id -> tier), and the tier of an SPDX expression under it.

Tiers come from ``sql/seeds/license_policy.csv``: the ratings of the Blue Oak Council list for permissive
licenses, and our own classes for those that ask for more.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from headwater.errors import BadInput

TIERS = (
    "model",
    "gold",
    "silver",
    "bronze",
    "lead",
    "weak-copyleft",
    "copyleft",
    "network-copyleft",
    "restricted",
    "unknown",
)
"""From the freest to the least known. The first five are Blue Oak's ratings of permissive licenses;
``restricted`` forbids a use (commerce, a field, derivatives); ``unknown`` is not a license but a gap."""

UNKNOWN = "unknown"
_RANK = {tier: rank for rank, tier in enumerate(TIERS)}


def load_policy(path: str | Path | None = None) -> dict[str, str]:
    """SPDX id -> tier from a CSV with the columns ``spdx_id`` and ``tier``; by default the shipped seed."""
    where = Path(path) if path is not None else _seed()
    try:
        with where.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        policy = {row["spdx_id"]: row["tier"] for row in rows}
    except (OSError, KeyError, ValueError) as error:
        raise BadInput(
            f"cannot read the license policy {where}: {error}",
            hint="it is a CSV with columns spdx_id,tier,source",
        ) from error
    wrong = sorted(set(policy.values()) - set(TIERS))
    if wrong:
        raise BadInput(f"license policy {where} has unknown tiers {wrong}", hint=f"tiers: {', '.join(TIERS)}")
    return policy


def _seed() -> Path:
    package = Path(__file__).resolve().parent.parent
    inside_wheel = package / "_project" / "sql" / "seeds" / "license_policy.csv"
    return inside_wheel if inside_wheel.exists() else package.parent / "sql" / "seeds" / "license_policy.csv"


def tier(expression: str | None, policy: Mapping[str, str]) -> str:
    """The tier of an SPDX expression: OR gives the best of its sides, AND the worst.

    ``A WITH exception`` has the tier listed for it, else that of ``A``: every SPDX exception only adds
    permissions.
    """
    if not expression:
        return UNKNOWN
    tokens = re.findall(r"[()]|[^\s()]+", expression)
    try:
        stream = iter([*tokens, ""])
        rank, rest = _either(next(stream), stream, policy)
    except StopIteration:
        return UNKNOWN
    return TIERS[rank] if rest == "" else UNKNOWN


def _either(token: str, stream: Iterator[str], policy: Mapping[str, str]) -> tuple[int, str]:
    rank, token = _both(token, stream, policy)
    while token.upper() == "OR":
        other, token = _both(next(stream), stream, policy)
        rank = min(rank, other)
    return rank, token


def _both(token: str, stream: Iterator[str], policy: Mapping[str, str]) -> tuple[int, str]:
    rank, token = _single(token, stream, policy)
    while token.upper() == "AND":
        other, token = _single(next(stream), stream, policy)
        rank = max(rank, other)
    return rank, token


def _single(token: str, stream: Iterator[str], policy: Mapping[str, str]) -> tuple[int, str]:
    if token == "(":  # noqa: S105 (a parenthesis)
        rank, closing = _either(next(stream), stream, policy)
        return (rank, next(stream)) if closing == ")" else (_RANK[UNKNOWN], closing)
    name, token = token, next(stream)
    found = policy.get(name) or policy.get(name.removesuffix("+"))
    if token.upper() == "WITH":
        found = policy.get(f"{name} WITH {next(stream)}") or found
        token = next(stream)
    return _RANK[found or UNKNOWN], token
