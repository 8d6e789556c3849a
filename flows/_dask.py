"""The Dask runner: segments on the workers of a Dask cluster, through our own asynchronous client.

On each Dask worker a segment runs in a warm child process under the same limits as locally. Messages
come back as Dask events; commands go to the worker that runs the segment. Dask would run a segment
again by itself when its worker dies; we take the loss at once instead and let the study decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import dask
from distributed import Client, LocalCluster, get_worker
from distributed.security import Security

from flows import _messages as m
from flows._local import LocalRunner
from flows._messages import Job, Outcome
from flows._runner import Curve, Message, OnMessage, Report, RunIdWanted, Saved, Work, message_of
from hpo_core import HpoError, InputError, ObjectiveError

_CONNECT_SECONDS = 15
# How often a worker looks whether its segment is still wanted, and how long a warm process may idle.
_LOOK_SECONDS, _IDLE_SECONDS = 1.0, 30.0


# -- on the worker -----------------------------------------------------------------------------

_RUNNERS: dict[str, LocalRunner] = {}
_BUSY: dict[str, tuple[LocalRunner, dict[str, Callable[[str], None]]]] = {}
_USED: dict[int, float] = {}
_CLOSING: set[asyncio.Future[None]] = set()


async def run_segment(key: str, topic: str, work: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Run one segment on this worker; a coroutine, so the worker's own loop supervises it."""
    worker = get_worker()
    worker.log_event(topic, {"type": "begun", "key": key, "worker": worker.address})
    runner = _idle_runner(topic, work)
    answers: dict[str, Callable[[str], None]] = {}
    _BUSY[key] = (runner, answers)

    async def on_message(message: Message) -> None:
        match message:
            case Report(step, metrics):
                data = {"type": "report", "step": step, "metrics": metrics}
            case Curve(name, steps, points):
                data = {"type": "curve", "name": name, "steps": steps, "points": points}
            case Saved(step, uri, size):
                data = {"type": "saved", "step": step, "uri": uri, "size": size}
            case RunIdWanted(answer):
                answers["run_id"] = answer
                data = {"type": "run_id"}
        worker.log_event(topic, {**data, "key": key})

    watch = asyncio.create_task(_kill_when_forgotten(worker, key, runner))
    try:
        outcome = await runner.run(0, Job(**job), on_message)
    except asyncio.CancelledError:
        await runner.close()
        raise
    finally:
        watch.cancel()
        del _BUSY[key]
        _retire_later(runner)
    return outcome.to_json()


async def _kill_when_forgotten(worker: Any, key: str, runner: LocalRunner) -> None:
    """End the segment when nobody waits for it any more: its driver is dead, or has given it up.

    The scheduler then forgets the task, and the worker marks it; Dask itself cannot end what runs.
    """
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        task = worker.state.tasks.get(key)
        if task is None or task.state in ("cancelled", "released", "forgotten"):
            await runner.kill(0, "its driver does not wait for it any more")
            return


def _retire_later(runner: LocalRunner) -> None:
    """End a warm process that has had nothing to do for a while; its driver may be dead."""
    _USED[id(runner)] = used = time.monotonic()

    def retire() -> None:
        if _USED.get(id(runner)) == used and not any(busy is runner for busy, _ in _BUSY.values()):
            del _USED[id(runner)]
            for name in [n for n, known in _RUNNERS.items() if known is runner]:
                del _RUNNERS[name]
            closing = asyncio.ensure_future(runner.close())
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)

    asyncio.get_running_loop().call_later(_IDLE_SECONDS, retire)


def _idle_runner(topic: str, work: dict[str, Any]) -> LocalRunner:
    """A warm one-slot runner of this study that is not in use; workers with several threads keep several."""
    busy = {id(runner) for runner, _ in _BUSY.values()}
    for number in itertools.count():
        name = f"{topic}/{number}"
        if name not in _RUNNERS:
            folder = Path(work["folder"]) / "slots" / f"{get_worker().name}-{number}"
            _RUNNERS[name] = LocalRunner(
                Work(
                    objective=work["objective"],
                    folder=Path(work["folder"]),
                    tracking=work["tracking"],
                    environment=work["environment"],
                    limits=work["limits"],
                ),
                slots=1,
                output=folder,
            )
        if id(_RUNNERS[name]) not in busy:
            return _RUNNERS[name]
    raise AssertionError("unreachable")


async def command(key: str, verb: str, text: str = "") -> None:
    """Pass a command on to the segment, if it still runs here."""
    if key not in _BUSY:
        return
    runner, answers = _BUSY[key]
    match verb:
        case "stop":
            runner.stop(0)
        case "suspend":
            runner.suspend(0)
        case "kill":
            await runner.kill(0, text)
        case "run_id" if "run_id" in answers:
            answers["run_id"](text)


async def leave(topic: str) -> None:
    """End this study's processes on this worker."""
    for name in [n for n in _RUNNERS if n.startswith(f"{topic}/")]:
        await _RUNNERS.pop(name).close()


def try_objective(packed: str) -> str:
    """What keeps the objective from loading on this worker, or an empty string."""
    try:
        m.unpack(packed)
    except Exception as error:  # noqa: BLE001 - whatever an import raises is the answer
        return f"{type(error).__name__}: {error}"
    return ""


# -- at the driver -----------------------------------------------------------------------------


