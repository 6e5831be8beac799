"""The page on which a person labels, through real requests."""

from __future__ import annotations

import http.client
import re
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from scoring_lake import make_lake

from headwater.errors import UsageError
from headwater.kernels.xxh3 import digest_array
from headwater.scoring.choose import choose
from headwater.scoring.labels import LABELS, Annotator
from headwater.scoring.page import LabelPage
from headwater.scoring.rubric import Rubric

HOSTILE = "<script>alert(1)</script></pre><img src=x onerror=alert(1)> & \x1b[31m \u202e"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[LabelPage]:
    lake, _ = make_lake(tmp_path, per_kind=1)
    table = lake.table("raw.documents").to_arrow()
    row = {
        "doc_id": b"\xff" * 16, "text": HOSTILE, "text_hash": digest_array(pa.array([HOSTILE]))[0].as_py(),
        "source": "<b>web</b>", "path": '"><script>', "text_bytes": len(HOSTILE),
    }  # fmt: skip
    lake.write("raw.documents", pa.concat_tables([table, pa.Table.from_pylist([row], schema=table.schema)]))
    choose(lake, count=4, seed=1)
    served = LabelPage(lake, Annotator(kind="person", name="ada"), Rubric.read())
    thread = threading.Thread(target=served.serve, daemon=True)
    thread.start()
    yield served
    served.close()
    thread.join(5)


def call(
    page: LabelPage, method: str = "GET", path: str | None = None, *, form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None, body: bytes | None = None,
) -> tuple[int, dict[str, str], str]:  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    content = urllib.parse.urlencode(form).encode() if form is not None else body
    connection.request(method, path if path is not None else f"/{page.token}/", content, headers or {})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return found


def test_labels_one_after_the_other(page: LabelPage) -> None:
    for number in range(4):
        status, _, text = call(page)
        assert status == 200 and f"text {number + 1} of 4" in text and f"{number} labeled" in text
        [key] = re.findall(r'name="text_hash" value="([0-9a-f]{32})"', text)
        form = {"text_hash": key, "score": str(number), "reason": f"because <{number}>"}
        status, headers, _ = call(page, "POST", f"/{page.token}/label", form=form)
        assert status == 303 and headers["Location"] == f"/{page.token}/"
    assert "All 4 texts are labeled" in call(page)[2]
    rows = page._lake.table(LABELS).to_arrow().to_pylist()
    assert sorted(row["score"] for row in rows) == [0, 1, 2, 3]
    assert {row["annotator_kind"] for row in rows} == {"person"}
    # Back to the first: what was said stands there, and another score replaces it.
    text = call(page, path=f"/{page.token}/?at=0")[2]
    assert 'value="0" required checked' in text and "because &lt;0&gt;" in text
    [key] = re.findall(r'name="text_hash" value="([0-9a-f]{32})"', text)
    assert call(page, "POST", f"/{page.token}/label", form={"text_hash": key, "score": "5"})[0] == 303
    scores = page._lake.table(LABELS).to_arrow(["score"])["score"].to_pylist()
    assert sorted(scores) == [1, 2, 3, 5]
    again = LabelPage(page._lake, Annotator(kind="person", name="ada"), Rubric.read())
    assert again.num_done == 4 and again.next_place() is None
    again._server.server_close()
    other = LabelPage(page._lake, Annotator(kind="person", name="bob"), Rubric.read())
    assert other.next_place() == 0
    other._server.server_close()


def test_texts_are_shown_and_never_run(page: LabelPage) -> None:
    shown = [call(page, path=f"/{page.token}/?at={i}") for i in range(4)]
    [(_, headers, text)] = [each for each in shown if "alert(1)" in each[2]]
    assert "<script>alert" not in text and "<img" not in text and "<b>web" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    policy = headers["Content-Security-Policy"]
    [nonce] = re.findall(r"script-src 'nonce-([^']+)'", policy)
    assert "default-src 'none'" in policy and f'<script nonce="{nonce}">' in text
    assert len(re.findall("<script", text)) == 1
    other = shown[0][1]["Content-Security-Policy"]
    assert other != call(page)[1]["Content-Security-Policy"]  # a nonce is used once
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"


def test_strangers_get_nothing(page: LabelPage) -> None:
    here = f"127.0.0.1:{page.port}"
    for path in (
        "/",
        "/x/",
        f"/{page.token[:-1]}/",
        "/../etc/passwd",
        f"//{page.token}/x",
        f"/{page.token}/../x",
    ):
        status, _, text = call(page, path=path)
        assert status in (403, 404) and "text_hash" not in text
    assert call(page, headers={"Host": "evil.example"})[0] == 403  # a name that was pointed at this machine
    form = {"text_hash": page.tasks[0]["text_hash"].hex(), "score": "5"}
    assert (
        call(page, "POST", f"/{page.token}/label", form=form, headers={"Origin": "http://evil.example"})[0]
        == 403
    )
    assert call(page, "POST", "/guess/label", form=form)[0] == 404
    assert page.num_done == 0
    assert call(page, headers={"Origin": f"http://{here}"})[0] == 200


def test_bad_posts_are_answered(page: LabelPage) -> None:
    key = page.tasks[0]["text_hash"].hex()
    where = f"/{page.token}/label"
    for form in ({"text_hash": key, "score": "6"}, {"text_hash": key}, {"text_hash": key, "score": "x"},
                 {"text_hash": "f" * 32, "score": "3"}, {"score": "3"}, {f"f{i}": "1" for i in range(50)}):  # fmt: skip
        assert call(page, "POST", where, form=form)[0] == 400
    assert call(page, "POST", where, body=b"x" * 30_000)[0] == 400
    assert call(page, "POST", where, headers={"Content-Length": "-5"})[0] == 400
    assert call(page, "POST", where, body=b"\xff\xfe=\x00&score=%ff")[0] == 400
    assert call(page, "DELETE")[0] == 501
    assert page.num_done == 0 and call(page)[0] == 200


def test_nothing_to_label_has_a_message(tmp_path: Path) -> None:
    lake, _ = make_lake(tmp_path, per_kind=1)
    with pytest.raises(UsageError, match="nothing was chosen"):
        LabelPage(lake, Annotator(kind="person", name="ada"), Rubric.read())
    choose(lake, count=3)
    lake.write("raw.documents", lake.table("raw.documents").to_arrow().slice(0, 0))
    with pytest.raises(UsageError, match="holds none of the chosen"):
        LabelPage(lake, Annotator(kind="person", name="ada"), Rubric.read())
