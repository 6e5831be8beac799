"""The same lake on an object store, against a real S3 protocol server."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

import headwater as hw
from headwater.errors import CommitConflict, LeaseHeld

moto_server = pytest.importorskip("moto.server", reason="needs moto[server] (dev group)")
pytest.importorskip("obstore", reason="needs the s3 extra")


@pytest.fixture(scope="module")
def storage() -> Iterator[dict[str, str]]:
    import boto3

    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "aws_endpoint": f"http://{host}:{port}",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "aws_region": "us-east-1",
        "allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
    }
    client = boto3.client(
        "s3",
        endpoint_url=options["aws_endpoint"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="corpus")
    yield options
    server.stop()


def rows(start: int, stop: int) -> pa.Table:
    ids = pa.array([i.to_bytes(16, "big") for i in range(start, stop)], pa.binary(16))
    return pa.table(
        {"doc_id": ids, "text": pa.array([f"text {i}" for i in range(start, stop)], pa.large_string())}
    )


def test_write_update_index_and_approve_alike(storage: dict[str, str], tmp_path) -> None:
    remote = hw.Lake("s3://corpus/lake", storage_options=storage)
    local = hw.Lake(tmp_path / "lake")
    for lake in (remote, local):
        lake.write("raw.documents", rows(0, 100))
        lake.write("raw.documents", rows(100, 120), mode="append")
        lake.index("raw.documents", "doc_id")
        lake.update("raw.documents", remove=rows(3, 9)["doc_id"])
        lake.tag("raw.documents", "blue", 2)
    assert remote.tables("raw") == local.tables("raw") == ["documents"]
    assert remote.table("documents").digest == local.table("documents").digest
    assert remote.table("documents", version="blue").num_rows == 120
    wanted = rows(0, 120)["doc_id"].take(pa.array([50, 2, 110]))
    assert [b["text"].to_pylist() for b in remote.table("documents").with_text(wanted)] == [
        ["text 50", "text 2", "text 110"]
    ]


def test_the_lease_holds_there_too(storage: dict[str, str]) -> None:
    from headwater.lake.files import open_files
    from headwater.lake.lease import Lease

    def lease() -> Lease:  # as another process would make it
        return Lease(open_files("s3://corpus/lake2", storage), "dev", place="s3://corpus/lake2")

    with lease().hold(purpose="a", wait_seconds=0):
        with pytest.raises(LeaseHeld, match=r"\(a\)"), lease().hold(purpose="b", wait_seconds=0.2):
            pass
    with lease().hold(purpose="b", wait_seconds=0):
        pass


def test_a_moved_table_is_not_overwritten(storage: dict[str, str]) -> None:
    import lance

    lake = hw.Lake("s3://corpus/lake3", storage_options=storage)
    lake.write("documents", rows(0, 5))

    def batches() -> Iterator[pa.RecordBatch]:
        yield from rows(5, 9).to_batches()
        lance.write_dataset(
            rows(50, 60), "s3://corpus/lake3/dev/documents.lance", mode="append", storage_options=storage
        )

    with pytest.raises(CommitConflict):
        lake.write("documents", batches(), schema=rows(0, 0).schema)
