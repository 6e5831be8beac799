"""The models of embeddings in another dbt project: two stages, incremental."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dbt_documents import documents
from embedding_models import WORDS, static_folder

import headwater as hw

pytest.importorskip("tokenizers")

ROOT = Path(__file__).parents[2]
Dbt = Callable[..., subprocess.CompletedProcess[str]]
ROWS = [(f"{i}", " ".join(WORDS[i : i + 4]), "MIT") for i in range(20)]


def test_two_stages(lake: hw.Lake, dbt: Dbt, project: Path) -> None:
    for name in (
        "pipelines/embeddings",
        "pipelines/strong_embeddings",
        "sql/models/embedded/strong_candidates",
        "sql/models/sources/lake",
    ):
        for file in (ROOT / name).parent.glob(f"{(ROOT / name).name}.*"):
            shutil.copy(file, project / "models")
    cheap = static_folder(project / "models_" / "cheap")
    strong = static_folder(project / "models_" / "strong", seed=1, dimensions=8)
    given = {
        "embeddings": True,
        "embedding_model": str(cheap),
        "embedding_device": "",
        "strong_embeddings": True,
        "strong_embedding_model": str(strong),
        "strong_embeddings_of": "embeddings",
        "strong_embeddings_limit": 5,
    }

    def build(**changed: object) -> subprocess.CompletedProcess[str]:
        models = ("embeddings", "strong_candidates", "strong_embeddings")
        return dbt("build", "--select", *models, "--vars", json.dumps({**given, **changed}))

    lake.write("raw.documents", documents(ROWS))
    done = build()
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert lake.table("embeddings").num_rows == 20 and lake.table("strong_embeddings").num_rows == 5
    assert lake.table("strong_embeddings").schema.field("embedding").type.list_size == 8
    few = set(lake.table("strong_embeddings").to_arrow()["doc_id"].to_pylist())
    lake.write("raw.documents", documents([*ROWS, ("late", "a token of a table", "MIT")]))
    assert build(strong_embeddings_limit=9).returncode == 0
    table = lake.table("embeddings")
    assert table.num_rows == 21 and table.provenance.extra["texts_embedded"] == 1
    more = set(lake.table("strong_embeddings").to_arrow()["doc_id"].to_pylist())
    assert (
        len(more) == 9 and len(few - more) <= 1
    )  # a larger sample keeps a smaller one's, but for the new one
    assert lake.table("strong_embeddings").provenance.extra["texts_embedded"] <= 5
