"""Closed documents: ``[control token?] + body + end-of-text``, the body plain or rearranged.

Everything that counts tokens of a document (pieces, spans, traces) counts those of the closed document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import DataMismatch, UsageError
from headwater.kernels.packing import close
from headwater.sequences.forms import FORMS, PLAIN, PSM, SPM, Forms, arrange, choose_forms, random_bits

if TYPE_CHECKING:
    from headwater.tokenizer import Encoder

Integers = npt.NDArray[np.int64]
Lists = tuple[Integers, Integers, npt.NDArray[Any]]
"""Where each document begins in the values, how many tokens it has, and the values (read-only)."""


@dataclass
class PackCounts:
    """What went through a packer; grows as its sequences are read.

    ``num_tokens`` counts every token that is trained on: control, fill-in-the-middle and end-of-text tokens
    with the documents' own, no padding. ``num_fim_refused`` counts documents that were chosen to fill the
    middle and stay plain (see ``forms.arrange``). ``sources`` is the tokens of each source.
    """

    num_pieces: int = 0
    num_tokens: int = 0
    num_sequences: int = 0
    num_padding: int = 0
    num_psm: int = 0
    num_spm: int = 0
    num_fim_refused: int = 0
    num_control: int = 0
    sources: dict[str, int] = field(default_factory=dict)

    @property
    def num_fim(self) -> int:
        """Pieces in either fill-in-the-middle form."""
        return self.num_psm + self.num_spm

    def add(self, closed: Closed) -> None:
        """Count pieces."""
        self.num_pieces += len(closed.length)
        self.num_tokens += int(closed.length.sum())
        self.num_psm += int((closed.form == PSM).sum())
        self.num_spm += int((closed.form == SPM).sum())
        names = closed.source.dictionary_encode()
        totals = np.bincount(names.indices.to_numpy(), weights=closed.length, minlength=len(names.dictionary))
        for name, tokens in zip(names.dictionary.to_pylist(), totals.tolist(), strict=True):
            self.sources[name] = self.sources.get(name, 0) + int(tokens)


@dataclass(frozen=True)
class Closed:
    """Pieces of closed documents, none empty.

    Piece i is ``length[i]`` tokens from token ``start[i]`` of its document. ``tokens`` holds them end to end;
    it is ``None`` for gathered orders.
    """

    doc_id: pa.Array
    source: pa.Array
    epoch: pa.Array
    form: Forms
    start: Integers
    length: Integers
    tokens: npt.NDArray[Any] | None

    def slice(self, first: int, count: int | None = None) -> Closed:
        """Pieces ``first`` to ``first + count``, or to the end."""
        last = len(self.length) if count is None else min(first + count, len(self.length))
        before = int(self.length[:first].sum())
        some = None
        if self.tokens is not None:
            some = self.tokens[before : before + int(self.length[first:last].sum())]
        span, rows = slice(first, last), last - first
        return Closed(
            doc_id=self.doc_id.slice(first, rows),
            source=self.source.slice(first, rows),
            epoch=self.epoch.slice(first, rows),
            form=self.form[span],
            start=self.start[span],
            length=self.length[span],
            tokens=some,
        )

    @staticmethod
    def concat(parts: list[Closed]) -> Closed:
        """One or more batches of pieces as one."""
        tokens = [part.tokens for part in parts if part.tokens is not None]
        return Closed(
            doc_id=pa.concat_arrays([part.doc_id for part in parts]),
            source=pa.concat_arrays([part.source for part in parts]),
            epoch=pa.concat_arrays([part.epoch for part in parts]),
            form=np.concatenate([part.form for part in parts]),
            start=np.concatenate([part.start for part in parts]),
            length=np.concatenate([part.length for part in parts]),
            tokens=np.concatenate(tokens) if tokens else None,
        )


def close_documents(tokens: pa.ListArray, eos_id: int) -> tuple[npt.NDArray[Any], Integers]:
    """The documents' tokens end to end, each with its end-of-text token, and their lengths with it."""
    begins, counts, values = _lists(tokens)
    stream = np.empty(int(counts.sum()) + len(counts), dtype=values.dtype)
    none = np.full(len(counts), -1, dtype=np.int64)
    close(values, begins, counts, none, eos_id, np.zeros_like(counts), counts + 1, stream)
    return stream, counts + 1


