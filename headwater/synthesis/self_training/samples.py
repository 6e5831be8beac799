"""The E-step: sample, verify, and mark what is kept, block by block into the round's table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from headwater.lake import Provenance
from headwater.synthesis.self_training.recipe import key_of
from headwater.synthesis.verifiers import Verdict, Verifier, verify_distinct

if TYPE_CHECKING:
    from headwater.lake import Lake, Table
    from headwater.synthesis.self_training.problems import Problem
    from headwater.synthesis.self_training.sampler import Sample, Sampler

SAMPLES = pa.schema(
    {
        "problem_id": pa.string(),
        "round": pa.int32(),
        "seed": pa.int64(),
        "sample_id": pa.int32(),
        "generator": pa.string(),
        "generator_version": pa.string(),
        "text": pa.large_string(),
        "num_tokens": pa.int32(),
        "verifier": pa.string(),
        "verifier_version": pa.string(),
        "reward": pa.float64(),
        "status": pa.string(),
        "detail": pa.string(),
        "kept": pa.bool_(),
        "cap_rank": pa.int32(),
        "parameters": pa.string(),
    }
)
"""Columns of a round's samples.

``text`` is the solution without its problem; ``status`` is the verdict's, for code how the sandbox saw it
end; ``cap_rank`` counts the different right solutions of a problem from 1."""

BLOCK_PROBLEMS = 500
"""Problems whose samples are published together: what a kill can cost is one block."""

Verifiers = dict[str, Verifier]
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How a round samples. ``round_number`` 0 is the base."""

    samples: int
    temperature: float
    top_k: int
    max_tokens: int
    seed: int
    round_number: int
    cap: int

    def parameters(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }


def sample_round(
    lake: Lake,
    name: str,
    problems: Sequence[Problem],
    sampler: Sampler,
    verifiers: Verifiers,
    draw: Draw,
    inputs: Sequence[Table],
    tell: Tell = lambda _: None,
) -> Table:
    """The table ``name`` with every problem's samples; blocks that it holds already are not drawn again.

    A table that was made with another model, verifier or setting is replaced.
    """
    asked = key_of(
        sampler.name, sampler.version, draw.samples, draw.cap, draw.parameters(), draw.round_number,
        [table.digest for table in inputs], sorted((v.name, v.version) for v in verifiers.values()),
    )  # fmt: skip
    provenance = Provenance(
        kind="self-training", fingerprint=asked, inputs=tuple(table.ref for table in inputs),
        extra={"generator": sampler.name, "generator_version": sampler.version},
    )  # fmt: skip
    done: set[str] = set()
    if lake.exists(name):
        current = lake.table(name)
        if current.provenance.fingerprint == asked:
            done = set(current.to_arrow(["problem_id"])["problem_id"].to_pylist())
    for number, start in enumerate(range(0, len(problems), BLOCK_PROBLEMS)):
        block = problems[start : start + BLOCK_PROBLEMS]
        todo = [problem for problem in block if problem.problem_id not in done]
        if not todo:
            continue
        # The seed is the block's own: what came before it, or did not, changes none of its texts.
        seed = xxhash.xxh32_intdigest(f"{draw.seed}/{draw.round_number}/{number}".encode())
        rows = _block(todo, sampler, verifiers, draw, seed)
        lake.write(name, rows, mode="append" if done else "replace", provenance=provenance)
        done |= {problem.problem_id for problem in block}
        right = sum(rows["reward"].to_pylist())
        tell(
            f"{name}: {len(done):,} of {len(problems):,} problems, "
            f"{100 * right / max(rows.num_rows, 1):.1f} % of the last {rows.num_rows:,} samples right"
        )
    return lake.table(name)


def _block(
    problems: Sequence[Problem], sampler: Sampler, verifiers: Verifiers, draw: Draw, seed: int
) -> pa.Table:
    drawn = sampler.sample(
        [problem.prompt for problem in problems], samples=draw.samples, temperature=draw.temperature,
        top_k=draw.top_k, max_tokens=draw.max_tokens, seed=seed,
    )  # fmt: skip
    found = sorted(drawn, key=lambda sample: (sample.prompt, sample.sample))
    verdicts = judge(problems, found, verifiers)
    parameters = json.dumps({**draw.parameters(), "block_seed": seed}, sort_keys=True)
    rows = []
    for sample, verdict, rank in zip(found, verdicts, cap_ranks(found, verdicts), strict=True):
        problem = problems[sample.prompt]
        verifier = verifiers[problem.verifier]
        rows.append(
            {
                "problem_id": problem.problem_id,
                "round": draw.round_number,
                "seed": draw.seed,
                "sample_id": sample.sample,
                "generator": sampler.name,
                "generator_version": sampler.version,
                "text": sample.text,
                "num_tokens": sample.num_tokens,
                "verifier": verifier.name,
                "verifier_version": verifier.version,
                "reward": verdict.reward,
                "status": verdict.status,
                "detail": verdict.detail,
                "kept": rank is not None and rank <= draw.cap,
                "cap_rank": rank,
                "parameters": parameters,
            }
        )
    return pa.Table.from_pylist(rows, SAMPLES)


def judge(problems: Sequence[Problem], samples: Sequence[Sample], verifiers: Verifiers) -> list[Verdict]:
    """A verdict for each sample, in order; equal solutions of one problem are judged once."""
    found: list[Verdict | None] = [None] * len(samples)
    for name, verifier in verifiers.items():
        mine = [i for i, sample in enumerate(samples) if problems[sample.prompt].verifier == name]
        pairs = [(problems[samples[i].prompt].expected, samples[i].text) for i in mine]
        for i, verdict in zip(mine, verify_distinct(verifier, pairs)[0], strict=True):
            found[i] = verdict
    return [verdict for verdict in found if verdict is not None]


def cap_ranks(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> Iterator[int | None]:
    """The rank of each right solution among the different ones of its problem, in the order of its samples.

    ``None`` for what is wrong, and for a solution that an earlier sample had word for word (without the white
    space around it).
    """
    counts: Counter[int] = Counter()
    seen: set[tuple[int, str]] = set()
    for sample, verdict in zip(samples, verdicts, strict=True):
        key = (sample.prompt, sample.text.strip())
        if verdict.reward < 1 or key in seen:
            yield None
            continue
        seen.add(key)
        counts[sample.prompt] += 1
        yield counts[sample.prompt]
