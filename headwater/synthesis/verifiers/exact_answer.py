"""The final answer of a text, normalized, equals the expected one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from headwater.errors import UsageError
from headwater.synthesis.verifiers import PASSED, Verdict

MARKERS = ("####", "answer is", "answer:", "=")
"""What a final answer follows, the surest first: GSM8K's ``####`` (arXiv 2110.14168), words, an equation."""

LONGEST_ANSWER = 1_000
"""Characters of a line that are looked at: an answer is short, and normalizing must not be a lever."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?")
_AROUND = " ,;:$*`'\""


class ExactAnswer:
    """Reward 1 where the text's answer is the expected one.

    The answer is what follows the last of the first of ``markers`` that the text has, to the end of its line;
    without any marker, the last line that is not empty. Both sides are normalized (:func:`normalized`).
    """

    name = "exact_answer"
    version = "1"

    def __init__(self, markers: Sequence[str] = MARKERS) -> None:
        if not all(isinstance(marker, str) and marker for marker in markers):
            raise UsageError(f"got markers {list(markers)!r}", hint="texts that a final answer follows")
        self.markers = tuple(marker.casefold() for marker in markers)

    def verify(self, pairs: Iterable[tuple[str, str]]) -> Iterator[Verdict]:
        for expected, text in pairs:
            yield self._judged(expected, text)

    def _judged(self, expected: str, text: str) -> Verdict:
        answer = self.answer(text)
        if not answer:
            return Verdict(reward=0.0, status="no answer")
        if normalized(answer) == normalized(expected):
            return Verdict(reward=1.0, status=PASSED)
        return Verdict(reward=0.0, status="wrong answer", detail=answer[:200])

    def answer(self, text: str) -> str:
        """The final answer as the text spells it, empty when there is none."""
        folded = text.casefold()
        if len(folded) != len(text):  # folding moved the places (ß): look in the text as it is
            folded = text
        for marker in self.markers:
            at = folded.rfind(marker)
            if at >= 0:
                rest = text[at + len(marker) :].strip().splitlines()
                return rest[0].strip() if rest else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def normalized(answer: str) -> str:
    """One spelling for answers that mean the same.

    Unicode NFKC, no case, white space as single spaces, without quotes, dollars and full stops around it.
    A number (``1,024``, ``+7``, ``0.50``, ``2/4``, ``007``) becomes an exact fraction in lowest terms; what
    only begins like a number stays text.
    """
    text = unicodedata.normalize("NFKC", answer[:LONGEST_ANSWER]).casefold().replace("\u2212", "-")
    text = " ".join(text.split()).lstrip(_AROUND).rstrip(_AROUND + ".")
    if any(c.isdigit() for c in text) and _NUMBER.fullmatch(text):
        try:
            numerator, _, denominator = text.replace(",", "").partition("/")
            return str(Fraction(numerator) / Fraction(denominator or 1))
        except (ValueError, ZeroDivisionError):
            return text
    return text
