"""``headwater trace``: from a training step to its documents, and from a document to its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError
from headwater.report.words import count, share

if TYPE_CHECKING:
    from headwater.trace import DocumentTrace, StepTrace

MAX_DOCUMENTS = 40
"""Documents listed on a terminal."""


@click.command("trace", short_help="From a training step to its documents, and back.")
@click.option("--step", type=click.IntRange(min=0), metavar="N", help="The documents that step N saw.")
@click.option("--run", metavar="ID", help="Training run.  [default: the last one]")
@click.option("--doc", metavar="DOCUMENT", help="The sequences, steps and checkpoints that saw DOCUMENT.")
@json_option
@session_options
@pass_session
def command(session: Session, step: int | None, run: str | None, doc: str | None) -> int:
    """Trace training: --step N gives the documents it saw, --doc ID the steps and checkpoints that saw it."""
    from headwater.trace import trace_document, trace_step

    if (step is None) == (doc is None):
        raise UsageError("give either --step N or --doc DOCUMENT")
    if step is not None:
        seen = trace_step(session.lake, step, run)
        session.emit_json(seen) if session.as_json else _show_step(session, seen)
        return 0
    found = trace_document(session.lake, _doc_id(session, doc or ""), run)
    session.emit_json(found) if session.as_json else _show_document(session, found)
    return 0


def _doc_id(session: Session, text: str) -> str:
    """An id or prefix goes through as it is (the document may be gone by now); a path is looked up."""
    from headwater.why import find_document, is_hex

    return text if is_hex(text) else find_document(session.lake.table("documents"), text).hex()


def _show_step(session: Session, seen: StepTrace) -> None:
    from rich.table import Table

    last = seen.first_sequence + seen.count - 1
    session.out.print(f"step {seen.step} of {plain(seen.run_id)}", style="bold")
    session.out.print(
        f"  loss {seen.loss:.4f} · {count(seen.tokens)} tokens · sequences {seen.first_sequence} to {last} "
        f"of {seen.table}",
        style="dim",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, right in (("document", False), ("source / path", False), ("tokens", True), ("share", True)):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    documents = documents_of(seen)
    for row in documents[:MAX_DOCUMENTS]:
        name = "/".join(part for part in (row["source"], row["path"]) if part)
        table.add_row(row["doc_id"][:12], plain(name), count(row["tokens"]), share(row["share"], 1))
    session.out.print(table)
    if len(documents) > MAX_DOCUMENTS:
        session.out.print(f"and {count(len(documents) - MAX_DOCUMENTS)} more (--json has all)", style="dim")


def documents_of(seen: StepTrace) -> list[dict[str, Any]]:
    """The step's documents, a row each with its tokens and share summed over its spans, largest first."""
    found: dict[str, dict[str, Any]] = {}
    for row in seen.rows:
        at = found.setdefault(row["doc_id"], {**row, "tokens": 0, "share": 0.0})
        at["tokens"] += row["tokens"]
        at["share"] += row["share"]
    return sorted(found.values(), key=lambda row: (-row["tokens"], row["doc_id"]))


def _show_document(session: Session, found: DocumentTrace) -> None:
    def line(text: str, style: str | None = None) -> None:
        session.out.print(plain(text), style=style, soft_wrap=True)

    name = "/".join(part for part in (found.source, found.path) if part)
    line(name or found.doc_id, "bold")
    line(f"  {found.doc_id}", "dim")
    if found.table:
        line(f"  in {len(found.sequences)} of the sequences of {found.table}: {listed(found.sequences)}")
    for run in found.runs:
        line(f"\n  run {run.run_id} ({run.last_step} steps)".lstrip("\n"), "bold")
        line(f"    seen in steps: {listed(run.steps) or 'none'}")
        saw = listed([step for step, _ in run.checkpoints_that_saw_it])
        line(f"    checkpoints that saw it: {saw or 'none'}")
        clean = run.last_clean_checkpoint
        line(f"    last checkpoint without it: {f'step {clean[0]}, {clean[1]}' if clean else 'none'}")
    for run_id in found.untraceable:
        line(f"  run {run_id} cannot be traced: its sequences are no longer in the lake", "yellow")
    if not found.runs and not found.untraceable:
        line("  no training run is on record")


def listed(numbers: Sequence[int]) -> str:
    """Up to ten numbers and how many more."""
    shown = ", ".join(str(n) for n in numbers[:10])
    return f"{shown}, … ({len(numbers)} in all)" if len(numbers) > 10 else shown
