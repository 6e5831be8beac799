"""`headwater self-train` as it is typed: what is there, what was measured, and what is wrong with a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headwater.cli import main
from headwater.lake import Lake
from headwater.synthesis.self_training.page import render
from headwater.synthesis.self_training.results import BASE, CONTROL, RESULTS, ROUND, outcome, record


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three seeds of an experiment, written down without training."""
    lake = Lake(tmp_path / "lake")
    for seed in (0, 1, 2):
        for arm, number, passed in (
            (BASE, 0, 24 + seed),
            (CONTROL, 0, 26),
            (ROUND, 1, 60 + seed),
            (ROUND, 2, 80),
        ):
            row = dict.fromkeys(RESULTS.names)
            row |= {
                "loop_id": "0" * 16, "recipe": "<b>sums</b>", "seed": seed, "arm": arm, "round": number,
                "model": "m", "model_version": "v", "problems": 100, "passed": passed, "pass_at_1": passed / 100,
                "low": 0.1, "high": 0.9, "statuses": "{}", "trained_tokens": 1000, "settings": "{}",
            }  # fmt: skip
            if arm == ROUND:
                row |= {
                    "sampled": 400,
                    "right": 100,
                    "solved_problems": 60,
                    "kept_rows": 60,
                    "kept_tokens": 300,
                }
            record(lake, row)
            record(lake, row)  # once is enough
    return lake


def test_show_prints_means_intervals_and_seeds(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["self-train", "--show", "--lake", lake.uri]) == 0
    said = capsys.readouterr().out
    rows = {line.split("  ")[0]: line for line in said.splitlines()}
    assert "100 held-out problems" in said and "3 seeds" in said
    # 24, 25, 26: mean 25, half of the interval 4.303 * 1 / sqrt(3) = 2.48
    assert "25.0   2.5" in rows["base"]
    assert (
        "61.0   2.5" in rows["round 1"]
        and "+36.0   0.0" in rows["round 1"]
        and "+35.0   2.5" in rows["round 1"]
    )
    assert rows["round 2"].split()[-2:] == ["25.0", "60"]
    assert main(["self-train", "--show", "--lake", lake.uri, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 12


def test_the_page_shows_everything_and_runs_nothing(lake: Lake, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["self-train", "--show", "--lake", lake.uri, "--page", str(page), "--quiet"]) == 0
    html = page.read_text()
    assert html == render(outcome(lake)) and html.count("<svg") == 2
    assert "<b>sums" not in html and "&lt;b&gt;sums" in html and "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["self-train"], "no recipe"),
        (["self-train", "sortign"], "sorting"),
        (["self-train", "sorting", "--seeds", "a,b"], "no list of whole numbers"),
        (["self-train", "--show", "other"], "self-training experiment"),
    ],
)
def test_wrong_use(lake: Lake, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--lake", lake.uri]) == 2
    assert said in capsys.readouterr().err
