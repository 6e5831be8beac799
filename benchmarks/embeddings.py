"""Embeddings a second on one core: a plain loop, sentence-transformers' own batches, ours, and static models.

    python benchmarks/embeddings.py

Texts: pieces of installed Python files. ``even``: the first 1,500 characters of files that have as many;
``mixed``: 40 to 1,500 characters, lengths spread evenly on a logarithmic scale. MiniLM reads 256 tokens.

The process is bound to one core before any library starts its threads, and processor time is counted: on a
busy machine that is what can be compared. Each row is warmed up on a few texts; loading is left out. All
transformer rows are the same weights in the same PyTorch in float32; the static rows are the same table.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from make_corpus import real_files

from headwater.embedding import load_model
from headwater.embedding.static import StaticModel


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before any thread pool asks for the cores
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=96, help="for MiniLM")
    parser.add_argument("--static-texts", type=int, default=4_096)
    arguments = parser.parse_args()
    for package in ("torch", "transformers", "sentence-transformers", "tokenizers"):
        print(f"{package} {importlib.metadata.version(package)}", end="  ")
    print()
    for name, texts in (("even", even(arguments.static_texts)), ("mixed", mixed(arguments.static_texts))):
        measure(name, texts, arguments.texts)


def measure(name: str, texts: list[str], few: int) -> None:
    from sentence_transformers import SentenceTransformer

    minilm, static = load_model("minilm", device="cpu"), load_model("static")
    assert isinstance(static, StaticModel)
    theirs = minilm._model  # the same object in memory: the same weights
    with tempfile.TemporaryDirectory() as folder:
        bag = SentenceTransformer(modules=[static_module(static, Path(folder))], device="cpu")
        some = texts[:few]
        rows: list[tuple[str, list[str], Callable[[list[str]], np.ndarray]]] = [
            ("MiniLM, loop over texts", some, lambda t: np.stack([theirs.encode(each) for each in t])),
            ("MiniLM, sentence-transformers", some, lambda t: theirs.encode(t, show_progress_bar=False)),
            ("MiniLM, headwater", some, minilm.encode),
            (
                "static, loop over texts",
                texts,
                lambda t: np.stack([bag.encode(each, normalize_embeddings=True) for each in t]),
            ),
            (
                "static, sentence-transformers",
                texts,
                lambda t: bag.encode(t, normalize_embeddings=True, show_progress_bar=False),
            ),
            ("static, headwater", texts, lambda t: static.encode(pa.array(t, pa.large_string()))),
        ]
        size = sum(len(text.encode()) for text in texts) / len(texts)
        print(f"\n{name}: {size:,.0f} bytes a text; {len(some):,} texts for MiniLM, {len(texts):,} static")
        print(f"{'':<32}{'texts/s':>10}{'MB/s':>8}{'loop = 1':>10}{'differs by':>12}")
        first: dict[str, tuple[float, np.ndarray]] = {}
        for label, given, encode in rows:
            encode(given[:24])
            started = time.process_time()
            vectors = encode(given)
            rate = len(given) / (time.process_time() - started)
            base, expected = first.setdefault(label.partition(",")[0], (rate, vectors))
            megabytes = rate * sum(len(text.encode()) for text in given) / len(given) / 1e6
            apart = float(np.abs(vectors - expected).max())
            print(f"{label:<32}{rate:>10,.1f}{megabytes:>8.2f}{rate / base:>9.2f}x{apart:>12.1e}", flush=True)


def static_module(static: StaticModel, folder: Path) -> object:
    """The same table of vectors and the same tokenizer in sentence-transformers' StaticEmbedding."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    static._tokenizer.save(str(folder / "tokenizer.json"))
    return StaticEmbedding(
        Tokenizer.from_file(str(folder / "tokenizer.json")), embedding_weights=static._table
    )


def even(count: int) -> list[str]:
    return pieces(count, lambda _: 1_500)


def mixed(count: int) -> list[str]:
    lengths = np.exp(np.random.default_rng(7).uniform(np.log(40), np.log(1_500), count)).astype(int)
    return pieces(count, lambda i: int(lengths[i]))


def pieces(count: int, length: Callable[[int], int]) -> list[str]:
    found: list[str] = []
    for path in real_files()[::3]:
        text = path.read_text(encoding="utf-8", errors="replace")
        if len(text) >= 1_500:
            found.append(text[: length(len(found))])
        if len(found) == count:
            break
    return found


if __name__ == "__main__":
    main()
