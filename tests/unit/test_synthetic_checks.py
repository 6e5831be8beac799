"""Too much synthetic text, too many generations, real text that gave way: no approval, and the message says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import headwater as hw
from headwater.approve import approve
from headwater.checks import check, create_project
from headwater.checks.said import MAX_CHARS, fields_of, said_rows
from headwater.checks.views import pinned_views
from headwater.cli import main
from headwater.errors import BadInput, CheckFailed
from headwater.ingest.rows import DOCUMENTS
from headwater.lake import Provenance, TableVersion
from headwater.synthesis.provenance import SYNTHETIC_DOCUMENTS, synthetic_rows

PROJECT = Path(__file__).parents[2]
ID = pa.binary(16)
SIGNED: dict[str, Any] = {"who": "ada", "why": "release 1", "run_dbt": False}


def real(i: int) -> bytes:
    return b"real" + i.to_bytes(12, "big")


class World:
    """100 real documents of 100 bytes, and synthetic ones; a mixed table over them, as a build leaves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = hw.Lake(folder / "lake")
        self.project = folder / "project"
        made = create_project(self.project)
        shutil.copy(PROJECT / "expectations" / "mixed_textbook.json", made)
        self.domain = {real(i): "python" if i % 2 else "prose" for i in range(100)}
        self.origin = dict.fromkeys(self.domain, "human")
        self.generation = dict.fromkeys(self.domain, 0)
        self.synthetic: list[pa.Table] = []

    def add(self, number: int, domain: str, *, generation: int = 1, parents: list[bytes] | None = None,
            verifier: str | None = None, reward: float | None = None) -> list[bytes]:  # fmt: skip
        name = f"{domain}{generation}{len(self.synthetic)}"
        rows = synthetic_rows(
            [f"{name} {i:04d}".ljust(100, ".") for i in range(number)],
            source="smollm2", generator="smollm2", generator_version="1",
            prompt_ids=[f"{name}-{i}" for i in range(number)], generations=generation,
            parent_ids=[parents if parents is not None else [real(0)]] * number, verifier=verifier, rewards=reward,
        )  # fmt: skip
        ids: list[bytes] = rows["doc_id"].to_pylist()
        self.synthetic.append(rows)
        self.domain |= dict.fromkeys(ids, domain)
        self.origin |= dict.fromkeys(ids, "synthetic")
        self.generation |= dict.fromkeys(ids, generation)
        return ids

    def build(self, *, drop: tuple[bytes, ...] = (), rule: str = "unique", gone: tuple[bytes, ...] = (),
              caps: tuple[tuple[str, float, int], ...] = (("prose", 0.3, 1), ("python", 0.5, 2))) -> TableVersion:  # fmt: skip
        """Publish the tables. ``drop``: rejected by ``rule``; ``gone``: no longer in the base table."""
        reals = [one for one in self.domain if one.startswith(b"real") and one not in gone]
        base = {
            "doc_id": pa.array(reals, ID),
            "text": pa.array([f"real {i}".ljust(100, ".") for i in range(len(reals))], pa.large_string()),
            "origin": pa.array(["human"] * len(reals)),
            "text_bytes": pa.array([100] * len(reals), pa.int64()),
        }
        missing = {f.name: pa.nulls(len(reals), f.type) for f in DOCUMENTS if f.name not in base}
        real_rows = pa.table({**base, **missing}).select(DOCUMENTS.names)
        documents = self.lake.write("raw.documents", real_rows)
        if self.synthetic:
            documents = self.lake.write(
                "raw.documents",
                pa.concat_tables([real_rows, *self.synthetic], promote_options="default").cast(
                    SYNTHETIC_DOCUMENTS
                ),
            )
        limits = {
            "domain": [c[0] for c in caps],
            "max_share": [c[1] for c in caps],
            "max_generation": [c[2] for c in caps],
        }
        inputs = [documents.ref, self.lake.write("synthetic_limits", pa.table(limits)).ref]
        every = [one for one in self.domain if one not in gone]
        clusters = {"doc_id": pa.array(every, ID), "cluster_id": pa.array(every, ID)}
        inputs.append(self.lake.write("duplicate_clusters", pa.table(clusters)).ref)
        decisions = {
            "build_id": pa.array(["b"] * len(drop), pa.string()),
            "table": pa.array(["mixed_textbook"] * len(drop), pa.string()),
            "doc_id": pa.array(drop, ID),
            "failed": pa.array([[rule]] * len(drop), pa.list_(pa.string())),
            "unknown": pa.array([[]] * len(drop), pa.list_(pa.string())),
        }
        self.lake.write("decisions", pa.table(decisions))
        rules = {
            "build_id": ["b"],
            "table": ["mixed_textbook"],
            "rule": ["unique"],
            "max_unknown": [0.0],
            "num_unknown": [0],
        }
        self.lake.write("rules", pa.table(rules))
        kept = [one for one in every if one not in drop]
        table = pa.table(
            {
                "doc_id": pa.array(kept, ID),
                "source": ["s"] * len(kept),
                "path": [one.hex() for one in kept],
                "origin": [self.origin[one] for one in kept],
                "generation": pa.array([self.generation[one] for one in kept], pa.int32()),
                "domain": [self.domain[one] for one in kept],
                "text_bytes": pa.array([100] * len(kept), pa.int64()),
            }
        )
        extra = {"candidates": "raw.documents", "decisions": {"build_id": "b"}}
        return self.lake.write(
            "mixed_textbook", table, provenance=Provenance(kind="model", inputs=tuple(inputs), extra=extra)
        )

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with pinned_views(self.lake, self.lake.table("mixed_textbook")) as views:
            return views.connection.execute(query).fetchall()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_shares_are_of_bytes_by_domain(world: World) -> None:
    world.add(25, "prose")
    world.add(50, "python")
    world.add(1, "poems")
    world.build()
    shares = world.ask(
        "select domain, documents, synthetic_documents, share, max_share from synthetic_shares('mixed_textbook')"
    )
    assert shares == [
        ("poems", 1, 1, 1.0, 0.0),  # no cap was set for it, so none is allowed
        ("prose", 75, 25, 1 / 3, 0.3),
        ("python", 100, 50, 0.5, 0.5),
    ]
    assert world.ask("select domain from synthetic_over_cap('mixed_textbook')") == [("poems",), ("prose",)]
    by_origin = "select domain from synthetic_over_cap('mixed_textbook', domain_column := 'origin', size_column := '1')"
    assert world.ask(by_origin) == [("synthetic",)]
    world.build(caps=(("*", 0.4, 1), ("poems", 1.0, 1)))
    assert world.ask("select domain from synthetic_over_cap('mixed_textbook')") == [("python",)]


