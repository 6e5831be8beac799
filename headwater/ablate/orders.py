"""The arms' training orders: the same number of tokens of each, packed alike, an order for each seed."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from headwater.lake import Lake, Provenance, Table

if TYPE_CHECKING:
    from headwater.ablate.arms import WrittenArm
    from headwater.ablate.settings import Settings

SCHEMA = "ablation"
"""Schema of the arms and of what is packed and logged for them: ``tokens`` and training logs of their own, so
that the target's are left as they are. ``ablations`` and ``ablation_results`` lie in the target's."""

WINDOW_TOKENS = 1 << 24
"""At least so much of an arm is packed, though less is trained on: the shuffle window of ``pack``. Trained on
are then sequences of some thousand documents and not the few that the first tokens of an order hold."""

_packing = threading.Lock()
"""Orders share the table ``tokens``, which one pack at a time extends."""


@dataclass(frozen=True, kw_only=True)
class ArmOrder:
    """A packed order; ``distinct_tokens`` is ``None`` where the arm has more than the training takes."""

    name: str
    version: int
    digest: str
    tokenizer_id: str
    distinct_tokens: int | None


def work_lake(lake: Lake) -> Lake:
    """The same lake with the schema of ablations as its own, reading from the target's."""
    reopen, (uri, schema, _, storage, wait_seconds) = lake.__reduce__()
    other: Lake = reopen(uri, SCHEMA, schema, storage, wait_seconds)
    return other


def order_name(arm: WrittenArm, seed: int) -> str:
    """The name that the order of an arm and seed is packed under."""
    return f"{arm.table.short_name}_s{seed}"


def pack_arm(
    work: Lake, arm: WrittenArm, settings: Settings, seed: int, tokens: int, tokenizer: str | None
) -> ArmOrder:
    """The arm's order for one seed: other seeds give other documents.

    An arm with fewer tokens than the training takes is packed again as a mixture of itself: whole epochs, and
    then as much as is missing.

    Parameters
    ----------
    tokenizer: path of a ``tokenizer.json`` or an id of the lake; ``None`` trains one on the arm.
    """
    from headwater.sequences import pack

    how: dict[str, Any] = {
        "sequence_length": settings.sequence_length, "vocab_size": settings.vocab_size, "seed": seed,
        "require_approved": False, "name": order_name(arm, seed),
    }  # fmt: skip
    distinct: int | None = None
    with _packing, work.lease(purpose="ablate packs"):
        made = pack(work, arm.table.name, tokenizer=tokenizer, limit_tokens=max(tokens, WINDOW_TOKENS), **how)
        if made.num_tokens < tokens:
            distinct = made.num_tokens
            repeated = _repeated(work, arm.table, float(-(-tokens // distinct) + 1))
            made = pack(work, repeated.name, tokenizer=made.tokenizer_id, tokens_total=tokens, **how)
    name, _, version = made.sequences.rpartition("@")
    return ArmOrder(
        name=name, version=int(version), digest=made.sequences_digest, tokenizer_id=made.tokenizer_id,
        distinct_tokens=distinct,
    )  # fmt: skip


def _repeated(work: Lake, table: Table, epochs: float) -> Table:
    """The arm as a mixture of one part that may be read ``epochs`` times."""
    ids = table.to_arrow(["doc_id"])
    size = ids.num_rows
    rows = ids.append_column("part", pa.array(["all"] * size, pa.string()))
    rows = rows.append_column("share", pa.array([1.0] * size)).append_column(
        "max_epochs", pa.array([epochs] * size)
    )
    name = f"{table.name}_repeated"
    provenance = Provenance(
        kind="ablation",
        fingerprint=f"repeated/1/{epochs}",
        inputs=(table.ref, *table.provenance.inputs),
        extra={"candidates": table.provenance.extra["candidates"]},
    )
    if work.exists(name):
        current = work.table(name)
        same = current.provenance.fingerprint == provenance.fingerprint
        if same and table.digest in {ref.digest for ref in current.provenance.inputs}:
            return current
    work.write(name, rows, provenance=provenance)
    return work.table(name)
