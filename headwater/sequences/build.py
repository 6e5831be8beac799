"""``pack``: from an approved table to a training order, each table written only when it would change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.errors import UsageError
from headwater.lake.names import SYSTEM_TABLES, qualified
from headwater.sequences.accounts import account_of
from headwater.sequences.held_out import check_share, clusters_of
from headwater.sequences.mixture import check_mixture
from headwater.sequences.order import Wanted, control_texts
from headwater.sequences.packing import Packing
from headwater.sequences.plan import PACKING_VERSION, Plan, write_exposures
from headwater.sequences.report import PackReport
from headwater.sequences.shuffle import SHUFFLE_MEMORY, bucket_bytes
from headwater.sequences.source import open_source
from headwater.sequences.stages import check_encoder, open_past
from headwater.sequences.tokens import Progress, build_tokens, choose_tokenizer
from headwater.tokenizer import FIM_TOKENS

if TYPE_CHECKING:
    from headwater.lake import Lake
    from headwater.sequences.source import Source
    from headwater.sequences.stages import Past

__all__ = ["PACKING_VERSION", "PackReport", "order_names", "pack"]


def order_names(name: str) -> tuple[str, str, str]:
    """The tables of the order ``name``: sequences, exposures, held out."""
    if name == "sequences":
        return name, "exposures", "held_out"
    return name, f"{name}_exposures", f"{name}_held_out"


def pack(
    lake: Lake,
    table: str = "python_textbook",
    *,
    name: str = "sequences",
    sequence_length: int = 512,
    method: str = "chunk",
    vocab_size: int = 8192,
    seed: int = 0,
    tokenizer: str | Path | None = None,
    fim_rate: float = 0.0,
    control: str | None = None,
    hold_out: float | None = None,
    after: str | None = None,
    gather: bool = False,
    require_approved: bool = True,
    limit_tokens: int | None = None,
    tokens_total: int | None = None,
    retrain_tokenizer: bool = False,
    shuffle_memory: int = SHUFFLE_MEMORY,
    progress: Progress | None = None,
) -> PackReport:
    """Make the training order of ``table``: ``tokens``, ``sequences`` and ``exposures`` in the lake's schema.

    Parameters
    ----------
    table:
        A table of documents, or a mixture (columns ``part``, ``share``, ``max_epochs``; macro ``mixture``).
    name:
        Of the order's table; others than ``sequences`` have ``NAME_exposures`` and ``NAME_held_out``. All
        orders of a schema share ``tokens``.
    sequence_length:
        Tokens in a sequence.
    method:
        ``"chunk"`` or ``"best-fit"`` (``headwater.sequences.packing``).
    vocab_size:
        Ids of the tokenizer to train; without effect when one is given or kept.
    seed:
        Of the global order of documents, and of the shuffle that keeps a long document's sequences from
        standing side by side.
    tokenizer:
        Path of a ``tokenizer.json`` with ``<|endoftext|>``, or the id of one in the lake. Without it, a
        byte-level BPE is trained once on a sample of the table and kept from then on (``retrain_tokenizer``
        makes a new one); a stage keeps its run's.
    fim_rate:
        Share of the documents that are rearranged to fill the middle; a mixture's column ``fim_rate`` goes
        before it.
    control:
        Column with the text of a control token for each document, or null; a mixture's column ``control``
        is taken without asking.
    hold_out:
        Share of the duplicate clusters whose documents are kept out of the order and packed as ``held_out``:
        plain, once, whatever the seed. A stage keeps its run's share.
    after:
        ``RUN`` or ``RUN@STEP``: order what that run has not consumed by then (without a step: by its last
        checkpoint), as a new stage.
    gather:
        Store spans only; readers fetch the tokens from ``tokens``.
    require_approved:
        False packs the latest version, approved or not, and records the bypass; ``prod`` refuses that.
    limit_tokens:
        Pack whole documents from the start of the order until there are this many tokens.
    tokens_total:
        Tokens of a mixture; without it, as many as every part can fill its share of.
    shuffle_memory:
        Bytes that bringing the tokens into order may hold; more than that goes through a scratch file.
    progress:
        Called with ``(stage, done, total)``.

    Raises
    ------
    NotApproved
        No approval of ``table`` stands.
    UsageError
        Settings that do not go together, or a mixture that cannot be drawn as asked.
    DataMismatch
        A stage whose tokenizer is not the run's, or whose former orders the lake no longer holds.
    """
    _check(vocab_size, limit_tokens, tokens_total, fim_rate, shuffle_memory)
    clock = _Clock()
    with lake.lease(purpose="pack"):
        source = open_source(lake, table, require_approved=require_approved)
        past = open_past(lake, after) if after is not None else None
        _check_names(lake, name, source)
        parts = check_mixture(source.table) if source.is_mixture else None
        _check_mixed(source, limit_tokens, tokens_total)
        if parts is not None and control is None and "control" in source.table.schema.names:
            control = "control"
        fills = fim_rate > 0 or (parts is not None and "fim_rate" in source.table.schema.names)
        if gather and (fills or control):
            raise UsageError(
                "a gathered order has its documents' tokens as they lie in `tokens`, in no other form",
                hint="leave gather out, or fim_rate and control",
            )
        texts = control_texts(source.table, control) if control else []
        share = _share_of(hold_out, past)
        packing_seed = seed if past is None else past.packing_seed
        packing = Packing(sequence_length=sequence_length, method=method, seed=packing_seed, gather=gather)
        with clock("tokenizer"):
            if tokenizer is None and past is not None and not retrain_tokenizer:
                tokenizer = str(past.table.provenance.extra["tokenizer_id"])
            specials = [*(FIM_TOKENS if fills else ()), *texts]
            encoder, trained = choose_tokenizer(
                lake, source, tokenizer, vocab_size, retrain=retrain_tokenizer, special_tokens=specials
            )
            if past is not None:
                check_encoder(past, encoder.tokenizer_id)
        everything = bool(share) or past is not None
        with clock("tokens"):
            tokens = build_tokens(
                lake,
                source,
                encoder,
                seed=seed,
                # What is held out or consumed may be all of the start of the order.
                limit_tokens=None if everything else limit_tokens,
                progress=progress,
            )
        known = [*texts, *(past.control_tokens if past is not None else [])]
        wanted = Wanted(
            seed=seed,
            limit_tokens=limit_tokens,
            tokens_total=tokens_total,
            hold_out=share,
            fim_rate=fim_rate,
            control=control,
            control_ids={text: encoder.special_id(text) for text in dict.fromkeys(known)},
            parts=parts,
            clusters=clusters_of(lake, source.table) if share else None,
            past=past,
            memory_bytes=shuffle_memory,
        )
        names = order_names(name)
        plan = Plan(lake, source, encoder, tokens.table, packing, wanted, progress)
        with clock("sequences"):
            sequences, sequences_changed, held, held_changed = plan.write(names[0], names[2])
        with clock("exposures"):
            exposures, exposures_changed = write_exposures(lake, names[1], sequences)
        account = []
        if past is not None:
            with clock("account"):
                account = account_of(lake, past, source.table, sequences)
    facts = sequences.provenance.extra
    return PackReport(
        table=str(source.table.ref),
        approved=source.bypass is None,
        bypass=source.bypass,
        tokenizer_id=encoder.tokenizer_id,
        tokenizer_trained=trained,
        vocab_size=encoder.vocab_size,
        tokens=str(tokens.table.ref),
        tokens_changed=tokens.changed,
        num_documents=facts["num_documents"],
        num_encoded=tokens.num_encoded,
        num_removed=tokens.num_removed,
        encoded_bytes=tokens.encoded_bytes,
        encoder=encoder.encoder,
        why_slow=encoder.why_slow,
        num_tokens=facts["num_tokens"],
        sequences=str(sequences.ref),
        sequences_digest=sequences.digest,
        sequences_changed=sequences_changed,
        sequence_length=sequence_length,
        num_sequences=sequences.num_rows,
        num_padding=facts["num_padding"],
        gathered=gather,
        exposures=str(exposures.ref),
        exposures_changed=exposures_changed,
        method=method,
        sources=facts["sources"],
        num_fim=facts["num_fim"],
        num_fim_refused=facts["num_fim_refused"],
        num_control=facts["num_control"],
        control_tokens=facts["control_tokens"],
        held_out=str(held.ref) if held is not None else None,
        held_out_changed=held_changed,
        held_out_documents=held.provenance.extra["num_documents"] if held is not None else 0,
        held_out_tokens=held.provenance.extra["num_tokens"] if held is not None else 0,
        clusters=str(wanted.clusters.ref) if wanted.clusters is not None else None,
        mixture=plan.mixture(sequences),
        stage=facts["stage"],
        continues=facts["continues"],
        account=account,
        warning=past.warning if past is not None else None,
        shuffle=plan.shuffle,
        seconds=clock.seconds,
    )


def _check(
    vocab_size: int, limit_tokens: int | None, tokens_total: int | None, fim_rate: float, memory: int
) -> None:
    if vocab_size < 260:
        raise UsageError(
            f"got vocab_size {vocab_size}", hint="a byte-level vocabulary has 256 bytes and 4 special tokens"
        )
    for what, value in (("limit_tokens", limit_tokens), ("tokens_total", tokens_total)):
        if value is not None and value < 1:
            raise UsageError(f"got {what} {value}", hint="give a positive number of tokens, or none")
    if not 0 <= fim_rate <= 1:
        raise UsageError(f"got fim_rate {fim_rate}", hint="a share of the documents, 0 to 1")
    bucket_bytes(memory)


def _check_names(lake: Lake, name: str, source: Source) -> None:
    """Raise ``UsageError`` for a name whose tables something else has, or would have."""
    for each in order_names(name):
        target = qualified(each, lake.schema)
        if each in SYSTEM_TABLES | {"tokens"} or target == source.table.name or "." in each:
            raise UsageError(f"an order cannot be named {name!r}", hint="sequences, or a name of its own")
        if lake.exists(target) and lake.table(target).provenance.kind != "pack":
            raise UsageError(
                f"{target} is there and was not made by pack", hint="give the order another name"
            )


def _check_mixed(source: Source, limit_tokens: int | None, tokens_total: int | None) -> None:
    if source.is_mixture and limit_tokens is not None:
        raise UsageError("limit_tokens would cut a mixture's shares", hint="tokens_total keeps them exact")
    if not source.is_mixture and tokens_total is not None:
        raise UsageError(
            f"{source.table.ref} is no mixture, so tokens_total has no shares to divide",
            hint="limit_tokens takes the start of the order",
        )


def _share_of(hold_out: float | None, past: Past | None) -> float:
    """The share to hold out: what is asked for, or the run's."""
    had = float(past.table.provenance.extra.get("hold_out") or 0.0) if past is not None else 0.0
    share = had if hold_out is None else hold_out
    check_share(share)
    if past is not None and share < had:
        raise UsageError(
            f"run {past.run_id} held out {had:g} of the clusters, the stage would train on some of them",
            hint=f"hold out {had:g} or more; without hold_out a stage keeps its run's share",
        )
    return share


class _Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - start, 3)
