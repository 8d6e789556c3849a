"""The Dask runner: segments on the workers of a Dask cluster, through our own asynchronous client.

On each Dask worker a segment runs in a warm child process under the same limits as locally. Messages
come back as Dask events; commands go to the worker that runs the segment. Dask would run a segment
again by itself when its worker dies; we take the loss at once instead and let the study decide.

A scheduler that dies takes what was in flight along. The runner then waits for it to come back at the
same address, with workers, for as long as its patience lasts; the segments are cut off and due again.
As long it waits at the start for workers to join a scheduler that has none yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import cloudpickle
import dask
from distributed import Client, LocalCluster

from flows import _messages as m
from flows._dask_worker import command, leave, run_segment, try_objective, warm_up
from flows._messages import Job, Outcome
from flows._runner import OnMessage, RunnerGone, Work, message_of
from hpo_core import InputError, ObjectiveError
from tracking import redacted

_CONNECT_SECONDS = 15
_DASK = logging.getLogger("distributed")
# Where a scheduler says which workers come and go.
_ALL = "all"
# How often a scheduler that is gone is tried again, and how long one that comes back is waited for.
_RETRY_SECONDS, PATIENCE_SECONDS = 0.5, 300.0
# How long a worker that is told to kill its segment may take to say so.
_KILL_SECONDS = 3.0
_HANG_UP_SECONDS = 5.0


class _Segment:
    """One segment in flight, as the driver sees it."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.worker = ""
        self.reason = ""
        # Set when nobody waits for its outcome any more, whatever becomes of it.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """Wait no longer."""
        if not self.over.done():
            self.over.set_result(None)


class _Line:
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


