"""Leaving at any time: a table with its text as Parquet, JSON lines, Dolma or datatrove documents, and a
training order as Megatron's indexed data set."""

from headwater.export.folder import ExportedFile
from headwater.export.megatron import MegatronReport, export_megatron
from headwater.export.write import FORMATS, SHARD_BYTES, ExportReport, export

__all__ = [
    "FORMATS",
    "SHARD_BYTES",
    "ExportReport",
    "ExportedFile",
    "MegatronReport",
    "export",
    "export_megatron",
]
