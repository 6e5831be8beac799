"""Rules and columns about personal data: their values and texts are never spelled out.

A record of why something was removed must not repeat what was to be removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WITHHELD = "(withheld)"
PRIVATE_NAMES = (
    r"(^|_)(pii|personal|secrets?|emails?|phones?|ip_address(es)?|credit_cards?|ibans?|passwords?"
    r"|private_keys?)(_|$)"
)
_NAMES = re.compile(PRIVATE_NAMES)


def is_private(name: str) -> bool:
    """Whether a rule or column of this name is about personal data or secrets."""
    return bool(_NAMES.search(name.rstrip("?")))


def is_private_rule(rule: str, columns: Iterable[str]) -> bool:
    """Whether a rule is about personal data or secrets: by its own name, or by a column it looks at."""
    return is_private(rule) or any(is_private(column) for column in columns)
