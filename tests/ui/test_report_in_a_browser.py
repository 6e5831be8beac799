"""The report opened in a real browser: it lays out, asks the network for nothing, runs nothing."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import browser
import pytest
from browser import BROWSER, MISSING

pytestmark = pytest.mark.skipif(BROWSER is None, reason=MISSING)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from headwater.report import write_report

    path = Path(__file__).parents[1] / "cli" / "sample_lake.py"
    spec = importlib.util.spec_from_file_location("sample_lake_ui", path)
    assert spec is not None and spec.loader is not None
    sample = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = sample
    spec.loader.exec_module(sample)
    folder = tmp_path_factory.mktemp("ui")
    return write_report(sample.build_sample(folder / "lake"), folder / "report.html")


def browse(page: Path, *arguments: str) -> str:
    return browser.browse(page.as_uri(), page.parent, *arguments).stdout


def test_it_renders_and_runs_no_script(page):
    dom = browse(page, "--dump-dom")
    assert '<h2 id="lineage">Lineage</h2>' in dom
    assert "<script" not in dom.lower() and "onerror=alert(2)" in re.sub(r"<[^>]*>", "", dom)


def test_it_asks_for_nothing_but_itself(page):
    log = page.parent / "net.json"
    browse(page, "--dump-dom", f"--log-net-log={log}")
    # The browser itself may look for updates; a request that the page causes names it as its initiator.
    requests = re.findall(r'"url":"([^"]+)"', log.read_text("utf-8", "replace"))
    assert not [url for url in requests if "example.org" in url]


def test_it_is_drawn_in_light_and_dark(page):
    for name, extra in (
        ("light", ()),
        ("dark", ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")),
    ):
        picture = page.parent / f"{name}.png"
        browse(page, f"--screenshot={picture}", "--window-size=1100,1600", "--hide-scrollbars", *extra)
        assert picture.stat().st_size > 40_000
