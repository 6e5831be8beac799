"""How much of two texts is the same words in the same order."""

from __future__ import annotations

import pyarrow as pa

from headwater.kernels.rouge import rouge_l_rows
from headwater.operators.registry import operator


@operator(
    name="rouge_l",
    version=1,
    inputs={"text": pa.large_string(), "reference": pa.large_string()},
    output=pa.float64(),
    source="ROUGE-L (Lin 2004), F-measure; words as rouge_score 0.1.2 without stemming: [a-z0-9]+",
)
def rouge_l(text: pa.Array, reference: pa.Array) -> pa.Array:
    """The F-measure of their longest common subsequence of words, 0 to 1, the same whichever comes first.

    Words are lower-cased runs of ``a`` to ``z`` and ``0`` to ``9``; letters of other alphabets separate them,
    so it is for English. Time grows with the product of the two lengths.
    """
    return pa.array(rouge_l_rows(text, reference))
