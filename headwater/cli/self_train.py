"""``headwater self-train``: sample, verify, keep what is right, tune the base, and again."""

from __future__ import annotations

from pathlib import Path

import click

from headwater.cli.session import Session, json_option, pass_session, session_options
from headwater.errors import UsageError


def _seeds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of whole numbers, as in 0,1,2") from None


@click.command("self-train", short_help="Improve a model by its own verified solutions (ReST-EM).")
@click.argument("recipe", required=False)
@click.option("--seeds", callback=_seeds, metavar="N,…", help="In place of the recipe's.")
@click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="In place of the recipe's.")
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Models and logs.  [default: runs/self-training]",
)
@click.option(
    "--trainer", metavar="DIR", help="Folder of train.py.  [default: the project's, or the library's]"
)
@click.option(
    "--page", type=click.Path(dir_okay=False), metavar="FILE", help="Write the plot as one HTML page."
)
@click.option(
    "--show", is_flag=False, flag_value="", metavar="[ID]", help="Print what was measured; train nothing."
)
@json_option
@session_options
@pass_session
def command(
    session: Session,
    recipe: str | None,
    seeds: tuple[int, ...] | None,
    rounds: int | None,
    out: str | None,
    trainer: str | None,
    page: str | None,
    show: str | None,
) -> int:
    """Run the self-training RECIPE: one that comes with Headwater, or a TOML file of your own.

    Each round samples solutions of the training problems, verifies them, keeps the right ones up to a cap,
    and tunes the base on them. What is finished stays finished: the same command goes on where it was
    stopped, and more --rounds or --seeds add to what is there.

    \b
    headwater self-train sorting --page self-training.html
    headwater self-train --show
    """
    from dataclasses import replace

    from headwater.synthesis.self_training.recipe import find_recipe, recipe_names
    from headwater.synthesis.self_training.results import outcome

    if show is not None:
        found = outcome(session.lake, show or None)
    else:
        if recipe is None:
            raise UsageError("no recipe", hint=f"one of {', '.join(recipe_names())}, or a file.toml")
        from headwater.estimate.recipes import find_trainer
        from headwater.synthesis.self_training.loop import self_train
        from headwater.synthesis.self_training.tuning import TrainerWorkshop

        settings = find_recipe(recipe)
        settings = replace(settings, seeds=seeds or settings.seeds, rounds=rounds or settings.rounds)
        root = session.project.root if session.has_project else Path.cwd()
        folder = Path(out) if out else root / "runs" / "self-training"
        where = find_trainer(trainer, root if session.has_project else None)
        workshop = TrainerWorkshop(session.lake, settings, where, folder.resolve(), root)
        found = self_train(session.lake, settings, workshop, session.note)
    if page is not None:
        from headwater.synthesis.self_training.page import write_page

        session.note(f"wrote {write_page(found, Path(page))}")
    session.show(found)
    return 0
