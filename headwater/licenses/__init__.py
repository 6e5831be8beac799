"""Licenses: what a declaration means, what a file says, and the tier of it under a policy that is data."""

from headwater.licenses.declared import MAX_DECLARED_CHARS, conclude, normalize, shorten
from headwater.licenses.policy import TIERS, UNKNOWN, load_policy, tier

__all__ = [
    "MAX_DECLARED_CHARS",
    "TIERS",
    "UNKNOWN",
    "conclude",
    "load_policy",
    "normalize",
    "shorten",
    "tier",
]
