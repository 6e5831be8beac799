"""The 128-bit hash that names a text."""

from __future__ import annotations

import pyarrow as pa

from headwater.kernels.xxh3 import digest_array
from headwater.operators.registry import operator


@operator(
    name="text_hash",
    version=1,
    inputs={"text": pa.large_string()},
    output=pa.binary(16),
    source="xxh3-128 of the UTF-8 bytes, seed 0, big-endian (xxHash 0.8)",
)
def text_hash(text: pa.Array) -> pa.Array:
    """Equal to ``xxhash.xxh3_128_digest(text.encode())``."""
    return digest_array(text)