def test_nothing_measured_is_not_nothing_synthetic(world: World) -> None:
    """A share of unknown sizes counts as all."""
    world.add(1, "poems")
    world.build()
    query = "select domain, share from synthetic_shares('mixed_textbook', size_column := 'null') order by 1"
    assert world.ask(query) == [("poems", 1.0), ("prose", 0.0), ("python", 0.0)]


def test_generations_are_bounded_and_one_more_than_the_parents(world: World) -> None:
    child = world.add(1, "prose")[0]
    world.add(1, "prose", generation=2, parents=[child])
    odd = world.add(1, "prose", generation=3, parents=[child])[0]  # 2 is what it should be
    late = world.add(1, "prose", generation=1, parents=[child])[0]  # its parent is as deep as itself
    world.add(1, "prose", generation=3, parents=[b"?" * 16])  # its parents are not here: it may be so
    below = world.add(1, "prose", generation=1, parents=[b"?" * 16, child])[0]
    world.build()
    assert world.ask(
        "select domain, documents, deepest, max_generation from synthetic_too_deep('mixed_textbook')"
    ) == [("prose", 3, 3, 1)]
    found = world.ask(
        "select doc_id::blob, generation, expected from inconsistent_generations('mixed_textbook')"
    )
    assert {(bytes(i), g, e) for i, g, e in found} == {(odd, 3, 2), (late, 1, 2), (below, 1, 2)}


