"""What a recipe says, and how one is found by its name."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headwater.errors import UnknownName, UsageError

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run's settings. Vocabulary and sequence length are the table's.

    ``global_batch_size`` counts sequences over all ranks, ``micro_batch_size`` those that one rank runs at
    once. ``max_steps`` is where the cosine ends at ``min_learning_rate``.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    global_batch_size: int
    micro_batch_size: int
    max_steps: int
    learning_rate: float
    min_learning_rate: float
    warmup_steps: int
    tie_embeddings: bool = True
    rope_theta: float = 10_000.0
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    seed: int = 0
    param_dtype: str = "float32"
    reduce_dtype: str = "float32"
    reshard_after_forward: bool = True
    compile: bool = False
    checkpoint_every: int = 500
    keep_checkpoints: int = 2

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "betas": list(self.betas)}


HOW_IT_RUNS = ("micro_batch_size", "reshard_after_forward", "compile", "checkpoint_every", "keep_checkpoints")
"""Settings that may change between a run and its resumption: they leave the loss curve as it is."""


def find_recipe(name: str) -> Recipe:
    """The recipe of that name in ``recipes/``, or ``path/to/file.py:function``.

    Raises ``UnknownName`` or ``UsageError``, naming what there is.
    """
    path, colon, function = name.rpartition(":")
    files = [Path(path)] if colon else sorted(RECIPES.glob("*.py"))
    if colon and not files[0].is_file():
        raise UsageError(f"no recipe file {path}", hint="give NAME, or path/to/file.py:function")
    known: dict[str, Callable[[], Recipe]] = {}
    for file in files:
        found = runpy.run_path(str(file), run_name=file.stem)
        known |= {k: v for k, v in found.items() if getattr(v, "__module__", "") == file.stem}
    if function not in known:
        raise UnknownName.of("recipe", function, known, where=path or "trainer/recipes")
    made = known[function]()
    if not isinstance(made, Recipe):
        raise UsageError(f"recipe {name} returned {type(made).__name__}", hint="return a Recipe")
    return made
