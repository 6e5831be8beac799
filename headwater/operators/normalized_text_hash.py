"""The 128-bit hash of a normalized text."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headwater.kernels.normalize import normalized_hashes
from headwater.operators.registry import operator


@operator(
    name="normalized_text_hash",
    version=1,
    inputs={"text": pa.large_string()},
    output=pa.binary(16),
    parameters={"form": "whitespace"},
    source="xxh3-128, seed 0, big-endian (xxHash 0.8); forms of headwater.kernels.normalize, our definition",
)
def normalized_text_hash(text: pa.Array, *, form: str) -> pa.Array:
    """Equal for texts that are equal in their normalized ``form``.

    ``whitespace``: lower-cased, every run of white space one blank, none at the ends. ``words``: the
    lower-cased words alone, one blank between them: punctuation, symbols and white space do not count.
    ``exact``: the text as it is (the operator ``text_hash``). Texts that normalize to nothing are all equal.
    """
    hashes = np.ascontiguousarray(normalized_hashes(text, form).astype(">u8"))
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(text), [None, pa.py_buffer(hashes)], null_count=0
    )
