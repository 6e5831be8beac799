"""A score as a control token in SQL, built by real dbt and packed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dbt_documents import documents

import headwater as hw

pytest.importorskip("tokenizers")

from headwater.sequences import pack
from headwater.tokenizer import load, train

Dbt = Callable[..., subprocess.CompletedProcess[str]]

SCORED = """
{{ config(materialized="lance") }}
with scored as (
  select doc_id, text_bytes, case when text_bytes % 10 = 0 then null else text_bytes % 10 end as score
  from {{ source('corpus', 'documents') }}
)
select *,
  {{ headwater.control_by_score('score', 5) }} as two,
  {{ headwater.control_by_score('score', {'<|fair|>': 3, "<|it's good|>": 8}, otherwise=none) }} as three,
  {{ headwater.control_by_score('score', 5, unmarked=0.5) }} as half
from scored
"""
WRONG = {
    "got no thresholds": "headwater.control_by_score('text_bytes', {})",
    "expected a number": "headwater.control_by_score('text_bytes', {'<|good|>': 'high'})",
    "expected a share": "headwater.control_by_score('text_bytes', 1, unmarked=1)",
}
ROWS = [(f"{i:03}", "x" * (i + 1), "MIT") for i in range(60)]


def test_a_score_becomes_a_token(lake: hw.Lake, dbt: Dbt, project: Path) -> None:
    lake.write("raw.documents", documents(ROWS))
    (project / "models" / "scored.sql").write_text(SCORED)
    done = dbt("run", "--select", "scored")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = lake.table("scored").to_arrow().to_pylist()
    for row in rows:
        score = row["score"]
        assert row["two"] == (None if score is None else "<|good|>" if score >= 5 else "<|bad|>")
        assert row["three"] == (
            None if score is None or score < 3 else "<|it's good|>" if score >= 8 else "<|fair|>"
        )
        assert row["half"] in (None, row["two"])
    unmarked = sum(row["half"] is None for row in rows)
    assert 15 < unmarked < 50
    tokenizer = project / "tokenizer.json"
    tokenizer.write_text(train([["x"]], 260))
    report = pack(lake, "scored", tokenizer=tokenizer, sequence_length=64, method="best-fit", control="two",
                  require_approved=False)  # fmt: skip
    assert report.control_tokens == ["<|bad|>", "<|good|>"] and report.num_control == 54
    encoder = load(lake, report.tokenizer_id)
    wanted = {row["doc_id"]: row["two"] for row in rows}
    for row in lake.table("sequences").to_arrow().to_pylist():
        at = 0
        for span in row["spans"]:
            token = wanted[span["doc_id"]]
            if token is not None and span["start"] == 0:
                assert row["tokens"][at] == encoder.special_id(token)
            at += span["length"]


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_threshold_is_told(dbt: Dbt, project: Path, message: str) -> None:
    sql = f"select doc_id, {{{{ {WRONG[message]} }}}} as token from {{{{ source('corpus', 'documents') }}}}"
    (project / "models" / "wrong.sql").write_text(sql)
    done = dbt("compile", "--select", "wrong")
    assert done.returncode != 0 and message in done.stdout + done.stderr
