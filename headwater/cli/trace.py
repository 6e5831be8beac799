"""``headwater trace``: from a training step or a checkpoint to its documents, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.session import Session, json_option, pass_session, session_options
from headwater.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


@click.command("trace", short_help="From a training step to its documents, and back.")
@click.option("--step", type=click.IntRange(min=0), metavar="N", help="The documents that step N saw.")
@click.option("--checkpoint", metavar="WHICH", help="What it saw: a path, RUN@STEP or RUN@last.")
@click.option("--doc", "docs", multiple=True, metavar="DOCUMENT",
              help="The steps and checkpoints that saw DOCUMENT; may be repeated.")  # fmt: skip
@click.option(
    "--docs", "file", type=click.Path(), metavar="FILE", help="The same for ids in FILE, one a line."
)
@click.option("--where", metavar="SQL", help="The same for the packed documents that fit a condition.")
@click.option("--text", metavar="TEXT", help="The same for the packed documents that contain TEXT.")
@click.option("--with-descendants", is_flag=True, help="Also for the synthetic documents made from them.")
@click.option("--run", metavar="ID", help="Training run.  [default: all; with --step the last one]")
@click.option("--runs", default="runs", show_default=True, metavar="DIR",
              help="Folder of checkpoints, to see which are still there.")  # fmt: skip
@json_option
@session_options
@pass_session
def command(
    session: Session,
    step: int | None,
    checkpoint: str | None,
    docs: tuple[str, ...],
    file: str | None,
    where: str | None,
    text: str | None,
    with_descendants: bool,
    run: str | None,
    runs: str,
) -> int:
    """Trace training both ways.

    \b
    headwater trace --step 40                        the documents of a step
    headwater trace --checkpoint RUN@last            what a checkpoint saw
    headwater trace --doc 5c730d41                   what saw a document, the cost of a replay without it
    headwater trace --where "source = 'blog'"        a takedown: which checkpoints saw any of them
    headwater trace --text "some words"              where a text occurs, and what saw it
    headwater trace --checkpoint RUN@last --doc ID   did it see that document
    """
    from headwater.cli import trace_screen as screen

    documents = bool(docs or file or where is not None or text is not None)
    if (step is not None) + (checkpoint is not None) + documents == 0:
        raise UsageError(
            "nothing to trace", hint="give --step, --checkpoint, --doc, --docs, --where or --text"
        )
    if with_descendants and (not documents or text is not None):
        raise UsageError("--with-descendants goes with --doc, --docs and --where")
    if step is not None and (documents or checkpoint is not None):
        raise UsageError("--step goes with --run alone")
    found: Any
    if step is not None:
        from headwater.trace import trace_step

        found = trace_step(session.lake, step, run)
        show: Any = screen.step
    elif checkpoint is not None and not documents:
        from headwater.trace import trace_checkpoint

        found = trace_checkpoint(session.lake, checkpoint, run, with_ids=session.as_json)
        show = screen.checkpoint
    else:
        found, show = _documents(
            session, docs, file, where, text, run, checkpoint, Path(runs), with_descendants=with_descendants
        )
    session.emit_json(found) if session.as_json else show(session, found)
    return 0


def _documents(
    session: Session,
    docs: tuple[str, ...],
    file: str | None,
    where: str | None,
    text: str | None,
    run: str | None,
    checkpoint: str | None,
    runs: Path,
    *,
    with_descendants: bool,
) -> tuple[Any, Any]:
    from headwater.ancestry import descendants
    from headwater.cli import trace_screen as screen
    from headwater.trace import trace_document, trace_documents, trace_text
    from headwater.trace.checkpoint import find_checkpoint, saw
    from headwater.trace.seen import distinct_ids

    lake = session.lake
    if checkpoint is not None:
        run = find_checkpoint(lake, checkpoint, run).run.run_id
    only = len(docs) == 1 and not file and where is None and text is None
    if only and checkpoint is None and not with_descendants:
        return trace_document(lake, _doc_id(session, docs[0]), run, runs_folder=runs), screen.document
    ids = _ids(session, docs, file, where, run)
    if text is not None:
        from headwater.cli.progress import step_progress

        with step_progress(session, "trace") as step:
            hits = trace_text(
                lake,
                text,
                run,
                only=ids,
                runs_folder=runs,
                progress=lambda done, total: step(f"{100 * done / max(total, 1):.0f} % of the text"),
            )
        if checkpoint is None:
            return hits, screen.text
        ids = hits.ids
    assert ids is not None
    if checkpoint is not None:
        if with_descendants:
            ids = distinct_ids([*ids.to_pylist(), *descendants(lake, ids).ids.to_pylist()])
        return saw(lake, checkpoint, ids, run), screen.saw
    found = trace_documents(lake, ids, run, runs_folder=runs, with_descendants=with_descendants)
    return found, screen.documents


def _ids(
    session: Session, docs: tuple[str, ...], file: str | None, where: str | None, run: str | None
) -> pa.Array | None:
    """The documents that are named in any of the three ways, or ``None`` where none is used."""
    from headwater.trace.document import only_one, open_all, packed
    from headwater.trace.seen import distinct_ids
    from headwater.trace.selection import full_id, ids_where, read_ids

    if not docs and not file and where is None:
        return None
    _, orders, _, _ = open_all(session.lake, run)
    found: list[bytes] = []
    for doc in docs:
        named = _doc_id(session, doc)
        # A whole id may be of a document that was never packed: that is an answer, not an error.
        found.append(full_id(named) or only_one(named, packed(session.lake, orders, named)))
    if file:
        found += read_ids(file).to_pylist()
    if where is not None:
        for order in orders.values():
            found += ids_where(session.lake, order, where).to_pylist()
    return distinct_ids(found)


def _doc_id(session: Session, text: str) -> str:
    """An id or prefix goes through as it is (the document may be gone by now); a path is looked up."""
    from headwater.why import find_document, is_hex

    return text if is_hex(text) else find_document(session.lake.table("documents"), text).hex()
