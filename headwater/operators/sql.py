"""Operators as DuckDB functions.

Nothing here keeps a connection: DuckDB prints ``nanobind: leaked …`` at exit when an open connection can be
reached from its own function, so the functions close over operators only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from headwater.errors import UsageError

if TYPE_CHECKING:
    from headwater.operators.registry import Operator, Parameter

_SIMPLE = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
    pa.date32(): "DATE",
}
_OF_PARAMETER = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}


def register(connection: duckdb.DuckDBPyConnection, operator: Operator) -> None:
    """Create ``_op_<name>`` (a vectorized function) and the macro ``<name>`` with the parameters' defaults.

    The macro casts its inputs to the declared types, so a UUID is accepted where binary is.
    """
    function = f"_op_{operator.name}"
    types = [sql_type(kind) for kind in operator.inputs.values()]
    parameter_types = [_OF_PARAMETER[_kind(default)] for default in operator.parameters.values()]
    try:
        connection.create_function(  # type: ignore[call-overload]  # the stubs do not know "arrow"
            function,
            _vectorized(operator, len(types) + len(parameter_types)),
            [duckdb.type(name) for name in (*types, *parameter_types)],
            duckdb.type(sql_type(operator.output)),
            type="arrow",
            null_handling="special",
            side_effects=not operator.deterministic,
        )
    except (duckdb.NotImplementedException, duckdb.CatalogException) as error:
        if "already" not in str(error):
            raise
    signature = [_quoted(name) for name in operator.inputs]
    arguments = [
        f"cast({_quoted(name)} as {kind})" for name, kind in zip(operator.inputs, types, strict=True)
    ]
    for (name, default), kind in zip(operator.parameters.items(), parameter_types, strict=True):
        quoted = _quoted(name)
        signature.append(quoted if isinstance(default, type) else f"{quoted} := {_literal(default)}")
        arguments.append(f"cast({quoted} as {kind})")
    call = f"{function}({', '.join(arguments)})"
    sql = f"create or replace macro {operator.name}({', '.join(signature)}) as {call}"
    connection.execute(sql).fetchall()  # an unfetched result keeps a DuckDB 2 connection busy


def sql_type(kind: pa.DataType) -> str:
    """The DuckDB type that an Arrow type becomes."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ" if kind.tz else "TIMESTAMP"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_fixed_size_list(kind):
        return f"{sql_type(kind.value_type)}[{kind.list_size}]"
    if pa.types.is_struct(kind):
        fields = ", ".join(f'"{field.name}" {sql_type(field.type)}' for field in kind)
        return f"STRUCT({fields})"
    raise UsageError(f"an operator cannot take or return {kind} in SQL")


def _vectorized(operator: Operator, count: int) -> Callable[..., pa.Array]:
    num_inputs = len(operator.inputs)
    names = list(operator.parameters)

    def call(*columns: pa.ChunkedArray) -> pa.Array:
        settings = {
            name: _constant(operator.name, name, column)
            for name, column in zip(names, columns[num_inputs:], strict=True)
        }
        return operator(*columns[:num_inputs], **settings)

    # DuckDB counts the parameters of the signature, and would take *columns for one.
    places = [inspect.Parameter(f"c{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(count)]
    call.__signature__ = inspect.Signature(places)  # type: ignore[attr-defined]
    return call


def _constant(operator: str, name: str, column: pa.ChunkedArray) -> Parameter:
    values = column.unique()
    if len(values) != 1 or not values[0].is_valid:
        raise UsageError(
            f"operator {operator}: parameter {name} must be one constant, got {len(values)} different values",
            hint="parameters are settings of the whole query, not columns",
        )
    value: Parameter = values[0].as_py()
    return value


def _kind(default: Any) -> type:
    return default if isinstance(default, type) else type(default)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Parameter) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
