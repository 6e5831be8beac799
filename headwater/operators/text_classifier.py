"""Any Hugging Face text classifier, by the path of its folder or an id in the local cache."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater import devices
from headwater.errors import BadInput, MissingExtra, UnknownName, UsageError
from headwater.operators.registry import operator, struct_array
from headwater.quiet import quiet_transformers

CLASSIFIED = pa.struct(
    [
        pa.field("label", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("num_tokens", pa.int64()),
        pa.field("truncated", pa.bool_()),
        pa.field("scores", pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))),
    ]
)
CHARS_PER_TOKEN = 32
"""Of a text, ``max_length`` times this many characters are given to the tokenizer: one endless line must not
cost more than a document. Real text has about 4 characters a token."""

_CHUNK = 1024
"""Texts tokenized at once, and sorted by length among themselves."""
_LOCK = threading.Lock()


@operator(
    name="text_classifier",
    version=1,
    inputs={"text": pa.large_string()},
    output=CLASSIFIED,
    parameters={
        "model": str,
        "label": "",
        "max_length": 512,
        "batch_size": 32,
        "activation": "auto",
        "device": "",
    },
    deterministic=False,
    source="the model's own folder",
    extra="train",
    requires=("torch", "transformers"),
)
def text_classifier(
    text: pa.Array,
    *,
    model: str,
    label: str,
    max_length: int,
    batch_size: int,
    activation: str,
    device: str,
) -> pa.Array:
    """``score`` of ``label``, or the best label and its score when no label is named; ``scores``: all.

    ``activation``: ``auto`` takes what the model's configuration says: the bare number of a regression (one
    output), ``sigmoid`` for several labels at once, else ``softmax``; or name ``softmax``, ``sigmoid`` or
    ``none``. The first ``max_length`` tokens are read, fewer if the model cannot take as many; ``truncated``
    says that there was more. ``device``: ``cuda``, ``mps`` or ``cpu``; default the first of these there is.
    Scores differ in their last digits between devices and batches. Nothing is downloaded, no code of the
    model is run, and weights are read from safetensors only.
    """
    if activation not in ("auto", "softmax", "sigmoid", "none"):
        raise UsageError(
            f"text_classifier: activation expected auto, softmax, sigmoid or none, got {activation!r}"
        )
    if max_length < 8 or batch_size < 1:
        raise UsageError("operator text_classifier: max_length expected at least 8, batch_size at least 1")
    with _LOCK:  # two threads must not load the same model
        classifier = _load(model, _modified(model), device)
    if label and label not in classifier.labels:
        raise UnknownName.of("label", label, classifier.labels, where=f"the model {model}")
    scores, tokens, truncated = classifier.scores(text, max_length, batch_size, activation)
    best = (
        np.full(len(text), classifier.labels.index(label), dtype=np.int64) if label else scores.argmax(axis=1)
    )
    names = pa.array(classifier.labels, pa.string())
    each = pa.StructArray.from_arrays(
        [names.take(pa.array(np.tile(np.arange(len(names)), len(text)))), pa.array(scores.ravel())],
        fields=list(CLASSIFIED.field("scores").type.value_type),
    )
    offsets = pa.array(np.arange(len(text) + 1, dtype=np.int32) * len(names))
    return struct_array(
        CLASSIFIED,
        {
            "label": names.take(pa.array(best)),
            "score": scores[np.arange(len(text)), best],
            "num_tokens": tokens,
            "truncated": truncated,
            "scores": pa.ListArray.from_arrays(offsets, each, type=CLASSIFIED.field("scores").type),
        },
    )


class _Classifier(NamedTuple):
    """A model in memory. One thread at a time uses it: fast tokenizers refuse a second one."""

    model: Any
    tokenizer: Any
    device: str
    labels: tuple[str, ...]
    activation: str
    longest: int
    lock: threading.Lock

    def scores(
        self, text: pa.Array, max_length: int, batch_size: int, activation: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores (texts, labels) float64, tokens read and whether there were more."""
        limit = min(max_length, self.longest)
        out = np.empty((len(text), len(self.labels)), dtype=np.float64)
        tokens = np.empty(len(text), dtype=np.int64)
        truncated = np.empty(len(text), dtype=np.bool_)
        kind = self.activation if activation == "auto" else activation
        with self.lock:
            for at in range(0, len(text), _CHUNK):
                rows = slice(at, min(at + _CHUNK, len(text)))
                part = text.slice(at, _CHUNK)
                cut = pc.utf8_slice_codeunits(part, 0, limit * CHARS_PER_TOKEN)
                longer = pc.greater(pc.binary_length(part), pc.binary_length(cut)).to_numpy(
                    zero_copy_only=False
                )
                ids = self.tokenizer(cut.to_pylist(), truncation=True, max_length=limit + 1)["input_ids"]
                lengths = np.array([len(one) for one in ids], dtype=np.int64)
                truncated[rows] = longer | (lengths > limit)
                tokens[rows] = np.minimum(lengths, limit)
                if (lengths > limit).any():  # again, so that the closing token is in its place
                    ids = self.tokenizer(cut.to_pylist(), truncation=True, max_length=limit)["input_ids"]
                out[rows] = self._forward(ids, batch_size, kind)
        return out, tokens, truncated

    def _forward(self, ids: list[list[int]], batch_size: int, activation: str) -> np.ndarray:
        import torch

        out = np.empty((len(ids), len(self.labels)), dtype=np.float64)
        order = np.argsort([-len(one) for one in ids], kind="stable")  # the longest first: memory fails early
        with torch.inference_mode():
            for at in range(0, len(order), batch_size):
                rows = order[at : at + batch_size]
                batch = self.tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
                logits = self.model(**{k: v.to(self.device) for k, v in batch.items()}).logits.float()
                if activation == "softmax":
                    logits = torch.softmax(logits, dim=-1)
                elif activation == "sigmoid":
                    logits = torch.sigmoid(logits)
                out[rows] = logits.cpu().numpy()
        return out


def _modified(model: str) -> int:
    """The state of a model's folder; a model trained again under the same name is read again."""
    try:
        return max((file.stat().st_mtime_ns for file in Path(model).iterdir()), default=0)
    except OSError:
        return 0


@lru_cache(maxsize=4)
def _load(model: str, modified: int, device: str) -> _Classifier:  # noqa: ARG001 - part of the key
    try:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise MissingExtra.of(error.name or "transformers", "train") from None
    only_local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(model, **only_local)
        tokenizer = AutoTokenizer.from_pretrained(model, **only_local)
        with quiet_transformers():
            loaded = AutoModelForSequenceClassification.from_pretrained(
                model, config=config, use_safetensors=True, dtype=torch.float32, **only_local
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().split("\n")[0]
        raise BadInput(
            f"cannot read the text classifier {model}: {first}",
            hint="give a folder that save_pretrained wrote (with model.safetensors), or an id that is in the "
            f"Hugging Face cache; Headwater downloads nothing: hf download {model}",
        ) from None
    if tokenizer.pad_token is None:  # decoders; one of their tokens pads, and the mask hides it
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    loaded.config.pad_token_id = tokenizer.pad_token_id
    chosen = device or devices.best(torch)
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    several = config.problem_type == "multi_label_classification"
    places = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
    if "roberta" in config.model_type:
        places -= 2  # its positions begin after the padding's
    return _Classifier(
        loaded.eval().to(chosen),
        tokenizer,
        chosen,
        labels,
        "none" if len(labels) == 1 else "sigmoid" if several else "softmax",
        min(places, int(min(tokenizer.model_max_length, 1 << 30))),
        threading.Lock(),
    )
