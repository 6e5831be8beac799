"""What an OpenAI-compatible endpoint answers, read with suspicion."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from headwater.synthesis.generate.generator import Completion, Prompt

_CODE = re.compile(r"[\w.\-]{1,64}")
_MOST_TOKENS = 1 << 40


class BadAnswer(ValueError):
    """An answer that cannot be used; whether it is worth asking again, now or in another run."""

    def __init__(self, message: str, *, is_retried: bool = True, is_retryable: bool = True) -> None:
        self.is_retried = is_retried
        self.is_retryable = is_retryable
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The text and what the endpoint says of it. Counts are None where it says none that can be true."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str | None

    def charged(self, most_prompt_tokens: int, most_completion_tokens: int) -> tuple[int, int]:
        """Tokens to charge: as counted; without a count, the most it can have been."""
        prompt = most_prompt_tokens if self.prompt_tokens is None else self.prompt_tokens
        text_bytes = len(self.text.encode("utf-8"))
        bound = min(most_completion_tokens, text_bytes + 1)
        return prompt, bound if self.completion_tokens is None else self.completion_tokens

    def completion(self, prompt: Prompt) -> Completion:
        return Completion(
            prompt_id=prompt.prompt_id,
            text=self.text,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            finish_reason=self.finish_reason,
            model=self.model,
        )


def read_answer(body: bytes, content_type: str, *, is_raw: bool) -> Answer:
    """Read the body of a 200. Raises BadAnswer."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadAnswer(f"the answer is not UTF-8 (byte {error.start})") from error
    if content_type.lower().startswith("text/event-stream"):
        return _streamed(text, is_raw)
    found = _json(text, content_type)
    choice = _choice(found)
    said = choice.get("text") if is_raw else _content(choice.get("message"))
    return _answer(said, choice.get("finish_reason"), found.get("usage"), found.get("model"))


def refusal(body: bytes) -> str:
    """What the body of an error says, short, in one line; '' when it says nothing readable."""
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return ""
    error = found.get("error", found) if isinstance(found, dict) else None
    if isinstance(error, str):
        return _line(error)
    if not isinstance(error, dict):
        return ""
    code = error.get("code") or error.get("type")
    parts = [code] if isinstance(code, str) and _CODE.fullmatch(code) else []
    message = error.get("message") or error.get("detail")
    if isinstance(message, str):
        parts.append(_line(message))
    return ": ".join(parts)


def _json(text: str, content_type: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = content_type.partition(";")[0].strip()[:60] or "no content type"
        raise BadAnswer(f"the answer is no JSON ({kind}, {len(text):,} characters)") from error
    if not isinstance(found, dict):
        raise BadAnswer(f"the answer is a JSON {type(found).__name__}, expected an object")
    return found


def _choice(found: dict[str, Any]) -> dict[str, Any]:
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        said = refusal(json.dumps(found).encode()) if "error" in found else ""
        raise BadAnswer("the answer holds no choices" + (f": {said}" if said else ""))
    first: dict[str, Any] = choices[0]
    return first


def _content(message: Any) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):  # parts, of which only texts can be used
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content


def _streamed(text: str, is_raw: bool) -> Answer:
    """Server-sent events: each ``data:`` line is a piece; ``[DONE]`` or a finish reason ends them."""
    pieces: list[str] = []
    finish = usage = model = None
    ended = False
    for line in text.splitlines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            ended = True
            break
        event = _json(data, "text/event-stream")
        model = event.get("model") or model
        usage = event.get("usage") or usage
        if "error" in event:
            raise BadAnswer(f"the stream ends in an error: {refusal(data.encode())}")
        if not event.get("choices"):
            continue  # the event that only counts
        choice = _choice(event)
        piece = choice.get("text") if is_raw else _content(choice.get("delta"))
        if isinstance(piece, str):
            pieces.append(piece)
        finish = choice.get("finish_reason") or finish
    if not ended and finish is None:
        raise BadAnswer("the stream breaks off")
    return _answer("".join(pieces), finish, usage, model)


def _answer(said: Any, finish: Any, usage: Any, model: Any) -> Answer:
    if said is None and finish == "content_filter":
        raise BadAnswer("refused by the endpoint's filter", is_retried=False, is_retryable=False)
    if not isinstance(said, str):
        raise BadAnswer("the answer holds no text")
    if not said.strip():
        raise BadAnswer("the answer is empty", is_retryable=False)
    counted = usage if isinstance(usage, dict) else {}
    return Answer(
        # JSON can spell halves of surrogate pairs, which no UTF-8 holds.
        text=said.encode("utf-8", "replace").decode("utf-8") if not _is_valid(said) else said,
        finish_reason=finish[:40] if isinstance(finish, str) and finish else "unknown",
        prompt_tokens=_count(counted.get("prompt_tokens")),
        completion_tokens=_count(counted.get("completion_tokens")),
        model=_line(model)[:200] if isinstance(model, str) else None,
    )


def _is_valid(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _MOST_TOKENS else None


def _line(text: str) -> str:
    """One printable line of at most 200 characters."""
    shown = "".join(c if c.isprintable() else " " for c in text[:400])
    return " ".join(shown.split())[:200]
