"""``headwater trace`` and ``headwater release`` as a person types them, over a lake whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from trace_lake import LENGTH, doc, log_attempt, make, steps, write_order

from headwater.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A lake with one run of five steps, and a way to run the command over it from an empty folder."""
    texts = {"a": "alpha needle", "b": "beta", "w1": "needle \x1b[31mred", "w2": "gone needle"}
    lake = make(tmp_path / "lake", list(texts), texts)
    order = write_order(
        lake, [[(n, 0, LENGTH, e, f)] for n, e, f in [("a", 0, 0), ("b", 0, 1), ("w1", 0, 0), ("a", 1, 0)]]
    )
    log_attempt(lake, order, 1, 0, steps(1, 4), (1, 2, 4))
    saved = tmp_path / "runs" / "r" / "step-00000004"
    saved.mkdir(parents=True)
    (saved / "state.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str, lake: bool = True) -> tuple[int, str, str]:
        code = main([*(["--lake", "lake"] if lake else []), *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_step(run: Run) -> None:
    code, out, _ = run("trace", "--step", "4")
    assert code == 0 and "step 4 of r" in out and "code/a.txt" in out
    assert "pass" in out  # the second one
    assert json.loads(run("trace", "--step", "2", "--json")[1])["documents"][0]["form"] == "PSM"


def test_a_document_and_the_cost_of_a_replay(run: Run) -> None:
    code, out, _ = run("trace", "--doc", doc("w1").hex()[:10])
    assert code == 0 and "web/w1.txt" in out and "seen in steps: 3" in out
    assert "last checkpoint without it: step 2, r/step-00000002" in out
    assert "a replay without it from step 2 to step 4: 2 steps, 32 tokens, 0.32 s" in out
    assert "r/step-00000002 is no longer in the folder of runs" in out
    found = json.loads(run("trace", "--doc", doc("a").hex(), "--json")[1])
    assert found["runs"][0]["epochs"] == 2 and found["runs"][0]["first_exposure"] == 1


def test_a_takedown_is_answered_with_checkpoint_names(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("trace", "--where", "source = 'web'")
    assert code == 0 and "2 documents asked about, 1 of them packed" in out
    assert "r/step-00000004" in out and "last checkpoint clean of all: step 2" in out
    (tmp_path / "ids").write_text(f"{doc('b').hex()}\n")
    both = json.loads(run("trace", "--docs", "ids", "--doc", doc("w1").hex(), "--json")[1])
    assert both["asked"] == 2 and both["runs"][0]["steps"] == [2, 3]
    assert both["runs"][0]["checkpoints"] == [
        [1, "r/step-00000001", 0],
        [2, "r/step-00000002", 1],
        [4, "r/step-00000004", 2],
    ]
    assert (
        json.loads(run("trace", "--doc", doc("w2").hex(), "--doc", doc("b").hex(), "--json")[1])["packed"]
        == 1
    )


def test_a_checkpoint(run: Run) -> None:
    code, out, _ = run("trace", "--checkpoint", "runs/r/step-00000004")
    assert (
        code == 0
        and "saw 3 documents, 64 tokens in 4 sequences of 4 steps" in out
        and "pass 2: 25.0 %" in out
    )
    found = json.loads(run("trace", "--checkpoint", "r@last", "--json")[1])
    assert len(found["document_ids"]) == 3 and found["tokens_by_source"] == {"code": 48, "web": 16}
    assert run("trace", "--checkpoint", "r@2", "--doc", doc("w1").hex())[1].startswith(
        "no: the checkpoint of step 2"
    )
    yes = json.loads(run("trace", "--checkpoint", "r@4", "--where", "source = 'web'", "--json")[1])
    assert yes["saw"] and yes["steps"] == [3] and yes["document_ids"] == [doc("w1").hex()]
    assert run("trace", "--checkpoint", "r@1", "--text", "needle")[1].startswith("yes")


def test_a_text(run: Run) -> None:
    code, out, _ = run("trace", "--text", "needle")
    assert code == 0 and "3 documents contain the text, 2 of them packed" in out and "MB/s" in out
    assert "\x1b[31m" not in out and "\\x1b[31mred" in out
    assert "in 2 steps, first 1, last 4, of r" in out
    found = json.loads(run("trace", "--text", "needle", "--where", "source = 'web'", "--json")[1])
    assert [hit["path"] for hit in found["hits"]] == ["w1.txt"] and found["trace"]["runs"][0]["steps"] == [3]
    assert "0 documents contain the text" in run("trace", "--text", "nowhere")[1]


def test_wrong_use_is_told(run: Run) -> None:
    for arguments, match in (
        ([], "nothing to trace"),
        (["--step", "1", "--doc", "x"], "--step goes with --run alone"),
        (["--step", "9"], "has logged no step 9"),
        (["--where", "nope = 1"], "--where cannot be run"),
        (["--text", ""], "is empty"),
        (["--docs", "none"], "cannot read ids"),
        (["--checkpoint", "r"], "does not name a checkpoint"),
        (["--checkpoint", "r@3"], "unknown checkpoint"),
        (["--doc", doc("w2").hex()], "no packed document begins with"),
    ):
        code, _, err = run("trace", *arguments)
        assert code == 2 and match in err, arguments
    for arguments, match in (
        ([], "give RUN and --out"),
        (["r"], "give RUN"),
        (["r", "--verify", "x"], "stands alone"),
    ):
        code, _, err = run("release", *arguments)
        assert code == 2 and match in err


def test_a_release_and_its_check(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("release", "r", "--out", "open", "-q")
    assert code == 0 and "order dev.sequences@1: 4 sequences" in out and "left out: text" in out
    code, out, _ = run("release", "--verify", "open", lake=False)
    assert code == 0 and "open is whole" in out and "needs the lake" in out
    code, out, _ = run("release", "--verify", "open")
    assert code == 0 and "was held against the table's" in out
    (tmp_path / "open" / "DATA_CARD.md").write_text("better data")
    code, out, _ = run("release", "--verify", "open", "--json")
    assert code == 1 and json.loads(out)["problems"][0].startswith("DATA_CARD.md: has 11 bytes")
    assert run("release", "r", "--out", "open")[0] == 2
