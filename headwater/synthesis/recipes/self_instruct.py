"""Self-Instruct (arXiv 2212.10560): a model writes tasks after examples, and only what is new is accepted.

Every step shows the model eight tasks (six of the seeds, two of its own), and takes from its answer those
that pass the heuristics and have ROUGE-L below 0.7 to everything accepted before. One table holds all
candidates, accepted or not and why; a step is one version of it, so a kill repeats the step under way only.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.errors import BadInput
from headwater.kernels.rouge import accept_distinct
from headwater.lake import Provenance
from headwater.synthesis.generate import Generator, Prompt
from headwater.synthesis.provenance import next_generation, synthetic_rows
from headwater.synthesis.recipes.prompts import prompt_row

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

THRESHOLD = 0.7
SHOWN_SEEDS, SHOWN_OWN = 6, 2
KEYWORDS = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw",
    "plot", "go to", "video", "audio", "music", "flowchart", "diagram",
)  # fmt: skip
"""What a model of text cannot do, as the paper's code lists it."""

FEWEST_WORDS, MOST_WORDS = 4, 150
"""The paper's code drops instructions of three words and fewer, and of more than 150."""

CANDIDATES = pa.schema(
    {
        "doc_id": pa.binary(16),
        "step": pa.int32(),
        "number": pa.int32(),
        "instruction": pa.large_string(),
        "accepted": pa.bool_(),
        "reason": pa.string(),
        "rouge_l": pa.float64(),
        "nearest": pa.binary(16),
        "prompt_id": pa.string(),
        "parent_ids": pa.list_(pa.binary(16)),
        "generation": pa.int32(),
        "generator": pa.string(),
        "generator_version": pa.string(),
        "parameters": pa.string(),
    }
)
"""Columns of the candidates. ``rouge_l`` is to the nearest accepted text, or to the one that refused it."""

