"""C4, Gopher quality, Gopher repetition and FineWeb together: our signals and decisions against datatrove's filters.

    python benchmarks/signals_vs_datatrove.py --peer-python PATH [--megabytes 40] [--seconds 90] [ROOT ...]

PATH is an interpreter that has datatrove and spaCy. The documents are real English text under each ROOT (by
default this machine's documentation: /usr/share/doc, English manual pages, READMEs and metadata of the
installed Python packages), shuffled with a fixed seed. Both sides see the same documents in the same order,
each on one thread; times are CPU time, after one document of warm-up (for ours: compiled kernels). datatrove
asks all four filters of every document, without its pipeline around them, until ``--seconds`` are over; each
filter stops at its first failing rule, ours decides every rule. Agreement is of the first failing rule of
each filter, in datatrove's order, and of the text that C4 leaves.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
MAX_BYTES = 500_000
# datatrove's reasons in the order of its rules, and our names for them
ORDER = {
    "gopher_quality": {
        "gopher_short_doc": "min_words",
        "gopher_long_doc": "max_words",
        "gopher_below_avg_threshold": "min_word_length",
        "gopher_above_avg_threshold": "max_word_length",
        "gopher_too_many_hashes": "hashes",
        "gopher_too_many_ellipsis": "ellipses",
        "gopher_too_many_bullets": "bullet_lines",
        "gopher_too_many_end_ellipsis": "ellipsis_lines",
        "gopher_below_alpha_threshold": "alpha_words",
        "gopher_enough_stop_words": "stop_words",
    },
    "gopher_repetition": {
        "dup_para_frac": "dup_paragraphs",
        "dup_para_char_frac": "dup_paragraph_chars",
        "dup_line_frac": "dup_lines",
        "dup_line_char_frac": "dup_line_chars",
        **{f"top_{n}_gram": f"top_{n}_gram" for n in (2, 3, 4)},
        **{f"duplicated_{n}_n_grams": f"dup_{n}_gram" for n in range(5, 11)},
    },
    "fineweb": {
        "line_punct_ratio": "terminal_lines",
        "short_line_ratio": "short_lines",
        "char_dup_ratio": "dup_line_chars",
        "list_ratio": "newlines",
    },
    "c4": {
        "lorem_ipsum": "lorem_ipsum",
        "curly_bracket": "curly_bracket",
        "too_few_sentences": "min_sentences",
    },
}


def corpus(roots: list[Path], megabytes: float) -> list[str]:
    paths = [p for root in roots for p in sorted(root.rglob("*")) if p.is_file() and not p.is_symlink()]
    random.Random(0).shuffle(paths)
    texts: dict[str, None] = {}
    size = 0
    for path in paths:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            continue
        if "\0" in text or not text.strip() or len(data) > MAX_BYTES or text in texts:
            continue
        texts[text] = None
        size += len(data)
        if size >= megabytes * 1e6:
            break
    return list(texts)


def default_roots() -> list[Path]:
    manuals = [Path("/usr/share/man") / f"man{section}" for section in range(1, 9)]
    packages = Path(sysconfig.get_path("purelib")).glob("*.dist-info")
    return [root for root in (Path("/usr/share/doc"), *manuals, *packages) if root.is_dir()]


def peer(documents: Path, seconds: float) -> None:
    """In datatrove's interpreter: reasons of each filter and its CPU time, one JSON line per document."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = {
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher_quality": GopherQualityFilter(),
        "c4": C4QualityFilter(),
        "fineweb": FineWebQualityFilter(),
    }
    print(json.dumps({"versions": {name: version(name) for name in ("datatrove", "spacy")}}))
    for found in filters.values():
        found.filter(Document(text="Warm up, once. It takes a while.", id="0"))
    began = time.monotonic()
    with documents.open(encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)
            result: dict[str, object] = {}
            spent = 0.0
            for name, found in filters.items():
                document = Document(text=text, id="0")
                before = time.process_time()
                try:
                    answer = found.filter(document)
                except ZeroDivisionError:
                    answer = (False, "error")
                spent += time.process_time() - before
                result[name] = None if answer is True else answer[1]
                if name == "c4":
                    result["cleaned"] = document.text if answer is True else None
            print(json.dumps({"result": result, "seconds": spent}))
            if time.monotonic() - began > seconds:
                return


