"""Make a static model of a sentence-transformers model: model2vec's recipe.

Each token of the vocabulary goes through the transformer alone; principal components of the vectors; weights
by rank in the vocabulary, which is ordered by frequency (Zipf), as SIF has it (Arora et al. 2017): a/(a + p).
https://github.com/MinishLab/model2vec (MIT) describes and measures it; this is written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headwater.errors import BadInput
from headwater.whole_files import whole_folder

if TYPE_CHECKING:
    from headwater.embedding.transformer import TransformerModel

DIMENSIONS = 256
SIF = 1e-4
"""model2vec's coefficient."""
RECIPE = 1
"""Part of the name of a folder in the cache: another recipe, another folder."""
UNUSED = re.compile(r"\[unused\d+\]")
BATCH = 1024


def distill(
    model: TransformerModel,
    to: str | Path,
    *,
    dimensions: int = DIMENSIONS,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a static model of ``model`` into the folder ``to`` (whole, or not at all) and return it.

    Parameters
    ----------
    dimensions: principal components that are kept; no more than the model has.
    progress: called with tokens done and tokens in all.

    Raises
    ------
    BadInput
        The model's tokenizer cannot be written as ``tokenizer.json``.
    """
    from safetensors.numpy import save_file

    target = Path(to)
    if target.exists():
        raise BadInput(f"{target} is there already", hint="name a folder that is not there yet")
    tokenizer = model._model.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BadInput(f"{model.id} has no fast tokenizer, so that a static model could not read text")
    vectors = _token_vectors(model, backend, progress)
    table = (
        principal_components(vectors, min(dimensions, vectors.shape[1])) * sif_weights(len(vectors))[:, None]
    )
    for token, i in backend.get_vocab(with_added_tokens=True).items():
        if i < len(table) and (UNUSED.fullmatch(token) or i in tokenizer.all_special_ids):
            table[i] = 0.0
    with whole_folder(target, holds="config.json") as made:
        save_file(
            {"embeddings": np.ascontiguousarray(table, dtype=np.float32)}, str(made / "model.safetensors")
        )
        backend.save(str(made / "tokenizer.json"))
        facts = {
            "model_type": "model2vec",
            "architectures": ["StaticModel"],
            "tokenizer_name": model.id,
            "hidden_dim": int(table.shape[1]),
            "apply_zipf": True,
            "sif_coefficient": SIF,
            "normalize": True,
            "distilled_from": model.id,
            "recipe": RECIPE,
        }
        (made / "config.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return target


def _token_vectors(
    model: TransformerModel, backend: Any, progress: Callable[[int, int], None] | None
) -> npt.NDArray[np.float64]:
    """(tokens, dimensions): each token alone between the model's opening and closing tokens, mean of all."""
    import torch

    tokenizer = model._model.tokenizer
    size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
    empty = tokenizer("")["input_ids"]
    half = (len(empty) + 1) // 2
    before, after = empty[:half], empty[half:]
    out = np.empty((size, model.dimensions), dtype=np.float64)
    transformer = model._model[0]
    with torch.inference_mode():
        for at in range(0, size, BATCH):
            tokens = range(at, min(at + BATCH, size))
            ids = torch.tensor([[*before, token, *after] for token in tokens], device=model.device)
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            states = transformer(features)["token_embeddings"]
            out[at : tokens.stop] = states.float().mean(dim=1).cpu().numpy()
            if progress is not None:
                progress(tokens.stop, size)
    return np.nan_to_num(out)


def principal_components(vectors: npt.NDArray[np.float64], dimensions: int) -> npt.NDArray[np.float64]:
    """The first principal components of the rows; the sign of each is the one that makes its largest
    coefficient positive, so that the same input gives the same output."""
    centered = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centered.T @ centered)
    axes = axes[:, ::-1][:, :dimensions]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    found: npt.NDArray[np.float64] = centered @ axes
    return found


def sif_weights(count: int) -> npt.NDArray[np.float64]:
    """a/(a + p) by rank, p as Zipf's law has it."""
    shares = 1.0 / np.arange(2, count + 2, dtype=np.float64)
    shares /= shares.sum()
    weights: npt.NDArray[np.float64] = SIF / (SIF + shares)
    return weights
