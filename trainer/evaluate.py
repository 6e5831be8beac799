"""Evaluation in the loop: bits per byte on held-out packed tables, and generated samples.

Shapes: B rows, L tokens, V ids, P prompts, T tokens of a prompt and its continuation.
"""

# ruff: noqa: TID253  (the trainer is about torch)

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
import torch.distributed as dist
from torch import nn

from headwater.errors import DataMismatch, UsageError
from headwater.streaming import IGNORE, stream
from headwater.token_bytes import bytes_per_token
from headwater.tokenizer import Encoder
from headwater.tokenizer import load as load_tokenizer

if TYPE_CHECKING:
    from recipe import Recipe

    from headwater.lake import Lake

TOP_K = 50
"""Sampling keeps the 50 likeliest ids, as the default of transformers does."""


@torch.no_grad()
def evaluate(
    model: nn.Module,
    lake: Lake,
    tables: Sequence[str],
    recipe: Recipe,
    device: torch.device,
    max_sequences: int | None = None,
    *,
    tokenizer_id: str | None = None,
) -> list[dict[str, Any]]:
    """Loss and bits per byte of each packed table; the same list on every rank, and every rank calls it.

    Returns rows for the table ``evaluations``: ``table, version, digest, tokens, bytes, loss,
    bits_per_byte``. ``tokens`` are those that their document predicts, and ``loss`` is the mean over them
    in nats, as in training. ``bits_per_byte`` is the loss of the *text* tokens among them over the bytes of
    text they stand for (``bytes``), in bits: special tokens, the end of a document among them, count on
    neither side, so that tokenizers compare.

    Parameters
    ----------
    max_sequences:
        Read the first ones only: the order is hashed, so they are a fixed random sample.
    tokenizer_id:
        The model's; a table packed with another is refused.

    Raises
    ------
    DataMismatch
        A table was packed with a tokenizer or a length that the model does not know.
    """
    training = model.training
    model.eval()
    try:
        return [_evaluate(model, lake, name, recipe, device, max_sequences, tokenizer_id) for name in tables]
    finally:
        model.train(training)


def _evaluate(
    model: nn.Module, lake: Lake, name: str, recipe: Recipe, device: torch.device,
    max_sequences: int | None, tokenizer_id: str | None,
) -> dict[str, Any]:  # fmt: skip
    from model import token_losses

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # evaluating on unapproved rows changes no weight
        data = stream(lake, name, global_batch_size=1)
    encoder = load_tokenizer(lake, data.tokenizer_id)
    _check(model, lake, data, encoder, tokenizer_id)
    sizes = torch.from_numpy(bytes_per_token(encoder)).to(device)
    rank, world = _place()
    count = min(data.num_sequences, max_sequences or data.num_sequences)
    share = math.ceil(count / world)  # of each rank, so that all run as many forwards
    first = min(rank * share, count)
    data.load_state_dict({**data.state_dict(), "next_sequence": first})
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    steps = math.ceil(share / recipe.micro_batch_size)
    for batch in _batches(data, min(share, count - first), recipe.micro_batch_size, steps):
        batch = {k: v.to(device) for k, v in batch.items()}
        losses = token_losses(model, batch).double()
        labels = batch["labels"][:, 1:]
        text = torch.where(labels >= 0, sizes[labels.clamp(min=0)], 0)
        sums += torch.stack(
            [losses.sum(), losses[text > 0].sum(), (labels >= 0).sum().double(), text.sum().double()]
        )
    if world > 1:
        dist.all_reduce(sums)
    loss, text_loss, tokens, num_bytes = sums.tolist()
    return {
        **data.table.ref.to_dict(),
        "tokens": int(tokens),
        "bytes": int(num_bytes),
        "loss": loss / tokens if tokens else math.nan,
        "bits_per_byte": text_loss / math.log(2) / num_bytes if num_bytes else math.nan,
    }


def _batches(data: Any, count: int, size: int, steps: int) -> Iterator[dict[str, torch.Tensor]]:
    """``steps`` batches of ``size`` rows from the next ``count`` sequences, filled up with empty rows."""
    keys = ("input_ids", "labels", "segment_ids", "position_ids")
    length = data.sequence_length
    empty = {
        "input_ids": torch.zeros(1, length, dtype=torch.int64),
        "labels": torch.full((1, length), IGNORE),
        "segment_ids": torch.zeros(1, length, dtype=torch.int32),  # one document, for any kind of mask
        "position_ids": torch.arange(length)[None],
    }
    with contextlib.closing(iter(data)) as rows:
        for done in range(0, steps * size, size):
            some = [next(rows) if i < count else empty for i in range(done, done + size)]
            yield {key: torch.cat([row[key].to(empty[key].dtype) for row in some]) for key in keys}


