"""Static models: a text's vector is the weighted mean of its tokens' vectors. No transformer runs.

A folder holds ``model.safetensors`` and ``tokenizer.json``. Three layouts are read: our own and model2vec's
(tensor ``embeddings``, and where there are fewer vectors than tokens ``mapping``; ``weights`` by token), and
the StaticEmbedding of sentence-transformers (tensor ``embedding.weight``).

That class could run them too. What takes the time is the tokenizer, at 1 to 2 MB of text a second, not the
mean; so BERT's tokenizer is a kernel here (``headwater.kernels.wordpiece``), and other tokenizers run as they
do there.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater import devices
from headwater.embedding.model import Embedded, EmbeddingModel, Progress, cut, text_array, unit
from headwater.engine import ordered_map
from headwater.errors import BadInput, MissingExtra
from headwater.kernels.jit import kernel
from headwater.kernels.wordpiece import WordPiece, wordpiece, wordpiece_ids

WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"
CHUNK_TEXTS = 256
"""Texts of one thread's turn."""
FEW_TEXTS = 16
"""Below this the library tokenizes: a query should not wait for the kernel's tables."""
MAX_TOKENS = 8_192
"""There is no limit in the model. This reads nearly every document whole, and bounds an endless one."""


class StaticModel(EmbeddingModel):
    """A table of token vectors in memory."""

    device = "cpu"

    def __init__(
        self, folder: Path, model_id: str, device: str | None = None, *, threads: int | None = None
    ) -> None:
        devices.check(device)
        self.id = model_id
        self._table = _vectors(folder)
        self.dimensions = int(self._table.shape[1])
        self.max_tokens = min(MAX_TOKENS, int(_config(folder).get("max_tokens") or MAX_TOKENS))
        self._tokenizer = _tokenizer(folder)
        self._threads = threads
        self._lock = threading.Lock()

    def embed(self, texts: pa.Array | Sequence[str], progress: Progress | None = None) -> Embedded:
        array = text_array(texts)
        count = len(array)
        vectors = np.zeros((count, self.dimensions), dtype=np.float32)
        tokens = np.zeros(count, dtype=np.int64)
        truncated = np.zeros(count, dtype=np.bool_)

        def work(at: int) -> int:
            rows = slice(at, min(at + CHUNK_TEXTS, count))
            part, longer = cut(array.slice(at, CHUNK_TEXTS), self.max_tokens)
            ids, starts = self._tokens(part)
            lengths = np.diff(starts)
            _sums(self._table, ids, starts, self.max_tokens, vectors[rows])
            vectors[rows] = unit(vectors[rows])
            tokens[rows] = np.minimum(lengths, self.max_tokens)
            truncated[rows] = longer | (lengths > self.max_tokens)
            return rows.stop

        for done in ordered_map(work, range(0, count, CHUNK_TEXTS), threads=self._threads):
            if progress is not None:
                progress(done)
        return Embedded(vectors, tokens, truncated)

    def _tokens(self, texts: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Ids of all texts one after the other, and where each text's begin."""
        if len(texts) < FEW_TEXTS or self._tables is None:
            return self._tokens_of_library(texts)
        ids, starts, failed = wordpiece_ids(self._tables, texts, self.max_tokens)
        if not failed.any():
            return ids, starts
        other, at = self._tokens_of_library(texts.filter(pa.array(failed)))
        parts = np.split(ids, starts[1:-1])
        for i, each in zip(np.flatnonzero(failed), np.split(other, at[1:-1]), strict=True):
            parts[i] = each
        return _joined(parts)

    @cached_property
    def _tables(self) -> WordPiece | None:
        """The kernel's tables, made when they first pay; ``None`` for a tokenizer that is not BERT's."""
        with self._lock:
            return wordpiece(self._tokenizer)

    def _tokens_of_library(self, texts: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        with self._lock:  # fast tokenizers refuse a second thread
            encoded = self._tokenizer.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
        return _joined([np.array(one.ids, dtype=np.int32) for one in encoded])


def _joined(parts: list[npt.NDArray[np.int32]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    starts = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in parts], out=starts[1:])
    return np.concatenate([np.empty(0, np.int32), *parts]), starts


@kernel
def _sums(
    table: npt.NDArray[np.float32],
    ids: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    longest: int,
    out: npt.NDArray[np.float32],
) -> None:
    """``out[i]``: the sum of the rows of ``table`` of text i's first ``longest`` ids, of those it has."""
    total = np.empty(table.shape[1], dtype=np.float64)
    for i in range(len(offsets) - 1):
        total[:] = 0.0
        for at in range(offsets[i], min(offsets[i + 1], offsets[i] + longest)):
            token = ids[at]
            if 0 <= token < table.shape[0]:
                for d in range(table.shape[1]):
                    total[d] += table[token, d]
        for d in range(table.shape[1]):
            out[i, d] = total[d]


def is_static(folder: Path) -> bool:
    """Whether a folder is a static model's."""
    if not (folder / WEIGHTS).is_file() or not (folder / TOKENIZER).is_file():
        return False
    return bool({"embeddings", "embedding.weight"} & set(_names(folder / WEIGHTS)))


def static_folder(folder: Path) -> Path | None:
    """Where the static model of a folder is: itself, or the first module of a sentence-transformers model."""
    if is_static(folder):
        return folder
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        first = folder / str(modules[0]["path"])
        alone = all(str(each["type"]).endswith((".StaticEmbedding", ".Normalize")) for each in modules)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    return first if alone and is_static(first) else None


def _names(file: Path) -> list[str]:
    try:
        from safetensors import safe_open
    except ImportError:
        raise MissingExtra.of("safetensors", "embeddings") from None
    try:
        with safe_open(str(file), framework="np") as content:
            return list(content.keys())
    except Exception as error:  # safetensors raises its own class for a damaged file
        raise BadInput(f"cannot read {file}: {error}", hint="is the download complete?") from None


def _vectors(folder: Path) -> npt.NDArray[np.float32]:
    """One row by token id, its weight included."""
    from safetensors.numpy import load_file

    try:
        tensors: dict[str, Any] = load_file(str(folder / WEIGHTS))
    except Exception as error:  # safetensors raises its own class for a damaged file
        raise BadInput(f"cannot read {folder / WEIGHTS}: {error}") from None
    table = tensors.get("embeddings", tensors.get("embedding.weight"))
    if table is None or table.ndim != 2 or not table.size:
        raise BadInput(f"{folder / WEIGHTS} has no table of token vectors")
    table = table.astype(np.float32)
    if "mapping" in tensors:
        mapping = tensors["mapping"].astype(np.int64)
        if len(mapping) and not (mapping.min() >= 0 and mapping.max() < len(table)):
            raise BadInput(f"{folder / WEIGHTS}: its mapping names vectors that are not there")
        table = table[mapping]
    if "weights" in tensors:
        weights = tensors["weights"].astype(np.float32)
        if weights.shape != (len(table),):
            raise BadInput(f"{folder / WEIGHTS}: {len(table)} tokens and weights of shape {weights.shape}")
        table = table * weights[:, None]
    if not np.isfinite(table).all():
        raise BadInput(f"{folder / WEIGHTS} holds vectors that are not finite")
    return np.ascontiguousarray(table, dtype=np.float32)


def _config(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _tokenizer(folder: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra.of("tokenizers", "embeddings") from None
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # tokenizers raises a bare Exception
        raise BadInput(f"cannot read {folder / TOKENIZER}: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text
    return tokenizer
