"""``headwater estimate pack``: tokens, sequences, bytes, reads and writes of packing a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headwater.cli.amounts import AMOUNT
from headwater.cli.session import Session, json_option, pass_session, plain, session_options

if TYPE_CHECKING:
    from headwater.estimate.packing import PackEstimate


@click.command("pack")
@click.argument("table", default="python_textbook")
@click.option(
    "--sequence-length", type=click.IntRange(min=2), default=512, show_default=True, metavar="TOKENS"
)
@click.option("--tokenizer", metavar="FILE|ID", help="tokenizer.json, or the id of one in the lake.")
@click.option("--epochs", type=AMOUNT, default="1", show_default=True, help="Of the order.")
@json_option
@session_options
@pass_session
def command(session: Session, table: str, sequence_length: int, tokenizer: str | None, epochs: float) -> int:
    """Tokens, sequences, bytes, reads and writes of packing TABLE: a sample of it is encoded."""
    from headwater.estimate.packing import estimate_pack

    found = estimate_pack(
        session.lake, table, sequence_length=sequence_length, tokenizer=tokenizer, epochs=epochs
    )
    session.emit_json(found) if session.as_json else _show_pack(session, found)
    return 0


def _show_pack(session: Session, found: PackEstimate) -> None:
    from headwater.report.words import count, seconds, size

    out = session.out
    about = "" if found.tokens_exact else "about "
    give = "" if found.tokens_exact else f" ± {count(found.tokens_half_width)}"
    out.print(
        f"{plain(found.table)}: {count(found.num_documents)} documents, {size(found.text_bytes)} of text",
        style="bold",
    )
    lines = [
        f"{about}{count(found.tokens)}{give} tokens, {found.bytes_per_token:.3f} bytes each, by tokenizer "
        f"{found.tokenizer_id[:12]} "
        + ("(known)" if found.tokens_exact else f"(a sample of {count(found.sample_documents)} documents)"),
        f"{about}{count(found.num_sequences)} sequences of {found.sequence_length}, "
        f"{count(found.exposures_rows)} exposures",
        f"bytes: tokens {size(found.tokens_bytes)}, sequences {size(found.sequences_bytes)}, "
        f"exposures {size(found.exposures_bytes)}",
        f"shuffle: {found.shuffle_passes} pass{'' if found.shuffle_passes == 1 else 'es'} over the disk, "
        f"{size(found.shuffle_bytes_written)} written, "
        f"{size(found.shuffle_bytes_read)} read, {size(found.shuffle_peak_disk_bytes)} at most",
    ]
    if not found.bytes_to_encode:
        lines.append("every document is encoded already")
    elif found.encode_seconds is not None and found.encode_bytes_per_second:
        lines.append(
            f"reading and encoding {size(found.bytes_to_encode)} takes about {seconds(found.encode_seconds)} "
            f"at {found.encode_bytes_per_second / 1e6:,.1f} MB/s by {found.encoder} (measured on the sample; "
            "writing comes on top)"
        )
    for line in lines:
        out.print(f"  {line}", soft_wrap=True)
