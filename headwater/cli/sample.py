"""``headwater sample``: a small lake for CI."""

from __future__ import annotations

import click

from headwater.cli.session import Session, json_option, pass_session, session_options
from headwater.report.words import count, share, size


@click.command("sample", short_help="Write a small lake of the same documents everywhere.")
@click.option("--share", "part", type=float, metavar="S", help="Share of the documents, e.g. 0.01.")
@click.option("--documents", type=click.IntRange(min=1), metavar="N", help="Or at least so many documents.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses other documents."
)
@click.option("--by-source", is_flag=True, help="Meet the share in every source, rounded up.")
@click.option("--to", required=True, metavar="URI", help="Lake to write: a folder or s3://bucket/lake.")
@json_option
@session_options
@pass_session
def command(
    session: Session, part: float | None, documents: int | None, seed: int, by_source: bool, to: str
) -> int:
    """Write a sample of raw.documents, with its text, into another lake that CI can build on.

    A hash of the id decides, so every machine takes the same documents, and a larger share keeps those of
    a smaller one. Near-duplicates stay together where duplicate_clusters is built.

    \b
    headwater sample --share 0.01 --to ci/lake
    headwater build --lake ci/lake
    """
    from headwater.cli.progress import step_progress
    from headwater.sample import sample

    with step_progress(session, "sample") as step:
        report = sample(
            session.lake,
            to,
            share=part,
            documents=documents,
            seed=seed,
            by_source=by_source,
            progress=lambda done: step(f"{done:,} documents"),
        )
    if session.as_json:
        session.emit_json(report)
        return 0
    taken = share(report.documents, report.documents_in_all)
    session.out.print(
        f"{report.lake}: {count(report.documents)} of {count(report.documents_in_all)} documents ({taken}), "
        f"{size(report.text_bytes)} of text, digest {report.digest}",
        soft_wrap=True,
    )
    together = (
        f"clusters of {report.closed_over} stay whole"
        if report.closed_over
        else "no duplicate_clusters table"
    )
    session.note(together if report.closed_over else f"{together}: each document was chosen by itself")
    return 0
