# ruff: noqa: ARG002 - the signatures are SQLAlchemy's
# mypy: disable-error-code="misc"
"""A thin SQLAlchemy dialect that lets Great Expectations judge DuckDB views over Lance tables.

``duckdb-engine`` shares one DuckDB connection between all its cursors, and Great Expectations
closes its SQLAlchemy connection before it fetches: the rollback then drops the result. Here each
cursor owns a DuckDB cursor, so a result outlives the connection that asked for it.

The module is shaped as SQLAlchemy's own dialect modules are (``dialect`` and the type names at
module level), because Great Expectations resolves type names and regular-expression support by
looking at such a module, never at a dialect's class.

It needs SQLAlchemy (the ``checks`` extra) and is imported only where checks run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
from sqlalchemy import types as sqltypes  # noqa: TID253 - this module is about SQLAlchemy
from sqlalchemy.dialects import registry  # noqa: TID253
from sqlalchemy.dialects.postgresql.base import (  # noqa: TID253
    PGCompiler,
    PGIdentifierPreparer,
    PGTypeCompiler,
)
from sqlalchemy.engine import default  # noqa: TID253
from sqlalchemy.exc import NoSuchTableError  # noqa: TID253
from sqlalchemy.types import (  # noqa: TID253
    BIGINT,
    BLOB,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INTEGER,
    SMALLINT,
    TIME,
    TIMESTAMP,
    UUID,
    VARCHAR,
)

NAME = "headwater"
"""What the dialect is called in a connection string: ``headwater://``."""


class HUGEINT(sqltypes.Integer):
    """DuckDB's 128-bit integer, the type of a sum over integers."""


class UBIGINT(sqltypes.Integer):
    """Unsigned integers of any width."""


class DECIMAL(sqltypes.Numeric[Any]):
    """A decimal number of fixed precision."""


class LIST(sqltypes.NullType):
    """A list or array of any element type."""


class STRUCT(sqltypes.NullType):
    """A struct or map."""


_TYPES: Mapping[str, type[sqltypes.TypeEngine[Any]]] = {
    "BIGINT": BIGINT,
    "BLOB": BLOB,
    "BOOLEAN": BOOLEAN,
    "DATE": DATE,
    "DECIMAL": DECIMAL,
    "DOUBLE": DOUBLE,
    "FLOAT": FLOAT,
    "HUGEINT": HUGEINT,
    "INTEGER": INTEGER,
    "MAP": STRUCT,
    "SMALLINT": SMALLINT,
    "STRUCT": STRUCT,
    "TIME": TIME,
    "TIMESTAMP": TIMESTAMP,
    "TINYINT": SMALLINT,
    "UBIGINT": UBIGINT,
    "UHUGEINT": UBIGINT,
    "UINTEGER": UBIGINT,
    "USMALLINT": UBIGINT,
    "UTINYINT": UBIGINT,
    "UUID": UUID,
    "VARCHAR": VARCHAR,
}


def column_type(declared: str) -> sqltypes.TypeEngine[Any]:
    """Return the SQLAlchemy type of a DuckDB type name such as ``DECIMAL(18,3)`` or ``VARCHAR[]``."""
    if declared.endswith("]"):
        return LIST()
    found = re.match(r"[A-Z]+", declared.upper())
    return _TYPES.get(found.group() if found else "", sqltypes.NullType)()


class Cursor:
    """A DB-API cursor with a DuckDB cursor of its own, which sees the registered Lance scans."""

    arraysize = 1_000
    rowcount = -1

    def __init__(self, connection: duckdb.DuckDBPyConnection, scans: Mapping[str, object]) -> None:
        self._cursor = connection.cursor()
        # Registered objects belong to one cursor: each new one has to be shown them again.
        for name, scan in scans.items():
            self._cursor.register(name, scan)

    @property
    def description(self) -> Sequence[Any] | None:
        return self._cursor.description

    def execute(self, statement: str, parameters: Any = None) -> None:
        self._cursor.execute(statement, parameters if parameters else None)

    def executemany(self, statement: str, parameters: Any) -> None:
        self._cursor.executemany(statement, list(parameters))

    def fetchone(self) -> Any:
        return self._cursor.fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return self._cursor.fetchmany(size or self.arraysize)

    def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    def close(self) -> None:
        self._cursor.close()


class Connection:
    """A DB-API connection over a DuckDB connection that somebody else owns and closes.

    Checks only read immutable versions, so there is nothing to commit or to roll back.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, scans: Mapping[str, object]) -> None:
        self._connection = connection
        self._scans = scans

    def cursor(self) -> Cursor:
        return Cursor(self._connection, self._scans)

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


def connector(connection: duckdb.DuckDBPyConnection, scans: Mapping[str, object]) -> Callable[[], Connection]:
    """Return what ``sqlalchemy.create_engine("headwater://", creator=…)`` wants.

    ``scans`` maps a name to the Lance dataset that is registered under it; the views of
    ``connection`` read from those names.
    """
    return lambda: Connection(connection, scans)


class DBAPI:
    """The module-level facts of a DB-API driver (PEP 249)."""

    apilevel = "2.0"
    threadsafety = 2
    paramstyle = "numeric_dollar"
    Error = duckdb.Error
    DatabaseError = duckdb.DatabaseError
    DataError = duckdb.DataError
    IntegrityError = duckdb.IntegrityError
    InterfaceError = getattr(duckdb, "InterfaceError", duckdb.Error)
    InternalError = duckdb.InternalError
    NotSupportedError = duckdb.NotSupportedError
    OperationalError = duckdb.OperationalError
    ProgrammingError = duckdb.ProgrammingError

    @staticmethod
    def connect(*_: Any, **__: Any) -> Connection:
        """A bare ``headwater://`` is an empty in-memory database; checks pass a ``creator``."""
        return Connection(duckdb.connect(), {})


