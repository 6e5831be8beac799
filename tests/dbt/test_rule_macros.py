"""The rule macros in a dbt repository of one's own: real dbt, real golden documents, decisions in the lake."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from dbt_documents import documents

import headwater as hw

Dbt = Callable[..., subprocess.CompletedProcess[str]]

GOLDEN = Path(__file__).parents[1] / "golden"

SIGNALS = """
{{ config(materialized="lance", meta={"rows_of": "raw.documents"}) }}
select doc_id, text_hash, w.*, c.*, web_stats(text, variant := 'dolma') as dolma
from (
    select doc_id, text_hash, text, web_stats(text) as w, c4_stats(text) as c from {{ source('corpus', 'documents') }}
)
"""
WEB = """
{{ config(materialized="lance", meta={"candidates": "raw.documents"}) }}
select
    d.doc_id,
    d.path,
    {{ headwater.gopher_quality(except=['stop_words'], min_words=40) }},
    {{ headwater.gopher_repetition() }},
    {{ headwater.fineweb() }},
    {{ headwater.c4('fineweb') }},
    {{ headwater.dolma(signals='s.dolma', except=['dup_10_gram']) }}
from {{ source('corpus', 'documents') }} d left join {{ ref('rule_signals') }} s using (doc_id)
"""


def test_rules_decide_in_a_lake(lake: hw.Lake, dbt: Dbt, project: Path) -> None:
    entries = json.loads((GOLDEN / "documents.json").read_text(encoding="utf-8"))
    recorded = json.loads((GOLDEN / "datatrove_decisions.json").read_text(encoding="utf-8"))["decisions"]
    texts = {e["id"]: "".join(part * times for part, times in e["parts"]) for e in entries[::3]}
    lake.write("raw.documents", documents([(name, text, "MIT") for name, text in texts.items()]))
    models = project / "models"
    (models / "rule_signals.sql").write_text(SIGNALS)
    (models / "web_rules.sql").write_text(WEB)
    done = dbt("build", "--select", "rule_signals", "web_rules")
    assert done.returncode == 0, done.stdout + done.stderr
    paths = {
        row["doc_id"]: row["path"]
        for row in lake.table("raw.documents").to_arrow(["doc_id", "path"]).to_pylist()
    }
    decided = lake.table("decisions").to_arrow().to_pylist()
    assert len(decided) + lake.table("web_rules").to_arrow(["doc_id"]).num_rows == len(texts)
    families = {"gopher": ("gopher_repetition",), "fineweb": ("fineweb",)}
    compared = 0
    for row in decided:
        name = paths[row["doc_id"]]
        assert "gopher_stop_words" not in row["failed"] and not row["unknown"]
        for prefix, names in families.items():
            for family in names:
                for rule, kept in recorded[name][family].items():
                    if kept is not None:
                        assert (f"{prefix}_{rule}" in row["failed"]) is not kept, (name, rule)
                        compared += 1
    assert compared > 500
    rules = {row["rule"]: row for row in lake.table("rules").to_arrow().to_pylist()}
    assert rules["gopher_min_words"]["columns"] == ["gopher_words"]
    assert "40" in rules["gopher_min_words"]["expression"]
    assert pa.types.is_struct(lake.table("rule_signals").schema.field("dolma").type)

    (models / "wrong.sql").write_text(
        "select {{ headwater.gopher_quality(except=['stopwords']) }} from {{ source('corpus', 'documents') }}"
    )
    done = dbt("compile", "--select", "wrong")
    assert done.returncode != 0
    assert "gopher has no rule 'stopwords'; it has: min_words, max_words" in done.stdout
