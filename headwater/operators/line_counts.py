"""How many lines or paragraphs a document has, and their characters: what duplicate shares are shares of."""

from __future__ import annotations

import pyarrow as pa

from headwater.kernels.lines import units
from headwater.operators.registry import operator, struct_array

COUNTS = pa.struct([pa.field("num_units", pa.int64()), pa.field("num_chars", pa.int64())])


@operator(
    name="line_counts",
    version=1,
    inputs={"text": pa.large_string()},
    output=COUNTS,
    parameters={"unit": "line"},
    source="headwater.kernels.lines; line feeds as CCNet (arXiv 1911.00359), Dolma (arXiv 2402.00159)",
)
def line_counts(text: pa.Array, *, unit: str) -> pa.Array:
    """Units (``line``: between line feeds; ``paragraph``: between blank lines) and their characters.

    Blank lines are no unit; they and the line feeds between units are no part of the characters.
    """
    found = units(text, unit=unit, form="exact", min_chars=1)
    return struct_array(COUNTS, {"num_units": found.num_units, "num_chars": found.num_chars})
