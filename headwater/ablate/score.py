"""The scoring process: ``python -m headwater.ablate.score MODEL QUESTIONS OUT``, with torch and transformers.

Reads a Hugging Face folder and the questions, and writes ``OUT`` (JSON): for each text the loss in nats and
the tokens it was summed over, for each pair the losses of both sides. Windows overlap by one token, so that
every token of a text but its first is predicted once, from what its window holds before it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.feather as feather

BATCH_TOKENS = 8_192
"""Tokens of one forward pass, padding included: their logits over 8k ids take 256 MB."""


def score(model_folder: Path, questions: Path, *, window: int) -> dict[str, Any]:
    """Losses of the model on every text and pair, in their order."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).to(device).eval()
    texts = feather.read_table(str(questions / "texts.arrow"))
    pairs = feather.read_table(str(questions / "pairs.arrow"))
    documents = texts["tokens"].to_pylist()
    spans = [
        (d, start, end) for d, tokens in enumerate(documents) for start, end in windows(len(tokens), window)
    ]
    with torch.inference_mode():
        losses = _losses(model, [documents[d][a:b] for d, a, b in spans], device)
        nats = np.zeros(len(documents))
        counts = np.zeros(len(documents), dtype=np.int64)
        for (d, _, _), each in zip(spans, losses, strict=True):
            nats[d] += each.sum()
            counts[d] += len(each)
        shared = pairs["shared"].to_pylist()
        sides = {
            side: [
                float(each[first - 1 :].sum())
                for each, first in zip(_losses(model, pairs[side].to_pylist(), device), shared, strict=True)
            ]
            for side in ("real", "mutant")
        }
    return {"nats": nats.tolist(), "tokens": counts.tolist(), **sides}


def windows(length: int, window: int) -> list[tuple[int, int]]:
    """Half-open windows over ``length`` tokens that overlap by one; none for fewer than two tokens."""
    return [(start, min(start + window, length)) for start in range(0, max(length - 1, 0), window - 1)]


def _losses(model: Any, sequences: Sequence[list[int]], device: str) -> list[np.ndarray[Any, Any]]:
    """For each sequence, the loss of each of its tokens but the first, in nats."""
    import torch

    found: list[np.ndarray[Any, Any]] = [np.empty(0)] * len(sequences)
    for batch in _batches(sequences):
        longest = max(len(sequences[i]) for i in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, i in enumerate(batch):
            ids[row, : len(sequences[i])] = torch.tensor(sequences[i])
        ids = ids.to(device)
        # Padding stands behind, where a causal model does not look.
        logits = model(input_ids=ids, use_cache=False).logits
        # Classes last and the labels moved: three times as fast as with the classes in the middle.
        labels = torch.nn.functional.pad(ids[:, 1:], (0, 1))
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), reduction="none"
        )
        losses = each.view_as(labels).double().cpu().numpy()
        for row, i in enumerate(batch):
            found[i] = losses[row, : len(sequences[i]) - 1]
    return found


def _batches(sequences: Sequence[list[int]]) -> Iterator[list[int]]:
    """Places of sequences of about one length, so that little is padding."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]), reverse=True)
    start = 0
    while start < len(order):
        size = max(1, BATCH_TOKENS // max(len(sequences[order[start]]), 1))
        yield order[start : start + size]
        start += size


def main(argv: Sequence[str] | None = None) -> int:
    """Score one model."""
    parser = argparse.ArgumentParser(prog="headwater.ablate.score", description=str(__doc__).splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--window", type=int, required=True, help="tokens, the length trained at")
    args = parser.parse_args(argv)
    answers = score(args.model, args.questions, window=args.window)
    fresh = args.out.with_suffix(".new")
    fresh.write_text(json.dumps(answers))
    fresh.rename(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
