"""Which weights a folder holds, as a digest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import xxhash

_READ_BYTES = 1 << 20


def digest_of(files: Iterable[Path]) -> str:
    """Names and contents of files, 32 hex digits; where they lie is no part of it."""
    state = xxhash.xxh3_128()
    for file in files:
        state.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while part := stream.read(_READ_BYTES):
                state.update(part)
    return state.hexdigest()
