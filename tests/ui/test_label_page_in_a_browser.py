"""The label page in a real browser: its script runs, a hostile text's does not, and the style is allowed."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from browser import BROWSER, MISSING, browse

import headwater as hw
from headwater.kernels.xxh3 import digest_array
from headwater.scoring.choose import choose
from headwater.scoring.labels import Annotator
from headwater.scoring.page import LabelPage
from headwater.scoring.rubric import Rubric

pytestmark = pytest.mark.skipif(BROWSER is None, reason=MISSING)

HOSTILE = "</pre><script>document.title = 'stolen'</script><img src=x onerror=\"document.title = 'stolen'\">"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[LabelPage]:
    lake = hw.Lake(tmp_path / "lake")
    row = {
        "doc_id": b"\1" * 16, "text": HOSTILE, "text_hash": digest_array(pa.array([HOSTILE]))[0].as_py(),
        "source": "web", "path": "x.py", "text_bytes": len(HOSTILE),
    }  # fmt: skip
    kinds = {"doc_id": pa.binary(16), "text": pa.large_string(), "text_hash": pa.binary(16)}
    table = pa.table({name: pa.array([value], kinds.get(name)) for name, value in row.items()})
    lake.write("raw.documents", table)
    choose(lake, count=1)
    served = LabelPage(lake, Annotator(kind="person", name="ada"), Rubric.read())
    thread = threading.Thread(target=served.serve, daemon=True)
    thread.start()
    yield served
    served.close()


def test_it_shows_a_hostile_text_and_runs_none_of_it(page: LabelPage, tmp_path: Path) -> None:
    found = browse(page.url, tmp_path, "--enable-logging=stderr", "--v=0", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", found.stdout)
    assert title is not None and title[1] == "web/x.py · label"
    assert "stolen" in found.stdout and "<img" not in found.stdout and found.stdout.count("<script") == 1
    assert "Content Security Policy" not in found.stderr, found.stderr[-2000:]