_NUMBERED = re.compile(r"^\s*(?:task\s*)?(\d{1,3})\s*[.):]\s*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Task:
    doc_id: bytes
    text: str
    generation: int


@dataclass(kw_only=True)
class SelfInstructReport:
    """What all steps came to. ``reasons`` counts the refused ones."""

    table: str
    steps: int
    candidates: int
    accepted: int
    reasons: dict[str, int] = field(default_factory=dict)
    failed_steps: int = 0
    """Steps whose prompt got no answer; they count as done only when they did."""


def self_instruct(
    lake: Lake,
    seeds: str,
    generator: Generator,
    name: str = "self_instruct",
    *,
    steps: int = 10,
    seed: int = 0,
    threshold: float = THRESHOLD,
    parameters: Mapping[str, Any] | None = None,
) -> SelfInstructReport:
    """Run what is missing of ``steps``, then write the accepted tasks as documents.

    ``seeds`` is a table of documents whose text is an instruction each, written by people. Writes the tables
    ``NAME_candidates`` and ``NAME`` (documents, whose parents are the tasks that each was made after).

    Raises
    ------
    BadInput
        Fewer seeds than a prompt shows.
    """
    source = lake.table(seeds)
    human = _tasks(source)
    if len(human) < SHOWN_SEEDS:
        raise BadInput(f"{source.ref} has {len(human)} instructions", hint=f"at least {SHOWN_SEEDS}")
    table = f"{name}_candidates"
    asked = json.dumps([source.digest, generator.name, generator.version, threshold, seed])
    provenance = Provenance(kind="recipe", fingerprint=asked, inputs=(source.ref,))
    known = lake.table(table) if lake.exists(table) else None
    own: list[Task] = []
    done = 0
    if known is not None and known.provenance.fingerprint == asked:
        rows = known.to_arrow().sort_by([("step", "ascending"), ("number", "ascending")]).to_pylist()
        own = [_own(row) for row in rows if row["accepted"]]
        done = max((row["step"] for row in rows), default=0)
    failed = 0
    for step in range(done + 1, steps + 1):
        rng = random.Random(f"{seed}/{step}")  # noqa: S311 - no secret is made
        shown = rng.sample(human, SHOWN_SEEDS) + rng.sample(own, min(SHOWN_OWN, len(own)))
        rng.shuffle(shown)
        asks = prompt_row("self_instruct", _prompt([task.text for task in shown]))
        prompt = Prompt.raw(asks["prompt_id"], asks["prompt"], seed=seed + step, **(parameters or {}))
        (completion,) = generator.complete([prompt])
        if completion.text is None:
            failed += 1
            continue
        facts = {
            "step": step,
            "prompt_id": asks["prompt_id"],
            "parent_ids": [task.doc_id for task in shown],
            "generation": next_generation({t.doc_id: t.generation for t in shown}, [t.doc_id for t in shown]),
            "generator": generator.name,
            "generator_version": generator.version,
            "parameters": json.dumps(generator.settings(prompt), sort_keys=True),
        }
        rows = _judged(_listed(completion.text), [*human, *own], threshold, name, facts)
        first = not lake.exists(table) or lake.table(table).provenance.fingerprint != asked
        lake.write(
            table, pa.Table.from_pylist(rows, CANDIDATES), mode="replace" if first else "append",
            provenance=provenance,
        )  # fmt: skip
        own += [_own(row) for row in rows if row["accepted"]]
    return _publish(lake, name, table, source, failed)


def _tasks(source: Table) -> list[Task]:
    columns = ["doc_id", "text", *(["generation"] if "generation" in source.schema.names else [])]
    rows = source.to_arrow(columns).sort_by("doc_id").to_pylist()
    return [
        Task(doc_id=row["doc_id"], text=_one_line(row["text"]), generation=row.get("generation") or 0)
        for row in rows
        if row["text"] and row["text"].strip()
    ]


def _own(row: Mapping[str, Any]) -> Task:
    return Task(doc_id=row["doc_id"], text=row["instruction"], generation=row["generation"])


def _prompt(shown: Sequence[str]) -> str:
    listed = "\n".join(f"{i}. {text}" for i, text in enumerate(shown, 1))
    return f"Come up with a series of tasks:\n\n{listed}\n{len(shown) + 1}."


def _listed(answer: str) -> list[str]:
    """The tasks of an answer that goes on after a number; a task that was cut off stays in, to be judged."""
    parts = _NUMBERED.split(answer)
    texts = [parts[0], *parts[2::2]]
    return [line for line in (_one_line(text) for text in texts) if line]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def refusal(instruction: str) -> str | None:
    """Why the heuristics of the paper's code drop an instruction, ``None`` where they do not."""
    words = instruction.split()
    lowered = instruction.casefold()
    if not FEWEST_WORDS <= len(words) <= MOST_WORDS:
        return "length"
    if any(re.search(rf"\b{re.escape(keyword)}\b", lowered) for keyword in KEYWORDS):
        return "keyword"
    if lowered.startswith("write a program"):
        return "write a program"  # the paper's code: what follows is mostly unclear
    if not instruction[0].isascii() or not instruction[0].isalnum():
        return "first character"
    return None


def _judged(
    texts: Sequence[str], accepted: Sequence[Task], threshold: float, source: str, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows of all candidates of a step, in the order the model wrote them."""
    reasons = [refusal(text) for text in texts]
    passed = [i for i, reason in enumerate(reasons) if reason is None]
    found = accept_distinct(
        pa.array([task.text for task in accepted], pa.large_string()),
        pa.array([texts[i] for i in passed], pa.large_string()),
        threshold,
    )
    place = {i: k for k, i in enumerate(passed)}
    ids = _ids(texts, source, facts)
    pool = [*(task.doc_id for task in accepted), *(ids[i] for i in passed)]
    rows = []
    for i, text in enumerate(texts):
        k = place.get(i)
        row = {
            **facts,
            "doc_id": ids[i],
            "number": i,
            "instruction": text,
            "accepted": False,
            "reason": reasons[i],
        }
        if k is not None:
            nearest = int(found.nearest[k])
            row["rouge_l"] = float(found.score[k])
            row["nearest"] = pool[nearest] if nearest >= 0 else None
            row["accepted"] = bool(found.accepted[k])
            row["reason"] = None if found.accepted[k] else "like an earlier one"
        rows.append(row)
    return rows


def _documents(texts: Sequence[str], source: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return synthetic_rows(
        texts,
        source=source,
        generator=[row["generator"] for row in rows],
        generator_version=[row["generator_version"] for row in rows],
        prompt_ids=[row["prompt_id"] for row in rows],
        parent_ids=[row["parent_ids"] for row in rows],
        generations=[row["generation"] for row in rows],
        parameters=[row["parameters"] for row in rows],
    )


def _ids(texts: Sequence[str], source: str, facts: dict[str, Any]) -> list[bytes]:
    if not texts:
        return []
    found: list[bytes] = _documents(texts, source, [facts] * len(texts))["doc_id"].to_pylist()
    return found


def _publish(lake: Lake, name: str, table: str, source: Table, failed: int) -> SelfInstructReport:
    if not lake.exists(table):
        return SelfInstructReport(table=name, steps=0, candidates=0, accepted=0, failed_steps=failed)
    candidates = lake.table(table)
    rows = candidates.to_arrow().sort_by([("step", "ascending"), ("number", "ascending")]).to_pylist()
    kept = [row for row in rows if row["accepted"]]
    current = lake.table(name) if lake.exists(name) else None
    if current is None or candidates.ref not in current.provenance.inputs:
        provenance = Provenance(kind="recipe", inputs=(candidates.ref, source.ref))
        documents = _documents([row["instruction"] for row in kept], name, kept)
        lake.write(name, documents, provenance=provenance)
    reasons: dict[str, int] = {}
    for row in rows:
        if row["reason"]:
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    return SelfInstructReport(
        table=str(lake.table(name).ref),
        steps=len({row["step"] for row in rows}),
        candidates=len(rows),
        accepted=len(kept),
        reasons=dict(sorted(reasons.items())),
        failed_steps=failed,
    )
