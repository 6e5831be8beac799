"""A small lake whose texts are easy to tell apart: explained algorithms, glue, and constants."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa

import headwater as hw
from headwater.kernels.xxh3 import digest_array

_TOPICS = ("heap", "graph", "tree", "queue", "matrix", "prime", "string", "cache")


def text_of(kind: int, number: int) -> str:
    """A text of educational value ``kind``: 0 constants, 1 glue, 3 an explained function."""
    rng = random.Random(1000 * kind + number)
    topic = rng.choice(_TOPICS)
    if kind == 0:
        return (
            "\n".join(f"CONST_{rng.randrange(999)} = {rng.randrange(10**6)}" for _ in range(30))
            + f"\n# {number}"
        )
    if kind == 1:
        names = [rng.choice(_TOPICS) for _ in range(8)]
        return (
            "\n".join(f"from .{n} import {n}_{rng.randrange(99)}" for n in names)
            + f"\n__all__ = ['{number}']\n"
        )
    return (
        f'"""How a {topic} works, explained step by step ({number})."""\n\n\n'
        f"def walk_{topic}(items):\n"
        f'    """Return the items of the {topic} in order, because each step keeps the invariant.\n\n'
        f"    >>> walk_{topic}([{rng.randrange(9)}])\n"
        f'    """\n    result = []\n    for item in sorted(items):  # why: the smallest comes first\n'
        f"        result.append(item)\n    return result\n"
    )


def make_lake(folder: Path, per_kind: int = 20, sources: int = 6) -> tuple[hw.Lake, list[dict[str, object]]]:
    """The lake, and its rows: text, text_hash (hex), doc_id (hex), score, source."""
    rows: list[dict[str, object]] = []
    for kind in (0, 1, 3):
        for i in range(per_kind):
            rows.append(
                {
                    "text": text_of(kind, i),
                    "score": kind,
                    "source": f"pypi:p{i % sources}",
                    "path": f"p/{kind}/{i}.py",
                }
            )
    hashes = digest_array(pa.array([row["text"] for row in rows], pa.large_string())).to_pylist()
    for number, (row, text_hash) in enumerate(zip(rows, hashes, strict=True)):
        row["text_hash"] = text_hash.hex()
        row["doc_id"] = f"{(number * 7919) % 2**16:032x}"
    lake = hw.Lake(folder / "lake")
    lake.write(
        "raw.documents",
        pa.table(
            {
                "doc_id": pa.array([bytes.fromhex(str(r["doc_id"])) for r in rows], pa.binary(16)),
                "text": pa.array([r["text"] for r in rows], pa.large_string()),
                "text_hash": pa.array([bytes.fromhex(str(r["text_hash"])) for r in rows], pa.binary(16)),
                "source": pa.array([r["source"] for r in rows], pa.string()),
                "path": pa.array([r["path"] for r in rows], pa.string()),
                "text_bytes": pa.array([len(str(r["text"]).encode()) for r in rows], pa.int64()),
            }
        ),
    )
    return lake, rows
