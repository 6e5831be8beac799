"""How much may be spent, and how fast: nothing is sent that could pass the bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from headwater.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Per million tokens, in any one currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


class Budget:
    """Tokens and money that may be spent.

    Each request reserves the most it can take before it is sent, and gives back what it did not take. So the
    bound holds however many requests are under way, as long as the endpoint keeps to ``max_tokens``; what it
    takes beyond that is counted, and ends the run sooner. A request of which nothing is known (no answer, no
    count) is charged what it reserved.
    """

    def __init__(
        self,
        *,
        max_tokens: int | None = None,
        max_cost: float | None = None,
        prices: Prices | None = None,
        spent_tokens: int = 0,
        spent_cost: float = 0.0,
    ) -> None:
        self.prices = prices or Prices()
        if max_cost is not None and not (self.prices.prompt or self.prices.completion):
            raise UsageError(
                "a budget in money needs prices", hint="give the price of a million tokens, in and out"
            )
        self.max_tokens = max_tokens
        self.max_cost = max_cost
        self.spent_tokens = spent_tokens
        self.spent_cost = spent_cost
        self.reserved_tokens = 0
        self.reserved_cost = 0.0
        self._open = 0
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is reserved: what does not fit now never will."""
        return self._open == 0

    def reserve(self, prompt_tokens: int, completion_tokens: int) -> Reservation | None:
        """Set aside the most that a request can take; None when that would pass the bound."""
        tokens = prompt_tokens + completion_tokens
        cost = self.prices.cost(prompt_tokens, completion_tokens)
        with self._lock:
            if self.max_tokens is not None and (
                self.spent_tokens + self.reserved_tokens + tokens > self.max_tokens
            ):
                return None
            if self.max_cost is not None and (
                self.spent_cost + self.reserved_cost + cost > self.max_cost * (1 + 1e-9)
            ):
                return None
            self.reserved_tokens += tokens
            self.reserved_cost += cost
            self._open += 1
        return Reservation(self, prompt_tokens, completion_tokens)

    def _settle(self, reservation: Reservation, prompt_tokens: int, completion_tokens: int) -> None:
        with self._lock:
            self._open -= 1
            self.reserved_tokens -= reservation.prompt_tokens + reservation.completion_tokens
            self.reserved_cost -= self.prices.cost(reservation.prompt_tokens, reservation.completion_tokens)
            if self._open == 0:
                self.reserved_cost = 0.0  # no rounding is left behind
            self.spent_tokens += prompt_tokens + completion_tokens
            self.spent_cost += self.prices.cost(prompt_tokens, completion_tokens)

    def __str__(self) -> str:
        parts = []
        if self.max_tokens is not None:
            parts.append(f"{self.spent_tokens:,} of {self.max_tokens:,} tokens")
        if self.max_cost is not None:
            parts.append(f"{self.spent_cost:,.4f} of {self.max_cost:,.4f} in money")
        return " and ".join(parts) or "no bound"


class Reservation:
    """What one request has set aside. Settled once; later calls do nothing."""

    def __init__(self, budget: Budget, prompt_tokens: int, completion_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.charged = (0, 0)
        self._budget: Budget | None = budget

    def settle(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Charge what was taken."""
        budget, self._budget = self._budget, None
        if budget is not None:
            self.charged = (prompt_tokens, completion_tokens)
            budget._settle(self, prompt_tokens, completion_tokens)

    def release(self) -> None:
        """Nothing was taken."""
        self.settle(0, 0)

    def charge(self) -> None:
        """Nobody knows what was taken: all of it, then."""
        self.settle(self.prompt_tokens, self.completion_tokens)


class RateLimit:
    """Spaces requests so that no minute holds more than the limits, counted in requests and in tokens.

    It answers how long to wait and does not wait itself, so that threads, event loops and tests can all use
    it. Requests are spaced evenly, without bursts: a window of 60 s holds at most one above the limit.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if value is not None and not value > 0:
                raise UsageError(f"got {value} {name} per minute", hint="a number above 0")
        self._requests = requests_per_minute
        self._tokens = tokens_per_minute
        self._clock = clock
        self._next_request = self._next_token = self._not_before = float("-inf")
        self._lock = threading.Lock()

    def wait(self, tokens: int) -> float:
        """Take a place for one request of ``tokens``; the seconds until it may be sent."""
        with self._lock:
            now = self._clock()
            at = max(now, self._not_before, self._next_request, self._next_token)
            if self._requests:
                self._next_request = at + 60 / self._requests
            if self._tokens:
                self._next_token = at + 60 * tokens / self._tokens
            return at - now

    def give_back(self, tokens: int) -> None:
        """A request took fewer tokens than it had set aside: later ones may go sooner."""
        if self._tokens and tokens > 0:
            with self._lock:
                self._next_token -= 60 * tokens / self._tokens

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: the endpoint asked for it."""
        with self._lock:
            self._not_before = max(self._not_before, self._clock() + seconds)
