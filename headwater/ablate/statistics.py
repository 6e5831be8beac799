"""Intervals over seeds: means, and differences of arms that share their seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, two-sided 95 %, for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.2)."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over ``n`` seeds; ``half_width`` of its 95 % t interval is ``None`` for a single seed."""

    mean: float
    half_width: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """True when the interval lies on one side of zero."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def t_interval(values: Sequence[float]) -> Estimate:
    """Mean and half the width of its 95 % interval; raises ``ValueError`` for no values."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to estimate from")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean=mean, half_width=None, n=1)
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    return Estimate(mean=mean, half_width=_t(n - 1) * math.sqrt(variance / n), n=n)


def paired(first: dict[int, float], second: dict[int, float]) -> Estimate | None:
    """``second - first`` over the seeds that both have; ``None`` when they share none.

    Arms of one seed share the model's first weights and what is held out, so that their difference varies
    less than either.
    """
    shared = sorted(first.keys() & second.keys())
    return t_interval([second[s] - first[s] for s in shared]) if shared else None


def _t(degrees: int) -> float:
    """Beyond the table by the first terms of Cornish and Fisher's expansion (below 0.001 off from 30 on)."""
    if degrees <= len(T_975):
        return T_975[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
