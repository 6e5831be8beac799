"""``headwater pack``: a mixture, a split, and a stage of a run, as the command says them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.cli import main
from headwater.lake import Lake

pytest.importorskip("tokenizers")

from pack_lake import byte_tokenizer, curate, log_run, mix, write_base

LENGTHS = {f"{'ab'[i % 2]}{i}": 20 + i for i in range(30)}
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    write_base(lake, LENGTHS)
    curate(lake, LENGTHS)
    mix(lake, {s: (share, 3, [n for n in LENGTHS if n[0] == s]) for s, share in (("a", 0.75), ("b", 0.25))})
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer())
    return lake


@pytest.fixture
def call(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["--lake", lake.uri, "--target", "dev", "pack", "--allow-unapproved", *arguments])
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), " ".join(captured.err.split())

    return run


def test_pack_says_what_it_did(lake: Lake, call: Call, tmp_path: Path) -> None:
    tokenizer = str(tmp_path / "tokenizer.json")
    order = ["mix", "--tokenizer", tokenizer, "--sequence-length", "16", "--hold-out", "0.1"]
    code, out, _ = call(*order, "--tokens-total", "1000")
    assert code == 0 and "part a: share 0.75 asked, 0.75 got, 750 tokens" in out
    assert "held out by single documents" in out and "dev.held_out@1" in out
    log_run(
        lake, "pretrain", [(lake.table("sequences"), 0, [(0, 8, None), (8, 8, "skipped")])], checkpoints=[2]
    )
    code, out, _ = call(
        "mix", "--after", "pretrain", "--sequence-length", "32", "--method", "best-fit", "--json"
    )
    report = json.loads(out)
    assert code == 0 and report["stage"] == 1 and report["warning"] is None
    assert sum(row["consumed_tokens"] for row in report["account"]) == 8 * 16
    code, out, _ = call("mix", "--after", "pretrain@1", "--sequence-length", "32")
    assert code == 0 and "all sources: 128 tokens of" in out and "no checkpoint at step 1 (nearest: 2)" in out
    code, out, _ = call(
        "--name", "plain", "--tokenizer", str(report["tokenizer_id"]), "--limit-tokens", "100"
    )
    assert code == 0 and "dev.plain@1" in out and lake.exists("plain_exposures")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mix", "--tokens-total", "100000"], "part 'a' cannot fill its share"),
        (["mix", "--limit-tokens", "10"], "tokens_total keeps them exact"),
        (["--after", "nobody"], "no training run is on record"),
        (["--hold-out", "1"], "--hold-out"),
        (["--control", "mood"], "unknown column 'mood'"),
    ],
)  # fmt: skip
def test_wrong_use_is_told(call: Call, tmp_path: Path, arguments: list[str], says: str) -> None:
    code, _, err = call(*arguments, "--tokenizer", str(tmp_path / "tokenizer.json"))
    assert code == 2 and says in err