def close_pieces(pieces: pa.RecordBatch, encoder: Encoder, *, seed: int, counts: PackCounts) -> Closed:
    """The pieces with their control and end-of-text tokens, in the form that is asked for or falls to them.

    Parameters
    ----------
    pieces:
        ``doc_id``, ``source``, ``num_tokens`` and, unless gathered, ``tokens``. Optional, with what stands
        for them when they are missing: ``epoch`` (0), ``form`` (-1: by ``fim_rate``), ``fim_rate`` (0),
        ``control`` (-1: none), and ``start`` (0) and ``stop`` (-1: to the end), counted in the closed
        document. A part of a document is plain unless ``form`` says otherwise.
    seed:
        Decides with ``doc_id`` and ``epoch`` which documents take which form, and where they are cut.
    counts:
        Grows by these pieces.

    Raises
    ------
    UsageError
        Forms or control tokens without a token column.
    DataMismatch
        A piece asks for a form that its document cannot take.
    """
    control, start, stop = (_column(pieces, n, d) for n, d in (("control", -1), ("start", 0), ("stop", -1)))
    asked = _column(pieces, "form", -1).astype(np.int8)
    rate = _column(pieces, "fim_rate", 0.0) * ((start == 0) & (stop < 0))
    epoch = _column(pieces, "epoch", 0).astype(np.int32)
    form = np.maximum(asked, PLAIN).astype(np.int8)
    bits = np.empty((4, 0), dtype=np.uint64)
    if (rate > 0).any() or (asked > PLAIN).any():
        bits = random_bits(pieces["doc_id"], epoch, seed)
        form = choose_forms(asked, rate, bits)
    gathered = "tokens" not in pieces.schema.names
    if gathered and (form.any() or (control >= 0).any()):
        raise UsageError(
            "fill-in-the-middle forms and control tokens change the tokens of a document",
            hint="pack with token columns: gather=False",
        )
    if gathered:
        body = pieces["num_tokens"].to_numpy().astype(np.int64)
    else:
        begins, body, values = _lists(pieces["tokens"])
        if form.any():
            begins, body, values, taken = _arranged(encoder, (begins, body, values), form, bits)
            counts.num_fim_refused += int((form != taken).sum())
            _check_asked(pieces, asked, taken)
            form = taken
    full = body + 1 + (control >= 0)
    length = np.maximum(np.where(stop < 0, full, np.minimum(stop, full)) - start, 0)
    tokens = None
    if not gathered:
        tokens = np.empty(int(length.sum()), dtype=encoder.dtype.to_pandas_dtype())
        close(values, begins, body, control, encoder.eos_id, start, length, tokens)
    counts.num_control += int(((control >= 0) & (start == 0) & (length > 0)).sum())
    closed = _closed(pieces, epoch, form, start, length, tokens)
    counts.add(closed)
    return closed


def _column(pieces: pa.RecordBatch, name: str, default: float) -> npt.NDArray[Any]:
    dtype = np.int64 if isinstance(default, int) else np.float64
    if name not in pieces.schema.names:
        return np.full(pieces.num_rows, default, dtype=dtype)
    return np.asarray(pieces[name].fill_null(default).to_numpy(zero_copy_only=False), dtype=dtype)


def _lists(lists: pa.ListArray) -> Lists:
    offsets = lists.offsets.to_numpy().astype(np.int64)
    first = offsets[0] if len(offsets) else 0
    values = lists.values.to_numpy()[first : offsets[-1] if len(offsets) else 0]
    values.flags.writeable = False  # numba would compile again for writable arrays
    return offsets[:-1] - first, np.diff(offsets), values


def _arranged(
    encoder: Encoder, documents: Lists, form: Forms, bits: npt.NDArray[np.uint64]
) -> tuple[Integers, Integers, npt.NDArray[Any], Forms]:
    """The documents, those with a form rearranged where they can be, and the forms that they got."""
    begins, counts, values = documents
    wanted = np.flatnonzero(form)
    found, sizes = arrange(encoder, values, begins[wanted], counts[wanted], form[wanted], bits[:, wanted])
    done = wanted[sizes > 0]
    sizes = sizes[sizes > 0]
    begins, counts, taken = begins.copy(), counts.copy(), np.zeros_like(form)
    begins[done] = len(values) + np.cumsum(sizes) - sizes
    counts[done] = sizes
    taken[done] = form[done]
    values = np.concatenate([values.astype(found.dtype, copy=False), found])
    values.flags.writeable = False
    return begins, counts, values, taken


def _check_asked(pieces: pa.RecordBatch, asked: Forms, taken: Forms) -> None:
    wrong = np.flatnonzero((asked > PLAIN) & (taken != asked))
    if len(wrong):
        doc_id = pieces["doc_id"][int(wrong[0])].as_py().hex()
        raise DataMismatch(
            f"document {doc_id} is to be packed in form {FORMS[asked[wrong[0]]]}, and its tokens cannot be "
            f"cut and encoded again without loss ({len(wrong)} such documents)",
            hint="pack with the tokenizer that the first part of it was packed with",
        )


def _closed(
    pieces: pa.RecordBatch,
    epoch: npt.NDArray[np.int32],
    form: Forms,
    start: Integers,
    length: Integers,
    tokens: npt.NDArray[Any] | None,
) -> Closed:
    doc_id, source = pieces["doc_id"], pieces["source"].cast(pa.string()).fill_null("")
    kept = length > 0
    if not kept.all():
        mask = pa.array(kept)
        doc_id, source = doc_id.filter(mask), source.filter(mask)
        epoch, form, start, length = epoch[kept], form[kept], start[kept], length[kept]
    return Closed(doc_id, source, pa.array(epoch), form, start, length, tokens)
