"""``headwater label``: choose texts, and have a model or a person score them from 0 to 5."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.amounts import AMOUNT
from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError
from headwater.report.words import count

if TYPE_CHECKING:
    from headwater.scoring.labels import LabelReport

_rubric = click.option(
    "--rubric", metavar="FILE", help="What a score means.  [default: headwater/educational/rubric.md]"
)


@click.group("label", short_help="Choose texts and score them from 0 to 5.")
def command() -> None:
    """Choose a sample of texts, and get a score from 0 to 5 for each: from a model, a person or a file."""


@command.command("choose")
@click.argument("table", default="raw.documents")
@click.option(
    "--n", "number", type=click.IntRange(min=1), required=True, metavar="N", help="Texts to choose."
)
@click.option(
    "--stratify",
    multiple=True,
    metavar="SQL",
    help="Equal numbers of each value of this expression; repeatable.",
)
@click.option("--where", metavar="SQL", help="Condition on the candidates.")
@click.option("--sql", metavar="QUERY", help="Instead: a whole query that returns doc_id and stratum.")
@click.option(
    "--per-source", type=click.IntRange(min=1), metavar="N", help="At most so many texts of one source."
)
@click.option("--again", is_flag=True, help="From what is labeled already, for a second reading.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses other texts.")
@click.option("--to", metavar="FILE", help="Also a CSV to fill in.")
@click.option("--with-text", is_flag=True, help="The CSV holds the texts too.")
@json_option
@session_options
@pass_session
def choose(
    session: Session,
    table: str,
    number: int,
    stratify: tuple[str, ...],
    where: str | None,
    sql: str | None,
    per_source: int | None,
    again: bool,
    seed: int,
    to: str | None,
    with_text: bool,
) -> int:
    """Draw a stratified sample of TABLE and write it to raw.label_tasks.

    Expressions see the columns of TABLE, of raw.documents and, where it is built, of signals; not the text.

    \b
    headwater label choose raw.documents --n 400 --per-source 8 \\
        --stratify 'ntile(3) over (order by text_bytes)' \\
        --stratify 'ntile(3) over (order by comment_line_share)'
    headwater label choose --n 50 --again --to second.csv
    """
    from headwater.scoring.choose import choose as draw

    if with_text and to is None:
        raise UsageError("--with-text is about the CSV", hint="--to labels.csv --with-text")
    found = draw(
        session.lake,
        table,
        count=number,
        stratify=stratify,
        sql=sql,
        where=where,
        per_source=per_source,
        again=again,
        seed=seed,
        to=to,
        with_text=with_text,
    )
    if session.as_json:
        session.emit_json(found)
        return 0
    session.out.print(
        f"{found.table}: {count(found.texts)} of {count(found.candidates)} texts of {found.of}",
        soft_wrap=True,
    )
    for stratum, row in found.strata.items():
        session.out.print(
            plain(f"  {stratum}: {count(row['chosen'])} of {count(row['candidates'])}"), soft_wrap=True
        )
    if found.csv:
        session.note(f"fill in {found.csv} and run headwater label import {found.csv} --annotator NAME")
    return 0


@command.command("ask")
@click.argument("generator")
@_rubric
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Texts to ask about in this run.")
@click.option("--again", is_flag=True, help="Also those whose answer was no label.")
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the endpoint's key.")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Requests under way at once.")
@click.option("--price-in", "prompt_price", type=AMOUNT, help="Of a million tokens in, in any currency.")
@click.option("--price-out", "completion_price", type=AMOUNT, help="Of a million tokens out.")
@click.option("--max-cost", type=AMOUNT, help="Ask nothing more that could cost more in all.")
@click.option(
    "--generator-version", "generator_version", metavar="V", help="Of the model behind an endpoint's name."
)
@json_option
@session_options
@pass_session
def ask(
    session: Session,
    generator: str,
    rubric: str | None,
    limit: int | None,
    again: bool,
    api_key_env: str | None,
    concurrency: int | None,
    prompt_price: float | None,
    completion_price: float | None,
    max_cost: float | None,
    generator_version: str | None,
) -> int:
    """Ask a model about every chosen text that it has not scored yet.

    GENERATOR is http(s)://host/v1#model (any OpenAI-compatible endpoint), local:FOLDER or
    program:module:function. Run it again to go on. An answer that is not a score and a reason is kept in
    raw.label_quarantine.

    \b
    headwater label ask https://api.example/v1#judge --api-key-env JUDGE_KEY \\
        --price-in 0.5 --price-out 1.5 --max-cost 5
    """
    from headwater.cli.progress import step_progress
    from headwater.scoring.annotate import PARAMETERS
    from headwater.scoring.annotate import ask as ask_model
    from headwater.scoring.rubric import Rubric
    from headwater.synthesis.generate import Budget, Prices, open_generator

    budget = Budget(
        max_cost=max_cost, prices=Prices(prompt=prompt_price or 0.0, completion=completion_price or 0.0)
    )
    options: dict[str, Any] = {
        "api_key_env": api_key_env, "concurrency": concurrency, "version": generator_version,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    judged_by = Rubric.read(rubric)
    with (
        open_generator(generator, parameters=PARAMETERS, **given) as model,
        step_progress(session, "label ask") as step,
    ):
        model.use_budget(budget)
        found = ask_model(
            session.lake,
            model,
            judged_by,
            limit=limit,
            again=again,
            progress=lambda done, total: step(f"{done:,} of {total:,} texts"),
        )
    if session.as_json:
        session.emit_json(found)
    else:
        _show_labels(session, found.labels)
        tokens = f"{count(found.prompt_tokens)} tokens in, {count(found.completion_tokens)} out"
        spent = f", {budget.spent_cost:,.2f} spent" if budget.spent_cost else ""
        session.out.print(f"asked {count(found.asked)} texts: {tokens}{spent}", soft_wrap=True)
        if found.failed or found.left:
            why = f": {found.first_error}" if found.first_error else ""
            session.out.print(plain(f"{count(found.left)} texts are left{why}"), soft_wrap=True)
    if found.stopped:
        session.complain(f"the generator was given up: {found.stopped}", "run the same command to go on")
    return 1 if found.stopped else 0


@command.command("import")
@click.argument("path", type=click.Path())
@click.option("--annotator", metavar="NAME", help="Who scored.  [default: the file's name]")
@click.option("--annotator-version", default="", metavar="V", help="E.g. of the model that scored.")
@click.option(
    "--kind", type=click.Choice(["person", "model", "file"]), default="file", show_default=True,
    help="What the annotator is.",
)  # fmt: skip
@click.option("--score", default="score", show_default=True, metavar="COLUMN", help="Column of the scores.")
@click.option("--replace", is_flag=True, help="New scores of this annotator replace the old ones.")
@_rubric
@json_option
@session_options
@pass_session
def import_(
    session: Session,
    path: str,
    annotator: str | None,
    annotator_version: str,
    kind: str,
    score: str,
    replace: bool,
    rubric: str | None,
) -> int:
    """Read labels from a CSV with text_hash (or doc_id), score and reason.

    PATH may be `educational`: the 432 labels that come with Headwater. What cannot be a label goes into
    raw.label_quarantine with the reason; a row without a score is not labeled yet.
    """
    from headwater.educational import LABELS
    from headwater.scoring.labels import Annotator, add_labels, read_csv
    from headwater.scoring.rubric import Rubric

    shipped = path == "educational" and not Path(path).exists()
    file = LABELS if shipped else Path(path)
    name = annotator or ("educational" if shipped else file.name)
    who = Annotator(kind="model" if shipped else kind, name=name, version=annotator_version)
    found = add_labels(
        session.lake, read_csv(file, score=score), who, Rubric.read(rubric).digest, replace=replace
    )
    session.emit_json(found) if session.as_json else _show_labels(session, found)
    return 0


@command.command("page")
@click.option("--annotator", required=True, metavar="NAME", help="Who scores.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="[default: a free one]"
)
@_rubric
@session_options
@pass_session
def page(session: Session, annotator: str, port: int, rubric: str | None) -> int:
    """Open a page on this machine on which a person scores the chosen texts. Keys 0 to 5 choose, Enter saves.

    Every label is in the lake at once: stop with Ctrl-C and go on another day.
    """
    from headwater.scoring.labels import LABELS, Annotator
    from headwater.scoring.page import LabelPage
    from headwater.scoring.rubric import Rubric

    served = LabelPage(session.lake, Annotator(kind="person", name=annotator), Rubric.read(rubric), port=port)
    if served.num_missing:
        session.note(f"{served.num_missing:,} chosen texts are not in the lake any more")
    session.note(f"{served.num_done:,} of {len(served.tasks):,} texts are labeled; Ctrl-C stops")
    click.echo(served.url)
    with contextlib.suppress(KeyboardInterrupt):
        served.serve()
    if served.num_saved > 1:
        session.lake.maintain(LABELS)  # a version for each label: one file is enough
    session.note(
        f"saved {served.num_saved:,} labels; {served.num_done:,} of {len(served.tasks):,} are labeled"
    )
    return 0


@command.command("show")
@json_option
@session_options
@pass_session
def show(session: Session) -> int:
    """Labels by annotator, how far annotators agree, and what is in the quarantine."""
    from headwater.scoring.labels import WHY, summary

    found = summary(session.lake)
    if session.as_json:
        session.emit_json(found)
        return 0
    out = session.out
    out.print(
        f"{found['table'] or 'no labels yet'}; {count(found['tasks'])} texts are chosen", soft_wrap=True
    )
    for row in found["annotators"]:
        who = row["annotator"] + (f"@{row['version']}" if row["version"] else "")
        scores = ", ".join(f"{score}: {n:,}" for score, n in row["scores"].items())
        out.print(
            plain(f"  {who} ({row['kind']}, rubric {row['rubric']}): {row['labels']:,} labels ({scores})"),
            soft_wrap=True,
        )
    for pair in found["agreement"]:
        kappa = f"{pair['kappa']:.2f}" if pair["kappa"] is not None else "undefined"
        out.print(
            plain(
                f"  {' and '.join(pair['annotators'])}: {pair['texts']:,} texts, {pair['equal']:,} equal, "
                f"{pair['within_one']:,} within one; kappa {kappa}, rank correlation "
                f"{pair['rank_correlation']:.2f}"
            ),
            soft_wrap=True,
        )
    for why, number in found["quarantined"].items():
        out.print(f"  quarantined {number:,}: {WHY.get(why, why)} ({why})", soft_wrap=True)
    return 0


def _show_labels(session: Session, found: LabelReport) -> None:
    from headwater.scoring.labels import WHY

    parts = [f"{count(found.added)} labels added"]
    parts += [f"{count(found.replaced)} replaced"] if found.replaced else []
    parts += [f"{count(found.unchanged)} there already"] if found.unchanged else []
    parts += [f"{count(found.blank)} without a score"] if found.blank else []
    session.out.print(f"{found.table or 'raw.labels'}: {', '.join(parts)}", soft_wrap=True)
    for why, number in found.quarantined.items():
        session.out.print(f"  quarantined {number:,}: {WHY[why]} ({why})", soft_wrap=True)
