"""A program of the user's own as a generator: prompts in, texts out, in this process."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headwater.errors import UnknownName, UsageError
from headwater.synthesis.generate.budget import Budget
from headwater.synthesis.generate.generator import (
    MAX_TOKENS,
    Completion,
    Generator,
    Prompt,
    check_defaults,
    not_sent,
    refused,
)

BATCH_SIZE = 32


class Program(Generator):
    """Calls ``function(prompts: list[Prompt]) -> list`` with batches.

    For each prompt, in order, the function returns a text, or a ``Completion`` where it has more to say. The
    prompts hold all parameters, also the generator's. It is the user's own code: it runs here, with all the
    rights of this process, and its module is looked for in the current directory first. An exception is the
    error of its whole batch.

    Parameters
    ----------
    target: ``module:function``.
    version: of the program; a digest of the module's source unless given, or the function's ``version``.
    """

    def __init__(
        self,
        target: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        version: str | None = None,
        batch_size: int = BATCH_SIZE,
        budget: Budget | None = None,
    ) -> None:
        self._function, module = _find(target)
        self.name = name or f"program:{target}"
        own = getattr(self._function, "version", None)
        self.version = version or (str(own) if own is not None else _source_digest(module))
        self.parameters = {"max_tokens": MAX_TOKENS, **(parameters or {})}
        check_defaults(self)
        self._batch_size = batch_size
        self._budget = budget or Budget()

    def complete(self, prompts: Iterable[Prompt]) -> Iterator[Completion]:
        self.stopped = None
        source = iter(prompts)
        while batch := list(itertools.islice(source, self._batch_size)):
            wrong = {id(prompt): problem for prompt in batch if (problem := self.check(prompt))}
            yield from (refused(p, wrong[id(p)], attempts=0) for p in batch if id(p) in wrong)
            taken = []
            for prompt in batch:
                if id(prompt) in wrong:
                    continue
                most = int(self.settings(prompt)["max_tokens"])
                turn = self._budget.reserve(prompt.most_prompt_tokens, most) if not self.stopped else None
                if turn is None:
                    self.stopped = self.stopped or f"the budget is spent: {self._budget}"
                    yield not_sent(prompt, self.stopped)
                else:
                    taken.append((prompt, turn))
            if taken:
                answers = self._call([prompt for prompt, _ in taken])
                for (_, turn), answer in zip(taken, answers, strict=True):
                    prompt_tokens = answer.prompt_tokens or 0
                    completion_tokens = answer.completion_tokens or 0
                    turn.settle(prompt_tokens, completion_tokens)
                    yield dataclasses.replace(answer, charged=turn.charged)

    def _call(self, batch: list[Prompt]) -> list[Completion]:
        began = time.monotonic()
        try:
            # Each prompt with the settings it stands under, so that the program need not know the defaults.
            found = list(self._function([_with_settings(self, prompt) for prompt in batch]))
            if len(found) != len(batch):
                raise ValueError(f"{len(batch)} prompts gave {len(found)} results")
        except Exception as error:
            said = f"the program failed: {type(error).__name__}: {error}"
            return [refused(prompt, said[:300], retryable=True) for prompt in batch]
        seconds = (time.monotonic() - began) / len(batch)
        return [_completion(p, answer, seconds) for p, answer in zip(batch, found, strict=True)]


def _with_settings(generator: Generator, prompt: Prompt) -> Prompt:
    return Prompt(prompt_id=prompt.prompt_id, messages=prompt.messages, parameters=generator.settings(prompt))


def _completion(prompt: Prompt, answer: Any, seconds: float) -> Completion:
    if isinstance(answer, Completion):
        if answer.prompt_id == prompt.prompt_id and (answer.text is None) != (answer.error is None):
            return answer
        return refused(
            prompt, "the program returned a completion of another prompt, or without text or error"
        )
    if not isinstance(answer, str):
        return refused(prompt, f"the program returned {type(answer).__name__}, expected a text")
    if not answer.strip():
        return refused(prompt, "the answer is empty")
    try:
        answer.encode("utf-8")
    except UnicodeEncodeError:
        return refused(prompt, "the answer is not valid Unicode")
    return Completion(prompt_id=prompt.prompt_id, text=answer, finish_reason="stop", seconds=seconds)


def _find(target: str) -> tuple[Callable[[list[Prompt]], Iterable[Any]], Any]:
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"got the program {target!r}", hint="program:module:function, both importable")
    if os.getcwd() not in sys.path and "" not in sys.path:  # noqa: PTH109 - compared with strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"cannot import the program's module {module_name}: {error}",
            hint="run where it lies, or put its folder on PYTHONPATH",
        ) from error
    function = getattr(module, name, None)
    if function is None:
        raise UnknownName.of(
            "function", name, [n for n in vars(module) if not n.startswith("_")], where=module_name
        )
    if not callable(function):
        raise UsageError(f"{target} is a {type(function).__name__}, expected a function")
    return function, module


def _source_digest(module: Any) -> str:
    file = inspect.getsourcefile(module)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else "unversioned"
