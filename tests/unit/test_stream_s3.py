"""Streaming from a real S3 protocol server that refuses to answer for a while."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from packed_table import LENGTH, write_packed

from headwater.errors import LakeError
from headwater.lake import Lake
from headwater.loading import cache, retry

torch = pytest.importorskip("torch")
moto_server = pytest.importorskip("moto.server", reason="needs moto[server] (dev group)")
pytest.importorskip("obstore", reason="needs the s3 extra")

from headwater import streaming  # noqa: E402
from headwater.streaming import stream  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:training on unapproved")

SPELL_SECONDS = 3.0
LONG_SPELL_SECONDS = 10.0


class Proxy(BaseHTTPRequestHandler):
    """Passes requests to the server behind it, or answers 503 while ``busy_until`` has not come."""

    protocol_version = "HTTP/1.1"
    target = ("", 0)
    busy_until = 0.0
    refused = 0

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if time.monotonic() < Proxy.busy_until:
            Proxy.refused += 1
            self.send_response(503, "Slow Down")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        behind = http.client.HTTPConnection(*self.target)
        behind.request(self.command, self.path, body, dict(self.headers))
        answer = behind.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        behind.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def lake() -> Iterator[Lake]:
    import boto3

    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    Proxy.target = server.get_host_and_port()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{proxy.server_port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="corpus")
    options = {
        **keys,
        "aws_endpoint": endpoint,
        "aws_region": "us-east-1",
        "allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
    }
    lake = Lake("s3://corpus/lake", storage_options=options)
    write_packed(lake, rows=50)
    yield lake
    proxy.shutdown()
    server.stop()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(streaming, "CHUNK_TOKENS", 4 * LENGTH)
    monkeypatch.setattr(cache, "BLOCK_TOKENS", 8 * LENGTH)
    yield
    Proxy.busy_until = 0.0


def refuse_for(seconds: float) -> None:
    Proxy.refused = 0
    Proxy.busy_until = time.monotonic() + seconds


@pytest.mark.parametrize(("cached", "spell"), [(False, LONG_SPELL_SECONDS), (True, SPELL_SECONDS)])
def test_a_spell_of_503_delays_the_stream_and_changes_nothing(
    lake: Lake, tmp_path: Path, cached: bool, spell: float
) -> None:
    want = list(stream(lake, global_batch_size=2))
    data = stream(lake, global_batch_size=2, cache=(tmp_path, 1 << 20) if cached else None)
    got = []
    for batch in data:
        got.append(batch)
        if len(got) == 3:
            refuse_for(spell)
    assert Proxy.refused > 0
    for mine, other in zip(got, want, strict=True):
        assert torch.equal(mine["input_ids"], other["input_ids"])
        assert torch.equal(mine["segment_sources"], other["segment_sources"])


def test_a_store_that_stays_away_is_an_error_that_names_the_sequences(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 1.0)
    # Lance's own retries take half a minute before ours see the first error.
    hasty = Lake(lake.uri, storage_options=lake._storage)
    hasty._storage["client_max_retries"] = "1"
    data = stream(hasty, global_batch_size=2)
    refuse_for(3_600)
    with pytest.raises(
        LakeError, match=r"cannot read sequences \d+ to \d+ of dev.sequences@1: .*503.*tried for"
    ):
        list(data)
    refuse_for(0)
    state = data.state_dict()
    rest = list(stream(lake, global_batch_size=2, state=state))
    assert len(rest) == (50 - state["next_sequence"]) // 2


def test_opening_is_patient_too(lake: Lake) -> None:
    refuse_for(SPELL_SECONDS)
    assert len(list(stream(lake, global_batch_size=2))) == 25
    assert Proxy.refused > 0


def test_the_cache_spares_the_store(lake: Lake, tmp_path: Path) -> None:
    options: dict[str, Any] = {"global_batch_size": 2, "cache": (tmp_path, 1 << 20)}
    want = list(stream(lake, **options))
    data = stream(lake, **options)
    refuse_for(3_600)
    for mine, other in zip(data, want, strict=True):
        assert torch.equal(mine["labels"], other["labels"])
    assert Proxy.refused == 0
