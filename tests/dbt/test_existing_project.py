"""Plain dbt in a repository that already exists: build, test, show, docs, increments, errors."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from dbt_documents import documents

import headwater as hw
from headwater.digest import ContentDigest

Dbt = Callable[..., subprocess.CompletedProcess[str]]

ROWS = [
    ("a", "one two three four", "MIT"),
    ("b", "one two three four", "MIT"),
    ("c", "short", "MIT"),
    ("d", "five six seven eight nine", "GPL"),
    ("e", "UNKNOWN quality of words here", "MIT"),
]


def kept(lake: hw.Lake, table: str = "textbook") -> list[str]:
    return sorted(lake.table(table).to_arrow(["path"])["path"].to_pylist())


def passed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_build_test_show_and_docs_in_fresh_shells(lake: hw.Lake, dbt: Dbt, project: Path) -> None:
    lake.write("raw.documents", documents(ROWS))
    done = dbt("build")
    passed(done)
    assert done.stderr == ""
    assert len(kept(lake)) == 1 and kept(lake)[0] in ("a", "b")
    decided = lake.table("decisions").to_arrow().to_pylist()
    assert sorted((d["failed"], d["unknown"]) for d in decided) == [
        ([], ["good"]),
        (["long_enough"], []),
        (["permissive_license"], []),
        (["unique"], []),
    ]
    passed(dbt("test", "--exclude", "test_type:unit"))
    passed(dbt("docs", "generate"))
    assert (project / "target" / "catalog.json").exists()
    shown = passed(
        dbt(
            "show",
            "--inline",
            "select rule, outcome, expression from dev.rejections order by 1",
            "--output",
            "json",
        )
    )
    assert "permissive_license" in shown and "license_declared = 'MIT'" in shown
    columns = passed(dbt("show", "--inline", "select * from raw.documents", "--output", "json"))
    assert '"text_hash"' in columns and '"text"' not in columns, "set models do not see text"

    before = lake.table("textbook").ref
    passed(dbt("build"))
    assert lake.table("textbook").ref == before, "nothing changed, so nothing is published"


def test_increment_equals_rebuild(lake: hw.Lake, dbt: Dbt) -> None:
    lake.write("raw.documents", documents(ROWS))
    lake.index("raw.documents", "doc_id")
    passed(dbt("run", "--select", "lengths"))
    gone = documents(ROWS[:1])["doc_id"]
    lake.update("raw.documents", add=documents([("f", "new words in this one", "MIT")]), remove=gone)
    passed(dbt("run", "--select", "lengths"))
    extended = lake.table("lengths")
    assert extended.version == 2 and extended.num_rows == 5
    passed(dbt("run", "--select", "lengths", "--full-refresh"))
    rebuilt = lake.table("lengths")
    assert (
        rebuilt.version == 3 and rebuilt.digest == extended.digest == ContentDigest.of(rebuilt.scan()).hex()
    )


def test_threads_and_order_of_rows_do_not_change_a_digest(lake: hw.Lake, dbt: Dbt) -> None:
    rows = [(f"p{i}", f"word{i % 7} " * (i % 9 + 1), "MIT") for i in range(200)]
    lake.write("raw.documents", documents(rows))
    passed(dbt("build", "--threads", "1"))
    first = {name: lake.table(name).digest for name in ("lengths", "copies", "textbook")}
    lake.write("raw.documents", documents(rows[::-1]))
    passed(dbt("build", "--threads", "4", "--full-refresh"))
    assert {name: lake.table(name).digest for name in first} == first
    order = [b.as_py() for b in lake.table("textbook").to_arrow(["doc_id"])["doc_id"]]
    assert order == sorted(order)


def test_lost_signals_are_unknown_and_never_pass(lake: hw.Lake, dbt: Dbt) -> None:
    rows = [(f"p{i}", f"word{i} and some more words", "MIT") for i in range(300)]
    lake.write("raw.documents", documents(rows))
    passed(dbt("build"))
    assert lake.table("textbook").num_rows == 300
    lost = set()
    for name, start in (("lengths", 0), ("copies", 100)):
        ids = lake.table(name).to_arrow(["doc_id"])["doc_id"].slice(start, 3)
        lost |= set(ids.to_pylist())
        lake.update(f"dev.{name}", remove=ids)
    passed(dbt("run", "--select", "textbook"))
    decided = {d["doc_id"]: d for d in lake.table("decisions").to_arrow().to_pylist()}
    assert set(decided) == lost and all(d["unknown"] and not d["failed"] for d in decided.values())
    assert lake.table("textbook").num_rows == 300 - len(lost)


def test_dev_defers_to_prod_and_never_replaces_it(lake: hw.Lake, dbt: Dbt) -> None:
    lake.write("raw.documents", documents(ROWS))
    passed(dbt("build", "--target", "prod"))
    prod = lake.table("prod.textbook").ref
    passed(dbt("run", "--select", "textbook", "--vars", "{min_words: 1}"))
    assert lake.tables("dev") == ["decisions", "rules", "textbook"]
    assert {ref.name for ref in lake.table("dev.textbook").provenance.inputs} == {
        "raw.documents",
        "prod.lengths",
        "prod.copies",
    }
    assert lake.table("prod.textbook").ref == prod
    assert lake.table("dev.textbook").num_rows == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "models/marts/textbook.sql",
            "s.quality > 0.5 ",
            "s.qualty > 0.5",
            ["rule 'good'", "did you mean quality"],
        ),
        ("models/marts/textbook.sql", "s.quality > 0.5 ", "s.quality > ", ["textbook", "syntax error"]),
        ("models/lengths.sql", "text_hash,", "", ["must return doc_id and text_hash"]),
        (
            "models/marts/textbook.sql",
            "from ruled",
            "from ruled where num_words > 1",
            ["documents of raw.documents are missing"],
        ),
    ],
)
def test_mistakes_are_named(
    lake: hw.Lake, dbt: Dbt, project: Path, file: str, old: str, new: str, expected: list[str]
) -> None:
    lake.write("raw.documents", documents(ROWS))
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    done = dbt("run")
    assert done.returncode == 1
    for part in expected:
        assert part in done.stdout


def test_two_models_of_one_name(lake: hw.Lake, dbt: Dbt, project: Path) -> None:
    lake.write("raw.documents", documents(ROWS))
    (project / "models" / "marts" / "lengths.sql").write_text("select 1 as x")
    done = dbt("run")
    assert done.returncode == 2 and "lengths" in done.stdout and "two" in done.stdout.lower()


def test_pins_read_an_older_version(lake: hw.Lake, dbt: Dbt) -> None:
    lake.write("raw.documents", documents(ROWS))
    lake.write("raw.documents", pa.concat_tables([documents(ROWS)] * 2))
    assert dbt("test", "--select", "source:corpus").returncode == 1
    passed(dbt("test", "--select", "source:corpus", HEADWATER_PINS='{"raw.documents": 1}'))


def test_a_running_dask_cluster_builds_the_same_rows(lake: hw.Lake, dbt: Dbt) -> None:
    """Plain dbt with HEADWATER_DASK: equal digest, several pieces, a clean terminal."""
    from distributed import LocalCluster

    rows = [(f"doc-{k}", f"words that belong to document {k} alone", "MIT") for k in range(5_000)]
    lake.write("raw.documents", documents(rows))
    passed(dbt("run", "--select", "lengths"))
    digest = lake.table("lengths").digest
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        done = dbt("run", "--select", "lengths", "--full-refresh", HEADWATER_DASK=cluster.scheduler_address)
    assert "PASS=1" in passed(done) and done.stderr == ""
    table = lake.table("lengths")
    assert (table.version, table.digest) == (2, digest)
    assert len(table.fragments()) > 1, "the cluster did not run it"
