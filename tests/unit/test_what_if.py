"""What-if equals a real build with the changed SQL, refuses what it cannot know, and runs nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.dbt_plugin import SQL_MACROS
from headwater.dedup import duplicate_clusters, total_clusters
from headwater.errors import HeadwaterError, UnknownName, UsageError
from headwater.lake import Provenance
from headwater.models import ModelSpec, fingerprint_of, materialize
from headwater.operators import register_all
from headwater.project import Project
from headwater.session import Session
from headwater.what_if import answer, what_if
from headwater.what_if.compiled import Compiled
from headwater.what_if.rules import Changes, Statement, parse_predicate

ALL = "list_bool_and(list_transform(list_value(*COLUMNS('keep__.*')), lambda kept: coalesce(kept, false)))"
SQL = f"""
with candidates as (
    select d.doc_id, d.source, d.text_bytes, l.license_tier, s.num_words, s.is_generated, k.cluster_id
    from "memory"."raw"."documents" d
    left join "memory"."dev"."licenses" l using (doc_id)
    left join "memory"."dev"."signals" s using (doc_id)
    left join "memory"."dev"."duplicate_clusters" k using (doc_id)
),
ruled as (
    select *,
        license_tier in ('gold', 'silver') as keep__permissive,
        num_words >= 50 as keep__long_enough,
        not is_generated as keep__handwritten
    from candidates
)
select *, _hw_best_of(cluster_id, {ALL},
    row_number() over (partition by cluster_id, {ALL} order by num_words desc, doc_id)) as keep__unique