class DaskRunner:
    """Slots on a Dask cluster.

    ``address``: of a running scheduler (``tcp://`` or ``tls://``); ``None`` starts a cluster on this
    machine. ``slots``: segments in flight at once; ``None`` takes one per worker thread.
    ``resources``: what each segment needs of its worker, such as ``{"GPU": 1}``. ``patience``: seconds
    that a scheduler which was lost may be away, and that the first workers may take to join. ``tell`` is
    called with a line for the user.
    """

    def __init__(
        self,
        work: Work,
        *,
        slots: int | None,
        address: str | None = None,
        resources: dict[str, float] | None = None,
        patience: float = PATIENCE_SECONDS,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._work = work
        self._slots = slots
        self._address = address
        self._resources = resources or {}
        self._topic = f"hpo-{uuid.uuid4().hex}"
        self._cluster: LocalCluster | None = None
        self._loud: int | None = None
        self._patience = patience
        self._tell = tell
        self._line: _Line | None = None
        self._mending: asyncio.Task[None] | None = None
        self._flying: dict[str, _Segment] = {}
        self._by_slot: dict[int, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def slots(self) -> int:
        """Segments in flight at once."""
        return self._slots or 1

    def label(self, slot: int) -> str:
        """``dask-3``; the worker's address is known once the segment has begun."""
        return f"dask-{slot}"

    async def start(self) -> None:
        """Connect, and prove that the workers can load the objective (shipping it if they cannot)."""
        # Work lost with its worker is the study's to repeat, from its checkpoint and as its next attempt.
        dask.config.set({"distributed.scheduler.allowed-failures": 0})
        if self._address is None:
            # What Dask has to tell of a cluster of its own is for nobody, whoever else handles logs here.
            self._loud = _DASK.level
            _DASK.setLevel(logging.CRITICAL)
            self._cluster = await LocalCluster(
                n_workers=self.slots,
                threads_per_worker=1,
                # Loopback, any port: two studies at once must not fight over Dask's usual one.
                dashboard_address="127.0.0.1:0",
                asynchronous=True,
                silence_logs=logging.CRITICAL,
                # Whoever can connect to a cluster can run code as its user: certificates of its own keep
                # other users of this machine out.
                security=True,
            )
        client, workers = await self._first_workers()
        threads = sum(w["nthreads"] for w in workers.values())
        if self._slots is None:
            self._slots = threads
        await self._ship(client)
        if threads <= self.slots:  # of more it would be anybody's guess which will be used
            await client.run(warm_up, self._topic, self._shipped(), on_error="return")

    async def _first_workers(self) -> tuple[Client, dict[str, Any]]:
        try:
            client = await self._connect()
            if self._cluster is not None:
                await client.wait_for_workers(self.slots)
            return client, await self._joined(client)
        except ValueError:
            raise InputError(
                f"--dask takes an address such as 'tcp://host:8786', got {redacted(repr(self._address))}"
            ) from None
        except (OSError, TimeoutError) as error:
            raise InputError(
                f"no Dask scheduler answers at {self._address!r} ({error}); start one with `dask "
                "scheduler`, or leave --dask out for a cluster on this machine"
            ) from None

    async def _joined(self, client: Client) -> dict[str, Any]:
        """The workers, once there are some that can take a segment: a cluster may start them on demand."""
        deadline = time.monotonic() + self._patience
        told = False
        while problem := self._wanting(workers := await self._workers(client)):
            if time.monotonic() >= deadline:
                raise InputError(f"{problem}, and none came within {self._patience:g} s")
            if not told:
                told = True
                self._tell(f"{problem}; waiting {self._patience:g} s for one to join")
            await asyncio.sleep(_RETRY_SECONDS)
        return workers

    # -- the connection ------------------------------------------------------------------------

    async def _connect(self) -> Client:
        client = Client(
            self._cluster or self._address,
            asynchronous=True,
            timeout=_CONNECT_SECONDS,
            set_as_default=False,
        )
        try:
            await client
        except BaseException:
            self._in_background(client.close())
            raise
        self._line = _Line(client, self._resources)
        client.subscribe_topic(self._topic, self._on_event)
        client.subscribe_topic(_ALL, self._on_cluster_event)
        return client

    async def _connected(self) -> Client:
        """The client, once there is a connection. Raises :class:`RunnerGone` when there is none in time."""
        while self._line is None or self._line.cut:
            if self._mending is None or self._mending.done():
                self._mending = self._in_background(self._mend())
            await asyncio.shield(self._mending)
        return self._line.client

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
            attempt = self._in_background(self._try_again())
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
            if self._line is None or self._line.cut:
                await self._hang_up()
                await self._connect()
            assert self._line is not None
            if problem := self._wanting(await self._workers(self._line.client)):
                return problem
            await self._ship(self._line.client)
        except (OSError, TimeoutError, InputError) as error:
            return str(error) or type(error).__name__
        return ""

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            if not line.cut:  # else the scheduler complains that it cannot tell a client of its own leaving
                line.client.unsubscribe_topic(_ALL)
            # What a broken connection still complains of, or waits for, is nobody's business.
            await asyncio.wait({self._in_background(line.client.close())}, timeout=_HANG_UP_SECONDS)

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that is kept until it has ended, and whose end nobody has to look at."""
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()

        task.add_done_callback(ended)
        return task

    async def _workers(self, client: Client) -> dict[str, Any]:
        return dict((await client.scheduler.identity(n_workers=-1))["workers"])

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

    async def _ship(self, client: Client) -> None:
        problem = await self._problem(client)
        if "No module named" in problem and (module := self._module_of_objective()) is not None:
            cloudpickle.register_pickle_by_value(module)
            objective = m.unpack(self._work.objective)
            self._work = Work(
                objective=m.pack(objective),
                folder=self._work.folder,
                tracking=self._work.tracking,
                environment=self._work.environment,
                limits=self._work.limits,
            )
            problem = await self._problem(client)
        if problem:
            raise ObjectiveError(
                f"the Dask workers cannot load the objective ({problem}); install its package on the "
                "workers, or put it into one file and name it as PATH.py:function"
            )

    def _shipped(self) -> dict[str, Any]:
        return {
            "objective": self._work.objective,
            "folder": str(self._work.folder),
            "tracking": self._work.tracking,
            "environment": self._work.environment,
            "limits": self._work.limits,
        }

    async def _problem(self, client: Client) -> str:
        answers = await client.run(try_objective, self._work.objective, on_error="return")
        for answer in answers.values():
            if isinstance(answer, BaseException):
                return f"{type(answer).__name__}: {answer}; is mlflow-hpo installed on the workers?"
            if answer:
                return str(answer)
        return ""

    def _module_of_objective(self) -> Any:
        objective = m.unpack(self._work.objective)
        name = getattr(objective, "__module__", type(objective).__module__)
        return sys.modules.get(name)

    def _on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        _, data = event
        segment = self._flying.get(str(data.get("key")))
        if segment is not None:
            segment.inbox.put_nowait(data)

    def _on_cluster_event(self, event: tuple[float, dict[str, Any]]) -> None:
        """A scheduler that we did not configure keeps what a dead worker ran for the next one to join."""
        _, data = event
        if data.get("action") == "remove-worker":
            for segment in self._flying.values():
                if segment.worker == data["worker"]:
                    segment.reason = segment.reason or f"the Dask worker {segment.worker} was lost"
                    segment.end()
        if self._address is not None and data.get("action") in ("add-worker", "remove-worker"):
            self._in_background(self._look_for_workers())

    async def _look_for_workers(self) -> None:
        """Tell when the last worker has left, and when one has joined then."""
        line = self._line
        if line is None or line.cut:
            return
        problem = self._wanting(await self._workers(line.client))
        if bool(problem) != line.deserted:
            line.deserted = bool(problem)
            waits = f"{problem} any more; the study goes on when one joins"
            self._tell(waits if problem else "a Dask worker has joined; the study goes on")

    # -- segments ------------------------------------------------------------------------------

    async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
        """See :class:`flows._runner.Runner`."""
        key = f"{self._topic}-{job.trial}-{job.attempt}-{uuid.uuid4().hex[:8]}"
        segment = self._flying[key] = _Segment()
        self._by_slot[slot] = key
        try:
            client = await self._connected_unless_over(segment)
            if client is None:
                return Outcome(kind=m.LOST, reason=segment.reason)
            return await self._fly(client, key, job, on_message)
        finally:
            del self._flying[key], self._by_slot[slot]

    async def _connected_unless_over(self, segment: _Segment) -> Client | None:
        while True:
            connected = asyncio.ensure_future(self._connected())
            try:
                events: set[asyncio.Future[Any]] = {connected, segment.over}
                await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
                if not connected.done():
                    return None
                client = connected.result()
            finally:
                connected.cancel()
            # A line can be cut while its client is being handed over. What is submitted then Dask keeps for
            # the next scheduler, where the task runs without anybody hearing what it reports.
            if self._line is not None and not self._line.cut:
                return client

    async def _fly(self, client: Client, key: str, job: Job, on_message: OnMessage) -> Outcome:
        line = self._line
        assert line is not None
        future = client.submit(
            run_segment,
            key,
            self._topic,
            self._shipped(),
            job.to_json(),
            key=key,
            pure=False,
            retries=0,
            resources=self._resources or None,
        )
        result = asyncio.ensure_future(future.result())
        segment = self._flying[key]
        try:
            outcome = await self._converse(key, segment, result, on_message)
        finally:
            result.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await result
            with contextlib.suppress(Exception):  # nobody is there to be told
                future.release()
        if outcome.kind == m.LOST and line.cut and await self._connected_unless_over(segment) is not None:
            return Outcome(kind=m.CUT_OFF, reason="the connection to the Dask scheduler was lost")
        return outcome

    async def _converse(
        self, key: str, segment: _Segment, result: asyncio.Future[dict[str, Any]], on_message: OnMessage
    ) -> Outcome:
        while True:
            getter = asyncio.ensure_future(segment.inbox.get())
            events: set[asyncio.Future[Any]] = {getter, result, segment.over}
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if getter.done():
                data = getter.result()
                if data["type"] == "begun":
                    if segment.worker and segment.worker != data["worker"]:
                        # A scheduler that we did not configure has begun it again on another worker.
                        self._command(key, data["worker"], "kill", "a second run of a lost segment")
                        return Outcome(kind=m.LOST, reason=f"the Dask worker {segment.worker} was lost")
                    segment.worker = data["worker"]
                elif (message := message_of(data, functools.partial(self._answer, key))) is not None:
                    await on_message(message)
                continue
            getter.cancel()
            if not result.done():
                return Outcome(kind=m.LOST, reason=segment.reason)
            if (error := result.exception()) is not None:
                reason = segment.reason or f"the Dask worker was lost ({type(error).__name__})"
                return Outcome(kind=m.LOST, reason=reason)
            while not segment.inbox.empty():  # reports that overtook nothing: sent before the result
                data = segment.inbox.get_nowait()
                if (message := message_of(data, functools.partial(self._answer, key))) is not None:
                    await on_message(message)
            return Outcome(**result.result())

    def _answer(self, key: str, run_id: str) -> None:
        segment = self._flying.get(key)
        if segment is not None:
            self._command(key, segment.worker, "run_id", run_id)

    def _command(self, key: str, worker: str, verb: str, text: str = "") -> None:
        async def send() -> None:
            if self._line is not None and not self._line.cut:
                with contextlib.suppress(Exception):  # the worker is gone; its future says so too
                    await self._line.client.run(command, key, verb, text, workers=[worker])

        self._in_background(send())

    def _tell_slot(self, slot: int, verb: str, text: str = "") -> None:
        key = self._by_slot.get(slot)
        if key is not None and self._flying[key].worker:
            self._command(key, self._flying[key].worker, verb, text)

    def stop(self, slot: int) -> None:
        """See :class:`flows._runner.Runner`."""
        self._tell_slot(slot, "stop")

    def suspend(self, slot: int) -> None:
        """See :class:`flows._runner.Runner`."""
        self._tell_slot(slot, "suspend")

    async def kill(self, slot: int, reason: str) -> None:
        """See :class:`flows._runner.Runner`."""
        key = self._by_slot.get(slot)
        if key is None:
            return
        segment = self._flying[key]
        segment.reason = reason
        if self._line is None or self._line.cut:
            segment.end()
            return
        # The worker may be out of reach; it ends what its scheduler has forgotten by itself.
        asyncio.get_running_loop().call_later(_KILL_SECONDS, segment.end)
        if segment.worker:
            self._tell_slot(slot, "kill", reason)
        else:  # it is still queued
            await self._line.client.cancel([key], force=True)

    async def close(self) -> None:
        """End this study's processes on the workers, and the cluster if it is ours."""
        if self._mending is not None:
            self._mending.cancel()
        if self._line is not None and not self._line.cut:
            with contextlib.suppress(Exception):  # a scheduler that is gone has nothing left to end
                await asyncio.wait_for(self._line.client.run(leave, self._topic), timeout=5)
        await self._hang_up()
        if self._cluster is not None:
            await self._cluster.close(timeout=10)
        if self._loud is not None:
            _DASK.setLevel(self._loud)
