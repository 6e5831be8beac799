"""``estimate label``: tokens and cost of asking a model about n texts, before it is asked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.errors import BadInput, UsageError
from headwater.estimate.texts import sampled_texts
from headwater.scoring.annotate import PARAMETERS, gives_orders, prompt_for
from headwater.scoring.rubric import Rubric

if TYPE_CHECKING:
    from headwater.lake import Lake

SAMPLE_TEXTS = 400
BYTES_PER_TOKEN = 3.5
"""Of source code, where no tokenizer is given: public tokenizers of 100,000 and more tokens have 3 to 4."""
ANSWER_TOKENS = 40
"""A digit and a reason of at most 140 characters; an answer is cut at the ``max_tokens`` of the question."""


@dataclass(frozen=True, kw_only=True)
class LabelEstimate:
    """What labeling takes. Cost is in the currency of the prices, None without them."""

    table: str
    num_texts: int
    sample_texts: int
    tokenizer: str | None
    """The file that counted; None where bytes were divided by ``bytes_per_token``."""
    bytes_per_token: float
    rubric_tokens: int
    """Of the task and the rubric, in every question."""
    tokens_per_question: float
    prompt_tokens: int
    prompt_tokens_half_width: int
    """Half of the 95 % interval of the sample's mean, times the texts."""
    completion_tokens: int
    completion_tokens_at_most: int
    cost: float | None
    cost_at_most: float | None
    """At the upper end of the interval, with answers as long as they may be."""
    not_asked_share: float
    """Of the sample: texts that give orders to their reader, which go to a person."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def estimate_label(
    lake: Lake,
    table: str,
    *,
    num_texts: int,
    rubric: Rubric,
    price_in: float | None = None,
    price_out: float | None = None,
    tokenizer: str | None = None,
    bytes_per_token: float = BYTES_PER_TOKEN,
    answer_tokens: int = ANSWER_TOKENS,
) -> LabelEstimate:
    """Make the questions about a sample of ``table`` and count their tokens.

    Parameters
    ----------
    tokenizer: a ``tokenizer.json``, best the one of the model that is to be asked.
    price_in, price_out: of a million tokens.
    """
    if num_texts < 1 or bytes_per_token <= 0:
        raise UsageError("expected at least one text and more than 0 bytes a token")
    for name, price in (("in", price_in), ("out", price_out)):
        if price is not None and not (math.isfinite(price) and price >= 0):
            raise UsageError(f"got a price {name} of {price}", hint="of a million tokens, in any currency")
    opened, texts = sampled_texts(lake, table, SAMPLE_TEXTS)
    count = _counter(tokenizer, bytes_per_token)
    questions = [prompt_for(rubric, f"{i:032x}", text) for i, text in enumerate(texts)]
    sizes = np.array([count(question.text) for question in questions], dtype=np.float64)
    size_bytes = sum(len(question.text.encode("utf-8", "replace")) for question in questions)
    empty = count(prompt_for(rubric, "0" * 32, "").text)
    mean = float(sizes.mean())
    spread = float(sizes.std(ddof=1)) if len(sizes) > 1 else 0.0
    half = 1.96 * spread / math.sqrt(len(sizes)) * num_texts
    prompt_tokens, completion = round(mean * num_texts), answer_tokens * num_texts
    most = int(PARAMETERS["max_tokens"]) * num_texts

    def cost(tokens_in: float, tokens_out: float) -> float | None:
        if price_in is None and price_out is None:
            return None
        return (tokens_in * (price_in or 0.0) + tokens_out * (price_out or 0.0)) / 1e6

    return LabelEstimate(
        table=str(opened.ref),
        num_texts=num_texts,
        sample_texts=len(texts),
        tokenizer=tokenizer,
        bytes_per_token=size_bytes / max(float(sizes.sum()), 1.0),
        rubric_tokens=round(empty),
        tokens_per_question=mean,
        prompt_tokens=prompt_tokens,
        prompt_tokens_half_width=round(half),
        completion_tokens=completion,
        completion_tokens_at_most=most,
        cost=cost(prompt_tokens, completion),
        cost_at_most=cost(prompt_tokens + half, most),
        not_asked_share=sum(map(gives_orders, texts)) / len(texts),
    )


def _counter(tokenizer: str | None, bytes_per_token: float) -> Any:
    if tokenizer is None:
        return lambda text: len(text.encode("utf-8", "replace")) / bytes_per_token
    import pyarrow as pa

    from headwater.tokenizer import Encoder

    try:
        encoder = Encoder(Path(tokenizer).read_text(encoding="utf-8"), documents=False)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the tokenizer {tokenizer}: {error}") from None
    return lambda text: len(encoder.encode(pa.array([text], pa.large_string()))[0])
