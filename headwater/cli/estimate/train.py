"""``headwater estimate train``: tokens, parameters, operations, time and cost of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headwater.cli.amounts import AMOUNT
from headwater.cli.estimate.cost import check_cost
from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headwater.estimate.scaling import Optimum
    from headwater.estimate.training import TrainingEstimate

HINT = "give --price-per-gpu-hour, and --tokens-per-second or --mfu with --device"


@click.command("train")
@click.argument("recipe", required=False)
@click.option("--parameters", type=AMOUNT, help="Of the model, instead of a recipe.")
@click.option("--tokens", type=AMOUNT, help="To train on.  [default: the recipe's steps]")
@click.option("--flops", type=AMOUNT, help="A budget: which model and how many tokens are optimal for it.")
@click.option("--gpu-hours", type=AMOUNT, help="A budget in hours of --device at --mfu.")
@click.option("--table", default="sequences", show_default=True, help="Packed table to train on.")
@click.option("--sequence-length", type=click.IntRange(min=2), help="Without a packed table.  [default: 512]")
@click.option("--vocab-size", type=click.IntRange(min=2), help="Without a packed table.  [default: 8192]")
@click.option("--tokens-per-second", type=AMOUNT, help="Over all devices.  [default: that of past runs]")
@click.option(
    "--mfu", type=float, metavar="SHARE", help="Share of the peak of --device that training reaches."
)
@click.option("--device", metavar="NAME", help="a100, h100, h200, …: for --mfu.")
@click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help="Number of them.")
@click.option("--price-per-gpu-hour", type=AMOUNT, help="In any currency.")
@click.option("--max-cost", type=AMOUNT, help="Exit with 1 when the estimate is above it, or cannot be made.")
@click.option(
    "--trainer", metavar="DIR", help="Folder of train.py.  [default: the project's, or the library's]"
)
@json_option
@session_options
@pass_session
def command(
    session: Session,
    recipe: str | None,
    parameters: float | None,
    tokens: float | None,
    flops: float | None,
    gpu_hours: float | None,
    table: str,
    sequence_length: int | None,
    vocab_size: int | None,
    tokens_per_second: float | None,
    mfu: float | None,
    device: str | None,
    devices: int,
    price_per_gpu_hour: float | None,
    max_cost: float | None,
    trainer: str | None,
) -> int:
    """Compute-optimal tokens and parameters, operations, epochs, time and cost of a training run.

    The rate is the one that past runs of the recipe measured, unless one is given.

    \b
    headwater estimate train llama_1m_cpu
    headwater estimate train --parameters 1B --mfu 0.45 --device h200 --devices 8 --price-per-gpu-hour 3
    headwater estimate train --gpu-hours 500 --mfu 0.4 --device h100
    """
    if recipe is None and parameters is None:
        return _budget(session, flops, gpu_hours, tokens, mfu, device)
    if recipe is not None and parameters is not None:
        raise UsageError("a recipe has its own parameters", hint="give RECIPE or --parameters")
    from headwater.estimate.recipes import find_trainer, recipe_settings
    from headwater.estimate.training import estimate_training, find_data

    root = session.project.root if session.has_project else None
    settings = recipe_settings(find_trainer(trainer, root), recipe) if recipe is not None else None
    lake = session.lake if session.has_project or session.lake_uri else None
    packed = find_data(lake, table) if lake is not None else None
    facts: dict[str, Any] = dict(packed[0].provenance.extra) if packed else {}
    found = estimate_training(
        recipe=recipe,
        settings=settings,
        parameters=parameters,
        tokens=tokens,
        data=packed[1] if packed else None,
        sequence_length=sequence_length or int(facts.get("sequence_length", 512)),
        vocab_size=vocab_size or int(facts.get("vocab_size", 8192)),
        lake=lake,
        tokens_per_second=tokens_per_second,
        mfu=mfu,
        device=device,
        devices=devices,
        price_per_gpu_hour=price_per_gpu_hour,
    )
    session.emit_json(found) if session.as_json else _show_training(session, found)
    if max_cost is not None:
        check_cost(found.cost, max_cost, hint=HINT)
    return 0


def _budget(
    session: Session,
    flops: float | None,
    gpu_hours: float | None,
    tokens: float | None,
    mfu: float | None,
    device: str | None,
) -> int:
    """No model is given: which one is optimal for the budget?"""
    from headwater.estimate.scaling import optima
    from headwater.estimate.training import peak_of

    asked = {"--flops": flops, "--gpu-hours": gpu_hours, "--tokens": tokens}
    given = [name for name, value in asked.items() if value]
    if len(given) != 1:
        raise UsageError(
            f"got {' and '.join(given) or 'nothing'} to estimate from",
            hint="name a recipe, or give one of --parameters, --flops, --gpu-hours and --tokens",
        )
    if gpu_hours is not None:
        if mfu is None or device is None or not 0 < mfu <= 1:
            raise UsageError("--gpu-hours need --mfu up to 1, and --device", hint="--mfu 0.4 --device h100")
        flops = gpu_hours * 3600 * mfu * peak_of(device)
    found = optima(flops=flops) if flops is not None else optima(tokens=tokens)
    if session.as_json:
        session.emit_json({"flops": flops, "tokens": tokens, "optima": [vars(each) for each in found]})
    else:
        budget = f"{flops:.3g} FLOPs" if flops is not None else f"{_si(tokens or 0)} tokens"
        session.out.print(f"compute-optimal for {budget}", style="bold")
        _show_optima(session, found)
    return 0


def _show_training(session: Session, found: TrainingEstimate) -> None:
    from headwater.report.words import count, seconds

    out = session.out
    out.print(
        f"{plain(found.recipe or 'a model')}: {_si(found.parameters)} parameters, {_si(found.tokens)} tokens "
        f"({found.tokens_from}; {found.tokens_per_parameter:.3g} for each parameter)",
        style="bold", soft_wrap=True,
    )  # fmt: skip
    out.print(f"  {found.flops:.3g} FLOPs, {found.flops_per_token:.3g} a token", soft_wrap=True)
    if found.data is not None and found.epochs is not None:
        worth = "" if found.epochs <= 1 else f", worth {_si(found.effective_tokens or 0)} fresh tokens"
        out.print(
            f"  {found.epochs:.3g} epochs over {plain(found.data.table)} ({count(found.data.tokens)} tokens)"
            f"{worth}",
            soft_wrap=True,
        )
    if found.speed is not None and found.seconds is not None and found.gpu_hours is not None:
        took = seconds(found.seconds) if found.seconds < 7200 else f"{found.seconds / 3600:,.1f} h"
        cost = f", cost {found.cost:,.2f}" if found.cost is not None else ""
        out.print(
            f"  {took} at {found.speed.tokens_per_second:,.0f} tokens/s ({plain(found.speed.source)}), "
            f"{found.gpu_hours:,.3g} device hours{cost}",
            soft_wrap=True,
        )
    else:
        out.print("  time unknown: no past run of this recipe; --tokens-per-second, or --mfu and --device")
    out.print("\nfor this number of parameters")
    _show_optima(session, found.optima)
    out.print("\nfor the same operations")
    _show_optima(session, found.optima_for_budget)
    for warning in found.warnings:
        session.err.print(f"warning: {plain(warning)}", style="yellow", soft_wrap=True)


def _show_optima(session: Session, found: Sequence[Optimum]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("law", no_wrap=True)
    for name in ("parameters", "tokens", "tokens / parameter", "FLOPs"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        ratio = each.tokens / each.parameters
        table.add_row(each.law, _si(each.parameters), _si(each.tokens), f"{ratio:,.1f}", f"{each.flops:.2e}")
    session.out.print(table)


def _si(value: float) -> str:
    """``1.23 M``: three significant digits."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"
