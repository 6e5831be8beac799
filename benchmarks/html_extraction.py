"""HTML to text on real documentation: ours, the extractor alone, and trafilatura in an environment of its own.

    python benchmarks/html_extraction.py /usr/share/doc --peer-python PATH

Pages are drawn at random (seed 0) from the ``*.html`` below the folder (Debian: python3-doc, debian-handbook,
git-doc, postgresql-doc), read into memory, and each tool gets the same bytes on one core. Ours finds the
character set, counts what the page would cost, and extracts text, title, language, links and license links; the
peers extract text only. Warm-up: one page each, which compiles our one kernel. Texts are compared with
that of Sphinx's ``div.body`` where a page has one: precision and recall over distinct words.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

PEER = """
import json, sys, time
from importlib import metadata
from pathlib import Path
from trafilatura import extract
pages = [Path(name).read_bytes() for name in json.load(sys.stdin)]
extract(pages[0])
for fast in (False, True):
    started = time.process_time()
    texts = [extract(page, fast=fast) or "" for page in pages]
    seconds = time.process_time() - started
    print(json.dumps([f"trafilatura {metadata.version('trafilatura')}" + (", fast" if fast else ""), seconds, texts]))
"""


def pages(folder: Path, count: int) -> list[Path]:
    found = sorted({p.resolve() for p in folder.rglob("*.html") if p.is_file()})
    return random.Random(0).sample(found, min(count, len(found)))


def ours(data: list[bytes], mode: str) -> tuple[str, float, list[str]]:
    from headwater.ingest.html import extract

    extract(data[0], mode=mode)
    started = time.process_time()
    texts = [extract(page, mode=mode).text or "" for page in data]
    return f"headwater, {mode}", time.process_time() - started, texts


def alone(data: list[bytes], is_main: bool) -> tuple[str, float, list[str]]:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    started = time.process_time()
    texts = [
        extract_plain_text(HTMLTree.parse_from_bytes(page), main_content=is_main, preserve_formatting=True)
        for page in data
    ]
    name = f"resiliparse {metadata.version('resiliparse')}, {'main' if is_main else 'full'}"
    return name, time.process_time() - started, texts


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def bodies(data: list[bytes]) -> dict[int, set[str]]:
    """Distinct words of ``div.body``, Sphinx's own mark of the content."""
    from resiliparse.parse.html import HTMLTree

    found = {}
    for i, page in enumerate(data):
        body = HTMLTree.parse_from_bytes(page).document.query_selector("div.body")
        if body is not None and words(body.text):
            found[i] = words(body.text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--peer-python", help="interpreter that has trafilatura")
    parser.add_argument("--peer-pages", type=int, default=100, help="the first N of the same pages")
    arguments = parser.parse_args()
    chosen = pages(arguments.folder, arguments.pages)
    data = [page.read_bytes() for page in chosen]
    if not data:
        sys.exit(f"no *.html below {arguments.folder}")
    truth = bodies(data)
    results = [(*ours(data, mode), len(data)) for mode in ("main", "full")]
    results += [(*alone(data, is_main), len(data)) for is_main in (True, False)]
    if arguments.peer_python:
        few = [str(page) for page in chosen][: arguments.peer_pages]
        done = subprocess.run(
            [arguments.peer_python, "-c", PEER],
            input=json.dumps(few),
            capture_output=True,
            text=True,
            check=True,
        )
        results += [(*json.loads(line), len(few)) for line in done.stdout.splitlines()]
    print(
        f"{len(data)} pages, {sum(map(len, data)) / 1e6:.1f} MB, {len(truth)} of them by Sphinx; "
        f"one core, CPU seconds; Python {platform.python_version()}"
    )
    print(f"{'':28} {'pages/s':>9} {'MB/s':>7} {'precision':>10} {'recall':>7} {'empty':>6}")
    for name, seconds, texts, count in results:
        size = sum(map(len, data[:count]))
        judged = [(words(texts[i]), expected) for i, expected in truth.items() if i < count]
        precision = sum(len(f & e) / max(1, len(f)) for f, e in judged) / max(1, len(judged))
        recall = sum(len(f & e) / len(e) for f, e in judged) / max(1, len(judged))
        empty = sum(not text.strip() for text in texts)
        print(
            f"{name:28} {count / seconds:9.0f} {size / 1e6 / seconds:7.1f} {precision:10.3f} {recall:7.3f} {empty:6}"
        )


if __name__ == "__main__":
    main()
