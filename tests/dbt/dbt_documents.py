"""Canonical documents for the dbt tests."""

from __future__ import annotations

import pyarrow as pa
import xxhash


def documents(rows: list[tuple[str, str, str | None]]) -> pa.Table:
    """Canonical documents of (path, text, license)."""
    hashes = [xxhash.xxh3_128_digest(text.encode()) for _, text, _ in rows]
    ids = [
        xxhash.xxh3_128_digest(b"web\0" + p.encode() + b"\0" + h)
        for (p, _, _), h in zip(rows, hashes, strict=True)
    ]
    return pa.table(
        {
            "doc_id": pa.array(ids, pa.binary(16)),
            "text": pa.array([text for _, text, _ in rows], pa.large_string()),
            "text_hash": pa.array(hashes, pa.binary(16)),
            "source": ["web"] * len(rows),
            "path": [path for path, _, _ in rows],
            "license_declared": pa.array([license for _, _, license in rows], pa.string()),
            "text_bytes": pa.array([len(text.encode()) for _, text, _ in rows], pa.int64()),
        }
    )
