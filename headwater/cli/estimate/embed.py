"""``headwater estimate embed``: seconds, bytes and memory of embedding a table, in one stage or two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headwater.cli.amounts import AMOUNT
from headwater.cli.estimate.cost import check_cost
from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError

if TYPE_CHECKING:
    from headwater.estimate.embedding import EmbedEstimate

_STILL_IN = "python_textbook"


@click.command("embed")
@click.argument("table", default="raw.documents")
@click.option("--model", default="static", show_default=True, metavar="NAME", help="For all of TABLE.")
@click.option("--strong", metavar="NAME", help="A second model, for what is still in: minilm, a folder, …")
@click.option(
    "--strong-of", metavar="TABLE", help="What is still in.  [default: python_textbook where there is one]"
)
@click.option("--device", metavar="NAME", help="cuda, mps or cpu.  [default: the best there is]")
@click.option("--price-per-hour", type=AMOUNT, help="Of this machine, in any currency.")
@click.option("--max-cost", type=AMOUNT, help="Exit with 1 when the estimate is above it, or cannot be made.")
@json_option
@session_options
@pass_session
def command(
    session: Session,
    table: str,
    model: str,
    strong: str | None,
    strong_of: str | None,
    device: str | None,
    price_per_hour: float | None,
    max_cost: float | None,
) -> int:
    """Seconds, bytes and memory of embedding TABLE, measured on a sample of it on this machine.

    With --strong also those of the two-stage plan: a cheap model for all, a strong one for what is still in.

    \b
    headwater estimate embed
    headwater estimate embed --strong minilm --strong-of python_textbook --price-per-hour 0.4
    """
    from headwater.cli.progress import step_progress
    from headwater.estimate.embedding import estimate_embedding

    if strong_of is not None and strong is None:
        raise UsageError("--strong-of without a model for it", hint="--strong minilm")
    with step_progress(session, "measure") as step:
        step(model)
        stages = [estimate_embedding(session.lake, table, model=model, device=device)]
        if strong is not None:
            step(strong)
            stages.append(
                estimate_embedding(session.lake, strong_of or _STILL_IN, model=strong, device=device)
            )
    cost = price_per_hour * sum(s.seconds for s in stages) / 3600 if price_per_hour is not None else None
    if session.as_json:
        session.emit_json({"stages": [stage.to_json() for stage in stages], "cost": cost})
    else:
        _show_embed(session, stages, cost)
    if max_cost is not None:
        check_cost(cost, max_cost, hint="give --price-per-hour")
    return 0


def _show_embed(session: Session, stages: list[EmbedEstimate], cost: float | None) -> None:
    from headwater.report.words import count, seconds, share, size

    out = session.out
    for stage in stages:
        out.print(
            f"{plain(stage.table)} by {plain(stage.model)} on {stage.device}: {count(stage.num_documents)} "
            f"documents, {stage.dimensions} dimensions",
            style="bold",
            soft_wrap=True,
        )
        to_do = stage.num_texts - stage.known_texts
        known = (
            f"; {count(stage.known_texts)} are in {', '.join(stage.known_in)} already"
            if stage.known_texts
            else ""
        )
        rate = f"{stage.texts_per_second:,.{0 if stage.texts_per_second >= 100 else 1}f}"
        cut = share(round(stage.truncated_share * stage.sample_texts), stage.sample_texts)
        lines = [
            f"{count(to_do)} of {count(stage.num_texts)} distinct texts to embed{plain(known)}",
            f"about {seconds(stage.seconds)} at {rate} texts a second (measured on "
            f"{count(stage.sample_texts)} of them; {cut} are longer than the {count(stage.max_tokens)} "
            "tokens that the model reads)",
            f"{size(stage.lake_bytes)} in the lake, {size(stage.temporary_bytes)} of temporary disk, about "
            f"{size(stage.memory_bytes)} of memory",
        ]
        for line in lines:
            out.print(f"  {line}", soft_wrap=True)
    if len(stages) > 1:
        cheap, strong = stages
        for_all = cheap.num_texts / strong.texts_per_second
        both = seconds(sum(stage.seconds for stage in stages))
        out.print(
            f"both: about {both}; {plain(strong.model)} for all {count(cheap.num_texts)} texts: about "
            f"{seconds(for_all)}",
            soft_wrap=True,
        )
    if cost is not None:
        out.print(f"cost: about {cost:,.2f}")
