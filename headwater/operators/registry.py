"""The declaration of an operator, the registry, and the three call forms."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.errors import MissingExtra, UnknownName, UsageError
from headwater.kernels.flat import whole

if TYPE_CHECKING:
    import duckdb
    import polars as pl

Function = Callable[..., pa.Array]
Parameter = bool | int | float | str
_PARAMETER_TYPES = (bool, int, float, str)

_REGISTRY: dict[str, Operator] = {}


class Operator:
    """A registered operator. Call it on Arrow arrays, one for each input, parameters by name.

    Attributes
    ----------
    name, version: the version rises whenever any output may change; model fingerprints hold both.
    inputs: Arrow type by input name, in order. Small, large and view strings (or binaries), dictionaries
        of them, fixed-size binaries and narrower integers are converted to the declared type.
    output: Arrow type of the result.
    parameters: default by name; a type (``str``, ``int``, ``float``, ``bool``) in place of a default makes
        the parameter required.
    deterministic: equal output on any machine for equal input.
    source: where the constants come from.
    extra, requires: the extra of Headwater, and the importable modules it brings, that the function needs.
    """

    def __init__(
        self,
        function: Function,
        *,
        name: str,
        version: int,
        inputs: Mapping[str, pa.DataType],
        output: pa.DataType,
        parameters: Mapping[str, Parameter | type[Parameter]] | None = None,
        deterministic: bool = True,
        source: str = "",
        extra: str | None = None,
        requires: Sequence[str] = (),
    ) -> None:
        self.function = function
        self.name = name
        self.version = version
        self.inputs = MappingProxyType(dict(inputs))
        self.output = output
        self.parameters = MappingProxyType(dict(parameters or {}))
        self.deterministic = deterministic
        self.source = source
        self.extra = extra
        self.requires = tuple(requires)
        self.__doc__ = function.__doc__
        if not name.isidentifier() or not self.inputs:
            raise UsageError(f"operator {name!r} needs an identifier for a name, and at least one input")
        for key, default in self.parameters.items():
            if default not in _PARAMETER_TYPES and not isinstance(default, _PARAMETER_TYPES):
                raise UsageError(
                    f"operator {name}: the default of {key} is a {type(default).__name__}",
                    hint="a parameter is a bool, int, float or str, or one of these types if it is required",
                )

    def __repr__(self) -> str:
        arguments = [*self.inputs, *(f"{k}={v!r}" for k, v in self.parameters.items())]
        return f"<operator {self.name}({', '.join(arguments)}) -> {self.output}, version {self.version}>"

    @property
    def available(self) -> bool:
        """Whether what the operator requires is installed."""
        return all(importlib.util.find_spec(module) is not None for module in self.requires)

    def __call__(self, *arrays: pa.Array | pa.ChunkedArray, **parameters: Parameter) -> pa.Array:
        """The result for each row; a row with a null in any input gives null."""
        settings = self.settings(parameters)
        if len(arrays) != len(self.inputs):
            raise UsageError(
                f"operator {self.name} takes {len(self.inputs)} array(s) ({', '.join(self.inputs)}), "
                f"got {len(arrays)}"
            )
        columns = [
            self._converted(name, kind, array)
            for (name, kind), array in zip(self.inputs.items(), arrays, strict=True)
        ]
        rows = len(columns[0])
        if any(len(column) != rows for column in columns):
            raise UsageError(f"operator {self.name}: arrays of {[len(c) for c in columns]} rows")
        if not any(column.null_count for column in columns):
            return self._result(rows, columns, settings)
        valid = np.ones(rows, dtype=np.bool_)
        for column in columns:
            valid &= column.is_valid().to_numpy(zero_copy_only=False)
        dense = [column.filter(pa.array(valid)) for column in columns]
        result = self._result(int(valid.sum()), dense, settings)
        return result.take(pa.array(np.cumsum(valid) - 1, mask=~valid))

    def settings(self, given: Mapping[str, Parameter]) -> dict[str, Parameter]:
        """Every parameter's value: the defaults, overridden by ``given``, checked."""
        for key in given:
            if key not in self.parameters:
                raise UnknownName.of("parameter", key, self.parameters, where=f"operator {self.name}")
        settings: dict[str, Parameter] = {}
        for key, default in self.parameters.items():
            kind = default if isinstance(default, type) else type(default)
            if key not in given and isinstance(default, type):
                raise UsageError(f"operator {self.name} needs the parameter {key} ({kind.__name__})")
            value = given.get(key, default)
            whole_number = kind is float and isinstance(value, int)
            if not (isinstance(value, kind) or whole_number) or (
                isinstance(value, bool) and kind is not bool
            ):
                raise UsageError(
                    f"operator {self.name}: parameter {key} expected {kind.__name__}, "
                    f"got {value!r} ({type(value).__name__})"
                )
            settings[key] = float(value) if whole_number else value  # type: ignore[assignment,arg-type]
        return settings

    def register(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make it a SQL function: ``minhash(text, num_perm := 112)``."""
        from headwater.operators.sql import register

        register(connection, self)

    def polars(self, *expressions: pl.Expr | str, **parameters: Parameter) -> pl.Expr:
        """The same as a Polars expression over as many expressions (or column names) as there are inputs."""
        from headwater.operators.frames import expression

        return expression(self, expressions, self.settings(parameters))

    def apply(
        self, batch: pa.RecordBatch, *, keep: Sequence[str] = ("doc_id",), **parameters: Parameter
    ) -> pa.RecordBatch:
        """The ``keep`` columns of ``batch`` (those it has) and the result, named as the operator.

        Inputs are the columns of ``batch`` with the inputs' names.
        """
        for name in self.inputs:
            if name not in batch.schema.names:
                raise UnknownName.of("column", name, batch.schema.names, where=f"operator {self.name}")
        kept = [name for name in keep if name in batch.schema.names]
        result = self(*(batch.column(name) for name in self.inputs), **parameters)
        return pa.record_batch([*(batch.column(name) for name in kept), result], names=[*kept, self.name])

    def batches(
        self, reader: Iterable[pa.RecordBatch], *, keep: Sequence[str] = ("doc_id",), **parameters: Parameter
    ) -> Iterator[pa.RecordBatch]:
        """:meth:`apply` over a stream, one batch in memory at a time."""
        for batch in reader:
            yield self.apply(batch, keep=keep, **parameters)

    def _converted(self, name: str, kind: pa.DataType, array: object) -> pa.Array:
        if not isinstance(array, pa.Array | pa.ChunkedArray):
            got = type(array).__name__
            raise UsageError(f"operator {self.name}: {name} expected an Arrow array of {kind}, got {got}")
        if array.type == kind and isinstance(array, pa.Array):
            return array
        column = whole(array)
        if column.type == kind:
            return column
        if not _convertible(column.type, kind):
            raise UsageError(f"operator {self.name}: {name} expected {kind}, got {array.type}")
        return column.cast(kind)

    def _result(self, rows: int, columns: list[pa.Array], settings: Mapping[str, Parameter]) -> pa.Array:
        if rows == 0:
            return pa.array([], type=self.output)
        if not self.available and self.extra:
            missing = next(m for m in self.requires if importlib.util.find_spec(m) is None)
            raise MissingExtra.of(missing, self.extra)
        result = self.function(*columns, **settings)
        if isinstance(result, pa.ChunkedArray):
            result = result.combine_chunks()
        if not isinstance(result, pa.Array) or result.type != self.output or len(result) != rows:
            got = (
                f"{result.type} of {len(result)} rows"
                if isinstance(result, pa.Array)
                else type(result).__name__
            )
            raise UsageError(f"operator {self.name} must return {self.output} of {rows} rows, returned {got}")
        return result


def _convertible(given: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_null(given):
        return True
    text, binary = (pa.string(), pa.large_string()), (pa.binary(), pa.large_binary())
    if wanted in text:
        return given in text
    if wanted in binary:
        return given in (*text, *binary) or pa.types.is_fixed_size_binary(given)
    if pa.types.is_integer(wanted) or pa.types.is_floating(wanted):
        return bool(
            pa.types.is_integer(given) or (pa.types.is_floating(wanted) and pa.types.is_floating(given))
        )
    return bool(given == wanted)


@overload
def operator(name: str, /) -> Operator: ...
@overload
def operator(
    *,
    name: str,
    version: int,
    inputs: Mapping[str, pa.DataType],
    output: pa.DataType,
    parameters: Mapping[str, Parameter | type[Parameter]] | None = None,
    deterministic: bool = True,
    source: str = "",
    extra: str | None = None,
    requires: Sequence[str] = (),
) -> Callable[[Function], Operator]: ...
def operator(*names: str, **declaration: Any) -> Operator | Callable[[Function], Operator]:
    """Look an operator up by name, or, with a declaration, decorate the function that is to be one.

    ``operator("minhash")`` returns the registered :class:`Operator`. ``@operator(name=…, version=…,
    inputs=…, output=…)`` registers the function below it and puts the Operator in its place. Declaring
    the same function again (a module reloaded) is fine; another function or version under a name that is
    taken raises UsageError; a name that is not there, UnknownName.
    """
    if names and not declaration:
        return get(*names)
    if names:
        raise UsageError("operator(name) looks one up; a declaration gives name= by keyword")

    def declare(function: Function) -> Operator:
        declared = Operator(function, **declaration)
        known = _REGISTRY.get(declared.name)
        if known is not None and not _same(known, declared):
            raise UsageError(
                f"operator {declared.name} is already registered: version {known.version} from "
                f"{_home(known)}, now version {declared.version} from {_home(declared)}",
                hint="give the new operator another name",
            )
        _REGISTRY[declared.name] = declared
        return declared

    return declare


def get(name: str) -> Operator:
    """The operator registered under ``name``; UnknownName with the nearest names if there is none."""
    try:
        return _REGISTRY[name]
    except KeyError:
        raise UnknownName.of("operator", name, _REGISTRY) from None


def registered() -> dict[str, Operator]:
    """Every operator by name, in the order of names."""
    return dict(sorted(_REGISTRY.items()))


def register_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Register every operator whose requirements are installed as a SQL function."""
    for declared in registered().values():
        if declared.available:
            declared.register(connection)


def _home(declared: Operator) -> str:
    return f"{declared.function.__module__}.{declared.function.__qualname__}"


def _same(known: Operator, declared: Operator) -> bool:
    # By name: a reloaded module makes new function objects.
    return known.version == declared.version and _home(known) == _home(declared)


def struct_array(fields: pa.StructType, columns: Mapping[str, Any]) -> pa.Array:
    """A struct array from numpy or Arrow columns, cast to the declared fields, in their order."""
    arrays = [
        column
        if isinstance(column, pa.Array) and column.type == field.type
        else pc.cast(pa.array(column), field.type)
        for field in fields
        for column in [columns[field.name]]
    ]
    return pa.StructArray.from_arrays(arrays, fields=list(fields))
