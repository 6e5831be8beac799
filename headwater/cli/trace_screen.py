"""What ``headwater trace`` prints on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwater.cli.session import Session, plain
from headwater.report.words import count, end_of, seconds, share, size

if TYPE_CHECKING:
    from headwater.trace import CheckpointTrace, DocumentsTrace, DocumentTrace, StepTrace, TextTrace
    from headwater.trace.replay import Replay

MAX_DOCUMENTS = 40
"""Documents listed on a terminal."""
MAX_SOURCES = 12


def step(session: Session, seen: StepTrace) -> None:
    last = seen.first_sequence + seen.count - 1
    session.out.print(f"step {seen.step} of {plain(seen.run_id)}", style="bold")
    loss = "" if seen.loss is None else f"loss {seen.loss:.4f} · "
    session.out.print(
        f"  {loss}{count(seen.tokens)} tokens · sequences {seen.first_sequence} to {last} of {seen.table}",
        style="dim",
        soft_wrap=True,
    )
    if seen.use != "trained":
        _line(session, "  skipped: nothing was learned from these sequences", "yellow")
    rows = documents_of(seen)
    again = any(row["epoch"] or row["form"] != "plain" for row in rows)
    columns = ["document", "source / path", "tokens", "share", *(["pass", "form"] if again else [])]
    table = _table(columns, right=("tokens", "share", "pass"))
    room = max(session.out.width - (45 if again else 31), 24)  # what the other columns leave
    for row in rows[:MAX_DOCUMENTS]:
        name = end_of(plain(_name(row)), room)
        cells = [row["doc_id"][:12], name, count(row["tokens"]), share(row["share"], 1)]
        table.add_row(*cells, *([str(row["epoch"] + 1), row["form"]] if again else []))
    session.out.print(table)
    if len(rows) > MAX_DOCUMENTS:
        session.out.print(f"and {count(len(rows) - MAX_DOCUMENTS)} more (--json has all)", style="dim")


def documents_of(seen: StepTrace) -> list[dict[str, Any]]:
    """The step's documents, a row each with its tokens and share summed over its spans, largest first.

    A document that the step saw on two passes or in two forms has a row for each.
    """
    found: dict[tuple[str, int, str], dict[str, Any]] = {}
    for row in seen.rows:
        key = (row["doc_id"], row["epoch"], row["form"])
        at = found.setdefault(key, {**row, "tokens": 0, "share": 0.0})
        at["tokens"] += row["tokens"]
        at["share"] += row["share"]
    return sorted(found.values(), key=lambda row: (-row["tokens"], row["doc_id"]))


def document(session: Session, found: DocumentTrace) -> None:
    _line(session, _name({"source": found.source, "path": found.path}) or found.doc_id, "bold")
    _line(session, f"  {found.doc_id}", "dim")
    if found.table:
        numbers = listed(found.sequences) or "none"
        _line(session, f"  in {count(len(found.sequences))} of the sequences of {found.table}: {numbers}")
    for run in found.runs:
        _line(session, f"  run {run.run_id} ({count(run.last_step)} steps, {', '.join(run.tables)})", "bold")
        _line(session, f"    seen in steps: {listed(run.steps) or 'none'}")
        if run.steps:
            shown = f"{count(run.tokens)} of its tokens" + (
                f", on {run.epochs} passes" if run.epochs > 1 else ""
            )
            forms = [form for form in run.forms if form != "plain"]
            shown += f", as fill-in-the-middle {' and '.join(forms)}" if forms else ""
            _line(session, f"    first at step {run.steps[0]}, last at step {run.steps[-1]}: {shown}")
        _line(
            session, f"    checkpoints that saw it: {listed(_steps(run.checkpoints_that_saw_it)) or 'none'}"
        )
        _clean(session, "last checkpoint without it", run.last_clean_checkpoint)
        _replay(session, run.replay)
    _untraceable(session, found.untraceable, bool(found.runs))
    _descendants(session, found.descendants, "it")


def documents(session: Session, found: DocumentsTrace) -> None:
    """The answer to a takedown question: which checkpoints, and from where to train again."""
    noun = "document" if found.asked == 1 else "documents"
    _line(session, f"{count(found.asked)} {noun} asked about, {count(found.packed)} of them packed", "bold")
    if found.with_descendants and found.descendants:
        _line(
            session, f"  {count(found.descendants['count'])} of them synthetic, made from the others", "dim"
        )
    if found.not_packed:
        shown = ", ".join(doc[:12] for doc in found.not_packed[:5])
        rest = found.asked - found.packed
        _line(session, f"  in no training order: {shown}{' …' if rest > 5 else ''} ({count(rest)})", "dim")
    for run in found.runs:
        _line(session, f"  run {run.run_id} ({count(run.last_step)} steps, {', '.join(run.tables)})", "bold")
        if not run.steps:
            _line(session, "    saw none of them")
            continue
        first, last, steps = run.steps[0], run.steps[-1], count(len(run.steps))
        where = f"step {first}" if first == last else f"{steps} steps: first {first}, last {last}"
        _line(session, f"    saw {count(run.documents)} of them, {count(run.tokens)} tokens, in {where}")
        table = _table(["    checkpoint", "documents seen", "path"], right=("documents seen",))
        for at, path, number in run.checkpoints[-MAX_DOCUMENTS:]:
            table.add_row(f"    step {at}", count(number) if number else "none", plain(path))
        session.out.print(table)
        _clean(session, "last checkpoint clean of all", run.last_clean_checkpoint)
        _replay(session, run.replay, "them")
        for row in run.exposures[:5]:
            _line(session, f"    step {row['first_step']:>6}  {row['doc_id'][:12]}  {_name(row)}", "dim")
        if run.documents > 5:
            _line(session, f"    and {count(run.documents - 5)} more (--json)", "dim")
    _untraceable(session, found.untraceable, bool(found.runs))
    if not found.with_descendants:
        _descendants(session, found.descendants, "it" if found.asked == 1 else "them")


def _descendants(session: Session, made: Mapping[str, Any] | None, what: str) -> None:
    """What a takedown would have to follow: text that a generator made with the document in its prompt."""
    if not made:
        return
    noun = "synthetic document was" if made["count"] == 1 else "synthetic documents were"
    tables = ", ".join(f"{table} {count(number)}" for table, number in made["by_table"].items())
    _line(session, f"  {count(made['count'])} {noun} made from {what}: {tables}", "yellow")
    _line(session, "    --with-descendants asks about these as well", "dim")


def text(session: Session, found: TextTrace) -> None:
    _line(
        session,
        f"{count(found.matches)} documents contain the text, {count(found.packed)} of them packed",
        "bold",
    )
    _line(
        session,
        f"  searched {', '.join(found.text_tables)}: {size(found.bytes_scanned)} in {seconds(found.seconds)} "
        f"({found.megabytes_per_second:,.0f} MB/s)",
        "dim",
    )
    seen = {row["doc_id"]: _seen(run.run_id, row) for run in found.trace.runs for row in run.exposures}
    for hit in found.hits:
        times = f" ({hit.occurrences} times)" if hit.occurrences > 1 else ""
        _line(session, f"  {hit.doc_id[:12]}  {_name({'source': hit.source, 'path': hit.path})}{times}")
        _line(session, f"      {' '.join(hit.excerpt.split())}", "dim")
        _line(session, f"  {seen.get(hit.doc_id, '    in no step')}", "dim")
    if found.packed > len(found.hits):
        _line(session, f"  and {count(found.packed - len(found.hits))} more", "dim")
    if found.packed:
        documents(session, found.trace)


def checkpoint(session: Session, seen: CheckpointTrace) -> None:
    _line(session, f"checkpoint of step {seen.step} of {seen.run_id}", "bold")
    _line(session, f"  {seen.path}", "dim")
    if not seen.stands:
        _line(session, "  a later attempt of the run went back behind it", "yellow")
    skipped = f" ({count(seen.skipped_steps)} skipped)" if seen.skipped_steps else ""
    _line(
        session,
        f"  saw {count(seen.documents)} documents, {count(seen.tokens)} tokens in {count(seen.sequences)} "
        f"sequences of {count(seen.steps)} steps{skipped}",
    )
    for stage in seen.stages:
        _line(
            session,
            f"  {stage.table} ({stage.digest}), steps {stage.first_step} to {stage.last_step}, "
            f"{count(stage.tokens)} tokens",
        )
        _approval(session, "the order", stage.approval)
        if stage.packed_table:
            _line(session, f"    packed from {stage.packed_table} ({stage.packed_digest})")
            _approval(session, "that table", stage.packed_approval)
        if stage.bypass:
            _line(session, f"    trained without approval: {stage.bypass}", "yellow")
    if len(seen.tokens_by_epoch) > 1:
        passes = ", ".join(f"pass {e + 1}: {share(n, seen.tokens)}" for e, n in seen.tokens_by_epoch.items())
        _line(session, f"  {passes}")
    if set(seen.tokens_by_form) - {"plain"}:
        forms = ", ".join(f"{form} {share(n, seen.tokens)}" for form, n in seen.tokens_by_form.items())
        _line(session, f"  forms: {forms}")
    table = _table(["  tokens by source", "tokens", "share"], right=("tokens", "share"))
    for source, number in list(seen.tokens_by_source.items())[:MAX_SOURCES]:
        table.add_row(f"  {plain(source)}", count(number), share(number, seen.tokens))
    session.out.print(table)
    if len(seen.tokens_by_source) > MAX_SOURCES:
        _line(session, f"  and {len(seen.tokens_by_source) - MAX_SOURCES} more sources (--json)", "dim")
    for row in seen.evaluations:
        bits = row.get("bits_per_byte")
        told = f"{bits:.4f} bits per byte" if bits is not None else f"loss {row.get('loss')}"
        _line(session, f"  evaluated on {row['table']}@{row['version']} at step {row['step']}: {told}")


def saw(session: Session, found: Mapping[str, Any]) -> None:
    name = f"the checkpoint of step {found['step']} of {found['run_id']}"
    if not found["saw"]:
        only = found["asked"] == 1
        _line(session, f"no: {name} saw {'nothing of it' if only else 'none of them'}", "bold green")
        return
    which = (
        "it" if found["asked"] == 1 else f"{count(found['documents'])} of {count(found['asked'])} documents"
    )
    _line(session, f"yes: {name} saw {which}", "bold red")
    _line(session, f"  {count(found['tokens'])} tokens, in steps: {listed(found['steps'])}")


def _seen(run_id: str, row: Mapping[str, Any]) -> str:
    number, first, last = row["num_steps"], row["first_step"], row["last_step"]
    which = f"step {first}" if number == 1 else f"{count(number)} steps, first {first}, last {last},"
    return f"    in {which} of {run_id}"


def _approval(session: Session, what: str, facts: Mapping[str, Any]) -> None:
    standing, revoked = facts["standing"], facts["revoked"]
    if standing:
        told = f"by {standing['who']} on {standing['at'][:10]}: {standing['why']}"
        _line(session, f"    {what} is approved, {told}", "green")
    elif revoked:
        told = f"by {revoked['who']} on {revoked['at'][:10]}: {revoked['why']}"
        _line(session, f"    the approval of {what} was revoked since, {told}", "red")
    else:
        _line(session, f"    {what} has no approval", "yellow")


def _clean(session: Session, what: str, clean: tuple[int, str] | None) -> None:
    _line(session, f"    {what}: {f'step {clean[0]}, {clean[1]}' if clean else 'none'}")


def _replay(session: Session, cost: Replay | None, what: str = "it") -> None:
    if cost is None:
        return
    start = "the start" if cost.checkpoint is None else f"step {cost.from_step}"
    took = ""
    if cost.seconds is not None and cost.device_hours is not None:
        took = f", {seconds(cost.seconds)} at the run's speed ({cost.device_hours:,.3g} device-hours)"
    _line(
        session,
        f"    a replay without {what} from {start} to step {cost.to_step}: {count(cost.steps)} steps, "
        f"{count(cost.tokens)} tokens{took}",
    )
    if cost.checkpoint_exists is False:
        _line(session, f"    but {cost.checkpoint} is no longer in the folder of runs", "yellow")


def _untraceable(session: Session, runs: Sequence[str], others: bool) -> None:
    for run_id in runs:
        _line(session, f"  run {run_id} cannot be traced: its sequences are no longer in the lake", "yellow")
    if not others and not runs:
        _line(session, "  no training run is on record")


def listed(numbers: Sequence[int]) -> str:
    """Up to ten numbers and how many more."""
    shown = ", ".join(str(n) for n in numbers[:10])
    return f"{shown}, … ({len(numbers)} in all)" if len(numbers) > 10 else shown


def _steps(checkpoints: Sequence[tuple[int, str]]) -> list[int]:
    return [at for at, _ in checkpoints]


def _name(row: Mapping[str, Any]) -> str:
    return "/".join(str(row[k]) for k in ("source", "path") if row.get(k))


def _table(columns: Sequence[str], right: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def _line(session: Session, message: str, style: str | None = None) -> None:
    session.out.print(plain(message), style=style, soft_wrap=True)
