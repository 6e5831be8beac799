"""The labels of a lake: what annotators said of which text, by which rubric; and what could not be taken.

``raw.labels`` has one row for each text, rubric and annotator. A label that cannot be one is a row of
``raw.label_quarantine``, with the reason: a score out of range, a text that the lake does not hold, a second
score of one annotator. Nothing is dropped.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from headwater.errors import BadInput, UsageError
from headwater.lake import Lake, Provenance, Table
from headwater.lineage import open_optional
from headwater.scoring.artifact import HIGHEST, LOWEST
from headwater.scoring.metrics import kappa, rank_correlation

LABELS, QUARANTINE, TASKS = "raw.labels", "raw.label_quarantine", "raw.label_tasks"
DOCUMENTS = "raw.documents"

LABEL_ROWS = pa.schema(
    {
        "label_id": pa.binary(16),
        "text_hash": pa.binary(16),
        "doc_id": pa.binary(16),
        "rubric": pa.string(),
        "annotator_kind": pa.string(),
        "annotator": pa.string(),
        "annotator_version": pa.string(),
        "score": pa.int32(),
        "reason": pa.string(),
        "labeled_at": pa.timestamp("us"),
    }
)
"""``label_id`` is a hash of text, rubric and annotator; ``rubric`` the digest of the rubric's text."""

QUARANTINE_ROWS = pa.schema(
    {
        "why": pa.string(),
        "place": pa.string(),
        "text_hash": pa.string(),
        "rubric": pa.string(),
        "annotator_kind": pa.string(),
        "annotator": pa.string(),
        "annotator_version": pa.string(),
        "answer": pa.string(),
        "quarantined_at": pa.timestamp("us"),
    }
)
"""``answer`` is what was said, its first MAX_ANSWER characters."""

WHY = {
    "not_a_hash": "the text is not named by 32 hex digits, nor by a doc_id of the lake",
    "unknown_text": "the lake holds no such text",
    "not_a_score": f"the score is no whole number from {LOWEST} to {HIGHEST}",
    "out_of_range": f"the score is a number, and not from {LOWEST} to {HIGHEST}",
    "no_reason": "a score without a reason",
    "unparsable": "the answer is not a score and a reason",
    "no_answer": "the generator gave no answer",
    "text_instructs": "the text speaks to whoever judges it; a person has to look",
    "conflict": "this annotator gave this text another score",
    "duplicate": "this annotator's score of this text stands twice",
}
"""Why an answer is no label."""

MAX_ANSWER, MAX_REASON, MAX_CELL = 500, 300, 10_000_000
KINDS = ("person", "model", "file")
_HEX = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[+-]?\d{1,18}(\.\d+)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """Who said it."""

    kind: str
    name: str
    version: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"got {self.kind!r} as a kind of annotator", hint=f"one of {', '.join(KINDS)}")
        for value in (self.name, self.version):
            if len(value) > 200 or not all(c.isprintable() for c in value):
                raise UsageError("an annotator's name and version are one line of at most 200 characters")
        if not self.name.strip():
            raise UsageError("an annotator needs a name", hint="--annotator NAME")

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, name, version."""
        return self.kind, self.name, self.version

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an annotator said of one text. ``score`` and ``reason`` are as given, not yet checked."""

    text_hash: str
    score: str
    reason: str = ""
    place: str = ""
    why: str = ""
    """Already known to be no label, and why."""
    doc_id: str = ""
    """Hex, in the place of ``text_hash``."""
    said: str = ""
    """The whole answer, where it is more than score and reason."""


