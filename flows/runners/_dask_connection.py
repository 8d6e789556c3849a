"""The connection to a Dask scheduler: made, watched, mended and given up.

A scheduler that dies takes what was in flight along. The connection then waits for it to come back at the
same address, with workers, for as long as its patience lasts. As long it waits at the start for workers to
join a scheduler that has none yet. Later it says so when the last worker leaves, and when one joins again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from distributed import Client, LocalCluster

from flows.runners._dask_outpost import Outpost
from flows.runners._port import RunnerGone
from hpo_core import InputError
from tracking import redacted

_CONNECT_SECONDS = 15
_DASK = logging.getLogger("distributed")
# Where a scheduler says which workers come and go.
_ALL = "all"
# How often a scheduler that is gone is tried again, and how long one that comes back is waited for.
_RETRY_SECONDS, PATIENCE_SECONDS = 0.5, 300.0
_HANG_UP_SECONDS, _LEAVE_SECONDS = 5.0, 5.0


class Errands:
    """Tasks that are kept until they have ended, and whose end nobody has to look at."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    def start(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        """Run it beside everything else. Where nothing is to do, Dask gives an awaitable, no coroutine."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


class Line:
    """One connection to the scheduler.

    Dask's client connects anew by itself for a while, but neither its futures nor its subscriptions
    come back with it, so a line that was cut once is cut for good.
    """

    def __init__(self, client: Client, resources: dict[str, float]) -> None:
        self.client = client
        self.deserted = False  # as far as the user has been told
        self._comm = client.scheduler_comm
        # A cluster that scales with its load starts its first worker for a task only, and keeps the last one
        # only while it holds a result.
        self._load = client.submit(int, key=f"hpo-load-{uuid.uuid4().hex}", resources=resources or None)

    @property
    def cut(self) -> bool:
        """Whether it is not the connection any more that it was made with."""
        return self.client.status != "running" or self.client.scheduler_comm is not self._comm


async def check_scheduler(address: str) -> None:
    """Raise :class:`InputError` unless a Dask scheduler answers at the address."""
    client = Client(address, asynchronous=True, timeout=_CONNECT_SECONDS, set_as_default=False)
    try:
        with _said_plainly(address):
            await client
    finally:
        if (closing := client.close()) is not None:  # after a vain try Dask gives nothing to wait for
            await closing


