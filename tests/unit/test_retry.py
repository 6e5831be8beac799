"""Which failures of an object store are worth another attempt: messages as Lance and obstore word them."""

from __future__ import annotations

import pytest

from headwater.errors import LakeError
from headwater.loading import retry
from headwater.loading.retry import Retry

GET = "Generic S3 error: Error performing GET http://127.0.0.1:1/corpus/1101404f403.lance in"
STATUS = "Server returned non-2xx status code:"

PASSING = [
    f"{GET} 404.050668ms, after 3 retries, max_retries: 3, retry_timeout: 180s  - {STATUS} 503 Service Unavailable",
    f"{GET} 403.4ms, after 1 retries, max_retries: 1, retry_timeout: 180s  - {STATUS} 500 Internal Server Error",
    f"{GET} 1.401s, after 1 retries, max_retries: 1, retry_timeout: 180s  - {STATUS} 429 Too Many Requests",
    "error sending request for url (http://127.0.0.1:4040/corpus): operation timed out",
]
FINAL = [
    f"{GET} 1.29ms - {STATUS} 404 Not Found: ",
    f"{GET} 1.40ms - {STATUS} 403 Forbidden: ",
    f"{GET} 1.16ms - {STATUS} 401 Unauthorized: ",
    "LanceError(IO): Generic N/A error: Not found: b.lance/data/0110.lance",
    "Object at location b.lance/data/0110.lance not found",
]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.0)


def attempts(message: str, *, remote: bool) -> int:
    """How often a read is tried that fails with ``message`` twice and then succeeds."""
    calls = 0

    def read() -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OSError(message)
        return calls

    try:
        return Retry(remote=remote)("sequences 1 to 2", read)
    except LakeError as error:
        assert str(error).startswith(f"cannot read sequences 1 to 2: {message.strip()}")
        return calls


@pytest.mark.parametrize("message", PASSING)
def test_a_store_that_is_busy_or_silent_is_asked_again(message: str) -> None:
    assert attempts(message, remote=True) == 3


@pytest.mark.parametrize("message", FINAL)
def test_what_is_gone_or_forbidden_is_an_error_at_once(message: str) -> None:
    assert attempts(message, remote=True) == 1


def test_a_disk_is_not_asked_twice() -> None:
    assert attempts(PASSING[0], remote=False) == 1
