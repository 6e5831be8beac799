"""A recipe as plain data, its parameters and its floating-point operations; the trainer is never imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.errors import UsageError

_LLAMA_LIKE = ("Llama", "Mistral", "Qwen2", "Qwen3", "Olmo2", "Olmo3", "Gemma", "Smol")
"""Decoders with a gated feed-forward layer: three matrices instead of two."""


def find_trainer(given: str | None, project: Path | None) -> Path:
    """The folder of ``train.py``: as given, in the project, beside the library, or in its wheel."""
    here = Path(__file__).parents[1]
    choices = [Path(given)] if given else [
        *([project / "trainer"] if project else []), here.parent / "trainer", here / "_project" / "trainer",
    ]  # fmt: skip
    for folder in choices:
        if (folder / "train.py").is_file():
            return folder.resolve()
    raise UsageError(f"no train.py in {choices[0]}", hint="--trainer DIR names the folder of the trainer")


def recipe_settings(trainer: Path, recipe: str) -> dict[str, Any]:
    """The settings of a recipe, read in a process of its own.

    Raises ``UsageError`` with what the recipe's reader said.
    """
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from recipe import find_recipe; "
        "print(json.dumps(find_recipe(sys.argv[2]).to_json()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(trainer), recipe], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.strip().splitlines() if "Error" in line or "Hint" in line]
        raise UsageError(
            f"cannot read recipe {recipe!r}: {' '.join(said) or done.stderr.strip()[-200:]}",
            hint="name a function of trainer/recipes, or path/to/file.py:function",
        )
    settings: dict[str, Any] = json.loads(done.stdout)
    return settings


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Weights of a decoder: all of them, and those of the input embedding, which multiply nothing."""

    total: int
    embedding: int

    @property
    def multiplied(self) -> int:
        """Weights that every token is multiplied with: all but an embedding that is only looked up."""
        return self.total - self.embedding


def parameters_of(settings: Mapping[str, Any], vocab_size: int, sequence_length: int) -> Parameters:
    """Count the weights of a recipe's model, as transformers builds it.

    Exact for Llama and GPT-2; for other decoders the Llama shape (grouped queries, a gated feed-forward
    layer, no biases), which leaves out what a few of them add, such as norms of queries.

    Raises ``UsageError`` for a recipe without a feed-forward size that is not GPT-2.
    """
    d, layers = int(settings["hidden_size"]), int(settings["num_layers"])
    config = dict(settings.get("config") or {})
    architecture = str(settings.get("architecture") or "LlamaForCausalLM")
    embedding = vocab_size * d
    tied = bool(settings.get("tie_embeddings", True))
    head = 0 if tied else embedding
    looked_up = 0 if tied else embedding  # a tied one multiplies, as the head
    if architecture.startswith("GPT2"):
        inner = int(config.get("n_inner") or 4 * d)
        attention = 4 * d * d + 4 * d
        feed_forward = 2 * d * inner + d + inner
        block = attention + feed_forward + 4 * d
        positions = sequence_length * d
        total = embedding + head + positions + layers * block + 2 * d
        return Parameters(total=total, embedding=looked_up + positions)
    gated = settings.get("intermediate_size") or config.get("intermediate_size")
    if gated is None:
        raise UsageError(
            f"the recipe's {architecture} has no intermediate_size", hint="give --parameters instead"
        )
    heads = int(settings["num_heads"])
    width = int(config.get("head_dim") or d // heads)
    kv_heads = int(settings.get("num_kv_heads") or heads)
    attention = 2 * d * heads * width + 2 * d * kv_heads * width
    matrices = 3 if architecture.startswith(_LLAMA_LIKE) else 2
    block = attention + matrices * d * int(gated) + 2 * d
    return Parameters(total=embedding + head + layers * block + d, embedding=looked_up)


def flops_per_token(settings: Mapping[str, Any], parameters: Parameters, sequence_length: int) -> float:
    """Floating-point operations of one training token, forward and backward.

    ``6 N + 12 layers width length``, with ``N`` the weights that a token is multiplied with: the convention
    of PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) and the trainer's MFU, attention unmasked.
    """
    heads = int(settings["num_heads"])
    head = (settings.get("config") or {}).get("head_dim") or int(settings["hidden_size"]) // heads
    return (
        6.0 * parameters.multiplied + 12.0 * int(settings["num_layers"]) * heads * int(head) * sequence_length
    )


def batch_sequences(settings: Mapping[str, Any]) -> int:
    """Sequences in a step; the last value of a batch that grows."""
    size = settings["global_batch_size"]
    return int(size[-1][1]) if isinstance(size, list | tuple) else int(size)
