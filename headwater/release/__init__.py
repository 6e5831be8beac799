"""A training run in one folder that can be published and checked: order, log, checkpoints, tokenizer, cards.

What the LLM360 project asks of an open run (every step's data, metrics and checkpoints), with the digests
that tie it to the lake's versions. Ids only, unless text is asked for.
"""

from headwater.release.bundle import ReleaseReport, release
from headwater.release.checkpoints import CHECKPOINTS
from headwater.release.verify import VerifyReport, verify

__all__ = ["CHECKPOINTS", "ReleaseReport", "VerifyReport", "release", "verify"]