from ruled
"""
FLOOR, THRESHOLD = 0.5, 0.8


def doc_id(i: int) -> bytes:
    """Ids in no order, half of them with equal leading words."""
    return bytes([(i * 97) % 256 if i % 2 else 7]) + b"\0" * 13 + i.to_bytes(2, "big")


class World:
    """A lake as a build leaves it, made without dbt: inputs, clusters, one curated table."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]], pairs: list[tuple[int, int, float]], *,
                 sql: str = SQL, total: bool = True) -> None:  # fmt: skip
        self.folder = folder
        self.lake = hw.Lake(folder / "lake")
        self.rows = rows
        ids = [doc_id(i) for i in range(len(rows))]
        self.base = self.lake.write(
            "raw.documents",
            pa.table(
                {
                    "doc_id": pa.array(ids, pa.binary(16)),
                    "text": pa.array([f"text {i}" for i in range(len(rows))], pa.large_string()),
                    "source": pa.array([row.get("source") for row in rows], pa.string()),
                    "path": pa.array([f"p{i}" for i in range(len(rows))]),
                    "text_bytes": pa.array([10 * i + 1 for i in range(len(rows))], pa.int64()),
                }
            ),
        )
        self._write("signals", {
            "doc_id": pa.array(ids, pa.binary(16)),
            "num_words": pa.array([row["words"] for row in rows], pa.int64()),
            "is_generated": pa.array([row.get("generated", False) for row in rows], pa.bool_()),
            "digit_share": pa.array([i / max(len(rows), 1) for i in range(len(rows))]),
        }, (self.base.ref,), {"rows_of": "raw.documents"})  # fmt: skip
        licensed = sorted((ids[i], row["tier"]) for i, row in enumerate(rows) if row.get("tier") != "missing")
        self._write("licenses", {
            "doc_id": pa.array([key for key, _ in licensed], pa.binary(16)),
            "license_tier": pa.array([tier for _, tier in licensed], pa.string()),
        }, (self.base.ref,))  # fmt: skip
        ordered = [(*sorted((ids[a], ids[b])), s) for a, b, s in pairs if a != b and max(a, b) < len(rows)]
        found = self._write("near_duplicate_pairs", {
            "a": pa.array([a for a, _, _ in ordered], pa.binary(16)),
            "b": pa.array([b for _, b, _ in ordered], pa.binary(16)),
            "similarity": pa.array([s for _, _, s in ordered], pa.float32()),
        }, (self.base.ref,), {"floor": FLOOR}, python=True)  # fmt: skip
        self.total = total
        self.models: dict[str, Compiled] = getattr(self, "models", {})
        self.clusters = self._write("duplicate_clusters", self.clusters_at(THRESHOLD),
            (self.base.ref, found.ref), {"threshold": THRESHOLD}, python=True)  # fmt: skip
        self.build("book", sql)

    def clusters_at(self, threshold: float) -> pa.Table:
        pairs = self.lake.table("near_duplicate_pairs").to_arrow()
        ids = self.lake.table("raw.documents").to_arrow(["doc_id"])["doc_id"]
        return (
            total_clusters(ids, pairs, threshold=threshold)
            if self.total
            else duplicate_clusters(pairs, threshold=threshold)
        )

    def _write(self, name: str, columns: Any, inputs: Any, meta: dict[str, Any] | None = None, *,
               python: bool = False) -> hw.TableVersion:  # fmt: skip
        self.models = getattr(self, "models", {})
        self.models[name] = self.model(name, meta or {}, None if python else f"select 1 as {name}")
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        return self.lake.write(
            name,
            table,
            provenance=Provenance(kind="model", inputs=inputs, fingerprint=self.models[name].fingerprint()),
        )

    @staticmethod
    def model(name: str, meta: dict[str, Any], sql: str | None) -> Compiled:
        spec = ModelSpec(name=f"dev.{name}", sql=sql, source=sql or f"{name} {meta}", rows_of=meta.get("rows_of"),
                         candidates=meta.get("candidates"))  # fmt: skip
        return Compiled(spec=spec, meta=meta, schema="dev", unit_path=f"pipelines/{name}.py")

    def build(self, name: str, sql: str) -> set[bytes]:
        """Really materialize ``sql``; returns what it keeps."""
        con = duckdb.connect()
        register_all(con)
        for signature, body in SQL_MACROS.items():
            con.execute(f"create macro {signature} as {body}").fetchall()
        session = Session(self.lake)
        session.pin_all()
        session.register_all(con)
        session.create_views(con)
        relations = {
            m.replace('"', "").removeprefix("memory.") for m in re.findall(r'"memory"\."\w+"\."\w+"', sql)
        }
        inputs = tuple(sorted(relations))
        spec = ModelSpec(name=f"dev.{name}", sql=sql, source=sql, candidates="raw.documents", inputs=inputs)
        materialize(session, con, spec)
        con.close()
        if name == "book":
            self.models[name] = self.model(name, {"candidates": "raw.documents"}, sql)
            assert fingerprint_of(spec, "dev", {}) == self.lake.table(name).provenance.fingerprint
        return set(self.lake.table(name).to_arrow(["doc_id"])["doc_id"].to_pylist())

    def kept(self) -> set[bytes]:
        return set(self.lake.table("book").to_arrow(["doc_id"])["doc_id"].to_pylist())

    def ask(self, *, threshold: float | None = None, **asked: Any) -> Any:
        models = dict(self.models)
        settings_ = {}
        if threshold is not None:
            models["duplicate_clusters"] = self.model("duplicate_clusters", {"threshold": threshold}, None)
            settings_ = {"thresholds": {"near_duplicate": threshold}}
        project = Project(root=self.folder, name="test", target="dev", schema="dev", lake_uri=self.lake.uri,
                          profiles_dir=self.folder)  # fmt: skip
        return what_if(project, "book", models=models, samples=1000, **settings_, **asked)

    def moved(self, found: Any) -> tuple[set[bytes], set[bytes]]:
        gained, lost = (
            {bytes.fromhex(s.doc_id) for s in side} for side in (found.gained_samples, found.lost_samples)
        )
        assert (len(gained), len(lost)) == (found.gained.rows, found.lost.rows)
        return gained, lost


TIERS = st.sampled_from(["gold", "silver", "copyleft", None, "missing"])
ROW = st.fixed_dictionaries({
    "words": st.one_of(st.none(), st.integers(0, 120)),
    "tier": TIERS,
    "generated": st.sampled_from([False, False, True, None]),
    "source": st.sampled_from(["a", "b", None]),
})  # fmt: skip
PAIR = st.tuples(st.integers(0, 24), st.integers(0, 24), st.sampled_from([0.5, 0.6, 0.75, 0.8, 0.9, 1.0]))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, min_size=1, max_size=25), pairs=st.lists(PAIR, max_size=25),
       words=st.integers(0, 120), threshold=st.sampled_from([0.5, 0.7, 0.8, 0.95]), total=st.booleans())  # fmt: skip
