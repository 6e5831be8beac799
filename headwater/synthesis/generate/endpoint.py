"""An OpenAI-compatible endpoint: chat completions and raw completions over HTTP.

The other side is hostile or broken until it has shown otherwise: answers are read in bounded bytes and
bounded time, and checked. What a request may cost is reserved before it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import email.utils
import os
import queue
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headwater.errors import MissingExtra, UsageError
from headwater.synthesis.generate.answers import BadAnswer, read_answer, refusal
from headwater.synthesis.generate.budget import Budget, RateLimit, Reservation
from headwater.synthesis.generate.generator import (
    MAX_TOKENS,
    Completion,
    Generator,
    Prompt,
    check_defaults,
    not_sent,
    refused,
)

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 300.0
MAX_ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 300.0
"""An endpoint that asks for more patience than this is not waited for in this run."""
MAX_RESPONSE_BYTES = 16 << 20
GIVE_UP_AFTER = 3
"""Prompts given up in a row, with no answer between them, until the endpoint counts as dead."""

RETRIED_STATUS = frozenset({408, 409, 425, 429}) | frozenset(range(500, 600))
LATER_STATUS = frozenset({401, 402, 403, 404, 405, 410}) | frozenset(range(300, 400))
"""Not tried again in this run, but no fault of the prompt: a later run may have key and address right."""

_OURS = ("model", "messages", "prompt", "stream", "stream_options", "n")


@dataclass(frozen=True)
class _Failure:
    error: str
    is_retried: bool
    """In this run, with a pause."""
    is_retryable: bool
    """By a later run."""
    counts_against_endpoint: bool = True
    retry_after: float | None = None


class Endpoint(Generator):
    """Completes prompts by ``POST …/chat/completions``, or ``…/completions`` for raw ones.

    Parameters
    ----------
    url: the base, as OpenAI's clients take it (``https://host/v1``).
    model: sent as ``model``.
    name, version: what the lake records as the generator. The name is the address and the model unless given;
        nobody can ask an endpoint for its version: say it where the model behind a name may change.
    api_key_env: name of the environment variable that holds the key. The key is read when it is needed, and
        stands in no record, log or message.
    timeout_seconds: from the connection to the last byte, for one attempt, whatever trickles in.
    stream: ask for server-sent events; for servers that answer long completions in no other way.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        version: str | None = None,
        api_key_env: str | None = None,
        concurrency: int = 8,
        timeout_seconds: float = TIMEOUT_SECONDS,
        max_attempts: int = MAX_ATTEMPTS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        give_up_after: int = GIVE_UP_AFTER,
        budget: Budget | None = None,
        rate_limit: RateLimit | None = None,
        stream: bool = False,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        seed: int | None = None,
    ) -> None:
        self._url = _checked_url(url)
        if concurrency < 1 or max_attempts < 1 or give_up_after < 1 or timeout_seconds <= 0:
            raise UsageError("concurrency, attempts and the timeout must be at least one")
        self._httpx = _httpx()
        self._model = model
        self.name = name or f"{self._url}#{model}"
        self.version = version or "unversioned"
        self.parameters = {"max_tokens": MAX_TOKENS, **(parameters or {})}
        ours = [key for key in self.parameters if key in _OURS]
        if ours:
            raise UsageError(f"got parameters that are not yours to set: {', '.join(ours)}")
        check_defaults(self)
        self._key_env = api_key_env
        self._key()
        self._concurrency = concurrency
        self._timeout = timeout_seconds
        self._max_attempts = max_attempts
        self._max_bytes = max_response_bytes
        self._give_up_after = give_up_after
        self._budget = budget or Budget()
        self._limit = rate_limit or RateLimit()
        self._stream = stream
        self._sleep = sleep
        self._random = random.Random(seed)  # noqa: S311 - jitter, not a secret
        self._failed_in_a_row = 0

    def complete(self, prompts: Iterable[Prompt]) -> Iterator[Completion]:
        """One completion for each prompt, as they come; at most ``concurrency`` requests are under way."""
        source = iter(prompts)
        done: queue.SimpleQueue[Future[Completion]] = queue.SimpleQueue()
        self.stopped = None
        self._failed_in_a_row = 0
        waiting = 0
        with _Loop() as loop:
            sender = loop.call(self._open())
            try:
                exhausted = False
                while True:
                    # Some wait in line, so that a slow reader of the results does not idle the endpoint.
                    while not exhausted and waiting < 2 * self._concurrency:
                        prompt = next(source, None)
                        if prompt is None:
                            exhausted = True
                        else:
                            loop.start(sender.complete(prompt)).add_done_callback(done.put)
                            waiting += 1
                    if not waiting:
                        return
                    future = done.get()
                    waiting -= 1
                    yield future.result()
                    # Only now may another be sent: no more answers than places are ever in doubt, should the
                    # process be killed before the caller has put them in safety.
                    loop.soon(sender.free_place)
            finally:
                loop.call(sender.close())

    async def _open(self) -> _Sender:
        return _Sender(self)

    def _key(self) -> str | None:
        if self._key_env is None:
            return None
        key = os.environ.get(self._key_env)
        if not key:
            raise UsageError(
                f"the environment variable {self._key_env} is not set",
                hint="it should hold the endpoint's key; the option takes the variable's name, not the key",
            )
        if not key.isascii() or not key.isprintable() or key != key.strip():
            raise UsageError(f"what {self._key_env} holds cannot be sent as a key")
        return key

    def scrub(self, text: str) -> str:
        """``text`` without the key, should an endpoint send it back."""
        key = os.environ.get(self._key_env) if self._key_env else None
        return text.replace(key, "***") if key else text

    def body(self, prompt: Prompt) -> dict[str, Any]:
        """What is sent for a prompt."""
        settings = {key: value for key, value in self.settings(prompt).items() if value is not None}
        if prompt.is_raw:
            asked: dict[str, Any] = {"prompt": prompt.messages[0]["content"]}
        else:
            asked = {"messages": list(prompt.messages)}
        return {**settings, "model": self._model, **asked, "stream": self._stream}


