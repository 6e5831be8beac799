"""Rules and columns about personal data: their values and texts are never spelled out.

A record of why something was removed must not repeat what was to be removed.
"""

from __future__ import annotations

import re

WITHHELD = "(withheld)"
_NAMES = re.compile(r"(^|_)(pii|secrets?|emails?|phones?|ip_address(es)?)(_|$)")


def is_private(name: str) -> bool:
    """Whether a rule or column of this name is about personal data or secrets."""
    return bool(_NAMES.search(name.rstrip("?")))