class Connection:
    """Holds a line to a scheduler whose workers can do the study's work.

    ``outpost``: shipped over each new line. ``heard``: called with every event of the outpost's topic and
    of the scheduler's own, such as ``{"action": "remove-worker", "worker": ADDRESS}``. ``address``: of a
    running scheduler; ``None`` starts a cluster on this machine. ``resources``: what some worker must
    offer. ``patience``: seconds that a scheduler which was lost may be away, and that the first workers may
    take to join. ``tell`` is called with a line for the user.
    """

    def __init__(
        self,
        outpost: Outpost,
        heard: Callable[[dict[str, Any]], None],
        *,
        address: str | None,
        resources: dict[str, float],
        patience: float,
        tell: Callable[[str], None],
    ) -> None:
        self._outpost = outpost
        self._heard = heard
        self._address = address
        self._resources = resources
        self._patience = patience
        self._tell = tell
        self._cluster: LocalCluster | None = None
        self._loud: int | None = None
        self._line: Line | None = None
        self._mending: asyncio.Future[None] | None = None
        self._errands = Errands()

    # -- for the runner ------------------------------------------------------------------------

    async def open(self, workers: int) -> int:
        """Connect, wait for workers and ship to them; returns how many threads they have.

        ``workers``: how many a cluster of our own has. Raises :class:`InputError` when there is no
        scheduler, no worker in time, or none that can load the objective.
        """
        if self._address is None:
            await self._start_cluster(workers)
        with _said_plainly(self._address):
            line = await self._connect()
            if self._cluster is not None:
                await line.client.wait_for_workers(workers)
            first = await self._joined(line.client)
        await self._outpost.ship(line.client)
        return sum(worker["nthreads"] for worker in first.values())

    @property
    def whole(self) -> Line | None:
        """The line, unless it is cut or hung up just now."""
        return None if self._line is None or self._line.cut else self._line

    async def line(self) -> Line:
        """A line that is whole, once there is one. Raises :class:`RunnerGone` when there is none in time."""
        while (line := self.whole) is None:
            if self._mending is None or self._mending.done():
                self._mending = self._errands.start(self._mend())
            await asyncio.shield(self._mending)
        return line

    async def close(self) -> None:
        """Leave the workers, hang up, and end the cluster if it is ours."""
        if self._mending is not None:
            self._mending.cancel()
        if (line := self.whole) is not None:
            with contextlib.suppress(Exception):  # a scheduler that is gone has nothing left to end
                await asyncio.wait_for(self._outpost.leave(line.client), timeout=_LEAVE_SECONDS)
        await self._hang_up()
        if self._cluster is not None:
            await self._cluster.close(timeout=10)
        if self._loud is not None:
            _DASK.setLevel(self._loud)

    # -- making --------------------------------------------------------------------------------

    async def _start_cluster(self, workers: int) -> None:
        # What Dask has to tell of a cluster of its own is for nobody, whoever else handles logs here.
        self._loud = _DASK.level
        _DASK.setLevel(logging.CRITICAL)
        self._cluster = await LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            # Loopback, any port: two studies at once must not fight over Dask's usual one.
            dashboard_address="127.0.0.1:0",
            asynchronous=True,
            silence_logs=logging.CRITICAL,
            # Whoever can connect to a cluster can run code as its user: certificates of its own keep
            # other users of this machine out.
            security=True,
        )

    async def _connect(self) -> Line:
        client = Client(
            self._cluster or self._address,
            asynchronous=True,
            timeout=_CONNECT_SECONDS,
            set_as_default=False,
        )
        try:
            await client
        except BaseException:
            self._errands.start(client.close())
            raise
        self._line = line = Line(client, self._resources)
        client.subscribe_topic(self._outpost.topic, self._on_event)
        client.subscribe_topic(_ALL, self._on_cluster_event)
        return line

    async def _joined(self, client: Client) -> dict[str, Any]:
        """The workers, once there are some that can take a segment: a cluster may start them on demand."""
        deadline = time.monotonic() + self._patience
        told = False
        while problem := self._wanting(workers := await _workers(client)):
            if time.monotonic() >= deadline:
                raise InputError(f"{problem}, and none came within {self._patience:g} s")
            if not told:
                told = True
                self._tell(f"{problem}; waiting {self._patience:g} s for one to join")
            await asyncio.sleep(_RETRY_SECONDS)
        return workers

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            if not line.cut:  # else the scheduler complains that it cannot tell a client of its own leaving
                line.client.unsubscribe_topic(_ALL)
            # What a broken connection still complains of, or waits for, is nobody's business.
            await asyncio.wait({self._errands.start(line.client.close())}, timeout=_HANG_UP_SECONDS)

    # -- mending -------------------------------------------------------------------------------

    async def _mend(self) -> None:
        """Try until there is a scheduler again whose workers can go on."""
        self._tell(
            f"the connection to the Dask scheduler at {self._address} was lost; waiting for it for "
            f"{self._patience:g} s"
        )
        # Dask's client logs tracebacks of its own vain tries; what the user has to know is told once.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        await self._mended()
        self._tell("the Dask scheduler is back; what it had running is repeated from its checkpoints")

    async def _mended(self) -> None:
        deadline = time.monotonic() + self._patience
        problem = "nothing answers"
        while problem and (left := deadline - time.monotonic()) > 0:
            attempt = self._errands.start(self._try_again())
            # Not cancelled by a timeout: Dask swallows some cancellations.
            await asyncio.wait({attempt}, timeout=left)
            if attempt.done():
                problem = attempt.result()
                await asyncio.sleep(_RETRY_SECONDS if problem else 0)
            else:
                attempt.cancel()
        if problem:
            raise RunnerGone(
                f"the Dask scheduler at {self._address} was lost, and nothing could run there again within "
                f"{self._patience:g} s ({problem}); when it is back, `hpo resume` goes on with the study"
            )

    async def _try_again(self) -> str:
        """Connect, and see whether there are workers that can go on; returns what is wanting."""
        try:
            line = self.whole
            if line is None:
                await self._hang_up()
                line = await self._connect()
            if problem := self._wanting(await _workers(line.client)):
                return problem
            await self._outpost.ship(line.client)
        except (OSError, TimeoutError, InputError) as error:
            return str(error) or type(error).__name__
        return ""

    # -- watching ------------------------------------------------------------------------------

    def _on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        self._heard(event[1])

    def _on_cluster_event(self, event: tuple[float, dict[str, Any]]) -> None:
        self._on_event(event)
        if self._address is not None and event[1].get("action") in ("add-worker", "remove-worker"):
            self._errands.start(self._look_for_workers())

    async def _look_for_workers(self) -> None:
        """Tell when the last worker has left, and when one has joined then."""
        if (line := self.whole) is None:
            return
        problem = self._wanting(await _workers(line.client))
        if bool(problem) != line.deserted:
            line.deserted = bool(problem)
            waits = f"{problem} any more; the study goes on when one joins"
            self._tell(waits if problem else "a Dask worker has joined; the study goes on")

    def _wanting(self, workers: dict[str, Any]) -> str:
        """What keeps every segment from being run, if anything does."""
        if not workers:
            return f"the Dask scheduler at {self._address!r} has no workers"
        for resource, amount in self._resources.items():
            if not any(w.get("resources", {}).get(resource, 0) >= amount for w in workers.values()):
                return (
                    f"no Dask worker offers {resource}={amount:g} (start workers with --resources "
                    f"{resource}={amount:g})"
                )
        return ""


async def _workers(client: Client) -> dict[str, Any]:
    return dict((await client.scheduler.identity(n_workers=-1))["workers"])


@contextlib.contextmanager
def _said_plainly(address: str | None) -> Iterator[None]:
    """What Dask raises while it connects, as what the user has to know."""
    try:
        yield
    except ValueError:
        raise InputError(
            f"--dask takes an address such as 'tcp://host:8786', got {redacted(repr(address))}"
        ) from None
    except (OSError, TimeoutError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address!r} ({error}); start one with `dask scheduler`, or leave "
            "--dask out for a cluster on this machine"
        ) from None
