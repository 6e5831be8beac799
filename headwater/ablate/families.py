"""Rule families of a curated table: which rules of a ladder are added together, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headwater.errors import UnknownName, UsageError

LICENSES = "licenses"
QUALITY = "quality"
PERSONAL_DATA = "personal_data"
EVALUATIONS = "evaluations"
DUPLICATES = "duplicates"

_COLUMNS = (
    (DUPLICATES, ("cluster_id", "cluster_size", "duplicate_", "near_duplicate", "exact_")),
    (LICENSES, ("license",)),
    (PERSONAL_DATA, ("num_pii", "num_secrets", "pii_", "secret")),
    (EVALUATIONS, ("eval_",)),
)
"""A rule belongs to the first family one of whose prefixes begins a column that its expression reads;
every other rule is one of quality."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Rules that a ladder adds in one step."""

    name: str
    rules: tuple[str, ...]


def families_of(
    rules: Mapping[str, Iterable[str]], given: Mapping[str, Iterable[str]] | None = None
) -> list[Family]:
    """Group rules for a ladder.

    Duplicates come last whatever is asked: their rule keeps the best copy *among the documents that pass
    every other rule*, so what it recorded holds only where all the others apply. For such a rule a document
    that another rule drops is no duplicate at all.

    Parameters
    ----------
    rules: rule to the columns that its expression reads.
    given: families that replace the built-in ones, in their order; rules that none of them names keep theirs.
    """
    named: dict[str, list[str]] = {}
    placed: set[str] = set()
    for name, members in (given or {}).items():
        for rule in members:
            if rule not in rules:
                raise UnknownName.of("rule", rule, rules, where=f"family {name}")
            if rule in placed:
                raise UsageError(f"rule {rule!r} is named in two families")
            placed.add(rule)
            named.setdefault(name, []).append(rule)
    order = [*named, *(f for f in (LICENSES, QUALITY, PERSONAL_DATA, EVALUATIONS) if f not in named)]
    for rule, columns in rules.items():
        if rule not in placed:
            named.setdefault(_family(columns), []).append(rule)
    last = [name for name in named if any(_family(rules[rule]) == DUPLICATES for rule in named[name])]
    order = [name for name in order if name not in last] + last
    return [Family(name=name, rules=tuple(named[name])) for name in order if name in named]


def _family(columns: Iterable[str]) -> str:
    found = list(columns)
    for name, prefixes in _COLUMNS:
        if any(column.startswith(prefixes) for column in found):
            return name
    return QUALITY
