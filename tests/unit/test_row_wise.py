"""Row-wise models: what an increment computes, and that it equals a rebuild."""

from __future__ import annotations

from datetime import timedelta

import duckdb
import pyarrow as pa
import pytest
import xxhash

import headwater as hw
from headwater.errors import UsageError
from headwater.models import ModelSpec, materialize
from headwater.operators import register_all
from headwater.session import Session

BASE = '"lake"."raw"."documents"'


def documents(rows):
    """``(path, text, license)`` as raw.documents has them."""
    return pa.table(
        {
            "doc_id": pa.array([xxhash.xxh3_128_digest((p + t).encode()) for p, t, _ in rows], pa.binary(16)),
            "text": pa.array([t for _, t, _ in rows], pa.large_string()),
            "text_hash": pa.array([xxhash.xxh3_128_digest(t.encode()) for _, t, _ in rows], pa.binary(16)),
            "path": [p for p, _, _ in rows],
            "license_declared": [declared for _, _, declared in rows],
        }
    )


def build(lake, sql, **options):
    spec = ModelSpec(
        name="dev.lengths",
        sql=sql,
        source=sql,
        inputs=("raw.documents",),
        relations={"raw.documents": BASE},
        rows_of="raw.documents",
    )
    session = Session(lake, threads=1, **options)
    session.pin_all()
    con = duckdb.connect()
    try:
        register_all(con)
        session.register_all(con)
        session.create_views(con)
        return materialize(session, con, spec)
    finally:
        con.close()


TEXT_ONLY = f"select doc_id, text_hash, length(text) as chars from {BASE}"
WITH_LICENSE = f"select doc_id, text_hash, length(text) as chars, license_declared from {BASE}"
ROWS = [("a", "one", "MIT"), ("b", "two two", None), ("c", "three", "GPL")]


@pytest.fixture
def lake(tmp_path):
    lake = hw.Lake(tmp_path / "lake")
    lake.write("raw.documents", documents(ROWS))
    return lake


def test_another_column_that_the_model_reads_is_seen(lake):
    build(lake, WITH_LICENSE)
    # The same ids and texts; one license became known, one changed.
    lake.write(
        "raw.documents", documents([("a", "one", "MIT"), ("b", "two two", "ISC"), ("c", "three", "0BSD")])
    )
    result = build(lake, WITH_LICENSE)
    assert result.message == "2 new, 2 gone, of 3 rows"
    licenses = lake.table("dev.lengths").to_arrow(["license_declared"])["license_declared"].to_pylist()
    assert sorted(licenses) == ["0BSD", "ISC", "MIT"]
    extended = lake.table("dev.lengths").digest
    build(lake, WITH_LICENSE, full_refresh=True)
    assert lake.table("dev.lengths").digest == extended


def test_a_column_that_the_model_does_not_read_costs_nothing(lake):
    build(lake, TEXT_ONLY)
    lake.write("raw.documents", documents([(p, t, "other") for p, t, _ in ROWS]))
    assert build(lake, TEXT_ONLY).message == "no row is new or gone"


def test_without_the_version_it_was_made_from_it_is_rebuilt(lake):
    build(lake, WITH_LICENSE)
    lake.write("raw.documents", documents([*ROWS[:2], ("c", "three", "0BSD")]))
    lake.maintain("raw.documents", keep=timedelta(0))
    assert build(lake, WITH_LICENSE).status == "built"
    build_text = build(lake, TEXT_ONLY, full_refresh=True)
    assert build_text.status == "built"
    lake.write("raw.documents", documents([*ROWS, ("d", "four", "MIT")]))
    lake.maintain("raw.documents", keep=timedelta(0))
    # Ids and text hashes say all that a model of the text alone needs.
    assert build(lake, TEXT_ONLY).message.startswith("1 new, 0 gone")


def test_a_model_must_return_what_says_which_rows_are_new(lake):
    with pytest.raises(UsageError, match="must return doc_id and text_hash"):
        build(lake, f"select doc_id, length(text) as chars from {BASE}")
