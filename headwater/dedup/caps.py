"""Where listing every pair would grow with the square of the copies, and what is listed instead."""

from __future__ import annotations

from typing import NamedTuple

BUCKET_CAP = 512
"""Distinct shingle sets in a band bucket up to which all their pairs are candidates: at most 256 for each
member. Families of generated code in installed packages have up to some 300 distinct members."""
MAX_LEADERS = 32
"""Leaders in a larger bucket; each member is compared with all of them (10 ns each)."""
WINDOW = 2
"""Neighbors on one side in each of two orders: with two leaders, at most six candidates a member and band."""
GROUP_CAP = 64
"""Documents with equal shingle sets up to which all their pairs are listed."""
CROSS_CAP = 1024
"""Pairs between two groups of equal documents up to which all are listed."""


class Caps(NamedTuple):
    """The five limits together; tests make them small."""

    bucket: int = BUCKET_CAP
    leaders: int = MAX_LEADERS
    window: int = WINDOW
    group: int = GROUP_CAP
    cross: int = CROSS_CAP


CAPS = Caps()
