"""datatrove's MinHash signature, for corpora that were, or are to be, deduplicated as datatrove does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headwater.errors import UsageError
from headwater.kernels.datatrove import TOKENIZERS, datatrove_signatures
from headwater.operators.registry import operator


@operator(
    name="datatrove_minhash",
    version=1,
    inputs={"text": pa.large_string()},
    output=pa.list_(pa.uint64()),
    parameters={"num_hashes": 112, "ngram": 5, "seed": 1, "tokenizer": "spacy"},
    source="datatrove 0.10.1, pipeline/dedup/minhash.py: MinhashConfig() (14 x 8, xxh64), utils/text.py",
)
def datatrove_minhash(text: pa.Array, *, num_hashes: int, ngram: int, seed: int, tokenizer: str) -> pa.Array:
    """The minima that datatrove's ``MinhashDedupSignature`` writes, bucket after bucket.

    ``tokenizer``: ``spacy`` (datatrove's default for English) or ``whitespace``. An empty list for a text of
    fewer than ``ngram`` words, which datatrove leaves out of its buckets.
    ``headwater.dedup.datatrove.datatrove_clusters`` takes the documents to remove from them.
    """
    if tokenizer not in TOKENIZERS:
        raise UsageError(f"tokenizer must be one of {', '.join(TOKENIZERS)}, got {tokenizer!r}")
    if not 1 <= num_hashes <= 4096 or not 1 <= ngram <= 1024:
        raise UsageError(f"num_hashes must be 1 to 4096 and ngram 1 to 1024, got {num_hashes} and {ngram}")
    if not 0 <= seed < 1 << 32:
        raise UsageError(f"seed must be 0 to 2**32 - 1, got {seed}")
    minima, counts = datatrove_signatures(
        text, num_hashes=num_hashes, ngram=ngram, seed=seed, tokenizer=tokenizer
    )
    present = counts > 0
    offsets = np.zeros(len(present) + 1, dtype=np.int32)
    np.cumsum(present * np.int32(num_hashes), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(minima[present].reshape(-1)))
