"""A ``Diff`` as GitHub Markdown. Names and paths come from data: every cell is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from headwater.report.words import change, count, share, size

if TYPE_CHECKING:
    from headwater.diff import Diff, Reason, RuleChange, Sample

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#@~&!])")


def escape(text: object) -> str:
    """Text that renders as itself in Markdown: no links, no HTML, no mentions, one line."""
    flat = "".join(c if c.isprintable() else " " for c in str(text))
    return _SPECIAL.sub(r"\\\1", flat)


def code(text: object) -> str:
    """Text as inline code, inside a table cell as well."""
    flat = "".join(c if c.isprintable() else " " for c in str(text)).strip()
    if not flat:
        return ""
    longest = max((len(run) for run in re.findall(r"`+", flat)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if flat[0] == "`" or flat[-1] == "`" else ""
    return f"{fence}{pad}{flat}{pad}{fence}".replace("|", "\\|")


def diff_markdown(d: Diff) -> str:
    """The whole comment: headline, totals, rules, where documents went, histograms, inputs."""
    a, b = d.a, d.b
    blocks = [f"### {escape(a.table)}@{a.version} → {escape(b.table)}@{b.version}", _headline(d)]
    blocks.append(
        _table(
            ["", "before", "after", "change"],
            [
                ["documents" if d.funnels[1] else "rows", count(a.num_rows), count(b.num_rows),
                 change(a.num_rows, b.num_rows)],
                ["text", size(a.text_bytes), size(b.text_bytes), _size_change(a.text_bytes, b.text_bytes)],
                *_candidate_rows(d),
                ["digest", code(a.digest[:12]), code(b.digest[:12]), "same" if d.same_content else "differs"],
            ],
        )
    )  # fmt: skip
    blocks += _rule_blocks(d.rules)
    blocks += _moved("Added", d.added, d.added_reasons, d.added_samples)
    blocks += _moved("Removed", d.removed, d.removed_reasons, d.removed_samples)
    if d.counts:
        blocks.append("#### By value (those that changed most)")
        blocks.append(
            _table(
                ["column", "value", "before", "after", "change"],
                [
                    [
                        escape(c.column),
                        code(c.value),
                        count(c.before),
                        count(c.after),
                        change(c.before, c.after),
                    ]
                    for c in d.counts
                ],
            )
        )
    if d.inputs:
        blocks.append("#### Inputs that differ")
        blocks.append(
            _table(
                ["table", "before", "after", "content"],
                [
                    [
                        code(i.table),
                        _version(i.before),
                        _version(i.after),
                        "same" if i.same_content else "differs",
                    ]
                    for i in d.inputs
                ],
            )
        )
    return "\n\n".join(block for block in blocks if block) + "\n"


def _headline(d: Diff) -> str:
    if d.same_content:
        return "Same content: the digests are equal."
    rewritten = [rule.rule for rule in d.rules if rule.rewritten]
    said = f"**{count(d.added)} added, {count(d.removed)} removed**"
    if rewritten:
        said += f"; rules that changed: {', '.join(code(name) for name in rewritten)}"
    return said + "."


def _candidate_rows(d: Diff) -> Iterable[list[str]]:
    x, y = d.funnels
    if x and y:
        yield [
            "candidates",
            count(x.documents_in),
            count(y.documents_in),
            change(x.documents_in, y.documents_in),
        ]
        yield ["kept", share(x.kept, x.documents_in), share(y.kept, y.documents_in), ""]
        yield ["unknown", count(x.unknown), count(y.unknown), change(x.unknown, y.unknown)]


def _rule_blocks(rules: Sequence[RuleChange]) -> list[str]:
    if not rules:
        return []
    blocks = [
        "#### Rejected by rule",
        _table(
            ["rule", "before", "after", "change", "only this rule", "unknown", ""],
            [
                [
                    code(r.rule),
                    count(r.failed[0]),
                    count(r.failed[1]),
                    change(*r.failed),
                    change(*r.only),
                    change(*r.unknown),
                    _status(r),
                ]
                for r in rules
            ],
        ),
    ]
    for rule in rules:
        if rule.rewritten:
            blocks.append(
                f"{code(rule.rule)}: {code(rule.expression[0] or '') or '(none)'} → "
                f"{code(rule.expression[1] or '') or '(none)'}"
            )
    return blocks


def _status(rule: RuleChange) -> str:
    if rule.expression[0] is None:
        return "new"
    if rule.expression[1] is None:
        return "gone"
    return "rewritten" if rule.rewritten else ""


def _moved(title: str, number: int, reasons: Sequence[Reason], samples: Sequence[Sample]) -> list[str]:
    if not number:
        return []
    listed = _table(
        ["document", "source / path", "text", "why"],
        [
            [code(s.doc_id[:12]), code(f"{s.source}/{s.path}"), size(s.text_bytes), escape(s.because)]
            for s in samples
        ],
    )
    shown = f"{len(samples)} of {count(number)}" if number > len(samples) else count(number)
    return [
        f"#### {title}: {count(number)}",
        _table(["why", "documents"], [[escape(r.because), count(r.documents)] for r in reasons]),
        f"<details><summary>Documents ({shown})</summary>\n\n{listed}\n\n</details>",
    ]


def _version(version: int | None) -> str:
    return "–" if version is None else str(version)


def _size_change(before: int | None, after: int | None) -> str:
    if before is None or after is None or before == after:
        return "·"
    return ("+" if after > before else "−") + size(abs(after - before))


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
