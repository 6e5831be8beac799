"""The lake: versions, tags, updates, leases, and one test per hazard of the format beneath it."""

from __future__ import annotations

import json
import os
import threading
from datetime import timedelta
from pathlib import Path

import lance
import pyarrow as pa
import pytest

import headwater as hw
from headwater.digest import ContentDigest
from headwater.errors import CommitConflict, FormatMismatch, LeaseHeld, UnknownName, UsageError
from headwater.lake import Provenance, TableRef

SCHEMA = pa.schema({"doc_id": pa.binary(16), "text": pa.large_string()})


def rows(start: int, stop: int) -> pa.Table:
    ids = [i.to_bytes(16, "big") for i in range(start, stop)]
    return pa.table({"doc_id": ids, "text": [f"text {i}" for i in range(start, stop)]}, schema=SCHEMA)


def digest_of(table: hw.Table) -> str:
    return ContentDigest.of(table.scan()).hex()


@pytest.fixture
def lake(tmp_path: Path) -> hw.Lake:
    return hw.Lake(tmp_path / "lake")


def test_a_write_is_one_version_and_time_travels(lake: hw.Lake) -> None:
    first = lake.write("documents", rows(0, 10))
    second = lake.write("documents", rows(10, 15), mode="append")
    third = lake.write("documents", rows(0, 3))
    assert [first.version, second.version, third.version] == [1, 2, 3]
    assert [lake.table("documents", version=v).num_rows for v in (1, 2, 3)] == [10, 15, 3]
    assert lake.table("documents").digest == digest_of(lake.table("documents"))
    assert lake.table("documents", version=2).digest == ContentDigest.of(rows(0, 15)).hex()


def test_an_empty_result_is_a_table_with_no_rows(lake: hw.Lake) -> None:
    version = lake.write("documents", iter(()), schema=SCHEMA)
    assert version.num_rows == 0 and lake.table("documents").to_arrow().schema.names == SCHEMA.names


def test_a_failing_stream_publishes_nothing(lake: hw.Lake) -> None:
    lake.write("documents", rows(0, 5))

    def batches():
        yield from rows(5, 9).to_batches()
        raise RuntimeError("reader broke")

    with pytest.raises(Exception, match="reader broke"):
        lake.write("documents", batches(), schema=SCHEMA)
    assert (lake.table("documents").version, lake.table("documents").num_rows) == (1, 5)
    with pytest.raises(Exception, match="reader broke"):
        lake.write("fresh", batches(), schema=SCHEMA)
    assert not lake.exists("fresh")


def test_properties_are_in_the_commit(lake: hw.Lake) -> None:
    ref = TableRef(name="raw.documents", version=4, digest="0" * 32)
    lake.write(
        "signals",
        rows(0, 2),
        provenance=Provenance(kind="model", fingerprint="f", inputs=(ref,), extra={"a": 1}),
    )
    found = lake.table("signals").provenance
    assert (found.kind, found.fingerprint, found.inputs, dict(found.extra)) == (
        "model",
        "f",
        (ref,),
        {"a": 1},
    )
    assert lake.versions("signals")["fingerprint"].to_pylist() == ["f"]


def test_update_deletes_and_appends_in_one_commit(lake: hw.Lake) -> None:
    lake.write("documents", rows(0, 100))
    gone = rows(20, 40)["doc_id"]
    version = lake.update("documents", add=rows(100, 110), remove=gone)
    assert (version.version, version.num_rows, version.changed) == (2, 90, True)
    assert version.digest == digest_of(version)
    ids = set(version.to_arrow(["doc_id"])["doc_id"].to_pylist())
    assert ids == set(rows(0, 110)["doc_id"].to_pylist()) - set(gone.to_pylist())
    same = lake.update("documents", remove=gone)
    assert (same.version, same.changed) == (2, False)


