"""Textbooks and exercises as phi-1 had them made (arXiv 2306.11644): topic, audience, and a constraint.

The paper does not print its prompts; it says that diversity came of constraints on topics and on the audience
(textbooks), and on the names of functions (exercises). The words below are ours.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.lake import Provenance
from headwater.synthesis.recipes.prompts import combinations, prompt_row, write_prompts
from headwater.synthesis.verifiers import Verifier, verify_distinct
from headwater.synthesis.verifiers.unit_tests import code_of

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

TOPICS = (
    "lists and slices", "dictionaries", "string formatting", "recursion", "binary search", "sorting",
    "generators", "exceptions", "classes", "sets", "prime numbers", "matrices", "dates",
    "regular expressions",
    "queues and stacks", "trees", "graphs", "memoization", "reading text", "simple statistics",
)  # fmt: skip
AUDIENCES = (
    "someone who writes a first program", "a high-school student", "a scientist who knows another language",
    "a first-year student of computer science", "an engineer who reviews code",
)  # fmt: skip
CONSTRAINTS = (
    "explain the idea before the first line of code", "begin from a mistake that people make",
    "show two ways and compare what they cost", "use one example from everyday life throughout",
    "end with two questions that make the reader think",
)  # fmt: skip
VERBS = ("count", "find", "merge", "split", "rotate", "compress", "group", "clean", "rank", "check", "sum")
NOUNS = (
    "words", "pairs", "intervals", "digits", "matrix", "letters", "prices", "names", "steps", "values",
    "path",
)  # fmt: skip

TEXTBOOK = (
    "Write a section of a Python textbook on {topic}, for {audience}. {constraint}. "
    "Reason in clear prose, and let short, complete code carry the argument."
)
EXERCISE = (
    "Write one Python exercise on {topic}, for {audience}. Answer with code only: a function called "
    "{verb}_{noun}, whose docstring says what it does and gives two examples as a Python session (>>>), "
    "and then its solution."
)

EXERCISE_CHECKS = pa.schema(
    {
        "doc_id": pa.binary(16),
        "function": pa.string(),
        "compiles": pa.bool_(),
        "has_docstring": pa.bool_(),
        "num_examples": pa.int32(),
        "status": pa.string(),
        "detail": pa.string(),
        "verifier": pa.string(),
        "reward": pa.float64(),
    }
)
"""Columns of the checks of exercises. ``status`` is how the examples of the docstring went in the sandbox,
*not run* where there is nothing to run."""

# The docstring's own examples are the tests: the exercise must do what it says it does.
_EXAMPLES = """
import doctest
_found = doctest.DocTestParser().get_doctest({function}.__doc__, dict(globals()), {name!r}, None, 0)
_runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
_runner.run(_found)
assert _runner.summarize(verbose=False).failed == 0, "an example gives something else"
"""


def textbook_prompts(
    lake: Lake,
    name: str = "phi1_textbook_prompts",
    *,
    limit: int = 100,
    seed: int = 0,
    topics: Sequence[str] = TOPICS,
    audiences: Sequence[str] = AUDIENCES,
    constraints: Sequence[str] = CONSTRAINTS,
) -> Table:
    """A table of prompts: topic, audience and constraint of each stand in its metadata."""
    parts = {"topic": topics, "audience": audiences, "constraint": constraints}
    return write_prompts(lake, name, _rows("phi1_textbook", TEXTBOOK, parts, limit, seed))


def exercise_prompts(
    lake: Lake,
    name: str = "phi1_exercise_prompts",
    *,
    limit: int = 100,
    seed: int = 0,
    topics: Sequence[str] = TOPICS,
    audiences: Sequence[str] = AUDIENCES,
    verbs: Sequence[str] = VERBS,
    nouns: Sequence[str] = NOUNS,
) -> Table:
    """A table of prompts whose function's name is a constraint of its own, as in the paper."""
    parts = {"topic": topics, "audience": audiences, "verb": verbs, "noun": nouns}
    return write_prompts(lake, name, _rows("phi1_exercise", EXERCISE, parts, limit, seed))


def _rows(
    recipe: str, template: str, parts: dict[str, Sequence[str]], limit: int, seed: int
) -> list[dict[str, Any]]:
    chosen = combinations(parts, limit, seed)
    return [
        prompt_row(
            recipe,
            re.sub(r"\. ([a-z])", lambda m: f". {m[1].upper()}", template.format(**each)),
            metadata=each,
        )
        for each in chosen
    ]


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """What the text of an exercise turns out to be, without running it."""

    function: str | None
    compiles: bool
    has_docstring: bool
    num_examples: int

    @classmethod
    def of(cls, text: str) -> Exercise:
        """Never raises: generated code can be anything, nested too deep for the parser among it."""
        try:
            tree = ast.parse(code_of(text))
            compile(tree, "exercise.py", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return cls(function=None, compiles=False, has_docstring=False, num_examples=0)
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        if not functions:
            return cls(function=None, compiles=True, has_docstring=False, num_examples=0)
        said = ast.get_docstring(functions[0]) or ""
        examples = len(re.findall(r"^\s*>>> ", said, re.MULTILINE))
        return cls(
            function=functions[0].name, compiles=True, has_docstring=bool(said.strip()), num_examples=examples
        )


def check_exercises(lake: Lake, documents: str, verifier: Verifier, name: str = "exercise_checks") -> Table:
    """What is true of every exercise, for rules to decide on: one row for each document.

    ``verifier`` is ``unit_tests``: the examples of the docstring run in the sandbox, nothing runs elsewhere.
    """
    table = lake.table(documents)
    rows = table.to_arrow(["doc_id", "text"]).to_pylist()
    exercises = [Exercise.of(row["text"]) for row in rows]
    runs = [i for i, each in enumerate(exercises) if each.function and each.num_examples]
    pairs = [(_tests(exercises[i].function), rows[i]["text"]) for i in runs]
    verdicts = dict(zip(runs, verify_distinct(verifier, pairs)[0], strict=True))
    checks = []
    for i, (row, each) in enumerate(zip(rows, exercises, strict=True)):
        verdict = verdicts.get(i)
        checks.append(
            {
                "doc_id": row["doc_id"],
                "function": each.function,
                "compiles": each.compiles,
                "has_docstring": each.has_docstring,
                "num_examples": each.num_examples,
                "status": verdict.status if verdict else "not run",
                "detail": verdict.detail if verdict else "",
                "verifier": f"{verifier.name} {verifier.version}" if verdict else None,
                "reward": verdict.reward if verdict else None,
            }
        )
    provenance = Provenance(kind="recipe", inputs=(table.ref,))
    lake.write(name, pa.Table.from_pylist(checks, EXERCISE_CHECKS), provenance=provenance)
    return lake.table(name)


def _tests(function: str | None) -> str:
    return json.dumps({"asserts": _EXAMPLES.format(function=function, name=function)})
