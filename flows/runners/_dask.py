"""The Dask runner: segments on the workers of a Dask cluster, through our own asynchronous client.

On each Dask worker a segment runs in a warm child process under the same limits as locally. Messages
come back as Dask events; commands go to the worker that runs the segment. Dask would run a segment
again by itself when its worker dies; we take the loss at once instead and let the study decide. What
was in flight when the connection to the scheduler was lost is cut off, and due again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import Callable
from typing import Any

import dask

from flows.runners import _messages as m
from flows.runners._dask_connection import PATIENCE_SECONDS, Connection, Errands, Line
from flows.runners._dask_outpost import Outpost
from flows.runners._dask_worker import command, run_segment
from flows.runners._messages import Job, Outcome
from flows.runners._port import OnMessage, Work, message_of

# How long a worker that is told to kill its segment may take to say so.
_KILL_SECONDS = 3.0


class Segment:
    """One segment in flight, as the driver sees it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.worker = ""
        self.reason = ""
        # Set when nobody waits for its outcome any more, whatever becomes of it.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """Wait no longer."""
        if not self.over.done():
            self.over.set_result(None)


class InFlight:
    """The segments in flight, each in its slot, and where what is heard of them goes."""

    def __init__(self) -> None:
        self._by_key: dict[str, Segment] = {}
        self._by_slot: dict[int, Segment] = {}

    def begin(self, slot: int, segment: Segment) -> None:
        """The segment is what the slot runs now."""
        self._by_key[segment.key] = self._by_slot[slot] = segment

    def end(self, slot: int) -> None:
        """The slot is free."""
        del self._by_key[self._by_slot.pop(slot).key]

    def __contains__(self, segment: Segment) -> bool:
        return segment.key in self._by_key

    def in_slot(self, slot: int) -> Segment | None:
        """What the slot runs, if anything."""
        return self._by_slot.get(slot)

    def heard(self, event: dict[str, Any]) -> None:
        """A segment's message, or the end of a worker."""
        if event.get("action") == "remove-worker":
            self._lost(event["worker"])
        elif (segment := self._by_key.get(str(event.get("key")))) is not None:
            segment.inbox.put_nowait(event)

    def _lost(self, worker: str) -> None:
        """A scheduler that we did not configure keeps what a dead worker ran for the next one to join."""
        for segment in self._by_key.values():
            if segment.worker == worker:
                segment.reason = segment.reason or f"the Dask worker {worker} was lost"
                segment.end()


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
        self._slots = slots
        self._resources = resources or {}
        self._outpost = Outpost(work, topic=f"hpo-{uuid.uuid4().hex}")
        self._flying = InFlight()
        self._connection = Connection(
            self._outpost,
            self._flying.heard,
            address=address,
            resources=self._resources,
            patience=patience,
            tell=tell,
        )
        self._errands = Errands()

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
        threads = await self._connection.open(self.slots)
        if self._slots is None:
            self._slots = threads
        if threads <= self.slots:  # of more it would be anybody's guess which will be used
            await self._outpost.warm_up((await self._connection.line()).client)

    # -- segments ------------------------------------------------------------------------------

    async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
        """See :class:`flows.runners._port.Runner`."""
        segment = Segment(f"{self._outpost.topic}-{job.trial}-{job.attempt}-{uuid.uuid4().hex[:8]}")
        self._flying.begin(slot, segment)
        try:
            line = await self._line_unless_over(segment)
            if line is None:
                return Outcome(kind=m.LOST, reason=segment.reason)
            outcome = await self._fly(segment, line, job, on_message)
            cut_off = outcome.kind == m.LOST and line.cut
            if cut_off and await self._line_unless_over(segment) is not None:
                return Outcome(kind=m.CUT_OFF, reason="the connection to the Dask scheduler was lost")
            return outcome
        finally:
            self._flying.end(slot)

    async def _line_unless_over(self, segment: Segment) -> Line | None:
        """A line that is whole; ``None`` once nobody waits for the segment any more."""
        while True:
            connected = asyncio.ensure_future(self._connection.line())
            try:
                events: set[asyncio.Future[Any]] = {connected, segment.over}
                await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
                if not connected.done():
                    return None
                line = connected.result()
            finally:
                connected.cancel()
            # A line can be cut while it is being handed over. What is submitted then Dask keeps for
            # the next scheduler, where the task runs without anybody hearing what it reports.
            if not line.cut:
                return line

    async def _fly(self, segment: Segment, line: Line, job: Job, on_message: OnMessage) -> Outcome:
        future = line.client.submit(
            run_segment,
            segment.key,
            self._outpost.topic,
            self._outpost.work,
            job.to_json(),
            key=segment.key,
            pure=False,
            retries=0,
            resources=self._resources or None,
        )
        result = asyncio.ensure_future(future.result())
        try:
            return await self._converse(segment, result, on_message)
        finally:
            result.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await result
            with contextlib.suppress(Exception):  # nobody is there to be told
                future.release()

    async def _converse(
        self, segment: Segment, result: asyncio.Future[dict[str, Any]], on_message: OnMessage
    ) -> Outcome:
        answer = functools.partial(self._answer, segment)
        while True:
            getter = asyncio.ensure_future(segment.inbox.get())
            events: set[asyncio.Future[Any]] = {getter, result, segment.over}
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if getter.done():
                data = getter.result()
                if data["type"] == "begun":
                    if segment.worker and segment.worker != data["worker"]:
                        # A scheduler that we did not configure has begun it again on another worker.
                        self._command(segment.key, data["worker"], "kill", "a second run of a lost segment")
                        return Outcome(kind=m.LOST, reason=f"the Dask worker {segment.worker} was lost")
                    segment.worker = data["worker"]
                elif (message := message_of(data, answer)) is not None:
                    await on_message(message)
                continue
            getter.cancel()
            if not result.done():
                return Outcome(kind=m.LOST, reason=segment.reason)
            if (error := result.exception()) is not None:
                reason = segment.reason or f"the Dask worker was lost ({type(error).__name__}: {error})"
                return Outcome(kind=m.LOST, reason=reason)
            while not segment.inbox.empty():  # reports that overtook nothing: sent before the result
                if (message := message_of(segment.inbox.get_nowait(), answer)) is not None:
                    await on_message(message)
            return Outcome(**result.result())

    # -- commands ------------------------------------------------------------------------------

    def _answer(self, segment: Segment, run_id: str) -> None:
        if segment in self._flying:
            self._command(segment.key, segment.worker, "run_id", run_id)

    def _command(self, key: str, worker: str, verb: str, text: str = "") -> None:
        async def send() -> None:
            if (line := self._connection.whole) is not None:
                with contextlib.suppress(Exception):  # the worker is gone; its future says so too
                    await line.client.run(command, key, verb, text, workers=[worker])

        self._errands.start(send())

    def _tell_slot(self, slot: int, verb: str, text: str = "") -> None:
        segment = self._flying.in_slot(slot)
        if segment is None:
            return
        if segment.worker:
            self._command(segment.key, segment.worker, verb, text)
        else:
            # It is still queued, and nobody knows whether a worker comes for it.
            segment.reason = segment.reason or "it had not begun"
            segment.end()

    def stop(self, slot: int) -> None:
        """See :class:`flows.runners._port.Runner`."""
        self._tell_slot(slot, "stop")

    def suspend(self, slot: int) -> None:
        """See :class:`flows.runners._port.Runner`."""
        self._tell_slot(slot, "suspend")

    async def kill(self, slot: int, reason: str) -> None:
        """See :class:`flows.runners._port.Runner`."""
        segment = self._flying.in_slot(slot)
        if segment is None:
            return
        segment.reason = reason
        if self._connection.whole is None:
            segment.end()
            return
        # The worker may be out of reach; it ends what its scheduler has forgotten by itself.
        asyncio.get_running_loop().call_later(_KILL_SECONDS, segment.end)
        self._tell_slot(slot, "kill", reason)

    async def close(self) -> None:
        """End this study's processes on the workers, and the cluster if it is ours."""
        await self._connection.close()
