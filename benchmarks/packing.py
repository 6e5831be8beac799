"""Packing methods on real documents: padding, cuts and speed, against plain Python and TRL.

    python benchmarks/packing.py LAKE [--schema dev] [--lengths 512 2048 8192] [--repeat 1]
        [--trl VENV/bin/python]

LAKE is a lake with a ``tokens`` table (``headwater pack`` makes one). Its documents are read into memory
first, in the order of the table; timed is from Arrow batches of documents to Arrow batches of sequences, on
one core, shuffle in windows and spans included. Each method runs once to warm up (kernels are compiled) and
then three times; the best is shown, in CPU time of the process. TRL packs the same documents, already closed,
in its own process, in batches of 1,000 (its default), and gives tokens and lengths only: no ids, no shuffle,
no padding written.

``cut`` counts documents that lie in more than one sequence though they would fit into one; documents longer
than a sequence are cut under every method. The rows "placing only" assign documents to sequences and write
none: our kernel a window at a time, and the usual plain Python (a sorted list of free rooms and ``bisect``)
over all documents at once, which is the least padding that best-fit-decreasing comes to.
"""

from __future__ import annotations

import argparse
import bisect
import importlib.metadata
import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.kernels.packing import best_fit
from headwater.lake import Lake
from headwater.sequences.best_fit import WINDOW_TOKENS
from headwater.sequences.packing import METHODS, PackCounts, Packing, close_documents, pack_pieces
from headwater.tokenizer import Encoder, load

BATCH_TOKENS = 4 << 20


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lake")
    parser.add_argument("--schema", default="dev")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--repeat", type=int, default=1, help="epochs of the documents, for a longer run")
    parser.add_argument("--trl", help="Python of a venv with trl, datasets and transformers")
    parser.add_argument("--fim", type=float, default=0.5, help="share of documents in the run with FIM")
    arguments = parser.parse_args()
    lake = Lake(arguments.lake, schema=arguments.schema)
    table = lake.table("tokens")
    encoder = load(lake, table.provenance.extra["tokenizer_id"])
    batches = read(table.to_arrow(["doc_id", "num_tokens", "tokens"]), arguments.repeat)
    lengths = np.concatenate([batch["num_tokens"].to_numpy() for batch in batches]).astype(np.int64) + 1
    print(
        f"{len(lengths):,} documents, {lengths.sum():,} tokens, median {int(np.median(lengths)):,}, "
        f"longest {lengths.max():,}; numba {importlib.metadata.version('numba')}, "
        f"pyarrow {pa.__version__}, Python {os.sys.version.split()[0]}, one core"  # type: ignore[attr-defined]
    )
    print(f"{'length':>6} {'method':<27}{'sequences':>10}{'padding':>9}{'cut':>8}{'docs/s':>12}{'Mtok/s':>8}")
    for length in arguments.lengths:
        for method in METHODS:
            measure(encoder, batches, lengths, length, method)
        if arguments.trl:
            trl(arguments.trl, batches, encoder.eos_id, lengths, length)
        placing_only(lengths, length)
    fim(encoder, batches, lengths, arguments.fim, arguments.lengths[0])


