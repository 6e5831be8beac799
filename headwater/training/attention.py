"""Attention that stays inside each document: a dense mask anywhere, variable-length attention on CUDA.

For any model of transformers that trains on batches of :mod:`headwater.streaming`. Both ways compute the same
thing; resetting positions alone would still let a document see the one before it.
Shapes: B rows, L tokens, T = B * L, H heads, D dimensions of a head.
"""

from __future__ import annotations

from typing import Any

from headwater.errors import MissingExtra, UsageError

try:
    import torch
    from torch import nn
    from torch.nn.attention.varlen import varlen_attn
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
except ImportError as error:
    raise MissingExtra.of("torch", "train") from error

VARLEN = "documents"
"""Our name among transformers' attention implementations. It builds no mask of its own for it."""

FEWEST_BOUNDS = 64


def attention_name(wanted: str, device: torch.device, dtype: torch.dtype) -> str:
    """transformers' name of ``dense``, ``varlen`` or ``auto``: varlen where it runs, in 16 bit on CUDA."""
    runs = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    return VARLEN if wanted == "varlen" or (wanted == "auto" and runs) else "sdpa"


def document_inputs(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What ``model`` takes beside ids, by its attention implementation.

    ``batch`` is one of the stream's. A model whose attribute ``document_masks`` is False gets nothing: one
    causal context over the whole row (positions that restart would make transformers mask again).
    """
    if not getattr(model, "document_masks", True):
        return {}
    inputs: dict[str, Any] = {"position_ids": batch["position_ids"]}
    if model.config._attn_implementation != VARLEN:
        return {**inputs, "attention_mask": document_mask(batch["segment_ids"])}
    segments = batch["segment_ids"]
    # The most segments of any row is the width of segment_sources: known without asking the device.
    known = batch.get("segment_sources")
    most = known.shape[1] if known is not None else int(segments.max()) + 1
    bounds = document_bounds(segments, len(segments) * (most + 1))
    return {**inputs, "cu_seq_lens_q": bounds, "max_length_q": segments.shape[1]}


def document_mask(segment_ids_BL: torch.Tensor) -> torch.Tensor:
    """True where a token may look: at itself and before, in its own document. (B, 1, L, L) bool.

    Padding is a document of its own (segment -1), so every row of the mask has a True: no softmax over
    nothing, which would be NaN.
    """
    length = segment_ids_BL.shape[1]
    same = segment_ids_BL[:, :, None] == segment_ids_BL[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=same.device).tril()
    return (same & causal)[:, None]


def document_bounds(segment_ids_BL: torch.Tensor, most: int) -> torch.Tensor:
    """Where documents begin in the T tokens of all rows, then T to the end. (W + 1,) int32.

    W is ``most`` (documents, padding included) rounded up to a power of two: its few values keep a compiled
    block from being compiled again for every batch. The surplus entries are documents of no tokens.
    """
    starts = torch.ones_like(segment_ids_BL, dtype=torch.bool)
    starts[:, 1:] = segment_ids_BL[:, 1:] != segment_ids_BL[:, :-1]
    width = max(FEWEST_BOUNDS, 1 << (most - 1).bit_length())
    total = segment_ids_BL.numel()
    found = torch.nonzero_static(starts.flatten(), size=width + 1, fill_value=total)
    return found[:, 0].to(torch.int32)


def document_attention(
    module: nn.Module,
    query_BHLD: torch.Tensor,
    key_BHLD: torch.Tensor,
    value_BHLD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **_kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface over ``varlen_attn``; plain causal attention without bounds."""
    if cu_seq_lens_q is None:  # generation, or document_masks=False
        return sdpa_attention_forward(  # type: ignore[no-any-return]  # transformers is untyped here
            module, query_BHLD, key_BHLD, value_BHLD, attention_mask, dropout=dropout, scaling=scaling
        )
    if dropout:
        raise UsageError(
            "variable-length attention has no dropout", hint="set the config's attention dropout to 0"
        )
    rows, heads, length, _ = query_BHLD.shape
    query, key, value = (t.transpose(1, 2).flatten(0, 1) for t in (query_BHLD, key_BHLD, value_BHLD))
    out_THD = varlen_attn(
        query, key, value, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
        scale=scaling, window_size=(-1, 0), enable_gqa=heads != key.shape[1],
    )  # fmt: skip
    return out_THD.unflatten(0, (rows, length)), None


AttentionInterface.register(VARLEN, document_attention)
