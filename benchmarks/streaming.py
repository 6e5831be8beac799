"""Streaming packed tokens: ours beside LitData, MosaicML Streaming, Hugging Face, lancedb and a memmap.

    python benchmarks/streaming.py --peer-python /path/to/venv/bin/python

The same tokens for all: ``--rows`` sequences of ``--length`` random uint16 tokens, documents of log-normal
length in them. Each contender runs in a process of its own, alone, over its own copy of the data, in batches
of 8 sequences in stored order (or items, where that is how it is fastest: said in its name). *Cold*: every
file of its copy was synced and dropped from the page cache (POSIX_FADV_DONTNEED) before the process started;
*warm*: the best of the passes after it, in the same process; *per core*: tokens by second of CPU time of all
its threads then, which other work on the machine disturbs less. All are medians of ``--repeat`` processes,
contender after contender in turn. The first batch is timed from opening the data (after the imports) in the cold
pass; compiled kernels are in numba's cache by then. Ours gives ids, labels, segments, positions and sources
(int64 and int32); the others give the ids alone, as the int64 that a model takes, without document borders.
LitData hands out what it stored, uint16: it is cast, after stacking its items by eight or in its own batches.
Its items as they come are views of a mapped file, of which nothing has been read: shown, and no bar.

The peers need a Python that has them: litdata, mosaicml-streaming, datasets, lancedb, pylance. What it lacks is
said and left out. lancedb's packing mode makes the sequences itself, from one list of tokens per document, and
runs over ``--packing-rows`` sequences only.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH = 8
EOS, PAD = 0, 1
VOCABULARY = 50_000


def tokens_of(folder: Path) -> Any:
    """The tokens as (rows, length) uint16."""
    import numpy as np

    facts = json.loads((folder / "facts.json").read_text())
    return np.memmap(folder / "memmap" / "tokens.bin", np.uint16, "r").reshape(-1, facts["length"])


def make_tokens(folder: Path, rows: int, length: int) -> None:
    import numpy as np

    (folder / "memmap").mkdir(parents=True)
    (folder / "facts.json").write_text(json.dumps({"rows": rows, "length": length}))
    tokens = np.random.default_rng(0).integers(2, VOCABULARY, rows * length, dtype=np.uint16)
    tokens.tofile(folder / "memmap" / "tokens.bin")


# -- one preparation and one reader for each contender ------------------------------------------------


def prepare_headwater(folder: Path) -> None:
    import numpy as np
    import pyarrow as pa

    import headwater as hw
    from headwater.sequences.packing import SPANS

    tokens = tokens_of(folder)
    rows, length = tokens.shape
    random = np.random.default_rng(1)
    documents = np.maximum(random.lognormal(6.2, 1.1, rows * 8).astype(np.int64), 1)
    ends = np.cumsum(documents)
    cuts = np.union1d(ends[ends < rows * length], np.arange(0, rows * length, length))
    lengths = np.diff(cuts, append=rows * length)
    offsets = np.searchsorted(cuts, np.arange(rows + 1) * length).astype(np.int32)
    number = np.searchsorted(ends, cuts, side="right")
    ids = np.zeros((len(cuts), 2), "<i8")
    ids[:, 0] = number
    fields = {
        "doc_id": pa.Array.from_buffers(pa.binary(16), len(cuts), [None, pa.py_buffer(ids.tobytes())]),
        "start": pa.array(np.zeros(len(cuts), np.int32)),
        "length": pa.array(lengths.astype(np.int32)),
        "source": pa.DictionaryArray.from_arrays(pa.array(number % 3), ["books", "code", "web"]).cast(
            "string"
        ),
    }
    kind = SPANS.value_type
    missing = {
        f.name: pa.array(np.zeros(len(cuts), np.int32)).cast(f.type) for f in kind if f.name not in fields
    }
    spans = pa.StructArray.from_arrays(
        [{**fields, **missing}[field.name].cast(field.type) for field in kind], fields=list(kind)
    )
    print(f"{len(cuts) / rows:.1f} spans a sequence", file=sys.stderr)
    column = pa.ListArray.from_arrays(pa.array(offsets), spans, type=SPANS)
    table = pa.table(
        {
            "sequence_index": pa.array(np.arange(rows)),
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), length),
            "spans": column,
        }
    )
    facts = {"sequence_length": length, "tokenizer_id": "0" * 32, "vocab_size": VOCABULARY, "eos_id": EOS}
    facts["sources"] = dict.fromkeys(("books", "code", "web"), 1)
    lake = hw.Lake(folder / "headwater")
    lake.write("sequences", table, provenance=hw.Provenance(kind="pack", extra=facts))


def read_headwater(folder: Path, fields: tuple[str, ...] | None = None) -> Pass:
    import warnings

    import headwater as hw
    from headwater.streaming import FIELDS

    warnings.simplefilter("ignore")
    lake = hw.Lake(folder / "headwater")
    data = hw.stream(lake, global_batch_size=BATCH, fields=fields or FIELDS)
    for batch in data:
        yield batch["input_ids"].numel()
    yield len(json.dumps(data.state_dict())), "state"


def read_headwater_ids(folder: Path) -> Pass:
    return read_headwater(folder, ("input_ids",))


def read_memmap(folder: Path) -> Pass:
    import numpy as np
    import torch

    tokens = tokens_of(folder)
    for first in range(0, len(tokens), BATCH):
        yield torch.from_numpy(tokens[first : first + BATCH].astype(np.int64)).numel()


def prepare_litdata(folder: Path) -> None:
    import litdata
    from litdata.streaming.item_loader import TokensLoader

    length = tokens_of(folder).shape[1]
    litdata.optimize(
        fn=_LitPart(folder),
        inputs=list(range(16)),
        output_dir=str(folder / "litdata"),
        chunk_size=4096 * length,
        item_loader=TokensLoader(block_size=length),
        num_workers=1,
    )


class _LitPart:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, part: int) -> Iterator[Any]:
        import numpy as np
        import torch

        tokens = tokens_of(self.folder)
        for rows in np.array_split(tokens, 16)[part : part + 1]:
            for row in rows:
                yield torch.from_numpy(np.array(row))


def _litdata(folder: Path) -> Any:
    import litdata
    from litdata.streaming.item_loader import TokensLoader

    length = tokens_of(folder).shape[1]
    return litdata.StreamingDataset(
        str(folder / "litdata"), item_loader=TokensLoader(block_size=length), shuffle=False, drop_last=False
    )


def read_litdata_views(folder: Path) -> Pass:
    """As LitData hands items over: views of a mapped file, of which nothing has been read yet."""
    for item in _litdata(folder):
        yield item.numel()


def read_litdata_items(folder: Path) -> Pass:
    import torch

    rows = []
    for item in _litdata(folder):  # begins anew when it is asked again after its end
        rows.append(item)
        if len(rows) == BATCH:
            yield torch.stack(rows).long().numel()
            rows = []
    if rows:
        yield torch.stack(rows).long().numel()


def read_litdata_batches(folder: Path) -> Pass:
    import litdata

    loader = litdata.StreamingDataLoader(_litdata(folder), batch_size=BATCH, num_workers=0)
    for batch in loader:
        yield batch.long().numel()
    yield len(json.dumps(loader.state_dict(), default=str)), "state"


def prepare_mosaic(folder: Path) -> None:
    from streaming import MDSWriter

    tokens = tokens_of(folder)
    columns = {"tokens": f"ndarray:uint16:{tokens.shape[1]}"}
    with MDSWriter(out=str(folder / "mosaic"), columns=columns) as out:
        for row in tokens:
            out.write({"tokens": row})


def read_mosaic(folder: Path) -> Pass:
    import numpy as np
    import torch
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    data = StreamingDataset(local=str(folder / "mosaic"), shuffle=False, batch_size=BATCH)
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=BATCH,
        collate_fn=lambda rows: torch.from_numpy(np.stack([row["tokens"] for row in rows]).astype(np.int64)),
    )
    for batch in loader:
        yield batch.numel()
    yield len(json.dumps(data.state_dict(0, False))), "state"


def prepare_datasets(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens = tokens_of(folder)
    (folder / "datasets").mkdir()
    column = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), tokens.shape[1])
    pq.write_table(
        pa.table({"tokens": column.cast(pa.list_(pa.uint16()))}),
        folder / "datasets" / "tokens.parquet",
        row_group_size=1024,
    )


def read_datasets(folder: Path) -> Pass:
    import numpy as np
    import torch
    from datasets import load_dataset

    data = load_dataset(
        "parquet", data_files=str(folder / "datasets" / "*.parquet"), split="train", streaming=True
    ).with_format("arrow")
    length = tokens_of(folder).shape[1]
    for batch in data.iter(batch_size=BATCH):
        ids = batch["tokens"].combine_chunks().flatten().to_numpy().reshape(-1, length)
        yield torch.from_numpy(ids.astype(np.int64)).numel()
    yield len(json.dumps(data.state_dict())), "state"


def prepare_lancedb(folder: Path) -> None:
    import lancedb
    import pyarrow as pa

    tokens = tokens_of(folder)
    database = lancedb.connect(folder / "lancedb")
    column = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), tokens.shape[1])
    database.create_table("sequences", pa.table({"tokens": column}))


def read_lancedb(folder: Path) -> Pass:
    import lancedb
    import numpy as np
    import torch
    from lancedb.streaming import StreamingDataset

    table = lancedb.connect(folder / "lancedb").open_table("sequences")
    length = tokens_of(folder).shape[1]

    def rows(batch: Any) -> Any:
        return torch.from_numpy(
            batch["tokens"].flatten().to_numpy().reshape(-1, length).astype(np.int64)
        ).unbind(0)

    data = StreamingDataset(
        table, columns=["tokens"], shuffle=False, read_batch_size=256, transform=rows, num_splits=1
    )
    for item in data:
        yield item.numel()
    yield len(json.dumps(data.state_dict(), default=str)), "state"


def prepare_lancedb_packing(folder: Path, rows: int) -> None:
    import lancedb
    import numpy as np
    import pyarrow as pa

    tokens = tokens_of(folder)[:rows].reshape(-1)
    lengths = np.maximum(np.random.default_rng(1).lognormal(6.2, 1.1, rows * 8).astype(np.int64), 1)
    ends = np.cumsum(lengths)
    offsets = np.concatenate([[0], ends[ends < len(tokens)]]).astype(np.int32)
    column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens[: offsets[-1]].astype(np.int32)))
    lancedb.connect(folder / "lancedb_packing").create_table("documents", pa.table({"tokens": column}))


def read_lancedb_packing(folder: Path) -> Pass:
    import lancedb
    from lancedb.streaming import StreamingDataset

    table = lancedb.connect(folder / "lancedb_packing").open_table("documents")
    length = tokens_of(folder).shape[1]
    total = json.loads((folder / "facts.json").read_text())["packing_rows"]
    data = StreamingDataset(
        table,
        columns=["tokens"],
        shuffle=False,
        read_batch_size=256,
        num_splits=1,
        pack_sequences=length,
        eos_id=EOS,
        pad_id=PAD,
        blocks_per_epoch=total,
    )
    for item in data:
        yield item["input_ids"].numel()
    yield len(json.dumps(data.state_dict(), default=str)), "state"


Pass = Iterator[Any]
"""Tokens of each batch; at the end ``(bytes of the state, "state")`` where there is a state."""

# Title, distribution that makes it, folder of its data, preparation, reader.
CONTENDERS: dict[str, tuple[str, str, str, Callable[..., None] | None, Callable[[Path], Pass]]] = {
    "ours": ("headwater, all fields", "headwater", "headwater", prepare_headwater, read_headwater),
    "ours_ids": ("headwater, input_ids only", "headwater", "headwater", None, read_headwater_ids),
    "litdata_items": (
        "LitData TokensLoader, stacked",
        "litdata",
        "litdata",
        prepare_litdata,
        read_litdata_items,
    ),
    "litdata": ("LitData TokensLoader, batches", "litdata", "litdata", None, read_litdata_batches),
    "litdata_views": ("LitData TokensLoader, views", "litdata", "litdata", None, read_litdata_views),
    "memmap": ("numpy memmap to int64", "numpy", "memmap", None, read_memmap),
    "mosaic": ("MosaicML Streaming", "mosaicml-streaming", "mosaic", prepare_mosaic, read_mosaic),
    "datasets": ("Hugging Face streaming", "datasets", "datasets", prepare_datasets, read_datasets),
    "lancedb": ("lancedb, packed rows, items", "lancedb", "lancedb", prepare_lancedb, read_lancedb),
    "lancedb_packing": (
        "lancedb, it packs, items",
        "lancedb",
        "lancedb_packing",
        prepare_lancedb_packing,
        read_lancedb_packing,
    ),
}
OURS = ("ours", "ours_ids", "memmap")


def measure(name: str, folder: Path, passes: int) -> dict[str, Any]:
    """Read the data ``1 + passes`` times in this process."""
    _, package, _, _, read = CONTENDERS[name]
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
    _imports(name)
    rates, per_core, first, state = [], [], 0.0, None
    for turn in range(1 + passes):
        total, began, busy = 0, time.perf_counter(), time.process_time()
        for item in read(folder):
            if isinstance(item, tuple):
                state = item[0]
                continue
            if total == 0 and turn == 0:
                first = time.perf_counter() - began
            total += item
        rates.append(total / (time.perf_counter() - began) / 1e6)
        per_core.append(total / (time.process_time() - busy) / 1e6)
    status = Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
    version = importlib.metadata.version(package)
    return {
        "cold": rates[0],
        "warm": max(rates[1:]),
        "core": max(per_core[1:]),
        "first": first,
        "state": state,
        "peak": peak,
        "version": version,
    }


def _imports(name: str) -> None:
    """Import what the reader needs, so that the clock sees the data only."""
    modules = {
        "litdata": "litdata",
        "mosaic": "streaming",
        "datasets": "datasets",
        "lancedb": "lancedb.streaming",
    }
    module = modules.get(name.split("_")[0], "headwater.streaming" if name.startswith("ours") else "torch")
    importlib.import_module(module)


def drop_from_page_cache(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def main() -> None:
    sys.path.remove(str(Path(__file__).resolve().parent))  # MosaicML's package has this file's name
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--packing-rows", type=int, default=4_000)
    parser.add_argument("--length", type=int, default=2_048)
    parser.add_argument("--passes", type=int, default=3, help="warm passes; the best counts")
    parser.add_argument("--repeat", type=int, default=5, help="processes of each; medians are shown")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS))
    parser.add_argument("--folder", type=Path, help="keep the data here and use it again")
    parser.add_argument("--prepare", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        extra = (arguments.packing_rows,) if arguments.prepare == "lancedb_packing" else ()
        prepare = CONTENDERS[arguments.prepare][3]
        assert prepare is not None
        began = time.perf_counter()
        prepare(arguments.folder, *extra)
        print(json.dumps({"seconds": time.perf_counter() - began}))
    elif arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.folder, arguments.passes)))
    elif arguments.folder is not None:
        compare(arguments, arguments.folder)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            compare(arguments, Path(scratch) / "data")


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    if not (folder / "facts.json").exists():
        make_tokens(folder, arguments.rows, arguments.length)
        facts = {"rows": arguments.rows, "length": arguments.length, "packing_rows": arguments.packing_rows}
        (folder / "facts.json").write_text(json.dumps(facts))
    rows, length = tokens_of(folder).shape
    print(f"{rows:,} sequences of {length:,} tokens, {rows * length / 1e6:.0f} M tokens; one process each")
    print(
        f"{'':<32}{'version':<10}{'made in':>9}{'cold':>9}{'warm':>9}{'per core':>10}{'first batch':>13}{'state':>9}{'peak RSS':>10}"
    )
    print(
        f"{'':<32}{'':<10}{'s':>9}{'M tok/s':>9}{'M tok/s':>9}{'M tok/s':>10}{'s':>13}{'bytes':>9}{'MiB':>10}"
    )
    made, missing = _prepare_all(arguments, folder)
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(arguments.repeat):  # a slow minute of the machine meets all of them
        for name in arguments.only or CONTENDERS:
            title, package, data, _, _ = CONTENDERS[name]
            if title in missing:
                continue
            drop_from_page_cache(folder / data)
            try:
                one = _call(_python(arguments, name), "--measure", name, arguments, folder)
            except subprocess.CalledProcessError as error:
                missing[title] = _reason(error, package)
                found.pop(name, None)
                continue
            found.setdefault(name, []).append(one)
    for title, reason in missing.items():
        print(f"{title:<32}left out: {reason}")
    numbers = ("cold", "warm", "core", "first", "peak")
    middle = {
        name: {key: statistics.median(run[key] for run in runs) for key in numbers}
        for name, runs in found.items()
    }
    for name, one in middle.items():
        title, _, data, _, _ = CONTENDERS[name]
        last = found[name][-1]
        state = "-" if last["state"] is None else f"{last['state']:,}"
        seconds = f"{made[data]:.1f}" if data in made else "-"
        print(
            f"{title:<32}{last['version']:<10}{seconds:>9}{one['cold']:>9.1f}{one['warm']:>9.1f}{one['core']:>10.1f}"
            f"{one['first']:>13.3f}{state:>9}{one['peak']:>10.0f}"
        )
    lit = [middle[name] for name in ("litdata", "litdata_items") if name in middle]
    if lit and "ours" in middle:
        for kind in ("cold", "warm", "core"):
            ratio = middle["ours"][kind] / max(one[kind] for one in lit)
            print(f"{kind}: {ratio:.2f} x LitData's faster way (bar 1.5 x)")


def _prepare_all(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Make what is not there. Seconds by folder, and by title why a contender is left out."""
    made: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name in arguments.only or CONTENDERS:
        title, package, data, _, _ = CONTENDERS[name]
        maker = next((key for key, c in CONTENDERS.items() if c[2] == data and c[3]), None)
        python = _python(arguments, name)
        try:
            if maker is not None and not (folder / data / "made").exists():
                shutil.rmtree(folder / data, ignore_errors=True)
                answer = _call(python, "--prepare", maker, arguments, folder)
                (folder / data / "made").write_text(str(answer["seconds"]))
            if maker is not None:
                made[data] = float((folder / data / "made").read_text())
            if name.startswith("ours"):  # a kernel's first call of an installation compiles it
                _call(python, "--measure", name, arguments, folder)
        except subprocess.CalledProcessError as error:
            missing[title] = _reason(error, package)
    return made, missing


def _python(arguments: argparse.Namespace, name: str) -> str:
    return sys.executable if name in OURS else str(arguments.peer_python)


def _reason(error: subprocess.CalledProcessError, package: str) -> str:
    last = (error.stderr.strip().splitlines() or ["no message"])[-1]
    return f"{last[:120]} ({package} in {error.cmd[0]})"


def _call(python: str, what: str, name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    command = [python, __file__, what, name, "--folder", str(folder), "--passes", str(arguments.passes)]
    command += ["--packing-rows", str(arguments.packing_rows)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(answer.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
