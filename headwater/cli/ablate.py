"""``headwater ablate``: what curation buys, measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from headwater.cli.amounts import AMOUNT
from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from headwater.ablate.experiment import Ablation
    from headwater.ablate.results import Measure, Measured, Outcome


@click.command("ablate", short_help="Train the same small model on several tables and compare.")
@click.argument("tables", nargs=-1)
@click.option(
    "--ladder", is_flag=True, help="Raw, then each family of rules of the curated table added in turn."
)
@click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME=RULE,…",
    help="Rules of one step of the ladder; repeatable.",
)
@click.option("--recipe", default="ablation_1m", show_default=True, metavar="NAME", help="Of every run.")
@click.option("--tokens", type=AMOUNT, default="2M", show_default=True, help="That each run trains on.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, metavar="N", help="Runs of each arm."
)
@click.option(
    "--sequence-length", type=click.IntRange(min=16), default=256, show_default=True, metavar="TOKENS"
)
@click.option("--vocab-size", type=click.IntRange(min=257), default=4096, show_default=True, metavar="N",
              help="Of the tokenizer that is trained on the first arm.")  # fmt: skip
@click.option(
    "--tokenizer", metavar="FILE|ID", help="tokenizer.json or id in the lake, instead of training one."
)
@click.option("--held-out", type=float, default=0.02, show_default=True, metavar="SHARE",
              help="Of duplicate clusters, kept out of every arm.")  # fmt: skip
@click.option(
    "--held-out-source",
    "sources",
    multiple=True,
    metavar="SOURCE",
    help="A held-out set of its own; repeatable.",
)
@click.option(
    "--held-out-bytes", type=AMOUNT, default="400k", show_default=True, help="Text of each held-out set."
)
@click.option("--pairs", type=click.IntRange(min=0), default=600, show_default=True, metavar="N",
              help="Minimal pairs of real and broken Python.")  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(min=1), default=2, show_default=True, metavar="N", help="Runs at a time."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Models and logs.  [default: runs/ablations]",
)
@click.option(
    "--trainer", metavar="DIR", help="Folder of train.py.  [default: the project's, or the library's]"
)
@click.option(
    "--page", type=click.Path(dir_okay=False), metavar="FILE", help="Write the plots as one HTML page."
)
@click.option(
    "--show", is_flag=False, flag_value="", metavar="[ID]", help="Print what was measured; train nothing."
)
@click.option("--dry-run", is_flag=True, help="Prepare and estimate; train nothing.")
@json_option
@session_options
@pass_session
def command(
    session: Session,
    tables: tuple[str, ...],
    ladder: bool,
    families: tuple[str, ...],
    recipe: str,
    tokens: float,
    seeds: int,
    sequence_length: int,
    vocab_size: int,
    tokenizer: str | None,
    held_out: float,
    sources: tuple[str, ...],
    held_out_bytes: float,
    pairs: int,
    jobs: int,
    out: str | None,
    trainer: str | None,
    page: str | None,
    show: str | None,
    dry_run: bool,
) -> int:
    """Train one recipe on each of TABLES, with the same tokens, tokenizer and seeds, and compare the models.

    A table is a name, NAME@VERSION, or `raw` for every candidate of the curated table. What is measured:
    bits per byte on documents held out of every arm, and minimal pairs of real and broken lines of Python.
    What is measured stays measured: the same command goes on where it was stopped.

    \b
    headwater ablate raw python_textbook
    headwater ablate raw python_textbook --ladder --held-out-source stdlib --page ablation.html
    headwater ablate --show
    """
    from headwater.ablate.experiment import prepare, run
    from headwater.ablate.results import outcome
    from headwater.ablate.settings import Settings
    from headwater.estimate.recipes import find_trainer

    if show is not None:
        found = outcome(session.lake, show or None)
        _report(session, found, page)
        return 0
    if not tables:
        raise UsageError("no tables to compare", hint="headwater ablate raw python_textbook")
    root = session.project.root if session.has_project else None
    settings = Settings(
        recipe=recipe,
        tokens=int(tokens),
        seeds=tuple(range(seeds)),
        sequence_length=sequence_length,
        vocab_size=vocab_size,
        tokenizer=tokenizer,
        held_out=held_out,
        held_out_sources=sources,
        held_out_bytes=int(held_out_bytes),
        pairs=pairs,
        jobs=jobs,
    )
    where = find_trainer(trainer, root)
    prepared = prepare(
        session.lake, tables, settings, where, ladder=ladder, families=_families(families), tell=session.note
    )
    _say_before(session, prepared)
    if dry_run:
        return 0
    folder = Path(out) if out else (root or Path.cwd()) / "runs" / "ablations"
    found = run(prepared, session.lake, where, root or Path.cwd(), folder.resolve(), session.note)
    _report(session, found, page)
    if found.missing:
        raise CheckFailed(f"{found.missing} runs are not measured", hint="run the same command again")
    return 0


def _families(given: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in given:
        name, equals, rules = text.partition("=")
        members = [rule.strip() for rule in rules.split(",") if rule.strip()]
        if not (equals and name.strip() and members):
            raise UsageError(
                f"--family {text!r} is not NAME=RULE,…", hint="--family size=long_enough,short_enough"
            )
        found[name.strip()] = members
    return found


def _say_before(session: Session, prepared: Ablation) -> None:
    from headwater.report.words import count, size

    settings, questions = prepared.settings, prepared.questions
    sets = ", ".join(f"{name} {size(n)}" for name, n in questions.set_bytes.items())
    session.note(
        f"ablation {prepared.ablation_id}: {len(prepared.arms)} arms × {len(settings.seeds)} seeds, "
        f"{prepared.num_done} of them measured"
    )
    session.note(
        f"a run: {settings.recipe}, {count(prepared.parameters)} parameters, {count(prepared.tokens)} tokens "
        f"in {count(prepared.steps)} steps; tokenizer {prepared.tokenizer_id[:12]}"
    )
    session.note(f"held out of every arm: {sets}; {questions.pairs.num_rows} minimal pairs")
    left = prepared.seconds_left
    if not prepared.todo:
        return
    if prepared.rate is None or left is None:
        session.note(
            "no past run measured this model's rate: the time left shows with the first run that ends"
        )
    else:
        session.note(
            f"about {left / 60:.0f} min of training: {len(prepared.todo)} runs, {settings.jobs} at a time, "
            f"{prepared.rate.tokens_per_second:,.0f} tokens/s each ({prepared.rate.source})"
        )


def _report(session: Session, found: Outcome, page: str | None) -> None:
    if page is not None:
        from headwater.ablate.page import write_page

        session.note(f"wrote {write_page(found, Path(page))}")
    if session.as_json:
        session.emit_json(found)
    else:
        _show(session, found)


def _show(session: Session, found: Outcome) -> None:
    from headwater.ablate.results import ACCURACY, ALL_PAIRS
    from headwater.ablate.words import same_and_different

    session.out.print(
        f"ablation {found.ablation_id} · {len(found.seeds)} seeds · 95 % t intervals over seeds", style="bold"
    )
    _show_arms(session, found)
    kinds = [m for m in found.measures if m.measure == ACCURACY and m.part != ALL_PAIRS]
    for measure in found.measures:
        if measure not in kinds:
            _show_measure(session, measure)
    if kinds:
        _show_kinds(session, kinds)
    session.out.print()
    for line in same_and_different(found):
        session.out.print(plain(line), style="dim", soft_wrap=True)


def _show_measure(session: Session, measure: Measure) -> None:
    from rich.table import Table

    from headwater.ablate.words import BETTER

    unit = "bytes of text" if measure.measure == "bits_per_byte" else "pairs"
    session.out.print(
        f"\n{measure.measure.replace('_', ' ')}, {plain(measure.part)}: {measure.count:,} {unit}; "
        f"{BETTER[measure.measure]}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("arm", no_wrap=True)
    for name in ("mean", "±", "against the first", "±", "seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in measure.arms:
        table.add_row(plain(arm.arm), *_cells(arm, percent=measure.measure == "accuracy"))
    session.out.print(table)


def _show_kinds(session: Session, kinds: list[Measure]) -> None:
    """Mean accuracy by kind of pair, without intervals (--json and the page have them)."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("\naccuracy by kind", no_wrap=True)
    for measure in kinds:
        table.add_column(f"{plain(measure.part)}\n({measure.count:,})", justify="right", no_wrap=True)
    by_arm: dict[str, list[str]] = {}
    for measure in kinds:
        for arm in measure.arms:
            by_arm.setdefault(arm.arm, []).append(f"{100 * arm.value.mean:.1f}")
    for name, cells in by_arm.items():
        table.add_row(plain(name), *cells)
    session.out.print()
    session.out.print(table)


