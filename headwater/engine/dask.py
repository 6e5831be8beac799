"""Run a function over items with Dask workers: a local cluster, or one that runs already.

Dask carries small things only: the description of a piece of work one way, what was written the other.
Rows are read from the lake and written to it by the worker itself. A worker that dies takes nothing
with it: its items run again elsewhere, and what it wrote is in no table until the one commit.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from headwater.errors import HeadwaterError, MissingExtra, UsageError

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

ADDRESS_VARIABLE = "HEADWATER_DASK"
"""Address of a running scheduler (``tcp://host:8786``), for plain ``dbt build``."""

AHEAD = 3
"""Items in flight for each worker: enough to hide the scheduler's round trip, few enough to spread evenly."""

CONNECT_SECONDS = 30


class DaskEngine:
    """A cluster's client. Either ``workers`` starts a local cluster, or ``address`` names a running one.

    Starting is lazy: a build in which nothing changed starts no process. A local cluster has one thread
    in each worker, talks over TLS with certificates of its own (other users of the machine could
    otherwise send it code), and ends with the engine.

    Parameters
    ----------
    workers: processes to start.
    address: ``tcp://host:port``; the workers there need the same Headwater and must reach the lake's URI.
    memory_bytes: bound of each local worker; Dask restarts one that exceeds it.
    """

    def __init__(
        self, *, workers: int | None = None, address: str | None = None, memory_bytes: int | None = None
    ) -> None:
        if (workers is None) == (address is None):
            raise UsageError(
                "a Dask engine needs workers or an address", hint="--workers N, or --dask tcp://…"
            )
        if importlib.util.find_spec("distributed") is None:
            raise MissingExtra.of("distributed", "dask")
        self._workers = workers
        self._address = address
        self._memory_bytes = memory_bytes
        self._client: Client | None = None
        self._cluster: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> DaskEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster, and end it when it is ours."""
        client, cluster = self._client, self._cluster
        self._client = self._cluster = None
        if client is not None:
            client.close()
        if cluster is not None:
            cluster.close()

    @property
    def client(self) -> Client:
        """The connected client; the first use starts or joins the cluster."""
        with self._lock:  # models that build side by side share the cluster
            if self._client is None:
                self._client = self._local() if self._workers is not None else self._joined()
            return self._client

    @property
    def num_workers(self) -> int:
        """Workers that are there now; a scheduler without any is an error."""
        found = sum(w["nthreads"] for w in self.client.scheduler_info(n_workers=-1)["workers"].values())
        if not found:
            raise UsageError(
                f"the Dask scheduler {self._address} has no workers", hint="start some: dask worker"
            )
        return int(found)

    def map(
        self, function: Callable[..., Result], items: Sequence[Item], *, shared: object = None
    ) -> Iterator[Result]:
        """Yield ``function(item)`` (``function(item, shared)`` with ``shared``) in the order of ``items``.

        ``shared`` travels to each worker once. An exception of the function comes back as it is; an item
        that kills its worker again and again is a HeadwaterError that names it.
        """
        client = self.client
        extra: tuple[Any, ...] = ()
        if shared is not None:
            # In a list: scatter would otherwise hash or split some types.
            extra = tuple(client.scatter([shared], broadcast=True, hash=False))
        waiting: deque[Any] = deque()
        bound = self.num_workers * AHEAD
        try:
            for item in items:
                # Impure: the same item is to run again in another build (its files are gone by then).
                waiting.append(client.submit(function, item, *extra, pure=False))
                if len(waiting) >= bound:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise HeadwaterError(
                f"a piece of work ended {error.allowed_failures + 1} workers, {error.last_worker} the last",
                hint="out of memory, or a crash in native code; give fewer workers, or more memory",
            ) from error

    def _local(self) -> Client:
        from distributed import Client, LocalCluster

        _quiet()
        security: Any = None
        if importlib.util.find_spec("cryptography") is not None:
            from distributed.security import Security

            security = Security.temporary()
        self._cluster = LocalCluster(
            n_workers=self._workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            security=security,
            memory_limit=self._memory_bytes or "auto",
            silence_logs=logging.CRITICAL,
        )
        return Client(self._cluster, security=security)

    def _joined(self) -> Client:
        from distributed import Client

        _quiet()
        try:
            return Client(self._address, timeout=CONNECT_SECONDS, set_as_default=False)
        except OSError as error:
            raise UsageError(
                f"no Dask scheduler answers at {self._address}", hint="start one: dask scheduler"
            ) from error


def _quiet() -> None:
    """Keep Dask's own log from the terminal: a lost worker is no trouble of the user's while work goes on."""
    # Dask gives several of its loggers a level and a handler of their own, which their parent does not reach.
    parts = [name for name in logging.root.manager.loggerDict if name.startswith("distributed.")]
    for name in ("distributed", "distributed.nanny", "tornado", "tornado.application", "bokeh", *parts):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
