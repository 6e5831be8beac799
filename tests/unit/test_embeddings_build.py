"""The tables of embeddings: an increment equals a rebuild, a text is embedded once, a killed run goes on."""

from __future__ import annotations

import subprocess
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from embedding_models import WORDS, documents, static_folder

import headwater as hw
from headwater.embedding import build, load_model
from headwater.embedding.build import EmbeddingsBuild, embedding_schema, vectors_of
from headwater.errors import BadInput, CommitConflict, DataMismatch, UsageError
from headwater.lake import Provenance
from headwater.models import ModelSpec, materialize
from headwater.operators import register_all
from headwater.progress import LINE_SECONDS, Progress, listening
from headwater.session import Session

pytest.importorskip("tokenizers")

ROWS = [(f"f{i}.py", " ".join(WORDS[i : i + 5])) for i in range(30)]
ROWS += [("copy.py", ROWS[0][1]), ("empty.py", ""), ("long.py", "tree " * 9_000)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(static_folder(tmp_path_factory.mktemp("m") / "toy"))


@pytest.fixture
def lake(tmp_path):
    lake = hw.Lake(tmp_path / "lake")
    lake.write("raw.documents", documents(ROWS))
    return lake


def run(lake, model, *, name="dev.embeddings", only=None, **options):
    """What a dbt build does with the model, without dbt."""
    inputs = ("raw.documents", *([only] if only else []))
    source = f"the code {options.pop('code', '')}"
    spec = ModelSpec(
        name=name, sql=None, source=source, inputs=inputs, full_refresh=options.pop("refresh", False)
    )
    session = Session(lake, threads=1)
    session.pin_all()
    con = duckdb.connect()
    try:
        register_all(con)
        session.register_all(con)
        session.create_views(con)
        frame = EmbeddingsBuild(lake.table("raw.documents"), model, only=lake.table(only) if only else None)
        return materialize(session, con, spec, frame)
    finally:
        con.close()


class Counting:
    """A model that counts what it embeds, and may break."""

    def __init__(self, model, fail_after=None):
        self.__dict__ |= {"_model": model, "texts": [], "fail_after": fail_after}

    def __getattr__(self, name):
        return getattr(self._model, name)

    def embed(self, texts, progress=None):
        if self.fail_after is not None and len(self.texts) >= self.fail_after:
            raise KeyboardInterrupt
        self.texts.extend(texts.to_pylist())
        found = self._model.embed(texts, progress)
        if progress is not None:
            progress(len(texts))
        return found


@pytest.fixture
def counting(monkeypatch):
    models = []

    def load(name, device=None, *, fail_after=None):
        models.append(Counting(load_model(name, device), counting.fail_after))
        return models[-1]

    def counting():
        return [text for each in models for text in each.texts]

    counting.fail_after = None
    counting.clear = models.clear
    monkeypatch.setattr(build, "load_model", load)
    return counting


def test_the_table_is_what_the_model_says(lake, model):
    result = run(lake, model)
    assert result.status == "built" and result.rows == len(ROWS)
    assert "1 cut after 8,192 tokens" in result.message and "32 texts embedded" in result.message
    table = lake.table("embeddings")
    assert table.schema == embedding_schema(16)
    rows = table.to_arrow()
    base = lake.table("raw.documents").to_arrow()
    assert rows["doc_id"].equals(base["doc_id"]) and rows["text_hash"].equals(base["text_hash"])
    vectors = vectors_of(rows["embedding"].combine_chunks())
    np.testing.assert_allclose(vectors, load_model(model).encode(base["text"]), atol=1e-6)
    assert not vectors[31].any() and np.isfinite(vectors).all()
    assert set(rows["model"].to_pylist()) == {load_model(model).id}
    assert table.provenance.extra["texts_embedded"] == 32


def test_an_increment_equals_a_rebuild_and_embeds_only_what_is_new(lake, model, counting, tmp_path):
    run(lake, model)
    assert sorted(counting()) == sorted({text[: 8192 * 32] for _, text in ROWS})  # equal texts once
    assert run(lake, model).status == "unchanged"
    counting.clear()
    changed = [
        *ROWS[3:],
        ("new.py", "a new text of a tree"),
        ("again.py", ROWS[5][1]),
        ("f1.py", "now another"),
    ]
    lake.write("raw.documents", documents(changed))
    result = run(lake, model)
    assert result.status == "extended" and result.rows == len(changed)
    assert sorted(counting()) == ["a new text of a tree", "now another"]  # and not the text that is there
    assert "known already" in result.message
    whole = hw.Lake(tmp_path / "other")
    whole.write("raw.documents", documents(changed))
    run(whole, model)
    assert lake.table("embeddings").digest == whole.table("embeddings").digest
    lake.write("raw.documents", documents(changed[::-1]))  # another order, another version, the same rows
    assert run(lake, model).status == "unchanged"
    lake.write("raw.documents", documents([]))
    assert run(lake, model).rows == 0


def test_another_model_rebuilds_and_another_request_does_not(lake, model, counting, tmp_path):
    run(lake, model)
    before = lake.table("embeddings")
    counting.clear()
    result = run(lake, model, code="written otherwise")
    assert result.status == "built" and counting() == []
    assert "no text embedded, 32 known already" in result.message
    assert lake.table("embeddings").digest == before.digest
    assert (
        run(lake, model, code="written otherwise", refresh=True).status == "built" and len(counting()) == 32
    )
    counting.clear()
    other = str(static_folder(tmp_path / "other" / "toy", seed=1))
    assert run(lake, other, code="written otherwise").status == "built"
    assert len(counting()) == 32 and lake.table("embeddings").digest != before.digest
    wider = str(static_folder(tmp_path / "wider" / "toy", dimensions=8))
    assert run(lake, wider).status == "built" and lake.table("embeddings").schema == embedding_schema(8)


def test_a_model_that_was_trained_again_under_its_name_rebuilds(lake, tmp_path):
    folder = static_folder(tmp_path / "toy")
    run(lake, str(folder))
    assert run(lake, str(folder)).status == "unchanged"
    other = static_folder(tmp_path / "other", seed=3)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    assert run(lake, str(folder)).status == "built"


def test_only_what_is_still_in(lake, model, counting):
    ids = lake.table("raw.documents").to_arrow(["doc_id"])
    lake.write("dev.strong_candidates", ids.slice(0, 4))
    result = run(lake, model, name="dev.strong_embeddings", only="dev.strong_candidates")
    assert result.rows == 4 and len(counting()) == 4
    lake.write("dev.strong_candidates", pa.concat_tables([ids.slice(2, 4), ids.slice(2, 1)]))
    counting.clear()
    result = run(lake, model, name="dev.strong_embeddings", only="dev.strong_candidates")
    assert (result.status, result.rows) == ("extended", 4) and sorted(counting()) == sorted(
        text for _, text in ROWS[4:6]
    )
    found = lake.table("strong_embeddings").to_arrow()["doc_id"].to_pylist()
    assert sorted(found) == sorted(ids["doc_id"].to_pylist()[2:6])
    lake.write("dev.strong_candidates", pa.table({"doc_id": pa.array([b"\0" * 16], pa.binary(16))}))
    with pytest.raises(DataMismatch, match="1 of the 1 documents"):
        run(lake, model, name="dev.strong_embeddings", only="dev.strong_candidates")


def test_a_killed_run_goes_on_where_it_was(lake, model, counting, monkeypatch):
    monkeypatch.setattr(build, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(build, "GROUP_TEXTS", 1)
    monkeypatch.setattr("headwater.row_tasks.SCAN_SHARE", 0)
    monkeypatch.setattr("headwater.lake.table.BATCH_ROWS", 5)
    counting.fail_after = 20
    with pytest.raises(KeyboardInterrupt):
        run(lake, model)
    assert not lake.exists("embeddings")  # one version or nothing
    kept = lake.table("embeddings_unfinished")
    assert kept.num_rows == 20 and kept.provenance.kind == "unfinished"
    counting.fail_after = None
    counting.clear()
    result = run(lake, model)
    assert result.status == "built" and len(counting()) == 12 and "20 known already" in result.message
    assert not lake.exists("embeddings_unfinished")
    vectors = vectors_of(lake.table("embeddings").to_arrow()["embedding"].combine_chunks())
    expected = load_model(model).encode(lake.table("raw.documents").to_arrow()["text"])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


KILLED = """
import os, signal, sys
from headwater.embedding import build, load_model
from headwater.lake import Lake, Provenance

class Killed:
    done = 0
    def __init__(self, model): self.model = model
    def __getattr__(self, name): return getattr(self.model, name)
    def embed(self, texts, progress=None):
        if Killed.done >= 20: os.kill(os.getpid(), signal.SIGKILL)
        Killed.done += len(texts)
        return self.model.embed(texts, progress)

build.SAVE_SECONDS, build.GROUP_TEXTS = -1.0, 1
build.load_model = lambda name, device=None: Killed(load_model(name, device))
import headwater.lake.table
headwater.lake.table.BATCH_ROWS = 5
lake = Lake(sys.argv[1])
made = build.EmbeddingsBuild(lake.table("raw.documents"), sys.argv[2])
made.publish(lake, "dev.embeddings", None, Provenance())
"""


def test_a_process_that_is_killed_leaves_what_it_had(lake, model, counting):
    done = subprocess.run([sys.executable, "-c", KILLED, lake.uri, model], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert not lake.exists("embeddings") and lake.table("embeddings_unfinished").num_rows == 20
    assert run(lake, model).status == "built" and len(counting()) == 12
    assert not lake.exists("embeddings_unfinished")


def test_what_another_model_left_unfinished_is_not_used(lake, model, counting, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(build, "GROUP_TEXTS", 1)
    monkeypatch.setattr("headwater.lake.table.BATCH_ROWS", 5)
    counting.fail_after = 20
    for seed, dimensions in ((5, 16), (6, 8)):
        other = str(static_folder(tmp_path / str(seed), seed=seed, dimensions=dimensions))
        with pytest.raises(KeyboardInterrupt):
            run(lake, other)
    counting.fail_after = None
    counting.clear()
    run(lake, model)
    assert len(counting()) == 32


def test_a_table_that_moved_meanwhile_is_not_overwritten(lake, model, monkeypatch):
    run(lake, model)
    lake.write("raw.documents", documents([*ROWS, ("n.py", "new words")]))

    def slow(name, device=None):
        found = lake.table("embeddings")
        lake.rerecord("embeddings", Provenance())
        assert lake.table("embeddings").version == found.version + 1
        return load_model(name, device)

    monkeypatch.setattr(build, "load_model", slow)
    with pytest.raises(CommitConflict, match="moved from version 1 to 2"):
        run(lake, model)


def test_bad_input(lake, model, tmp_path):
    with pytest.raises(BadInput, match="no folder"):
        run(lake, str(tmp_path / "none"))
    assert not lake.exists("embeddings")
    lake.write("raw.documents", pa.table({"doc_id": pa.array([b"\0" * 16], pa.binary(16))}))
    with pytest.raises(UsageError, match="no column text_hash"):
        run(lake, model)


def test_progress_is_told(capsys, monkeypatch):
    heard: list[tuple[str, str]] = []
    progress = Progress("dev.embeddings", 100, "texts")
    with listening(lambda *said: heard.append(said)):
        progress(0)
        progress(50)  # too soon after the first
    assert heard == [("dev.embeddings", heard[0][1])] and heard[0][1].startswith("0 of 100 texts, 0.0/s")
    assert not capsys.readouterr().err
    progress._told = progress._printed = -LINE_SECONDS
    progress.started -= 10
    progress(50)
    assert "dev.embeddings: 50 of 100 texts, 5.0/s, 10 s left" in capsys.readouterr().err
