"""The training order as a table (contract C5): tokens, sequences with their spans, and the way back.

``pack`` turns a curated table or a mixture into ``tokens`` (once per tokenizer), ``sequences`` (one row per
training sequence), ``exposures`` (which sequences hold a document) and ``held_out`` (what the order does not
train on); after some of a run, into its next stage. It loads on first use: a trainer that only
reads sequences needs neither the packer nor its libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.sequences.build import PackReport, pack

__all__ = ["PackReport", "pack"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'headwater.sequences' has no attribute {name!r}")
    from headwater.sequences import build

    return getattr(build, name)
