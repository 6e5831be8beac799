"""Problems as a table: what is asked, what verifies an answer, and who may train on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from headwater.errors import BadInput, UnknownName, UsageError
from headwater.synthesis.self_training.recipe import Recipe

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

PROBLEMS = pa.schema(
    {
        "problem_id": pa.string(),
        "kind": pa.string(),
        "prompt": pa.large_string(),
        "answer": pa.string(),
        "tests": pa.string(),
        "split": pa.string(),
        "seed": pa.int64(),
    }
)
"""Columns of a table of problems. ``answer`` (for the verifier ``exact_answer``) or ``tests`` (for
``unit_tests``, as :class:`~headwater.synthesis.verifiers.unit_tests.ProblemTests` reads them) is null."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    problem_id: str
    prompt: str
    verifier: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a maker of problems returns: the table, and solutions to begin with.

    ``demonstrations`` are pairs of a prompt and a solution. None of their prompts is a problem's.
    """

    problems: pa.Table
    demonstrations: tuple[tuple[str, str], ...]


Maker = Callable[..., Made]
"""``maker(train=…, held_out=…, demonstrations=…, seed=…, **options)``."""


def make(recipe: Recipe) -> Made:
    """Call the recipe's maker. Raises ``UsageError`` when there is none of that name."""
    module, _, function = recipe.maker.partition(":")
    try:
        maker: Maker = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"no maker of problems {recipe.maker!r}: {error}", hint="name it package.module:function"
        ) from error
    made = maker(
        train=recipe.train,
        held_out=recipe.held_out,
        demonstrations=recipe.demonstrations,
        seed=recipe.problem_seed,
        **recipe.options,
    )
    check_problems(made.problems, recipe.maker)
    asked = set(made.problems["prompt"].to_pylist())
    shown = [prompt for prompt, _ in made.demonstrations if prompt in asked]
    if shown:
        raise BadInput(
            f"{recipe.maker} shows the solution of {len(shown)} problems: {shown[0][:80]!r}",
            hint="demonstrations and problems must not share a prompt",
        )
    return made


def check_problems(problems: pa.Table, where: str) -> None:
    """Raise ``BadInput`` unless every problem can be judged and none is on both sides.

    Prompts that differ in case and white space only count as one.
    """
    missing = [name for name in PROBLEMS.names if name not in problems.schema.names]
    if missing:
        raise BadInput(f"{where} lacks the columns {', '.join(missing)}", hint=f"a table of {PROBLEMS.names}")
    for what, sql in _FLAWS.items():
        con = duckdb.connect(":memory:")
        try:
            con.register("problems", problems)
            found = con.execute(sql).fetchall()
        finally:
            con.close()
        if found:
            raise BadInput(
                f"{where}: {len(found)} problems {what}, among them {str(found[0][0])[:80]!r}",
                hint="see docs/how-to/self-training.md for the columns of a table of problems",
            )


_FLAWS = {
    "have no id or the id of another": (
        "select problem_id from problems group by 1 having problem_id is null or count(*) > 1"
    ),
    "have no prompt": "select problem_id from problems where prompt is null or trim(prompt) = ''",
    "have neither an answer nor tests, or both": (
        "select problem_id from problems where (answer is null) = (tests is null)"
    ),
    "are in no split, train or held_out": (
        "select problem_id from problems where coalesce(split, '') not in ('train', 'held_out')"
    ),
    "are held out and in train": (
        "select trim(regexp_replace(lower(prompt), '\\s+', ' ', 'g')) from problems group by 1 "
        "having count(distinct split) > 1"
    ),
}


def load_problems(table: Table, split: str) -> list[Problem]:
    """The problems of one split, by id."""
    rows = table.to_arrow(filter=f"split = '{split}'").sort_by("problem_id").to_pylist()
    return [_problem(row) for row in rows]


def _problem(row: dict[str, Any]) -> Problem:
    exact = row["tests"] is None
    return Problem(
        problem_id=row["problem_id"],
        prompt=row["prompt"],
        verifier="exact_answer" if exact else "unit_tests",
        expected=row["answer"] if exact else row["tests"],
    )


def problem_rows(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Rows of schema :data:`PROBLEMS`; what is not said is null."""
    return pa.Table.from_pylist([{name: row.get(name) for name in PROBLEMS.names} for row in rows], PROBLEMS)


def open_problems(lake: Lake, name: str) -> Table:
    """A table of problems that is in the lake. Raises ``UnknownName`` or ``BadInput``."""
    table = lake.table(name)
    if "problem_id" not in table.schema.names:
        raise UnknownName.of("table of problems", name, [])
    check_problems(table.to_arrow(), str(table.ref))
    return table
