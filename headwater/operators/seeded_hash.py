"""A 64-bit hash under a seed: the reproducible shuffle."""

from __future__ import annotations

import pyarrow as pa

from headwater.kernels.xxh3 import xxh3_64
from headwater.operators.registry import operator


@operator(
    name="seeded_hash",
    version=1,
    inputs={"doc_id": pa.large_binary()},
    output=pa.uint64(),
    parameters={"seed": 0},
    source="xxh3-64 with a seed (xxHash 0.8)",
)
def seeded_hash(doc_id: pa.Array, *, seed: int) -> pa.Array:
    """Equal to ``xxhash.xxh3_64_intdigest(doc_id, seed)`` of the 16 bytes.

    Order by it (then by ``doc_id``) for a global order that only the seed decides. In SQL a UUID or a BLOB
    gives the same hash: the macro casts to BLOB. Give bytes, not the hex spelling, in Arrow and Polars.
    """
    return pa.array(xxh3_64(doc_id, seed))
