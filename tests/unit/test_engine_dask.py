"""Row-wise models on Dask workers: the same table as on threads, whatever the workers, and whoever dies."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sysconfig
from pathlib import Path

import duckdb
import pytest

import headwater as hw
from headwater.engine.dask import DaskEngine
from headwater.errors import HeadwaterError, UsageError
from headwater.ingest import ingest
from headwater.lake import Pieces
from headwater.models import ModelSpec, materialize
from headwater.operators import register_all
from headwater.session import Session

SQL = """
    select doc_id, text_hash, text_stats(text).num_words as num_words, minhash_signature(text) as signature
    from "lake"."raw"."documents"
"""
SPEC = ModelSpec(
    name="dev.signals",
    sql=SQL,
    source=SQL,
    inputs=("raw.documents",),
    relations={"raw.documents": '"lake"."raw"."documents"'},
    rows_of="raw.documents",
)


@pytest.fixture(scope="module")
def two_workers():
    with DaskEngine(workers=2) as engine:
        yield engine


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Real files, more than LOCAL_ROWS of them, in several fragments."""
    lake = hw.Lake(tmp_path_factory.mktemp("dask") / "lake")
    packages = Path(sysconfig.get_paths()["purelib"])
    for name in ("transformers/models", "torch", "sympy"):
        ingest(lake, "folder", packages / name, source=name.replace("/", "-"), globs=["*.py"])
    return Path(lake.uri)


@pytest.fixture
def lake(original, tmp_path):
    shutil.copytree(original, tmp_path / "lake")
    return hw.Lake(tmp_path / "lake")


def build(lake, engine=None, spec=SPEC, **options):
    session = Session(lake, engine=engine, threads=2, **options)
    session.pin_all()
    con = duckdb.connect()
    try:
        register_all(con)
        session.register_all(con)
        session.create_views(con)
        return materialize(session, con, spec)
    finally:
        con.close()


def ids_in_order(lake):
    return lake.table("dev.signals").to_arrow(["doc_id"])["doc_id"].to_pylist()


def test_equal_rows_order_and_digest_on_threads_and_on_one_or_two_workers(lake, two_workers):
    build(lake)
    digest, order = lake.table("dev.signals").digest, ids_in_order(lake)
    assert len(order) > 4_096

    with DaskEngine(workers=1) as one:
        result = build(lake, one, full_refresh=True)
    assert result.status == "built"
    assert (lake.table("dev.signals").digest, ids_in_order(lake)) == (digest, order)

    build(lake, two_workers, full_refresh=True)
    table = lake.table("dev.signals")
    assert (table.digest, ids_in_order(lake)) == (digest, order)
    assert len(table.fragments()) > 2, "one piece, so nothing ran side by side"


def test_an_increment_on_workers_equals_a_rebuild(lake, two_workers):
    base = lake.table("raw.documents").to_arrow()
    new = base.num_rows * 4 // 5
    lake.write("raw.documents", base.slice(0, base.num_rows - new))
    build(lake)
    # Most rows are new and some are gone: found by one scan, without an index.
    lake.write("raw.documents", base.slice(100))
    result = build(lake, two_workers)
    assert result.status == "extended" and result.message.startswith(f"{new:,} new, 100 gone")
    extended = lake.table("dev.signals").digest
    build(lake, full_refresh=True)
    assert lake.table("dev.signals").digest == extended


def test_an_increment_by_look_ups(lake, two_workers, monkeypatch):
    monkeypatch.setattr("headwater.row_wise.LOCAL_ROWS", 100)
    base = lake.table("raw.documents").to_arrow()
    lake.write("raw.documents", base.slice(500))
    build(lake)
    lake.write("raw.documents", base)
    lake.index("raw.documents", "doc_id")
    assert build(lake, two_workers).message.startswith("500 new, 0 gone")
    extended = lake.table("dev.signals").digest
    build(lake, full_refresh=True)
    assert lake.table("dev.signals").digest == extended


def test_a_killed_worker_changes_nothing(lake):
    build(lake)
    before = lake.table("dev.signals")
    with DaskEngine(workers=2) as engine:
        pids = list(engine.client.run(os.getpid).values())
        original = engine.map
        killed = []

        def and_kill(*arguments, **options):
            for result in original(*arguments, **options):
                yield result
                if not killed:
                    os.kill(pids[0], signal.SIGKILL)
                    killed.append(pids[0])

        engine.map = and_kill
        build(lake, engine, full_refresh=True)
    assert killed
    after = lake.table("dev.signals")
    assert after.version == before.version + 1
    assert after.digest == before.digest


def test_a_failing_task_publishes_nothing_and_says_what_went_wrong(lake, two_workers):
    build(lake)
    before = lake.table("dev.signals")
    failing = SQL.replace("num_words as", "num_words / (text_hash = text_hash)::int::varchar::date as")
    broken = ModelSpec(**{**SPEC.__dict__, "sql": failing, "source": failing})
    with pytest.raises(HeadwaterError):
        build(lake, two_workers, spec=broken)
    assert lake.table("dev.signals").version == before.version


def test_pieces_are_invisible_until_published(tmp_path):
    import pyarrow as pa

    lake = hw.Lake(tmp_path / "lake")
    rows = [pa.table({"x": pa.array(range(k, k + 10))}) for k in (0, 10, 20)]
    pieces = [lake.write_piece("t", part, adding=False, schema=rows[0].schema) for part in rows]
    assert not lake.exists("t")
    version = lake.write("t", Pieces(rows[0].schema, pieces))
    assert version.num_rows == 30 and version.to_arrow()["x"].to_pylist() == list(range(30))
    assert version.digest == hw.Lake(tmp_path / "other").write("t", pa.concat_tables(rows)).digest
    more = lake.write_piece("t", rows[0], adding=True, schema=rows[0].schema)
    assert lake.table("t").num_rows == 30
    assert lake.write("t", Pieces(rows[0].schema, [more]), mode="append").num_rows == 40
    empty = lake.write("t", Pieces(rows[0].schema, []))
    assert empty.num_rows == 0 and empty.schema == rows[0].schema


def test_a_lake_travels_as_its_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = pickle.loads(pickle.dumps(hw.Lake("lake", schema="prod", defer="dev")))
    # A worker has a working directory of its own.
    assert (there.uri, there.schema, there.defer) == (str(tmp_path / "lake"), "prod", "dev")


def test_wrong_use(monkeypatch):
    monkeypatch.setattr("headwater.engine.dask.CONNECT_SECONDS", 1)
    with pytest.raises(UsageError, match="workers or an address"):
        DaskEngine()
    with pytest.raises(UsageError, match="no Dask scheduler answers at tcp://127.0.0.1:1"):
        _ = DaskEngine(address="tcp://127.0.0.1:1").client


def test_work_that_kills_every_worker_is_named():
    with DaskEngine(workers=1) as engine, pytest.raises(HeadwaterError, match="ended 4 workers"):
        list(engine.map(os._exit, [1]))
