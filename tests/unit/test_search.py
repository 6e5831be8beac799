"""Search: both rankings and their fusion, indexes that change no table, what hits say, hostile queries."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from embedding_models import WORDS, documents, static_folder

import headwater as hw
from headwater.embedding.build import EmbeddingsBuild
from headwater.errors import BadInput, UnknownName, UsageError
from headwater.lake import Provenance
from headwater.search import build_indexes, index_states, indexes, search
from headwater.search.facts import LINE_CHARACTERS, piece
from headwater.search.run import _fused

pytest.importorskip("tokenizers")

TEXTS = {
    "tree.py": "# license\n\n\ndef find(tree):\n    return the binary tree search\n",
    "sort.py": "import a\n\ndef sortList(list): sort a list of python",
    "args.py": "def parse_command_line(argument):\n    '''parse command line argument'''\n",
    "empty.py": "",
    "hostile.py": "\x1b[31mred\x1b[0m [bold]search[/bold] " + "y" * 5_000 + " tree " + "z" * 5_000,
}
ANSWERS = {"parse", "command", "line", "argument", "binary", "tree", "search", "sort", "list"}
FILLING = [word for word in WORDS if word not in ANSWERS]
ROWS = [*TEXTS.items(), *((f"f{i}.py", " ".join(FILLING[i : i + 4])) for i in range(25))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(static_folder(tmp_path_factory.mktemp("m") / "toy"))


@pytest.fixture
def lake(tmp_path, model):
    return make_lake(tmp_path, model)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, model):
    """Read it only."""
    return make_lake(tmp_path_factory.mktemp("shared"), model)


def make_lake(folder, model):
    lake = hw.Lake(folder / "lake")
    lake.write("raw.documents", documents(ROWS))
    lake.index("raw.documents", "doc_id")
    embed(lake, model)
    return lake


def embed(lake, model, current=None):
    base = lake.table("raw.documents")
    EmbeddingsBuild(base, model).publish(lake, "dev.embeddings", current, Provenance(inputs=(base.ref,)))


def paths(report):
    return [hit.path for hit in report.hits]


def test_by_words_by_meaning_and_both(shared):
    assert paths(search(shared, "parse command line", mode="text", limit=1)) == ["args.py"]
    assert (
        paths(search(shared, "sort lists", mode="text"))[0] == "sort.py"
    )  # in an identifier, in another form
    by_meaning = search(shared, "parse command line argument", mode="vector", limit=3)
    assert "args.py" in paths(by_meaning)
    scores = [hit.score for hit in by_meaning.hits]
    assert scores == sorted(scores, reverse=True) and scores[0] <= 1.0001
    both = search(shared, "parse command line argument", limit=5)
    assert both.mode == "hybrid" and "args.py" in paths(both)[:2]
    hit = next(hit for hit in both.hits if hit.path == "args.py")
    assert hit.score == pytest.approx(1 / (60 + hit.vector_rank) + 1 / (60 + hit.text_rank), abs=1e-6)
    assert paths(search(shared, "parse command line argument", limit=5)) == paths(both)
    assert not both.notes and both.model.startswith("toy@")


def test_fusion():
    import numpy as np

    ids = [np.array([[0, i]], dtype=np.uint64) for i in range(4)]
    rankings = {
        "vector": (np.concatenate([ids[0], ids[1], ids[2]]), [0.9, 0.8, 0.7]),
        "text": (np.concatenate([ids[3], ids[1]]), [5.0, 4.0]),
    }
    order = [(place.doc_id[-1], place.vector_rank, place.text_rank) for place in _fused(rankings)]
    assert order == [(1, 2, 2), (0, 1, None), (3, None, 1), (2, 3, None)]


def test_indexes_change_no_table(lake, model, monkeypatch):
    monkeypatch.setattr(indexes, "VECTOR_ROWS", 5)
    before = {name: lake.table(name) for name in ("raw.documents", "dev.embeddings")}
    plain = [paths(search(lake, "binary tree search", mode=mode)) for mode in ("hybrid", "vector", "text")]
    states = build_indexes(lake)
    assert [(s.table, s.there, s.unindexed_rows) for s in states] == [
        ("raw.documents", True, 0), ("dev.embeddings", True, 0),
    ]  # fmt: skip
    for name, table in before.items():
        after = lake.table(name)
        assert after.version > table.version and after.digest == table.digest
        assert after.provenance == table.provenance and after.num_rows == table.num_rows
    versions = [lake.table(name).version for name in before]
    build_indexes(lake)  # nothing to do
    assert versions == [lake.table(name).version for name in before]
    again = [paths(search(lake, "binary tree search", mode=mode)) for mode in ("hybrid", "vector", "text")]
    assert [found[0] for found in again] == [found[0] for found in plain]
    assert set(again[2]) == set(plain[2])
    assert lake.table("raw.documents").has_id_index


def test_lancedb_uses_the_same_indexes(lake, model, monkeypatch):
    lancedb = pytest.importorskip("lancedb")
    from lancedb.query import MatchQuery

    from headwater.embedding import load_model

    monkeypatch.setattr(indexes, "VECTOR_ROWS", 5)
    build_indexes(lake)
    table = lancedb.connect(f"{lake.uri}/raw").open_table("documents")
    assert {index.index_type for index in table.list_indices()} == {"BTree", "FTS"}
    query = MatchQuery("parse command line", "text")
    assert table.search(query).select(["path"]).limit(1).to_list()[0]["path"] == "args.py"
    vectors = lancedb.connect(f"{lake.uri}/dev").open_table("embeddings")
    assert [index.index_type for index in vectors.list_indices()] == ["IvfSq"]
    asked = load_model(model).encode_query("binary tree search")
    rows = vectors.search(asked, vector_column_name="embedding").distance_type("cosine").refine_factor(10)
    found = rows.nprobes(20).limit(1).to_list()[0]["doc_id"].hex()
    assert found == search(lake, "binary tree search", mode="vector", limit=1).hits[0].doc_id


def test_rows_that_came_after_the_index_are_found(lake, model, monkeypatch):
    monkeypatch.setattr(indexes, "VECTOR_ROWS", 5)
    build_indexes(lake)
    new = [("late.py", "a token table column row of a query")]
    lake.write("raw.documents", documents(new), mode="append")
    report = search(lake, "token table column row of a query", limit=1)
    assert paths(search(lake, "token table column row of a query", mode="text", limit=1)) == ["late.py"]
    assert any("1 rows of raw.documents@" in note and "--index" in note for note in report.notes)
    assert any("1 of 31 documents are not in dev.embeddings" in note for note in report.notes)
    embed(lake, model, lake.table("embeddings"))
    report = search(lake, "token table column row of a query", mode="vector", limit=1)
    assert paths(report) == ["late.py"] and any("1 rows of dev.embeddings@" in note for note in report.notes)
    assert [s.unindexed_rows for s in index_states(lake)] == [1, 1]
    assert [s.unindexed_rows for s in build_indexes(lake)] == [0, 0]
    assert not search(lake, "token table", limit=1).notes
    lake.update("raw.documents", remove=documents(new)["doc_id"])  # still in embeddings
    report = search(lake, "token table column row of a query", limit=50)
    assert "late.py" not in paths(report) and len(report.hits) == 29  # all but the empty text


def test_only_some_documents(lake):
    rows = lake.table("raw.documents").to_arrow(["doc_id", "path"])
    lake.write("dev.some", rows.slice(1, 3))
    for mode in ("text", "vector", "hybrid"):
        found = paths(search(lake, "parse command line binary tree", table="some", mode=mode))
        assert found and set(found) <= {"sort.py", "args.py", "empty.py"}
    report = search(lake, "tree", mode="text", where="path = 'tree.py' and license_declared = 'MIT'")
    assert paths(report) == ["tree.py"]
    assert search(lake, "tree", where="path = 'tree.py'", table="some").hits == ()
    assert paths(search(lake, "tree", where="false")) == []
    for where in ("nonsense = 1", "path =", "'; drop table x", ")("):
        with pytest.raises(UsageError, match="cannot read the filter"):
            search(lake, "tree", where=where)
    with pytest.raises(UnknownName):
        search(lake, "tree", table="nowhere")
    lake.write("dev.narrow", pa.table({"a": [1]}))
    with pytest.raises(UsageError, match="no doc_id"):
        search(lake, "tree", table="narrow")


def test_a_filter_that_few_pass_still_fills_the_limit(shared, monkeypatch):
    """More than one look-up holds: ids are checked after the ranking, which is asked for more until enough."""
    monkeypatch.setattr("headwater.search.run.LOOKUP_ROWS", 0)
    monkeypatch.setattr("headwater.search.run.DEPTH", 1)
    report = search(shared, "tree", mode="vector", where="path in ('sort.py', 'f3.py', 'f9.py')", limit=3)
    assert sorted(paths(report)) == ["f3.py", "f9.py", "sort.py"]


QUERIES = [
    "AND OR NOT (", '"', '"unclosed', "*", "+tree -sort", "text:tree", "tree~2", "tree^4", "[a TO b]", "\\", "{}",
    "'; drop table documents; --", "\x00tree\x00", "\udcff\udcfe tree", "🙂", "\u202e tree", "tree\n\ttree", "a" * 10_000,
    "tree " * 1_900, "%s %d", "{{ 7*7 }}", "<script>",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_hostile_queries(shared, query):
    for mode in ("hybrid", "text", "vector"):
        report = search(shared, query, mode=mode, limit=3)
        assert len(report.hits) <= 3
        if "tree" in query:
            assert report.hits
    report.to_json()


def test_words_that_no_model_knows(shared):
    report = search(shared, "中中 \u4e01", mode="vector")
    assert report.hits == () or report.notes == ()
    report = search(shared, "\u4e01", mode="vector")
    assert report.hits == () and "knows no word" in report.notes[0]
    assert search(shared, "\u4e01", mode="hybrid").hits == ()


def test_wrong_use(lake, tmp_path, model):
    for query in ("", "  \n", "\x00"):
        with pytest.raises(UsageError, match="empty"):
            search(lake, query)
    with pytest.raises(UsageError, match="10,001 characters"):
        search(lake, "x" * 10_001)
    for limit in (0, -1, 10**6):
        with pytest.raises(UsageError, match="limit"):
            search(lake, "tree", limit=limit)
    with pytest.raises(UnknownName, match="mode"):
        search(lake, "tree", mode="magic")
    with pytest.raises(UnknownName, match="'other'"):
        search(lake, "tree", mode="vector", embeddings="other")
    other = str(static_folder(tmp_path / "other", seed=4))
    with pytest.raises(UsageError, match="cannot be compared"):
        search(lake, "tree", model=other)
    with pytest.raises(BadInput, match="was made by toy@"):
        search(lake, "tree", model=str(tmp_path / "gone"))
    assert search(lake, "tree", model=model).hits
    with pytest.raises(UnknownName):
        search(hw.Lake(tmp_path / "nothing"), "tree")


def test_without_embeddings_or_index(lake, monkeypatch):
    lake.drop("embeddings")
    report = search(lake, "parse command line")
    assert (
        report.mode == "text"
        and "no table embeddings" in report.notes[0]
        and report.hits[0].path == "args.py"
    )
    monkeypatch.setattr("headwater.search.run.FLAT_TEXT_ROWS", 5)
    with pytest.raises(UsageError, match="no full-text index"):
        search(lake, "parse")
    assert [s.table for s in build_indexes(lake)] == ["raw.documents"]
    assert search(lake, "parse").hits


def test_what_a_hit_says(lake):
    rows = lake.table("raw.documents").to_arrow(["doc_id", "path"]).slice(0, 3)
    ids = rows["doc_id"].to_pylist()
    lake.write(
        "dev.license_concluded",
        pa.table(
            {
                "doc_id": pa.array(ids[:2], pa.binary(16)),
                "license_spdx": ["Apache-2.0", None],
                "license_tier": ["silver", "unknown"],
            }
        ),
    )
    extra = {"decisions": {"build_id": "b1", "count": 1, "digest": ""}, "candidates": "raw.documents"}
    base = lake.table("raw.documents")
    lake.write(
        "dev.decisions",
        pa.table(
            {
                "build_id": ["b1", "b0"],
                "table": ["textbook", "textbook"],
                "doc_id": pa.array([ids[1], ids[0]], pa.binary(16)),
                "failed": [["license"], ["older"]],
                "unknown": pa.array([["length"], []], pa.list_(pa.string())),
            }
        ),
    )
    kept = lake.write(
        "dev.textbook",
        pa.table({"doc_id": pa.array([ids[0]], pa.binary(16))}),
        provenance=Provenance(kind="model", build_id="b1", inputs=(base.ref,), extra=extra),
    )
    report = search(lake, "binary tree search sort list parse", mode="text")
    by_path = {hit.path: hit for hit in report.hits}
    tree, sort, args = (by_path[name] for name in ("tree.py", "sort.py", "args.py"))
    assert (tree.license, tree.license_tier, tree.license_by) == (
        "Apache-2.0",
        "silver",
        "dev.license_concluded@1",
    )
    assert (sort.license, sort.license_tier, sort.license_by) == ("MIT", "unknown", "declared")
    [standing] = tree.tables
    assert standing.kept and standing.approval is None and not tree.approved
    [standing] = sort.tables
    assert not standing.kept and standing.rules == ("license", "length") and not sort.approved
    assert args.tables == ()
    from headwater.lake.approvals import APPROVALS_SCHEMA

    row = dict.fromkeys(APPROVALS_SCHEMA.names) | {
        "approval_id": "a1", "action": "approve", "table": "dev.textbook", "version": kept.version,
        "content_digest": kept.digest, "who": "eve", "why": "read it", "at": datetime(2026, 1, 2, tzinfo=UTC),
    }  # fmt: skip
    lake.write("dev.approvals", pa.Table.from_pylist([row], APPROVALS_SCHEMA))
    tree = search(lake, "binary tree search", mode="text", limit=1).hits[0]
    assert tree.approved and tree.tables[0].approval == "dev.textbook@1"
    assert (tree.tables[0].approved_by, tree.tables[0].approved_at) == ("eve", "2026-01-02")
    assert (tree.line, tree.snippet) == (5, "    return the binary tree search")


def test_pieces():
    assert piece("", "x") == (1, "")
    assert piece("\n\n  \n", "x") == (1, "")
    assert piece("\n\na\nb", "zzz")[0] == 3
    line, shown = piece("y" * 500 + " tree " + "z" * 900, "Tree")
    assert (
        line == 1 and "tree" in shown and len(shown) <= LINE_CHARACTERS + 2 and shown[0] == shown[-1] == "…"
    )
    assert piece("one\r\ntwo tree\r\n", "tree") == (2, "two tree")
    assert piece("of the and\nthe of\nmedian\n", "the median of")[0] == 3
    assert piece("x\nto be\n", "to be")[0] == 2
    assert piece("tree\nbinary tree of it\n\nrest", "binary tree")[0] == 2


def run(capsys, lake, *arguments):
    from headwater.cli import main

    code = main(["--lake", lake.uri, *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command(lake, capsys, monkeypatch, tmp_path):
    import json

    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, lake, "search", "parse command line", "-n", "2")
    assert code == 0 and "args.py" in out and "│" in out and "MIT (declared)" in out
    assert "no curated table has judged it" in out and "hits, hybrid by toy@" in err
    code, out, _ = run(capsys, lake, "search", "search tree yyy", "--json", "--mode", "text")
    found = json.loads(out)
    assert code == 0 and found["mode"] == "text" and found["hits"][0]["rank"] == 1
    code, out, _ = run(capsys, lake, "search", "bold search red", "--mode", "text", "-n", "1")
    assert code == 0 and "\x1b" not in out and "\\x1b[31mred" in out and "[bold]search[/bold]" in out
    assert run(capsys, lake, "search", "zebra", "--mode", "text")[1] == ""
    code, _, err = run(capsys, lake, "search")
    assert code == 2 and "no query" in err
    code, out, _ = run(capsys, lake, "search", "--index")
    assert code == 0 and "raw.documents@" in out and "30 of 30 rows indexed" in out
    assert "searched one by one" in out
    code, out, _ = run(capsys, lake, "search", "tree", "--where", "path = 'tree.py'", "--index")
    assert code == 0 and "tree.py:" in out


def test_estimate(lake, model, capsys, monkeypatch, tmp_path):
    import json

    from headwater.estimate.embedding import estimate_embedding

    monkeypatch.chdir(tmp_path)
    other = str(static_folder(tmp_path / "strong" / "strong", seed=9, dimensions=8))
    found = estimate_embedding(lake, model=model)
    assert (found.num_documents, found.num_texts, found.known_texts) == (30, 30, 30) and found.seconds == 0
    assert found.known_in == (str(lake.table("embeddings").ref),)
    lake.write("dev.python_textbook", lake.table("raw.documents").to_arrow(["doc_id"]).slice(0, 10))
    found = estimate_embedding(lake, "python_textbook", model=other)
    assert (found.num_documents, found.known_texts, found.dimensions) == (10, 0, 8)
    assert found.seconds > 0 and found.sample_texts == 10 and found.lake_bytes == 10 * (32 + 49)
    assert found.memory_bytes > 10**7
    arguments = ("estimate", "embed", "--model", model, "--strong", other)
    code, out, _ = run(capsys, lake, *arguments)
    assert code == 0 and "dev.python_textbook@1 by strong@" in out and "both: about" in out
    code, out, _ = run(capsys, lake, *arguments, "--price-per-hour", "3600", "--max-cost", "1e-9", "--json")
    assert code == 1 and json.loads(out)["cost"] > 0
    code, _, err = run(capsys, lake, "estimate", "embed", "--strong-of", "python_textbook")
    assert code == 2 and "--strong" in err
    lake.write("dev.none", lake.table("raw.documents").to_arrow(["doc_id"]).slice(0, 0))
    with pytest.raises(UsageError, match="holds no documents"):
        estimate_embedding(lake, "none", model=model)
