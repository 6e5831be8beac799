"""A small lake of real Python files with every table that the reading verbs look at.

Made with ``lake.write`` alone, so that these tests need neither dbt nor the trainer. Some inputs are
hostile on purpose: a file name and a text that try to be markup.
"""

from __future__ import annotations

import json
import sysconfig
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import xxhash

from headwater.lake import Lake, Provenance, TableRef

HOSTILE_PATH = "evil/<script>alert(1)</script>|`x`.py"
HOSTILE_TEXT = "# </script><img src=x onerror=alert(2)> {{ 7*7 }} http://example.org\nx = 1\n" * 3

ID = pa.binary(16)
LENGTH_RULE = "long_enough"
RULES = {
    "permissive_license": ("license_tier in ('gold', 'silver', 'bronze')", ["license_tier"]),
    "not_generated": ("not is_generated", ["is_generated"]),
    "long_enough": ("num_words >= 200", ["num_words"]),
    "unique": ("best_of(cluster_id, order by num_words desc)", ["cluster_id", "num_words"]),
}


@dataclass
class Document:
    doc_id: bytes
    text: str
    source: str
    path: str
    words: int = 0
    tier: str | None = "gold"
    generated: bool | None = False
    cluster: bytes = b""
    cluster_size: int = 1


def make_documents(count: int = 60) -> list[Document]:
    """``count`` standard library files, three near-copies of one of them, and one hostile file.

    Of the files five have fewer than 150 words and five have 200 to 399; the others, which come first,
    have more, so that both builds below decide the same about them whatever the Python version.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    small, middle, large = [], [], []
    for path in sorted(root.rglob("*.py")):
        if len(large) >= count - 10 and len(small) >= 5 and len(middle) >= 5:
            break
        text = path.read_bytes().decode("utf-8", "replace")
        words = len(text.split())
        pile = small if words < 150 else middle if 200 <= words < 400 else large if words >= 450 else None
        if pile is not None and text and len(text) < 60_000:
            pile.append(("stdlib", path.relative_to(root).as_posix(), text))
    found = [*large[: count - 10], *middle[:5], *small[:5]]
    twin = found[10][2]
    found += [("vendored", f"copies/copy_{i}.py", twin + f"\n# copy {i}\n") for i in range(3)]
    found.append(("hostile<b>", HOSTILE_PATH, HOSTILE_TEXT))
    documents = [make_document(*each) for each in found]
    cluster = documents[10].doc_id
    for document in documents:
        document.cluster, document.cluster_size = document.doc_id, 1
    for document in (documents[10], *documents[count : count + 3]):
        document.cluster, document.cluster_size = cluster, 4
    for document in documents[3:9]:
        document.tier = "unknown"
    documents[12].tier = None
    documents[14].generated = True
    documents[5].generated = True
    return documents


def build_sample(uri: str | Path, documents: list[Document] | None = None) -> Lake:
    """Write the sample lake: two versions of ``dev.python_textbook`` and all that belongs to it."""
    lake = Lake(uri, schema="dev")
    documents = documents or make_documents()
    raw = write_documents(lake, documents)
    signals = _write(
        lake,
        "signals",
        {
            "doc_id": (ID, [d.doc_id for d in documents]),
            "num_words": (pa.int64(), [d.words for d in documents]),
            "num_lines": (pa.int64(), [d.text.count("\n") for d in documents]),
            "is_generated": (pa.bool_(), [d.generated for d in documents]),
        },
        [raw],
    )
    licenses = _write(
        lake,
        "license_concluded",
        {
            "doc_id": (ID, [d.doc_id for d in documents]),
            "license_spdx": (pa.string(), ["PSF-2.0" if d.tier == "gold" else None for d in documents]),
            "license_tier": (pa.string(), [d.tier for d in documents]),
            "evidence": (pa.string(), ["metadata" for d in documents]),
        },
        [raw],
    )
    twins = [d for d in documents if d.cluster_size > 1]
    pairs = _write(
        lake,
        "near_duplicate_pairs",
        {
            "a": (ID, [twins[0].doc_id] * 3),
            "b": (ID, [d.doc_id for d in twins[1:]]),
            "similarity": (pa.float32(), [0.99, 0.98, 0.97]),
        },
        [raw],
    )
    clusters = _write(
        lake,
        "duplicate_clusters",
        {
            "doc_id": (ID, [d.doc_id for d in documents]),
            "cluster_id": (ID, [d.cluster for d in documents]),
            "cluster_size": (pa.int64(), [d.cluster_size for d in documents]),
        },
        [raw, pairs],
    )
    inputs = [raw, licenses, signals, clusters]
    first = write_curated(lake, documents, inputs, min_words=400)
    second = write_curated(lake, documents, inputs, min_words=200)
    _write_approval(lake, first, inputs)
    _write_approval(lake, second, inputs)
    _write_training(lake)
    _write_quarantine(lake)
    return lake


def write_curated(
    lake: Lake,
    documents: list[Document],
    inputs: list[TableRef],
    *,
    min_words: int,
    name: str = "python_textbook",
) -> TableRef:
    """Decide, write ``rules`` and ``decisions``, then the table that names them: as a build does."""
    schema, _, short = name.rpartition(".")
    prefix = f"{schema}." if schema else ""
    build_id = xxhash.xxh3_128_hexdigest(f"{name}{min_words}".encode())
    kept, dropped = [], []
    survivors: set[bytes] = set()
    for d in sorted(documents, key=lambda d: (-d.words, d.doc_id)):
        verdict = {
            "permissive_license": None if d.tier is None else d.tier in ("gold", "silver", "bronze"),
            "not_generated": None if d.generated is None else not d.generated,
            LENGTH_RULE: d.words >= min_words,
        }
        verdict["unique"] = d.cluster not in survivors if all(verdict.values()) else True
        if all(verdict.values()):
            survivors.add(d.cluster)
            kept.append(d)
        else:
            dropped.append((d, verdict))
    _log(
        lake,
        f"{prefix}rules",
        {
            "build_id": (pa.string(), [build_id] * len(RULES)),
            "table": (pa.string(), [short] * len(RULES)),
            "rule": (pa.string(), list(RULES)),
            "expression": (pa.string(), [e.replace("200", str(min_words)) for e, _ in RULES.values()]),
            "description": (pa.string(), [f"Why {rule} matters." for rule in RULES]),
            "on_null": (pa.string(), ["quarantine"] * len(RULES)),
            "max_unknown": (pa.float64(), [0.05] * len(RULES)),
            "columns": (pa.list_(pa.string()), [c for _, c in RULES.values()]),
            "num_failed": (pa.int64(), [sum(v[r] is False for _, v in dropped) for r in RULES]),
            "num_unknown": (pa.int64(), [sum(v[r] is None for _, v in dropped) for r in RULES]),
        },
    )
    _log(
        lake,
        f"{prefix}decisions",
        {
            "build_id": (pa.string(), [build_id] * len(dropped)),
            "table": (pa.string(), [short] * len(dropped)),
            "doc_id": (ID, [d.doc_id for d, _ in dropped]),
            "failed": (pa.list_(pa.string()), [[r for r in RULES if v[r] is False] for _, v in dropped]),
            "unknown": (pa.list_(pa.string()), [[r for r in RULES if v[r] is None] for _, v in dropped]),
        },
    )
    return _write(
        lake,
        name,
        {
            "doc_id": (ID, [d.doc_id for d in kept]),
            "source": (pa.string(), [d.source for d in kept]),
            "path": (pa.string(), [d.path for d in kept]),
            "license_spdx": (pa.string(), ["PSF-2.0" for _ in kept]),
            "license_tier": (pa.string(), [d.tier for d in kept]),
            "num_words": (pa.int64(), [d.words for d in kept]),
        },
        inputs,
        build_id=build_id,
        extra={
            "decisions": {"build_id": build_id, "count": len(dropped), "digest": "0" * 32},
            "candidates": "raw.documents",
            "num_candidates": len(documents),
        },
    )


def make_document(source: str, path: str, text: str) -> Document:
    text_hash = xxhash.xxh3_128_digest(text.encode())
    doc_id = xxhash.xxh3_128_digest(source.encode() + b"\0" + path.encode() + b"\0" + text_hash)
    return Document(doc_id, text, source, path, words=len(text.split()))


def write_documents(lake: Lake, documents: list[Document]) -> TableRef:
    n = len(documents)
    ref = _write(
        lake,
        "raw.documents",
        {
            "doc_id": (ID, [d.doc_id for d in documents]),
            "text": (pa.large_string(), [d.text for d in documents]),
            "text_hash": (ID, [xxhash.xxh3_128_digest(d.text.encode()) for d in documents]),
            "source": (pa.string(), [d.source for d in documents]),
            "path": (pa.string(), [d.path for d in documents]),
            "url": (pa.string(), [""] * n),
            "origin": (pa.string(), ["human"] * n),
            "license_declared": (pa.string(), ["PSF-2.0"] * n),
            "date": (pa.timestamp("us"), [None] * n),
            "metadata": (pa.string(), ["{}"] * n),
            "text_bytes": (pa.int64(), [len(d.text.encode()) for d in documents]),
        },
        [],
    )
    lake.index("raw.documents", "doc_id")
    return lake.table("raw.documents").ref if ref.digest else ref


def _write_approval(lake: Lake, ref: TableRef, closure: list[TableRef]) -> None:
    suites = [{"suite": "python_textbook", "suite_digest": "ab" * 16, "success": True, "expectations": 12}]
    _log(
        lake,
        "approvals",
        {
            "approval_id": (pa.string(), [f"a{ref.version}"]),
            "action": (pa.string(), ["approve"]),
            "table": (pa.string(), [ref.name]),
            "version": (pa.int64(), [ref.version]),
            "content_digest": (pa.string(), [ref.digest]),
            "closure": (pa.string(), [json.dumps([r.to_dict() for r in closure])]),
            "suites": (pa.string(), [json.dumps(suites)]),
            "dbt_tests": (pa.string(), [json.dumps([{"name": "unique_doc_id", "status": "pass"}])]),
            "revokes": (pa.string(), [None]),
            "who": (pa.string(), ["ada@example.org"]),
            "why": (pa.string(), ["first textbook <i>reviewed</i>"]),
            "at": (pa.timestamp("us", tz="UTC"), [datetime(2026, 11, 20, 12, ref.version, tzinfo=UTC)]),
        },
    )


def _write_training(lake: Lake, steps: int = 40) -> None:
    _log(
        lake,
        "training_steps",
        {
            "run_id": (pa.string(), ["run-1"] * steps),
            "attempt": (pa.int64(), [0] * steps),
            "step": (pa.int64(), list(range(1, steps + 1))),
            "loss": (pa.float64(), [9.0 / (1 + 0.08 * i) + (i % 5) * 0.05 for i in range(steps)]),
        },
    )


def _write_quarantine(lake: Lake) -> None:
    _write(
        lake,
        "raw.quarantine",
        {
            "source": (pa.string(), ["stdlib", "stdlib", "vendored"]),
            "path": (pa.string(), ["bad.py", "worse.py", "empty.py"]),
            "position": (pa.string(), ["", "", ""]),
            "reason": (pa.string(), ["not_utf8", "not_utf8", "empty"]),
            "detail": (pa.string(), ["", "", ""]),
            "bytes": (pa.int64(), [10, 20, 0]),
            "ingest_id": (pa.string(), ["i"] * 3),
            "quarantine_id": (ID, [bytes([i]) * 16 for i in range(3)]),
        },
        [],
    )


def _write(lake, name, columns, inputs, *, build_id=None, extra=None) -> TableRef:
    provenance = Provenance(
        kind="model", inputs=tuple(inputs), extra=extra or {}, **({"build_id": build_id} if build_id else {})
    )
    return lake.write(name, _table(columns), provenance=provenance).ref


def _log(lake, name, columns) -> None:
    lake.write(name, _table(columns), mode="append")


def _table(columns) -> pa.Table:
    return pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})
