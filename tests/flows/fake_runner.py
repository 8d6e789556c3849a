"""A runner that runs nothing, and studies driven on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from flows._driver import Driver
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import OnMessage
from hpo_core import Float, Journal, Study
from hpo_core._journal import read_journal

SPACE = {"x": Float(0.0, 1.0)}
Script = Callable[[Job, OnMessage, "FakeRunner"], Awaitable[Outcome]]


class FakeRunner:
    """A runner whose segments do what a script says."""

    def __init__(self, script: Script, *, slots: int = 2) -> None:
        self.slots = slots
        self.script = script
        self.jobs: list[Job] = []
        self.most_at_once = 0
        self.at_once = 0
        self.signals: dict[int, asyncio.Event] = {}
        self.verbs: list[tuple[str, int]] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def label(self, slot: int) -> str:
        return f"fake-{slot}"

    async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
        self.jobs.append(job)
        self.signals[slot] = asyncio.Event()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.script(job, on_message, self)
        finally:
            self.at_once -= 1

    def stop(self, slot: int) -> None:
        self.verbs.append(("stop", slot))
        self.signals[slot].set()

    def suspend(self, slot: int) -> None:
        self.verbs.append(("suspend", slot))
        self.signals[slot].set()

    async def kill(self, slot: int, reason: str) -> None:
        self.verbs.append(("kill", slot))
        self.signals[slot].set()


async def at_once(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
    await asyncio.sleep(0)
    return Outcome(kind=m.RETURNED, values=float(job.params["x"]))


def make_study(folder: Path, **options: Any) -> Study:
    fields: dict[str, Any] = {"strategy": "random", "limits": {"trials": 10}, **options}
    return Study(SPACE, journal=Journal(folder / "journal.jsonl"), now=time.time(), **fields)


def drive(study: Study, runner: FakeRunner, folder: Path, **options: Any) -> str:
    return asyncio.run(Driver(study, runner, folder=folder, **options).drive())


def replayed(folder: Path) -> Study:
    return Study.replay(event for _, event, _ in read_journal(folder / "journal.jsonl"))
