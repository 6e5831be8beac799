"""Approving, reading approvals and revoking, on real tables; suites are played except where marked."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import headwater.approve as approving
from headwater.approve import approve, approved_ref, revoke, standing_approval
from headwater.checks import CheckReport, CheckResult, DbtTest, create_project, dbt_tests, run_dbt_tests
from headwater.errors import CheckFailed, DataMismatch, NotApproved, UnknownName, UsageError
from headwater.lake import Lake, Provenance, Table, TableRef
from headwater.lake.approvals import APPROVALS_SCHEMA

SIGNED: dict[str, Any] = {"who": "ada", "why": "release 1", "run_dbt": False}
SUITES = ("documents", "signals", "textbook", "sequences")


def rows(*values: int) -> pa.Table:
    return pa.table({"n": list(values)})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """raw.documents -> signals -> textbook -> sequences, one version each."""
    lake = Lake(tmp_path / "lake")
    documents = lake.write("raw.documents", rows(1, 2, 3)).ref
    signals = lake.write("signals", rows(1, 2), provenance=Provenance(inputs=(documents,))).ref
    textbook = lake.write("textbook", rows(1), provenance=Provenance(inputs=(documents, signals))).ref
    extra = {"packed_table": textbook.to_dict()}
    lake.write("sequences", rows(0), provenance=Provenance(inputs=(textbook,), extra=extra))
    return lake


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = create_project(tmp_path / "project")
    for name in SUITES:
        expectation = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}
        (folder / f"{name}.json").write_text(json.dumps({"name": name, "expectations": [expectation]}))
    return tmp_path / "project"


class Suites:
    """Plays the suites: every table holds except those in ``failing``; remembers what was judged."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.judged: list[TableRef] = []
        self.digest = "s1"

    def __call__(self, lake: Lake, table: Table, project_dir: Path, **_: Any) -> CheckReport:
        self.judged.append(table.ref)
        result = CheckResult(
            expectation="expect_column_values_to_not_be_null",
            column="n",
            success=table.name not in self.failing,
            unexpected_count=3,
        )
        return CheckReport(
            table=table.ref,
            suite=table.short_name,
            suite_digest=f"{table.short_name}-{self.digest}",
            results=(result,),
            seconds=0.0,
        )


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> Suites:
    played = Suites()
    monkeypatch.setattr(approving, "check_version", played)
    return played


def tags(lake: Lake, name: str) -> set[str]:
    return set(lake.table(name).dataset.tags.list())


# -- approving -------------------------------------------------------------------------------------


def test_approval_covers_the_exact_closure_and_is_one_row(lake: Lake, project: Path, suites: Suites) -> None:
    steps: list[str] = []
    approval = approve(lake, "textbook", **SIGNED, project_dir=project, on_step=steps.append)
    names = ["raw.documents", "dev.signals", "dev.textbook"]
    assert [ref.name for ref in suites.judged] == names
    assert [ref.name for ref in approval.closure] == names[:2]
    assert steps == [f"suite of {name}@1" for name in names]
    record = lake.table("dev.approvals").to_arrow()
    assert record.schema.names == APPROVALS_SCHEMA.names
    row = record.to_pylist()[0]
    assert (row["action"], row["table"], row["version"]) == ("approve", "dev.textbook", 1)
    assert row["content_digest"] == lake.table("textbook").digest
    assert (row["who"], row["why"], row["revokes"], row["dbt_tests"]) == ("ada", "release 1", None, None)
    assert [s["suite"] for s in json.loads(row["suites"])] == ["documents", "signals", "textbook"]
    assert tags(lake, "textbook") == {"approved-1"}
    assert lake.table("textbook", version="approved").ref == approval.table
    assert standing_approval(lake, "textbook") == approval
    json.loads(approval.to_json())


def test_approving_again_changes_nothing_until_the_suite_does(
    lake: Lake, project: Path, suites: Suites
) -> None:
    first = approve(lake, "textbook", **SIGNED, project_dir=project)
    assert approve(lake, "textbook", **SIGNED, project_dir=project) == first
    assert lake.table("approvals").num_rows == 1
    suites.digest = "s2"
    assert approve(lake, "textbook", **SIGNED, project_dir=project) != first
    assert lake.table("approvals").num_rows == 2


