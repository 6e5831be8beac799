"""``headwater scorer``: fit, list, report, export and import scorers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.report.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.group("scorer", short_help="Fit, list, report and export quality scorers.")
def command() -> None:
    """Scorers that are fitted on labels: a regression on hashed words, or on embeddings."""


@command.command("fit")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(["ngrams", "embedding"]), default="ngrams", show_default=True,
    help="What the regression reads.",
)  # fmt: skip
@click.option("--rubric", metavar="DIGEST", help="Labels by this rubric, where there are several.")
@click.option("--annotator", "annotators", multiple=True, metavar="NAME", help="Labels of these; repeatable.")
@click.option("--embeddings", default="embeddings", show_default=True, metavar="TABLE", help="For embedding.")
@click.option(
    "--embedding-model", metavar="MODEL", help="Embed the labeled texts with it, instead of a table."
)
@click.option("--bits", type=click.IntRange(8, 20), default=16, show_default=True, help="2 ** bits buckets.")
@click.option(
    "--folds", type=click.IntRange(2, 100), default=10, show_default=True, help="Of the validation."
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 100),
    help="With other folds.  [default: 5; 1 beyond 2,000 labels]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the folds.")
@click.option("--to", metavar="DIR", help="Also export it there.")
@json_option
@session_options
@pass_session
def fit_(
    session: Session,
    name: str,
    kind: str,
    rubric: str | None,
    annotators: tuple[str, ...],
    embeddings: str,
    embedding_model: str | None,
    bits: int,
    folds: int,
    repeats: int | None,
    seed: int,
    to: str | None,
) -> int:
    """Fit the scorer NAME on the lake's labels, validate and calibrate it, and store it as a new version.

    Folds never split a source, nor near-copies: the figures are of packages that were not trained on.

    \b
    headwater scorer fit mine --to scorers
    headwater scorer fit mine_by_meaning --kind embedding
    """
    from headwater.cli.progress import step_progress
    from headwater.scoring.artifact import write
    from headwater.scoring.fit import fit

    with step_progress(session, "scorer fit") as step:
        found = fit(
            session.lake,
            name,
            kind=kind,
            rubric=rubric,
            annotators=annotators,
            embeddings=embeddings,
            embedding_model=embedding_model,
            bits=bits,
            num_folds=folds,
            repeats=repeats,
            seed=seed,
            progress=step,
        )
    file = write(found.stored.scorer, to) if to else None
    if session.as_json:
        session.emit_json({**found.to_json(), "file": str(file) if file else None})
        return 0
    stored = found.stored
    again = "" if stored.is_new else " (there already)"
    session.out.print(f"{stored.name}@{stored.version} {stored.digest}{again}", style="bold")
    show_quality(session, found.trained.quality.to_json())
    if found.missing:
        session.note(f"{found.missing:,} labels left out: the lake does not hold their text or embedding")
    if file:
        session.note(
            f"wrote {file}; to apply it: headwater build --vars '{{edu_scores: true, edu_scorer: {file}}}'"
        )
    return 0


@command.command("list")
@json_option
@session_options
@pass_session
def list_(session: Session) -> int:
    """Every version of every scorer in the lake."""
    from headwater.scoring.store import scorers

    found = scorers(session.lake)
    if session.as_json:
        session.emit_json({"scorers": found})
        return 0
    for row in found:
        model = f" of {row['embedding_model']}" if row["embedding_model"] else ""
        session.out.print(
            plain(
                f"{row['name']}@{row['version']} {row['digest']}: {row['kind']}{model}, "
                f"{count(row['num_labels'])} labels, rank correlation {_number(row['rank_correlation'])}"
            ),
            soft_wrap=True,
        )
    if not found:
        session.out.print("no scorer in this lake", soft_wrap=True)
    return 0


@command.command("report")
@click.argument("name")
@click.option("--to", default="scorer.html", show_default=True, metavar="FILE", help="The page.")
@click.option(
    "--scores", default="edu_scores", show_default=True, metavar="TABLE", help="Its scores, if built."
)
@json_option
@session_options
@pass_session
def report(session: Session, name: str, to: str, scores: str) -> int:
    """Write a page about the scorer NAME: calibration plot, quality, the highest and lowest scored files.

    NAME is a scorer of the lake, name@version, or `python`, the one that comes with Headwater.
    """
    from headwater.scoring.report import report_facts, write_report

    found = report_facts(session.lake, name, scores=scores)
    path = write_report(found, to)
    if session.as_json:
        session.emit_json({**found.to_json(), "page": str(path)})
        return 0
    session.out.print(found.title, style="bold")
    show_quality(session, found.quality)
    for title, rows in (("highest", found.highest), ("lowest", found.lowest)):
        for row in rows:
            session.out.print(
                plain(f"  {title} {row['score']:.2f} {row['source']}/{row['path']}"), soft_wrap=True
            )
    session.note(f"wrote {path}")
    return 0


@command.command("export")
@click.argument("name")
@click.option(
    "--to", default="scorers", show_default=True, metavar="DIR", help="A folder, or a .safetensors file."
)
@json_option
@session_options
@pass_session
def export(session: Session, name: str, to: str) -> int:
    """Write the scorer NAME (or name@version) to a file that the operator edu_score reads."""
    from headwater.scoring.artifact import write
    from headwater.scoring.store import load

    found = load(session.lake, name)
    path = write(found.scorer, to)
    if session.as_json:
        session.emit_json(
            {"name": found.name, "version": found.version, "digest": found.digest, "file": str(path)}
        )
        return 0
    session.out.print(plain(f"{found.name}@{found.version}: {path}"), soft_wrap=True)
    return 0


@command.command("import")
@click.argument("path", type=click.Path())
@json_option
@session_options
@pass_session
def import_(session: Session, path: str) -> int:
    """Add the scorer in a file to the lake, as a new version."""
    from headwater.scoring.artifact import read
    from headwater.scoring.store import save_file

    scorer = read(path)
    found = save_file(session.lake, scorer, scorer.to_bytes())
    if session.as_json:
        session.emit_json({"name": found.name, "version": found.version, "digest": found.digest})
        return 0
    again = "" if found.is_new else " (there already)"
    session.out.print(f"{found.name}@{found.version} {found.digest}{again}", soft_wrap=True)
    return 0


def show_quality(session: Session, quality: Mapping[str, Any]) -> None:
    """The figures of a validation."""
    from rich.table import Table

    out = session.out
    spread = quality["spread"]
    labels = ", ".join(f"{score}: {n:,}" for score, n in quality["labels"].items())
    out.print(
        f"  {count(quality['num_labels'])} labels ({labels}) of {count(quality['num_groups'])} groups; "
        f"{quality['num_folds']} folds by group, {quality['num_repeats']} times",
        soft_wrap=True,
    )
    out.print(
        f"  rank correlation {quality['rank_correlation']:.3f} ± {spread['rank_correlation']:.3f}, RMSE "
        f"{quality['rmse']:.3f} (the mean alone: {quality['rmse_of_the_mean']:.3f}), calibration error "
        f"{quality['expected_calibration_error']:.3f}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("label at least", "files", "found", "precision", "recall", "F1", "AUC"):
        table.add_column(name, justify="right")
    for row in quality["thresholds"]:
        table.add_row(
            str(row["threshold"]), count(row["positives"]), _number(row["found"], 1),
            *(_number(row[key]) for key in ("precision", "recall", "f1", "auc")),
        )  # fmt: skip
    out.print(table)


def _number(value: float | None, places: int = 3) -> str:
    return "–" if value is None else f"{value:.{places}f}"
