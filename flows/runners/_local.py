"""The local runner: each slot keeps one warm, spawned child process under hard limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from pathlib import Path

from flows.runners import _messages as m
from flows.runners._child_process import ChildProcess, Crew
from flows.runners._messages import Job, Outcome
from flows.runners._port import OnMessage, Work, message_of
from flows.runners._strays import Guard
from hpo_core import ObjectiveError
from tracking import open_artifact

# How often a slot with a memory limit is weighed.
_WEIGH_SECONDS = 0.2


class LocalRunner:
    """Slots on this machine, one warm process each.

    ``environments`` has one dict of variables per slot, set before the child imports anything.
    ``output`` is the folder that takes what the children print. ``crew``: processes that load the objective
    already, with the work's environment and no slot's own.
    """

    def __init__(
        self,
        work: Work,
        *,
        slots: int,
        environments: list[dict[str, str]] | None = None,
        output: Path | None = None,
        crew: Crew | None = None,
    ) -> None:
        self._work = work
        self._output = output or work.folder / "slots"
        self._environments = environments or [{} for _ in range(slots)]
        self._children: list[ChildProcess | None] = [None] * slots
        self._killed: dict[int, Outcome] = {}
        # What each slot's segment was asked, which comes too early while its process is being replaced.
        self._asked: dict[int, list[str]] = {}
        self._strays: Guard | None = None
        if crew is not None:
            self._children, self._strays = crew.join(slots)

    @property
    def slots(self) -> int:
        """Number of processes."""
        return len(self._children)

    def label(self, slot: int) -> str:
        """``local-3``."""
        return f"local-{slot}"

    async def start(self) -> None:
        """Start all children at once and wait until each has loaded the objective.

        A trial that began before would wait for its process, next to all others that do.
        """
        children = await asyncio.gather(*(self._fresh(slot) for slot in range(self.slots)))
        for child in children:
            if child.problem:
                raise ObjectiveError(child.problem)

    def _spawn(self, slot: int) -> ChildProcess:
        if self._strays is None:
            self._strays = Guard()
        environment = {**self._work.environment, **self._environments[slot], **self._strays.marks}
        return ChildProcess(self._work.objective, environment)

    async def _fresh(self, slot: int) -> ChildProcess:
        child = self._children[slot] or self._spawn(slot)
        self._children[slot] = child
        await child.open(self._work.tracking, self._output / f"{slot}.out")
        return child

    async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
        """Run the segment in the slot's process; see :class:`flows.runners._port.Runner`."""
        self._killed.pop(slot, None)
        asked = self._asked[slot] = []
        child = self._children[slot]
        if child is not None and not child.alive:
            await self._discard(slot)
            if slot in self._killed:
                return self._killed.pop(slot)
        child = await self._fresh(slot)
        child.send({"type": "run", **job.to_json()})
        for kind in asked:
            child.send({"type": kind})
        guard = asyncio.create_task(self._guard(slot, child))
        try:
            outcome = await self._converse(child, job, on_message)
        finally:
            guard.cancel()
        if outcome is None:
            died = await self._discard(slot)
            outcome = self._killed.pop(slot, None) or _outcome_of_death(died, child.unheard)
        await self._keep_output(slot, job)
        return outcome

    async def _converse(self, child: ChildProcess, job: Job, on_message: OnMessage) -> Outcome | None:
        while (data := await child.receive()) is not None:
            if data["type"] == "done":
                if (data["trial"], data["attempt"]) == (job.trial, job.attempt):
                    return Outcome(**data["outcome"])
                continue
            message = message_of(data, lambda run_id: child.answer(job, run_id))
            if message is not None:
                await on_message(message)
        return None

    async def _guard(self, slot: int, child: ChildProcess) -> None:
        """Kill the child when it breaks a limit."""
        limits = self._work.limits
        began = time.monotonic()
        while limits.seconds is not None or limits.memory is not None:
            left = None if limits.seconds is None else limits.seconds - (time.monotonic() - began)
            if left is not None and left <= 0:
                self._condemn(slot, m.TIMED_OUT, f"it ran longer than its limit of {limits.seconds:g} s")
                return
            if limits.memory is not None and (held := await asyncio.to_thread(child.memory)) > limits.memory:
                self._condemn(
                    slot,
                    m.OUT_OF_MEMORY,
                    f"it held {held / 2**20:,.0f} MiB, its limit is {limits.memory / 2**20:,.0f} MiB",
                )
                return
            waits = [
                w for w in (left, _WEIGH_SECONDS if limits.memory is not None else None) if w is not None
            ]
            await asyncio.sleep(min(waits))

    def _condemn(self, slot: int, kind: str, reason: str) -> None:
        self._killed[slot] = Outcome(kind=kind, reason=reason)
        if (child := self._children[slot]) is not None:
            child.end()

    def stop(self, slot: int) -> None:
        """See :class:`flows.runners._port.Runner`."""
        self._ask(slot, "stop")

    def suspend(self, slot: int) -> None:
        """See :class:`flows.runners._port.Runner`."""
        self._ask(slot, "suspend")

    def _ask(self, slot: int, kind: str) -> None:
        self._asked.setdefault(slot, []).append(kind)
        if (child := self._children[slot]) is not None:
            child.send({"type": kind})

    async def kill(self, slot: int, reason: str) -> None:
        """See :class:`flows.runners._port.Runner`."""
        self._condemn(slot, m.LOST, reason)

    async def _discard(self, slot: int) -> str:
        child, self._children[slot] = self._children[slot], None
        return await child.kill() if child is not None else ""

    async def close(self) -> None:
        """Kill every process group."""
        await asyncio.gather(*(self._discard(slot) for slot in range(self.slots)))
        strays, self._strays = self._strays, None
        if strays is not None:
            await asyncio.to_thread(strays.dismiss)

    async def _keep_output(self, slot: int, job: Job) -> None:
        """Move what the segment printed, which may be more than fits in memory, to the trial's artifacts."""
        output = self._output / f"{slot}.out"
        with contextlib.suppress(FileNotFoundError):
            if output.stat().st_size:
                target = self._work.folder / "artifacts" / str(job.trial) / "output.txt"
                await asyncio.to_thread(_move_content, output, target)


def _move_content(source: Path, target: Path) -> None:
    with source.open("rb") as printed, open_artifact(target, "ab") as file:
        shutil.copyfileobj(printed, file)
    os.truncate(source, 0)


def _outcome_of_death(died: str, unheard: str) -> Outcome:
    """A crash of the interpreter is the objective's doing; a kill from outside is not."""
    if unheard:
        return Outcome(kind=m.RAISED, reason=unheard)
    if died in ("killed by SIGKILL", "killed by SIGTERM", "killed by SIGHUP"):
        return Outcome(kind=m.LOST, reason=f"the worker process was {died}")
    return Outcome(kind=m.RAISED, reason=f"the worker process ended with {died}")
