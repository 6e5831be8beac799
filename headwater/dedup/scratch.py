"""A DuckDB database for one run: bounded memory, spilling into the run's own folder."""

from __future__ import annotations

from pathlib import Path

import duckdb

from headwater.engine.local import num_threads

LEAST_BYTES = 128 << 20
"""What DuckDB gets at least, however small the setting: enough for its own buffers and a sort that spills."""


def scratch(
    folder: Path, *, limit_bytes: int, threads: int | None, name: str = ":memory:", ordered: bool = True
) -> duckdb.DuckDBPyConnection:
    """Open it. ``name``: of its file in ``folder``; ``ordered``: rows come back as they were inserted."""
    return duckdb.connect(
        name if name == ":memory:" else str(folder / name),
        config={
            "memory_limit": f"{max(limit_bytes, LEAST_BYTES)}B",
            "temp_directory": str(folder / "spill"),
            "threads": num_threads(threads),
            "python_enable_replacements": False,
            "preserve_insertion_order": ordered,
        },
    )
