"""Golden scores of the shipped scorer: ``python tests/golden/make_edu_scores.py`` after it was made anew."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from headwater.operators import operator

TEXTS = [
    "",
    "import os\n",
    "__version__ = '1.2.3'\n",
    'def gcd(a, b):\n    """Greatest common divisor, by Euclid.\n\n    >>> gcd(12, 18)\n    6\n    """\n'
    "    while b:\n        a, b = b, a % b  # the remainder keeps every common divisor\n    return a\n",
    "class Stack:\n    def __init__(self):\n        self._items = []\n\n    def push(self, item):\n"
    "        self._items.append(item)\n",
    "Ünïcode wörds, 漢字 and\r\nwindows lines\r\n\r\n_under_scores_ 12.5e3\n",
    "x" * 20_000,
    "# why\n" * 5_000,
]


def main() -> None:
    texts, op = pa.array(TEXTS, pa.large_string()), operator("edu_score")
    columns = {"edu_score": op(texts).to_pylist(), "edu_score_raw": op(texts, calibrated=False).to_pylist()}
    rows = [{"text": t, **{name: values[i] for name, values in columns.items()}} for i, t in enumerate(TEXTS)]
    Path(__file__).with_name("edu_scores.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
