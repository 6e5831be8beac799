"""Sticky survivors and verified choice: `best_of` as SQL, the view it asks, and the unchanged-model skip."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import jinja2
import pyarrow as pa
import pytest
import xxhash

from headwater.dbt_plugin import SQL_MACROS
from headwater.dedup.survivors import Survivors
from headwater.errors import LakeError
from headwater.lake import Lake, Provenance
from headwater.lake.approvals import APPROVALS_SCHEMA
from headwater.models import ModelSpec, materialize
from headwater.sequences.packing import EXPOSURES
from headwater.session import Session
from headwater.sql import run
from headwater.training.run_log import SCHEMAS

MACRO_FILE = Path(__file__).parents[2] / "sql/macros/best_of.sql"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def best_of(*arguments: str, **options: Any) -> str:
    """The macro, rendered as dbt would (its comments say what each argument means)."""

    def fail(message: str) -> None:
        raise ValueError(message)

    environment = jinja2.Environment(autoescape=False)
    macros: dict[str, Any] = {}
    environment.globals.update(
        this=SimpleNamespace(identifier="textbook"),
        var=lambda name: {"near_duplicate_threshold": 0.8}[name],
        exceptions=SimpleNamespace(raise_compiler_error=fail),
        headwater=SimpleNamespace(
            all_keep=lambda: macros["all_keep"](),
            is_like_the_first=lambda *a: macros["is_like_the_first"](*a),
        ),
    )
    module = environment.from_string(MACRO_FILE.read_text()).module
    macros.update({name: getattr(module, name) for name in ("all_keep", "is_like_the_first")})
    return str(module.best_of(*arguments, **options))  # type: ignore[attr-defined]


def doc(name: object) -> bytes:
    return xxhash.xxh3_128_digest(str(name).encode())


def ids(*names: object) -> pa.Array:
    return pa.array([doc(name) for name in names], pa.binary(16))


def pairs_table(rows: list[tuple[bytes, bytes, float, str]]) -> pa.Table:
    return pa.table(
        {
            "a": pa.array([min(r[:2]) for r in rows], pa.binary(16)),
            "b": pa.array([max(r[:2]) for r in rows], pa.binary(16)),
            "similarity": pa.array([r[2] for r in rows], pa.float32()),
            "kind": pa.array([r[3] for r in rows], pa.string()),
        }
    )


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    for signature, body in SQL_MACROS.items():
        run(connection, f"create macro {signature} as {body}")
    Survivors().create_view(connection)
    yield connection
    connection.close()


def kept(
    con: duckdb.DuckDBPyConnection, scores: dict[bytes, int], listed: pa.Table, **options: Any
) -> set[bytes]:
    """Who stays of one cluster, the highest score first."""
    con.register(
        "given_docs", pa.table({"i": pa.array(scores, pa.binary(16)), "score": list(scores.values())})
    )
    con.register("given_pairs", listed)
    run(
        con,
        "create or replace temp view d as select i::uuid as doc_id, 1 as cluster_id, score, true as keep__x from given_docs",
    )
    run(
        con,
        "create or replace temp view p as select a::uuid as a, b::uuid as b, similarity, kind from given_pairs",
    )
    rule = best_of("cluster_id", "score desc, doc_id", **options)
    rows = run(con, f"select doc_id::blob from (select doc_id, {rule} as keep__u from d) where keep__u")
    return {bytes(row[0]) for row in rows}


def test_a_chain(con: duckdb.DuckDBPyConnection) -> None:
    """a ~ b ~ c, and a is unlike c: one cluster. `any` keeps the best; `survivor` keeps c as well."""
    a, b, c = doc("a"), doc("b"), doc("c")
    chain = pairs_table([(a, b, 0.9, "near"), (b, c, 0.85, "near")])
    assert kept(con, {a: 3, b: 2, c: 1}, chain) == {a}
    verified = {"verify": "survivor", "pairs": "p"}
    assert kept(con, {a: 3, b: 2, c: 1}, chain, **verified) == {a, c}
    assert kept(con, {a: 2, b: 3, c: 1}, chain, **verified) == {b}
    # the threshold is part of the question: stored pairs begin at a lower floor
    assert kept(con, {a: 2, b: 3, c: 1}, chain, threshold=0.88, **verified) == {b, c}
    # exactly at it, compared as similarities are stored
    edge = pairs_table([(a, b, 0.8, "near")])
    assert kept(con, {a: 2, b: 1}, edge, **verified) == {a}


def test_verified_by_the_pair_that_stands_for_equal_sets(con: duckdb.DuckDBPyConnection) -> None:
    """Above the caps one pair stands for two groups of equal documents: by their smallest ids."""
    xs, ys = sorted(doc(f"x{i}") for i in range(4)), sorted(doc(f"y{i}") for i in range(4))
    other = doc("other")
    rows = [(xs[0], x, 1.0, "equal_shingles") for x in xs[1:]] + [
        (ys[0], y, 1.0, "equal_shingles") for y in ys[1:]
    ]
    listed = pairs_table([*rows, (xs[0], ys[0], 0.9, "near"), (ys[0], other, 0.9, "near")])
    scores = dict.fromkeys([*xs, *ys, other], 1)
    best = xs[2]  # not the one that the pairs name
    assert kept(con, {**scores, best: 9}, listed, verify="survivor", pairs="p") == {best, other}
    assert kept(con, {**scores, other: 9}, listed, verify="survivor", pairs="p") == {other, *xs}


def test_large_clusters_are_not_verified(con: duckdb.DuckDBPyConnection) -> None:
    """Where pairs may be missing because of a bucket's cap, members are dropped as by `any`."""
    members = sorted(doc(i) for i in range(600))
    star = pairs_table([(members[0], m, 0.9, "near") for m in members[1:]])
    scores = {m: i for i, m in enumerate(members)}
    assert kept(con, scores, star, verify="survivor", pairs="p") == {members[-1]}


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="expected 'any' or 'survivor'"):
        best_of("c", "doc_id", verify="some")
    with pytest.raises(ValueError, match="needs pairs"):
        best_of("c", "doc_id", verify="survivor")
    assert "_hw_survived" not in best_of("c", "doc_id", sticky=False)


