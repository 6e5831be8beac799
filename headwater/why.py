"""Why a document is in or out: its whole story, from the tables' own records.

Everything is a point look-up by ``doc_id`` at the exact versions that the curated table was built from,
so the values shown are the ones the rules saw, not those of a later rebuild. Text is never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.ancestry import ancestry, document_tables, made_from
from headwater.errors import LakeError, UnknownName, UsageError
from headwater.lake.synthetic import SYNTHETIC
from headwater.lineage import approvals_of, open_optional
from headwater.report.clusters import Cluster, Member, cluster_of
from headwater.report.losses import Decided, RuleLoss, decided, is_curated
from headwater.report.narrow import connection, literal, load, rows
from headwater.report.private import WITHHELD, is_private

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

MIN_PREFIX = 6
"""Shortest accepted hex prefix: 24 bits, where a typing slip is unlikely to name another document."""
MAX_MATCHES = 10
MAX_TEXT = 300
"""Characters of a string value that a story repeats."""


@dataclass(frozen=True, kw_only=True)
class RuleOutcome:
    """One rule that did not pass, with the values it saw."""

    rule: str
    outcome: str
    """``failed`` or ``unknown`` (the rule came out NULL)."""
    expression: str
    description: str
    values: dict[str, Any]
    """Column -> value at the version the rule was evaluated on."""
    missing: tuple[str, ...]
    """Columns the rule names that no input stores for this document."""
    match: Member | None
    """For a rule that chooses between documents: the one that was kept instead."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one curated table says about the document."""

    table: str
    version: int
    digest: str
    build_id: str
    outcome: str
    """``kept``, ``rejected``, ``unknown``, or ``not a candidate``."""
    note: str
    rules: tuple[RuleOutcome, ...]
    approvals: tuple[dict[str, Any], ...]
    """Standing approvals of exactly this content, or of a table made from it."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """Everything on record about one document."""

    doc_id: str
    document: dict[str, Any]
    """The row of its table, without the text."""
    document_table: str
    signals: dict[str, dict[str, Any]]
    """``table@version`` -> column -> value."""
    license: dict[str, Any] | None
    cluster: Cluster | None
    verdicts: tuple[Verdict, ...]
    training: dict[str, Any] | None
    """Tokens, sequences, steps and checkpoints that hold it, where there are any."""
    ancestry: dict[str, Any] | None = None
    """For a synthetic document: what made it, and from which documents, back to real ones."""
    descendants: dict[str, Any] | None = None
    """Synthetic documents that were made from it, where there are any."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; ids as hex."""
        return _jsonable(asdict(self))  # type: ignore[no-any-return]


def why(lake: Lake, document: str | bytes) -> Story:
    """The story of a document named by hex id, a unique prefix of it, or its path.

    Raises ``UnknownName`` when nothing is called that, and ``UsageError`` when several documents are.
    """
    homes = document_tables(lake)
    documents, doc_id = _find(lake, homes, document)
    row = look_up(documents, doc_id)
    if row is None:
        raise UnknownName(f"no document {doc_id.hex()} in {documents.ref}", hint=None)
    curated = [decided(lake, table) for table in curated_tables(lake)]
    inputs = _inputs(lake, curated)
    found = {str(table.ref): (table, look_up(table, doc_id)) for table in inputs}
    cluster = cluster_of(lake, doc_id, _named(inputs, "duplicate_clusters"), [c.table for c in curated])
    return Story(
        doc_id=doc_id.hex(),
        document=row,
        document_table=str(documents.ref),
        signals={
            name: values
            for name, (table, values) in found.items()
            if values is not None
            and _bare(table) not in ("documents", "license_concluded", "duplicate_clusters")
        },
        license=next((v for t, v in found.values() if _bare(t) == "license_concluded"), None),
        cluster=cluster,
        verdicts=tuple(_verdict(lake, facts, doc_id, cluster) for facts in curated),
        training=_training(lake, doc_id),
        ancestry=ancestry(lake, doc_id, homes).to_json() if row.get("origin") == SYNTHETIC else None,
        descendants=made_from(lake, [doc_id], homes),
    )


def _find(lake: Lake, homes: Sequence[Table], document: str | bytes) -> tuple[Table, bytes]:
    """The table that holds the document, and its id: ``documents`` first, then what a generation wrote."""
    first = open_optional(lake, "documents") or (homes[0] if homes else lake.table("documents"))
    tables = [first, *(table for table in homes if table.name != first.name)]
    if isinstance(document, bytes):
        held = (table for table in tables if look_up(table, document) is not None)
        return next(held, first), document
    failure: UnknownName | None = None
    for table in tables:
        try:
            return table, find_document(table, document)
        except UnknownName as error:
            failure = failure or error
    assert failure is not None
    raise failure


