"""Bands and rows from the threshold.

Two documents of Jaccard similarity ``s`` agree in one minimum with probability ``s``, in all ``r`` minima of
a band with ``s**r``, and meet in none of ``b`` bands with

    miss(s) = (1 - s**r) ** b

which falls with ``s``; so a pair at or above a threshold ``t`` is missed with at most ``miss(t)``. More
rows make fewer candidates to verify, more bands miss fewer. ``bands_for`` takes the most rows, and then the
fewest bands, with ``miss(t) <= 5e-4`` and ``b * r <= num_perm``:

    t     0.9     0.8     0.7     0.6     0.5       at 112 permutations
    b x r 14 x 8  20 x 5  28 x 4  32 x 3  27 x 2
    miss  4e-4    4e-4    5e-4    4e-4    4e-4

The field's 14 x 8 misses 0.08 of the pairs at 0.8, and 0.44 at 0.7.
"""

from __future__ import annotations

from math import exp, lgamma, log
from typing import NamedTuple

from headwater.errors import UsageError
from headwater.operators.minhash import NUM_PERM

THRESHOLD = 0.8
"""Default Jaccard similarity of near-duplicates (Lee et al., arXiv 2107.06499: edit similarity 0.8)."""

MISS_AT_THRESHOLD = 5e-4
"""Probability with which a pair exactly at the threshold may share no band. Pairs above it miss less, so that
recall over all wanted pairs is well above 0.9995."""

MISS_BY_ESTIMATE = 1e-6
"""Probability with which the signatures of a pair exactly at the threshold agree so little that the pair is
not verified."""


class Bands(NamedTuple):
    bands: int
    rows: int

    def miss(self, similarity: float) -> float:
        """Probability that two documents of this similarity share no band."""
        return float((1 - similarity**self.rows) ** self.bands)


def bands_for(threshold: float = THRESHOLD, num_perm: int = NUM_PERM) -> Bands:
    """The most rows, then the fewest bands, that miss at most MISS_AT_THRESHOLD at ``threshold`` (0 to 1].

    Raises UsageError where ``num_perm`` permutations cannot.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold must be above 0 and at most 1, got {threshold}")
    for rows in range(num_perm, 0, -1):
        for bands in range(1, num_perm // rows + 1):
            if Bands(bands, rows).miss(threshold) <= MISS_AT_THRESHOLD:
                return Bands(bands, rows)
    raise UsageError(
        f"{num_perm} permutations cannot find pairs at {threshold} with a miss rate of {MISS_AT_THRESHOLD}",
        hint="store signatures with a larger num_perm, or raise the threshold",
    )


def least_agreement(threshold: float, num_perm: int) -> int:
    """How many of ``num_perm`` minima a pair must share to be verified.

    The largest k with P(Binomial(num_perm, threshold) < k) <= MISS_BY_ESTIMATE.
    """
    if threshold >= 1:
        return num_perm
    below = 0.0
    for k in range(num_perm + 1):
        ways = lgamma(num_perm + 1) - lgamma(k + 1) - lgamma(num_perm - k + 1)
        below += exp(ways + k * log(threshold) + (num_perm - k) * log(1 - threshold))
        if below > MISS_BY_ESTIMATE:
            return k
    return num_perm
