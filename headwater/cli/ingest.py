"""``headwater ingest``: read files into the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headwater.cli.progress import byte_progress
from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError
from headwater.report.words import count, seconds, size

if TYPE_CHECKING:
    from headwater.ingest import IngestReport
    from headwater.ingest.html import Mode

KINDS = (
    "python", "folder", "html", "warc", "archive", "git", "jsonl", "parquet", "arrow", "huggingface",
)  # fmt: skip


@click.command("ingest", short_help="Read files into the lake.")
@click.argument("paths", metavar="[KIND] PATH…", nargs=-1, type=click.Path())
@click.option("--kind", type=click.Choice(KINDS), help="What PATH holds.  [default: told from its name]")
@click.option("--at", metavar="COMMIT", help="Commit, tag or branch of a git repository.  [default: HEAD]")
@click.option(
    "--html", type=click.Choice(("main", "full")), help="Text of pages: main content, or all of it."
)
@click.option(
    "--glob", "globs", metavar="GLOB", multiple=True, help="Files to read, instead of text-like ones."
)
@click.option("--source", metavar="NAME", help="Name of the source.  [default: made from the path]")
@click.option("--map", "columns", metavar="OURS=THEIRS,…", help="Column map, e.g. id=doc_id,text=content.")
@click.option("--layout", metavar="NAME", help="Layout by name.  [default: recognized from the columns]")
@click.option(
    "--origin",
    type=click.Choice(("human", "synthetic", "unknown")),
    help="Of rows that do not say.  [default: unknown]",
)
@click.option("--generator", metavar="NAME", help="What made synthetic rows that do not say it.")
@click.option("--generator-version", metavar="V", help="Its version: a revision, a release, a date.")
@click.option("--sync", is_flag=True, help="Also remove documents of the source that are no longer there.")
@click.option(
    "--max-document-bytes", type=click.IntRange(min=1), metavar="N", help="Quarantine longer documents."
)
@json_option
@session_options
@pass_session
def command(
    session: Session,
    paths: tuple[str, ...],
    kind: str | None,
    at: str | None,
    html: Mode | None,
    globs: tuple[str, ...],
    source: str | None,
    columns: str | None,
    layout: str | None,
    origin: str | None,
    generator: str | None,
    generator_version: str | None,
    sync: bool,
    max_document_bytes: int | None,
) -> int:
    """Read documents into raw.documents.

    KIND is one of: python (the standard library and every installed distribution; takes no path), folder
    (text files), html (pages), warc (also WET, .gz and .zst), archive (zip, wheel, tar), git (a repository
    at a commit), jsonl (plain, .gz, .zst, .bz2), parquet, arrow (and Feather), huggingface (a data set
    folder). It
    can be left out where the name of PATH tells it. Nothing is fetched from anywhere.

    Reading the same input again adds only what is new. What cannot be read goes to raw.quarantine with file,
    position and reason.

    A synthetic row says what made it: map its columns (--map generator=model,prompt_id=id,…), or give
    --generator and --generator-version for all. Without, it goes to raw.quarantine.
    """
    from headwater.ingest import MAX_DOCUMENT_BYTES, ingest

    if kind is None and paths and paths[0] in KINDS:
        kind, paths = paths[0], paths[1:]
    if kind == "python" and paths:
        raise UsageError("ingest python takes no path", hint=f"headwater ingest folder {paths[0]}")
    if kind != "python" and not paths:
        raise UsageError(
            f"ingest {kind} needs a path" if kind else "ingest needs a path",
            hint=f"headwater ingest {kind or 'folder'} PATH",
        )
    reports = []
    for path in paths or (None,):
        with byte_progress(session, f"ingest {path or 'installed Python'}") as advance:
            report = ingest(
                session.lake,
                kind or _kind_of(path, at),
                path,
                source=source,
                columns=parse_map(columns),
                layout=layout,
                origin=origin,
                generator=generator,
                generator_version=generator_version,
                globs=globs,
                html=html,
                at=at,
                sync=sync,
                progress=advance,
                max_document_bytes=max_document_bytes or MAX_DOCUMENT_BYTES,
            )
        reports.append(report)
        if not session.as_json:
            _show(session, report)
    if session.as_json:
        session.emit_json([report.to_dict() for report in reports])
    return 0


def _kind_of(path: str | None, at: str | None) -> str:
    from headwater.ingest import guess_kind

    kind = "git" if at is not None else guess_kind(path or "")
    if kind is None:
        raise UsageError(
            f"what {path} holds cannot be told from its name", hint=f"--kind {'|'.join(KINDS[1:])}"
        )
    return kind


def _show(session: Session, report: IngestReport) -> None:
    parts = [f"{count(report.documents_added)} added ({size(report.text_bytes_added)} of text)"]
    parts.append(f"{count(report.documents_unchanged)} unchanged")
    parts += [f"{count(report.documents_repeated)} repeated"] if report.documents_repeated else []
    parts += [f"{count(report.documents_removed)} removed"] if report.documents_removed else []
    if not report.changed:
        parts = ["nothing new: " + parts[1], *parts[2:]]
    passed = max(report.seconds, 1e-3)
    rates = f"{count(round(report.rows_seen / passed))}/s, {size(report.bytes_seen / passed)}/s"
    read = (
        f"read {count(report.rows_seen)} ({size(report.bytes_seen)}) in {seconds(report.seconds)} ({rates})"
    )
    version = f"raw.documents@{report.version}" if report.version is not None else "raw.documents"
    session.out.print(f"{version}: {', '.join(parts)}; {read}", soft_wrap=True)
    if report.quarantined:
        reasons = ", ".join(f"{plain(reason)} {count(n)}" for reason, n in report.quarantined.items())
        session.out.print(f"raw.quarantine: {reasons}", style="yellow", soft_wrap=True)
        if "synthetic_without_provenance" in report.quarantined:
            session.out.print(
                "to ingest synthetic rows, say what made them: --generator NAME --generator-version V, "
                "or --map generator=THEIRS,generator_version=THEIRS,…",
                style="yellow",
                soft_wrap=True,
            )


def parse_map(text: str | None) -> dict[str, str]:
    """``id=doc_id,text=content`` as a dictionary. Raises ``UsageError`` naming the part that is wrong."""
    found: dict[str, str] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not (ours and equals and theirs):
            raise UsageError(f"--map {part!r} is not OURS=THEIRS", hint="--map id=doc_id,text=content")
        if ours in found:
            raise UsageError(f"--map gives {ours!r} twice")
        found[ours] = theirs
    return found