def curated_tables(lake: Lake) -> list[Table]:
    """The tables of the lake's schema whose latest version was made by rules, by name."""
    tables = (open_optional(lake, _qualified(lake, name)) for name in sorted(lake.tables(lake.schema)))
    return [table for table in tables if table is not None and is_curated(table)]


def find_document(documents: Table, text: str) -> bytes:
    """The id of the one document that ``text`` names: hex id or prefix, path, ``source/path``, path's end."""
    wanted = text.strip()
    if is_hex(wanted):
        matches = _by_prefix(documents, wanted.replace("-", "").lower())
        if matches:
            return _only(matches, text)
    if not wanted:
        raise UsageError("no document named", hint="give a document id, a prefix of one, or a path")
    return _only(_by_path(documents, wanted), text)


def is_hex(text: str) -> bool:
    """Whether ``text`` reads as a document id or a prefix that is long enough."""
    return bool(re.fullmatch(rf"[0-9a-f]{{{MIN_PREFIX},32}}", text.strip().replace("-", "").lower()))


def look_up(table: Table, doc_id: bytes) -> dict[str, Any] | None:
    """The row in ``table``: scalar columns only, never text or signatures; ``None`` if absent."""
    columns = [field.name for field in table.schema if _is_shown(field)]
    if "doc_id" not in table.schema.names:
        return None
    found = table.to_arrow(columns=columns or ["doc_id"], filter=by_id(doc_id)).slice(0, 1).to_pylist()
    return {k: _short(v) for k, v in found[0].items() if k != "doc_id"} if found else None


def by_id(doc_id: bytes) -> str:
    """A filter that a scalar index answers."""
    return f"doc_id = X'{doc_id.hex()}'"


def _by_prefix(documents: Table, digits: str) -> list[dict[str, Any]]:
    low, high = digits.ljust(32, "0"), digits.ljust(32, "f")
    columns = [c for c in ("doc_id", "source", "path") if c in documents.schema.names]
    reader = documents.scan(columns, filter=f"doc_id >= X'{low}' and doc_id <= X'{high}'")
    return [row for batch in reader for row in batch.slice(0, MAX_MATCHES + 1).to_pylist()]


def _by_path(documents: Table, wanted: str) -> list[dict[str, Any]]:
    """Documents whose path, or whose source and path, is ``wanted``; else those whose path ends in it."""
    name = literal(wanted)
    exact = f"(path = {name} or source || '/' || path = {name})"
    ends = f"ends_with(path, {literal('/' + wanted)})"
    columns = ["doc_id", "source", "path"]
    with connection() as con:
        load(con, "named", documents, columns, where=f"{exact} or {ends}")
        order = f"order by source, path, doc_id limit {MAX_MATCHES + 1}"
        found = rows(con, f"from named where {exact} {order}") or rows(con, f"from named {order}")
        if found:
            return found
        score = f"jaro_winkler_similarity(lower(path), {literal(wanted.lower())})"
        load(con, "near", documents, columns, where=f"{score} > 0.8")
        near = rows(con, f"from near order by {score} desc, path, doc_id limit 3")
    hint = "did you mean " + " or ".join(f"{r['source']}/{r['path']}" for r in near) + "?" if near else None
    raise UnknownName(
        f"no document named {wanted!r} in {documents.ref}",
        hint=hint or f"give a document id, a prefix of at least {MIN_PREFIX} hex digits, or a path",
    )


def _only(matches: list[dict[str, Any]], text: str) -> bytes:
    if len(matches) == 1:
        doc_id: bytes = matches[0]["doc_id"]
        return doc_id
    shown = "\n".join(
        f"  {m['doc_id'].hex()}  {m.get('source')}/{m.get('path')}" for m in matches[:MAX_MATCHES]
    )
    more = f"more than {MAX_MATCHES}" if len(matches) > MAX_MATCHES else str(len(matches))
    raise UsageError(f"{text!r} names {more} documents:\n{shown}", hint="give more of the id or of the path")


def _inputs(lake: Lake, curated: Iterable[Decided]) -> list[Table]:
    """The tables the curated versions were built from, at those versions; the latest ones where none is."""
    found: dict[str, Table] = {}
    for facts in curated:
        for ref in facts.table.provenance.inputs:
            try:
                found.setdefault(str(ref), lake.table(ref.name, version=ref.version))
            except (UnknownName, LakeError):
                continue  # clean-up removed that version: the story tells what is left
    if not found:
        latest = (
            open_optional(lake, name) for name in ("signals", "license_concluded", "duplicate_clusters")
        )
        found = {str(table.ref): table for table in latest if table is not None}
    return list(found.values())