class _Segment:
    """One segment in flight, as the driver sees it."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.worker = ""
        self.reason = ""


class DaskRunner:
    """Slots on a Dask cluster.

    ``address``: of a running scheduler (``tcp://`` or ``tls://``); ``None`` starts a cluster on this
    machine. ``slots``: segments in flight at once; ``None`` takes one per worker thread.
    ``resources``: what each segment needs of its worker, such as ``{"GPU": 1}``.
    """

    def __init__(
        self,
        work: Work,
        *,
        slots: int | None,
        address: str | None = None,
        security: Security | None = None,
        resources: dict[str, float] | None = None,
    ) -> None:
        self._work = work
        self._slots = slots
        self._address = address
        self._security = security
        self._resources = resources or {}
        self._topic = f"hpo-{uuid.uuid4().hex}"
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._flying: dict[str, _Segment] = {}
        self._by_slot: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def slots(self) -> int:
        """Segments in flight at once."""
        return self._slots or 1

    def label(self, slot: int) -> str:
        """``dask-3``; the worker's address is known once the segment has begun."""
        return f"dask-{slot}"

    @property
    def client(self) -> Client:
        """The connected client."""
        if self._client is None:
            raise HpoError("the Dask runner is used before it was started")
        return self._client

    async def start(self) -> None:
        """Connect, and prove that the workers can load the objective (shipping it if they cannot)."""
        # Work lost with its worker is the study's to repeat, from its checkpoint and as its next attempt.
        dask.config.set({"distributed.scheduler.allowed-failures": 0})
        if self._address is None:
            self._cluster = await LocalCluster(
                n_workers=self.slots,
                threads_per_worker=1,
                # Loopback, any port: two studies at once must not fight over Dask's usual one.
                dashboard_address="127.0.0.1:0",
                asynchronous=True,
                silence_logs=50,
            )
        try:
            self._client = await Client(
                self._cluster or self._address,
                asynchronous=True,
                security=self._security,
                timeout=_CONNECT_SECONDS,
                set_as_default=False,
            )
        except (OSError, TimeoutError) as error:
            raise InputError(
                f"no Dask scheduler answers at {self._address!r} ({error}); start one with `dask "
                "scheduler`, or leave --dask out for a cluster on this machine"
            ) from None
        if self._cluster is not None:
            await self.client.wait_for_workers(self.slots)
        workers = (await self.client.scheduler.identity(n_workers=-1))["workers"]
        self._check_workers(workers)
        if self._slots is None:
            self._slots = sum(w["nthreads"] for w in workers.values())
        self.client.subscribe_topic(self._topic, self._on_event)
        await self._ship()

    def _check_workers(self, workers: dict[str, Any]) -> None:
        if not workers:
            raise InputError(f"the Dask scheduler at {self._address!r} has no workers; start some first")
        for resource, amount in self._resources.items():
            if not any(w.get("resources", {}).get(resource, 0) >= amount for w in workers.values()):
                raise InputError(
                    f"no Dask worker offers {resource}={amount:g}, so every trial would wait for ever; start "
                    f"workers with --resources {resource}={amount:g}"
                )

    async def _ship(self) -> None:
        problem = await self._problem()
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
            problem = await self._problem()
        if problem:
            raise ObjectiveError(
                f"the Dask workers cannot load the objective ({problem}); install its package on the "
                "workers, or put it into one file and name it as PATH.py:function"
            )

    async def _problem(self) -> str:
        answers = await self.client.run(try_objective, self._work.objective, on_error="return")
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

    async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
        """See :class:`flows._runner.Runner`."""
        key = f"{self._topic}-{job.trial}-{job.attempt}-{uuid.uuid4().hex[:8]}"
        segment = self._flying[key] = _Segment()
        self._by_slot[slot] = key
        work = {
            "objective": self._work.objective,
            "folder": str(self._work.folder),
            "tracking": self._work.tracking,
            "environment": self._work.environment,
            "limits": self._work.limits,
        }
        future = self.client.submit(
            run_segment,
            key,
            self._topic,
            work,
            job.to_json(),
            key=key,
            pure=False,
            retries=0,
            resources=self._resources or None,
        )
        result = asyncio.ensure_future(future.result())
        try:
            return await self._converse(key, segment, result, on_message)
        finally:
            result.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await result
            future.release()
            del self._flying[key], self._by_slot[slot]

    async def _converse(
        self, key: str, segment: _Segment, result: asyncio.Future[dict[str, Any]], on_message: OnMessage
    ) -> Outcome:
        while True:
            getter = asyncio.ensure_future(segment.inbox.get())
            await asyncio.wait({getter, result}, return_when=asyncio.FIRST_COMPLETED)
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
            with contextlib.suppress(Exception):  # the worker is gone; its future says so too
                await self.client.run(command, key, verb, text, workers=[worker])

        task = asyncio.ensure_future(send())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
        self._flying[key].reason = reason
        if self._flying[key].worker:
            self._tell_slot(slot, "kill", reason)
        else:  # it is still queued
            await self.client.cancel([key], force=True)

    async def close(self) -> None:
        """End this study's processes on the workers, and the cluster if it is ours."""
        if self._client is not None:
            with contextlib.suppress(Exception):  # a scheduler that is gone has nothing left to end
                await asyncio.wait_for(self._client.run(leave, self._topic), timeout=5)
            with contextlib.suppress(Exception):
                await self._client.close(timeout=5)
        if self._cluster is not None:
            await self._cluster.close(timeout=10)
