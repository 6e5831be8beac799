"""What curation buys: the same recipe, tokens and seeds on two or more tables, and what the models learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.ablate.experiment import Ablation, ablate
    from headwater.ablate.results import Outcome, outcome

__all__ = ["Ablation", "Outcome", "ablate", "outcome"]


def __getattr__(name: str) -> Any:
    if name in ("Ablation", "ablate"):
        from headwater.ablate import experiment

        return getattr(experiment, name)
    if name in ("Outcome", "outcome"):
        from headwater.ablate import results

        return getattr(results, name)
    raise AttributeError(f"module 'headwater.ablate' has no attribute {name!r}")
