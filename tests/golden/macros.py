"""The rule macros rendered as dbt renders them, without dbt: fast enough for every document and variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

FOLDER = Path(__file__).parents[2] / "sql" / "macros" / "rules"


class CompilerError(Exception):
    pass


class _Return(Exception):
    pass


class _Exceptions:
    @staticmethod
    def raise_compiler_error(message: str) -> None:
        raise CompilerError(message)


class _Package:
    """The macros of every file, as dbt's ``headwater.`` namespace; ``return`` gives a value that is no text."""

    def __init__(self) -> None:
        environment = jinja2.Environment(extensions=["jinja2.ext.do"], undefined=jinja2.StrictUndefined)
        environment.globals.update(headwater=self, exceptions=_Exceptions(), **{"return": self._return})
        self._macros: dict[str, Any] = {}
        for path in sorted(FOLDER.glob("*.sql")):
            module = environment.from_string(path.read_text(encoding="utf-8")).module
            self._macros.update(
                {k: v for k, v in vars(module).items() if isinstance(v, jinja2.runtime.Macro)}
            )

    def _return(self, value: Any) -> None:
        raise _Return(value)

    def __getattr__(self, name: str) -> Any:
        macro = self._macros[name]

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return str(macro(*arguments, **named)).strip()
            except _Return as returned:
                return returned.args[0]

        return call


headwater = _Package()
