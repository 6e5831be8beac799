"""``kind="parquet"``."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.ingest.inputs import DataFile
from headwater.ingest.tables import BATCH_BYTES, MAX_BATCH_ROWS, Batches, TableFiles, expanded

SUFFIXES = (".parquet", ".parq", ".pq")
_MAX_REPEATED_BYTES = 64 << 20
_MAX_DICTIONARY_BYTES = 16 << 20


class ParquetReader(TableFiles):
    """Row groups in order; their pages are read as they are needed."""

    suffixes = SUFFIXES
    format = "Parquet"

    def _schema(self, file: DataFile) -> pa.Schema:
        with open(file.path, "rb") as opened:  # noqa: PTH123
            return pq.read_schema(opened)

    def _batches(self, file: DataFile) -> Batches:
        with open(file.path, "rb") as opened:  # noqa: PTH123
            facts = pq.read_metadata(opened)
            rows, groups = facts.num_rows, [facts.row_group(i) for i in range(facts.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            batch_rows = int(max(1, min(MAX_BATCH_ROWS, BATCH_BYTES * rows // max(size, 1))))
            opened.seek(0)
            # Buffered pages instead of whole column chunks: a row group of text may be gigabytes.
            parquet = pq.ParquetFile(
                opened, buffer_size=1 << 20, pre_buffer=False, read_dictionary=_repeating(groups, batch_rows)
            )
            row = 0
            for batch in parquet.iter_batches(batch_size=batch_rows, use_threads=False):
                for piece in expanded(batch):
                    row += piece.num_rows
                    yield piece, file.size * piece.num_rows // max(rows, 1), row >= rows


def _repeating(groups: list[Any], batch_rows: int) -> list[str]:
    """Top-level columns whose rows may be copies of a few long values: a megabyte of them could be gigabytes.

    A writer gives a dictionary up at about a megabyte, and then values stand in the pages: such a chunk is as
    large as its text, and its average bounds a batch. What is left is a small chunk with many rows.
    """
    found: dict[str, int] = {}
    for group in groups:
        for i in range(group.num_columns):
            column = group.column(i)
            is_plain = column.physical_type != "BYTE_ARRAY" or "." in column.path_in_schema
            is_small = column.total_uncompressed_size <= _MAX_DICTIONARY_BYTES
            if is_small and not is_plain and column.has_dictionary_page:
                most = min(batch_rows, column.num_values) * column.total_uncompressed_size
                found[column.path_in_schema] = max(found.get(column.path_in_schema, 0), most)
    return [name for name, most in found.items() if most > _MAX_REPEATED_BYTES]
