"""``--max-cost``: an estimate above it, or one that cannot be made, ends with 1."""

from __future__ import annotations

from headwater.errors import CheckFailed


def check_cost(cost: float | None, most: float, *, hint: str) -> None:
    """Raise ``CheckFailed`` when ``cost`` is above ``most``, or unknown (``hint``: what would tell it)."""
    if cost is None:
        raise CheckFailed("the cost cannot be told: no rate or no price is known", hint=hint)
    if cost > most:
        raise CheckFailed(f"the run would cost {cost:,.2f}, more than {most:,.2f}")
