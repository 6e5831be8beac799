"""The cards of a release: what the data was, and how to read and check the folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from headwater import __version__
from headwater.checks.closure import open_version
from headwater.lake.approvals import approval_of_content
from headwater.report.losses import funnel, is_curated
from headwater.report.markdown import code, escape
from headwater.report.words import share
from headwater.trace.approvals import approval_facts
from headwater.training.model_card import CardFacts

if TYPE_CHECKING:
    from headwater.lake import Lake
    from headwater.lake.provenance import TableRef


def data_facts(lake: Lake, facts: CardFacts) -> dict[str, Any]:
    """Tables with their approvals, rules with what they dropped, licenses and sources, as plain data.

    Tokens by source are those trained on; licenses are of the packed documents.
    """
    orders = [ref for ref, *_ in facts.orders]
    refs = list(dict.fromkeys([*orders, *facts.packed, *facts.closure]))
    standing = [approval_of_content(lake, ref) for ref in refs]
    covered = {ref for approval in standing if approval is not None for ref in approval.closure}
    return {
        "tables": [{**_table_facts(lake, ref), "in_an_approval": ref in covered} for ref in refs],
        "rules": [rules for ref in refs for rules in _rules(lake, ref)],
        "licenses": [
            {"license": name, "documents": documents, "tokens": tokens}
            for name, documents, tokens in facts.licenses
        ],
        "sources": [{"source": name, "tokens": tokens} for name, tokens in facts.sources],
        "tokens": facts.num_tokens,
    }


def _table_facts(lake: Lake, ref: TableRef) -> dict[str, Any]:
    table = open_version(lake, ref)
    rows = table.num_rows if table is not None and table.digest == ref.digest else None
    kind = table.provenance.kind if table is not None else None
    return {**ref.to_dict(), "rows": rows, "kind": kind, **approval_facts(lake, ref)}


def _rules(lake: Lake, ref: TableRef) -> Iterator[dict[str, Any]]:
    table = open_version(lake, ref)
    if table is None or not is_curated(table):
        return
    found = funnel(lake, table)
    yield {
        "table": str(ref),
        "candidates": found.candidates,
        "documents_in": found.documents_in,
        "kept": found.kept,
        "rejected": found.rejected,
        "unknown": found.unknown,
        "rules": [
            {
                "rule": rule.rule,
                "expression": rule.expression,
                "description": rule.description,
                "failed": rule.failed,
                "only": rule.only,
                "unknown": rule.unknown,
            }
            for rule in found.rules
        ],
    }


def data_card(run_id: str, data: dict[str, Any]) -> str:
    """The data card as Markdown. Every name in it comes from data and is escaped."""
    blocks = [
        f"# Data of {escape(run_id)}",
        "Every table version that the training order was made from, who approved it, and what its rules took "
        "away. `data_card.json` holds the same.",
        "## Tables",
        _table(
            ["table", "digest", "rows", "approved"],
            [
                [code(f"{t['table']}@{t['version']}"), code(t["digest"]), _number(t["rows"]), _approved(t)]
                for t in data["tables"]
            ],
        ),
    ]
    for each in data["rules"]:
        blocks += [
            f"## Rules of {escape(each['table'])}",
            f"{each['documents_in']:,} candidates from {code(each['candidates'])}, {each['kept']:,} kept. A "
            "document counts for every rule that it failed; *only* counts those that one rule alone took.",
            _table(
                ["rule", "condition", "failed", "only", "unknown"],
                [
                    [code(r["rule"]), code(r["expression"]), _number(r["failed"]), _number(r["only"]),
                     _number(r["unknown"])]
                    for r in each["rules"]
                ],
            ),
        ]  # fmt: skip
    if data["licenses"]:
        total = sum(row["tokens"] for row in data["licenses"])
        blocks += [
            "## Licenses",
            "As concluded for the packed documents, by their tokens.",
            _table(
                ["license", "documents", "tokens", "share"],
                [
                    [escape(r["license"]) or "(none)", _number(r["documents"]), _number(r["tokens"]),
                     share(r["tokens"], total)]
                    for r in data["licenses"]
                ],
            ),
        ]  # fmt: skip
    if data["sources"]:
        total = sum(row["tokens"] for row in data["sources"])
        rows = [
            [escape(r["source"]), _number(r["tokens"]), share(r["tokens"], total)] for r in data["sources"]
        ]
        blocks += ["## Sources", "Tokens trained on.", _table(["source", "tokens", "share"], rows)]
    return "\n\n".join(blocks) + "\n"


def readme(facts: dict[str, Any], notes: Sequence[str]) -> str:
    """What is in the folder, and how to check it."""
    orders = ", ".join(code(f"{o['table']}@{o['version']}") for o in facts["orders"]) or "none"
    text = "with the text of the documents" if facts["with_text"] else "document ids only, no text"
    lines = [
        f"# {escape(facts['run_id'])}",
        f"A training run released by Headwater {__version__}, up to step {facts['step']:,}: {text}.",
        "| file | what it holds |\n| --- | --- |\n"
        "| `order/` | every training sequence: `spans` (document id, start, length, source), and `step`, the "
        "first step that trained on it |\n"
        "| `log/` | attempts, steps with loss and speed, tokens and loss by source, checkpoints, "
        "evaluations, spikes; `stands` is false for what a resumption went back behind |\n"
        "| `checkpoints/` | `checkpoints.json` with the digests of their files, and the released ones |\n"
        "| `recipe.json` | settings of the run, and what each attempt read |\n"
        "| `tokenizer/` | `tokenizer.json` |\n"
        "| `DATA_CARD.md` | tables, versions, digests, approvals, rules, licenses, sources |\n"
        "| `MANIFEST.json`, `SHA256SUMS` | every file with its size and SHA-256 |",
        f"Orders: {orders}.",
        "To check it:\n\n```sh\nsha256sum -c SHA256SUMS\nheadwater release --verify .\n```",
        "The sequences of step N are rows `first_sequence` to `first_sequence + count - 1` of the order, as "
        "`log/training_steps.parquet` has them.",
    ]
    if notes:
        lines.append("Left out:\n\n" + "\n".join(f"- {escape(note)}" for note in notes))
    return "\n\n".join(lines) + "\n"


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _approved(table: dict[str, Any]) -> str:
    if table["standing"]:
        return f"by {escape(table['standing']['who'])} on {table['standing']['at'][:10]}"
    if table["revoked"]:
        return f"revoked by {escape(table['revoked']['who'])} on {table['revoked']['at'][:10]}"
    return "with what was made from it" if table["in_an_approval"] else "no"


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