def test_a_large_delete_rewrites(lake: hw.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.lake.lake.DELETE_BY_FILTER_ROWS", 10)
    lake.write("documents", rows(0, 100))
    version = lake.update("documents", add=rows(100, 101), remove=rows(0, 50)["doc_id"])
    assert version.num_rows == 51 and version.digest == digest_of(version)


def test_text_by_id_keeps_the_order_asked_for(lake: hw.Lake) -> None:
    lake.write("documents", rows(0, 5000))
    lake.index("documents", "doc_id")
    wanted = rows(0, 5000)["doc_id"].take(pa.array([4999, 7, 7, 0, *range(100, 3000)]))
    found = pa.Table.from_batches(lake.table("documents").with_text(wanted))
    assert found["doc_id"].to_pylist() == wanted.to_pylist()
    assert found["text"][1].as_py() == "text 7"
    with pytest.raises(UnknownName, match="has no document"):
        list(lake.table("documents").with_text(rows(9000, 9001)["doc_id"]))


def test_unknown_names_say_what_is_near(lake: hw.Lake) -> None:
    lake.write("documents", rows(0, 1))
    with pytest.raises(UnknownName, match="did you mean dev.documents"):
        lake.table("docments")
    with pytest.raises(UnknownName, match="unknown version or tag '9'"):
        lake.table("documents", version=9)
    with pytest.raises(UnknownName, match="known: 1, blue"):
        lake.tag("documents", "blue", 1)
        lake.table("documents", version="zzz")
    with pytest.raises(UnknownName, match="unknown column 'txt'"):
        lake.table("documents").scan(["txt"])
    for bad in ("a/b", "../x", "1x", "a b", 'x"y'):
        with pytest.raises(UsageError, match="as the name of a"):
            lake.write(bad, rows(0, 1))


def test_schemas_build_beside_each_other_and_defer(tmp_path: Path) -> None:
    prod = hw.Lake(tmp_path, schema="prod")
    prod.write("signals", rows(0, 3))
    prod.write("raw.documents", rows(0, 3))
    dev = hw.Lake(tmp_path, schema="dev", defer="prod")
    assert dev.table("signals").name == "prod.signals"
    assert dev.table("documents").name == "raw.documents"
    dev.write("signals", rows(0, 1))
    assert dev.table("signals").name == "dev.signals"
    assert prod.table("signals").num_rows == 3


def test_another_format_is_refused(lake: hw.Lake) -> None:
    lake.write("documents", rows(0, 1))
    Path(lake.uri, "_headwater.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(FormatMismatch, match="format 99"):
        hw.Lake(lake.uri)


# -- hazards ---------------------------------------------------------------------------------------


def prepared(lake: hw.Lake, mode: str, name: str = "documents") -> tuple[str, lance.Transaction]:
    """What another program would commit: a transaction prepared at the current version."""
    path = f"{lake.uri}/dev/{name}.lance"
    tx = lance.fragment.write_fragments(rows(50, 60), path, schema=SCHEMA, mode=mode, return_transaction=True)
    return path, tx


def test_hazard_two_creates(lake: hw.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lance lets a second create silently replace the first."""
    path, tx = prepared(lake, "create")

    def batches():
        yield from rows(0, 5).to_batches()
        lance.LanceDataset.commit(path, tx)  # another program creates the table meanwhile

    with pytest.raises(CommitConflict, match="created by another writer"):
        lake.write("documents", batches(), schema=SCHEMA)
    assert lance.dataset(path).count_rows() == 10


def test_hazard_append_then_overwrite(lake: hw.Lake) -> None:
    """Lance commits an overwrite over an append it never saw: the appended rows would be gone."""
    lake.write("documents", rows(0, 5))
    path, tx = prepared(lake, "append")

    def batches():
        yield from rows(5, 9).to_batches()
        lance.LanceDataset.commit(path, tx)

    with pytest.raises(CommitConflict, match="nothing was published"):
        lake.write("documents", batches(), schema=SCHEMA)
    assert lance.dataset(path).count_rows() == 15


def test_hazard_same_new_keys(lake: hw.Lake) -> None:
    """Four threads upsert the same ten new rows: merge_insert would make forty of them."""
    lake.write("documents", rows(0, 10))

    def upsert() -> None:
        lake.update("documents", add=rows(10, 20), remove=rows(10, 20)["doc_id"])

    threads = [threading.Thread(target=upsert) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = lake.table("documents")
    assert table.num_rows == 20 and table.digest == ContentDigest.of(rows(0, 20)).hex() == digest_of(table)


def test_hazard_maintenance_keeps_the_record(lake: hw.Lake) -> None:
    """Compaction and indexing make versions without properties, and clean-up then loses the last ones."""
    for i in range(4):
        lake.write(
            "documents", rows(i * 10, i * 10 + 10), mode="append", provenance=Provenance(fingerprint=f"f{i}")
        )
    lake.tag("documents", "approved-2", 2)
    lake.index("documents", "doc_id")
    before = lake.table("documents")
    lake.update("documents", remove=rows(0, 1)["doc_id"], provenance=Provenance(fingerprint="last"))
    lake.maintain("documents", keep=timedelta(0))
    after = lake.table("documents")
    assert after.provenance.fingerprint == "last" and after.digest == digest_of(after)
    assert after.num_rows == before.num_rows - 1 and len(after.dataset.get_fragments()) == 1
    assert lake.table("documents", version="approved-2").num_rows == 20


def test_hazard_a_crash_inside_maintenance(lake: hw.Lake) -> None:
    """An index or a compaction on top without its closing commit still reads by the record below."""
    lake.write("documents", rows(0, 10), provenance=Provenance(fingerprint="f"))
    lake.write("documents", rows(10, 20), mode="append", provenance=Provenance(fingerprint="g"))
    dataset = lance.dataset(f"{lake.uri}/dev/documents.lance")
    dataset.create_scalar_index("doc_id", "BTREE")
    dataset.optimize.compact_files()
    assert lake.table("documents").provenance.fingerprint == "g"


# -- lease -----------------------------------------------------------------------------------------


def other_holder(lake: hw.Lake, *, pid: int, expires_in: float = 60.0) -> Path:
    import socket
    import time

    path = Path(lake.uri, "dev", "_lease.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = {
        "token": "t",
        "host": socket.gethostname(),
        "pid": pid,
        "purpose": "writes x",
        "expires_at": time.time() + expires_in,
    }
    path.write_text(json.dumps(owner))
    return path


def test_a_second_writer_waits_and_then_names_the_holder(tmp_path: Path) -> None:
    lake = hw.Lake(tmp_path, wait_seconds=0.3)
    other_holder(lake, pid=os.getppid())
    with pytest.raises(LeaseHeld, match=f"process {os.getppid()} .*writes x"):
        lake.write("documents", rows(0, 1))
    lake.write("raw.documents", rows(0, 1))  # another schema is free


@pytest.mark.parametrize(("pid", "expires_in"), [(2**22 + 1, 60.0), (os.getppid(), -1.0)])
def test_a_stale_lease_is_taken_over(tmp_path: Path, pid: int, expires_in: float) -> None:
    lake = hw.Lake(tmp_path, wait_seconds=0.3)
    path = other_holder(lake, pid=pid, expires_in=expires_in)
    lake.write("documents", rows(0, 1))
    assert not path.exists()


def test_a_lost_lease_stops_the_commit(lake: hw.Lake) -> None:
    def batches():
        yield from rows(0, 5).to_batches()
        other_holder(lake, pid=1)

    with pytest.raises(LeaseHeld, match="taken over"):
        lake.write("documents", batches(), schema=SCHEMA)
    assert not lake.exists("documents")
    Path(lake.uri, "dev", "_lease.json").unlink()
