"""Training speed: tokens/s, MFU, data wait; eager against compiled, masks on and off, and what the log costs.

    python benchmarks/training.py --lake lake --processes 1 2
    python benchmarks/training.py --lake lake --recipes llama_124m_gpu llama_1b_h200 --steps 30

Runs recipes of the trainer on a packed table of a real lake (``headwater pack``), each variant in processes of
its own, and logs to a scratch lake. Steps are timed from start to start, so that data, log and optimizer count;
the first ``--warm-up`` (compilation and first reads) do not. Tokens are those that are no padding. MFU is from
unmasked model FLOPs (6 N + 12 layers width length) over the device's dense bfloat16 peak; a CPU has none.

``record`` compares steps of one run: every other one goes without the lineage that the trainer adds (losses by
source, the log's rows, the screen), so that whatever else the machine does falls on both. The log's flush, which
comes every 30 s, is timed by itself and added as its share of 30 s. On a busy machine the wall clock is noise:
the processor time of the lineage's own calls, over that of the step's, is given beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TRAINER = Path(__file__).parents[1] / "trainer"

VARIANTS: dict[str, dict[str, Any]] = {
    "eager": {"compile": False},
    "compiled": {"compile": True},
    "eager, no masks": {"compile": False, "document_masks": False},
    "compiled, no masks": {"compile": True, "document_masks": False},
    "record": {},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--lake", default="lake")
    add("--target", default="dev")
    add("--table", default="sequences")
    add("--recipes", nargs="+", help="by default those that fit the device")
    add("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    add("--processes", nargs="+", type=int, default=[1])
    add("--steps", type=int, default=20, help="timed, after the warm-up")
    add("--warm-up", type=int, default=4)
    add("--batch", type=int, help="sequences in a step, over all processes, in place of the recipe's")
    add("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args, json.loads(args.worker))
    import torch
    import transformers

    cuda = torch.cuda.is_available()
    recipes = args.recipes or (
        ["llama_124m_gpu", "llama_1b_h200"] if cuda else ["llama_1m_cpu", "tinystories_10m"]
    )
    device = torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} cores {platform.machine()}"
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {device}, load average "
        f"{os.getloadavg()[0]:.1f} before; {args.steps} steps after {args.warm_up} of warm-up\n"
    )
    print("recipe            processes  variant              tokens/s     MFU  data wait  step (median)")
    for recipe in recipes:
        for processes in args.processes:
            for variant in args.variants:
                line = f"{recipe:16}  {processes:9}  {variant:18}"
                found = measure(recipe, variant, processes)
                print(line + "  " + (told(found) if "seconds" in found else found["error"]), flush=True)
    return 0


def told(found: dict[str, Any]) -> str:
    used = f"{found['mfu']:6.1%}" if found["mfu"] is not None else "     -"
    text = f"{found['tokens_per_second']:10,.0f}  {used}  {found['wait']:8.2%}  {found['seconds'] * 1e3:10,.1f} ms"
    if found["without"] is not None:
        cost = found["seconds"] / found["without"] - 1
        flush = found["flush"] / 30
        text += (
            f"   without the record {found['without'] * 1e3:,.1f} ms: {cost:+.2%}; "
            f"a flush {found['flush']:.2f} s of 30 s: {flush:+.2%}; own processor time {found['own']:.2%}"
        )
    return text


def measure(recipe: str, variant: str, processes: int) -> dict[str, Any]:
    """One variant in processes of its own; what rank 0 found."""
    with tempfile.TemporaryDirectory() as scratch:
        task = {"recipe": recipe, "variant": variant, "scratch": scratch}
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        line = [sys.executable, *(torchrun if processes > 1 else []), *sys.argv, "--worker", json.dumps(task)]
        threads = max((os.cpu_count() or 1) // processes, 1)
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        result = Path(scratch) / "result.json"
        if done.returncode or not result.exists():
            said = [text for text in done.stderr.splitlines() if text.strip() and "Hint" not in text]
            return {"error": f"failed: {said[-1] if said else done.returncode}"}
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def worker(args: argparse.Namespace, task: dict[str, Any]) -> int:
    sys.path.insert(0, str(TRAINER))
    import train
    from recipe import find_recipe

    from headwater.lake import Lake

    changes: dict[str, Any] = {**VARIANTS[task["variant"]], "checkpoint_every": 10**9}
    if args.batch:
        changes["global_batch_size"] = args.batch
    recipe = dataclasses.replace(find_recipe(task["recipe"]), **changes)
    scratch, steps = Path(task["scratch"]), args.warm_up + args.steps + 1

    class Nothing:
        """The sources that are not counted."""

        def add(self, *_: Any) -> None: ...

        def totals(self) -> dict[str, Any]:
            return {}

    class Timed(train.Run):  # type: ignore[name-defined,misc]
        def __init__(self, *arguments: Any) -> None:
            self.marks: list[tuple[float, float]] = []
            self.tokens: list[int] = []
            super().__init__(*arguments)
            self.own: list[float] = []
            self.processor: list[float] = []
            if task["variant"] == "record":
                self.sources.add = self._clocked(self.sources.add)
                self.sources.totals = self._clocked(self.sources.totals)
                if self.record:
                    self.record.step = self._clocked(self.record.step)
            self.both = (self.record, self.sources)

        def _clocked(self, call: Any) -> Any:
            def clocked(*arguments: Any) -> Any:
                start = time.thread_time()
                try:
                    return call(*arguments)
                finally:
                    self.own.append(time.thread_time() - start)

            return clocked

        def _open_record(self) -> Any:
            lake, self.lake = self.lake, Lake(str(scratch / "lake"), schema=args.target)
            try:
                return super()._open_record()
            finally:
                self.lake = lake

        def _step(self, batch: dict[str, Any]) -> Any:
            self.marks.append((time.perf_counter(), self.data.wait_seconds))
            if task["variant"] == "record":
                self.record, self.sources = (None, Nothing()) if self.step % 2 else self.both
            start = time.thread_time()
            facts, sources = super()._step(batch)
            self.processor.append(time.thread_time() - start)
            self.tokens.append(facts["tokens"])
            return facts, sources

        def _save(self) -> None:
            """No checkpoint: the loop's last act would only take time."""

        def finish(self) -> None:
            durations = [b[0] - a[0] for a, b in zip(self.marks, self.marks[1:], strict=False)][
                args.warm_up :
            ]
            tokens = self.tokens[args.warm_up : args.warm_up + len(durations)]
            speed = sum(tokens) / sum(durations)
            used = train.metrics.mfu(speed, self.flops, self.peak, train.WORLD_SIZE)
            waited = self.marks[-1][1] - self.marks[args.warm_up][1]
            without = own = None
            seconds = statistics.median(durations)
            if task["variant"] == "record":  # step s stands at s - 1, and odd steps went without
                odd = (args.warm_up + 1) % 2
                seconds = statistics.median(durations[odd::2])
                without = statistics.median(durations[1 - odd :: 2])
                own = sum(self.own) / sum(self.processor[1::2])
            start = time.perf_counter()
            self.both[0].log.flush()
            flush = time.perf_counter() - start
            (scratch / "result.json").write_text(
                json.dumps(
                    {
                        "tokens_per_second": speed, "mfu": used, "wait": waited / sum(durations),
                        "seconds": seconds, "without": without, "flush": flush,
                        "own": own,
                    }
                )
            )  # fmt: skip

    line = [task["recipe"], "--lake", args.lake, "--target", args.target, "--table", args.table, "--quiet"]
    line += ["--out", str(scratch / "runs"), "--max-steps", str(steps)]
    options = train._arguments(line)
    train._start_processes(600.0)
    run = Timed(options, recipe)
    if run.record:
        run.record.end = lambda *_, **__: None
    run.train()
    if train.RANK == 0:
        run.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
