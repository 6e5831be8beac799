"""What a pack did, as data and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from headwater.sequences.accounts import SourceAccount

SHOWN_SOURCES = 12
"""Sources of a stage's account that the report spells out, the largest; all of them stand in the lake."""


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """What a pack made, and what it left as it was.

    ``num_tokens`` counts what is trained on: documents with their end-of-text, control and fill-in-the-middle
    tokens; ``num_padding`` what fills sequences up. Tables are ``name@version``. ``seconds`` is wall time by
    stage. ``encoder`` is the library that encoded; ``why_slow`` says why it was not the fast one. ``mixture``
    has each part's share asked and got, tokens, documents and epochs; ``account`` the rows of a new stage by
    source; ``warning`` what stands in the way of a trainer that would go on from there.
    """

    table: str
    approved: bool
    bypass: str | None
    tokenizer_id: str
    tokenizer_trained: bool
    vocab_size: int
    tokens: str
    tokens_changed: bool
    num_documents: int
    num_encoded: int
    num_removed: int
    encoded_bytes: int
    encoder: str
    why_slow: str
    num_tokens: int
    sequences: str
    sequences_digest: str
    sequences_changed: bool
    sequence_length: int
    num_sequences: int
    num_padding: int
    gathered: bool
    exposures: str
    exposures_changed: bool
    method: str = "chunk"
    sources: dict[str, int] = field(default_factory=dict)
    num_fim: int = 0
    num_fim_refused: int = 0
    num_control: int = 0
    control_tokens: list[str] = field(default_factory=list)
    held_out: str | None = None
    held_out_changed: bool = False
    held_out_documents: int = 0
    held_out_tokens: int = 0
    clusters: str | None = None
    mixture: dict[str, dict[str, Any]] | None = None
    stage: int = 0
    continues: dict[str, Any] | None = None
    account: list[SourceAccount] = field(default_factory=list)
    warning: str | None = None
    shuffle: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """False when nothing was written."""
        return (
            self.tokens_changed or self.sequences_changed or self.exposures_changed or self.held_out_changed
        )

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {**asdict(self), "changed": self.changed}

    def lines(self) -> list[str]:
        """The report in words, a fact a line."""
        new = "" if self.sequences_changed else " (unchanged: same order over the same tokens)"
        tokens = f"{self.num_encoded:,} documents encoded, {self.num_removed:,} removed"
        if self.num_encoded and self.seconds.get("tokens"):
            rate = self.encoded_bytes / 1e6 / self.seconds["tokens"]
            tokens += f", {rate:,.1f} MB/s by {self.encoder}"
        return [
            f"tokenizer {self.tokenizer_id[:12]}, {self.vocab_size:,} ids, "
            + ("trained now" if self.tokenizer_trained else "kept"),
            f"{self.tokens}: {tokens if self.tokens_changed else 'unchanged'}",
            f"{self.sequences}: {self.num_sequences:,} sequences of {self.sequence_length:,} from "
            f"{self.num_tokens:,} tokens of {self.num_documents:,} documents{new}",
            *self._packing_lines(),
            *self._mixture_lines(),
            *self._stage_lines(),
            *([f"slow encoder: {self.why_slow}"] if self.why_slow and self.num_encoded else []),
            *([f"approval bypassed: {self.bypass}"] if self.bypass else []),
        ]

    def _packing_lines(self) -> list[str]:
        lines = []
        if self.method != "chunk":
            slots = max(self.num_sequences * self.sequence_length, 1)
            lines.append(f"packed {self.method}: {100 * self.num_padding / slots:.2f} % padding")
        if self.num_fim or self.num_fim_refused:
            lines.append(
                f"fill-in-the-middle: {self.num_fim:,} documents, "
                f"{self.num_fim_refused:,} chosen but left plain"
            )
        if self.control_tokens:
            lines.append(f"control tokens: {self.num_control:,} documents, {', '.join(self.control_tokens)}")
        if self.held_out:
            kept = (
                f"clusters of {self.clusters}"
                if self.clusters
                else "single documents (no duplicate_clusters)"
            )
            lines.append(
                f"{self.held_out}: {self.held_out_documents:,} documents, {self.held_out_tokens:,} tokens "
                f"held out by {kept}"
            )
        if self.shuffle.get("bytes_written"):
            lines.append(
                f"external shuffle: {self.shuffle['bytes_written'] / 1e6:,.1f} MB written and read again"
            )
        return lines

    def _mixture_lines(self) -> list[str]:
        return [
            f"part {part}: share {got['share']:.6g} asked, {got['got']:.6g} got, {got['tokens']:,} tokens, "
            f"{got['documents']:,} documents, {got['epochs']:.3f} epochs of at most {got['max_epochs']:g}"
            + (f" ({got['past_tokens']:,} tokens before)" if got["past_tokens"] else "")
            for part, got in (self.mixture or {}).items()
        ]

    def _stage_lines(self) -> list[str]:
        if self.continues is None:
            return []
        past = self.continues
        lines = [
            f"stage {self.stage} after step {past['step']:,} of {past['run_id']}, "
            f"{past['table']}@{past['version']} at sequence {past['next_sequence']:,}"
        ]
        shown = sorted(self.account, key=lambda row: (-row.order_tokens - row.consumed_tokens, row.source))
        if len(shown) > 1:
            lines.append(f"all sources: {_in_words(SourceAccount.total(self.account))}")
        lines += [f"{row.source or '(no source)'}: {_in_words(row)}" for row in shown[:SHOWN_SOURCES]]
        if len(shown) > SHOWN_SOURCES:
            lines.append(f"{len(shown) - SHOWN_SOURCES} more sources in the table stage_accounts")
        return [*lines, *([self.warning] if self.warning else [])]


def _in_words(row: SourceAccount) -> str:
    text = f"{row.consumed_tokens:,} tokens of {row.consumed_documents:,} documents consumed, "
    text += f"{row.left_tokens:,} left"
    further = {
        "skipped": row.skipped_tokens,
        "repeated": row.repeated_tokens,
        "not drawn": row.not_drawn_tokens,
    }
    text += "".join(f", {count:,} {what}" for what, count in further.items() if count)
    if row.new_tokens:
        text += f", {row.new_tokens:,} new ({row.new_documents:,} new documents)"
    if row.gone_documents:
        text += f", {row.gone_tokens:,} gone ({row.gone_documents:,} documents)"
    return text
