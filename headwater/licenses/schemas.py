"""What the license operators return."""

from __future__ import annotations

import pyarrow as pa

EVIDENCE = pa.struct(
    {
        "spdx": pa.string(),
        "detector": pa.string(),
        "confidence": pa.float64(),
        "first_line": pa.int64(),
        "last_line": pa.int64(),
        "is_part": pa.bool_(),
        "refers": pa.bool_(),
        "num_licenses": pa.int64(),
        "disagree": pa.bool_(),
    }
)

WEB_EVIDENCE = pa.struct(
    {
        "spdx": pa.string(),
        "detector": pa.string(),
        "confidence": pa.float64(),
        "url": pa.string(),
        "disagree": pa.bool_(),
    }
)
