"""``headwater estimate label``: tokens and cost of asking a model about so many texts."""

from __future__ import annotations

import click

from headwater.cli.amounts import AMOUNT
from headwater.cli.estimate.cost import check_cost
from headwater.cli.session import Session, json_option, pass_session, plain, session_options


@click.command("label")
@click.argument("table", default="raw.documents")
@click.option("--n", "number", type=click.IntRange(min=1), required=True, metavar="N", help="Texts to label.")
@click.option("--price-in", type=AMOUNT, metavar="P", help="Of a million prompt tokens.")
@click.option("--price-out", type=AMOUNT, metavar="P", help="Of a million completion tokens.")
@click.option("--rubric", metavar="FILE", help="What a score means.  [default: the one that is shipped]")
@click.option(
    "--tokenizer", metavar="FILE", help="tokenizer.json of the model.  [default: 3.5 bytes a token]"
)
@click.option("--max-cost", type=AMOUNT, help="Exit with 1 when the estimate is above it, or cannot be made.")
@json_option
@session_options
@pass_session
def command(
    session: Session,
    table: str,
    number: int,
    price_in: float | None,
    price_out: float | None,
    rubric: str | None,
    tokenizer: str | None,
    max_cost: float | None,
) -> int:
    """Tokens and cost of asking a model about N texts of TABLE, by the questions of a sample.

    \b
    headwater estimate label --n 1000 --price-in 0.5 --price-out 1.5
    """
    from headwater.estimate.labeling import estimate_label
    from headwater.report.words import count
    from headwater.scoring.rubric import Rubric

    found = estimate_label(
        session.lake,
        table,
        num_texts=number,
        rubric=Rubric.read(rubric),
        price_in=price_in,
        price_out=price_out,
        tokenizer=tokenizer,
    )
    if session.as_json:
        session.emit_json(found)
    else:
        by = found.tokenizer or f"{found.bytes_per_token:.1f} bytes a token"
        lines = [
            f"{count(found.num_texts)} texts like those of {found.table} "
            f"(a sample of {count(found.sample_texts)})",
            f"  {count(found.prompt_tokens)} ± {count(found.prompt_tokens_half_width)} tokens in, of which "
            f"{count(found.rubric_tokens * found.num_texts)} are the rubric (by {by})",
            f"  {count(found.completion_tokens)} tokens out, "
            f"at most {count(found.completion_tokens_at_most)}",
        ]
        if found.cost is not None and found.cost_at_most is not None:
            lines.append(f"  cost {found.cost:,.2f}, at most about {found.cost_at_most:,.2f}")
        for line in lines:
            session.out.print(plain(line), soft_wrap=True)
    if max_cost is not None:
        check_cost(found.cost, max_cost, hint="give --price-in and --price-out")
    return 0