def _check(model: nn.Module, lake: Lake, data: Any, encoder: Encoder, tokenizer_id: str | None) -> None:
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and data.sequence_length > longest:
        raise UsageError(
            f"{data.table.ref} has sequences of {data.sequence_length}, the model was made for {longest}",
            hint=f"pack the table with --sequence-length {longest}",
        )
    if tokenizer_id is None or tokenizer_id == encoder.tokenizer_id:
        return
    own = load_tokenizer(lake, tokenizer_id)
    if own.text_id != encoder.text_id:
        raise DataMismatch(
            f"{data.table.ref} was packed with tokenizer {encoder.tokenizer_id}, "
            f"the model was trained with {tokenizer_id}",
            hint="pack it again with the model's tokenizer",
        )


@torch.no_grad()
def generate_samples(
    model: nn.Module,
    encoder: Encoder,
    prompts: Sequence[str],
    max_new_tokens: int = 64,
    seed: int | None = None,
    *,
    temperature: float = 0.8,
    control: str = "",
) -> list[dict[str, str]]:
    """``prompt`` and ``text`` (the continuation) of each prompt; greedy without a ``seed``.

    ``control``: the special token that opens every document of this kind, as ``pack --control`` set it.

    Every rank calls it and runs ``max_new_tokens`` forwards of one shape, whatever is generated: sharded
    weights are gathered in step, compiled blocks compile once, and no cache of keys is kept. Rank 0 draws.
    A text ends before its end-of-text token. At most half of the model's length is
    new; a prompt too long for the rest keeps its last tokens.
    """
    from headwater.training.attention import document_inputs

    training, device = model.training, next(model.parameters()).device
    _, world = _place()
    draw = None if seed is None else torch.Generator().manual_seed(seed)
    found = encoder.encode(pa.array(prompts, pa.large_string())).to_pylist()
    longest = model.config.max_position_embeddings
    max_new_tokens = min(max_new_tokens, longest // 2)
    begin = [encoder.special_id(control)] if control else []
    # A prompt without tokens begins where documents begin: after an end of text.
    starts = [begin + ids[max_new_tokens - longest + len(begin) :] or [encoder.eos_id] for ids in found]
    ids_PT = torch.full((len(starts), max(map(len, starts)) + max_new_tokens), encoder.eos_id)
    for row, ids in zip(ids_PT, starts, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    ids_PT = ids_PT.to(device)
    ends = torch.tensor([len(ids) for ids in starts], device=device)
    rows = torch.arange(len(starts), device=device)
    # What stands behind a row's end is not yet written and cannot be seen: attention looks back only.
    whole = {
        "segment_ids": torch.zeros_like(ids_PT, dtype=torch.int32),
        "position_ids": torch.arange(ids_PT.shape[1], device=device).expand_as(ids_PT),
    }
    inputs = document_inputs(model, whole)
    model.eval()
    try:
        for _ in range(max_new_tokens):
            logits = model(input_ids=ids_PT, use_cache=False, **inputs).logits[rows, ends - 1]
            ids = _choose(logits[:, : encoder.vocab_size].float().cpu(), draw, temperature).to(device)
            if world > 1:
                dist.broadcast(ids, src=0)
            ids_PT[rows, ends] = ids
            ends += 1
    finally:
        model.train(training)
    texts = []
    for ids, start in zip(ids_PT.tolist(), starts, strict=True):
        new = ids[len(start) : len(start) + max_new_tokens]
        texts.append(encoder.decode(new[: new.index(encoder.eos_id)] if encoder.eos_id in new else new))
    return [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]


def _choose(logits_PV: torch.Tensor, draw: torch.Generator | None, temperature: float) -> torch.Tensor:
    """The next id of each prompt, (P,) int64."""
    if draw is None:
        return logits_PV.argmax(-1)
    best, ids = logits_PV.topk(min(TOP_K, logits_PV.shape[-1]))
    chosen = torch.multinomial((best / temperature).softmax(-1), 1, generator=draw)
    return ids.gather(-1, chosen)[:, 0]


def _place() -> tuple[int, int]:
    """This process's rank and the number of ranks."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
