"""The programming language of a file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headwater.languages.programming import HOW, detect, languages
from headwater.operators.registry import operator, struct_array

DETECTED = pa.struct(
    [
        pa.field("language", pa.string()),
        pa.field("how", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("type", pa.string()),
        pa.field("syntax", pa.string()),
    ]
)


@operator(
    name="programming_language",
    version=1,
    inputs={"path": pa.large_string(), "text": pa.large_string()},
    output=DETECTED,
    source="Linguist 9.5.0 (languages.yml: names, extensions, interpreters); rules in languages/rules.py",
)
def programming_language(path: pa.Array, text: pa.Array) -> pa.Array:
    """The language of a file by its path (``''`` if it has none) and text; all fields null when unknown.

    ``how``: ``modeline`` (Emacs, Vim), ``name``, ``shebang``, ``extension``, ``content``. ``confidence``: 1
    for a modeline, name, interpreter or an extension of one language; 0.8 for a shared extension that a
    rule about the content settled, 0.5 for one that none settled; up to 0.8 for content alone. ``type``:
    programming, markup, data or prose. ``syntax``: what ``code_stats(language := …)`` knows it as (python,
    shell, c), null for other syntaxes. Content is the first 8 KiB.
    """
    found = detect(path, text)
    known = languages()

    def named(values: list[str | None]) -> pa.Array:
        return pa.array(values, pa.string()).take(
            pa.array(np.where(found.language < 0, len(known), found.language))
        )

    return struct_array(
        DETECTED,
        {
            "language": named([*(x.name for x in known), None]),
            "how": pa.array([*HOW, None], pa.string()).take(
                pa.array(np.where(found.how < 0, len(HOW), found.how))
            ),
            "confidence": pa.array(found.confidence, mask=found.language < 0),
            "type": named([*(x.type for x in known), None]),
            "syntax": named([*(x.syntax for x in known), None]),
        },
    )