# ---------------------------------------------------------------- sticky

CANDIDATES = pa.schema({"doc_id": pa.binary(16), "score": pa.int64()})


class Project:
    """A lake with one curated table, `textbook`: the best score of one cluster."""

    def __init__(self, folder: Path, schema: str = "dev", defer: str | None = None) -> None:
        self.lake = Lake(folder, schema=schema, defer=defer)

    def documents(self, **scores: int) -> None:
        rows = pa.table({"doc_id": ids(*scores), "score": list(scores.values())}, schema=CANDIDATES)
        self.lake.write("raw.documents", rows)

    def build(self, **options: Any) -> tuple[str, list[bytes]]:
        session = Session(self.lake)
        session.pin_all()
        con = duckdb.connect()
        for signature, body in SQL_MACROS.items():
            run(con, f"create macro {signature} as {body}")
        session.register_all(con)
        session.create_views(con)
        rule = best_of("1", "score desc, doc_id", **options)
        relation = '"raw"."documents"'
        sql = f"select *, {rule} as keep__u from (select doc_id, score, true as keep__x from {relation})"
        spec = ModelSpec(
            name=f"{self.lake.schema}.textbook", sql=sql, source=sql, inputs=("raw.documents",),
            relations={"raw.documents": relation}, candidates="raw.documents",
        )  # fmt: skip
        status = materialize(session, con, spec).status
        con.close()
        return status, self.lake.table("textbook").to_arrow()["doc_id"].to_pylist()

    def approve(self, action: str = "approve", revokes: str | None = None) -> None:
        table = self.lake.table("textbook")
        row = {
            "approval_id": f"{action}-{table.version}", "action": action, "table": table.name,
            "version": table.version, "content_digest": table.digest, "closure": "[]", "suites": "[]",
            "dbt_tests": None, "revokes": revokes, "who": "w", "why": "y", "at": AT,
        }  # fmt: skip
        self.lake.write("approvals", pa.Table.from_pylist([row], APPROVALS_SCHEMA), mode="append")


