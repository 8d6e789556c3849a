"""Trials in threads of this process: for notebooks and tiny objectives; no hard limits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from flows._execute import Objective, execute
from flows._trial import Signals, checked_run_id
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import Message, OnMessage, RunIdWanted, Work
from hpo_core import InputError


class ThreadRunner:
    """Slots that are threads. A trial that hangs cannot be killed, so limits are refused."""

    def __init__(self, work: Work, *, slots: int, objective: Objective) -> None:
        if work.limits.seconds is not None or work.limits.memory is not None:
            raise InputError(
                "a trial in a thread cannot be killed at a limit; use isolation='process', or drop the "
                "limits on time and memory per trial"
            )
        self._work = work
        self._objective = objective
        self._signals = [Signals() for _ in range(slots)]
        self._abandoned: list[asyncio.Future[str] | None] = [None] * slots
        self._active_run: Any = None
        self._settings = contextlib.ExitStack()

    @property
    def slots(self) -> int:
        """Number of threads."""
        return len(self._signals)

    def label(self, slot: int) -> str:
        """``thread-3``."""
        return f"thread-{slot}"

    async def start(self) -> None:
        """Nothing to bring up but the link to MLflow."""
        if self._work.tracking:
            from tracking import TrialRunActivator

            self._active_run = TrialRunActivator(**self._work.tracking)
            # Waits for MLflow where it is being imported, which takes seconds.
            await asyncio.to_thread(self._settings.enter_context, self._active_run.held())

    async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
        """See :class:`flows.runners._port.Runner`."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[Message | Outcome] = asyncio.Queue()

        def post(said: Message | Outcome) -> None:
            loop.call_soon_threadsafe(inbox.put_nowait, said)

        channel = _LoopChannel(post)
        signals = self._signals[slot] = Signals()
        abandoned = self._abandoned[slot] = loop.create_future()

        def work() -> None:
            outcome = execute(self._objective, job, channel, signals, self._active_run)
            with contextlib.suppress(RuntimeError):  # the loop has gone: the study was stopped hard
                post(outcome)

        threading.Thread(target=work, name=f"trial-{job.trial}", daemon=True).start()
        while True:
            getter = asyncio.ensure_future(inbox.get())
            await asyncio.wait({getter, abandoned}, return_when=asyncio.FIRST_COMPLETED)
            if abandoned.done():  # whatever it still says, and it may say something without end
                getter.cancel()
                signals.stop.set()
                return Outcome(kind=m.LOST, reason=abandoned.result())
            said = getter.result()
            if isinstance(said, Outcome):
                return said
            await on_message(said)

    def stop(self, slot: int) -> None:
        """See :class:`flows.runners._port.Runner`."""
        self._signals[slot].stop.set()

    def suspend(self, slot: int) -> None:
        """See :class:`flows.runners._port.Runner`."""
        self._signals[slot].suspend.set()

    async def kill(self, slot: int, reason: str) -> None:
        """Ask the thread to stop and wait for it no longer."""
        future = self._abandoned[slot]
        if future is not None and not future.done():
            future.set_result(reason)

    async def close(self) -> None:
        """Ask every thread to stop."""
        for signals in self._signals:
            signals.stop.set()
        self._settings.close()


class _LoopChannel:
    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self._run_id: Future[str] = Future()
        self._asked = threading.Event()

    def send(self, message: Message) -> None:
        self._post(message)

    def ask_run_id(self) -> str:
        if not self._asked.is_set():
            self._asked.set()
            self.send(RunIdWanted(self.answer))
        return checked_run_id(self._run_id.result())

    def answer(self, run_id: str) -> None:
        if not self._run_id.done():
            self._run_id.set_result(run_id)
