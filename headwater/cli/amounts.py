"""Amounts as people write them: ``2M``, ``1.5e9``, ``400k``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


if TYPE_CHECKING:
    _Type = click.ParamType[float]
else:
    _Type = click.ParamType  # not generic in every click that we run with


class Amount(_Type):
    """A positive number with an optional ``k``, ``M``, ``B`` (or ``G``) or ``T``."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number as a float."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().replace("_", "").replace(",", "")
        unit = _UNITS.get(text[-1:].lower(), 1.0)
        try:
            number = float(text[:-1] if unit != 1.0 else text) * unit
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            self.fail(f"{value!r} is not a positive amount such as 2M, 400k or 1.5e9", param, ctx)
        return number


AMOUNT = Amount()
