"""What every generator is: prompts in, one completion out for each of them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater.errors import UsageError
from headwater.synthesis.generate.budget import Budget

RAW_ROLE = "raw"
"""The role of the one message of a prompt that is text to be continued, not a conversation."""

ROLES = ("system", "user", "assistant", RAW_ROLE)

MAX_TOKENS = 512
"""Tokens of an answer where nothing else is asked for. There is always a bound: budgets rest on it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """One request: an id of the caller's, the messages, and what this prompt asks for beyond the defaults.

    Raises
    ------
    UsageError
        No message, a role that is none of :data:`ROLES`, or ``raw`` beside other messages.
    """

    prompt_id: str
    messages: tuple[dict[str, str], ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        roles = [message.get("role") for message in self.messages]
        wrong = [role for role in roles if role not in ROLES]
        if not roles or wrong or (RAW_ROLE in roles and len(roles) > 1):
            raise UsageError(
                f"prompt {self.prompt_id!r} has messages with the roles {roles}",
                hint=f"expected one or more of {', '.join(ROLES[:3])}; or {RAW_ROLE}, alone",
            )

    @classmethod
    def chat(cls, prompt_id: str, text: str, system: str | None = None, **parameters: Any) -> Prompt:
        """A conversation of one question."""
        first = ({"role": "system", "content": system},) if system else ()
        return cls(
            prompt_id=prompt_id,
            messages=(*first, {"role": "user", "content": text}),
            parameters=parameters,
        )

    @classmethod
    def raw(cls, prompt_id: str, text: str, **parameters: Any) -> Prompt:
        """A text to be continued."""
        message = {"role": RAW_ROLE, "content": text}
        return cls(prompt_id=prompt_id, messages=(message,), parameters=parameters)

    @property
    def is_raw(self) -> bool:
        return self.messages[0]["role"] == RAW_ROLE

    @property
    def text(self) -> str:
        """The content of all messages, for sizes and for raw prompts."""
        return "\n".join(message["content"] for message in self.messages)

    @property
    def digest(self) -> str:
        """Of the messages alone, 32 hex digits: equal for equal requests, whatever their ids."""
        return hashlib.sha256(
            canonical_json(list(self.messages)).encode("utf-8", "surrogatepass")
        ).hexdigest()[:32]

    @property
    def most_prompt_tokens(self) -> int:
        """What no tokenizer exceeds: a token is a byte or more; and what a chat template may add."""
        return len(self.text.encode("utf-8", "surrogatepass")) + 16 * (len(self.messages) + 1)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What became of one prompt. Exactly one of ``text`` and ``error`` is None.

    ``finish_reason``: ``stop`` (the model ended, or a stop string did), ``length`` (cut at the bound), or
    what the endpoint said. ``attempts`` is 0 for a prompt that was never sent: because the budget was spent
    or the endpoint given up (then it is ``retryable``), or because it never can be. ``retryable`` errors are
    those that another time may not have. ``charged`` counts prompt and completion tokens of all attempts, as
    the budget does: those without an answer at the most they can have taken.
    """

    prompt_id: str
    text: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    seconds: float = 0.0
    retryable: bool = False
    attempts: int = 1
    charged: tuple[int, int] = (0, 0)
    model: str | None = None
    """What an endpoint says it answered with."""

    @property
    def was_sent(self) -> bool:
        return self.attempts > 0


class Generator(ABC):
    """Completes prompts. ``name`` and ``version`` say what wrote a text, and are part of every cache key.

    Errors of one prompt are values; only a wrong configuration raises. Completions come as they are ready,
    not in the order of the prompts; prompts are pulled as they are needed, so that the iterable may be long.
    """

    name: str
    version: str
    parameters: Mapping[str, Any]
    """Defaults; a prompt's own come before them."""
    _budget: Budget
    stopped: str | None = None
    """Why nothing more is sent (the budget is spent, the endpoint is down); None while all is well."""

    def settings(self, prompt: Prompt) -> dict[str, Any]:
        """The parameters this prompt is completed with: those of the generator, then its own."""
        own = {name: value for name, value in prompt.parameters.items() if value is not None}
        return {**self.parameters, **own}

    def check(self, prompt: Prompt) -> str | None:
        """What is wrong with this prompt's parameters, if anything is."""
        settings = self.settings(prompt)
        for name, (kind, least, most) in _BOUNDS.items():
            value = settings.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
                return f"parameter {name} is {value!r}, expected a number from {least} to {most}"
        stop = settings.get("stop")
        stops = [stop] if isinstance(stop, str) else stop
        if stops is not None and not (
            isinstance(stops, list | tuple) and all(isinstance(each, str) and each for each in stops)
        ):
            return f"parameter stop is {stop!r}, expected a text or a list of texts"
        return None

    def use_budget(self, budget: Budget) -> None:
        """Keep to this budget from now on."""
        self._budget = budget

    @abstractmethod
    def complete(self, prompts: Iterable[Prompt]) -> Iterator[Completion]:
        """One completion for each prompt."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Give up what is held (a model's memory, connections)."""

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_BOUNDS: dict[str, tuple[Any, float, float]] = {
    "max_tokens": (int, 1, 10_000_000),
    "temperature": (int | float, 0, 100),
    "top_p": (int | float, 0, 1),
    "top_k": (int, 0, 10_000_000),
    "seed": (int, 0, 2**63 - 1),
    "repetition_penalty": (int | float, 0.01, 100),
}


def check_defaults(generator: Generator) -> None:
    """Raise ``UsageError`` when the generator's own parameters are wrong."""
    problem = generator.check(Prompt.raw("defaults", ""))
    if problem:
        raise UsageError(problem)


def canonical_json(value: Any) -> str:
    """One spelling for equal values: sorted keys, no spaces, any character."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def not_sent(prompt: Prompt, why: str) -> Completion:
    """For a prompt that nothing was done with."""
    return Completion(prompt_id=prompt.prompt_id, error=f"not sent: {why}", retryable=True, attempts=0)


def refused(prompt: Prompt, why: str, **facts: Any) -> Completion:
    """For a prompt that can never be completed."""
    return Completion(prompt_id=prompt.prompt_id, error=why, **facts)
