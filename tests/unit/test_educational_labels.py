"""The label set is whole, follows its rubric's form, and agrees as its page says."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from headwater.educational import LABELS, RUBRIC

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "educational-labels.md"


@pytest.fixture(scope="module")
def labels() -> list[dict[str, Any]]:
    with LABELS.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_has_one_score_and_a_reason(labels: list[dict[str, Any]]) -> None:
    assert len(labels) == len({row["text_hash"] for row in labels}) == 432
    for row in labels:
        assert re.fullmatch(r"[0-9a-f]{32}", row["text_hash"])
        assert row["score"] in "012345" and row["second_score"] in ("", *"012345")
        assert 5 <= len(row["reason"]) <= 140 and row["reason"].isascii()
    stdlib = sum(row["source"] == "stdlib" for row in labels)
    assert stdlib == 144
    assert max(Counter(row["source"] for row in labels if row["source"] != "stdlib").values()) == 8


def test_the_page_says_what_the_labels_are(labels: list[dict[str, Any]]) -> None:
    text = PAGE.read_text()
    counts = Counter(int(row["score"]) for row in labels)
    assert "| files | " + " | ".join(str(counts[score]) for score in range(6)) + " |" in text
    twice = [(int(row["score"]), int(row["second_score"])) for row in labels if row["second_score"]]
    assert len(twice) == 60
    assert sum(a == b for a, b in twice) == 57 and max(abs(a - b) for a, b in twice) == 1
    assert "57 equal" in text and f"kappa {_kappa(twice):.2f}" in text


def test_the_rubric_has_every_score() -> None:
    assert re.findall(r"^\| (\d) \|", RUBRIC.read_text(), re.MULTILINE) == list("012345")


def _kappa(pairs: list[tuple[int, int]]) -> float:
    """Cohen's kappa with quadratic weights."""
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    seen = sum((a - b) ** 2 for a, b in pairs)
    chance = sum((a - b) ** 2 * first[a] * second[b] for a in first for b in second) / len(pairs)
    return 1 - seen / chance
