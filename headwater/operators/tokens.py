"""Token ids of a text under a Hugging Face ``tokenizer.json``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.errors import BadInput, MissingExtra
from headwater.operators.registry import operator


@operator(
    name="tokens",
    version=1,
    inputs={"text": pa.large_string()},
    output=pa.list_(pa.uint32()),
    parameters={"tokenizer": str},
    source="the tokenizer file",
    extra="train",
    requires=("tokenizers",),
)
def tokens(text: pa.Array, *, tokenizer: str) -> pa.Array:
    """Ids without special tokens. ``tokenizer`` is the path of a ``tokenizer.json``."""
    path = Path(tokenizer)
    try:
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise BadInput(f"cannot read the tokenizer {tokenizer}: {error.strerror}") from None
    encodings = _load(str(path), modified).encode_batch_fast(text.to_pylist(), add_special_tokens=False)
    ids = [encoding.ids for encoding in encodings]
    offsets = np.zeros(len(ids) + 1, dtype=np.int32)
    np.cumsum([len(one) for one in ids], out=offsets[1:])
    values = np.empty(offsets[-1], dtype=np.uint32)
    for one, start in zip(ids, offsets[:-1], strict=True):
        values[start : start + len(one)] = one
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


@lru_cache(maxsize=8)
def _load(path: str, modified: int) -> Any:  # noqa: ARG001
    # ``modified`` is part of the cache's key: a tokenizer trained again under the same name is read again.
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra.of("tokenizers", "train") from None
    try:
        loaded = Tokenizer.from_file(path)
    except Exception as error:
        raise BadInput(f"{path} is no tokenizer.json: {error}") from None
    loaded.no_truncation()
    loaded.no_padding()
    return loaded
