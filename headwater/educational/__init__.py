"""Labels for the educational value of Python files: ``labels.csv``, scored against ``rubric.md``.

432 files of the standard library and of permissively licensed packages, a third and two thirds, chosen by a
seeded hash in equal numbers from terciles of size and of commented share; at most eight of a package, near
copies once, generated files left out. A language model read each file and gave the score and the reason;
no person did. It read 60 of them a second time without sight of the first scores: see
``docs/reference/educational-labels.md`` for how far the two agree.
"""

from pathlib import Path

LABELS = Path(__file__).with_name("labels.csv")
"""Columns ``text_hash`` (xxh3-128 of the text, hex), ``source``, ``path``, ``score`` (0 to 5),
``second_score`` (of the second reading, or empty), ``reason``."""

RUBRIC = Path(__file__).with_name("rubric.md")
