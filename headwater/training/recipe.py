"""What a recipe says, and how one is found by its name.

The trainer reads it, the run's log keeps it, and ``estimate`` and ``ablate`` count on it.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from headwater.errors import DataMismatch, UnknownName, UsageError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run's settings. Vocabulary and sequence length are the table's.

    ``architecture`` is a class of transformers; what else its configuration has goes into ``config``, by the
    names it has there (``{"n_inner": 3072}``). ``global_batch_size`` counts sequences over all ranks; as
    ``((0, 64), (10_000, 128))`` it grows at the first step from a sequence on. ``micro_batch_size`` counts
    those that one rank runs at once. ``max_steps`` is where the schedule ends at ``min_learning_rate``;
    ``wsd`` decays over the last ``decay_steps``. ``attention`` is ``dense``, ``varlen`` (16 bit on CUDA), or
    the better of them. ``prompts`` are what ``--samples`` continues, after the control token ``control``.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    global_batch_size: int | tuple[tuple[int, int], ...]
    micro_batch_size: int
    max_steps: int
    learning_rate: float
    min_learning_rate: float
    warmup_steps: int
    architecture: str = "LlamaForCausalLM"
    intermediate_size: int | None = None
    num_kv_heads: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tie_embeddings: bool = True
    rope_theta: float = 10_000.0
    document_masks: bool = True
    schedule: str = "cosine"
    decay_steps: int = 0
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    seed: int = 0
    param_dtype: str = "float32"
    reduce_dtype: str = "float32"
    attention: str = "auto"
    activation_checkpointing: str = "none"
    reshard_after_forward: bool = True
    compile: bool = False
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    async_checkpoint: bool = True
    prompts: tuple[str, ...] = ("",)
    control: str = ""

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UnknownName.of(name, getattr(self, name), known)

    def to_json(self) -> dict[str, Any]:
        """As it stands after a round trip through JSON: lists for tuples."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


CHOICES = {
    "schedule": ("cosine", "wsd", "linear", "constant"),
    "attention": ("auto", "dense", "varlen"),
    "activation_checkpointing": ("none", "full", "selective"),
}

HOW_IT_RUNS = {
    "micro_batch_size", "attention", "activation_checkpointing", "reshard_after_forward", "compile",
    "checkpoint_every", "keep_checkpoints", "async_checkpoint", "prompts", "control",
}  # fmt: skip
"""Settings that may change between a run and its resumption: they leave the loss curve as it is."""

THE_MODEL = {
    "architecture", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "config",
    "tie_embeddings",
}  # fmt: skip
"""Settings that a new stage of the data, too, goes on with: the shape of the weights."""


def check_recipe(was: Mapping[str, Any], recipe: Recipe, *, new_stage: bool) -> None:
    """Raise ``DataMismatch`` with both sides where ``recipe`` differs from a checkpoint's."""
    now = recipe.to_json()
    fixed = THE_MODEL if new_stage else now.keys() - HOW_IT_RUNS
    # A setting that is newer than the checkpoint had its default.
    before = {f.name: f.default for f in fields(recipe) if f.default is not MISSING} | {"config": {}, **was}
    differ = [key for key in now if key in fixed and before.get(key) != now[key]]
    if differ:
        sides = "; ".join(f"{key}: checkpoint {before.get(key)!r}, recipe {now[key]!r}" for key in differ)
        raise DataMismatch(f"the recipe changed since the run began: {sides}", hint="start a new run")


def find_recipe(name: str, folder: Path) -> Recipe:
    """The recipe of that name in ``folder``, or ``path/to/file.py:function``.

    Raises ``UnknownName`` or ``UsageError``, naming what there is.
    """
    path, colon, function = name.rpartition(":")
    files = [Path(path)] if colon else sorted(folder.glob("*.py"))
    if colon and not files[0].is_file():
        raise UsageError(f"no recipe file {path}", hint="give NAME, or path/to/file.py:function")
    known: dict[str, Callable[[], Recipe]] = {}
    for file in files:
        found = runpy.run_path(str(file), run_name=file.stem)
        known |= {k: v for k, v in found.items() if getattr(v, "__module__", "") == file.stem}
    if function not in known:
        raise UnknownName.of("recipe", function, known, where=path or f"trainer/{folder.name}")
    made = known[function]()
    if not isinstance(made, Recipe):
        raise UsageError(f"recipe {name} returned {type(made).__name__}", hint="return a Recipe")
    return made
