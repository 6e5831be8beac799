"""How well the marks of `machine_text` tell generated texts from files of people, and how fast it looks.

    python benchmarks/machine_text.py --human lake/… --generated stories.jsonl code.jsonl

``--human`` names a lake (``raw.documents`` is sampled) and folders of text files; ``--generated`` names JSONL files
with a field ``text``. Texts of people are cut to the length of a generated one, drawn with them, so that length
tells nothing; precision is given for as many human texts as generated ones, and for 1 generated text in 20.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import headwater as hw

FENCE = re.compile(r"```[\w+#]*\n(.*?)(?:```|\Z)", re.DOTALL)
"""What a careful pipeline keeps of an answer that is code."""

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def human_texts(place: Path, count: int, seed: int) -> dict[str, list[str]]:
    if (place / "_headwater.json").exists():
        table = hw.Lake(str(place)).table("raw.documents")
        ids = table.to_arrow(["doc_id"])["doc_id"].combine_chunks()
        rows = np.random.default_rng(seed).choice(len(ids), min(count, len(ids)), replace=False)
        found = pa.concat_tables(
            pa.Table.from_batches([batch]) for batch in table.with_text(ids.take(pa.array(np.sort(rows))))
        )
        return {f"{place}": found["text"].to_pylist()}
    texts = [path.read_text("utf-8", "ignore") for path in sorted(place.rglob("*")) if path.is_file()]
    return {f"{place}": texts}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--human", type=Path, nargs="+", required=True)
    parser.add_argument("--generated", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    machine_text = hw.operator("machine_text")
    draw = np.random.default_rng(args.seed)

    generated = {
        path.name: [
            row["text"] for row in map(json.loads, path.open(encoding="utf-8")) if (row["text"] or "").strip()
        ]
        for path in args.generated
    }
    generated |= {
        f"{name}, without fences": [
            code[1] for text in texts if (code := FENCE.search(text)) and code[1].strip()
        ]
        for name, texts in list(generated.items())
    }
    generated = {name: texts for name, texts in generated.items() if texts}
    lengths = [len(text) for texts in generated.values() for text in texts]
    human: dict[str, list[str]] = {}
    for place in args.human:
        human |= human_texts(place, args.count, args.seed)

    scores: dict[str, np.ndarray] = {}
    for name, texts in [*human.items(), *generated.items()]:
        whole = machine_text(pa.array(texts, pa.large_string()))
        scores[name] = np.asarray(pc.struct_field(whole, "score"))
        marks = Counter(mark for row in pc.struct_field(whole, "evidence").to_pylist() for mark in row)
        shares = ", ".join(f">= {t}: {np.mean(scores[name] >= t):.3f}" for t in THRESHOLDS)
        print(f"{name}: {len(texts):,} texts; {shares}")
        print("   ", ", ".join(f"{mark} {count / len(texts):.3f}" for mark, count in marks.most_common()))
        if name in human:
            cut = [text[: draw.choice(lengths)] for text in texts]
            found = machine_text(pa.array(cut, pa.large_string()))
            scores[f"{name}, cut"] = np.asarray(pc.struct_field(found, "score"))

    machine = np.concatenate([scores[name] for name in generated if "without" not in name])
    print(
        "| threshold | recall | false positives, whole files | precision at 1 : 1 | at 1 : 20 | cut files |"
    )
    print("|---|---|---|---|---|---|")
    people = np.concatenate([scores[name] for name in human])
    cut = np.concatenate([scores[f"{name}, cut"] for name in human])
    for threshold in THRESHOLDS:
        recall, wrong = np.mean(machine >= threshold), np.mean(people >= threshold)
        even, rare = recall / max(recall + wrong, 1e-12), recall / max(recall + 20 * wrong, 1e-12)
        print(
            f"| {threshold} | {recall:.3f} | {wrong:.4f} | {even:.3f} | {rare:.3f} | "
            f"{np.mean(cut >= threshold):.4f} |"
        )

    texts = pa.array([text for several in human.values() for text in several], pa.large_string())
    size = pc.sum(pc.binary_length(texts)).as_py()
    machine_text(texts.slice(0, 100))
    started = time.process_time()
    machine_text(texts)
    print(f"{size / 1e6:.1f} MB at {size / 1e6 / (time.process_time() - started):.0f} MB/s of one core")


if __name__ == "__main__":
    main()
