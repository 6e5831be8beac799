"""``estimate pack``: tokens, sequences, bytes, reads and writes of a pack, before it starts."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import BadInput, UnknownName, UsageError
from headwater.operators import operator
from headwater.report.narrow import connection, load
from headwater.sequences.source import text_of
from headwater.sql import run

if TYPE_CHECKING:
    import numpy.typing as npt

    from headwater.lake import Lake, Table
    from headwater.tokenizer import Encoder

SAMPLE_DOCUMENTS = 4_096
SAMPLE_BYTES = 64 << 20
"""A sample ends at the first of both; it is drawn by a seeded hash of the ids."""

LOOKUP_ROWS = 256
SAMPLE_SEED = 41

TOKENS_ROW_BYTES = 16 + 16 + 4 + 4
"""Beside its tokens, a row of ``tokens``: ``doc_id``, ``text_hash``, ``num_tokens``, an offset."""
SPAN_BYTES = 16 + 4 + 4 + 4 + 1 + 4
"""A span without its source's name: ``doc_id``, ``start``, ``length``, ``epoch``, ``form``, an offset."""
EXPOSURE_BYTES = 16 + 8


@dataclass(frozen=True, kw_only=True)
class PackEstimate:
    """What a pack makes. Bytes are those of the columns in memory; Lance stores them as small or smaller."""

    table: str
    num_documents: int
    text_bytes: int
    text_bytes_exact: bool
    tokenizer_id: str
    tokens: int
    """With an end-of-text token for each document."""
    tokens_exact: bool
    """Every document's tokens are known already."""
    tokens_half_width: int
    """Half of the 95 % interval of the sample's ratio; 0 when exact."""
    bytes_per_token: float
    sample_documents: int
    sample_bytes: int
    sequence_length: int
    num_sequences: int
    tokens_bytes: int
    sequences_bytes: int
    exposures_rows: int
    exposures_bytes: int
    shuffle_passes: int
    shuffle_bytes_written: int
    shuffle_bytes_read: int
    shuffle_peak_disk_bytes: int
    bytes_to_encode: int
    encoder: str
    encode_bytes_per_second: float | None
    encode_seconds: float | None
    """Reading the texts and encoding them, at the rate of the sample on this machine; writing not counted."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def estimate_pack(
    lake: Lake,
    name: str,
    *,
    sequence_length: int = 512,
    tokenizer: str | None = None,
    epochs: float = 1.0,
) -> PackEstimate:
    """Estimate a pack of the approved version of ``name``, or of its latest.

    Parameters
    ----------
    tokenizer:
        Path of a ``tokenizer.json`` or an id of the lake; without it the last one that was trained on the
        table, or the lake's last.
    epochs:
        How often the order goes over the table.

    Raises
    ------
    UsageError
        The lake has no tokenizer yet and none is given, or the table holds no documents.
    """
    table = _open(lake, name)
    text = text_of(lake, table)
    encoder = _encoder(lake, table, tokenizer)
    known = _known_tokens(lake, table, encoder)
    if not table.num_rows:
        raise UsageError(f"{table.ref} holds no documents", hint="build it first")
    text_bytes, missing_bytes = _text_bytes(table, text, known)
    documents_known = known.num_rows if known is not None else 0
    sample = _sample(table, text, encoder, known)
    exact = documents_known == table.num_rows
    known_tokens = int(pc.sum(known["num_tokens"]).as_py() or 0) if known is not None else 0
    if text_bytes is None:
        each = sample.sizes.mean() if len(sample.sizes) else 0.0
        total, to_encode = int(each * table.num_rows), int(each * (table.num_rows - documents_known))
    else:
        total, to_encode = text_bytes, missing_bytes or 0
    guessed, half = sample.tokens_of(to_encode, table.num_rows - documents_known)
    tokens = known_tokens + guessed + table.num_rows
    from headwater.sequences.shuffle import shuffle_cost

    ordered = round(tokens * epochs)
    width = encoder.dtype.bit_width // 8
    sequences = -(-ordered // sequence_length)
    spans = round(table.num_rows * epochs) + sequences
    cost = shuffle_cost(
        ordered * width, num_documents=round(table.num_rows * epochs), scanned_bytes=tokens * width
    )
    rate = sample.bytes_per_second
    return PackEstimate(
        table=str(table.ref),
        num_documents=table.num_rows,
        text_bytes=total,
        text_bytes_exact=text_bytes is not None,
        tokenizer_id=encoder.tokenizer_id,
        tokens=tokens,
        tokens_exact=exact,
        tokens_half_width=0 if exact else half,
        bytes_per_token=sample.bytes_per_token,
        sample_documents=len(sample.sizes),
        sample_bytes=int(sample.sizes.sum()),
        sequence_length=sequence_length,
        num_sequences=sequences,
        tokens_bytes=tokens * width + TOKENS_ROW_BYTES * table.num_rows,
        sequences_bytes=sequences * sequence_length * width + spans * SPAN_BYTES + sequences * 8,
        exposures_rows=spans,
        exposures_bytes=spans * EXPOSURE_BYTES,
        shuffle_passes=cost.passes,
        shuffle_bytes_written=cost.bytes_written,
        shuffle_bytes_read=cost.bytes_read,
        shuffle_peak_disk_bytes=cost.peak_disk_bytes,
        bytes_to_encode=to_encode,
        encoder=encoder.encoder,
        encode_bytes_per_second=rate,
        encode_seconds=to_encode / rate if rate else None,
    )


def _open(lake: Lake, name: str) -> Table:
    from headwater.errors import NotApproved

    try:
        return lake.table(name, version="approved")
    except NotApproved:
        return lake.table(name)


def _encoder(lake: Lake, table: Table, given: str | None) -> Encoder:
    from headwater.tokenizer import Encoder, load

    if given is not None and Path(given).is_file():
        try:
            return Encoder(Path(given).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read the tokenizer {given}: {error}") from error
    if given is not None:
        return load(lake, given)
    if not lake.exists("tokenizers"):
        raise UsageError(
            "the lake has no tokenizer yet, and tokens depend on it", hint="--tokenizer tokenizer.json"
        )
    rows = lake.table("tokenizers").to_arrow(["tokenizer_id", "trained_on"]).to_pylist()
    own = [row for row in rows if row["trained_on"] == table.name]
    return load(lake, (own or rows)[-1]["tokenizer_id"])


def _known_tokens(lake: Lake, table: Table, encoder: Encoder) -> pa.Table | None:
    """``doc_id`` and ``num_tokens`` of the documents whose tokens of this tokenizer are in the lake."""
    try:
        tokens = lake.table("tokens")
    except UnknownName:
        return None
    if tokens.provenance.extra.get("tokenizer_id") != encoder.tokenizer_id:
        return None
    with connection() as con:
        load(con, "wanted", table, ["doc_id"])
        load(con, "known", tokens, ["doc_id", "num_tokens"])
        return con.sql(
            "select doc_id::blob as doc_id, num_tokens from known semi join wanted using (doc_id)"
        ).to_arrow_table()


def _text_bytes(table: Table, text: Table, known: pa.Table | None) -> tuple[int | None, int | None]:
    """Bytes of text of all documents, and of those without tokens; ``None`` where no column says."""
    if "text_bytes" not in text.schema.names:
        return None, None
    with connection() as con:
        load(con, "wanted", table, ["doc_id"])
        load(con, "sizes", text, ["doc_id", "text_bytes"])
        con.register("known", known if known is not None else pa.table({"doc_id": pa.array([], pa.binary())}))
        ((total,),) = run(con, "select sum(text_bytes)::bigint from sizes semi join wanted using (doc_id)")
        ((missing,),) = run(
            con,
            "select sum(text_bytes)::bigint from sizes semi join wanted using (doc_id) "
            "anti join known using (doc_id)",
        )
    return int(total or 0), int(missing or 0)


@dataclass(frozen=True)
class _Sample:
    """Bytes and tokens of the sampled documents, and how fast they were encoded."""

    sizes: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    bytes_per_second: float | None

    @property
    def bytes_per_token(self) -> float:
        return float(self.sizes.sum() / max(self.counts.sum(), 1))

    def tokens_of(self, size: int, num_documents: int) -> tuple[int, int]:
        """Tokens of ``size`` bytes in ``num_documents``, and half of their 95 % interval.

        The ratio estimator of survey sampling (Cochran 1977, section 6.4): residuals of tokens on bytes.
        """
        if not size or not len(self.sizes):
            return 0, 0
        ratio = self.counts.sum() / max(self.sizes.sum(), 1)
        n = len(self.sizes)
        residuals = self.counts - ratio * self.sizes
        spread = math.sqrt(float((residuals**2).sum()) / max(n - 1, 1))
        half = 1.96 * num_documents * spread / math.sqrt(n)
        return round(ratio * size), round(half)


def _sample(table: Table, text: Table, encoder: Encoder, known: pa.Table | None) -> _Sample:
    """Of the documents whose tokens are not known; of all where all are."""
    ids = table.to_arrow(["doc_id"])["doc_id"].combine_chunks()
    if known is not None and known.num_rows < len(ids):
        ids = ids.filter(pc.invert(pc.is_in(ids, value_set=known["doc_id"].cast(ids.type).combine_chunks())))
    hashes = operator("seeded_hash")(ids, seed=SAMPLE_SEED).to_numpy(zero_copy_only=False)
    order = np.argsort(hashes, kind="stable")[:SAMPLE_DOCUMENTS]
    chosen = ids.take(pa.array(order))
    sizes: list[npt.NDArray[np.int64]] = []
    counts: list[npt.NDArray[np.int64]] = []
    seconds, timed = 0.0, 0
    for start in range(0, len(chosen), LOOKUP_ROWS):
        began = time.perf_counter()
        for batch in text.with_text(chosen.slice(start, LOOKUP_ROWS)):
            if not sizes:
                encoder.check(batch["text"])  # falls back to the slower library here, as a pack would
            size = pc.binary_length(batch["text"]).fill_null(0).to_numpy().astype(np.int64)
            tokens = encoder.encode(batch["text"])
            operator("text_hash")(batch["text"])
            sizes.append(size)
            counts.append(np.diff(tokens.offsets.to_numpy()).astype(np.int64))
        if start:  # the first look-up warms up
            seconds += time.perf_counter() - began
            timed += int(size.sum())
        if sum(int(each.sum()) for each in sizes) > SAMPLE_BYTES:
            break
    return _Sample(
        np.concatenate([np.empty(0, np.int64), *sizes]),
        np.concatenate([np.empty(0, np.int64), *counts]),
        timed / seconds if seconds else None,
    )