def _verdict(lake: Lake, facts: Decided, doc_id: bytes, cluster: Cluster | None) -> Verdict:
    outcome, note, failed, unknown = _outcome(lake, facts, doc_id)
    values, private = _values(lake, facts, doc_id) if failed or unknown else ({}, frozenset())
    known = {rule.rule: rule for rule in facts.rules}
    rules = tuple(
        _rule_outcome(known.get(name), name, result, values, private, _match(known.get(name), cluster, facts))
        for result, names in (("failed", failed), ("unknown", unknown))
        for name in names
    )
    return Verdict(
        table=facts.table.name,
        version=facts.table.version,
        digest=facts.table.digest,
        build_id=facts.build_id,
        outcome=outcome,
        note=note,
        rules=rules,
        approvals=tuple(approval.to_dict() for approval in approvals_of(lake, facts.table)),
    )


def _outcome(lake: Lake, facts: Decided, doc_id: bytes) -> tuple[str, str, list[str], list[str]]:
    if facts.table.to_arrow(columns=["doc_id"], filter=by_id(doc_id)).num_rows:
        return "kept", "passed every rule", [], []
    decisions = open_optional(lake, f"{facts.schema}.decisions")
    mine = f"{by_id(doc_id)} and build_id = {literal(facts.build_id)}"
    for row in decisions.to_arrow(filter=mine).to_pylist() if decisions is not None else ():
        if row["table"] == facts.name:
            failed, unknown = list(row["failed"] or ()), list(row["unknown"] or ())
            return ("rejected" if failed else "unknown"), "", failed, unknown
    if facts.base.to_arrow(columns=["doc_id"], filter=by_id(doc_id)).num_rows:
        return "not a candidate", "the base table holds it, but no decision is on record", [], []
    return "not a candidate", f"came after {facts.base.ref}, which this version was built from", [], []


def _values(lake: Lake, facts: Decided, doc_id: bytes) -> tuple[dict[str, Any], frozenset[str]]:
    """Column -> value over all inputs (signals before the base table), and the columns never shown."""
    values: dict[str, Any] = {}
    for table in [*_inputs(lake, [facts]), facts.base]:
        for column, value in (look_up(table, doc_id) or {}).items():
            values.setdefault(column, value)
    return values, frozenset(column for column in values if is_private(column))


def _rule_outcome(
    rule: RuleLoss | None,
    name: str,
    outcome: str,
    values: Mapping[str, Any],
    private: frozenset[str],
    match: Member | None,
) -> RuleOutcome:
    columns = rule.columns if rule else ()
    hide = is_private(name)
    return RuleOutcome(
        rule=name,
        outcome=outcome,
        expression=rule.expression if rule else "",
        description=rule.description if rule else "",
        values={c: WITHHELD if hide or c in private else values[c] for c in columns if c in values},
        missing=tuple(c for c in columns if c not in values and c != "doc_id"),
        match=match,
    )


def _match(rule: RuleLoss | None, cluster: Cluster | None, facts: Decided) -> Member | None:
    """The kept member of the document's cluster, when the rule is one that chooses within clusters."""
    if rule is None or cluster is None or cluster.size < 2:
        return None
    if "cluster_id" not in rule.columns and "cluster_id" not in rule.expression:
        return None
    return next((m for m in cluster.members if facts.table.name in m.kept_in), None)


def _training(lake: Lake, doc_id: bytes) -> dict[str, Any] | None:
    """What training saw of it; ``None`` where nothing was packed, or this document was not."""
    if open_optional(lake, "sequences") is None:
        return None
    from headwater.trace import trace_document

    try:
        return trace_document(lake, doc_id.hex()).to_json()
    except UnknownName:
        return None


def _qualified(lake: Lake, name: str) -> str:
    return name if "." in name else f"{lake.schema}.{name}"


def _bare(table: Table) -> str:
    return table.name.rpartition(".")[2]


def _named(tables: Iterable[Table], bare: str) -> Table | None:
    return next((table for table in tables if _bare(table) == bare), None)


def _is_shown(field: pa.Field) -> bool:
    kind = field.type
    nested = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return field.name != "text" and not nested and not pa.types.is_large_string(kind)


def _short(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return value[:MAX_TEXT] + "…"
    return value


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