def ours(texts: list[str]) -> tuple[list[dict[str, object]], float]:
    """Every decision of every document by the macros' SQL, and the CPU time of signals and decisions."""
    import duckdb
    import pyarrow as pa

    from headwater.operators import register_all

    sys.path.insert(0, str(HERE.parent / "tests" / "golden"))
    from macros import headwater as macros

    con = duckdb.connect(config={"threads": 1})
    register_all(con)
    rules = {
        "gopher_quality": macros.gopher_quality(signals="w").replace("keep__gopher", "gopher_quality__"),
        "gopher_repetition": macros.gopher_repetition(signals="w").replace(
            "keep__gopher", "gopher_repetition__"
        ),
        "fineweb": macros.fineweb(signals="w").replace("keep__fineweb", "fineweb__"),
        "c4": macros.c4(signals="c").replace("keep__c4", "c4__"),
    }
    sql = f"select {', '.join(rules.values())} from (select web_stats(text) as w, c4_stats(text) as c from documents)"
    con.register("documents", pa.table({"text": pa.array(texts[:1], pa.large_string())}))
    con.sql(sql).to_arrow_table()
    con.register("documents", pa.table({"text": pa.array(texts, pa.large_string())}))
    before = time.process_time()
    decided = con.sql(sql).to_arrow_table()
    spent = time.process_time() - before
    rows: list[dict[str, object]] = decided.to_pylist()
    con.close()
    return rows, spent


def first_failing(row: dict[str, object], family: str) -> str | None:
    for reason, rule in ORDER[family].items():
        if row[f"{family}___{rule}"] is not True:
            return reason
    return None


def report(texts: list[str], results: list[dict], versions: dict[str, str], peer_seconds: float) -> None:
    import pyarrow as pa

    import headwater
    from headwater.operators import operator

    rows, own_seconds = ours(texts)
    size = sum(len(text.encode()) for text in texts)
    # The rules decide on datatrove's terms: it reads C4's page rules line by line and stops at the first.
    print(f"{len(texts)} documents, {size / 1e6:.1f} MB; headwater {headwater.__version__}, {versions}")
    print(f"{'':24}{'MB/s/core':>12}{'docs/s/core':>14}")
    for name, seconds in (("headwater", own_seconds), ("datatrove", peer_seconds)):
        print(f"{name:24}{size / 1e6 / seconds:12.3f}{len(texts) / seconds:14.1f}")
    print(f"{'ratio':24}{peer_seconds / own_seconds:12.1f}")
    print()
    print(f"{'filter':20}{'first failing rule':32}{'datatrove':>10}{'same':>10}")
    for family in ORDER:
        theirs = [result[family] for result in results]
        same = Counter()
        for row, reason in zip(rows, theirs, strict=True):
            mine = first_failing(row, family)
            if family == "c4" and reason in ("curly_bracket", "lorem_ipsum"):
                mine = reason if row[f"c4___{reason}"] is False else mine  # whichever line came first
            same[reason] += mine == reason or reason in ("empty", "error")
        for reason, count in sorted(Counter(theirs).items(), key=lambda item: -item[1]):
            print(f"{family:20}{reason or '(kept)':32}{count:10}{same[reason]:10}")
        print(f"{family:20}{'all':32}{len(theirs):10}{sum(same.values()):10}")
    kept = [
        (text, result["cleaned"]) for text, result in zip(texts, results, strict=True) if result["c4"] is None
    ]
    cleaned = operator("c4_clean")(pa.array([text for text, _ in kept], pa.large_string())).to_pylist()
    equal = sum(mine == theirs for mine, (_, theirs) in zip(cleaned, kept, strict=True))
    print(f"{'c4':20}{'text that remains':32}{len(kept):10}{equal:10}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="*", type=Path)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--megabytes", type=float, default=40)
    parser.add_argument("--seconds", type=float, default=90, help="of datatrove")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        peer(arguments.peer, arguments.seconds)
        return
    texts = corpus(arguments.roots or default_roots(), arguments.megabytes)
    if not arguments.peer_python:
        _, seconds = ours(texts)
        size = sum(len(text.encode()) for text in texts)
        print(f"{len(texts)} documents, {size / 1e6:.1f} MB: {size / 1e6 / seconds:.1f} MB/s/core; no peer")
        return
    with tempfile.TemporaryDirectory() as folder:
        documents = Path(folder) / "documents.jsonl"
        documents.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        command = [arguments.peer_python, __file__, "--peer", documents, "--seconds", str(arguments.seconds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    versions, answers = lines[0]["versions"], lines[1:]
    results = [answer["result"] for answer in answers]
    report(texts[: len(results)], results, versions, sum(answer["seconds"] for answer in answers))


if __name__ == "__main__":
    main()
