"""Models of sentence-transformers, with batches of like length.

``SentenceTransformer.encode`` tokenizes a batch at a time, after sorting by characters, and batches a fixed
number of texts. Here texts are tokenized once, sorted by tokens, and a batch holds a fixed number of tokens,
padding included: short texts go many at a time, and memory is the same for every batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater import devices
from headwater.embedding.model import Embedded, EmbeddingModel, Progress, Vectors, cut, text_array, unit
from headwater.errors import BadInput, MissingExtra
from headwater.quiet import quiet_transformers

CHUNK_TEXTS = 1024
"""Texts tokenized at once, and sorted by length among themselves."""
BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536, "mps": 16_384}
"""Tokens of a batch with its padding."""
BATCH_TEXTS = 256
LONGEST_TOKENS = 8_192
"""Of a model that names no limit."""


class TransformerModel(EmbeddingModel):
    """One sentence-transformers model on one device."""

    def __init__(self, folder: Path, model_id: str, device: str | None = None) -> None:
        self.id = model_id
        self.device = devices.choose(device)
        self._model = _load(folder, self.device)
        self.dimensions = int(self._model.get_embedding_dimension() or 0)
        longest = self._model.max_seq_length
        self.max_tokens = min(int(longest), LONGEST_TOKENS) if longest else LONGEST_TOKENS
        self._lock = threading.Lock()  # fast tokenizers refuse a second thread
        prompts = dict(self._model.prompts or {})
        self._prompt = prompts.get("document") or prompts.get("passage") or ""
        self._query_prompt = prompts.get("query") or ""
        if not self.dimensions:
            self.dimensions = int(self.embed(["x"]).vectors.shape[1])

    def embed(self, texts: pa.Array | Sequence[str], progress: Progress | None = None) -> Embedded:
        return self._embed(text_array(texts), self._prompt, progress)

    def encode_query(self, text: str) -> Vectors:
        vector: Vectors = self._embed(text_array([text]), self._query_prompt, None).vectors[0]
        return vector

    def _embed(self, texts: pa.Array, prompt: str, progress: Progress | None) -> Embedded:
        count = len(texts)
        vectors = np.zeros((count, self.dimensions or 1), dtype=np.float32)
        tokens = np.zeros(count, dtype=np.int64)
        truncated = np.zeros(count, dtype=np.bool_)
        with self._lock:
            for at in range(0, count, CHUNK_TEXTS):
                rows = slice(at, min(at + CHUNK_TEXTS, count))
                part, longer = cut(texts.slice(at, CHUNK_TEXTS), self.max_tokens)
                ids, tokens[rows], more = self._tokens([prompt + text for text in part.to_pylist()])
                truncated[rows] = longer | more
                for places, batch in self._batches(ids, at, progress):
                    if not self.dimensions:
                        vectors, self.dimensions = (
                            np.zeros((count, batch.shape[1]), np.float32),
                            batch.shape[1],
                        )
                    vectors[places + at] = batch
        return Embedded(unit(vectors), tokens, truncated)

    def _tokens(
        self, texts: list[str]
    ) -> tuple[list[list[int]], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Ids of each text, how many, and whether there were more."""
        tokenizer = self._model.tokenizer
        ids = tokenizer(texts, truncation=True, max_length=self.max_tokens + 1)["input_ids"]
        lengths = np.array([len(each) for each in ids], dtype=np.int64)
        longer = lengths > self.max_tokens
        if longer.any():  # again, so that the closing token is in its place
            where = np.flatnonzero(longer)
            again = tokenizer([texts[i] for i in where], truncation=True, max_length=self.max_tokens)
            for i, each in zip(where, again["input_ids"], strict=True):
                ids[i] = each
        return ids, np.minimum(lengths, self.max_tokens), longer

    def _batches(
        self, ids: list[list[int]], before: int, progress: Progress | None
    ) -> Iterator[tuple[npt.NDArray[np.int64], Vectors]]:
        import torch

        lengths = np.array([len(each) for each in ids], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")  # the longest first: memory fails early
        budget = BATCH_TOKENS[self.device.partition(":")[0]]
        at = 0
        while at < len(order):
            longest = max(int(lengths[order[at]]), 1)
            rows = order[at : at + max(1, min(BATCH_TEXTS, budget // longest))]
            at += len(rows)
            padded = self._model.tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
            with torch.inference_mode():
                features = {name: value.to(self.device) for name, value in padded.items()}
                found = self._model.forward(features)["sentence_embedding"].float().cpu().numpy()
            if progress is not None:
                progress(before + at)
            yield rows, found


def _load(folder: Path, device: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra.of(error.name or "sentence_transformers", "embeddings") from None
    try:
        with quiet_transformers():
            model = SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        model.eval()
        if not callable(model.tokenizer):
            raise TypeError("its first module has no tokenizer of transformers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        first = str(error).strip().split("\n")[0]
        raise BadInput(
            f"cannot read the embedding model {folder}: {first}",
            hint="expected a folder that sentence-transformers or transformers saved, with model.safetensors",
        ) from None
    if model.tokenizer.pad_token is None:  # decoders; one of their tokens pads, and the mask hides it
        model.tokenizer.pad_token = model.tokenizer.eos_token or model.tokenizer.unk_token
    return model
