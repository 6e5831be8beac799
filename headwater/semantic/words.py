"""Words that say nothing of a topic: of English, of programming languages, of what stands atop many files."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def stop_words() -> frozenset[str]:
    """The words of ``stop_words.txt``."""
    text = (Path(__file__).parent / "stop_words.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())
