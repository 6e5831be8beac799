"""The educational value of a text, by a linear model of its words: the one that is shipped, or one's own."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from headwater.errors import UsageError
from headwater.operators.registry import operator
from headwater.scoring.artifact import NGRAMS, SHIPPED, Scorer, read

_LOCK = threading.Lock()


@operator(
    name="edu_score",
    version=1,
    inputs={"text": pa.large_string()},
    output=pa.float64(),
    parameters={"scorer": "python", "calibrated": True},
    source="headwater/educational: 432 files of Python that a language model scored against a rubric",
)
def edu_score(text: pa.Array, *, scorer: str, calibrated: bool) -> pa.Array:
    """The label from 0 to 5 that a reader is expected to give, by hashed words and pairs of words.

    ``scorer``: ``python`` is the one that is shipped (of Python files, see docs/how-to/quality-scorer.md); or
    the path of a file that ``headwater scorer export`` wrote. ``calibrated := false`` gives the raw score of
    the linear model: the same order without the ties of the calibration curve, which is level at its ends.
    Of a text of more than 12,000 bytes the first 9,000 and the last 2,500 are read, as its labelers did.
    """
    with _LOCK:  # two threads must not read the same file
        found = _load(scorer, _state(scorer))
    if found.kind != NGRAMS:
        raise UsageError(
            f"the scorer {scorer} reads embeddings, not text",
            hint="the model embedding_edu_scores applies it to the table embeddings",
        )
    raw = found.raw(text)
    return pa.array(found.calibration(raw) if calibrated else raw)


def _state(scorer: str) -> tuple[int, int]:
    """A file that changes under its name is read again."""
    try:
        found = Path(SHIPPED.get(scorer, scorer)).stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=8)
def _load(scorer: str, state: tuple[int, int]) -> Scorer:  # noqa: ARG001 - part of the key
    return read(scorer)
