"""Documents against an index of evaluation items: one row of evidence per document, item, field and n."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import UsageError
from headwater.kernels import overlap as kernel
from headwater.kernels.flat import whole

VERSION = 1
"""Rises whenever the evidence of any document may change; stored evidence of another version is not used."""

MATCH = pa.struct(
    {
        "eval_set": pa.string(),
        "item_id": pa.string(),
        "field": pa.string(),
        "ngram": pa.int32(),
        "num_hits": pa.int64(),
        "item_share": pa.float64(),
        "word_share": pa.float64(),
        "item_words": pa.int64(),
        "longest_match_words": pa.int64(),
        "letter_words": pa.int64(),
        "match_hash": pa.string(),
        "doc_start": pa.int64(),
        "doc_end": pa.int64(),
    }
)
FLAT = pa.schema([pa.field("doc_id", pa.binary(16)), *MATCH])


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What evidence depends on, besides the texts."""

    ngrams: tuple[int, ...] = (8, 10, 13)
    """Lengths in words: PaLM's, Llama 2's and GPT-3's. A match has at least the smallest."""
    min_words: int = 4
    """Shorter fields are not looked for: "yes" is in every document."""

    def __post_init__(self) -> None:
        ordered = tuple(sorted(set(self.ngrams)))
        if not ordered or ordered[0] < 2 or not 1 <= self.min_words <= ordered[0]:
            raise UsageError(
                f"got ngrams {self.ngrams} and min_words {self.min_words}",
                hint="n-grams of at least 2 words, and min_words from 1 to the smallest n",
            )
        object.__setattr__(self, "ngrams", ordered)

    def __str__(self) -> str:
        sizes = ",".join(map(str, self.ngrams))
        return f"v{VERSION}:{sizes}:{self.min_words}"


class EvalIndex:
    """The n-grams of some evaluation items, ready to be looked for.

    Parameters
    ----------
    items: ``eval_set``, ``item_id``, ``field``, ``text`` (``EVAL_ITEMS``). Null texts are no items.
    """

    def __init__(self, items: pa.Table, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        items = items.filter(items["text"].is_valid()).sort_by(
            [("eval_set", "ascending"), ("item_id", "ascending"), ("field", "ascending")]
        )
        self.items = items.select(["eval_set", "item_id", "field"]).combine_chunks()
        texts = whole(items["text"].cast(pa.large_string()))
        self._index = kernel.build_index(
            texts, ngram=self.settings.ngrams[0], min_words=self.settings.min_words
        )
        self._num_words = np.diff(self._index.starts)

    @property
    def num_too_short(self) -> int:
        """Fields of fewer than ``min_words`` words, which are not looked for."""
        return int((self._num_words < self.settings.min_words).sum())

    def matches(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The evidence (``FLAT``) of the documents of ``batch`` (``doc_id``, ``text``; null texts are empty).

        * ``num_hits``: the item's n-grams that the document holds; ``item_share``: of all it has;
        * ``word_share``: the item's words that lie in shared runs of at least n words;
        * ``longest_match_words``, with ``doc_start`` and ``doc_end`` (bytes) and ``match_hash``: the longest
          shared run, the first of them in the document; ``letter_words``: its words that hold a letter.

        A field of fewer than n words counts as one n-gram. Rows with ``num_hits`` 0 are left out.
        """
        text = whole(pc.fill_null(batch.column("text"), ""))
        sizes = self.settings.ngrams
        found = kernel.find_matches(text, self._index, ngrams=sizes)
        if not len(found.row):
            return pa.RecordBatch.from_pylist([], FLAT)
        k = len(sizes)
        entry = np.repeat(np.arange(len(found.row)), k)
        ngram = np.tile(np.array(sizes, dtype=np.int64), len(found.row))
        hits, covered = found.hits.ravel(), found.covered.ravel()
        words = self._num_words[found.text[entry]]
        grams = np.maximum(words - ngram + 1, 1)
        named = self.items.take(pa.array(found.text[entry]))
        hashes = pa.array([f"{value:016x}" for value in found.run_hash.tolist()], pa.string())
        columns: list[pa.Array] = [
            whole(batch.column("doc_id").take(pa.array(found.row[entry]))),
            *(named[name].combine_chunks() for name in ("eval_set", "item_id", "field")),
            pa.array(ngram, pa.int32()),
            pa.array(hits),
            pa.array(_share(hits, grams)),
            pa.array(_share(covered, words)),
            pa.array(words),
            pa.array(found.longest[entry]),
            pa.array(found.lettered[entry]),
            hashes.take(pa.array(entry)),
            pa.array(found.start[entry]),
            pa.array(found.end[entry]),
        ]
        return pa.record_batch([whole(c) for c in columns], schema=FLAT).filter(pa.array(hits > 0))


def matches_of(batches: Iterable[pa.RecordBatch], index: EvalIndex) -> pa.Table:
    """All evidence of a stream of documents, in memory: for tests and small corpora."""
    return pa.Table.from_batches([index.matches(batch) for batch in batches], schema=FLAT)


def _share(part: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, of, out=np.zeros(len(part)), where=of > 0)
