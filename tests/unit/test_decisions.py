"""Routing by rules: conservation, unknown apart from failed, one commit point, readable errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater import decisions
from headwater.digest import ContentDigest
from headwater.errors import ConservationError, UsageError
from headwater.lake import Provenance
from headwater.models import ModelSpec, materialize
from headwater.session import Session


def ids(n: int) -> list[bytes]:
    return [i.to_bytes(16, "big") for i in range(n)]


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    connection.execute("create schema dev").fetchall()
    connection.execute("create schema raw").fetchall()
    yield connection
    connection.close()


def build(lake: hw.Lake, con: duckdb.DuckDBPyConnection, sql: str, **spec: object) -> Session:
    session = Session(lake)
    session.pin_all()
    session.register_all(con)
    session.create_views(con)
    wanted = {"name": "dev.book", "candidates": "raw.documents", "inputs": ("raw.documents",), **spec}
    materialize(session, con, ModelSpec(sql=sql, source=sql, **wanted))
    return session


def base(tmp_path: Path, n: int) -> hw.Lake:
    lake = hw.Lake(tmp_path / "lake")
    lake.write("raw.documents", pa.table({"doc_id": pa.array(ids(n), pa.binary(16)), "n": list(range(n))}))
    return lake


ANSWER = st.sampled_from([True, False, None])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(st.tuples(ANSWER, ANSWER), min_size=1, max_size=30))
def test_every_candidate_goes_to_exactly_one_place(
    tmp_path_factory: pytest.TempPathFactory, answers: list
) -> None:
    lake = base(tmp_path_factory.mktemp("lake"), len(answers))
    con = duckdb.connect()
    con.execute("create schema dev").fetchall()
    con.register(
        "answers",
        pa.table({"n": range(len(answers)), "a": [a for a, _ in answers], "b": [b for _, b in answers]}),
    )
    build(
        lake,
        con,
        "select doc_id, a::boolean as keep__a, b::boolean as keep__b from raw.documents left join answers using (n)",
    )
    con.close()
    kept = set(lake.table("book").to_arrow(["doc_id"])["doc_id"].to_pylist())
    decided = {row["doc_id"]: row for row in lake.table("decisions").to_arrow().to_pylist()}
    for doc_id, (a, b) in zip(ids(len(answers)), answers, strict=True):
        if a is True and b is True:
            assert doc_id in kept and doc_id not in decided
            continue
        assert doc_id not in kept
        assert decided[doc_id]["failed"] == [name for name, answer in (("a", a), ("b", b)) if answer is False]
        assert decided[doc_id]["unknown"] == [name for name, answer in (("a", a), ("b", b)) if answer is None]
    assert len(kept) + len(decided) == len(answers)


def test_the_table_names_its_decisions(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    lake = base(tmp_path, 10)
    build(
        lake,
        con,
        "select doc_id, n >= 3 as keep__large, case when n <> 5 then true end as keep__known from raw.documents",
    )
    extra = lake.table("book").provenance.extra
    stored = lake.table("decisions")
    assert extra["num_candidates"] == 10 and extra["num_unknown"] == 1
    assert extra["decisions"] == {
        "build_id": lake.table("book").provenance.build_id,
        "count": 4,
        "digest": ContentDigest.of(stored.scan()).hex(),
    }
    assert "keep__large" not in lake.table("book").schema.names
    rules = {row["rule"]: row for row in lake.table("rules").to_arrow().to_pylist()}
    assert rules["large"]["expression"] == "n >= 3" and rules["large"]["columns"] == ["n"]
    assert (rules["large"]["num_failed"], rules["known"]["num_unknown"]) == (3, 1)


def test_a_build_killed_between_the_two_commits_shows_nothing(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = base(tmp_path, 10)
    build(lake, con, "select doc_id, n >= 3 as keep__large from raw.documents")
    first = lake.table("book")
    write = hw.Lake.write

    def killed(self: hw.Lake, name: str, *args: object, **kwargs: object) -> object:
        if name == "dev.book":
            raise KeyboardInterrupt  # decisions and rules are in, the table is not
        return write(self, name, *args, **kwargs)

    monkeypatch.setattr(hw.Lake, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        build(lake, con, "select doc_id, n >= 5 as keep__large from raw.documents")
    monkeypatch.undo()
    assert lake.table("book").ref == first.ref
    assert lake.table("decisions").num_rows == 3 + 5
    assert decisions.named_decisions(lake, "dev") == {(first.provenance.build_id, "book")}
    assert decisions.drop_orphans(lake, "dev") == 5 + 1
    assert lake.table("decisions").num_rows == 3


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "select doc_id, true as keep__a from raw.documents where n > 2",
            "3 documents of raw.documents are missing",
        ),
        (
            "select d.doc_id, true as keep__a from raw.documents d join raw.documents e on d.n = e.n or e.n = 0",
            "rows are doubled",
        ),
        ("select uuid() as doc_id, true as keep__a from raw.documents", "are not documents of raw.documents"),
    ],
)
def test_a_lost_or_doubled_document_is_an_error(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, sql: str, message: str
) -> None:
    lake = base(tmp_path, 10)
    with pytest.raises(ConservationError, match=message):
        build(lake, con, sql)
    assert not lake.exists("book")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "select doc_id,\n n > 1 as keep__a,\n nn > 2 as keep__b from raw.documents",
            "model 'book', rule 'b', line 3, column 2 .*unknown column 'nn'",
        ),
        (
            "select doc_id, n > > 1 as keep__a from raw.documents",
            "model 'book', rule 'a', line 1, .*syntax error",
        ),
        (
            "select doc_id, text is not null as keep__a from raw.documents",
            "model 'book', rule 'a'.*reads the text column",
        ),
    ],
)
def test_a_bad_rule_names_model_rule_and_position(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, sql: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(base(tmp_path, 3), con, sql)


def test_declarations_that_miss_their_other_half(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    lake = base(tmp_path, 3)
    with pytest.raises(UsageError, match="returns no keep__"):
        build(lake, con, "select doc_id from raw.documents")
    with pytest.raises(UsageError, match="does not say whose documents"):
        build(lake, con, "select doc_id, true as keep__a from raw.documents", candidates=None)
    with pytest.raises(UsageError, match="is a system table|may not be called"):
        build(lake, con, "select 1 as x", name="dev.rules", candidates=None)


def test_unchanged_models_are_left_alone(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    lake = base(tmp_path, 10)
    sql = "select doc_id, n >= 3 as keep__large from raw.documents"
    build(lake, con, sql)
    assert build(lake, con, sql).results["book"].status == "unchanged"
    assert lake.table("book").version == 1
    assert build(lake, con, sql.replace("3", "4")).results["book"].status == "built"
    lake.write(
        "raw.documents",
        pa.table({"doc_id": pa.array([b"x" * 16], pa.binary(16)), "n": [99]}),
        mode="append",
        provenance=Provenance(),
    )
    assert build(lake, con, sql.replace("3", "4")).results["book"].status == "built"
    assert lake.table("book").num_rows == 7


def test_expressions_come_from_duckdb_itself(con: duckdb.DuckDBPyConnection) -> None:
    sql = """with r as (select *, tier in ('gold', 'silver') as keep__tier, not generated as keep__hand from t)
             select *, coalesce(score, 0) > 1 and list_contains([1], n) as keep__score from r"""
    rules = decisions.parse_rules(
        con,
        sql,
        ["tier", "hand", "score"],
        {"keep__tier": {"description": "why\n so", "meta": {"max_unknown": 0.1}}},
    )
    assert [rule.expression for rule in rules] == [
        "tier IN ('gold', 'silver')",
        'NOT "generated"',
        "(COALESCE(score, 0) > 1) AND list_contains(list_value(1), n)",
    ]
    assert [rule.columns for rule in rules] == [("tier",), ("generated",), ("n", "score")]
    assert rules[0].description == "why so" and rules[0].max_unknown == 0.1