def read(table: pa.Table, repeat: int) -> list[pa.RecordBatch]:
    """Batches of documents of about ``BATCH_TOKENS`` tokens, in memory."""
    batches = []
    whole = table.append_column("source", pa.array(["s"] * table.num_rows)).combine_chunks()
    block = max(int(BATCH_TOKENS // max(pc.mean(table["num_tokens"]).as_py(), 1)), 1)
    for epoch in range(repeat):
        for batch in whole.to_batches(max_chunksize=block):
            batches.append(batch.append_column("epoch", pa.array([epoch] * batch.num_rows, pa.int32())))
    return batches


def best_of(run: Callable[[], Any], times: int = 3) -> tuple[Any, float]:
    """The result, and the least seconds of several runs after one that warms up."""
    result, least = run(), float("inf")
    for _ in range(times):
        started = time.process_time()
        result = run()
        least = min(least, time.process_time() - started)
    return result, least


def measure(
    encoder: Encoder, batches: list[pa.RecordBatch], lengths: np.ndarray[Any, Any], length: int, method: str
) -> None:
    packing = Packing(sequence_length=length, method=method)

    def run() -> tuple[PackCounts, list[pa.Array]]:
        counts = PackCounts()
        spans = [batch["spans"] for batch in pack_pieces(packing, encoder, batches, counts)]
        return counts, spans

    (counts, spans), seconds = best_of(run)
    flat = pa.concat_arrays([each.flatten() for each in spans])
    keys = pa.table(
        {"doc_id": flat.field("doc_id"), "epoch": flat.field("epoch"), "length": flat.field("length")}
    )
    each = keys.group_by(["doc_id", "epoch"]).aggregate([("length", "sum"), ("length", "count")])
    cut = pc.and_(pc.less_equal(each["length_sum"], length), pc.greater(each["length_count"], 1))
    padding = counts.num_padding / (counts.num_sequences * length)
    line(length, method, counts.num_sequences, padding, pc.sum(cut).as_py(), lengths, seconds)


def trl(
    python: str, batches: list[pa.RecordBatch], eos_id: int, lengths: np.ndarray[Any, Any], length: int
) -> None:
    with tempfile.NamedTemporaryFile(suffix=".arrow") as file:
        schema = pa.schema({"input_ids": batches[0]["tokens"].type})
        with pa.ipc.new_file(file.name, schema) as out:
            for batch in batches:
                tokens, sizes = close_documents(batch["tokens"], eos_id)
                offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
                lists = pa.ListArray.from_arrays(offsets, pa.array(tokens), type=schema.field(0).type)
                out.write_batch(pa.record_batch([lists], schema=schema))
        for strategy in ("wrapped", "bfd_split"):
            script = Path(__file__).with_name("packing_trl.py")
            command = [python, str(script), file.name, strategy, str(length)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            padding = 1 - lengths.sum() / (found["rows"] * length)
            name = f"TRL {found['versions']['trl']} {strategy}"
            line(length, name, found["rows"], padding, None, lengths, found["seconds"])


def placing_only(lengths: np.ndarray[Any, Any], length: int) -> None:
    """Documents of the tokens ``lengths`` into sequences of ``length``, nothing written."""
    rests, whole = lengths % length, int((lengths // length).sum())
    ends = np.cumsum(lengths)
    windows = np.searchsorted(ends, np.arange(0, ends[-1] + WINDOW_TOKENS, WINDOW_TOKENS))

    def kernel() -> int:
        used = 0
        for first, last in itertools.pairwise(windows):
            some = rests[first:last][rests[first:last] > 0]
            used += best_fit(some, np.argsort(-some, kind="stable"), length, np.empty(len(some), np.int64))
        return used

    for name, run in (
        ("ours", kernel),
        ("plain Python", lambda: plain_python(rests[rests > 0].tolist(), length)),
    ):
        rows, seconds = best_of(run)
        padding = 1 - lengths.sum() / ((rows + whole) * length)
        line(length, f"placing only, {name}", rows + whole, padding, None, lengths, seconds)


def plain_python(sizes: list[int], length: int) -> int:
    rooms: list[int] = []
    rows = 0
    for n in sorted(sizes, reverse=True):
        at = bisect.bisect_left(rooms, n)
        if at == len(rooms):
            rows += 1
            room = length
        else:
            room = rooms.pop(at)
        bisect.insort(rooms, room - n)
    return rows


def line(
    length: int,
    name: str,
    sequences: int,
    padding: float,
    cut: int | None,
    lengths: np.ndarray[Any, Any],
    seconds: float,
) -> None:
    print(
        f"{length:>6} {name:<27}{sequences:>10,}{100 * padding:>8.3f}%{'' if cut is None else f'{cut:,}':>8}"
        f"{len(lengths) / seconds:>12,.0f}{lengths.sum() / seconds / 1e6:>8.1f}"
    )


def fim(
    encoder: Encoder, batches: list[pa.RecordBatch], lengths: np.ndarray[Any, Any], rate: float, length: int
) -> None:
    encoder = encoder.with_special_tokens(["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"])
    batches = [
        batch.append_column("fim_rate", pa.array([rate] * batch.num_rows, pa.float32())) for batch in batches
    ]

    def run() -> PackCounts:
        counts = PackCounts()
        for _ in pack_pieces(Packing(sequence_length=length), encoder, batches, counts):
            pass
        return counts

    counts, seconds = best_of(run, 1)
    print(
        f"fill-in-the-middle of {rate:.0%}: {counts.num_psm:,} PSM, {counts.num_spm:,} SPM, "
        f"{counts.num_fim_refused:,} refused, tokens {counts.num_tokens / lengths.sum() - 1:+.2%}, "
        f"{lengths.sum() / seconds / 1e6:.1f} M tokens/s by {encoder.encoder}"
    )


if __name__ == "__main__":
    main()
