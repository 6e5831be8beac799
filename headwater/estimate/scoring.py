"""``estimate score``: the time to score a table, with each kind of scorer, from a measured sample."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.errors import HeadwaterError, MissingExtra, UsageError
from headwater.estimate.texts import sampled_texts
from headwater.operators import operator

if TYPE_CHECKING:
    from headwater.lake import Lake

SAMPLE_TEXTS = 2_048
EMBEDDED_TEXTS = 256
MIN_SECONDS = 0.5
"""A rate is measured until so much time has passed, or the sample is used up."""
MODELS = ("static", "minilm")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One way to score, and how long it takes for so many documents."""

    scorer: str
    num_documents: int
    documents_per_second: float | None
    seconds: float | None
    measured_on: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreEstimate:
    """Times on this machine, reading not counted."""

    table: str
    num_documents: int
    text_bytes_per_second: float
    """Of the n-gram scorer, in one thread."""
    stages: tuple[Stage, ...]
    """Each scorer alone, over all documents."""
    two_stage: tuple[Stage, ...]
    """The n-grams for all, then the slowest embedding for the top share."""
    two_stage_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def estimate_score(
    lake: Lake,
    table: str,
    *,
    models: Sequence[str] = MODELS,
    top_share: float = 0.2,
    device: str | None = None,
) -> ScoreEstimate:
    """Score a sample of ``table`` by words and by the embedding models, and reckon for the whole.

    ``top_share``: what the second stage scores again, of the documents.
    """
    if not 0 < top_share <= 1:
        raise UsageError(f"got a top share of {top_share}", hint="above 0, at most 1")
    opened, texts = sampled_texts(lake, table, SAMPLE_TEXTS)
    array = pa.array(texts, pa.large_string())
    score = operator("edu_score")
    score(array.slice(0, 4))  # compiles
    began, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - began < MIN_SECONDS:
        score(array)
        done += 1
    each = (time.perf_counter() - began) / done
    rate = len(texts) / each
    total = opened.num_rows
    fast = _stage("edu_score", total, rate, len(texts))
    stages = [fast, *(_embedding(name, array.slice(0, EMBEDDED_TEXTS), total, device) for name in models)]
    slow = [stage for stage in stages[1:] if stage.documents_per_second]
    second: tuple[Stage, ...] = ()
    if slow:
        last = min(slow, key=lambda stage: stage.documents_per_second or 0.0)
        second = (
            fast,
            _stage(last.scorer, round(total * top_share), last.documents_per_second, last.measured_on),
        )
    return ScoreEstimate(
        table=str(opened.ref),
        num_documents=total,
        text_bytes_per_second=sum(len(text.encode()) for text in texts) / each,
        stages=tuple(stages),
        two_stage=second,
        two_stage_seconds=sum(stage.seconds or 0.0 for stage in second) if second else None,
    )


def _stage(scorer: str, documents: int, rate: float | None, measured: int, note: str = "") -> Stage:
    return Stage(
        scorer=scorer,
        num_documents=documents,
        documents_per_second=rate,
        seconds=documents / rate if rate else None,
        measured_on=measured,
        note=note,
    )


def _embedding(name: str, texts: pa.Array, total: int, device: str | None) -> Stage:
    """The rate of one model, or why there is none."""
    try:
        from headwater.embedding import load_model

        model = load_model(name, device)
    except (MissingExtra, HeadwaterError) as error:
        return _stage(f"embedding {name}", total, None, 0, error.message)
    model.encode(texts.slice(0, 4))
    began, done, size = time.perf_counter(), 0, 16
    while done < len(texts) and time.perf_counter() - began < MIN_SECONDS:
        part = texts.slice(done, size)
        model.encode(part)
        done += len(part)
    return _stage(f"embedding {model.id}", total, done / (time.perf_counter() - began), done)
