"""Make ``scorer.safetensors``, the default of the operator ``edu_score``, from the labels beside it.

    python -m headwater.educational.make_scorer

It needs every labeled text: Python 3.11 with the packages of ``constraints.txt``. Then raise the version of
the operator, and make the golden scores again (``tests/golden/make_edu_scores.py``). The file holds the
cross-validated quality; ``docs/how-to/quality-scorer.md`` reports it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

from headwater.educational import LABELS, RUBRIC
from headwater.educational.texts import LabeledFile, labeled_files
from headwater.errors import DataMismatch
from headwater.scoring.artifact import SHIPPED, write
from headwater.scoring.folds import group_names
from headwater.scoring.rubric import Rubric
from headwater.scoring.training import REPEATS, Trained, train_ngrams


def train(found: list[LabeledFile], *, repeats: int = REPEATS) -> Trained:
    """The default scorer, from labeled files whose texts are there."""
    quality_of_labels = {"file": LABELS.name, "rubric": Rubric.read(RUBRIC).digest, "num_labels": len(found)}
    return train_ngrams(
        pa.array([file.text for file in found], pa.large_string()),
        [file.score for file in found],
        group_names([file.source for file in found], [file.path for file in found]),
        name="python",
        repeats=repeats,
        facts={"labels": quality_of_labels},
    )


def main() -> Path:
    """Write the file; DataMismatch where a text is missing."""
    files = labeled_files()
    found = [file for file in files if file.text is not None]
    if len(found) < len(files):
        raise DataMismatch(
            f"{len(files) - len(found)} of {len(files)} labeled texts are not on this machine",
            hint="use Python 3.11 and the versions of constraints.txt",
        )
    return write(train(found).scorer, SHIPPED["python"])


if __name__ == "__main__":
    sys.stdout.write(f"{main()}\n")