@dataclass(kw_only=True)
class LabelReport:
    """What became of the answers: their number is the sum of the others."""

    answers: int = 0
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    """The same label stands in the lake already."""
    blank: int = 0
    """Rows without a score: not yet labeled."""
    quarantined: dict[str, int] = field(default_factory=dict)
    table: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def __iadd__(self, other: LabelReport) -> LabelReport:
        for name in ("answers", "added", "replaced", "unchanged", "blank"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.quarantined = dict(sorted((Counter(self.quarantined) + Counter(other.quarantined)).items()))
        self.table = other.table or self.table
        return self


def label_id(text_hash: bytes, rubric: str, annotator: Annotator) -> bytes:
    """The id of a label: one for each text, rubric and annotator."""
    parts = [text_hash, *(part.encode() for part in (rubric, *annotator.key))]
    return xxhash.xxh3_128_digest(b"".join(len(part).to_bytes(4, "little") + part for part in parts))


def add_labels(
    lake: Lake,
    answers: Iterable[Answer],
    annotator: Annotator,
    rubric: str,
    *,
    documents: str = DOCUMENTS,
    replace: bool = False,
    needs_reason: bool = False,
    known: dict[str, tuple[bytes, bytes]] | None = None,
) -> LabelReport:
    """Check the answers and write the good ones to ``raw.labels``, the others to ``raw.label_quarantine``.

    Parameters
    ----------
    replace: an annotator's new score takes the place of the old one; without it, it is a conflict.
    needs_reason: an answer without a reason is no label.
    known: text hash and doc_id of the texts by their hex, where the caller has looked them up.
    """
    given = list(answers)
    base = lake.table(documents)
    known = _known_texts(base, given) if known is None else known
    now = datetime.now(UTC).replace(tzinfo=None)
    report = LabelReport(answers=len(given))
    bad: list[tuple[str, Answer]] = []
    good: dict[bytes, list[tuple[Answer, dict[str, Any]]]] = {}
    for answer in given:
        why = answer.why or _problem(answer, known, needs_reason)
        if why == "blank":
            report.blank += 1
        elif why:
            bad.append((why, answer))
        else:
            text_hash, doc_id = known[answer.text_hash or answer.doc_id]
            key = label_id(text_hash, rubric, annotator)
            row = {
                "label_id": key,
                "text_hash": text_hash,
                "doc_id": doc_id,
                "rubric": rubric,
                "annotator_kind": annotator.kind,
                "annotator": annotator.name,
                "annotator_version": annotator.version,
                "score": int(answer.score.strip()),
                "reason": one_line(answer.reason),
                "labeled_at": now,
            }
            good.setdefault(key, []).append((answer, row))
    table = open_optional(lake, LABELS)
    stored = _stored(table, list(good)) if table is not None else {}
    new: list[dict[str, Any]] = []
    gone: list[bytes] = []
    for key, rows in good.items():
        first = rows[0][1]
        if len({row["score"] for _, row in rows}) > 1:
            bad.extend(("conflict", answer) for answer, _ in rows)
            continue
        bad.extend(("duplicate", answer) for answer, _ in rows[1:])
        old = stored.get(key)
        if old is None:
            new.append(first)
        elif old == (first["score"], first["reason"]):
            report.unchanged += 1
        elif replace:
            new.append(first)
            gone.append(key)
        else:
            bad.append(("conflict" if old[0] != first["score"] else "duplicate", rows[0][0]))
    if bad:
        report.quarantined = quarantine(lake, bad, annotator, rubric, now)
    report.added, report.replaced = len(new) - len(gone), len(gone)
    if new:
        rows_ = pa.Table.from_pylist(new, schema=LABEL_ROWS)
        provenance = Provenance(kind="label", inputs=(base.ref,))
        if gone:
            written = lake.update(
                LABELS,
                add=rows_,
                remove=pa.array(sorted(gone), pa.binary(16)),
                key="label_id",
                provenance=provenance,
            )
        else:
            written = lake.write(LABELS, rows_, mode="append", provenance=provenance)
        report.table = str(written.ref)
    return report


def one_line(text: str) -> str:
    """At most MAX_REASON characters of ``text`` on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_REASON]


def _problem(answer: Answer, known: dict[str, tuple[bytes, bytes]], needs_reason: bool) -> str:
    score = answer.score.strip()
    if not score:
        return "blank"
    name = answer.text_hash or answer.doc_id
    if not _HEX.fullmatch(name):
        return "not_a_hash"
    if name not in known:
        return "unknown_text"
    if not _NUMBER.fullmatch(score):
        return "not_a_score"
    if not LOWEST <= float(score) <= HIGHEST:
        return "out_of_range"
    if not re.fullmatch(r"[0-9]", score):
        return "not_a_score"
    return "no_reason" if needs_reason and not one_line(answer.reason) else ""


def _known_texts(base: Table, answers: Sequence[Answer]) -> dict[str, tuple[bytes, bytes]]:
    """Text hash and smallest doc_id of the texts that answers name, by the name they use (hash or id)."""
    found: dict[str, tuple[bytes, bytes]] = {}
    for column in ("text_hash", "doc_id"):
        names = {getattr(a, column) for a in answers if column == "text_hash" or not a.text_hash}
        wanted = pa.array(sorted(bytes.fromhex(n) for n in names if _HEX.fullmatch(n)), pa.binary(16))
        if not len(wanted):
            continue
        for batch in base.scan(["doc_id", "text_hash"]):
            mine = batch.filter(pc.is_in(batch.column(column), wanted))
            for doc_id, text_hash in zip(
                mine["doc_id"].to_pylist(), mine["text_hash"].to_pylist(), strict=True
            ):
                name = (text_hash if column == "text_hash" else doc_id).hex()
                if name not in found or doc_id < found[name][1]:
                    found[name] = (text_hash, doc_id)
    return found


class Found(NamedTuple):
    """A document that holds a text."""

    doc_id: bytes
    source: str | None
    path: str | None


def find_documents(base: Table, text_hashes: Iterable[bytes]) -> dict[bytes, Found]:
    """The document with the smallest id of each text that ``base`` holds."""
    wanted = pa.array(sorted(set(text_hashes)), pa.binary(16))
    columns = [name for name in ("doc_id", "text_hash", "source", "path") if name in base.schema.names]
    found: dict[bytes, Found] = {}
    for batch in base.scan(columns):
        for row in batch.filter(pc.is_in(batch.column("text_hash"), wanted)).to_pylist():
            old = found.get(row["text_hash"])
            if old is None or row["doc_id"] < old.doc_id:
                found[row["text_hash"]] = Found(row["doc_id"], row.get("source"), row.get("path"))
    return found


def _stored(table: Table, keys: list[bytes]) -> dict[bytes, tuple[int, str]]:
    wanted = pa.array(keys, pa.binary(16))
    stored = {}
    for batch in table.scan(["label_id", "score", "reason"]):
        for row in batch.filter(pc.is_in(batch.column("label_id"), wanted)).to_pylist():
            stored[row["label_id"]] = (row["score"], row["reason"])
    return stored


def quarantine(
    lake: Lake, bad: Sequence[tuple[str, Answer]], annotator: Annotator, rubric: str, now: datetime
) -> dict[str, int]:
    """Append what is no label to ``raw.label_quarantine``; how many by reason."""
    rows = [
        {
            "why": why,
            "place": answer.place,
            "text_hash": (answer.text_hash or answer.doc_id)[:64],
            "rubric": rubric,
            "annotator_kind": annotator.kind,
            "annotator": annotator.name,
            "annotator_version": annotator.version,
            "answer": _valid(answer.said or f"{answer.score} {answer.reason}".strip())[:MAX_ANSWER],
            "quarantined_at": now,
        }
        for why, answer in bad
    ]
    lake.write(
        QUARANTINE,
        pa.Table.from_pylist(rows, schema=QUARANTINE_ROWS),
        mode="append",
        provenance=Provenance(kind="label"),
    )
    return dict(sorted(Counter(why for why, _ in bad).items()))


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def read_csv(path: str | Path, *, score: str = "score") -> Iterator[Answer]:
    """The rows of a CSV with the columns ``text_hash`` (or ``doc_id``), ``score`` and ``reason``.

    Raises BadInput for what is no CSV in UTF-8 with these columns. Values are judged by :func:`add_labels`.
    """
    file = Path(path)
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            limit = csv.field_size_limit(MAX_CELL)
            try:
                yield from _rows(csv.DictReader(opened), file, score)
            finally:
                csv.field_size_limit(limit)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"cannot read the labels {file}: {error}", hint="a CSV in UTF-8 with text_hash, score and reason"
        ) from None


def _rows(reader: csv.DictReader[str], file: Path, score: str) -> Iterator[Answer]:
    names = reader.fieldnames or []
    if score not in names or not {"text_hash", "doc_id"} & set(names):
        raise BadInput(
            f"{file} has the columns {', '.join(names) or '(none)'}"[:500],
            hint=f"text_hash (or doc_id), {score} and, if there are any, reason",
        )
    for row in reader:
        yield Answer(
            text_hash=(row.get("text_hash") or "").strip().lower(),
            doc_id=(row.get("doc_id") or "").strip().lower().replace("-", ""),
            score=row.get(score) or "",
            reason=row.get("reason") or "",
            place=f"{file.name}, line {reader.line_num}",
        )


def summary(lake: Lake) -> dict[str, Any]:
    """Labels by rubric and annotator, agreement of annotators who read the same texts, and the quarantine."""
    table = open_optional(lake, LABELS)
    rows = table.to_arrow().to_pylist() if table is not None else []
    by: dict[tuple[str, str, str, str], dict[bytes, int]] = {}
    for row in rows:
        key = (row["rubric"], row["annotator_kind"], row["annotator"], row["annotator_version"])
        by.setdefault(key, {})[row["text_hash"]] = row["score"]
    keys = sorted(by)
    annotators = [
        {
            "rubric": key[0],
            "kind": key[1],
            "annotator": key[2],
            "version": key[3],
            "labels": len(by[key]),
            "scores": {str(s): n for s, n in sorted(Counter(by[key].values()).items())},
        }
        for key in keys
    ]
    pairs = []
    for i, a in enumerate(keys):
        for b in keys[i + 1 :]:
            both = sorted(set(by[a]) & set(by[b])) if a[0] == b[0] else []
            if both:
                x, y = np.array([by[a][t] for t in both]), np.array([by[b][t] for t in both])
                pairs.append(
                    {
                        "annotators": [_shown(a), _shown(b)],
                        "texts": len(both),
                        "equal": int((x == y).sum()),
                        "within_one": int((abs(x - y) <= 1).sum()),
                        "kappa": kappa(x, y),
                        "rank_correlation": rank_correlation(x, y),
                    }
                )
    held = open_optional(lake, QUARANTINE)
    why = Counter(held.to_arrow(["why"])["why"].to_pylist()) if held is not None else Counter()
    tasks = open_optional(lake, TASKS)
    return {
        "table": str(table.ref) if table is not None else None,
        "tasks": tasks.num_rows if tasks is not None else 0,
        "annotators": annotators,
        "agreement": pairs,
        "quarantined": dict(sorted(why.items())),
    }


def _shown(key: tuple[str, str, str, str]) -> str:
    return f"{key[2]}@{key[3]}" if key[3] else key[2]
