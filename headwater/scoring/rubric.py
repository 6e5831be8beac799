"""What annotators judge by, and which part of a text they are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import xxhash

from headwater.educational import RUBRIC
from headwater.errors import BadInput

MAX_CHARS, HEAD_CHARS, TAIL_CHARS = 12_000, 9_000, 2_500
"""Of a text longer than the first, so many characters of its beginning and its end are judged."""
MAX_RUBRIC_BYTES = 100_000


@dataclass(frozen=True)
class Rubric:
    """A rubric's text. Labels name it by its digest: scores by another rubric are other scores."""

    text: str

    @classmethod
    def read(cls, path: str | Path | None = None) -> Rubric:
        """The rubric in a file; without one, that of ``headwater/educational``."""
        file = Path(path) if path is not None else RUBRIC
        try:
            if file.stat().st_size > MAX_RUBRIC_BYTES:
                raise BadInput(f"the rubric {file} has more than {MAX_RUBRIC_BYTES:,} bytes")
            text = file.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read the rubric {file}: {error}") from None
        if not text.strip():
            raise BadInput(f"the rubric {file} is empty", hint="say what each score from 0 to 5 means")
        return cls(text)

    @property
    def digest(self) -> str:
        """16 hex digits of its text."""
        return xxhash.xxh3_64_hexdigest(self.text.encode())


def judged_part(text: str) -> str:
    """What of a text is judged: all of it, or its beginning and its end."""
    if len(text) <= MAX_CHARS:
        return text
    left_out = len(text) - HEAD_CHARS - TAIL_CHARS
    return f"{text[:HEAD_CHARS]}\n\n[... {left_out:,} characters left out ...]\n\n{text[-TAIL_CHARS:]}"
