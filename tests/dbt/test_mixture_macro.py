"""A mixture in SQL, built by real dbt and packed: shares exact in tokens, the split of SQL that of the packer."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from dbt_documents import documents

import headwater as hw

pytest.importorskip("tokenizers")

from headwater.sequences import pack
from headwater.tokenizer import train

Dbt = Callable[..., subprocess.CompletedProcess[str]]

GROUPS = """
{{ config(materialized="lance", alias="duplicate_clusters") }}
select doc_id, min(doc_id) over (partition by left(path, 2)) as cluster_id from {{ source('corpus', 'documents') }}
"""
SPLIT = """
{{ config(materialized="lance") }}
select doc_id, {{ headwater.held_out('cluster_id', 0.4) }} as is_held_out from {{ ref('groups') }}
"""
MIXED = """
{{ config(materialized="lance") }}
select m.* from {{ headwater.mixture({
    'long': {'from': source('corpus', 'documents'), 'where': 'text_bytes >= 40', 'share': 0.7, 'max_epochs': 3,
             'curriculum': 'text_bytes', 'control': "case when text_bytes > 60 then '<|it''s long|>' end"},
    'short': {'from': source('corpus', 'documents'), 'where': 'text_bytes < 40', 'share': 0.3, 'max_epochs': 1.5},
}) }} m join {{ ref('groups') }} using (doc_id)
"""
ROWS = [(f"{i:03}", f"{i} is a number, " * (i % 7 + 1), "MIT") for i in range(90)]


def test_a_mixture_is_built_and_packed(lake: hw.Lake, dbt: Dbt, project: Path) -> None:
    lake.write("raw.documents", documents(ROWS))
    for name, sql in {"groups": GROUPS, "split": SPLIT, "mixed": MIXED}.items():
        (project / "models" / f"{name}.sql").write_text(sql)
    done = dbt("run", "--select", "groups", "split", "mixed")
    assert done.returncode == 0, done.stdout + done.stderr
    tokenizer = project / "tokenizer.json"
    tokenizer.write_text(train([["a"]], 260))
    report = pack(
        lake, "mixed", tokenizer=tokenizer, sequence_length=32, hold_out=0.4, require_approved=False
    )

    path = {
        r["doc_id"]: r["path"] for r in lake.table("raw.documents").to_arrow(["doc_id", "path"]).to_pylist()
    }
    split = {path[r["doc_id"]]: r["is_held_out"] for r in lake.table("split").to_arrow().to_pylist()}
    order, held = (lake.table(t).to_arrow().to_pylist() for t in ("sequences", "held_out"))
    seen = {path[s["doc_id"]] for row in order for s in row["spans"]}
    kept_out = {path[s["doc_id"]] for row in held for s in row["spans"]}
    assert kept_out == {p for p, out in split.items() if out} and 10 < len(kept_out) < 80
    assert seen <= {p for p, out in split.items() if not out}
    assert len({split[p] for p in split if p[:2] == "01"}) == 1, "a cluster is on one side"

    tokens = Counter(s["source"] for row in order for s in row["spans"] for _ in range(s["length"]))
    assert sum(tokens.values()) == report.num_tokens
    assert abs(tokens["long"] - 0.7 * report.num_tokens) < 1 and set(tokens) == {"long", "short"}
    assert report.mixture["short"]["epochs"] <= 1.5 and report.mixture["long"]["epochs"] <= 3
    assert report.control_tokens == ["<|it's long|>"] and report.num_control > 0
    assert {"dev.mixed", "dev.tokens", "dev.duplicate_clusters"} == {
        ref.name for ref in lake.table("sequences").provenance.inputs
    }
    assert not pack(
        lake, "mixed", tokenizer=tokenizer, sequence_length=32, hold_out=0.4, require_approved=False
    ).changed


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ("{'a': {'from': 'x', 'share': 0.5}}", "the shares of a sum to 0.5, expected 1"),
        ("{'a': {'from': 'x', 'share': 1, 'weight': 2}}", "part 'a' has no setting 'weight'; it has: from, share"),
        ("{'a': {'share': 1}}", "part 'a' names no relation"),
        ("{'a': {'from': 'x', 'share': 1, 'max_epochs': 0}}", "part 'a' has max_epochs 0"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_mixture_is_told_when_it_is_compiled(
    dbt: Dbt, project: Path, parts: str, says: str
) -> None:
    (project / "models" / "wrong.sql").write_text("select * from {{ headwater.mixture(" + parts + ") }}")
    done = dbt("compile", "--select", "wrong")
    assert done.returncode != 0 and says in done.stdout, done.stdout