def test_it_says_what_a_build_would_do(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, pairs: Any, words: int, threshold: float, total: bool
) -> None:
    world = World(tmp_path_factory.mktemp("world"), rows, pairs, total=total)
    found = world.ask(
        rules={"long_enough": f"num_words >= {words}"}, drop=["handwritten"], threshold=threshold
    )
    before = world.kept()
    world.lake.write("duplicate_clusters", world.clusters_at(threshold))
    changed = SQL.replace("num_words >= 50", f"num_words >= {words}")
    changed = re.sub(r",\s*not is_generated as keep__handwritten", "", changed)
    after = world.build("changed", changed)
    assert world.moved(found) == (after - before, before - after)
    assert (found.before.rows, found.after.rows) == (len(before), len(after))
    decisions = world.lake.table("rules").to_arrow().to_pylist()
    counts = {
        row["rule"]: (row["num_failed"], row["num_unknown"]) for row in decisions if row["table"] == "changed"
    }
    asked = {rule.rule: (rule.failed[1], rule.unknown[1]) for rule in found.rules if rule.change != "dropped"}
    assert asked == counts
    sources = {row.source: (row.gained.rows, row.lost.rows) for row in found.by_source}
    place = {doc_id(i): row["source"] or "(none)" for i, row in enumerate(rows)}
    assert sources == {
        s: (sum(place[d] == s for d in after - before), sum(place[d] == s for d in before - after))
        for s in {place[d] for d in after ^ before}
    }
    size = {doc_id(i): 10 * i + 1 for i in range(len(rows))}
    assert found.gained.size == sum(size[d] for d in after - before)
    assert found.unit == "bytes of text"


def sample_rows(n: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "words": (i * 13) % 120,
            "tier": ["gold", "silver", "copyleft"][i % 3],
            "generated": i % 11 == 0,
            "source": "ab"[i % 2],
        }
        for i in range(n)
    ]


PAIRS = [(1, 4, 0.9), (4, 7, 0.6), (10, 13, 0.82), (13, 16, 0.85), (3, 9, 1.0), (30, 33, 0.7)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), sample_rows(), PAIRS)


