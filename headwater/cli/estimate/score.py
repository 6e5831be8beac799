"""``headwater estimate score``: the time to score a table by words, by embeddings, and in two stages."""

from __future__ import annotations

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options


@click.command("score")
@click.argument("table", default="raw.documents")
@click.option(
    "--model", "models", multiple=True, metavar="MODEL", help="Embedding models.  [default: static, minilm]"
)
@click.option(
    "--top-share", type=float, default=0.2, show_default=True, help="What a second stage scores again."
)
@click.option("--device", metavar="NAME", help="cuda, mps or cpu, for embeddings.")
@json_option
@session_options
@pass_session
def command(
    session: Session, table: str, models: tuple[str, ...], top_share: float, device: str | None
) -> int:
    """Time to score TABLE by words, by each embedding, and in two stages, by scoring a sample here."""
    from headwater.estimate.scoring import MODELS, estimate_score
    from headwater.report.words import count, seconds

    found = estimate_score(session.lake, table, models=models or MODELS, top_share=top_share, device=device)
    if session.as_json:
        session.emit_json(found)
        return 0
    out = session.out
    out.print(
        f"{found.table}: {count(found.num_documents)} documents; reading them comes on top", soft_wrap=True
    )
    for stage in found.stages:
        rate = (
            f"{seconds(stage.seconds or 0)} at {count(round(stage.documents_per_second))} documents/s"
            if stage.documents_per_second
            else stage.note
        )
        out.print(plain(f"  {stage.scorer}: {rate}"), soft_wrap=True)
    if found.two_stage_seconds is not None:
        second = found.two_stage[1]
        out.print(
            plain(
                f"  in two stages: {seconds(found.two_stage_seconds)} ({found.two_stage[0].scorer} for all, "
                f"{second.scorer} for {count(second.num_documents)})"
            ),
            soft_wrap=True,
        )
    return 0