def test_an_approved_survivor_stays(tmp_path: Path) -> None:
    project = Project(tmp_path / "lake")
    project.documents(a=5, b=3)
    assert project.build() == ("built", [doc("a")])
    assert project.build()[0] == "unchanged"
    project.documents(a=5, b=3, better=9)
    assert project.build() == ("built", [doc("better")])  # nothing was approved: the best wins
    project.documents(a=5, b=3)
    assert project.build() == ("built", [doc("a")])
    project.approve()
    assert project.build()[0] == "unchanged"  # it holds what was approved
    project.documents(a=5, b=3, better=9)
    assert project.build() == ("built", [doc("a")])
    extra = project.lake.table("textbook").provenance.extra
    assert [(s["why"], s["table"], s["version"]) for s in extra["survivors"]] == [
        ("approved", "dev.textbook", 3)
    ]
    assert extra["survivors"][0]["digest"] == project.lake.table("dev.textbook", version=3).digest
    assert project.build()[0] == "unchanged"
    assert project.build(sticky=False) == ("built", [doc("better")])
    assert project.build() == ("built", [doc("a")])
    # a revoked approval binds no longer, and that is a change of the inputs
    project.approve("revoke", revokes="approve-3")
    assert project.build() == ("built", [doc("better")])
    assert project.build()[0] == "unchanged"


def test_a_survivor_that_is_gone_frees_its_place(tmp_path: Path) -> None:
    project = Project(tmp_path / "lake")
    project.documents(a=5, b=3)
    project.build()
    project.approve()
    project.documents(b=3, c=4)
    assert project.build() == ("built", [doc("c")])
    assert project.build()[0] == "unchanged"


def test_a_document_that_a_run_has_read_stays(tmp_path: Path) -> None:
    project = Project(tmp_path / "lake")
    lake = project.lake
    project.documents(a=5, b=3)
    project.build()
    packed = lake.table("textbook").ref.to_dict()
    sequences = lake.write(
        "sequences",
        pa.table({"sequence_index": [0, 1]}),
        provenance=Provenance(extra={"packed_table": packed}),
    )
    rows = pa.table([ids("a", "later"), pa.array([0, 1])], schema=EXPOSURES)
    lake.write("exposures", rows, provenance=Provenance(inputs=(sequences.ref,)))
    run_row = {
        "run_id": "r",
        "attempt": 1,
        "table": sequences.name,
        "version": sequences.version,
        "digest": sequences.digest,
        "started_at": AT,
    }
    step = {"run_id": "r", "attempt": 1, "step": 0, "first_sequence": 0, "count": 1, "at": AT}
    lake.write("training_runs", pa.Table.from_pylist([run_row], SCHEMAS["training_runs"]))
    lake.write("training_steps", pa.Table.from_pylist([step], SCHEMAS["training_steps"]))
    project.documents(a=5, b=3, later=8, better=9)
    assert project.build() == ("built", [doc("a")])  # `later` stands in a sequence that no step has read
    assert project.build()[0] == "unchanged"
    (record,) = lake.table("textbook").provenance.extra["survivors"]
    assert (record["why"], record["table"], record["before_sequence"]) == ("trained", "dev.exposures", 1)
    # a run that goes on reads `later` too: both are survivors now, and the better of them stays
    more = {**step, "step": 1, "first_sequence": 1}
    lake.write("training_steps", pa.Table.from_pylist([more], SCHEMAS["training_steps"]), mode="append")
    assert project.build() == ("built", [doc("later")])


def test_dev_keeps_what_prod_approved(tmp_path: Path) -> None:
    prod = Project(tmp_path / "lake", "prod")
    prod.documents(a=5, b=3)
    prod.build()
    prod.approve()
    prod.documents(a=5, b=3, better=9)
    dev = Project(tmp_path / "lake", "dev", defer="prod")
    assert dev.build() == ("built", [doc("a")])
    assert Project(tmp_path / "lake", "other").build() == ("built", [doc("better")])


def test_an_approved_version_that_is_gone_is_an_error(tmp_path: Path) -> None:
    project = Project(tmp_path / "lake")
    project.documents(a=5)
    project.build()
    project.approve()
    project.lake.drop("textbook")
    project.documents(a=5, b=6)
    with pytest.raises(LakeError, match="survivors of textbook"):
        project.build()
    assert project.build(sticky=False) == ("built", [doc("b")])


def test_the_expression_on_record_is_what_the_author_wrote(con: duckdb.DuckDBPyConnection) -> None:
    from headwater.decisions import parse_rules

    for options, like in (({}, ""), ({"verify": "survivor", "pairs": "p"}, ", if like it")):
        rule = best_of("cluster_id", "score desc, doc_id", **options)
        sql = f"select *, {rule} as keep__u from d"
        (found,) = parse_rules(con, sql, ["u"], {})
        assert re.fullmatch(
            rf"best of cluster_id{like}, by score DESC, doc_id, what was approved .*", found.expression
        ), found.expression
        assert "cluster_id" in found.columns
        assert json.dumps(found.columns)
