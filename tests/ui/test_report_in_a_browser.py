"""The report opened in a real browser: it lays out, asks the network for nothing, runs nothing."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (apt-get install chromium)")


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


def browse(page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={page.parent / 'profile'}",
    ]
    return subprocess.run(
        [*command, *arguments, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )


def test_it_renders_and_runs_no_script(page):
    dom = browse(page, "--dump-dom").stdout
    assert '<h2 id="lineage">Lineage</h2>' in dom
    assert "<script" not in dom.lower() and "onerror=alert(2)" in re.sub(r"<[^>]*>", "", dom)


def test_it_asks_for_nothing_but_itself(page):
    log = page.parent / "net.json"
    browse(page, "--dump-dom", f"--log-net-log={log}", "--disable-background-networking", "--no-first-run")
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
