"""Verifiers: what says of a generated solution that it is right. A reward is 1 or 0, and has a reason.

``exact_answer`` compares the final answer; ``unit_tests`` runs the solution in the sandbox. A verifier is
named with its version in every row that it judged, and judges a problem and a text only: never who wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headwater.errors import UnknownName


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``reward`` is 1.0 or 0.0.

    ``status`` says how it came to that, in few words that can be counted: *passed*, *wrong answer*,
    *no answer*; for code also *failed*, *timed out*, *too much output*, *ended early*. ``detail`` is for a
    person to read.
    """

    reward: float
    status: str
    detail: str = ""


PASSED = "passed"


class Verifier(Protocol):
    """Judges texts. ``expected`` is the problem's own: an answer, or tests as JSON."""

    name: str
    version: str

    def verify(self, pairs: Iterable[tuple[str, str]]) -> Iterator[Verdict]:
        """A verdict for each ``(expected, text)``, in order; never raises for what a text says or does."""
        ...


def _exact_answer(**settings: Any) -> Verifier:
    from headwater.synthesis.verifiers.exact_answer import ExactAnswer

    return ExactAnswer(**settings)


def _unit_tests(**settings: Any) -> Verifier:
    from headwater.synthesis.verifiers.unit_tests import UnitTests

    return UnitTests(**settings)


VERIFIERS: Mapping[str, Callable[..., Verifier]] = {"exact_answer": _exact_answer, "unit_tests": _unit_tests}


def find_verifier(name: str, **settings: Any) -> Verifier:
    """The verifier of that name. Raises ``UnknownName``, or ``UsageError`` where it cannot work here."""
    if name not in VERIFIERS:
        raise UnknownName.of("verifier", name, VERIFIERS)
    return VERIFIERS[name](**settings)


def verify_distinct(verifier: Verifier, pairs: Sequence[tuple[str, str]]) -> tuple[list[Verdict], int]:
    """A verdict for each pair, equal pairs judged once; and how many were judged."""
    distinct = list(dict.fromkeys(pairs))
    found = dict(zip(distinct, verifier.verify(distinct), strict=True))
    return [found[pair] for pair in pairs], len(distinct)


__all__ = ["PASSED", "VERIFIERS", "Verdict", "Verifier", "find_verifier", "verify_distinct"]
