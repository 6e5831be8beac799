"""``headwater estimate generate``: prompts to send, tokens and cost of a generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headwater.cli.amounts import AMOUNT
from headwater.cli.estimate.cost import check_cost
from headwater.cli.generate import open_by_options, prices_of, sampling_options
from headwater.cli.session import Session, json_option, pass_session, plain, session_options

if TYPE_CHECKING:
    from headwater.estimate.generating import GenerateEstimate


@click.command("generate")
@click.argument("prompts")
@sampling_options
@click.option("--api-key-env", hidden=True)
@click.option("--max-cost", type=AMOUNT, help="Exit with 1 when the estimate is above it.")
@json_option
@session_options
@pass_session
def command(session: Session, /, prompts: str, max_cost: float | None, **options: Any) -> int:
    """Prompts to send, tokens and cost of a generation, with the options of `headwater generate`.

    What is answered already costs nothing. Rates are those of past answers of the same generator.

    \b
    headwater estimate generate prompts --generator https://host/v1#model --max-tokens 400 \\
        --price-in 0.5 --price-out 1.5 --max-cost 20
    """
    from headwater.estimate.generating import estimate_generate

    prices = prices_of(options["price_in"], options["price_out"])
    with open_by_options(options) as generator:
        found = estimate_generate(
            session.lake,
            prompts,
            generator,
            seeds=options["seeds"],
            raw=options["raw"],
            limit=options["limit"],
            prices=prices,
        )
    session.emit_json(found) if session.as_json else _show_generate(session, found)
    if max_cost is not None:
        check_cost(found.cost, max_cost, hint="give --price-in and --price-out, of a million tokens each")
    return 0


def _show_generate(session: Session, found: GenerateEstimate) -> None:
    from headwater.report.words import count, seconds

    out = session.out
    out.print(
        plain(f"{found.prompts_table}: {count(found.to_send)} of {count(found.prompts)} prompts to send to "
              f"{found.generator}"),
        style="bold", soft_wrap=True,
    )  # fmt: skip
    rest = [
        f"{count(number)} {words}"
        for number, words in (
            (found.cached, "answered already"),
            (found.failed_before, "failed for good"),
            (found.unfilled, "without the text of a seed"),
        )
        if number
    ]
    lines = [", ".join(rest)] if rest else []
    lines += [
        f"prompts: about {count(found.prompt_tokens)} tokens ({found.prompt_tokens_from}), "
        f"at most {count(found.most_prompt_tokens)}",
        f"answers: about {count(found.completion_tokens)} tokens ({found.completion_tokens_from}), "
        f"at most {count(found.most_completion_tokens)}",
    ]
    if found.cost is not None:
        lines.append(f"cost: about {found.cost:,.4f}, at most {found.most_cost:,.4f}")
    if found.seconds_per_completion is not None:
        total = found.seconds_per_completion * found.to_send
        lines.append(f"time: {seconds(total)} of answering (past answers), divided by what runs at once")
    for line in lines:
        out.print(f"  {plain(line)}", soft_wrap=True)
