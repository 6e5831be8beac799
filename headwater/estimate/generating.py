"""``estimate generate``: prompts, tokens, money and time of a generation, before anything is sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from headwater.lineage import open_optional
from headwater.synthesis.generate.completions import TABLE, Cache
from headwater.synthesis.generate.generator import MAX_TOKENS
from headwater.synthesis.generate.prompts import PromptTable, completion_id

if TYPE_CHECKING:
    from headwater.lake import Lake
    from headwater.synthesis.generate.budget import Prices
    from headwater.synthesis.generate.generator import Generator

BYTES_PER_TOKEN = 3.5
"""Of English and code mixed, where nothing has been measured: tokenizers of 32,000 tokens and more take about
3.3 bytes of code, and 4.4 of English, for one."""


@dataclass(frozen=True, kw_only=True)
class GenerateEstimate:
    """What a generation takes.

    ``most_*`` is what an endpoint that keeps to max_tokens cannot pass, and what a budget reserves. Retries
    come on top, where an endpoint charges for what it did not answer.
    """

    prompts_table: str
    generator: str
    generator_version: str
    prompts: int
    cached: int
    failed_before: int
    unfilled: int
    to_send: int
    prompt_tokens: int
    prompt_tokens_from: str
    completion_tokens: int
    completion_tokens_from: str
    most_prompt_tokens: int
    most_completion_tokens: int
    cost: float | None
    most_cost: float | None
    seconds_per_completion: float | None
    """Of past answers of this generator; with n requests at once the whole takes an n-th of the sum."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def estimate_generate(
    lake: Lake,
    prompts: str,
    generator: Generator,
    *,
    seeds: str = "raw.documents",
    raw: bool = False,
    limit: int | None = None,
    prices: Prices | None = None,
) -> GenerateEstimate:
    """Count what is to be sent; rates are those of past answers of this generator, where there are any.

    Raises
    ------
    UnknownName, BadInput
        As a generation would raise them.
    """
    table = PromptTable(lake, prompts, seeds=seeds, raw=raw)
    cache = Cache.of(lake)
    past = _past(lake, generator)
    counts = dict.fromkeys(("prompts", "cached", "failed_before", "to_send"), 0)
    prompt_bytes = most_prompt = most_completion = 0
    seen: set[bytes] = set()
    for request in table.requests(limit):
        counts["prompts"] += 1
        key = completion_id(request.prompt, generator)
        if key in seen or cache.has_answer(key):
            counts["cached"] += 1
        elif cache.has_final_error(key):
            counts["failed_before"] += 1
        else:
            counts["to_send"] += 1
            prompt_bytes += len(request.prompt.text.encode("utf-8", "surrogatepass"))
            most_prompt += request.prompt.most_prompt_tokens
            most_completion += int(generator.settings(request.prompt).get("max_tokens") or MAX_TOKENS)
        seen.add(key)
    bytes_per_token = past.bytes_per_token or BYTES_PER_TOKEN
    prompt_tokens = round(prompt_bytes / bytes_per_token)
    completion_tokens = most_completion
    if past.completion_tokens is not None:
        completion_tokens = min(round(past.completion_tokens * counts["to_send"]), most_completion)
    return GenerateEstimate(
        prompts_table=str(table.table.ref),
        generator=generator.name,
        generator_version=generator.version,
        **{**counts, "prompts": counts["prompts"] + len(table.unfilled)},
        unfilled=len(table.unfilled),
        prompt_tokens=prompt_tokens,
        prompt_tokens_from=_from(past, past.bytes_per_token, f"{bytes_per_token:.2f} bytes a token"),
        completion_tokens=completion_tokens,
        completion_tokens_from=(
            "max_tokens of each, no past answers"
            if past.completion_tokens is None
            else _from(past, past.completion_tokens, f"{past.completion_tokens:.0f} an answer")
        ),
        most_prompt_tokens=most_prompt,
        most_completion_tokens=most_completion,
        cost=prices.cost(prompt_tokens, completion_tokens) if prices else None,
        most_cost=prices.cost(most_prompt, most_completion) if prices else None,
        seconds_per_completion=past.seconds,
    )


@dataclass(frozen=True)
class _Past:
    answers: int = 0
    bytes_per_token: float | None = None
    completion_tokens: float | None = None
    seconds: float | None = None


def _past(lake: Lake, generator: Generator) -> _Past:
    """What answers of the same generator and version took on average."""
    table = open_optional(lake, f"{lake.schema}.{TABLE}")
    if table is None:
        return _Past()
    columns = [
        "generator",
        "generator_version",
        "error",
        "prompt_bytes",
        "prompt_tokens",
        "completion_tokens",
        "seconds",
    ]
    rows = table.to_arrow(columns)
    mine = pc.and_(
        pc.equal(rows["generator"], generator.name), pc.equal(rows["generator_version"], generator.version)
    )
    rows = rows.filter(pc.and_(mine, pc.is_null(rows["error"])))
    if not rows.num_rows:
        return _Past()
    counted = rows.filter(pc.greater(rows["prompt_tokens"], 0))
    tokens = pc.sum(counted["prompt_tokens"]).as_py()
    mean = pc.mean(rows["completion_tokens"]).as_py()
    return _Past(
        answers=rows.num_rows,
        bytes_per_token=pc.sum(counted["prompt_bytes"]).as_py() / tokens if tokens else None,
        completion_tokens=float(mean) if mean is not None else None,
        seconds=pc.mean(rows["seconds"]).as_py(),
    )


def _from(past: _Past, value: float | None, shown: str) -> str:
    return f"{shown}, {f'{past.answers:,} past answers' if value is not None else 'assumed'}"
