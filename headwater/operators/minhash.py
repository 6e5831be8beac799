"""MinHash signatures for near-duplicate detection."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headwater.errors import UsageError
from headwater.kernels.shingles import Signatures, signatures
from headwater.operators.registry import operator, struct_array

NUM_PERM = 112
"""Permutations: the field's 14 x 8 budget; ``dedup.bands`` says what it reaches at each threshold."""
NGRAM = 5
"""Words in a shingle: word 5-grams as in FineWeb and Gopher."""
SEED = 1

_SOURCE = "Broder, On the resemblance and containment of documents, 1997; 5-grams as FineWeb"
_PARAMETERS = {"num_perm": NUM_PERM, "ngram": NGRAM, "seed": SEED}
SIGNATURE = pa.struct(
    [
        pa.field("num_shingles", pa.int64()),
        pa.field("shingle_set_hash", pa.binary(16)),
        pa.field("minhash", pa.list_(pa.uint32())),
    ]
)


@operator(
    name="minhash",
    version=1,
    inputs={"text": pa.large_string()},
    output=pa.list_(pa.uint32()),
    parameters=_PARAMETERS,
    source=_SOURCE,
)
def minhash(text: pa.Array, *, num_perm: int, ngram: int, seed: int) -> pa.Array:
    """``num_perm`` minima over the document's word shingles; an empty list for a text without words.

    Two signatures agree in each place with probability equal to the Jaccard similarity of the shingle sets.
    Words and shingles: ``headwater.kernels.characters`` and ``.shingles``.
    """
    return _lists(_checked(text, num_perm, ngram, seed))


@operator(
    name="minhash_signature",
    version=1,
    inputs={"text": pa.large_string()},
    output=SIGNATURE,
    parameters=_PARAMETERS,
    source=_SOURCE,
)
def minhash_signature(text: pa.Array, *, num_perm: int, ngram: int, seed: int) -> pa.Array:
    """What near-duplicate detection stores of a document: ``num_shingles`` (distinct), ``shingle_set_hash``
    (equal for equal shingle sets) and ``minhash``.
    """
    found = _checked(text, num_perm, ngram, seed)
    hashes = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(text), [None, pa.py_buffer(np.ascontiguousarray(found.set_hash.astype(">u8")))]
    )
    return struct_array(
        SIGNATURE,
        {"num_shingles": found.num_shingles, "shingle_set_hash": hashes, "minhash": _lists(found)},
    )


def _checked(text: pa.Array, num_perm: int, ngram: int, seed: int) -> Signatures:
    if not 1 <= num_perm <= 4096 or not 1 <= ngram <= 1024:
        raise UsageError(f"num_perm must be 1 to 4096 and ngram 1 to 1024, got {num_perm} and {ngram}")
    return signatures(text, num_perm=num_perm, ngram=ngram, seed=seed)


def _lists(found: Signatures) -> pa.Array:
    present = found.num_shingles > 0
    num_perm = found.minhash.shape[1]
    offsets = np.zeros(len(present) + 1, dtype=np.int32)
    np.cumsum(present * np.int32(num_perm), out=offsets[1:])
    values = found.minhash if present.all() else found.minhash[present]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))
