"""Model FLOPs of a trained token, what devices can do at best, and the part of it that a run used."""

from __future__ import annotations

from typing import Any

PEAK_FLOPS = (
    ("gb200", 2.5e15),
    ("b200", 2.25e15),
    ("b100", 1.75e15),
    ("h200 nvl", 835.5e12),
    ("h100 nvl", 835.5e12),
    ("h100 pcie", 756e12),
    ("h200", 989e12),
    ("gh200", 989e12),
    ("h100", 989e12),
    ("h800", 989e12),
    ("a100", 312e12),
    ("a800", 312e12),
    ("a40", 149.7e12),
    ("a10", 125e12),
    ("l40s", 362e12),
    ("l4", 121e12),
    ("4090", 165.2e12),
    ("3090", 71e12),
    ("mi300x", 1307.4e12),
)
"""Dense bfloat16 with float32 accumulation, in FLOP/s, by words of the device's name; the first that fits.
Source: the vendors' data sheets, with the figure for sparse matrices (twice as much) halved: NVIDIA H100,
H200, Blackwell, A100, A40, A10, L40S and L4 data sheets, the Ada and GA102 white papers; AMD MI300X."""

OTHERS = {"mig", "laptop", "ti", "d"}
"""Words of devices that are less, or more, than their namesakes: a slice, a notebook's chip."""


def peak_flops(device: Any) -> float | None:
    """Peak bfloat16 FLOP/s of a torch device; ``None`` on a CPU and for a device that the table lacks."""
    import torch

    if device.type != "cuda":
        return None
    return peak_flops_of(torch.cuda.get_device_name(device))


def peak_flops_of(name: str) -> float | None:
    """The same by the device's name, as ``torch.cuda.get_device_name`` gives it."""
    words = set(name.lower().replace("-", " ").split())
    if words & OTHERS:
        return None
    return next((peak for part, peak in PEAK_FLOPS if words.issuperset(part.split())), None)


def flops_per_token(config: Any, sequence_length: int) -> float:
    """Model FLOPs of one trained token, forward and backward: ``6 N + 12 layers d_attention length``.

    ``N`` counts the weights of every matrix multiplication, the output head among them; the look-up of the
    input embedding multiplies nothing (tied weights count once, as the head). Attention is *unmasked*:
    neither the causal half nor document masks are taken off, nor is recomputation added. That is the
    convention of PaLM (arXiv 2204.02311, appendix B) and torchtitan, so that figures compare.

    For dense models: of a mixture of experts every expert would be counted.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    weights = {id(p): p.numel() for p in model.parameters() if p.ndim >= 2}
    head = model.get_output_embeddings().weight
    for part in model.modules():
        if isinstance(part, torch.nn.Embedding) and part.weight is not head:
            weights.pop(id(part.weight), None)
    weights[id(head)] = head.numel()
    heads = int(config.num_attention_heads)
    width = heads * int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    attention = 12.0 * int(config.num_hidden_layers) * width * sequence_length
    return float(6.0 * sum(weights.values()) + attention)


def mfu(tokens_per_second: float, flops: float, peak: float | None, num_devices: int) -> float | None:
    """Model FLOPs utilization, 0 to 1: all ranks' tokens per second against the peak of their devices."""
    return None if peak is None else tokens_per_second * flops / (peak * num_devices)
