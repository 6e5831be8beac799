"""What a file itself says about its license."""

from __future__ import annotations

import pyarrow as pa

from headwater.licenses.schemas import EVIDENCE
from headwater.operators.registry import operator


@operator(
    name="license_evidence",
    version=1,
    inputs={"text": pa.large_string()},
    output=EVIDENCE,
    source="SPDX license list 3.29.0 (CC0-1.0); SPDX specification 2.3, annex E (tags); REUSE 3.3",
)
def license_evidence(text: pa.Array) -> pa.Array:
    """SPDX tags, notices and whole license texts in each file.

    * ``spdx``: the expression, or null. SPDX tags decide where there are any; else all notices and texts
      together (AND; OR where the notice offers a choice); else mentions near the beginning or the end.
    * ``detector``: ``spdx_tag``, ``text`` (a text of the SPDX list), ``notice``, ``mention`` (a license
      named as the file's: "BSD license, see LICENSE"), ``name`` (a license named), ``reference`` (only the
      name of another file), or null.
    * ``confidence``: 1 for tags, the share of the text that is there for texts, else 0.95 (a grant's own
      wording), 0.85 (a GNU license without version), 0.6 (a mention), 0.4 (a name), 0.3 (a reference): an
      order, not a probability.
    * ``first_line``, ``last_line``: where, from 1.
    * ``is_part``: only inside a long file, more than 6 KiB from its beginning and 4 KiB from its end: what is
      said there may be of a part.
    * ``refers``: a notice points to a license file.
    * ``num_licenses``: SPDX ids in the expression; ``disagree``: parts of the file name different ones.
    """
    from headwater.licenses.detect import evidence

    return evidence(text)