def test_an_older_version_can_be_approved_and_the_last_approval_counts(
    lake: Lake, project: Path, suites: Suites
) -> None:
    lake.write("textbook", rows(1, 2))
    approve(lake, "textbook", **SIGNED, project_dir=project)
    assert approved_ref(lake, "textbook").version == 2
    approve(lake, "textbook", **SIGNED, project_dir=project, version=1)
    assert approved_ref(lake, "textbook").version == 1
    approve(lake, "textbook", **SIGNED, project_dir=project)
    assert approved_ref(lake, "textbook").version == 2


def test_order_of_the_record_survives_a_clock_that_runs_behind(
    lake: Lake, project: Path, suites: Suites, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = approve(lake, "textbook", **SIGNED, project_dir=project)

    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2001, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(approving, "datetime", Behind)
    lake.write("textbook", rows(1, 2))
    second = approve(lake, "textbook", **SIGNED, project_dir=project)
    assert second.at - first.at == timedelta(microseconds=1)
    assert approved_ref(lake, "textbook") == second.table


def test_a_failing_suite_upstream_refuses_and_records_nothing(
    lake: Lake, project: Path, suites: Suites
) -> None:
    suites.failing = {"raw.documents", "dev.textbook"}
    with pytest.raises(CheckFailed, match="2 checks failed") as caught:
        approve(lake, "textbook", **SIGNED, project_dir=project)
    assert "raw.documents@1: expect_column_values_to_not_be_null on n: 3 unexpected rows" in str(caught.value)
    assert caught.value.exit_code == 1
    assert not lake.exists("dev.approvals")
    assert tags(lake, "textbook") == set()
    with pytest.raises(NotApproved, match="no standing approval"):
        lake.table("textbook", version="approved")


def test_a_missing_or_empty_suite_refuses(lake: Lake, project: Path) -> None:
    (project / "expectations" / "documents.json").unlink()
    (project / "expectations" / "signals.json").unlink()
    suite = project / "expectations" / "textbook.json"
    suite.write_text('{"name": "textbook", "expectations": []}')
    with pytest.raises(CheckFailed, match="empty"):
        approve(lake, "textbook", **SIGNED, project_dir=project)
    suite.unlink()
    with pytest.raises(UnknownName, match="unknown suite 'textbook'"):
        approve(lake, "textbook", **SIGNED, project_dir=project)
    assert not lake.exists("dev.approvals")


def test_an_approval_needs_who_and_why(lake: Lake, project: Path) -> None:
    with pytest.raises(UsageError, match="needs a why"):
        approve(lake, "textbook", who="ada", why=" ", project_dir=project)
    with pytest.raises(UsageError, match="needs a who"):
        revoke(lake, "textbook", who="", why="x")


def test_an_input_whose_version_is_gone_refuses(lake: Lake, project: Path, suites: Suites) -> None:
    lake.write("signals", rows(7))
    lake.maintain("signals", keep=timedelta(0))
    with pytest.raises(CheckFailed, match=r"dev.signals@1: this version is gone"):
        approve(lake, "textbook", **SIGNED, project_dir=project)


def test_a_failing_tag_leaves_the_record_standing(
    lake: Lake, project: Path, suites: Suites, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no tags today")

    with monkeypatch.context() as patched:
        patched.setattr(lake, "tag", broken)
        approval = approve(lake, "textbook", **SIGNED, project_dir=project)
    assert standing_approval(lake, "textbook") == approval
    assert tags(lake, "textbook") == set()
    approve(lake, "textbook", **SIGNED, project_dir=project)
    assert tags(lake, "textbook") == {"approved-1"}


# -- dbt tests -------------------------------------------------------------------------------------


def played(status: str) -> DbtTest:
    return DbtTest(test="unique_n", table="signals", status=status, failures=4, message="Got 4 results")


def test_dbt_tests_run_against_the_pinned_closure(
    lake: Lake, project: Path, suites: Suites, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def run(project_dir: Path, target: str, tables: Any, pins: Any, **_: Any) -> list[DbtTest]:
        asked.append((target, sorted(tables), dict(pins)))
        return [played("pass"), played("warn")]

    monkeypatch.setattr(approving, "run_dbt_tests", run)
    lake.write("signals", rows(9))
    signed = {**SIGNED, "run_dbt": True}
    approval = approve(lake, "textbook", **signed, project_dir=project)
    names = ["dev.signals", "dev.textbook", "raw.documents"]
    assert asked == [("dev", names, dict.fromkeys(names, 1))]
    assert approval.dbt_tests is not None
    assert len(approval.dbt_tests) == 2
    monkeypatch.setattr(approving, "run_dbt_tests", lambda *_, **__: [played("fail")])
    with pytest.raises(CheckFailed, match="signals: dbt test unique_n: fail, 4 failing rows"):
        approve(lake, "textbook", **signed, project_dir=project)


@pytest.fixture
def dbt_project(tmp_path: Path) -> Path:
    """A dbt project over a DuckDB file; a null in dev.signals makes one test fail."""
    root = tmp_path / "dbt"
    (root / "models").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "dbt_project.yml").write_text(
        "name: tiny\nversion: '1.0'\nprofile: tiny\nmodel-paths: [models]\ntest-paths: [tests]\n"
        "flags: {send_anonymous_usage_stats: false}\n"
    )
    (root / "profiles.yml").write_text(
        "tiny: {target: prod, outputs: {dev: {type: duckdb, path: tiny.duckdb, schema: dev}}}\n"
    )
    (root / "models" / "signals.sql").write_text("select 1 as n")
    (root / "models" / "schema.yml").write_text(
        "models: [{name: signals, columns: [{name: n, data_tests: [not_null, unique]}]}]\n"
        "sources: [{name: lake, schema: raw, tables: [{name: documents, columns: "
        "[{name: n, data_tests: [not_null]}]}]}]\n"
    )
    (root / "tests" / "pair.sql").write_text(
        "select * from {{ ref('signals') }} join {{ source('lake', 'documents') }} using (n) where n = 7"
    )
    (root / "tests" / "pinned.sql").write_text(
        "select * from {{ ref('signals') }} where '{{ env_var('HEADWATER_PINS') }}' <> '{\"dev.signals\": 3}'"
    )
    with duckdb.connect(str(root / "tiny.duckdb")) as con:
        con.execute("create schema dev; create schema raw; create table raw.documents as select 1 as n")
        con.execute("create table dev.signals as select unnest([1, 2, null]) as n")
    return root


def test_real_dbt_tests_are_read_back(dbt_project: Path) -> None:
    found = run_dbt_tests(dbt_project, "dev", ["dev.signals"], {"dev.signals": 3})
    # `pair` also reads documents, which nobody pinned: it is left out.
    assert {test["test"]: (test["status"], test["failures"]) for test in found} == {
        "not_null_signals_n": ("fail", 1),
        "pinned": ("pass", 0),
        "unique_signals_n": ("pass", 0),
    }
    assert {test["table"] for test in found} == {"signals"}
    only_source = run_dbt_tests(dbt_project, "dev", ["raw.documents", "dev.unheard_of"], {})
    assert [test["test"] for test in only_source] == ["source_not_null_lake_documents_n"]


def test_a_dbt_project_that_does_not_parse_is_no_pass(dbt_project: Path) -> None:
    stale = dbt_project / dbt_tests.TARGET_FOLDER / "run_results.json"
    stale.parent.mkdir(parents=True)
    stale.write_text('{"results": []}')
    (dbt_project / "models" / "bad.sql").write_text("select {{ nope")
    with pytest.raises(CheckFailed, match=r"bad\.sql"):
        run_dbt_tests(dbt_project, "dev", ["dev.signals"], {})
    shutil.rmtree(dbt_project / "models")
    (dbt_project / "dbt_project.yml").unlink()
    assert run_dbt_tests(dbt_project, "dev", ["dev.signals"], {}) == []


# -- sequences -------------------------------------------------------------------------------------


def test_sequences_need_the_approval_of_what_they_were_packed_from(
    lake: Lake, project: Path, suites: Suites
) -> None:
    with pytest.raises(CheckFailed, match=r"dev.textbook@1: is not approved"):
        approve(lake, "sequences", **SIGNED, project_dir=project)
    assert suites.judged == []
    approve(lake, "textbook", **SIGNED, project_dir=project)
    approve(lake, "sequences", **SIGNED, project_dir=project)
    assert lake.table("sequences", version="approved").version == 1


def test_approval_of_another_content_of_the_input_does_not_count(
    lake: Lake, project: Path, suites: Suites
) -> None:
    lake.write("textbook", rows(8, 9))
    approve(lake, "textbook", **SIGNED, project_dir=project)
    with pytest.raises(CheckFailed, match=r"dev.textbook@1: is not approved"):
        approve(lake, "sequences", **SIGNED, project_dir=project)


@pytest.mark.parametrize("extra", [{}, {"packed_table": "textbook"}, {"packed_table": "dev.textbook@1"}])
def test_the_curated_input_is_found_by_name_or_by_its_decisions(
    lake: Lake, project: Path, suites: Suites, extra: dict[str, Any]
) -> None:
    decided = Provenance(inputs=(lake.table("signals").ref,), extra={"decisions": {"build_id": "b"}})
    textbook = lake.write("textbook", rows(1), provenance=decided).ref
    tokens = lake.write("tokens", rows(1), provenance=Provenance(inputs=(textbook,))).ref
    named = {key: value.replace("@1", f"@{textbook.version}") for key, value in extra.items()}
    lake.write("sequences", rows(0), provenance=Provenance(inputs=(tokens,), extra=named))
    with pytest.raises(CheckFailed, match=f"dev.textbook@{textbook.version}: is not approved"):
        approve(lake, "sequences", **SIGNED, project_dir=project)


def test_other_tables_can_ask_for_approved_inputs(lake: Lake, project: Path, suites: Suites) -> None:
    extra = {"requires_approved_inputs": True}
    lake.write("textbook", rows(1), provenance=Provenance(extra=extra))
    with pytest.raises(CheckFailed, match="does not record which curated table"):
        approve(lake, "textbook", **SIGNED, project_dir=project)


# -- reading ---------------------------------------------------------------------------------------


def test_a_table_that_was_made_anew_is_not_the_one_approved(
    lake: Lake, project: Path, suites: Suites
) -> None:
    approve(lake, "textbook", **SIGNED, project_dir=project)
    lake.drop("textbook")
    lake.write("textbook", rows(66))
    with pytest.raises(DataMismatch, match="was approved with digest"):
        lake.table("textbook", version="approved")


def test_maintenance_keeps_an_approval(lake: Lake, project: Path, suites: Suites) -> None:
    approval = approve(lake, "textbook", **SIGNED, project_dir=project)
    lake.write("textbook", rows(5))
    lake.maintain("textbook", keep=timedelta(0))
    assert lake.table("textbook", version="approved").ref == approval.table
    assert standing_approval(lake, "textbook", version=lake.table("textbook").version) is None
    lake.write("textbook", rows(1))
    same_content = lake.table("textbook").version
    assert standing_approval(lake, "textbook", version=same_content) == approval


def test_each_target_approves_for_itself(lake: Lake, project: Path, suites: Suites) -> None:
    approve(lake, "documents", **SIGNED, project_dir=project)
    assert lake.table("documents", version="approved").name == "raw.documents"
    prod = Lake(lake.uri, schema="prod")
    with pytest.raises(NotApproved):
        prod.table("documents", version="approved")
    deferring = Lake(lake.uri, schema="ann", defer="dev")
    assert deferring.table("documents", version="approved").version == 1


# -- revoking --------------------------------------------------------------------------------------


def test_revoking_names_everything_downstream(lake: Lake, project: Path, suites: Suites) -> None:
    approve(lake, "documents", **SIGNED, project_dir=project)
    approve(lake, "textbook", **SIGNED, project_dir=project)
    approve(lake, "sequences", **SIGNED, project_dir=project)
    other = lake.write("unrelated", rows(4)).ref
    digest = lake.table("sequences").digest
    lake.write("training_runs", pa.table({"run_id": ["r1", "r2"], "sequences_digest": [digest, "else"]}))
    gone = revoke(lake, "documents", who="bob", why="licence withdrawn")
    assert gone.table.name == "raw.documents"
    assert next(a.table.name for a in gone.approvals) == "raw.documents"
    assert {a.table.name for a in gone.approvals} == {"raw.documents", "dev.textbook", "dev.sequences"}
    assert {r.name for r in gone.tables} == {"dev.signals", "dev.textbook", "dev.sequences"}
    assert other not in gone.tables
    assert [run["run_id"] for run in gone.training_runs] == ["r1"]
    json.loads(gone.to_json())
    for name in ("documents", "textbook", "sequences"):
        assert standing_approval(lake, name) is None
        assert tags(lake, name) == set()
    record = lake.table("dev.approvals").to_arrow().to_pylist()
    assert [row["action"] for row in record] == ["approve"] * 3 + ["revoke"] * 3
    assert {row["revokes"] for row in record[3:]} == {row["approval_id"] for row in record[:3]}
    with pytest.raises(NotApproved, match="to revoke"):
        revoke(lake, "documents", who="bob", why="again")


def test_revoking_leaves_other_versions_and_upstream_alone(lake: Lake, project: Path, suites: Suites) -> None:
    approve(lake, "documents", **SIGNED, project_dir=project)
    approve(lake, "textbook", **SIGNED, project_dir=project)
    lake.write("textbook", rows(1, 2, 3), provenance=Provenance(inputs=(lake.table("signals").ref,)))
    approve(lake, "textbook", **SIGNED, project_dir=project)
    revoke(lake, "textbook", who="bob", why="bad rows")
    assert approved_ref(lake, "textbook").version == 1
    assert standing_approval(lake, "documents") is not None
    approve(lake, "textbook", **SIGNED, project_dir=project, version=2)
    assert approved_ref(lake, "textbook").version == 2


def test_revoking_reaches_other_targets(lake: Lake, project: Path, suites: Suites) -> None:
    prod = Lake(lake.uri, schema="prod")
    prod.write("book", rows(1), provenance=Provenance(inputs=(lake.table("documents").ref,)))
    (project / "expectations" / "book.json").write_text("{}")
    approve(prod, "book", **SIGNED, project_dir=project)
    approve(prod, "documents", **SIGNED, project_dir=project)
    approve(lake, "documents", **SIGNED, project_dir=project)
    gone = revoke(lake, "documents", who="bob", why="bad")
    assert len(gone.approvals) == 3
    assert standing_approval(prod, "book") is None
    assert standing_approval(prod, "documents") is None


def test_an_incremental_table_is_not_blamed_for_its_own_past(
    lake: Lake, project: Path, suites: Suites
) -> None:
    old = lake.table("signals").ref
    documents = lake.write("raw.documents", rows(1, 2)).ref
    lake.write("signals", rows(5), provenance=Provenance(inputs=(old, documents)))
    approve(lake, "signals", **SIGNED, project_dir=project)
    assert [str(ref) for ref in suites.judged] == ["raw.documents@2", "dev.signals@2"]
    approve(lake, "documents", **SIGNED, project_dir=project, version=1)
    assert [str(r) for r in revoke(lake, "documents", who="bob", why="x").tables][:1] == ["dev.signals@1"]
    assert standing_approval(lake, "signals") is not None


# -- with Great Expectations -----------------------------------------------------------------------


@pytest.mark.checks
def test_real_suites_gate_an_approval(lake: Lake, project: Path) -> None:
    approval = approve(lake, "textbook", **SIGNED, project_dir=project)
    assert [s["expectations"] for s in approval.suites] == [1, 1, 1]
    suite = project / "expectations" / "signals.json"
    demand = {"type": "expect_column_max_to_be_between", "kwargs": {"column": "n", "max_value": 1}}
    suite.write_text(json.dumps({"name": "signals", "expectations": [demand]}))
    with pytest.raises(CheckFailed, match=r"dev.signals@1: expect_column_max_to_be_between on n: 2"):
        approve(lake, "textbook", **SIGNED, project_dir=project)
    assert lake.table("approvals").num_rows == 1
