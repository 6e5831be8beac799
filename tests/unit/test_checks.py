"""Suites of the reference project and of tiny ones, run by Great Expectations over real Lance tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from headwater.checks import CheckReport, check, closure, create_project, suite_names
from headwater.checks.context import FOLDER, TEMPLATE
from headwater.checks.report import redact
from headwater.checks.views import pinned_views, visible_tables
from headwater.errors import BadInput, CheckFailed, DataMismatch, MissingExtra, UnknownName, UsageError
from headwater.lake import Lake, Provenance

PROJECT = Path(__file__).parents[2]
ID = pa.binary(16)
NUM_DOCUMENTS = 400
NUM_DROPPED = 40
SPAN = pa.struct({"doc_id": ID, "start": pa.int32(), "length": pa.int32(), "source": pa.string()})

Tables = dict[str, pa.Table]


def ids(start: int, stop: int) -> pa.Array:
    return pa.array([i.to_bytes(16, "big") for i in range(start, stop)], ID)


def reference_tables() -> Tables:
    """A small corpus as the reference project builds it: every suite holds on it."""
    n, kept = NUM_DOCUMENTS, NUM_DOCUMENTS - NUM_DROPPED
    every = ids(0, n)
    documents = pa.table(
        {
            "doc_id": every,
            "text": pa.array([f"print({i:04d})" for i in range(n)], pa.large_string()),
            "text_hash": every,
            "source": ["stdlib"] * n,
            "path": [f"m{i}.py" for i in range(n)],
            "url": [""] * n,
            "origin": ["human"] * n,
            "license_declared": ["MIT"] * n,
            "date": pa.array([None] * n, pa.timestamp("us")),
            "metadata": ["{}"] * n,
            "text_bytes": pa.array([11] * n, pa.int64()),
        }
    )
    signals = pa.table(
        {
            "doc_id": every,
            "text_hash": every,
            "num_words": [1] * n,
            "num_lines": [1] * n,
            "mean_line_length": [11.0] * n,
            "max_line_length": [11] * n,
            "alphanumeric_share": [0.8] * n,
            "comment_line_share": [0.0] * n,
            "is_generated": [False] * n,
            "text_bytes": [11] * n,
        }
    )
    # The dropped documents are one cluster, the rest stand for themselves.
    clusters = pa.table(
        {
            "doc_id": every,
            "cluster_id": pa.array([every[0].as_py()] * NUM_DROPPED + every[NUM_DROPPED:].to_pylist(), ID),
            "cluster_size": [NUM_DROPPED] * NUM_DROPPED + [1] * kept,
        }
    )
    decisions = pa.table(
        {
            "build_id": ["b2"] * NUM_DROPPED + ["b1"] * 5,
            "table": ["python_textbook"] * (NUM_DROPPED + 5),
            "doc_id": ids(0, NUM_DROPPED + 5),
            "failed": pa.array([["unique"]] * (NUM_DROPPED + 5), pa.list_(pa.string())),
            "unknown": pa.array([[]] * (NUM_DROPPED + 5), pa.list_(pa.string())),
        }
    )
    rules = pa.table(
        {
            "build_id": ["b2", "b2", "b1"],
            "table": ["python_textbook"] * 3,
            "rule": ["license", "long_enough", "license"],
            "max_unknown": pa.array([0.0, None, 0.0], pa.float64()),
            "num_unknown": [0, 7, 7],
        }
    )
    textbook = pa.table(
        {
            "doc_id": ids(NUM_DROPPED, n),
            "source": ["stdlib"] * kept,
            "path": ["m.py"] * kept,
            "license_spdx": ["MIT"] * kept,
            "license_tier": ["gold"] * kept,
            "num_words": [1] * kept,
        }
    )
    spans = [
        [{"doc_id": (NUM_DROPPED + i).to_bytes(16, "big"), "start": 0, "length": 8, "source": "stdlib"}]
        for i in range(20)
    ]
    sequences = pa.table(
        {"sequence_index": pa.array(range(20), pa.int64()), "spans": pa.array(spans, pa.list_(SPAN))}
    )
    return {
        "documents": documents,
        "signals": signals,
        "duplicate_clusters": clusters,
        "decisions": decisions,
        "rules": rules,
        "python_textbook": textbook,
        "sequences": sequences,
    }


def write_reference(lake: Lake, tables: Tables) -> None:
    documents = lake.write("raw.documents", tables["documents"]).ref
    over = Provenance(inputs=(documents,))
    signals = lake.write("signals", tables["signals"], provenance=over).ref
    clusters = lake.write("duplicate_clusters", tables["duplicate_clusters"], provenance=over).ref
    lake.write("decisions", tables["decisions"])
    lake.write("rules", tables["rules"])
    made = Provenance(
        build_id="b2",
        inputs=(documents, signals, clusters),
        extra={"decisions": {"build_id": "b2", "count": NUM_DROPPED}, "candidates": "documents"},
    )
    textbook = lake.write("python_textbook", tables["python_textbook"], provenance=made).ref
    packed = Provenance(inputs=(textbook,), extra={"packed_table": textbook.to_dict()})
    lake.write("sequences", tables["sequences"], provenance=packed)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("reference") / "lake")
    write_reference(lake, reference_tables())
    return lake


@pytest.fixture
def project(tmp_path: Path) -> Path:
    create_project(tmp_path / "project")
    return tmp_path / "project"


def write_suite(
    project: Path, name: str, *expectations: tuple[str, dict[str, Any]], called: str = ""
) -> Path:
    path = project / FOLDER / f"{name}.json"
    listed = [{"type": kind, "kwargs": kwargs} for kind, kwargs in expectations]
    path.write_text(json.dumps({"name": called or name, "expectations": listed}))
    return path


def failed(report: CheckReport) -> set[tuple[str, str | None]]:
    return {(result.expectation, result.column) for result in report.failures}


ROWS = ("expect_table_row_count_to_be_between", {"min_value": 1})

# -- the reference suites --------------------------------------------------------------------------


def test_every_suite_belongs_to_a_published_table_and_the_template_is_the_shipped_file() -> None:
    assert suite_names(PROJECT) == [
        "diversity",
        "documents",
        "duplicate_clusters",
        "embeddings",
        "lessons",
        "mixed_textbook",
        "origin_evidence",
        "python_textbook",
        "sequences",
        "signals",
        "strong_embeddings",
        "synthetic_limits",
        "textbook_mixture",
    ]
    assert (PROJECT / FOLDER / "great_expectations.yml").read_text() == TEMPLATE


@pytest.mark.checks
def test_reference_suites_hold_on_a_good_corpus(reference: Lake) -> None:
    report = check(reference, "sequences", project_dir=PROJECT, closure=True)
    assert report.success, [f"{r.table}: {f}" for r in (report, *report.upstream) for f in r.failures]
    assert [r.table.name for r in report.upstream] == [
        "raw.documents",
        "dev.duplicate_clusters",
        "dev.signals",
        "dev.python_textbook",
    ]
    assert all(len(r.results) >= 10 for r in (report, *report.upstream))


def replace(name: str, column: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[Tables], None]:
    def damage(tables: Tables) -> None:
        table = tables[name]
        index = table.schema.get_field_index(column)
        values = pa.array(change(table[column].to_pylist()), table.schema.field(column).type)
        tables[name] = table.set_column(index, column, values)

    return damage


def drop_first(name: str) -> Callable[[Tables], None]:
    def damage(tables: Tables) -> None:
        tables[name] = tables[name].slice(1)

    return damage


FAULTS = [
    ("documents", replace("documents", "doc_id", lambda v: [v[1], *v[1:]]), "doc_id", 2),
    ("documents", replace("documents", "text_bytes", lambda v: [0, *v[1:]]), "text_bytes", 1),
    ("documents", replace("documents", "origin", lambda v: ["robot", *v[1:]]), "origin", 1),
    ("signals", drop_first("signals"), "documents have no signals", 1),
    ("signals", replace("signals", "text_hash", lambda v: [v[1], *v[1:]]), "another text", 1),
    ("signals", replace("signals", "alphanumeric_share", lambda v: [1.5, *v[1:]]), "alphanumeric_share", 1),
    ("signals", replace("signals", "num_words", lambda v: [None, *v[1:]]), "num_words", 1),
    ("duplicate_clusters", drop_first("duplicate_clusters"), "not the number of their documents", 1),
    (
        "duplicate_clusters",
        replace("duplicate_clusters", "cluster_id", lambda v: [None, *v[1:]]),
        "cluster_id",
        1,
    ),
    (
        "python_textbook",
        replace("signals", "is_generated", lambda v: [*v[:-1], True]),
        "kept documents that are generated",
        1,
    ),
    (
        "python_textbook",
        replace("python_textbook", "license_tier", lambda v: ["none", *v[1:]]),
        "license_tier",
        1,
    ),
    ("python_textbook", drop_first("python_textbook"), "do not add up", 1),
    (
        "python_textbook",
        replace("decisions", "unknown", lambda v: [["license"]] * 3 + v[3:]),
        "unknown for more than",
        1,
    ),
    ("python_textbook", replace("rules", "num_unknown", lambda v: [1, *v[1:]]), "its max_unknown allows", 1),
    ("sequences", replace("sequences", "sequence_index", lambda v: [*v[:-1], 99]), "gaps", 1),
    ("sequences", replace("sequences", "spans", lambda v: [[], *v[1:]]), "without a document", 1),
    (
        "sequences",
        replace("sequences", "spans", lambda v: [[{**v[0][0], "doc_id": bytes(16)}], *v[1:]]),
        "not in the table they were packed from",
        1,
    ),
]


@pytest.mark.checks
@pytest.mark.parametrize(
    ("table", "damage", "named", "count"), FAULTS, ids=[f"{t}-{named[:20]}" for t, _, named, _ in FAULTS]
)
def test_a_planted_fault_is_found(
    tmp_path: Path, table: str, damage: Callable[[Tables], None], named: str, count: int
) -> None:
    tables = reference_tables()
    damage(tables)
    lake = Lake(tmp_path / "lake")
    write_reference(lake, tables)
    report = check(lake, table, project_dir=PROJECT)
    assert not report.success
    hits = [r for r in report.failures if r.column == named or named in r.details]
    assert [r.unexpected_count for r in hits] == [count], report.to_json()


# -- exact versions --------------------------------------------------------------------------------


@pytest.mark.checks
def test_a_check_judges_the_version_it_was_asked_for(tmp_path: Path, project: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.write("t", pa.table({"n": [1, 2]}))
    lake.write("t", pa.table({"n": [1, None]}))
    write_suite(project, "t", ("expect_column_values_to_not_be_null", {"column": "n"}))
    assert check(lake, "t", version=1, project_dir=project).success
    latest = check(lake, "t", project_dir=project)
    assert (latest.table.version, latest.success) == (2, False)
    assert latest.results[0].unexpected_count == 1


@pytest.mark.checks
def test_custom_sql_sees_the_inputs_that_the_version_was_built_from(tmp_path: Path, project: Path) -> None:
    lake = Lake(tmp_path / "lake")
    first = lake.write("raw.documents", pa.table({"doc_id": ids(0, 5)}))
    lake.write("signals", pa.table({"doc_id": ids(0, 5)}), provenance=Provenance(inputs=(first.ref,)))
    lake.write("raw.documents", pa.table({"doc_id": ids(0, 9)}))
    query = "select d.doc_id from raw.documents d anti join {batch} s using (doc_id)"
    write_suite(project, "signals", ("unexpected_rows_expectation", {"unexpected_rows_query": query}))
    assert check(lake, "signals", project_dir=project).success
    pinned = check(lake, "signals", project_dir=project, pins={"raw.documents": 2})
    assert pinned.results[0].unexpected_count == 4


def test_closure_lists_inputs_first_and_does_not_follow_a_tables_own_past(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    rows = pa.table({"doc_id": ids(0, 2)})
    documents = lake.write("raw.documents", rows)
    old = lake.write("signals", rows, provenance=Provenance(inputs=(documents.ref,)))
    grown = lake.write("raw.documents", rows, mode="append")
    new = lake.write("signals", rows, provenance=Provenance(inputs=(old.ref, grown.ref)))
    final = lake.write("textbook", rows, provenance=Provenance(inputs=(new.ref, grown.ref)))
    assert closure(lake, lake.table("textbook")) == [grown.ref, new.ref]
    assert closure(lake, lake.table("raw.documents")) == []
    assert [t.ref for t in visible_tables(lake, lake.table("textbook"))] == [final.ref, new.ref, grown.ref]


def test_the_nearest_version_of_a_table_is_the_one_that_is_seen(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    rows = pa.table({"doc_id": ids(0, 2)})
    old = lake.write("raw.documents", rows)
    signals = lake.write("signals", rows, provenance=Provenance(inputs=(old.ref,)))
    new = lake.write("raw.documents", rows, mode="append")
    lake.write("textbook", rows, provenance=Provenance(inputs=(signals.ref, new.ref)))
    seen = {t.name: t.version for t in visible_tables(lake, lake.table("textbook"))}
    assert seen == {"dev.textbook": 1, "dev.signals": 1, "raw.documents": 2}


def test_an_input_that_was_made_anew_is_a_mismatch(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    documents = lake.write("raw.documents", pa.table({"doc_id": ids(0, 2)}))
    lake.write("signals", pa.table({"doc_id": ids(0, 2)}), provenance=Provenance(inputs=(documents.ref,)))
    lake.drop("raw.documents")
    lake.write("raw.documents", pa.table({"doc_id": ids(5, 9)}))
    with pytest.raises(DataMismatch, match="was built from"):
        visible_tables(lake, lake.table("signals"))


def test_views_show_uuids_and_text_of_the_judged_table_only(reference: Lake) -> None:
    with pinned_views(reference, reference.table("signals")) as views:
        cursor = views.connection
        kinds = dict(cursor.execute("select column_name, column_type from (describe signals)").fetchall())
        assert kinds["doc_id"] == "UUID"
        assert "text" not in dict(
            cursor.execute("select column_name, 1 from (describe documents)").fetchall()
        )
    with pinned_views(reference, reference.table("documents")) as views:
        assert views.connection.execute("select max(length(text)) from documents").fetchall() == [(11,)]


# -- what is reported ------------------------------------------------------------------------------


@pytest.mark.checks
def test_no_value_of_a_row_is_reported(tmp_path: Path, project: Path) -> None:
    secret = "jane.doe@example.org"
    lake = Lake(tmp_path / "lake")
    lake.write("people", pa.table({"mail": [secret, secret, "x"], "n": [1, 2, 3]}))
    write_suite(
        project,
        "people",
        ("expect_column_values_to_be_unique", {"column": "mail"}),
        ("expect_column_values_to_be_in_set", {"column": "mail", "value_set": ["y"]}),
        ("expect_column_distinct_values_to_be_in_set", {"column": "mail", "value_set": ["y"]}),
        ("expect_column_most_common_value_to_be_in_set", {"column": "mail", "value_set": ["y"]}),
        ("expect_column_max_to_be_between", {"column": "mail", "max_value": 1}),
        ("expect_column_values_to_match_regex", {"column": "mail", "regex": "^y$"}),
        ("unexpected_rows_expectation", {"unexpected_rows_query": "select * from {batch}"}),
        ("unexpected_rows_expectation", {"unexpected_rows_query": "select mail::int from {batch}"}),
    )
    report = check(lake, "people", project_dir=project)
    assert len(report.failures) == 8
    assert "jane" not in report.to_json()
    assert [r.unexpected_count for r in report.results[:2]] == [2, 3]


def test_redact_keeps_the_error_and_drops_what_it_quotes() -> None:
    message = (
        "(_duckdb.ConversionException) Conversion Error: Could not convert string 'jane''s' to INT32\nLINE 1"
    )
    assert redact(message) == "Conversion Error: Could not convert string '…' to INT32"


@pytest.mark.checks
def test_results_keep_the_order_of_the_suite_and_name_a_missing_column(tmp_path: Path, project: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.write("t", pa.table({"n": [1, 2]}))
    write_suite(
        project,
        "t",
        ROWS,
        ("expect_column_mean_to_be_between", {"column": "n", "min_value": 1, "max_value": 2}),
        ("expect_column_values_to_not_be_null", {"column": "nope"}),
        ("expect_column_values_to_be_unique", {"column": "n"}),
    )
    report = check(lake, "t", project_dir=project)
    assert [r.expectation for r in report.results] == [
        "expect_table_row_count_to_be_between",
        "expect_column_mean_to_be_between",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_unique",
    ]
    assert report.results[0].observed == 2
    assert report.results[1].observed == 1.5
    assert failed(report) == {("expect_column_values_to_not_be_null", "nope")}
    assert "nope" in report.results[2].details
    assert report.render().row_count == 4
    assert json.loads(report.to_json())["results"][0]["observed"] == 2


@pytest.mark.checks
def test_a_suite_cannot_leave_the_connection(tmp_path: Path, project: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.write("t", pa.table({"n": [1, 2]}))
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    queries = [f"select * from read_csv('{outside}')", f"select * from '{outside}'", "select * from outside"]
    write_suite(
        project, "t", *[("unexpected_rows_expectation", {"unexpected_rows_query": q}) for q in queries]
    )
    report = check(lake, "t", project_dir=project)
    assert len(report.failures) == 3
    assert all("Error" in result.details for result in report.failures)


# -- bad input -------------------------------------------------------------------------------------


def test_a_missing_suite_lists_the_suites_and_says_how_to_make_one(reference: Lake, project: Path) -> None:
    write_suite(project, "signal", ROWS)
    with pytest.raises(UnknownName, match="did you mean signal") as caught:
        check(reference, "signals", project_dir=project)
    assert "expect_table_row_count_to_be_between" in str(caught.value)


def test_a_suite_for_a_table_that_does_not_exist_names_both(reference: Lake, project: Path) -> None:
    write_suite(project, "pythn_textbook", ROWS)
    with pytest.raises(UnknownName, match=r"pythn_textbook\.json.*not in the lake") as caught:
        check(reference, "pythn_textbook", project_dir=project)
    assert "python_textbook" in str(caught.value)


def test_an_empty_suite_refuses(reference: Lake, project: Path) -> None:
    write_suite(project, "signals")
    with pytest.raises(CheckFailed, match="empty"):
        check(reference, "signals", project_dir=project)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", "does not hold a suite"),
        ('{"name": "other", "expectations": []}', "expected 'signals'"),
    ],
)
def test_a_broken_suite_is_bad_input(reference: Lake, project: Path, content: str, message: str) -> None:
    (project / FOLDER / "signals.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        check(reference, "signals", project_dir=project)


@pytest.mark.checks
@pytest.mark.parametrize(
    ("kind", "kwargs", "message"),
    [
        ("expect_nothing_bad", {}, "does not accept expect_nothing_bad"),
        ("expect_column_to_exist", {}, "cannot read|does not accept"),
    ],
)
def test_an_expectation_that_would_be_left_out_is_bad_input(
    reference: Lake, project: Path, kind: str, kwargs: dict[str, Any], message: str
) -> None:
    write_suite(project, "signals", ROWS, (kind, kwargs))
    with pytest.raises(BadInput, match=message):
        check(reference, "signals", project_dir=project)


def test_a_folder_without_a_configuration_is_no_project(reference: Lake, tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    write_suite(tmp_path, "signals", ROWS)
    with pytest.raises(UsageError, match="no Great Expectations project"):
        check(reference, "signals", project_dir=tmp_path)


def test_without_the_extra_the_command_that_installs_it_is_named(
    reference: Lake, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_suite(project, "signals", ROWS)
    monkeypatch.setitem(sys.modules, "great_expectations", None)
    with pytest.raises(MissingExtra, match=r"headwater\[checks\]"):
        check(reference, "signals", project_dir=project)


# -- Great Expectations itself ---------------------------------------------------------------------

CATALOG: list[tuple[str, dict[str, Any]]] = [
    ("expect_column_values_to_not_be_null", {"column": "doc_id"}),
    ("expect_column_values_to_be_unique", {"column": "doc_id"}),
    ("expect_column_values_to_be_between", {"column": "n", "min_value": 0, "max_value": 99}),
    ("expect_column_values_to_be_in_set", {"column": "word", "value_set": ["aa", "bb"]}),
    ("expect_column_values_to_not_be_in_set", {"column": "n", "value_set": [-1]}),
    ("expect_column_value_lengths_to_be_between", {"column": "word", "min_value": 2, "max_value": 2}),
    ("expect_table_row_count_to_equal", {"value": 100}),
    ("expect_table_row_count_to_equal_other_table", {"other_table_name": "upstream"}),
    ("expect_table_column_count_to_equal", {"value": 6}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": ["doc_id", "word", "n", "x", "ok", "at"]}),
    ("expect_column_values_to_be_of_type", {"column": "doc_id", "type_": "UUID"}),
    ("expect_column_values_to_be_of_type", {"column": "at", "type_": "TIMESTAMP"}),
    ("expect_column_values_to_be_in_type_list", {"column": "x", "type_list": ["FLOAT", "DOUBLE"]}),
    ("expect_column_to_exist", {"column": "n"}),
    ("expect_column_mean_to_be_between", {"column": "n", "min_value": 49.5, "max_value": 49.5}),
    ("expect_column_median_to_be_between", {"column": "n", "min_value": 49, "max_value": 50}),
    ("expect_column_stdev_to_be_between", {"column": "n", "min_value": 29.01, "max_value": 29.02}),
    ("expect_column_min_to_be_between", {"column": "n", "min_value": 0, "max_value": 0}),
    ("expect_column_max_to_be_between", {"column": "x", "min_value": 9.9, "max_value": 9.9}),
    ("expect_column_sum_to_be_between", {"column": "n", "min_value": 4950, "max_value": 4950}),
    (
        "expect_column_quantile_values_to_be_between",
        {"column": "n", "quantile_ranges": {"quantiles": [0.1, 0.9], "value_ranges": [[9, 10], [89, 90]]}},
    ),
    ("expect_column_unique_value_count_to_be_between", {"column": "word", "min_value": 2, "max_value": 2}),
    (
        "expect_column_proportion_of_unique_values_to_be_between",
        {"column": "doc_id", "min_value": 1, "max_value": 1},
    ),
    ("expect_column_values_to_match_regex", {"column": "word", "regex": "^[ab]{2}$"}),
    ("expect_column_values_to_match_regex", {"column": "word", "regex": "a|b"}),
    ("expect_column_values_to_not_match_regex", {"column": "word", "regex": "c"}),
    ("expect_column_values_to_match_like_pattern", {"column": "word", "like_pattern": "__"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["word", "n"]}),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "n", "column_B": "x", "or_equal": True},
    ),
    ("expect_column_values_to_be_null", {"column": "x", "mostly": 0.0}),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "n", "threshold": 3, "double_sided": True}),
    ("unexpected_rows_expectation", {"unexpected_rows_query": "select 1 from {batch} where n < 0"}),
    (
        "unexpected_rows_expectation",
        {"unexpected_rows_query": "select * from {batch} b anti join raw.upstream u using (doc_id)"},
    ),
    ("unexpected_rows_expectation", {"unexpected_rows_query": "select 1 from raw.upstream where n <> n"}),
]


@pytest.mark.checks
def test_the_bundled_expectations_run_in_duckdb(tmp_path: Path, project: Path) -> None:
    lake = Lake(tmp_path / "lake")
    numbers = list(range(100))
    table = pa.table(
        {
            "doc_id": ids(0, 100),
            "word": ["aa", "bb"] * 50,
            "n": numbers,
            "x": pc.divide(pa.array(numbers, pa.float64()), 10.0),
            "ok": [True, False] * 50,
            "at": pa.array(numbers, pa.timestamp("us")),
        }
    )
    upstream = lake.write("raw.upstream", table)
    lake.write("t", table, provenance=Provenance(inputs=(upstream.ref,)))
    write_suite(project, "t", *CATALOG)
    report = check(lake, "t", project_dir=project)
    assert len(report.results) == len(CATALOG)
    assert report.success, [str(f) for f in report.failures]


@pytest.mark.checks
def test_reading_suites_writes_nothing_and_lists_exactly_the_suites(reference: Lake, project: Path) -> None:
    from headwater.checks.context import open_context

    write_suite(project, "signals", ROWS)
    before = {p: p.read_bytes() for p in project.rglob("*") if p.is_file()}
    assert check(reference, "signals", project_dir=project).success
    assert [suite.name for suite in open_context(project).suites.all()] == ["signals"]
    assert {p: p.read_bytes() for p in project.rglob("*") if p.is_file()} == before


@pytest.mark.checks
def test_the_digest_of_a_suite_is_that_of_its_demands(reference: Lake, project: Path) -> None:
    unique = ("expect_column_values_to_be_unique", {"column": "doc_id"})
    digests = []
    for expectations in ([ROWS, unique], [unique, ROWS], [unique]):
        write_suite(project, "signals", *expectations)
        digests.append(check(reference, "signals", project_dir=project).suite_digest)
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64


@pytest.mark.checks
def test_a_result_outlives_its_connection() -> None:
    import duckdb
    import sqlalchemy

    from headwater.checks import dialect

    owner = duckdb.connect()
    engine = sqlalchemy.create_engine("headwater://", creator=dialect.connector(owner, {}))
    try:
        with engine.connect() as connection:
            first = connection.execute(sqlalchemy.text("select range from range(3)"))
            second = connection.execute(sqlalchemy.text("select 7"))
        assert first.fetchall() == [(0,), (1,), (2,)]
        assert second.scalar() == 7
    finally:
        engine.dispose()
        owner.close()


@pytest.mark.checks
@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("DECIMAL(18,3)", "DECIMAL"),
        ("VARCHAR[]", "LIST"),
        ("FLOAT[4]", "LIST"),
        ("STRUCT(a INTEGER)", "STRUCT"),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP"),
        ("SOMETHING", "NullType"),
    ],
)
def test_duckdb_types_have_their_names(declared: str, expected: str) -> None:
    from headwater.checks.dialect import column_type

    assert type(column_type(declared)).__name__ == expected


SCRIPT = """
import sys
from pathlib import Path
import headwater.checks, headwater.approve
from headwater.lake import Lake
heavy = ("great_expectations", "sqlalchemy", "dbt.", "torch")
assert not [m for m in sys.modules if m.startswith(heavy)], "imported too early"
lake = Lake(sys.argv[1])
print(headwater.checks.check(lake, "python_textbook", project_dir=Path(sys.argv[2])).success)
"""


@pytest.mark.checks
def test_a_check_says_nothing_of_its_own_on_either_stream(reference: Lake) -> None:
    command = [sys.executable, "-c", SCRIPT, reference.uri, str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