QUESTIONS: list[dict[str, Any]] = [
    {"rules": {"long_enough": "num_words >= 20"}},
    {"rules": {"few_digits": "digit_share < 0.4"}},  # the model does not read that column
    {"rules": {"own": "keep__long_enough or source = 'a'"}, "drop": ["permissive"]},
    {"drop": ["unique"]},
    {"rules": {"unique": "cluster_id = doc_id"}},
    {
        "rules": {"third": "text_bytes % 3 <> 0", "long_enough": "num_words between 10 and 100"},
        "threshold": 0.6,
    },
    {"threshold": 0.95},
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_aligned_columns_and_the_database_agree(
    world: World, question: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    chain_of = answer.chain_of
    monkeypatch.setattr(answer, "chain_of", lambda *a: seen.append(chain_of(*a)) or seen[-1])
    quick = world.ask(**question)
    monkeypatch.setattr(answer, "chain_of", lambda *a: None)
    plain = world.ask(**question)
    assert seen[0] is not None, "this question should not need the database"
    assert {**quick.to_json(), "seconds": {}} == {**plain.to_json(), "seconds": {}}


OTHER_SHAPES = {
    "sticky": SQL.replace("order by num_words", "order by _hw_survived('book', doc_id) desc, num_words"),
    "joined by on": """select d.doc_id, s.num_words >= 50 as keep__long_enough from "memory"."raw"."documents" d
        left join "memory"."dev"."signals" s on s.doc_id = d.doc_id""",
    "one select": """select doc_id, num_words >= 50 as keep__long_enough, text_bytes > 30 as keep__large
        from "memory"."raw"."documents" left join "memory"."dev"."signals" using (doc_id)""",
    "a share of all": """with c as (select d.doc_id, s.num_words from "memory"."raw"."documents" d
        left join "memory"."dev"."signals" s using (doc_id)), r as (select *, num_words >= 50 as keep__long_enough from c)
        select *, percent_rank() over (order by num_words) < 0.9 as keep__top from r""",
    "a union": """select doc_id, num_words >= 50 as keep__long_enough from (select * from "memory"."dev"."signals")
        where num_words < 60 union all select doc_id, num_words >= 50 from "memory"."dev"."signals" where num_words >= 60""",
    "explicit columns": """with c as (select d.doc_id, s.num_words as w, k.cluster_id as g from "memory"."raw"."documents" d
        left join "memory"."dev"."signals" s using (doc_id) left join "memory"."dev"."duplicate_clusters" k using (doc_id)),
        r as (select doc_id, w, g, w >= 50 as keep__long_enough from c)
        select doc_id, keep__long_enough, row_number() over (partition by g order by w desc, doc_id) = 1 as keep__one from r""",
}  # fmt: skip


@pytest.mark.parametrize("shape", OTHER_SHAPES)
def test_models_of_other_shapes(tmp_path: Path, shape: str) -> None:
    sql = OTHER_SHAPES[shape]
    world = World(tmp_path, sample_rows(), PAIRS, sql=sql)
    before = world.kept()
    found = world.ask(rules={"long_enough": "num_words >= 30" if shape != "explicit columns" else "w >= 30"})
    after = world.build("changed", re.sub(r">= 50", ">= 30", sql))
    assert world.moved(found) == (after - before, before - after)
    assert after != before


def test_the_answer_names_values_rules_and_inputs(world: World) -> None:
    found = world.ask(rules={"long_enough": "num_words >= 20"}, threshold=0.6)
    assert found.recomputed == ("dev.duplicate_clusters at threshold 0.6",)
    changed = {rule.rule: rule for rule in found.rules}["long_enough"]
    assert changed.change == "changed" and changed.expression == ("num_words >= 50", "num_words >= 20")
    assert [rule.rule for rule in found.rules] == ["permissive", "long_enough", "handwritten", "unique"]
    for sample in found.gained_samples:
        assert set(sample.values) == {"num_words", "cluster_id", "cluster_size"}
        assert sample.path and sample.source in "ab"
        assert sample.rules  # what it failed before
    assert any("unique" in sample.rules for sample in found.lost_samples)
    assert found.version == world.lake.table("book").version


def test_samples_depend_on_the_seed_alone(world: World) -> None:
    project = Project(
        root=world.folder,
        name="t",
        target="dev",
        schema="dev",
        lake_uri=world.lake.uri,
        profiles_dir=world.folder,
    )
    asked = [
        what_if(project, "book", drop=["permissive"], samples=4, seed=seed, models=world.models)
        for seed in (1, 1, 2)
    ]
    shown = [[s.doc_id for s in found.gained_samples] for found in asked]
    assert shown[0] == shown[1] != shown[2] and len(shown[0]) == 4


def test_nothing_is_written(world: World) -> None:
    before = sorted(
        (p.relative_to(world.folder).as_posix(), p.stat().st_mtime_ns)
        for p in (world.folder / "lake").rglob("*")
    )
    world.ask(rules={"x": "num_words > 3"}, threshold=0.6)
    after = sorted(
        (p.relative_to(world.folder).as_posix(), p.stat().st_mtime_ns)
        for p in (world.folder / "lake").rglob("*")
    )
    assert before == after


def test_tokens_are_counted_where_a_tokenizer_did(tmp_path: Path) -> None:
    world = World(tmp_path, sample_rows(), PAIRS)
    kept = sorted(world.kept())
    counts = pa.array([7] * len(kept), pa.int32())
    world.lake.write("tokens", pa.table({"doc_id": pa.array(kept, pa.binary(16)), "num_tokens": counts}))
    found = world.ask(rules={"long_enough": "num_words >= 100"})
    assert found.unit.startswith("tokens (estimated at ") and found.lost.size == 7 * found.lost.rows


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ("num_words", "gives BIGINT, not true or false"),
        ("(select true)", "holds a subquery"),
        ("exists (from read_csv('x'))", "holds a subquery"),
        ("true from read_csv('/etc/hosts')", "is not one condition"),
        ("true; select false", "is not one condition"),
        ("true; drop table x", "Only SELECT"),
        ("true as keep__y", "is not one condition"),
        ("true, false", "is not one condition"),
        ("*", "is not one condition"),
        ("true where false", "is not one condition"),
        ("num_words >", "syntax error"),
        ("num_words > ?", "holds a parameter"),
        ("random() < 0.5", "depends on chance"),
        ("now() > '2020-01-01'::timestamptz", "depends on chance"),
        ("current_setting('threads')::int > 1", "depends on chance"),
        ("unnest([true, false])", "makes rows"),
        ("read_text('/etc/hosts') is null", "makes rows"),
        ("text like '%x%'", "never text"),
        ("num_wrods > 1", "unknown column 'num_wrods'"),
        ("no_such_function(num_words)", "no_such_function"),
        ("'/etc/hosts'", "gives VARCHAR"),
    ],
)  # fmt: skip
def test_refused_predicates(world: World, predicate: str, message: str) -> None:
    with pytest.raises(HeadwaterError, match=re.escape(message)):
        world.ask(rules={"x": predicate})


