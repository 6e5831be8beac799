"""``headwater pack``: from an approved table to training sequences."""

from __future__ import annotations

import click

from headwater.cli.progress import step_progress
from headwater.cli.session import Session, json_option, pass_session, session_options


@click.command("pack", short_help="Tokenize and pack the approved table for training.")
@click.argument("table", default="python_textbook")
@click.option(
    "--sequence-length", type=click.IntRange(min=2), default=512, show_default=True, metavar="TOKENS"
)
@click.option("--vocab-size", type=click.IntRange(min=257), default=8192, show_default=True, metavar="N",
              help="Of the tokenizer that is trained on TABLE.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of documents.")
@click.option(
    "--tokenizer", type=click.Path(), metavar="FILE", help="tokenizer.json to use instead of training one."
)
@click.option(
    "--limit-tokens", type=click.IntRange(min=1), metavar="TOKENS", help="Pack only the start of the order."
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
    sequence_length: int,
    vocab_size: int,
    seed: int,
    tokenizer: str | None,
    limit_tokens: int | None,
    allow_unapproved: bool,
) -> int:
    """Tokenize the approved version of TABLE, order its documents by a seeded hash, and pack them.

    Each document is tokenized once per tokenizer; another length or seed re-packs without tokenizing.
    """
    from headwater.sequences import pack

    with step_progress(session, "pack") as step:

        def progress(stage: str, done: int, total: int) -> None:
            step(f"{stage} {100 * done / total:.0f} %" if total else stage)

        report = pack(
            session.lake,
            table,
            sequence_length=sequence_length,
            vocab_size=vocab_size,
            seed=seed,
            tokenizer=tokenizer,
            limit_tokens=limit_tokens,
            require_approved=not allow_unapproved,
            progress=progress,
        )
    session.show(report)
    return 0
