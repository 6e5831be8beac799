"""Makers of verifiable problems: arithmetic, and list programs. Made by a seed, not collected."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from headwater.errors import UsageError
from headwater.synthesis.self_training.problems import Made, problem_rows

Drawn = tuple[str, str, dict[str, Any]]
"""A prompt, a solution as a demonstration shows it, and the problem's own columns."""

MOST_TRIES = 200
"""Draws without a new prompt, one after the other, before the space of problems counts as used up."""


def arithmetic(*, train: int, held_out: int, demonstrations: int, seed: int, operands: int = 4) -> Made:
    """Sums and differences of one-digit numbers, without steps in between: ``7-9+3+8=`` is solved by ``9``.

    There is nothing but the answer, so what passes is right: no wrong way to a right end is learned from.
    """
    if not 2 <= operands <= 9:
        raise UsageError(f"got operands {operands}", hint="2 to 9 numbers")
    return _made("arithmetic", _sum, train, held_out, demonstrations, seed, operands=operands)


def _sum(rng: random.Random, operands: int) -> Drawn:
    numbers = [rng.randrange(10) for _ in range(operands)]
    signs = [1, *(rng.choice((1, -1)) for _ in numbers[1:])]
    rest = "".join(f"{'+' if sign > 0 else '-'}{n}" for sign, n in zip(signs[1:], numbers[1:], strict=True))
    answer = str(sum(sign * n for sign, n in zip(signs, numbers, strict=True)))
    return f"{numbers[0]}{rest}=", answer, {"answer": answer}


def sorting(*, train: int, held_out: int, demonstrations: int, seed: int, letters: int = 6) -> Made:
    """Letters in order: ``ehabej=`` is solved by ``abeehj``. One answer is right, so what passes is right.

    Letters, not digits: an answer in digits would be a number, and pass with fewer zeros before it.
    """
    if not 2 <= letters <= 32:
        raise UsageError(f"got letters {letters}", hint="2 to 32")
    return _made("sorting", _sorted, train, held_out, demonstrations, seed, letters=letters)


def _sorted(rng: random.Random, letters: int) -> Drawn:
    drawn = [rng.choice("abcdefghij") for _ in range(letters)]
    answer = "".join(sorted(drawn))
    return f"{''.join(drawn)}=", answer, {"answer": answer}


_STEPS: dict[str, tuple[str, Callable[[list[int]], list[int]]]] = {
    "reverse": ("{}[::-1]", lambda x: x[::-1]),
    "sort": ("sorted({})", sorted),
    "double": ("[2*v for v in {}]", lambda x: [2 * v for v in x]),
    "negate": ("[-v for v in {}]", lambda x: [-v for v in x]),
    "square": ("[v*v for v in {}]", lambda x: [v * v for v in x]),
    "add one": ("[v+1 for v in {}]", lambda x: [v + 1 for v in x]),
    "drop the first": ("{}[1:]", lambda x: x[1:]),
    "drop the last": ("{}[:-1]", lambda x: x[:-1]),
    "keep even": ("[v for v in {} if v%2==0]", lambda x: [v for v in x if v % 2 == 0]),
    "keep positive": ("[v for v in {} if v>0]", lambda x: [v for v in x if v > 0]),
    "twice over": ("{}*2", lambda x: x * 2),
    "without repeats": ("sorted(set({}))", lambda x: sorted(set(x))),
}
_LISTS = ([3, -1, 4, 1, -5, 9, 2, 6], [2, 2, 7, -3], [0, 10, -10, 5, 5, 5, 8], [1])


def list_programs(*, train: int, held_out: int, demonstrations: int, seed: int, steps: int = 3) -> Made:
    """What to do to a list, in words, and a Python expression of ``x`` that does it.

    ``sort, double: `` is solved by ``[2*v for v in sorted(x)]``. Unit tests run the expression on four lists.
    """
    if not 1 <= steps <= 6:
        raise UsageError(f"got steps {steps}", hint="1 to 6 things to do")
    return _made("list_program", _program, train, held_out, demonstrations, seed, steps=steps)


def _program(rng: random.Random, steps: int) -> Drawn:
    names = [rng.choice(list(_STEPS)) for _ in range(rng.randint(1, steps))]
    code = "x"
    for name in names:
        code = _STEPS[name][0].replace("{}", code)
    cases = []
    for numbers in _LISTS:
        value = numbers
        for name in names:
            value = _STEPS[name][1](value)
        cases.append({"args": [numbers], "expected": value})
    tests = {"entry": "f", "template": "def f(x):\n    return {}", "cases": cases}
    return f"{', '.join(names)}: ", code, {"tests": json.dumps(tests)}


def _made(
    kind: str,
    draw: Callable[..., Drawn],
    train: int,
    held_out: int,
    demonstrations: int,
    seed: int,
    **options: int,
) -> Made:
    """Draw distinct prompts: the held-out ones first, so that they stay whatever else is asked for."""
    rng = random.Random(f"{kind}/{seed}/{sorted(options.items())}")  # noqa: S311 - no secret is made
    found = _distinct(draw, rng, options)
    rows: list[dict[str, Any]] = []
    shown: list[tuple[str, str]] = []
    for split, count in (("held_out", held_out), ("demonstration", demonstrations), ("train", train)):
        for i in range(count):
            drawn = next(found, None)
            if drawn is None:
                raise UsageError(
                    f"{kind} with {options} has {len(rows) + len(shown):,} different problems, "
                    f"{train + held_out + demonstrations:,} were asked for",
                    hint="ask for fewer, or for longer ones",
                )
            prompt, solution, own = drawn
            if split == "demonstration":
                shown.append((prompt, solution))
                continue
            row = {"problem_id": f"{kind}-{seed}-{split}-{i:06d}", "kind": kind, "prompt": prompt}
            rows.append({**row, "split": split, "seed": seed, **own})
    return Made(problems=problem_rows(rows), demonstrations=tuple(shown))


def _distinct(draw: Callable[..., Drawn], rng: random.Random, options: dict[str, int]) -> Iterator[Drawn]:
    seen: set[str] = set()
    tries = 0
    while tries < MOST_TRIES:
        drawn = draw(rng, **options)
        tries += 1
        if drawn[0] not in seen:
            seen.add(drawn[0])
            tries = 0
            yield drawn