@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.text("()'\";,*= seltcfromx1-/\x00\u202e😀", max_size=40)))
def test_hostile_predicates_are_one_expression_or_refused(text: str) -> None:
    con = duckdb.connect()
    try:
        node = parse_predicate(con, "x", text)
    except HeadwaterError:
        return
    finally:
        con.close()
    assert node["class"] != "SUBQUERY"


def test_refusals_name_what_is_missing(world: World) -> None:
    with pytest.raises(UnknownName, match="unknown rule 'permisive'") as failure:
        world.ask(drop=["permisive"])
    assert failure.value.hint == "did you mean permissive?"
    with pytest.raises(UsageError, match="pairs are stored from a similarity of 0.5 to 1"):
        world.ask(threshold=0.4)
    with pytest.raises(UsageError, match="nothing is asked"):
        world.ask()
    with pytest.raises(UsageError, match="both changed and dropped"):
        world.ask(rules={"unique": "true"}, drop=["unique"])
    with pytest.raises(UsageError, match="as the name of a rule"):
        world.ask(rules={"a b": "true"})
    models = {**world.models, "signals": world.model("signals", {"rows_of": "raw.documents"}, "select 2")}
    project = Project(
        root=world.folder,
        name="t",
        target="dev",
        schema="dev",
        lake_uri=world.lake.uri,
        profiles_dir=world.folder,
    )
    with pytest.raises(UsageError, match="computed from the documents' text"):
        what_if(project, "book", models=models, variables={"x": 1})
    noted = what_if(project, "book", models=models, drop=["unique"])
    assert any("edited since" in note for note in noted.notes)
    with pytest.raises(UsageError, match="was not made by rules"):
        what_if(project, "signals", models=models, drop=["unique"])
    with pytest.raises(UnknownName, match="unknown table 'boook'"):
        what_if(project, "boook", models=models, drop=["unique"])


def test_a_set_model_in_between_is_computed_again(tmp_path: Path) -> None:
    """A variable changes SQL over ids; what stands downstream of it is decided again."""
    world = World(tmp_path, sample_rows(), PAIRS)
    limits = 'select doc_id, num_words > {} as is_long from "memory"."dev"."signals"'
    signals = world.lake.table("signals")
    first = World.model("limits", {}, limits.format(30))
    con = duckdb.connect()
    con.register("s", signals.to_arrow())
    rows = con.sql("select doc_id, num_words > 30 as is_long from s").to_arrow_table()
    con.close()
    rows = rows.set_column(0, "doc_id", rows["doc_id"].cast(pa.binary(16)))
    provenance = Provenance(kind="model", inputs=(signals.ref,), fingerprint=first.fingerprint())
    world.lake.write("limits", rows, provenance=provenance)
    sql = """select d.doc_id, l.is_long as keep__long from "memory"."raw"."documents" d
        left join "memory"."dev"."limits" l using (doc_id)"""
    world.build("book", sql)
    before = world.kept()
    world.models["limits"] = World.model("limits", {}, limits.format(90))
    project = Project(
        root=world.folder,
        name="t",
        target="dev",
        schema="dev",
        lake_uri=world.lake.uri,
        profiles_dir=world.folder,
    )
    found = what_if(project, "book", models=world.models, variables={"limit": 90}, samples=1000)
    after = {doc_id(i) for i, row in enumerate(world.rows) if row["words"] > 90}
    assert world.moved(found) == (after - before, before - after)
    assert found.recomputed == ("dev.limits",)


def test_a_statement_comes_back_as_it_was() -> None:
    con = duckdb.connect()
    for signature, body in SQL_MACROS.items():
        con.execute(f"create macro {signature} as {body}").fetchall()
    statement = Statement.parse(con, SQL, name="book")
    assert statement.relations() == {"raw.documents", "dev.licenses", "dev.signals", "dev.duplicate_clusters"}
    assert set(statement.rules()) == {"permissive", "long_enough", "handwritten", "unique"}
    again = Statement.parse(con, statement.sql(), name="book")
    assert again.tree == statement.tree
    changes = Changes.of(con, {"keep__long_enough": "num_words > 1"}, ["unique"])
    assert list(changes.predicates) == ["long_enough"] and changes.dropped == ("unique",)
    con.close()
