"""Token ids of a text under a Hugging Face ``tokenizer.json``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from headwater.errors import BadInput
from headwater.operators.registry import operator

if TYPE_CHECKING:
    from headwater.tokenizer import Encoder


@operator(
    name="tokens",
    version=2,
    inputs={"text": pa.large_string()},
    output=pa.list_(pa.uint32()),
    parameters={"tokenizer": str},
    source="the tokenizer file",
    extra="train",
    requires=("tokenizers",),
)
def tokens(text: pa.Array, *, tokenizer: str) -> pa.Array:
    """Ids, as the packer makes them: special tokens that a text spells out are ordinary text.

    ``tokenizer`` is the path of a ``tokenizer.json``.
    """
    path = Path(tokenizer)
    try:
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise BadInput(f"cannot read the tokenizer {tokenizer}: {error.strerror}") from None
    return _load(str(path), modified).encode(text).cast(pa.list_(pa.uint32()))


@lru_cache(maxsize=8)
def _load(path: str, modified: int) -> Encoder:  # noqa: ARG001
    # ``modified`` is part of the cache's key: a tokenizer trained again under the same name is read again.
    from headwater.tokenizer import Encoder

    try:
        return Encoder(Path(path).read_text(encoding="utf-8"), documents=False)
    except (UnicodeDecodeError, BadInput) as error:
        raise BadInput(f"{path} is no tokenizer.json: {error}") from None