class TypeCompiler(PGTypeCompiler):
    """Type names where PostgreSQL's would lose precision in DuckDB."""

    def visit_FLOAT(self, type_: Any, **kw: Any) -> str:
        return "DOUBLE"  # FLOAT has 4 bytes in DuckDB and 8 in PostgreSQL

    def visit_NUMERIC(self, type_: Any, **kw: Any) -> str:
        # A bare NUMERIC is DECIMAL(18,3) in DuckDB, of any precision in PostgreSQL.
        return "DOUBLE" if type_.precision is None else super().visit_NUMERIC(type_, **kw)

    visit_DECIMAL = visit_NUMERIC

    def visit_BLOB(self, type_: Any, **kw: Any) -> str:
        return "BLOB"


class IdentifierPreparer(PGIdentifierPreparer):
    """Quotes every name: DuckDB reserves words (``at``, ``pivot``) that PostgreSQL does not."""

    def _requires_quotes(self, value: str) -> bool:
        return True


class HeadwaterDialect(default.DefaultDialect):
    """PostgreSQL's grammar, DuckDB's types, and reflection of views by ``describe``."""

    name = NAME
    driver = "duckdb"
    statement_compiler = PGCompiler
    type_compiler_cls = TypeCompiler
    preparer = IdentifierPreparer
    default_schema_name = "main"
    default_paramstyle = "numeric_dollar"
    max_identifier_length = 1_000
    supports_statement_cache = True
    supports_native_boolean = True
    supports_native_uuid = True
    supports_sane_rowcount = False
    supports_default_values = True
    _backslash_escapes = False  # read by PostgreSQL's compiler when it renders a literal

    @classmethod
    def import_dbapi(cls) -> Any:
        return DBAPI

    def initialize(self, connection: Any) -> None:
        """Probe nothing: all there is to know about the server stands in this class."""

    def do_ping(self, dbapi_connection: Any) -> bool:
        return True

    def get_schema_names(self, connection: Any, **kw: Any) -> list[str]:
        rows = connection.exec_driver_sql("select distinct schema_name from duckdb_schemas() order by 1")
        return [name for (name,) in rows]

    def get_table_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        return []  # a check sees views only

    def get_view_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        rows = connection.exec_driver_sql(
            "select view_name from duckdb_views() where not internal and schema_name = $1 order by 1",
            (schema or self.default_schema_name,),
        )
        return [name for (name,) in rows]

    def has_table(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> bool:
        return table_name in self.get_view_names(connection, schema)

    def get_columns(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[Any]:
        quote = self.identifier_preparer.quote_identifier
        name = f"{quote(schema or self.default_schema_name)}.{quote(table_name)}"
        try:
            rows = connection.exec_driver_sql(f"describe {name}").fetchall()
        except Exception as error:
            raise NoSuchTableError(name) from error
        return [
            {"name": column, "type": column_type(declared), "nullable": True, "default": None}
            for column, declared, *_ in rows
        ]

    def get_pk_constraint(self, *args: Any, **kw: Any) -> Any:
        return {"constrained_columns": [], "name": None}

    def get_foreign_keys(self, *args: Any, **kw: Any) -> list[Any]:
        return []

    def get_indexes(self, *args: Any, **kw: Any) -> list[Any]:
        return []

    def get_unique_constraints(self, *args: Any, **kw: Any) -> list[Any]:
        return []

    def get_check_constraints(self, *args: Any, **kw: Any) -> list[Any]:
        return []


dialect = HeadwaterDialect

DremioDialect = HeadwaterDialect
"""Great Expectations writes a regular expression as ``REGEXP_MATCHES(column, pattern)``, which is
DuckDB's own function, for a dialect module that has this name. PostgreSQL's ``~``, the other choice,
must match the whole string in DuckDB."""

registry.register(NAME, __name__, "HeadwaterDialect")

__all__ = [
    "BIGINT",
    "BLOB",
    "BOOLEAN",
    "DATE",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "HUGEINT",
    "INTEGER",
    "LIST",
    "NAME",
    "SMALLINT",
    "STRUCT",
    "TIME",
    "TIMESTAMP",
    "UBIGINT",
    "UUID",
    "VARCHAR",
    "Connection",
    "Cursor",
    "HeadwaterDialect",
    "column_type",
    "connector",
    "dialect",
]
