"""A generated program passes its problem's tests, in the sandbox and nowhere else."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from headwater.errors import BadInput
from headwater.synthesis.sandbox import Limits, Outcome, Sandbox
from headwater.synthesis.verifiers import PASSED, Verdict

BATCH = 64
"""Programs that are made at once; how many run at once is the sandbox's business."""

LIMITS = Limits(wall_seconds=10.0, cpu_seconds=2, memory_bytes=256 << 20, processes=8)
"""What a solution of an exercise may take: far more than it needs, and little enough to try thousands. What
computes ends by processor time, which a busy machine does not shorten; the clock is for what sleeps."""

_FENCE = re.compile(r"```[a-zA-Z0-9_+-]*\n(.*?)(?:```|\Z)", re.DOTALL)

# The solution's own output goes to stderr, which the sandbox bounds; what is compared goes out by another
# descriptor. Expected values never enter the sandbox: a solution can only have them by computing them.
_CASES = """
import json, os, sys
given = json.loads(sys.stdin.read())
out = os.dup(1)
os.dup2(2, 1)
space = {"__name__": "solution"}
exec(compile(given["code"], "solution.py", "exec"), space)
found = [space[given["entry"]](*args) for args in given["args"]]
os.write(out, json.dumps(found).encode())
"""

_ASSERTS = """
import json, os, sys
given = json.loads(sys.stdin.read())
out = os.dup(1)
os.dup2(2, 1)
def proof(word=given.pop("word")):
    os.write(out, word.encode())
space = {"__name__": "solution"}
exec(compile(given["code"], "solution.py", "exec"), space)
exec(compile(given["asserts"], "tests.py", "exec"), space)
proof()
"""


@dataclass(frozen=True, kw_only=True)
class ProblemTests:
    """The tests of one problem, as its column ``tests`` holds them in JSON.

    ``entry`` with ``cases`` (``[{"args": [...], "expected": ...}]``, JSON values) calls a function, and what
    it returns is compared outside the sandbox; ``asserts`` is code that raises when something is wrong.
    ``template`` turns a text into a program where the text is only a part of one: ``{}`` is the text.
    """

    entry: str = ""
    cases: tuple[tuple[tuple[Any, ...], Any], ...] = ()
    asserts: str = ""
    template: str = "{}"

    @classmethod
    def from_json(cls, text: str) -> ProblemTests:
        """Raises ``BadInput`` for tests that could judge nothing."""
        expected = (
            '{"entry": "f", "cases": [{"args": [1], "expected": 2}]} or {"asserts": "assert f(1) == 2"}'
        )
        try:
            given = json.loads(text)
            cases = tuple((tuple(case["args"]), case["expected"]) for case in given.get("cases", ()))
            tests = cls(
                entry=str(given.get("entry", "")),
                cases=cases,
                asserts=str(given.get("asserts", "")),
                template=str(given.get("template", "{}")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"tests are not as expected: {error!r}: {text[:200]}", hint=expected) from None
        if bool(tests.cases) == bool(tests.asserts) or bool(tests.entry) != bool(tests.cases):
            raise BadInput(f"tests have neither cases nor asserts, or both: {text[:200]}", hint=expected)
        if "{}" not in tests.template:
            raise BadInput(
                f"the template has no {{}} for the solution: {tests.template[:200]}", hint=expected
            )
        return tests


class UnitTests:
    """Reward 1 where every test holds. A program that ends itself before its tests have run has not passed.

    What a program does to its own interpreter it can do to ``asserts``, too: one that searches the frames
    above it for the word that proves their end would find it. ``cases`` are compared outside and have no
    such hole. Network, files, processes, memory, time and output are the sandbox's to bound.

    Raises ``UsageError`` where there is no sandbox: nothing is run then.
    """

    name = "unit_tests"
    version = "1"

    def __init__(self, limits: Limits = LIMITS, *, workers: int | None = None) -> None:
        self._sandbox = Sandbox(limits)
        self._workers = workers

    def verify(self, pairs: Iterable[tuple[str, str]]) -> Iterator[Verdict]:
        waiting = iter(pairs)
        while batch := list(islice(waiting, BATCH)):
            yield from self._batch(batch)

    def _batch(self, pairs: list[tuple[str, str]]) -> Iterator[Verdict]:
        tests = [ProblemTests.from_json(expected) for expected, _ in pairs]
        words = [secrets.token_hex(16) for _ in pairs]
        programs, inputs = [], []
        for test, word, (_, text) in zip(tests, words, pairs, strict=True):
            code = test.template.replace("{}", code_of(text))
            given: dict[str, Any] = {"code": code}
            if test.cases:
                given |= {"entry": test.entry, "args": [args for args, _ in test.cases]}
            else:
                given |= {"asserts": test.asserts, "word": word}
            programs.append(_CASES if test.cases else _ASSERTS)
            inputs.append(json.dumps(given))
        outcomes = self._sandbox.run_all(programs, inputs=inputs, workers=self._workers)
        for test, word, outcome in zip(tests, words, outcomes, strict=True):
            yield _judged(test, word, outcome)


def code_of(text: str) -> str:
    """The program in an answer: its first fenced block, or all of it."""
    found = _FENCE.search(text)
    return found.group(1) if found else text


def _judged(tests: ProblemTests, word: str, outcome: Outcome) -> Verdict:
    if outcome.status != PASSED:
        last = outcome.stderr.strip().splitlines()[-1:] or [""]
        return Verdict(reward=0.0, status=outcome.status, detail=last[0][:200])
    if tests.asserts:
        passed = outcome.stdout == word
        return Verdict(reward=float(passed), status=PASSED if passed else "ended early")
    try:
        found = json.loads(outcome.stdout)
    except (ValueError, RecursionError):
        return Verdict(reward=0.0, status="ended early")
    if not isinstance(found, list) or len(found) != len(tests.cases):
        return Verdict(reward=0.0, status="ended early")
    for value, (args, expected) in zip(found, tests.cases, strict=True):
        if not _same(value, expected):
            shown = f"{tests.entry}{json.dumps(list(args))} gave {json.dumps(value)}"
            return Verdict(reward=0.0, status="wrong answer", detail=shown[:200])
    return Verdict(reward=1.0, status=PASSED)


def _same(found: Any, expected: Any) -> bool:
    """Equal as JSON values: ``true`` is not 1, and numbers with a fraction agree to nine digits."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same(found[k], expected[k]) for k in found)
    if isinstance(found, float) or isinstance(expected, float):
        numbers = isinstance(found, int | float) and isinstance(expected, int | float)
        return numbers and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return type(found) is type(expected) and bool(found == expected)
