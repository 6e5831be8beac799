"""Operators as Polars expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from headwater.errors import UsageError

if TYPE_CHECKING:
    from headwater.operators.registry import Operator, Parameter


def expression(
    operator: Operator, expressions: Sequence[pl.Expr | str], settings: dict[str, Parameter]
) -> pl.Expr:
    """``operator`` over ``expressions``: element-wise, so that lazy frames stream it."""
    if len(expressions) != len(operator.inputs):
        raise UsageError(
            f"operator {operator.name} takes {len(operator.inputs)} expression(s), got {len(expressions)}"
        )
    columns = [pl.col(e) if isinstance(e, str) else e for e in expressions]
    dtype = polars_type(operator.output)

    def call(series: Sequence[pl.Series]) -> pl.Series:
        result = pl.from_arrow(operator(*(s.to_arrow() for s in series), **settings))
        assert isinstance(result, pl.Series)
        return result.alias(series[0].name)

    return pl.map_batches(columns, call, return_dtype=dtype, is_elementwise=True)


def polars_type(kind: pa.DataType) -> pl.DataType:
    """The Polars type that an Arrow type becomes."""
    empty = pl.from_arrow(pa.array([], type=kind))
    assert isinstance(empty, pl.Series)
    return empty.dtype
