"""The model: any causal language model of transformers, from its configuration alone, sharded with FSDP2.

Shapes: B rows, L tokens, V ids.
"""

# ruff: noqa: TID253  (the trainer is about torch)

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import transformers
from recipe import Recipe
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from headwater.errors import UnknownName, UsageError
from headwater.training.attention import attention_name, document_inputs, document_mask

__all__ = ["build_model", "document_mask", "learning_rate", "make_optimizer", "shard", "token_losses"]

CPU = torch.device("cpu")


def build_model(
    recipe: Recipe, vocab_size: int, sequence_length: int, device: torch.device = CPU
) -> transformers.PreTrainedModel:
    """A fresh model in float32, the same on every rank and any device (the seed is the recipe's).

    Raises ``UnknownName`` for an architecture or setting that transformers lacks, ``UsageError`` for layers
    that our masks do not fit.
    """
    architecture = getattr(transformers, recipe.architecture, None)
    if not recipe.architecture.endswith(("ForCausalLM", "LMHeadModel")) or architecture is None:
        causal = [name for name in dir(transformers) if name.endswith("ForCausalLM")]
        raise UnknownName.of("architecture", recipe.architecture, causal, where="transformers")
    config = architecture.config_class(
        **_settings(recipe, architecture.config_class()),
        vocab_size=vocab_size,
        max_position_embeddings=sequence_length,
        bos_token_id=None,  # the class's are of another vocabulary; the export names ours
        eos_token_id=None,
        use_cache=False,
        dtype=torch.float32,
        attn_implementation=attention_name(recipe.attention, device, getattr(torch, recipe.param_dtype)),
    )
    window = getattr(config, "sliding_window", None)
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if others or (window is not None and window < sequence_length):
        what = ", ".join(sorted(others)) or f"sliding_window={window}"
        raise UsageError(
            f"{recipe.architecture} has layers that do not see the whole document: {what}",
            hint="the trainer masks by document only; set the config to full attention",
        )
    torch.manual_seed(recipe.seed)
    model = architecture(config).to(device)
    model.document_masks = recipe.document_masks
    return model


def _settings(recipe: Recipe, known: Any) -> dict[str, Any]:
    """The recipe's sizes by transformers' common names, and ``recipe.config`` by the class's own."""
    settings: dict[str, Any] = {
        "hidden_size": recipe.hidden_size,
        "num_hidden_layers": recipe.num_layers,
        "num_attention_heads": recipe.num_heads,
        "tie_word_embeddings": recipe.tie_embeddings,
    }
    if hasattr(known, "num_key_value_heads"):
        settings["num_key_value_heads"] = recipe.num_kv_heads or recipe.num_heads
    if hasattr(known, "rope_parameters"):
        settings["rope_parameters"] = {"rope_type": "default", "rope_theta": recipe.rope_theta}
    if recipe.intermediate_size is not None:
        settings["intermediate_size"] = recipe.intermediate_size
    settings |= recipe.config
    for name in settings:
        if not hasattr(known, name):
            raise UnknownName.of("setting", name, vars(known), where=type(known).__name__)
    return settings


def shard(model: nn.Module, mesh: DeviceMesh, recipe: Recipe) -> None:
    """Activation checkpointing, then compilation, then one FSDP group per block and one for the rest."""
    # reduce_dtype is always given: torch 2.15 changed what None means.
    policy = MixedPrecisionPolicy(
        param_dtype=getattr(torch, recipe.param_dtype), reduce_dtype=getattr(torch, recipe.reduce_dtype)
    )
    depth = model.config.num_hidden_layers
    lists = (part for part in model.modules() if isinstance(part, nn.ModuleList))
    for block in next(part for part in lists if len(part) == depth):
        if recipe.activation_checkpointing != "none":
            _recompute(block, selective=recipe.activation_checkpointing == "selective")
        if recipe.compile:
            block.compile()
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=recipe.reshard_after_forward)
    fully_shard(model, mesh=mesh, mp_policy=policy)


_SDPA = ("flash_attention", "efficient_attention", "cudnn_attention", "flash_attention_for_cpu")
_EXPENSIVE = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.torch_attn._varlen_attn.default,
}
_EXPENSIVE |= {getattr(torch.ops.aten, f"_scaled_dot_product_{name}").default for name in _SDPA}
"""What selective checkpointing keeps: matrix products and attention. The rest is cheap to do again."""


def _keep_expensive(_context: Any, operator: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _EXPENSIVE else CheckpointPolicy.PREFER_RECOMPUTE


def _recompute(block: nn.Module, *, selective: bool) -> None:
    """Compute the block's forward again in the backward pass. Its hooks (FSDP's) stay outside, names too."""
    contexts = functools.partial(create_selective_checkpoint_contexts, _keep_expensive)
    options = {"context_fn": contexts} if selective else {}
    block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False, **options)


def token_losses(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy in nats of every token but the first of a row, (B, L-1) float32.

    0 where there is no target: padding, and the first token of a document.
    """
    inputs = document_inputs(model, batch)
    logits_BLV = model(input_ids=batch["input_ids"], use_cache=False, **inputs).logits
    # The labels move, not the logits: a slice of those would be copied, and they are the largest tensor.
    labels_BL = nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    logits = logits_BLV.flatten(0, 1).float()
    losses = nn.functional.cross_entropy(logits, labels_BL.flatten(), reduction="none")
    return losses.view_as(labels_BL)[:, :-1]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then the recipe's schedule down to ``min_learning_rate``; steps count from 1.

    ``wsd`` (warm-up, stable, decay) falls in its last ``decay_steps``, as one minus the square root of what
    has passed of them: the best of the shapes that Hägele et al. compared (arXiv 2405.18392).
    """
    if step <= recipe.warmup_steps:
        return recipe.learning_rate * step / recipe.warmup_steps
    begin = recipe.max_steps - recipe.decay_steps if recipe.schedule == "wsd" else recipe.warmup_steps
    part = min(max(step - begin, 0) / max(recipe.max_steps - begin, 1), 1.0)
    cosine, sqrt = (1 + math.cos(math.pi * part)) / 2, 1 - math.sqrt(part)
    heights = {"cosine": cosine, "linear": 1 - part, "wsd": sqrt, "constant": 1.0}
    span = recipe.learning_rate - recipe.min_learning_rate
    return recipe.min_learning_rate + span * heights[recipe.schedule]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW, fused on CUDA; norms and biases (one dimension) do not decay."""
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim >= 2]
    norms = {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, norms]
    fused = parameters[0].device.type == "cuda"
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=fused)