def test_a_cycle_of_parents_is_inconsistent(world: World) -> None:
    first, second = world.add(1, "prose")[0], world.add(1, "prose")[0]
    parents = SYNTHETIC_DOCUMENTS.field("parent_ids").type
    for table, other in ((0, second), (1, first)):
        at = SYNTHETIC_DOCUMENTS.names.index("parent_ids")
        world.synthetic[table] = world.synthetic[table].set_column(
            at, "parent_ids", pa.array([[other]], parents)
        )
    world.build()
    assert len(world.ask("from inconsistent_generations('mixed_textbook')")) == 2


def test_rewards_have_verifiers_and_origins_have_provenance(world: World) -> None:
    world.add(2, "python", verifier="tests", reward=1.0)
    table = world.build()
    assert not world.ask("from unverified_rewards('mixed_textbook')")
    assert not world.ask("from unaccounted_documents('mixed_textbook')")
    # A narrow table may call a document synthetic of which the base table says nothing.
    rows = table.to_arrow()
    at = rows.schema.names.index("origin")
    claimed = rows.set_column(at, "origin", pa.array(["synthetic", *rows["origin"].to_pylist()[1:]]))
    world.lake.write("mixed_textbook", claimed, provenance=table.provenance)
    assert len(world.ask("from unaccounted_documents('mixed_textbook')")) == 1


def test_real_documents_may_go_by_rules_of_their_own_and_from_the_base_only(world: World) -> None:
    table = world.build()
    assert world.ask("select count(*) from previously_approved") == [(0,)]
    approve_as_is(world, table)
    world.add(1, "prose")
    lost = "select doc_id::blob from lost_real_documents('mixed_textbook')"
    world.build(drop=(real(1),))
    assert [bytes(row[0]) for row in world.ask(lost)] == [real(1)]
    assert world.ask("select count(*) from previously_approved") == [(100,)]
    world.build(gone=(real(2),))  # a takedown
    assert not world.ask(lost)
    approve_as_is(world, world.lake.table("mixed_textbook"))
    world.build(gone=(real(2),), drop=tuple(world.synthetic[0]["doc_id"].to_pylist()))
    assert not world.ask(lost)  # synthetic documents may be replaced


def approve_as_is(world: World, table: Any) -> None:
    suite = world.project / "expectations" / "mixed_textbook.json"
    kept = suite.read_text()
    one = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}
    suite.write_text(json.dumps({"name": "mixed_textbook", "expectations": [one]}))
    approve(world.lake, "mixed_textbook", version=table.version, project_dir=world.project, **SIGNED)
    suite.write_text(kept)


