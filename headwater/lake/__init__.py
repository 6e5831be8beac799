"""The lake (contract C1): versioned Lance tables, one writer, digests, approvals."""

from headwater.lake.lake import Lake, TableVersion
from headwater.lake.names import RAW_SCHEMA, SYSTEM_TABLES
from headwater.lake.pieces import Piece, Pieces
from headwater.lake.provenance import Provenance, TableRef, new_build_id
from headwater.lake.table import Table

__all__ = [
    "RAW_SCHEMA",
    "SYSTEM_TABLES",
    "Lake",
    "Piece",
    "Pieces",
    "Provenance",
    "Table",
    "TableRef",
    "TableVersion",
    "new_build_id",
]
