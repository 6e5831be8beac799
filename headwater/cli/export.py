"""``headwater export``: a table with its text as files for other tools."""

from __future__ import annotations

import click

from headwater.cli.session import Session, json_option, pass_session, session_options
from headwater.errors import UsageError
from headwater.report.words import count, size

FORMATS = ("parquet", "jsonl", "dolma", "datatrove", "megatron")


@click.command("export", short_help="Write a table with its text for other tools.")
@click.argument("table")
@click.option("--format", "format_", type=click.Choice(FORMATS), required=True, help="Files to write.")
@click.option("--to", required=True, metavar="DIR", help="Folder to make.")
@click.option("--version", metavar="N|TAG|approved", help="Version of TABLE.  [default: the latest]")
@click.option(
    "--shard-bytes", type=click.IntRange(min=1), metavar="N", help="Text in one file.  [default: 1 GiB]"
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in DIR.")
@json_option
@session_options
@pass_session
def command(
    session: Session,
    table: str,
    format_: str,
    to: str,
    version: str | None,
    shard_bytes: int | None,
    overwrite: bool,
) -> int:
    """Write TABLE and the text of its documents to DIR, with a manifest.json of what it is.

    parquet is zstd-compressed; jsonl holds one flat object a line; dolma makes documents/ and attributes/
    with the table's numbers as spans; datatrove makes text, id and metadata. megatron takes a packed table
    (sequences, held_out, tokens) and makes .bin and .idx, with a Parquet file that says which documents
    each sequence holds. DIR appears when everything is written, or not at all.

    \b
    headwater export python_textbook --format parquet --version approved --to textbook-parquet
    headwater export python_textbook --format dolma --to textbook-dolma
    headwater export sequences --format megatron --to textbook-megatron
    """
    from headwater.cli.progress import step_progress
    from headwater.export import SHARD_BYTES, export
    from headwater.lake.names import read_version

    if format_ == "megatron":
        if shard_bytes:
            raise UsageError("a Megatron data set is one .bin", hint="leave out --shard-bytes")
        return _megatron(session, table, to, version, overwrite)
    with step_progress(session, f"export {table}") as step:
        report = export(
            session.lake,
            table,
            format=format_,
            to=to,
            version=read_version(version),
            shard_bytes=shard_bytes or SHARD_BYTES,
            overwrite=overwrite,
            progress=lambda done, total, _: step(f"{done:,} of {total:,} documents"),
        )
    if session.as_json:
        session.emit_json(report)
        return 0
    stored = sum(file.bytes for file in report.files)
    session.out.print(
        f"{to}: {count(report.rows)} documents of {report.table}@{report.version}, "
        f"{size(report.text_bytes)} of text in {len(report.files)} files ({size(stored)})",
        soft_wrap=True,
    )
    if report.approval is None:
        session.note(f"{report.table}@{report.version} has no standing approval; the manifest says so")
    return 0


def _megatron(session: Session, table: str, to: str, version: str | None, overwrite: bool) -> int:
    from headwater.cli.progress import step_progress
    from headwater.export import export_megatron
    from headwater.lake.names import read_version

    with step_progress(session, f"export {table}") as step:
        report = export_megatron(
            session.lake,
            table,
            to=to,
            version=read_version(version),
            overwrite=overwrite,
            progress=lambda done, total, _: step(f"{done:,} of {total:,} rows"),
        )
    if session.as_json:
        session.emit_json(report)
        return 0
    stored = sum(file.bytes for file in report.files)
    session.out.print(
        f"{to}/{report.prefix}: {count(report.rows)} {report.unit}s of {report.table}@{report.version}, "
        f"{count(report.tokens)} tokens as {report.token_type} ({size(stored)})",
        soft_wrap=True,
    )
    if report.approval is None:
        session.note("what was packed has no standing approval; the manifest says so")
    return 0
