"""``headwater pack``: from an approved table to training sequences."""

from __future__ import annotations

import click

from headwater.cli.progress import step_progress
from headwater.cli.session import Session, json_option, pass_session, session_options


@click.command("pack", short_help="Tokenize and pack the approved table for training.")
@click.argument("table", default="python_textbook")
@click.option("--name", default="sequences", show_default=True, metavar="NAME",
              help="Of the order; another one has NAME_exposures and NAME_held_out.")  # fmt: skip
@click.option(
    "--sequence-length", type=click.IntRange(min=2), default=512, show_default=True, metavar="TOKENS"
)
@click.option("--method", type=click.Choice(["chunk", "best-fit"]), default="chunk", show_default=True,
              help="Cut documents end to end, or fit whole ones together.")  # fmt: skip
@click.option("--vocab-size", type=click.IntRange(min=260), default=8192, show_default=True, metavar="N",
              help="Of the tokenizer that is trained on TABLE.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of documents.")
@click.option("--tokenizer", metavar="FILE|ID",
              help="tokenizer.json, or id of one in the lake, instead of training one.")  # fmt: skip
@click.option("--fim-rate", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE",
              help="Share of the documents to rearrange to fill the middle.")  # fmt: skip
@click.option("--control", metavar="COLUMN", help="Column with a control token for each document, or null.")
@click.option("--hold-out", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE",
              help="Share of the duplicate clusters to keep out of training.")  # fmt: skip
@click.option("--after", metavar="RUN[@STEP]",
              help="New stage: what the run has not consumed by its last checkpoint (or STEP).")  # fmt: skip
@click.option("--tokens-total", type=click.IntRange(min=1), metavar="TOKENS",
              help="Of a mixture; default: as many as every part can fill its share of.")  # fmt: skip
@click.option(
    "--limit-tokens", type=click.IntRange(min=1), metavar="TOKENS", help="Pack only the start of the order."
)
@click.option(
    "--gather", is_flag=True, help="Store where tokens lie, not the tokens: smaller, slower to read."
)
@click.option(
    "--allow-unapproved", is_flag=True, help="Pack the latest version without approval; not in prod."
)
@json_option
@session_options
@pass_session
def command(
    session: Session,
    table: str,
    name: str,
    sequence_length: int,
    method: str,
    vocab_size: int,
    seed: int,
    tokenizer: str | None,
    fim_rate: float,
    control: str | None,
    hold_out: float | None,
    after: str | None,
    tokens_total: int | None,
    limit_tokens: int | None,
    gather: bool,
    allow_unapproved: bool,
) -> int:
    """Tokenize the approved version of TABLE, order its documents by a seeded hash, and pack them.

    Each document is tokenized once per tokenizer; another length, seed or mixture re-packs without
    tokenizing. A TABLE that the macro `mixture` made is packed with its shares exact in tokens. With --after,
    the order is a new stage of a run: over what its steps have not trained on, with an account of what they
    have.
    """
    from headwater.sequences import pack

    with step_progress(session, "pack") as step:

        def progress(stage: str, done: int, total: int) -> None:
            step(f"{stage} {100 * done / total:.0f} %" if total else stage)

        report = pack(
            session.lake,
            table,
            name=name,
            sequence_length=sequence_length,
            method=method,
            vocab_size=vocab_size,
            seed=seed,
            tokenizer=tokenizer,
            fim_rate=fim_rate,
            control=control,
            hold_out=hold_out,
            after=after,
            tokens_total=tokens_total,
            limit_tokens=limit_tokens,
            gather=gather,
            require_approved=not allow_unapproved,
            progress=progress,
        )
    session.show(report)
    return 0
