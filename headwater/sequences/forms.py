"""Forms of a document: plain, or rearranged so that a model learns to fill the middle (FIM).

A text is cut at two characters into prefix, middle and suffix, and its middle moved to the end behind what
surrounds it (Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle"):

- PSM: ``<|fim_prefix|> prefix <|fim_suffix|> suffix <|fim_middle|> middle``
- SPM: ``<|fim_prefix|> <|fim_suffix|> suffix <|fim_middle|> prefix middle``

This SPM is the paper's variant 2, which StarCoder trained with: it opens as PSM with an empty prefix does, so
that both forms teach one another, and prefix and middle stand next to each other as in plain text.

Cuts are made in the text and the three parts encoded apart, because a model is asked to fill gaps that begin
and end inside of what would have been one token. Whether, which form and where is decided by a hash of the
document's id, its epoch and a seed. Loss is on all tokens, as on plain documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import BadInput
from headwater.kernels.fill_middle import cut_points, join_parts, spell, spelled_lengths, spells_text
from headwater.kernels.xxh3 import xxh3_64
from headwater.tokenizer import FIM_TOKENS

if TYPE_CHECKING:
    from headwater.tokenizer import Encoder

FORMS = ("plain", "PSM", "SPM")
"""Names of the forms by their number in a span."""
PLAIN, PSM, SPM = range(3)

Integers = npt.NDArray[np.int64]
Forms = npt.NDArray[np.int8]
Bits = npt.NDArray[np.uint64]


def random_bits(doc_id: pa.Array, epoch: npt.NDArray[np.int32], seed: int) -> Bits:
    """Four random words for each repetition of a document, shape (4, documents): a function of the arguments.

    They differ from the words that order documents by the same seed: those hash no ``b"form"``.
    """
    rows = len(doc_id)
    keys = np.zeros((rows, 24), dtype=np.uint8)
    width = doc_id.type.byte_width
    data = np.frombuffer(doc_id.buffers()[1], dtype=np.uint8) if rows else np.empty(0, np.uint8)
    keys[:, :16] = data[doc_id.offset * width : (doc_id.offset + rows) * width].reshape(rows, width)
    keys[:, 16:20] = epoch.astype("<i4").view(np.uint8).reshape(rows, 4)
    keys[:, 20:] = np.frombuffer(b"form", dtype=np.uint8)
    names = pa.Array.from_buffers(pa.binary(24), rows, [None, pa.py_buffer(keys.tobytes())])
    return np.stack([_mixed(xxh3_64(names, seed), n) for n in range(4)])


def _mixed(state: Bits, n: int) -> Bits:
    """Output ``n`` of SplitMix64 from ``state`` (Steele, Lea and Flood 2014)."""
    z = state + np.uint64((n + 1) * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def choose_forms(asked: Forms, rate: npt.NDArray[np.float64], bits: Bits) -> Forms:
    """The forms asked for; where that is -1, PSM or SPM evenly for a share ``rate`` of the documents."""
    fills = (bits[0] >> np.uint64(11)) * 2.0**-53 < rate
    chosen = np.where(fills, PSM + (bits[1] & np.uint64(1)), PLAIN)
    return np.where(asked < 0, chosen, asked).astype(np.int8)


def arrange(
    encoder: Encoder,
    values: npt.NDArray[Any],
    begins: Integers,
    counts: Integers,
    forms: Forms,
    bits: Bits,
) -> tuple[npt.NDArray[Any], Integers]:
    """Fill-in-the-middle arrangements of documents, without control and end-of-text tokens.

    Parameters
    ----------
    values, begins, counts:
        Document i is ``values[begins[i] : begins[i] + counts[i]]``.
    forms:
        ``PSM`` or ``SPM`` of each.
    bits:
        From :func:`random_bits`; the last two words decide the cuts.

    Returns
    -------
    The arrangements end to end, and the length of each; 0 where a document cannot be arranged: it has no
    text, its tokens do not spell one, or the parts of it, encoded apart, do not spell it again (under a
    tokenizer that is not byte-level, that is every document).

    Raises
    ------
    BadInput
        The tokenizer has no fill-in-the-middle tokens.
    """
    lengths = np.zeros(len(counts), dtype=np.int64)
    prefix, middle, suffix = (encoder.special_id(name) for name in FIM_TOKENS)
    if encoder.spelling is None:
        return np.empty(0, dtype=encoder.dtype.to_pandas_dtype()), lengths
    alphabet, spelling = encoder.spelling
    size = np.empty_like(lengths)
    spelled_lengths(values, begins, counts, spelling, size)
    able = np.flatnonzero(size > 0)
    text, offsets = _texts(values, begins[able], counts[able], size[able], alphabet, spelling)
    valid = _are_texts(text, offsets)
    if not valid.all():
        able = able[valid]
        text, offsets = _texts(values, begins[able], counts[able], size[able], alphabet, spelling)
    cuts = np.empty(3 * len(able) + 1, dtype=np.int64)
    cut_points(text, offsets, bits[2][able], bits[3][able], cuts)
    parts = pa.LargeStringArray.from_buffers(3 * len(able), pa.py_buffer(cuts), pa.py_buffer(text))
    encoded = encoder.encode(parts)
    tokens, bounds = encoded.values.to_numpy(), encoded.offsets.to_numpy().astype(np.int64)
    same = np.empty(len(able), dtype=bool)
    spells_text(tokens, bounds, spelling, alphabet, text, offsets, same)
    kept = np.flatnonzero(same)
    able = able[same]
    lengths[able] = bounds[3 * kept + 3] - bounds[3 * kept] + len(FIM_TOKENS)
    out = np.empty(int(lengths.sum()), dtype=tokens.dtype)
    join_parts(tokens, bounds, kept, forms[able] == SPM, prefix, middle, suffix, out)
    return out, lengths


def _texts(
    values: npt.NDArray[Any],
    begins: Integers,
    counts: Integers,
    sizes: Integers,
    alphabet: npt.NDArray[np.uint8],
    spelling: Integers,
) -> tuple[npt.NDArray[np.uint8], Integers]:
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    data = np.empty(offsets[-1], dtype=np.uint8)
    spell(values, begins, counts, spelling, alphabet, data)
    return data, offsets


def _are_texts(data: npt.NDArray[np.uint8], offsets: Integers) -> npt.NDArray[np.bool_]:
    """Which slices of ``data`` are UTF-8: nearly always all, and then Arrow says so at once."""
    rows = len(offsets) - 1
    array = pa.LargeStringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(data))
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return np.array(
            [_is_text(data[offsets[i] : offsets[i + 1]].tobytes()) for i in range(rows)], dtype=bool
        )
    return np.ones(rows, dtype=bool)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def unform(tokens: Iterable[int], form: int, encoder: Encoder) -> str:
    """The text that a whole closed document was made of.

    ``tokens`` are those of its spans in order: control token and end-of-text token may be there or not.

    Raises
    ------
    BadInput
        ``form`` is unknown, or the tokens are not a whole document in that form.
    """
    ids = [int(token) for token in tokens]
    if not 0 <= form < len(FORMS):
        raise BadInput(f"there is no form {form}", hint=f"forms are numbered {dict(enumerate(FORMS))}")
    if ids and ids[-1] == encoder.eos_id:
        ids.pop()
    if form == PLAIN:
        return encoder.decode(ids[1:] if ids and encoder.is_special(ids[0]) else ids)
    prefix, middle, suffix = (encoder.special_id(name) for name in FIM_TOKENS)
    if [ids.count(i) for i in (prefix, middle, suffix)] != [1, 1, 1]:
        raise BadInput(
            f"a whole document in form {FORMS[form]} has one of each of {', '.join(FIM_TOKENS)}",
            hint="give the tokens of all its spans, in order",
        )
    at_prefix, at_suffix, at_middle = (ids.index(i) for i in (prefix, suffix, middle))
    if not at_prefix < at_suffix < at_middle:
        raise BadInput(f"the tokens are not in the order of form {FORMS[form]}")
    before, after, filled = (
        ids[at_prefix + 1 : at_suffix],
        ids[at_suffix + 1 : at_middle],
        ids[at_middle + 1 :],
    )
    # Each part by itself: the cuts lie between characters, and a decoder may trim what opens a text.
    return "".join(encoder.decode(part) for part in (before, filled, after))