class _Sender:
    """One run against the endpoint, inside its event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._to = endpoint
        self._places = asyncio.Semaphore(endpoint._concurrency)
        self._settled = asyncio.Event()
        self._stop = asyncio.Event()
        self._is_local = urlsplit(endpoint._url).hostname in ("localhost", "127.0.0.1", "::1")
        # Certificates cost a tenth of a second to load; plain HTTP to this machine needs none.
        is_plain = self._is_local and endpoint._url.startswith("http://")
        self._tls = False if is_plain else endpoint._httpx.create_ssl_context()
        self._clients: list[httpx.AsyncClient] = []
        self._idle: list[httpx.AsyncClient] = []

    def _client(self) -> httpx.AsyncClient:
        """One that nobody uses now: a client with many connections looks at each of them for each request."""
        if self._idle:
            return self._idle.pop()
        client: httpx.AsyncClient = self._to._httpx.AsyncClient(
            timeout=self._to._timeout,
            verify=self._tls,
            follow_redirects=False,  # the key goes to the host it was given for, and to no other
            trust_env=not self._is_local,
        )
        self._clients.append(client)
        return client

    async def close(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.aclose()

    def free_place(self) -> None:
        self._places.release()

    async def complete(self, prompt: Prompt) -> Completion:
        """Ask until there is an answer or no hope; the place that this takes is for the caller to free."""
        endpoint = self._to
        await self._places.acquire()
        problem = endpoint.check(prompt) or _not_ours(prompt)
        if problem:
            return refused(prompt, problem, attempts=0)
        began = time.monotonic()
        attempts, charged = 0, (0, 0)
        failure: _Failure | None = None
        while True:
            turn = await self._turn(prompt)
            if turn is None:
                if failure is None:
                    return not_sent(prompt, endpoint.stopped or "the run has stopped")
                break
            attempts += 1
            try:
                found = await self._attempt(prompt, turn)
            finally:
                turn.release()  # where a cancelled attempt has not settled
                self._settled.set()
            charged = (charged[0] + turn.charged[0], charged[1] + turn.charged[1])
            if isinstance(found, Completion):
                endpoint._failed_in_a_row = 0
                took = time.monotonic() - began
                return dataclasses.replace(found, seconds=took, attempts=attempts, charged=charged)
            failure = found
            if not failure.is_retried or attempts >= endpoint._max_attempts:
                break
            pause = self._pause_after(attempts, failure)
            if pause is None:
                break
            await self._nap(pause)
        self._count_against(failure)
        return Completion(
            prompt_id=prompt.prompt_id,
            error=failure.error,
            retryable=failure.is_retryable,
            seconds=time.monotonic() - began,
            attempts=attempts,
            charged=charged,
        )

    async def _turn(self, prompt: Prompt) -> Reservation | None:
        """Wait until this prompt may be sent: budget first, then the rate. None when the run has stopped."""
        endpoint = self._to
        most = int(endpoint.settings(prompt)["max_tokens"])
        while not self._stop.is_set():
            self._settled.clear()
            reserved = endpoint._budget.reserve(prompt.most_prompt_tokens, most)
            if reserved is not None:
                await self._nap(endpoint._limit.wait(prompt.most_prompt_tokens + most))
                if not self._stop.is_set():
                    return reserved
                reserved.release()
            elif endpoint._budget.is_idle:
                self._end(f"the budget is spent: {endpoint._budget}")
            else:
                await self._settled.wait()
        return None

    async def _attempt(self, prompt: Prompt, turn: Reservation) -> Completion | _Failure:
        """Send once, read what comes within the bounds, and settle what it took."""
        endpoint, httpx = self._to, self._to._httpx
        limit = turn.prompt_tokens + turn.completion_tokens
        try:
            async with asyncio.timeout(endpoint._timeout):
                status, headers, body = await self._exchange(prompt)
            if status == 200:
                answer = read_answer(body, headers.get("content-type", ""), is_raw=prompt.is_raw)
                prompt_tokens, completion_tokens = answer.charged(turn.prompt_tokens, turn.completion_tokens)
                turn.settle(prompt_tokens, completion_tokens)
                endpoint._limit.give_back(limit - prompt_tokens - completion_tokens)
                return answer.completion(prompt)
        except BadAnswer as error:
            turn.charge()
            return _Failure(endpoint.scrub(str(error)), error.is_retried, error.is_retryable)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            turn.release()
            endpoint._limit.give_back(limit)
            return _Failure(f"no connection: {_words(error)}", True, True)
        except (TimeoutError, httpx.TimeoutException):
            turn.charge()
            return _Failure(f"no complete answer within {endpoint._timeout:g} s", True, True)
        except httpx.HTTPError as error:
            turn.charge()
            return _Failure(f"the connection broke: {endpoint.scrub(_words(error))}", True, True)
        turn.release()
        endpoint._limit.give_back(limit)
        return self._failed(status, headers, body)

    def _failed(self, status: int, headers: Mapping[str, str], body: bytes) -> _Failure:
        said = self._to.scrub(refusal(body))
        error = f"HTTP {status}" + (f": {said}" if said else "")
        if status in RETRIED_STATUS:
            after = retry_after(headers.get("retry-after"), headers.get("date"))
            return _Failure(error, True, True, retry_after=after)
        if status == 401:
            self._end("the endpoint refuses the key (HTTP 401)")
        later = status in LATER_STATUS
        return _Failure(error, False, later, counts_against_endpoint=later)

    async def _exchange(self, prompt: Prompt) -> tuple[int, Mapping[str, str], bytes]:
        endpoint = self._to
        path = "completions" if prompt.is_raw else "chat/completions"
        # Not compressed: a few bytes could unfold to gigabytes.
        headers = {"Accept-Encoding": "identity"}
        key = endpoint._key()
        if key:
            headers["Authorization"] = f"Bearer {key}"
        client = self._client()
        try:
            return await self._read(
                client.stream("POST", f"{endpoint._url}/{path}", json=endpoint.body(prompt), headers=headers)
            )
        finally:
            self._idle.append(client)

    async def _read(self, request: Any) -> tuple[int, Mapping[str, str], bytes]:
        endpoint = self._to
        async with request as response:
            coding = response.headers.get("content-encoding", "identity")
            if coding != "identity":
                raise BadAnswer(f"the answer is compressed ({coding[:20]}), which was not asked for")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > endpoint._max_bytes:
                    raise BadAnswer(
                        f"the answer is longer than {endpoint._max_bytes:,} bytes",
                        is_retried=False,
                        is_retryable=False,
                    )
            return response.status_code, response.headers, bytes(body)

    def _pause_after(self, attempts: int, failure: _Failure) -> float | None:
        """Exponential backoff with full jitter, or what the endpoint asks for; None for too long."""
        endpoint = self._to
        if failure.retry_after is not None:
            if failure.retry_after > LONGEST_RETRY_AFTER_SECONDS:
                return None
            endpoint._limit.pause(failure.retry_after)  # the others would be refused as well
            return failure.retry_after
        longest = min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LONGEST_PAUSE_SECONDS)
        return endpoint._random.uniform(0, longest)

    def _count_against(self, failure: _Failure) -> None:
        endpoint = self._to
        if failure.counts_against_endpoint:
            endpoint._failed_in_a_row += 1
            if endpoint._failed_in_a_row >= endpoint._give_up_after:
                self._end(f"the endpoint does not answer (last: {failure.error})")

    def _end(self, why: str) -> None:
        if self._to.stopped is None:
            self._to.stopped = why
        self._stop.set()
        self._settled.set()

    async def _nap(self, seconds: float) -> None:
        """Wait, unless the run stops."""
        if seconds <= 0:
            return
        if self._to._sleep is not None:
            await self._to._sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


def retry_after(value: str | None, date: str | None = None) -> float | None:
    """Seconds of a ``Retry-After``: a number, or a date (taken against the server's own clock)."""
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return max(seconds, 0.0) if seconds == seconds and seconds != float("inf") else None
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        at = email.utils.parsedate_to_datetime(value).timestamp()
        now = email.utils.parsedate_to_datetime(date).timestamp() if date else time.time()
        return max(at - now, 0.0)
    return None


def _not_ours(prompt: Prompt) -> str | None:
    found = [name for name in prompt.parameters if name in _OURS]
    return f"parameters that a prompt may not set: {', '.join(found)}" if found else None


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _checked_url(url: str) -> str:
    """The base URL without a final slash; refused when it holds what would end up in records."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError as error:
        raise UsageError(f"the endpoint's address cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "the endpoint's address is no http(s) URL", hint="for example http://127.0.0.1:8000/v1"
        )
    if parts.username or parts.password or parts.query:
        raise UsageError(
            "the endpoint's address holds a user, a password or a query",
            hint="a key comes from an environment variable: --api-key-env NAME",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingExtra.of("httpx", "generate") from error
    return httpx


class _Loop:
    """An event loop on a thread of its own, for callers that are no coroutines."""

    def __enter__(self) -> _Loop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="headwater-generate", daemon=True)
        self._thread.start()
        return self

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.start(work).result()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