def _show_arms(session: Session, found: Outcome) -> None:
    from rich.table import Table

    from headwater.report.words import count, size

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("arm", no_wrap=True)
    for name in ("documents", "text", "epochs", "tokens/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("rules added")
    before: set[str] = set()
    for arm in found.arms:
        added = [rule for rule in arm.rules if rule not in before]
        before |= set(arm.rules)
        epochs = "–" if arm.epochs is None else f"{arm.epochs:.3g}" + (" (repeated)" if arm.repeated else "")
        rate = "–" if arm.tokens_per_second is None else f"{arm.tokens_per_second:,.0f}"
        table.add_row(
            plain(arm.arm), count(arm.documents), size(arm.text_bytes), epochs, rate, ", ".join(added)
        )
    session.out.print(table)


def _cells(arm: Measured, *, percent: bool) -> tuple[str, ...]:
    scale, digits = (100, 1) if percent else (1, 4)

    def shown(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{scale * value:{sign}.{digits}f}"

    difference = arm.difference
    mark = "" if difference is None or not difference.excludes_zero else " *"
    return (
        shown(arm.value.mean),
        shown(arm.value.half_width),
        shown(difference.mean, "+") + mark if difference else "",
        shown(difference.half_width) if difference else "",
        str(arm.value.n),
    )
