"""The durable band index: which document lies in which band buckets, kept in the lake between builds.

One row per document that has shingles: ``doc_id``, ``shingle_set_hash`` and ``band_keys``, the upper 32 bits
of the key of each of its bands. New documents find their buckets by one scan of ``band_keys`` (4 bytes a band
and document: 1 % of the text), the candidates of those buckets are then checked with the full keys. A scan,
because keys are random numbers: on a B-tree a thousand new documents already touch nearly every page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.dedup.bands import bands_for
from headwater.dedup.caps import Caps
from headwater.errors import UsageError
from headwater.kernels.flat import whole
from headwater.kernels.pairs import band_keys, rows_with_keys
from headwater.operators.minhash import NUM_PERM

if TYPE_CHECKING:
    from headwater.lake import Table

INDEX_VERSION = 1
"""Raised when the same signatures would give other rows, buckets or pairs: the index is then made anew."""

BITS_PER_KEY = 5
"""The bitmap before the binary search has 2**5 bits for each wanted key: it lets 3 % of the others pass."""

_SCAN_ROWS = 1 << 14


def index_name(pairs: str) -> str:
    """The index of the pairs table of this (qualified) name."""
    return f"{pairs}_index"


def index_request(threshold: float, ngram: int, caps: Caps, signatures: Table) -> dict[str, Any]:
    """What an index was made for. Another request needs another index; it is stored with the pairs."""
    return {
        "index_version": INDEX_VERSION,
        "threshold": threshold,
        "ngram": ngram,
        "caps": list(caps),
        "signatures": [signatures.name, signatures.provenance.fingerprint],
        "num_perm": _num_perm(signatures),
    }


def _num_perm(signatures: Table) -> int:
    """The length of the signatures, by the first document that has one; 0 where none has."""
    first = signatures.dataset.scanner(columns=["minhash"], filter="num_shingles > 0", limit=1).to_table()
    return len(first["minhash"][0]) if first.num_rows else 0


def index_schema(bands: int) -> pa.Schema:
    return pa.schema(
        {
            "doc_id": pa.binary(16),
            "shingle_set_hash": pa.binary(16),
            "band_keys": pa.list_(pa.field("item", pa.uint32()), bands),
        }
    )


def index_rows(signatures: Iterable[pa.RecordBatch], threshold: float) -> pa.RecordBatchReader:
    """Signatures (doc_id, num_shingles, shingle_set_hash, minhash) as rows of the index.

    Raises UsageError where signatures differ in length.
    """
    parts = _signed(signatures)
    first = next(parts, None)
    num_perm = first[1].shape[1] if first is not None else NUM_PERM
    bands, depth = bands_for(threshold, num_perm)
    schema = index_schema(bands)

    def rows() -> Iterator[pa.RecordBatch]:
        for batch, minhash in [first, *parts] if first is not None else ():
            if minhash.shape[1] != num_perm:
                raise UsageError(
                    "signatures of different num_perm cannot be compared; make them in one model"
                )
            keys = pa.FixedSizeListArray.from_arrays(
                pa.array(upper(minhash, bands, depth).reshape(-1)), bands
            )
            columns = [batch["doc_id"], batch["shingle_set_hash"], keys]
            yield pa.record_batch(
                [whole(c).cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
            )

    return pa.RecordBatchReader.from_batches(schema, rows())


def upper(minhash: npt.NDArray[np.uint32], bands: int, depth: int) -> npt.NDArray[np.uint32]:
    """(rows, bands): the upper halves of the band keys."""
    return (band_keys(minhash, bands, depth) >> np.uint64(32)).astype(np.uint32)


def _signed(
    signatures: Iterable[pa.RecordBatch],
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.uint32]]]:
    """Batches without the documents that have no shingles, and their minhashes as rows."""
    for batch in signatures:
        present = batch.filter(pa.array(batch["num_shingles"].to_numpy() > 0))
        if present.num_rows == 0:
            continue
        minhash = whole(present["minhash"])
        lengths = np.unique(minhash.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) != 1:
            raise UsageError("signatures of different num_perm cannot be compared; make them in one model")
        values = np.asarray(minhash.flatten().to_numpy(zero_copy_only=False), dtype=np.uint32)
        yield present, values.reshape(-1, int(lengths[0]))


def bucket_members(index: Table, keys: npt.NDArray[np.uint32]) -> Iterator[pa.Table]:
    """(key, set_hash) of the indexed documents that lie in one of these buckets; ``keys`` ascending."""
    bits = min(27, max(12, len(keys).bit_length() + BITS_PER_KEY))
    for batch in index.scan(["shingle_set_hash", "band_keys"], batch_rows=_SCAN_ROWS):
        bands = matrix(batch["band_keys"])
        rows, found = rows_with_keys(bands, keys, bits)
        if len(rows):
            yield pa.table({"key": found, "set_hash": batch["shingle_set_hash"].take(pa.array(rows))})


def matrix(lists: pa.FixedSizeListArray) -> npt.NDArray[np.uint32]:
    """A fixed-size list column as rows."""
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype=np.uint32).reshape(-1, lists.type.list_size)
