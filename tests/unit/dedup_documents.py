"""Documents for the tests of exact, line and span deduplication."""

import pyarrow as pa
import xxhash

HOSTILE = [
    "",
    " \n\t ",
    "\0",
    "a\0b",
    "\u202e\u200f\u061c right to left \u202c",
    "😀👩‍👩‍👧‍👦🏳️‍🌈",
    "e\u0301te\u0301 E\u0301",
    "ⱥȺ\u0130I\u0131ẞ",
    "漢字かな交じり文。ไทยภาษา",
    "x" * 2_000_000,
    "line\n" * 100_000,
    "\ufeff\ufffd\uffff\U0010ffff",
]


def corpus(texts: list[str | None]) -> pa.Table:
    """Ids in no order."""
    ids = [xxhash.xxh3_128_digest(f"{i}".encode()) for i in range(len(texts))]
    return pa.table({"doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(texts, pa.large_string())})


def in_order(texts: list[str]) -> pa.Table:
    """Ids that ascend, so that the first occurrence is the first one written."""
    ids = [i.to_bytes(16, "big") for i in range(len(texts))]
    return pa.table({"doc_id": pa.array(ids, pa.binary(16)), "text": pa.array(texts, pa.large_string())})
