"""The report page, and the numbers behind it: ``write_report`` and ``funnel``.

Names load lazily: the command line takes its number formats from this package and must start fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.report.html import write_report
    from headwater.report.losses import Funnel, RuleLoss, funnel

_HOMES = {
    "Funnel": "headwater.report.losses",
    "RuleLoss": "headwater.report.losses",
    "funnel": "headwater.report.losses",
    "write_report": "headwater.report.html",
}

__all__ = ["Funnel", "RuleLoss", "funnel", "write_report"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'headwater.report' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
