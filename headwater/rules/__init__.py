"""Data of the published rule sets that is not a threshold: word lists, exceptions of tokenizers."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def english_exceptions() -> tuple[tuple[str, ...], ...]:
    """Chunks that spaCy 3.8's English tokenizer (MIT) cuts its own way, as tokens: ``("ca", "n't")``.

    A chunk of one token is one that it leaves whole (``e.g.``, ``:-)``).
    """
    text = resources.files(__name__).joinpath("english_exceptions.txt").read_text(encoding="utf-8")
    return tuple(tuple(line.split(" ")) for line in text.split("\n") if line)
