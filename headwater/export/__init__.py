"""Leaving at any time: a table with its text as Parquet, JSON lines, Dolma or datatrove documents."""

from headwater.export.write import FORMATS, SHARD_BYTES, ExportedFile, ExportReport, export

__all__ = ["FORMATS", "SHARD_BYTES", "ExportReport", "ExportedFile", "export"]
