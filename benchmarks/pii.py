"""Personal data: ours against Dolma's expressions in Python and datatrove's formatter, one core each.

    python benchmarks/pii.py [--peer-python PATH] [--megabytes 100] [--peer-megabytes 5] [ROOT ...]

The corpus is a sample of the text-like files under each ROOT (by default the installed packages of this
interpreter). ``PATH`` is a Python with datatrove.

* ours: operators ``pii_counts`` (fourteen kinds) and ``redact_pii``.
* ours, ``detectors='dolma'``: Dolma's three expressions behind a linear-time prefilter.
* Dolma: the same three expressions with Python's ``re``, paragraph by paragraph, as its tagger runs them.
* datatrove: ``PIIFormatter`` (e-mail and public IP addresses, replaced).

Recall is of values planted in real files; precision is of a sample of what is found by nature, printed with
``--show`` for a person to judge (to that person's screen only: nothing of it is stored). Compilation of our
kernel (cached on disk after the first run) is not timed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

PATTERNS = ("*.py", "*.md", "*.rst", "*.txt", "*.html", "METADATA", "copyright", "README*")
DOLMA = (
    "[.\\s@,?!;:)(]*([^\\s@]+@[^\\s@,?!;:)(]+?)[.\\s@,?!;:)(]?[\\s\n\r]",
    "\\s+\\(?(\\d{3})\\)?[-\\. ]*(\\d{3})[-. ]?(\\d{4})",
    "(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)\\.){3}(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)",
)


def corpus(roots: list[Path], megabytes: float) -> list[str]:
    files = sorted(
        {file for root in roots for pattern in PATTERNS for file in root.rglob(pattern) if file.is_file()}
    )
    random.Random(0).shuffle(files)
    texts: list[str] = []
    size = 0
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        if 0 < len(text) < 1_000_000:
            texts.append(text)
            size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    return texts


def dolma(texts: list[str]) -> int:
    expressions = [re.compile(pattern) for pattern in DOLMA]
    found = 0
    for text in texts:
        for paragraph in re.finditer(r"[^\n]*\n|[^\n]+$", text):
            line = paragraph.group()
            for expression in expressions:
                if expression is not expressions[0] or "@" in line:
                    found += sum(1 for _ in expression.finditer(line))
    return found


def peer(path: Path) -> dict[str, Any]:
    """Runs in the peer's interpreter."""
    from datatrove.pipeline.formatters.pii import PIIFormatter

    texts = json.loads(path.read_text())
    step = PIIFormatter()
    step.format(texts[0])
    started = time.process_time()
    changed = sum(step.format(text) != text for text in texts)
    return {"seconds": time.process_time() - started, "changed": changed, "version": version("datatrove")}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def mega(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="*", type=Path)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--peer-megabytes", type=float, default=5)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--show", type=int, default=0, help="examples of each kind to print")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        print(json.dumps(peer(arguments.peer)))
        return

    import pyarrow as pa

    from headwater.kernels.pii import KINDS
    from headwater.operators import operator

    texts = corpus(arguments.roots or [Path(sysconfig.get_paths()["purelib"])], arguments.megabytes)
    few = texts[: max(1, int(len(texts) * arguments.peer_megabytes / max(arguments.megabytes, 1)))]
    values, part = pa.array(texts, pa.large_string()), pa.array(few, pa.large_string())
    count, redact = operator("pii_counts"), operator("redact_pii")
    redact(part.slice(0, 5))
    size, small = mega(texts), mega(few)
    print(f"corpus {len(texts):,} files, {size:.1f} MB; peers on {len(few):,} of them, {small:.1f} MB")
    seconds, counts = timed(lambda: count(values))
    print(f"| headwater pii_counts | {size / seconds:.0f} MB/s/core |")
    totals = {kind: sum(counts.field(kind).to_pylist()) for kind in KINDS}
    over = sum(n > 5 for n in counts.field("num_pii_spans").to_pylist())
    with_any = sum(n > 0 for n in counts.field("num_pii_spans").to_pylist())
    seconds, _ = timed(lambda: redact(values))
    print(f"| headwater redact_pii | {size / seconds:.0f} MB/s/core |")
    seconds, ours = timed(lambda: count(part, detectors="dolma"))
    print(
        f"| headwater, detectors='dolma' | {small / seconds:.1f} MB/s/core | {sum(ours.field('num_pii_spans').to_pylist())} spans |"
    )
    seconds, theirs = timed(lambda: dolma(few))
    print(
        f"| Dolma's expressions, Python {sys.version.split()[0]} re | {small / seconds:.1f} MB/s/core | {theirs} matches |"
    )
    if arguments.peer_python:
        with tempfile.TemporaryDirectory() as name:
            given = Path(name) / "texts.json"
            given.write_text(json.dumps(few))
            command = [str(arguments.peer_python), __file__, "--peer", str(given)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| datatrove {result['version']} PIIFormatter | {small / result['seconds']:.1f} MB/s/core | {result['changed']} files changed |"
        )
    print(
        f"spans: { ({kind: n for kind, n in totals.items() if n}) }; {with_any:,} files with any, {over} with more than five"
    )
    if arguments.show:
        show(texts, operator("pii_spans")(values).to_pylist(), arguments.show)


def show(texts: list[str], spans: list[list[dict[str, Any]]], number: int) -> None:
    by_kind: dict[str, list[str]] = {}
    for text, found in zip(texts, spans, strict=True):
        data = text.encode()
        for span in found:
            near = data[max(0, span["start"] - 30) : span["end"] + 10].decode(errors="replace")
            by_kind.setdefault(span["kind"], []).append(" ".join(near.split()))
    for kind, examples in by_kind.items():
        print(f"-- {kind} ({len(examples)})")
        for example in random.Random(0).sample(examples, min(number, len(examples))):
            print("  ", example[:100])


if __name__ == "__main__":
    main()
