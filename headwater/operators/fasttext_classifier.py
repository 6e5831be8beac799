"""Any fastText classifier by path: quality (DCLM), toxicity (Dolma), or one of your own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headwater.errors import UnknownName
from headwater.kernels.flat import flatten
from headwater.kernels.words import sentences
from headwater.languages.fasttext import load
from headwater.operators.registry import operator, struct_array

SCORED = pa.struct(
    [
        pa.field("score", pa.float64()),
        pa.field("max_sentence_score", pa.float64()),
        pa.field("sentence_share", pa.float64()),
        pa.field("num_sentences", pa.int64()),
    ]
)


@operator(
    name="fasttext_classifier",
    version=1,
    inputs={"text": pa.large_string()},
    output=SCORED,
    parameters={"model": str, "label": str, "threshold": 0.4},
    source="Dolma (arXiv 2402.00159: Jigsaw and NSFW taggers, sentences of at least 0.4); DCLM (2406.11794)",
)
def fasttext_classifier(text: pa.Array, *, model: str, label: str, threshold: float) -> pa.Array:
    """The probability of ``label`` (without ``__label__``) for the text as one line, and by sentence.

    ``sentence_share``: of the sentences, those of at least ``threshold``; 0 without any. A sentence ends at
    a line feed, or after ``. ! ? … 。 ！ ？`` and closing quotes before white space (the last three before
    anything). ``model``: the path of a ``.bin`` (mapped, not loaded) or ``.ftz``. Letter case is not changed.
    """
    found = load(model)
    if label not in found.labels:
        raise UnknownName.of("label", label, found.labels, where=f"the model {model}")
    column = found.labels.index(label)
    data, offsets = flatten(text)
    rows = len(offsets) - 1
    size = 16 * rows + 1024
    while True:
        owners, starts, ends = (np.empty(size, dtype=np.int64) for _ in range(3))
        count = sentences(data, offsets, owners, starts, ends)
        if count <= size:
            break
        size = count
    owners, starts, ends = owners[:count], starts[:count], ends[:count]

    def scored(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        parts = [part[:, column].astype(np.float64) for part in found.probabilities(data, begin, end)]
        return np.asarray(np.minimum(np.concatenate([np.empty(0), *parts]), 1.0).round(6))

    by_sentence = scored(starts, ends)
    number = np.bincount(owners, minlength=rows)
    largest = np.zeros(rows)
    np.maximum.at(largest, owners, by_sentence)
    above = np.bincount(owners, weights=by_sentence >= threshold, minlength=rows)
    return struct_array(
        SCORED,
        {
            "score": scored(offsets[:-1].copy(), offsets[1:].copy()),
            "max_sentence_score": largest,
            "sentence_share": above / np.maximum(number, 1),
            "num_sentences": number,
        },
    )
