"""One writer at a time for each schema of the lake.

Lance alone lets two creates, an append and an overwrite, or two merges of one new key lose or
double rows without a word. A write or a maintenance call therefore holds a lease: a small
put-if-absent file with its owner and an expiry. Threads of a process share the lease; child
processes of a build join it through the environment.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headwater.errors import LeaseHeld
from headwater.lake.files import Files

TTL_SECONDS = 90.0
"""A lease that was not renewed for this long may be taken over (its process may sit on a dead host)."""
RENEW_SECONDS = 20.0
"""Renewal interval: four missed renewals still leave time before expiry."""
POLL_SECONDS = 0.1
JOIN_VARIABLE = "HEADWATER_LEASE"
"""``<lease file>=<token>`` of the parent process, so that the workers of one build share its lease."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lease, as written in its file."""

    token: str
    host: str
    pid: int
    purpose: str
    expires_at: float

    def encode(self) -> bytes:
        return json.dumps(self.__dict__, sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Owner:
        return cls(**json.loads(data))

    @property
    def is_stale(self) -> bool:
        """True when nobody can be using the lease: expired, or its process on this host is gone."""
        if time.time() > self.expires_at:
            return True
        return self.host == socket.gethostname() and not _alive(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.purpose})"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Lease:
    """The lease file of one schema. Re-entrant: threads of one process hold it together."""

    def __init__(self, files: Files, schema: str, *, place: str) -> None:
        self._files = files
        self._path = f"{schema}/_lease.json"
        self._key = f"{place}/{self._path}"
        self._schema = schema
        self._lock = threading.RLock()
        self._holders = 0
        self._content: bytes | None = None
        self._joined = False
        self._stop = threading.Event()

    @property
    def join_value(self) -> str | None:
        """What a child process needs in its environment to share this lease, while it is held."""
        return f"{self._key}={Owner.decode(self._content).token}" if self._content else None

    @contextmanager
    def hold(self, *, purpose: str, wait_seconds: float) -> Iterator[None]:
        """Hold the lease for the block; wait up to ``wait_seconds`` for another process's to end.

        Raises
        ------
        LeaseHeld
            Another process still holds it; the message names the holder.
        """
        with self._lock:
            if self._holders == 0:
                self._acquire(purpose, wait_seconds)
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    self._release()

    def assert_held(self) -> None:
        """Fail before a commit when the lease was lost (this process slept past its expiry)."""
        with self._lock:
            if self._joined:
                return
            if self._content is None or self._files.read(self._path) != self._content:
                raise LeaseHeld(
                    f"the lease on schema {self._schema!r} was taken over while this process wrote",
                    hint="nothing was published; run the command again",
                )

    def _acquire(self, purpose: str, wait_seconds: float) -> None:
        if self._join():
            return
        deadline = time.monotonic() + wait_seconds
        while True:
            mine = _new_owner(purpose).encode()
            if self._files.put_new(self._path, mine):
                break
            current = self._files.read(self._path)
            if current is not None:
                holder = Owner.decode(current)
                if holder.is_stale and self._files.swap(self._path, current, mine):
                    break
                if time.monotonic() >= deadline:
                    raise LeaseHeld(
                        f"schema {self._schema!r} is being written by {holder}",
                        hint="wait for it to finish, or raise the waiting time",
                    )
            time.sleep(POLL_SECONDS)
        self._content = mine
        self._stop = threading.Event()
        threading.Thread(target=self._renew, args=(self._stop,), daemon=True, name="lease").start()

    def _join(self) -> bool:
        key, _, token = os.environ.get(JOIN_VARIABLE, "").rpartition("=")
        if key != self._key:
            return False
        current = self._files.read(self._path)
        self._joined = current is not None and Owner.decode(current).token == token
        return self._joined

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(RENEW_SECONDS):
            with self._lock:
                if self._content is None or stop.is_set():
                    return
                owner = Owner.decode(self._content)
                fresh = Owner(**{**owner.__dict__, "expires_at": time.time() + TTL_SECONDS}).encode()
                if not self._files.swap(self._path, self._content, fresh):
                    return  # lost: assert_held says so before the commit
                self._content = fresh

    def _release(self) -> None:
        self._stop.set()
        if self._joined:
            self._joined = False
            return
        if self._content is not None:
            self._files.swap(self._path, self._content, None)
            self._content = None


def _new_owner(purpose: str) -> Owner:
    return Owner(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        purpose=purpose,
        expires_at=time.time() + TTL_SECONDS,
    )


_leases: dict[str, Lease] = {}
_leases_lock = threading.Lock()


def lease_of(files: Files, schema: str, *, place: str) -> Lease:
    """Return this process's one lease object for a schema, so that its threads share it."""
    key = f"{place}/{schema}"
    with _leases_lock:
        if key not in _leases:
            _leases[key] = Lease(files, schema, place=place)
        return _leases[key]
