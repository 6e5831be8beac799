"""What a verifier takes for right, what it does not, and programs that would rather not be judged."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import BadInput, UnknownName
from headwater.synthesis.sandbox import Limits
from headwater.synthesis.verifiers import Verdict, find_verifier, verify_distinct
from headwater.synthesis.verifiers.exact_answer import ExactAnswer, normalized
from headwater.synthesis.verifiers.unit_tests import ProblemTests, UnitTests, code_of

EXACT = ExactAnswer()


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("42", "42"),
        ("42", "6*7=42"),
        ("42", "First 5*8=40, then 40+2=42\n"),
        ("1024", "The answer is 1,024."),
        ("-7", "x = −7"),
        ("0.5", "#### 1/2"),
        ("1/2", "#### .50"),
        ("7", "Answer: 007\nand some more"),
        ("Paris", "answer: 'paris'."),
        ("three  dogs", "so:\n\nThree dogs\n"),
    ],
)
def test_answers_that_are_the_same(expected: str, text: str) -> None:
    (verdict,) = EXACT.verify([(expected, text)])
    assert verdict == Verdict(reward=1.0, status="passed")


@pytest.mark.parametrize(
    ("expected", "text", "status"),
    [
        ("42", "", "no answer"),
        ("42", "6*7=", "no answer"),
        ("42", "6*7=43", "wrong answer"),
        ("42", "42=43", "wrong answer"),
        ("42", "#### 41\n=42", "wrong answer"),
        ("5", "5!", "wrong answer"),
        ("1", "1/0", "wrong answer"),
        ("1000", "10,00", "wrong answer"),
        ("5", ".5", "wrong answer"),
    ],
)
def test_answers_that_are_not(expected: str, text: str, status: str) -> None:
    (verdict,) = EXACT.verify([(expected, text)])
    assert (verdict.reward, verdict.status) == (0.0, status)


@given(st.text(), st.text())
def test_any_text_gets_a_verdict(expected: str, text: str) -> None:
    (verdict,) = EXACT.verify([(expected, text)])
    assert verdict.reward in (0.0, 1.0)
    assert normalized(normalized(expected)) == normalized(expected)


def test_a_verifier_has_a_name_and_equal_solutions_are_judged_once() -> None:
    with pytest.raises(UnknownName, match="exact_answer"):
        find_verifier("exact_anser")
    found, judged = verify_distinct(find_verifier("exact_answer"), [("1", "=1"), ("1", "=2"), ("1", "=1")])
    assert [v.reward for v in found] == [1.0, 0.0, 1.0] and judged == 2


DOUBLE = json.dumps(
    {"entry": "f", "cases": [{"args": [2], "expected": 4}, {"args": [[1]], "expected": [1, 1]}]}
)
ASSERTS = json.dumps({"asserts": "assert f(2) == 4"})


@pytest.mark.parametrize(
    "text", ["{}", "[]", "no", '{"entry": "f"}', '{"cases": [{"args": [1], "expected": 1}]}',
             '{"asserts": "pass", "template": "x"}', '{"entry": "f", "cases": [{"args": 3, "expected": 1}]}'],
)  # fmt: skip
def test_tests_that_judge_nothing_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="tests|template"):
        ProblemTests.from_json(text)


def test_the_program_in_an_answer() -> None:
    assert code_of("Sure!\n```python\nx = 1\n```\nDone") == "x = 1\n"
    assert code_of("x = 1") == "x = 1"
    assert code_of("```\nx = 1") == "x = 1"


needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@pytest.fixture(scope="module")
def unit_tests() -> UnitTests:
    return UnitTests(Limits(wall_seconds=20.0, cpu_seconds=1, memory_bytes=128 << 20, processes=6))


HONEST = "def f(x):\n    print('x is', x)\n    return x + x"
CODE = {
    HONEST: ("passed", "passed"),
    f"Here it is:\n```python\n{HONEST}\n```": ("passed", "passed"),
    "def f(x): return x * 3": ("wrong answer", "failed"),
    "def f(x): return 4": ("wrong answer", "passed"),  # too few asserts
    "def f(x:": ("failed", "failed"),
    "raise SystemExit(0)": ("ended early", "ended early"),
    "import os\nos._exit(0)": ("ended early", "ended early"),
    "def f(x):\n    import os\n    os._exit(0)": ("ended early", "ended early"),
    "print('[4, [1, 1]]')\nraise SystemExit(0)": ("ended early", "ended early"),
    "while True: pass": ("timed out", "timed out"),
    "while True: print('x' * 10000)": ("too much output", "too much output"),
    "x = bytearray(1 << 30)": ("failed", "failed"),
    "import os\nwhile True: os.fork()": (None, None),
    "open('/etc/passwd')": ("failed", "failed"),
    "open('/tmp/x', 'w').write('x' * (1 << 26))": ("failed", "failed"),
    "import socket\nsocket.create_connection(('127.0.0.1', 9))": ("failed", "failed"),
    "def f(x): return f": ("failed", "failed"),
    "def f(x): return True if x == 2 else [True, True]": ("wrong answer", "failed"),
    "\ud800": ("failed", "failed"),
}


@needs_bubblewrap
def test_every_program_gets_its_verdict_and_none_gets_out(unit_tests: UnitTests) -> None:
    pairs = [(tests, code) for code in CODE for tests in (DOUBLE, ASSERTS)]
    found = list(unit_tests.verify(pairs))
    assert len(found) == len(pairs)
    for (tests, code), verdict in zip(pairs, found, strict=True):
        wanted = CODE[code][tests == ASSERTS]
        if wanted is not None:  # a bomb of forks ends by time or by the limit of processes
            assert verdict.status in (wanted, "failed" if wanted == "timed out" else wanted), (code, verdict)
        assert verdict.reward == float(verdict.status == "passed")


@needs_bubblewrap
def test_a_template_makes_a_program_of_an_expression(unit_tests: UnitTests) -> None:
    tests = json.dumps({"entry": "f", "cases": [{"args": [[3, 1]], "expected": [1, 3]}],
                        "template": "def f(x):\n    return {}"})  # fmt: skip
    found = [
        v.status for v in unit_tests.verify([(tests, "sorted(x)"), (tests, "x"), (tests, "x)("), (tests, "")])
    ]
    assert found == ["passed", "wrong answer", "failed", "wrong answer"]
