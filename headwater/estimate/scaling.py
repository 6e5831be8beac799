"""Scaling laws: compute-optimal parameters and tokens, and what repeated tokens are worth.

``C = 6 N D``: floating-point operations of training ``N`` parameters on ``D`` tokens. Losses are those of the
papers' own data and tokenizers and are not predicted here; where the optimum lies is what carries over best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TOKENS_PER_PARAMETER = 20.0
"""Hoffmann et al. 2022 (Chinchilla, arXiv 2203.15556), approach 1: parameters and tokens grow alike; its
table 3 has 8.0 B tokens for 400 M parameters and 20.2 B for 1 B."""

MAX_EPOCHS = 4
"""Up to here repeated tokens are worth nearly as much as fresh ones (Muennighoff et al. 2023, arXiv
2305.16264)."""

HALF_LIFE_EPOCHS = 15.387756
"""``R_D*`` of the same paper, appendix A."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """``L(N, D) = E + A / N^alpha + B / D^beta``: a parametric fit of the loss, with its source."""

    name: str
    e: float
    a: float
    b: float
    alpha: float
    beta: float
    source: str

    @property
    def _g(self) -> float:
        return float((self.alpha * self.a / (self.beta * self.b)) ** (1 / (self.alpha + self.beta)))

    def optimum(self, flops: float) -> Optimum:
        """The parameters and tokens with the least loss for ``flops``."""
        share = self.beta / (self.alpha + self.beta)
        parameters = self._g * (flops / 6) ** share
        return Optimum(law=self.name, parameters=parameters, tokens=flops / 6 / parameters, flops=flops)

    def for_parameters(self, parameters: float) -> Optimum:
        """The budget for which ``parameters`` are optimal."""
        share = self.beta / (self.alpha + self.beta)
        return self.optimum(6 * (parameters / self._g) ** (1 / share))

    def for_tokens(self, tokens: float) -> Optimum:
        """The budget for which ``tokens`` are optimal."""
        share = self.alpha / (self.alpha + self.beta)
        return self.optimum(6 * (tokens * self._g) ** (1 / share))


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """A compute-optimal training, by one law."""

    law: str
    parameters: float
    tokens: float
    flops: float


HOFFMANN = Fit(
    name="Hoffmann 2022, parametric fit", e=1.69, a=406.4, b=410.7, alpha=0.34, beta=0.28,
    source="Hoffmann et al. 2022, arXiv 2203.15556, approach 3 (section 3.3)",
)  # fmt: skip
BESIROGLU = Fit(
    name="Besiroglu 2024, refit", e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658,
    source="Besiroglu et al. 2024, arXiv 2404.10102: a fit of the points of Hoffmann's figure 4",
)  # fmt: skip
"""The refit agrees with the rule of 20 and with Hoffmann's approaches 1 and 2; the published parametric fit
asks for more tokens at large budgets."""

FITS = (HOFFMANN, BESIROGLU)
RULE = "20 tokens per parameter"


def optima(
    *, flops: float | None = None, parameters: float | None = None, tokens: float | None = None
) -> list[Optimum]:
    """The optimum by the rule of 20 and by both fits, for exactly one given quantity."""
    if flops is not None:
        by_rule = math.sqrt(flops / 6 / TOKENS_PER_PARAMETER)
        found = [fit.optimum(flops) for fit in FITS]
    elif parameters is not None:
        by_rule = parameters
        found = [fit.for_parameters(parameters) for fit in FITS]
    elif tokens is not None:
        by_rule = tokens / TOKENS_PER_PARAMETER
        found = [fit.for_tokens(tokens) for fit in FITS]
    else:
        raise ValueError("give flops, parameters or tokens")
    rule = Optimum(
        law=RULE,
        parameters=by_rule,
        tokens=TOKENS_PER_PARAMETER * by_rule,
        flops=6 * TOKENS_PER_PARAMETER * by_rule**2,
    )
    return [rule, *found]


def effective_tokens(distinct: float, total: float) -> float:
    """How many fresh tokens ``total`` tokens over ``distinct`` ones are worth.

    ``D' = U + U R* (1 - exp(-R / R*))`` with ``R`` repetitions, the epochs but the first (Muennighoff et al.
    2023, equation 5).
    """
    if total <= distinct:
        return total
    repetitions = total / distinct - 1
    return distinct * (1 + HALF_LIFE_EPOCHS * (1 - math.exp(-repetitions / HALF_LIFE_EPOCHS)))
