"""The first weights of a run: those of a checkpoint or of a Hugging Face folder, in place of fresh ones."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import BadInput, DataMismatch, MissingExtra, UsageError
from headwater.tokenizer import Encoder
from headwater.tokenizer import load as load_tokenizer
from headwater.training.checkpoints import STATE_FILE, damage, one_before, read_state

try:
    import torch
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
except ImportError as error:
    raise MissingExtra.of("torch", "train") from error

if TYPE_CHECKING:
    from headwater.lake import Lake

DIGEST_DIGITS = 16
"""Hex digits that name weights in the log of a run: enough to tell any two apart that somebody keeps."""


def start_from(folder: Path, model: Any, encoder: Encoder, lake: Lake) -> str:
    """Fill ``model`` with the weights in ``folder``, before it is sharded; returns their digest.

    Every rank reads all of them. ``folder`` is a checkpoint (``runs/RUN/step-N``) or what ``--export`` and
    ``save_pretrained`` write: ``model.safetensors`` with ``tokenizer.json``. Special tokens that the packed
    table's tokenizer has beyond a folder's (control tokens) begin with fresh embeddings.

    Raises
    ------
    UsageError, BadInput
        No such folder, or nothing in it that can be read.
    DataMismatch
        Another tokenizer than the packed table's, another shape than the recipe's, or a damaged checkpoint.
    """
    if (folder / STATE_FILE).is_file():
        weights, own, digest = _of_checkpoint(folder, model, lake)
    else:
        weights, own, digest = _of_export(folder, model)
    if own.text_id != encoder.text_id:
        raise DataMismatch(
            f"{folder} was trained with tokenizer {own.tokenizer_id}, the packed table has "
            f"{encoder.tokenizer_id}",
            hint="pack the table with the model's own: headwater pack --tokenizer",
        )
    wanted = model.state_dict()
    weights = {k: _grown(v, wanted.get(k), own.vocab_size, encoder.vocab_size) for k, v in weights.items()}
    wrong = {name for name in wanted if name not in weights or weights[name].shape != wanted[name].shape}
    if differ := sorted(wrong | (weights.keys() - wanted.keys())):
        raise DataMismatch(
            f"{folder} holds a model of another shape than the recipe's: {', '.join(differ[:3])}",
            hint="take the recipe that it was trained with, and a table packed with its very tokenizer",
        )
    model.load_state_dict(weights)
    return digest


def _grown(known: Any, fresh: Any, before: int, now: int) -> Any:
    """An embedding with rows for special tokens that were added since; the new rows are fresh."""
    if fresh is None or known.shape == fresh.shape or (known.shape[0], fresh.shape[0]) != (before, now):
        return known
    if now < before or known.shape[1:] != fresh.shape[1:]:
        return known
    return torch.cat([known.to(fresh), fresh[before:]])


def weights_digest(folder: Path) -> str:
    """Names the weights of a Hugging Face folder, whatever the folder is called."""
    found = hashlib.sha256()
    for file in _weight_files(folder):
        with file.open("rb") as opened:
            found.update(hashlib.file_digest(opened, "sha256").digest())
    return found.hexdigest()[:DIGEST_DIGITS]


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("model*.safetensors"))
    if not files or not (folder / "tokenizer.json").is_file():
        raise UsageError(
            f"{folder} is no checkpoint, and holds no model.safetensors with its tokenizer.json",
            hint="give runs/RUN/step-N, or a folder that --export or trainer/export_hf.py wrote",
        )
    return files


def _of_export(folder: Path, model: Any) -> tuple[dict[str, Any], Encoder, str]:
    digest = weights_digest(folder)
    own = Encoder((folder / "tokenizer.json").read_text(encoding="utf-8"), fast=False)
    try:
        found = type(model).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:  # safetensors raises bare Exceptions of its own
        raise BadInput(f"cannot read the model in {folder}: {str(error).strip().splitlines()[0]}") from None
    return found.state_dict(), own, digest


def _of_checkpoint(folder: Path, model: Any, lake: Lake) -> tuple[dict[str, Any], Encoder, str]:
    if wrong := damage(folder):
        raise DataMismatch(f"{folder} is damaged: {'; '.join(wrong)}", hint=one_before(folder))
    state = read_state(folder)
    own = load_tokenizer(lake, str(state["loader"]["tokenizer_id"]))
    weights = {"model": {name: torch.empty_like(value) for name, value in model.state_dict().items()}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it is one process: each rank reads for itself
            dcp.load(weights, checkpoint_id=folder, no_dist=True)
    except CheckpointException as error:
        raise DataMismatch(
            f"{folder} holds a model of another shape than the recipe's",
            hint="take the recipe that it was trained with",
        ) from error
    listed = json.dumps(sorted(state.get("files", {}).items()))
    return weights["model"], own, hashlib.sha256(listed.encode()).hexdigest()[:DIGEST_DIGITS]
