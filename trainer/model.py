"""The model: transformers' Llama, from its configuration alone, sharded with FSDP2.

Shapes: B rows, L tokens, V ids.
"""

# ruff: noqa: TID253  (the trainer is about torch)

from __future__ import annotations

import math

import torch
from recipe import Recipe
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import LlamaConfig, LlamaForCausalLM


def build_model(recipe: Recipe, vocab_size: int, sequence_length: int) -> LlamaForCausalLM:
    """A fresh model in float32, the same on every rank (the seed is the recipe's)."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_kv_heads,
        max_position_embeddings=sequence_length,
        tie_word_embeddings=recipe.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        attn_implementation="sdpa",
        use_cache=False,
        dtype=torch.float32,
    )
    return LlamaForCausalLM(config)


def shard(model: LlamaForCausalLM, mesh: DeviceMesh, recipe: Recipe) -> None:
    """One FSDP group per block, and one for the embeddings, the last norm and the head."""
    # reduce_dtype is always given: torch 2.15 changed what None means.
    policy = MixedPrecisionPolicy(
        param_dtype=getattr(torch, recipe.param_dtype), reduce_dtype=getattr(torch, recipe.reduce_dtype)
    )
    for block in model.model.layers:
        if recipe.compile:
            block.compile()
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=recipe.reshard_after_forward)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def document_mask(segment_ids_BL: torch.Tensor) -> torch.Tensor:
    """True where a token may look: at itself and before, in its own document. (B, 1, L, L) bool.

    Dense, because it is the form that every device computes exactly. Resetting positions alone would
    still let a document see the one before it.
    """
    length = segment_ids_BL.shape[1]
    same = segment_ids_BL[:, :, None] == segment_ids_BL[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=same.device).tril()
    return (same & causal)[:, None]


def summed_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy summed over the targets: every token but the first of its document and padding."""
    logits_BLV = model(
        input_ids=batch["input_ids"],
        attention_mask=document_mask(batch["segment_ids"]),
        position_ids=batch["position_ids"],
        use_cache=False,
    ).logits
    predicted = logits_BLV[:, :-1].flatten(0, 1).float()
    return nn.functional.cross_entropy(predicted, batch["labels"][:, 1:].flatten(), reduction="sum")


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to ``min_learning_rate`` at ``max_steps``; steps count from 1."""
    if step <= recipe.warmup_steps:
        return recipe.learning_rate * step / recipe.warmup_steps
    part = min((step - recipe.warmup_steps) / max(recipe.max_steps - recipe.warmup_steps, 1), 1.0)
    span = recipe.learning_rate - recipe.min_learning_rate
    return recipe.min_learning_rate + span * (1 + math.cos(math.pi * part)) / 2


def make_optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; norms (one dimension) do not decay."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    norms = {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, norms]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)