@pytest.mark.checks
def test_an_approval_is_refused_for_too_much_synthetic_text(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(20, "prose")
    world.build()
    approve(world.lake, "mixed_textbook", project_dir=world.project, **SIGNED)
    world.add(60, "prose")
    world.build(drop=(real(1),))
    with pytest.raises(CheckFailed) as refused:
        approve(world.lake, "mixed_textbook", project_dir=world.project, **SIGNED)
    assert "2 checks failed" in str(refused.value)
    assert (
        "domains with more synthetic text than their cap:\n"
        "      prose: 61.5% of the text is synthetic (80 of 130 documents), the cap is 30.0%"
        in str(refused.value)
    )
    assert "real documents of the last approved version that were replaced" in str(refused.value)
    assert world.lake.table("mixed_textbook", version="approved").version == 1
    report = check(world.lake, "mixed_textbook", project_dir=world.project)
    assert [f.rows for f in report.failures if f.rows] == [
        ("prose: 61.5% of the text is synthetic (80 of 130 documents), the cap is 30.0%",)
    ]
    assert json.loads(report.to_json())["success"] is False
    monkeypatch.chdir(world.project)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(PROJECT / name, world.project)
    code = main(["--lake", world.lake.uri, "--target", "dev", "check", "mixed_textbook"])
    shown = capsys.readouterr()
    assert code == 1 and "61.5%" in shown.out, shown.err
    # A real document that a rule about itself drops is no replacement; fewer stories are under the cap.
    world.synthetic.pop()
    world.domain = {
        k: v
        for k, v in world.domain.items()
        if k.startswith(b"real") or k in set(world.synthetic[0]["doc_id"].to_pylist())
    }
    world.build(drop=(real(1),), rule="long_enough")
    assert approve(world.lake, "mixed_textbook", project_dir=world.project, **SIGNED).table.version == 3


@pytest.mark.parametrize(
    "template",
    ["{a.__class__}", "{a!r}", "{0}", "{a:>100000000}", "{a[0]}", "no column", "{", "{a:{b}}", "{a:\x00}"],
)
def test_a_template_names_columns_and_plain_formats_only(template: str) -> None:
    with pytest.raises(BadInput):
        fields_of(template)


def test_what_rows_say_is_bounded_and_printable(world: World) -> None:
    world.build()
    with pinned_views(world.lake, world.lake.table("mixed_textbook")) as views:
        many = said_rows(views.connection, "select path from {batch}", "mixed_textbook", "{path}")
        odd = said_rows(
            views.connection,
            "select 'a\x1b[31m' || repeat('x', 500) as a, null as b;",
            "mixed_textbook",
            "{a} {b:.1%}",
        )
    assert len(many) == 9 and many[-1] == "…"
    assert odd == ("a [31m" + "x" * (MAX_CHARS - 6) + "… nothing",)


@pytest.mark.checks
def test_sources_that_claim_to_be_human_are_asked_too(tmp_path: Path) -> None:
    lake, project = hw.Lake(tmp_path / "lake"), tmp_path / "project"
    shutil.copy(PROJECT / "expectations" / "origin_evidence.json", create_project(project))
    rows = [("crowd", "human", 0.9)] * 10 + [("crowd", "human", 0.1)] * 90 + [("press", "human", 0.1)] * 50
    rows += [("bots", "synthetic", 0.9)] * 50 + [("web", "unknown", 0.9)] * 5
    table = {
        "doc_id": pa.array([i.to_bytes(16, "big") for i in range(len(rows))], ID),
        "source": [row[0] for row in rows],
        "origin": [row[1] for row in rows],
        "machine_score": [row[2] for row in rows],
        "finding": ["unmarked"] * len(rows),
    }
    lake.write("origin_evidence", pa.table(table))
    (failure,) = check(lake, "origin_evidence", project_dir=project).failures
    assert failure.rows == (
        "crowd: 10 of 100 documents bear the marks of a machine (10.0%), 5.0% is allowed",
    )


@pytest.mark.checks
def test_a_part_that_repeats_itself_is_not_diverse(tmp_path: Path) -> None:
    lake, project = hw.Lake(tmp_path / "lake"), tmp_path / "project"
    shutil.copy(PROJECT / "expectations" / "diversity.json", create_project(project))
    rows = [
        {"part": "prose/real", "first_3_words_share": 0.9, "distinct_3": 0.9, "near_duplicate_share": 0.3},
        {
            "part": "prose/synthetic",
            "first_3_words_share": 0.5,
            "distinct_3": 0.3,
            "near_duplicate_share": 0.0,
        },
    ]
    rows = [{**row, "vocabulary": 500, "sampled_words": 5_000, "sampled_documents": 200} for row in rows]
    lake.write("diversity", pa.Table.from_pylist(rows))
    said = [
        line for failure in check(lake, "diversity", project_dir=project).failures for line in failure.rows
    ]
    assert said == [
        "prose/synthetic: 50.0% of 200 documents begin with the same three words, 30 % is allowed",
        "prose/synthetic: 0.300 of its runs of three words are different, 0.900 of those of real text",
    ]
