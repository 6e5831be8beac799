"""``headwater search``: documents by meaning and by words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError
from headwater.report.words import count

if TYPE_CHECKING:
    from headwater.search import Hit, IndexState, SearchReport


@click.command("search", short_help="Find documents by meaning and by words.")
@click.argument("query", required=False)
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "vector", "text"]),
    help="By meaning, by words, or both.  [default: hybrid where embeddings are built, else text]",
)
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=10, show_default=True, help="Hits.")
@click.option("--table", metavar="TABLE", help="Only what this table holds, e.g. python_textbook.")
@click.option("--where", metavar="SQL", help="Only documents with this, e.g. \"license_declared = 'MIT'\".")
@click.option(
    "--embeddings", metavar="TABLE", default="embeddings", show_default=True, help="Table of vectors."
)
@click.option("--model", metavar="NAME", help="Model for the query.  [default: that of the embeddings]")
@click.option("--device", metavar="NAME", help="cuda, mps or cpu.  [default: the best there is]")
@click.option("--index", is_flag=True, help="Make or refresh the indexes first.")
@json_option
@session_options
@pass_session
def command(
    session: Session,
    query: str | None,
    mode: str | None,
    limit: int,
    table: str | None,
    where: str | None,
    embeddings: str,
    model: str | None,
    device: str | None,
    index: bool,
) -> int:
    """Find the documents that answer QUERY best: source, path, license, and what is approved of them.

    QUERY is words; signs have no meaning in it. Rankings by meaning (the vectors of the table embeddings)
    and by words (BM25 over the text) are fused by reciprocal rank.

    \b
    headwater search --index
    headwater search "parse command line arguments"
    headwater search "binary search tree" --table python_textbook --limit 3 --json
    """
    if query is None and not index:
        raise UsageError("no query", hint='headwater search "binary search tree", or --index alone')
    states: list[IndexState] = []
    if index:
        from headwater.cli.progress import step_progress
        from headwater.search import build_indexes

        with step_progress(session, "index") as step:
            states = build_indexes(session.lake, embeddings=embeddings, progress=step)
        if query is None:
            _show_indexes(session, states)
            return 0
    from headwater.search import search

    report = search(
        session.lake,
        str(query),
        mode=mode,
        limit=limit,
        table=table,
        where=where,
        embeddings=embeddings,
        model=model,
        device=device,
    )
    if session.as_json:
        session.emit_json(report)
        return 0
    _show(session, report)
    return 0


def _show_indexes(session: Session, states: list[IndexState]) -> None:
    if session.as_json:
        session.emit_json([state.to_json() for state in states])
        return
    for state in states:
        indexed = state.rows - state.unindexed_rows
        said = (
            f"{count(indexed)} of {count(state.rows)} rows indexed"
            if state.there
            else f"{count(state.rows)} rows: searched one by one, an index would not help yet"
        )
        session.out.print(f"{state.table}@{state.version} {state.column}: {said}", soft_wrap=True)


def _show(session: Session, report: SearchReport) -> None:
    for hit in report.hits:
        _show_hit(session, hit)
    for note in report.notes:
        session.note(note)
    by = f" by {report.model}" if report.model else ""
    places = report.documents + (f" and {report.embeddings}" if report.embeddings else "")
    session.note(f"{count(len(report.hits))} hits, {report.mode}{by}, in {places}")


def _show_hit(session: Session, hit: Hit) -> None:
    from rich.text import Text

    name = "/".join(part for part in (hit.source, hit.path) if part) or hit.doc_id
    ranks = [f"meaning {hit.vector_rank}"] if hit.vector_rank else []
    ranks += [f"words {hit.text_rank}"] if hit.text_rank else []
    session.out.print(
        Text.assemble(f"{hit.rank:>3}. ", (plain(name), "bold"), (f":{hit.line}", "dim")), soft_wrap=True
    )
    license_ = f"{hit.license} ({hit.license_tier or hit.license_by})" if hit.license else "no license known"
    facts = [hit.doc_id[:12], license_, ", ".join(ranks)]
    session.out.print(Text("     " + plain(" · ".join(facts)), "dim"), soft_wrap=True)
    for standing in hit.tables:
        where = f"{standing.table}@{standing.version}"
        if not standing.kept:
            said = Text(f"     out of {plain(where)}: {plain(', '.join(standing.rules))}", "red")
        elif standing.approval:
            said = Text(
                f"     in {plain(where)}, approved on {standing.approved_at} by "
                f"{plain(standing.approved_by or '')}"
                + (f" as {plain(standing.approval)}" if standing.approval != where else ""),
                "green",
            )
        else:
            said = Text(f"     in {plain(where)}, not approved", "yellow")
        session.out.print(said, soft_wrap=True)
    if not hit.tables:
        session.out.print(Text("     no curated table has judged it", "dim"))
    for line in hit.snippet.split("\n"):
        session.out.print(Text("     │ " + plain(line.expandtabs(4))), soft_wrap=True)
    session.out.print()
