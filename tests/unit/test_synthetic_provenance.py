"""A synthetic row says where it comes from, or nothing is written; ingest fills in what it can, and loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.digest import ContentDigest
from headwater.errors import BadInput, MissingProvenance, UsageError
from headwater.export import export
from headwater.ingest import ingest
from headwater.ingest.rows import DOCUMENTS
from headwater.lake import Provenance
from headwater.lake.pieces import Pieces
from headwater.lake.synthetic import MAX_NAME_CHARS, SYNTHETIC_FIELDS, provenance_flaws
from headwater.synthesis.provenance import SYNTHETIC_DOCUMENTS, next_generation, synthetic_rows

PARENT = b"p" * 16


@pytest.fixture
def lake(tmp_path: Path) -> hw.Lake:
    return hw.Lake(tmp_path / "lake")


def rows(number: int = 3, **changes: Any) -> pa.Table:
    """Complete synthetic rows with columns replaced: a list, an Arrow array, or ``...`` to drop one."""
    table = synthetic_rows(
        [f"story {i}" for i in range(number)],
        source="stories",
        generator="smollm2",
        generator_version="0.1.2",
        prompt_ids=[f"p{i}" for i in range(number)],
        parent_ids=[[PARENT]] * number,
        parameters='{"temperature": 0.8}',
    )
    for name, value in changes.items():
        at = table.schema.names.index(name)
        if value is ...:
            table = table.drop_columns([name])
        else:
            column = value if isinstance(value, pa.Array) else pa.array(value, table.schema.field(name).type)
            table = table.set_column(at, name, column)
    return table


# -- the lake --------------------------------------------------------------------------------------

WRONG: dict[str, dict[str, Any]] = {
    "no column": {"generator": ...},
    "null, and another spelling of synthetic": {
        "prompt_id": ["a", None, "c"],
        "origin": ["synthetic", " Synthetic", "synthetic"],
    },
    "null": {"prompt_id": ["a", None, "c"]},
    "blank": {"generator_version": ["1", " \u00a0", "1"]},
    "a terminal's escape": {"generator": ["a", "\x1b[31mred", "c"]},
    "a line end": {"generator": ["a", "b\nDROP TABLE", "c"]},
    "a change of direction": {"prompt_id": ["a", "\u202ecba", "c"]},
    "an endless name": {"generator": ["a", "x" * (MAX_NAME_CHARS + 1), "c"]},
    "a number for a name": {"generator": pa.array([1, 2, 3])},
    "no list of parents": {"parent_ids": [[PARENT], None, []]},
    "parents as text": {"parent_ids": pa.array([["a"], ["b"], []])},
    "parents too short": {"parent_ids": pa.array([[PARENT], [b"short"], []], pa.list_(pa.binary()))},
    "a null among the parents": {"parent_ids": [[PARENT], [None], []]},
    "generation 0": {"generation": [1, 0, 1]},
    "generation below 0": {"generation": [1, -1, 1]},
    "no generation": {"generation": [1, None, 1]},
    "a share for a generation": {"generation": pa.array([1.0, 1.5, 1.0])},
    "parameters that are no JSON": {"parameters": ["{}", "{temperature: 1}", "{}"]},
    "parameters that are no object": {"parameters": ["{}", "[1]", "{}"]},
    "NaN, which is no JSON": {"parameters": ["{}", '{"t": NaN}', "{}"]},
    "endless nesting": {"parameters": ["{}", '{"a":' * 100_000, "{}"]},
    "a reward that nothing gave": {"reward": [None, 1.0, None]},
    "called human": {"origin": ["synthetic", "human", "synthetic"]},
    "no origin": {"origin": ["synthetic", None, "synthetic"]},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_row_that_does_not_say_where_it_comes_from_is_refused(lake: hw.Lake, case: str) -> None:
    changed = rows(**WRONG[case])
    with pytest.raises(MissingProvenance) as refused:
        lake.write("stories", changed)
    field = next(iter(WRONG[case]))
    named = {"reward": "verifier"}.get(field, field)
    assert f"{named} is " in str(refused.value) and "dev.stories was not written" in str(refused.value)
    first = 0 if not isinstance(WRONG[case][field], list) else 1
    first = 1 if "short" in case or "nesting" in case else first
    if field not in ("parent_ids",):
        assert changed["doc_id"][first].as_py().hex() in str(refused.value)
    assert "Hint: " in str(refused.value)
    assert "\x1b" not in str(refused.value) and "\u202e" not in str(refused.value)
    assert not lake.exists("stories")


def test_a_refused_append_leaves_the_table_as_it_was(lake: hw.Lake) -> None:
    before = lake.write("stories", rows())
    stream = [*rows().to_batches(), *rows(generator=["a", None, "c"]).to_batches()]
    with pytest.raises(
        MissingProvenance, match=r"synthetic row 4 \(doc_id"
    ):  # the second of the second batch
        lake.write("stories", stream, mode="append", schema=SYNTHETIC_DOCUMENTS)
    with pytest.raises(MissingProvenance, match="generation is 0"):
        lake.update("stories", add=rows(generation=[0, 0, 0]))
    with pytest.raises(MissingProvenance, match="prompt_id is null"):
        lake.write_piece("stories", rows(prompt_id=[None] * 3), adding=True, schema=SYNTHETIC_DOCUMENTS)
    assert lake.table("stories").ref == before.ref


def test_complete_rows_pass_every_way_of_writing(lake: hw.Lake) -> None:
    lake.write("stories", rows())
    lake.update("stories", add=rows(2, generation=[2, 3]))
    piece = lake.write_piece("stories", rows(1), adding=True, schema=SYNTHETIC_DOCUMENTS)
    table = lake.write("stories", Pieces(SYNTHETIC_DOCUMENTS, [piece]), mode="append")
    assert table.num_rows == 6
    encoded = rows(generator=pa.array(["a", "b", "a"]).dictionary_encode())
    wide = encoded.set_column(
        encoded.schema.names.index("parent_ids"),
        "parent_ids",
        pa.array([[PARENT]] * 3, pa.large_list(pa.binary())),
    )
    assert not provenance_flaws(wide.combine_chunks().to_batches()[0])


def test_only_documents_are_asked(lake: hw.Lake) -> None:
    """A table without text refers to documents: their provenance stands where the text does."""
    narrow = rows().select(["doc_id", "origin", "source"])
    assert lake.write("chosen", narrow).num_rows == 3
    assert lake.write("answers", rows().select(["text", "generator", "parameters"])).num_rows == 3
    with pytest.raises(MissingProvenance, match="generator is missing"):  # a generation says synthetic, too
        lake.write("texts", rows().select(["doc_id", "text", "generation"]))
    real = rows().select(DOCUMENTS.names)
    human = real.set_column(real.schema.names.index("origin"), "origin", pa.array(["human", "unknown", None]))
    assert lake.write("raw.documents", human).num_rows == 3


def test_rows_without_these_columns_can_be_added_to_a_table_with_them(lake: hw.Lake) -> None:
    lake.write("raw.documents", rows())
    real = rows(1).select(DOCUMENTS.names)
    real = real.set_column(real.schema.names.index("origin"), "origin", pa.array(["human"]))
    table = lake.write("raw.documents", real, mode="append")
    assert table.to_arrow(["generator"])["generator"].to_pylist() == ["smollm2"] * 3 + [None]
    with pytest.raises(UsageError, match="missing \\['text_bytes'\\]"):
        lake.write("raw.documents", real.drop_columns(["text_bytes"]), mode="append")


def test_widening_is_one_commit_that_keeps_rows_and_index(lake: hw.Lake) -> None:
    real = rows().select(DOCUMENTS.names)
    real = real.set_column(real.schema.names.index("origin"), "origin", pa.array(["human"] * 3))
    lake.write("raw.documents", real)
    lake.index("raw.documents", "doc_id")
    before = lake.table("raw.documents")
    wide = lake.widen("raw.documents", SYNTHETIC_FIELDS)
    assert wide.version == before.version + 1 and wide.num_rows == 3
    assert wide.schema.names == [*DOCUMENTS.names, *SYNTHETIC_FIELDS.names]
    assert wide.digest == ContentDigest.of(wide.scan()).hex() != before.digest
    assert wide.has_id_index
    lake.write("raw.documents", rows(), mode="append")
    lake.maintain("raw.documents")
    table = lake.table("raw.documents")
    assert ContentDigest.of(table.scan()).hex() == table.digest
    with pytest.raises(UsageError, match="has generator"):
        lake.widen("raw.documents", SYNTHETIC_FIELDS)


# -- rows ------------------------------------------------------------------------------------------


def test_rows_have_the_ids_that_ingest_gives(lake: hw.Lake, tmp_path: Path) -> None:
    made = rows(2)
    (tmp_path / "stories.jsonl").write_text(
        "".join(json.dumps({"text": f"story {i}", "id": f"p{i}"}) + "\n" for i in range(2))
    )
    ingest(lake, "jsonl", tmp_path / "stories.jsonl", generator="smollm2", generator_version="0.1.2")
    there = lake.table("raw.documents").to_arrow(["doc_id", "text_hash", "origin", "generation"])
    assert there["doc_id"].to_pylist() == made["doc_id"].to_pylist()
    assert there["text_hash"].to_pylist() == made["text_hash"].to_pylist()
    assert there["origin"].to_pylist() == ["synthetic"] * 2
    assert made.schema == SYNTHETIC_DOCUMENTS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": ""}, "generator is ''"),
        ({"generations": 0}, "generation is 0"),
        ({"parameters": "x"}, "parameters is 'x'"),
        ({"rewards": 1.0}, "verifier is null"),
        ({"prompt_ids": ["only one"]}, "got 1 prompt_ids for 2 texts"),
        ({"parent_ids": [[b"short"], []]}, "parent_ids are not of type"),
    ],
)
def test_rows_that_the_lake_would_refuse_are_not_made(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "source": "s",
        "generator": "g",
        "generator_version": "1",
        "prompt_ids": ["a", "b"],
        **changes,
    }
    with pytest.raises(BadInput) as refused:
        synthetic_rows(["one", "two"], **given)
    assert message in str(refused.value)


def test_a_child_is_one_generation_after_its_parents() -> None:
    assert next_generation({}, []) == 1
    assert next_generation({b"a": 2, b"b": 1}, [b"a", b"b", b"real"]) == 3


# -- ingest ----------------------------------------------------------------------------------------


def jsonl(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def documents(lake: hw.Lake) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in lake.table("raw.documents").to_arrow().to_pylist()}


def test_synthetic_rows_without_a_generator_are_quarantined_with_their_place(
    lake: hw.Lake, tmp_path: Path
) -> None:
    source = jsonl(
        tmp_path / "web.jsonl",
        {"id": "a", "text": "of a person", "origin": "human"},
        {"id": "b", "text": "of a model", "origin": "synthetic"},
        {"id": "c", "text": "of nobody knows"},
    )
    report = ingest(lake, "jsonl", source)
    assert report.documents_added == 2 and report.quarantined == {"synthetic_without_provenance": 1}
    (flaw,) = lake.table("raw.quarantine").to_arrow().to_pylist()
    assert (flaw["position"], flaw["reason"]) == ("line 2", "synthetic_without_provenance")
    assert "generator is not given" in flaw["detail"] and "of a model" not in flaw["detail"]
    assert lake.table("raw.documents").schema.names == DOCUMENTS.names  # nothing needed more
    again = ingest(lake, "jsonl", source, generator="gpt", generator_version="4", origin="synthetic")
    assert again.documents_added == 1  # the other two are there already
    assert documents(lake)["b"]["generator"] == "gpt"


def test_mapped_columns_make_the_provenance(lake: hw.Lake, tmp_path: Path) -> None:
    jsonl(tmp_path / "old.jsonl", {"id": "old", "text": "there before"})
    ingest(lake, "jsonl", tmp_path / "old.jsonl")
    parent = documents(lake)["old"]["doc_id"]
    source = jsonl(
        tmp_path / "new.jsonl",
        {"id": "1", "text": "one", "model": "m", "rev": 7, "seeds": [parent.hex()], "settings": {"t": 0.5}},
        {
            "id": "2",
            "text": "two",
            "model": "m",
            "rev": 7,
            "depth": 2,
            "ask": "q",
            "score": 0.5,
            "judge": "j",
        },
        {"id": "3", "text": "three"},
        {"id": "4", "text": "four", "model": "m", "rev": 7, "seeds": "not a list"},
        {"id": "5", "text": "five", "model": "m", "rev": 7, "depth": "deep"},
        {"id": "6", "text": "six", "model": "m", "rev": 7, "origin": "human"},
        {"id": "7", "text": "seven", "model": "m", "rev": 7, "score": 1},
    )
    columns = {"generator": "model", "generator_version": "rev", "parent_ids": "seeds", "generation": "depth",
               "prompt_id": "ask", "parameters": "settings", "reward": "score", "verifier": "judge"}  # fmt: skip
    report = ingest(lake, "jsonl", source, columns=columns)
    assert report.quarantined == {"synthetic_without_provenance": 4}
    found = documents(lake)
    assert found["1"]["parent_ids"] == [parent] and found["1"]["generation"] == 1
    assert found["1"]["prompt_id"] == "1" and json.loads(found["1"]["parameters"]) == {"t": 0.5}
    assert found["2"]["generation"] == 2 and found["2"]["prompt_id"] == "q"
    assert (found["2"]["verifier"], found["2"]["reward"]) == ("j", 0.5)
    assert found["3"]["origin"] == "unknown" and found["3"]["generator"] is None
    assert found["old"]["generator"] is None
    details = " ".join(lake.table("raw.quarantine").to_arrow(["detail"])["detail"].to_pylist())
    assert "parent_ids is 'not a list'" in details and "generation is 'deep'" in details
    assert "a generator is named, and origin is human" in details
    table = lake.table("raw.documents")
    assert ContentDigest.of(table.scan()).hex() == table.digest


def test_what_the_lake_holds_comes_back_from_a_file(lake: hw.Lake, tmp_path: Path) -> None:
    made = rows(2, generation=[1, 2])
    pq.write_table(made.append_column("id", made["path"]), tmp_path / "stories.parquet")
    ingest(lake, "parquet", tmp_path / "stories.parquet")
    there = lake.table("raw.documents").to_arrow(SYNTHETIC_FIELDS.names)
    assert there.to_pylist() == made.select(SYNTHETIC_FIELDS.names).to_pylist()


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_provenance_survives_an_export(lake: hw.Lake, tmp_path: Path, format: str) -> None:
    made = rows(3, generation=[1, 2, 3])
    lake.write("raw.documents", made)
    chosen = made.select(["doc_id"])
    inputs = (lake.table("raw.documents").ref,)
    lake.write("chosen", chosen, provenance=Provenance(kind="model", inputs=inputs))
    export(lake, "chosen", to=tmp_path / "out", format=format)
    ingest(lake, format, tmp_path / "out", schema="back")
    there = lake.table("back.documents").to_arrow(["origin", *SYNTHETIC_FIELDS.names])
    expected = made.select(["origin", *SYNTHETIC_FIELDS.names])
    assert sorted(map(repr, there.to_pylist())) == sorted(map(repr, expected.to_pylist()))


def test_a_synced_source_takes_provenance_along(lake: hw.Lake, tmp_path: Path) -> None:
    source = jsonl(tmp_path / "s.jsonl", {"id": "a", "text": "one"}, {"id": "b", "text": "two"})
    ingest(lake, "jsonl", source)
    jsonl(source, {"id": "b", "text": "two"}, {"id": "c", "text": "three", "model": "m", "rev": "1"})
    report = ingest(
        lake, "jsonl", source, sync=True, columns={"generator": "model", "generator_version": "rev"}
    )
    assert (report.documents_added, report.documents_removed) == (1, 1)
    found = documents(lake)
    assert sorted(found) == ["b", "c"] and found["c"]["generator"] == "m"


def test_folders_take_a_generator_for_all(lake: hw.Lake, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a.txt").write_text("made by a machine")
    ingest(lake, "folder", tmp_path / "made", generator="g", generator_version="1")
    row = documents(lake)["a.txt"]
    assert (row["origin"], row["prompt_id"], row["parent_ids"]) == ("synthetic", "a.txt", [])
    with pytest.raises(UsageError, match="belong together"):
        ingest(lake, "folder", tmp_path / "made", generator="g")
    with pytest.raises(UsageError, match="origin is 'human'"):
        ingest(lake, "folder", tmp_path / "made", generator="g", generator_version="1", origin="human")


def test_columns_that_only_sound_like_ours_mean_nothing(lake: hw.Lake, tmp_path: Path) -> None:
    source = jsonl(
        tmp_path / "x.jsonl", {"id": "a", "text": "one", "generation": "boomer", "parameters": "none"}
    )
    report = ingest(lake, "jsonl", source)
    assert report.documents_added == 1 and not report.quarantined
    assert json.loads(documents(lake)["a"]["metadata"])["generation"] == "boomer"


def test_rows_made_in_many_batches_keep_their_places(lake: hw.Lake, tmp_path: Path) -> None:
    lines = [
        {"id": str(i), "text": f"text {i}", **({"model": "m", "rev": "1"} if i % 3 else {})}
        for i in range(9_000)
    ]
    report = ingest(
        lake, "jsonl", jsonl(tmp_path / "many.jsonl", *lines),
        columns={"generator": "model", "generator_version": "rev"}, threads=3,
    )  # fmt: skip
    table = lake.table("raw.documents").to_arrow(["path", "generator"])
    assert report.documents_added == table.num_rows == 9_000
    wrong = [p for p, g in zip(table["path"].to_pylist(), table["generator"].to_pylist(), strict=True)
             if (g == "m") != bool(int(p) % 3)]  # fmt: skip
    assert not wrong and pc.count(table["generator"]).as_py() == 6_000
