"""``headwater generate``: a table of prompts, completed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.amounts import AMOUNT
from headwater.cli.session import Session, json_option, pass_session, plain, session_options
from headwater.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headwater.lake import Lake
    from headwater.synthesis.generate import Budget, Generator, Prices
    from headwater.synthesis.generate.run import GenerateReport

DEFAULT_TO = "raw.generated_documents"


def sampling_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What decides the answers, and so is part of the cache's key: for ``generate`` and its estimate."""
    options = (
        click.option("--generator", "spec", required=True, metavar="SPEC",
                     help="http(s)://host/v1#model, local:smollm2, local:FOLDER, program:module:function."),
        click.option("--generator-name", metavar="NAME", help="Recorded instead of the address or path."),
        click.option("--generator-version", metavar="V",
                     help="Of the model behind an endpoint.  [default: a digest, where there is one]"),
        click.option("--max-tokens", type=click.IntRange(min=1), metavar="N",
                     help="Of each answer.  [default: 512]"),
        click.option("--temperature", type=float, metavar="T", help="0 for the likeliest tokens."),
        click.option("--top-p", type=float, metavar="P", help="Share of the distribution to sample from."),
        click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Another, other answers."),
        click.option("--stop", "stops", multiple=True, metavar="TEXT", help="Ends an answer; repeatable."),
        click.option("--parameter", "others", multiple=True, metavar="NAME=JSON",
                     help="Any other, e.g. repetition_penalty=1.1; repeatable."),
        click.option("--raw", is_flag=True, help="Continue the text of prompts; no conversation."),
        click.option("--seeds", default="raw.documents", show_default=True, metavar="TABLE",
                     help="Holds the text of the prompts' parent_ids."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N prompts."),
        click.option("--price-in", type=AMOUNT, metavar="P", help="Of a million prompt tokens."),
        click.option("--price-out", type=AMOUNT, metavar="P", help="Of a million completion tokens."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@click.command("generate", short_help="Complete a table of prompts into a table of documents.")
@click.argument("prompts")
@sampling_options
@click.option(
    "--to", default=DEFAULT_TO, show_default=True, metavar="TABLE", help="Documents are added to it."
)
@click.option("--license", "license_declared", metavar="SPDX", help="Declared for the generated documents.")
@click.option("--max-tokens-total", type=AMOUNT, metavar="N",
              help="Budget: this table's prompts and answers, earlier runs included.")  # fmt: skip
@click.option("--max-cost", type=AMOUNT, metavar="M", help="Budget in money, as the prices are.")
@click.option("--requests-per-minute", type=AMOUNT, metavar="N", help="At most; for endpoints.")
@click.option("--tokens-per-minute", type=AMOUNT, metavar="N", help="At most; for endpoints.")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N",
              help="Requests under way at once; for endpoints.  [default: 8]")  # fmt: skip
@click.option(
    "--timeout", type=float, metavar="SECONDS", help="For one attempt, to its last byte.  [default: 300]"
)
@click.option(
    "--attempts", type=click.IntRange(min=1), metavar="N", help="For one prompt in a run.  [default: 6]"
)
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the endpoint's key.")
@click.option("--stream", is_flag=True, help="Ask the endpoint for server-sent events.")
@click.option(
    "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps; for local models.  [default: the best]"
)
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N",
              help="Prompts at once; for local models and programs.  [default: 16, 32]")  # fmt: skip
@click.option("--again", is_flag=True, help="Ask also those prompts that failed for good.")
@json_option
@session_options
@pass_session
def command(session: Session, /, prompts: str, **options: Any) -> int:
    """Complete the prompts of the table PROMPTS, and add the answers to a table of documents.

    Run it again after a kill, a spent budget or a dead endpoint: what is answered is not asked again. Answers
    and failures stand in the table completions. Exit code 1 when the run ended before its last prompt.

    \b
    headwater generate prompts --generator local:smollm2 --max-tokens 200 --limit 20
    headwater generate prompts --generator https://host/v1#model --api-key-env HOST_KEY \\
        --price-in 0.5 --price-out 1.5 --max-cost 20 --requests-per-minute 500
    """
    from headwater.cli.progress import step_progress
    from headwater.synthesis.generate.run import generate

    lake = session.lake
    prices = prices_of(options["price_in"], options["price_out"])
    generator = open_by_options(options, **_transport(options))
    budget = _budget(lake, prompts, generator, prices, options)
    with generator, step_progress(session, "generate") as step:
        if budget is not None:
            generator.use_budget(budget)
        report = generate(
            lake,
            prompts,
            generator,
            to=options["to"],
            folder=_folder(session, lake),
            seeds=options["seeds"],
            raw=options["raw"],
            limit=options["limit"],
            prices=prices,
            again=options["again"],
            license_declared=options["license_declared"],
            progress=lambda report: step(_so_far(report)),
        )
    session.emit_json(report) if session.as_json else _show(session, report)
    return 0 if report.is_complete else 1


def open_by_options(options: dict[str, Any], **more: Any) -> Generator:
    """The generator of the command line's options."""
    from headwater.synthesis.generate import open_generator

    stops = list(options["stops"])
    given = {
        **_others(options["others"]),
        "max_tokens": options["max_tokens"],
        "temperature": options["temperature"],
        "top_p": options["top_p"],
        "seed": options["seed"],
        "stop": stops or None,
    }
    return open_generator(
        options["spec"],
        parameters={name: value for name, value in given.items() if value is not None},
        **{
            name: value
            for name, value in {
                "name": options["generator_name"], "version": options["generator_version"], **more,
            }.items()
            if value is not None
        },
    )  # fmt: skip


def _others(given: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value  # a word needs no quotes
        if not equals or not name:
            raise UsageError(f"got --parameter {each!r}", hint="--parameter repetition_penalty=1.1")
    return found


def prices_of(price_in: float | None, price_out: float | None) -> Prices | None:
    """Prices, where any is given."""
    from headwater.synthesis.generate import Prices

    if price_in is None and price_out is None:
        return None
    return Prices(prompt=price_in or 0.0, completion=price_out or 0.0)


def _transport(options: dict[str, Any]) -> dict[str, Any]:
    """Options that change how answers are got, and not what they are."""
    from headwater.synthesis.generate import RateLimit

    limits = {name: options[name] for name in ("requests_per_minute", "tokens_per_minute") if options[name]}
    return {
        "concurrency": options["concurrency"],
        "timeout_seconds": options["timeout"],
        "max_attempts": options["attempts"],
        "api_key_env": options["api_key_env"],
        "stream": options["stream"] or None,
        "device": options["device"],
        "batch_size": options["batch_size"],
        "rate_limit": RateLimit(**limits) if limits else None,
    }


def _budget(
    lake: Lake, prompts: str, generator: Generator, prices: Prices | None, options: dict[str, Any]
) -> Budget | None:
    """What may still be spent on this table of prompts."""
    from headwater.synthesis.generate import Budget, Prices
    from headwater.synthesis.generate.completions import spent_on

    if options["max_tokens_total"] is None and options["max_cost"] is None:
        return None
    if options["max_cost"] is not None and prices is None:
        raise UsageError(
            "--max-cost needs prices", hint="--price-in and --price-out, of a million tokens each"
        )
    spent = spent_on(lake, lake.table(prompts).name, generator, (prices or Prices()).cost)
    most = options["max_tokens_total"]
    return Budget(
        max_tokens=int(most) if most is not None else None,
        max_cost=options["max_cost"],
        prices=prices,
        spent_tokens=spent.tokens,
        spent_cost=spent.cost,
    )


def _folder(session: Session, lake: Lake) -> Path:
    """Where answers wait for the lake: beside the training runs; another lake, another folder."""
    import xxhash

    root = session.project.root if session.has_project else Path.cwd()
    place = lake.uri if "://" in lake.uri else str(Path(lake.uri).resolve())
    return root / "runs" / "generate" / xxhash.xxh3_64_hexdigest(place.encode())


def _so_far(report: GenerateReport) -> str:
    cost = f", cost {report.cost:,.4f}" if report.cost is not None else ""
    failed = f", {report.failed:,} failed" if report.failed else ""
    return f"{report.answered:,} answered{failed}, {report.completion_tokens:,} tokens{cost}"


def _show(session: Session, report: GenerateReport) -> None:
    from headwater.report.words import count, seconds

    out = session.out
    out.print(
        plain(f"{report.prompts_table}: {count(report.prompts)} prompts, by {report.generator} "
              f"({report.generator_version})"),
        style="bold", soft_wrap=True,
    )  # fmt: skip
    lines = [f"{count(report.answered)} answered in {seconds(report.seconds)}"]
    if report.cached:
        lines[0] += f", {count(report.cached)} were answered before"
    if report.recovered:
        lines.append(f"{count(report.recovered)} answers of a run that was killed, taken over")
    if report.failed or report.failed_before:
        lines.append(
            f"{count(report.failed)} failed, of which the next run asks {count(report.retryable)} again"
            + (f"; {count(report.failed_before)} had failed for good before" if report.failed_before else "")
        )
    lines += [f"  {count(number)} × {error}" for error, number in report.errors.items()]
    if report.unfilled:
        lines.append(f"{count(report.unfilled)} not sent: a seed is gone, or empty")
    if report.not_sent:
        lines.append(f"{count(report.not_sent)} not sent")
    cost = f", cost {report.cost:,.4f}" if report.cost is not None else ""
    tokens = count(report.prompt_tokens), count(report.completion_tokens)
    lines.append(f"{tokens[0]} tokens of prompts and {tokens[1]} of answers{cost}")
    if report.documents is not None:
        to = report.documents
        lines.append(f"{to.table}@{to.version}: {count(to.new)} new documents, {count(to.documents)} in all")
    for line in lines:
        out.print(f"  {plain(line)}", soft_wrap=True)
    for problem in (report.stopped, report.pending and f"answers wait in the file: {report.pending}"):
        if problem:
            session.err.print(f"stopped: {plain(problem)}; run the same command again", style="yellow",
                              soft_wrap=True)  # fmt: skip
