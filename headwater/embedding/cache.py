"""Where computed models and vectors are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "HEADWATER_CACHE"


def cache_folder(*parts: str) -> Path:
    """``$HEADWATER_CACHE``, else ``~/.cache/headwater``, and a folder in it. May be deleted at any time."""
    chosen = os.environ.get(CACHE_VARIABLE)
    root = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "headwater"
    return root.joinpath(*parts)
