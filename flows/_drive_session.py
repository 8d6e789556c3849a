"""Drive a session: bring up workers, run the trials, watch, heed who wants it cancelled. No Prefect."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from flows._driver import Driver
from flows._execute import Objective
from flows._make_runner import RunnerTerms, make_runner
from flows._prompt import prompt
from flows._relay import stoppable
from flows._session import Session
from flows._stretch import Orchestrate, bare
from tracking import redacted

# How often whoever ordered the session is asked, and how long an answer may take when it is to end anyway.
_LOOK_SECONDS, _RECALL_SECONDS, _ANSWER_SECONDS = 0.25, 1.0, 2.0
_WATCH_SECONDS = 0.2

Watch = Callable[[Session], None]
# Asks whoever ordered the session: the reason why the study is to be cancelled, or an empty string.
Recalled = Callable[[], Awaitable[str]]


async def nobody_recalls() -> str:
    """For a session that nobody ordered."""
    return ""


async def drive(
    current: Session,
    objective: Objective,
    runner_terms: RunnerTerms,
    *,
    orchestrate: Orchestrate = bare,
    tell: Callable[[str], None] = lambda line: None,
    watch: Watch = lambda session: None,
    recalled: Recalled = nobody_recalls,
) -> str:
    """Run the study's trials until it ends or is interrupted; returns why it ended.

    ``recalled`` is asked every second, and when the process is told to end, whether to cancel the study.
    """
    runner = make_runner(current, objective, runner_terms, tell)
    driver = Driver(
        current.study,
        runner,
        folder=current.folder,
        tracker=current.tracker,
        orchestrate=orchestrate,
        tell=tell,
        granularity=runner_terms.granularity,
        quota=runner_terms.quota,
        now=current.now,
    )
    watcher = asyncio.create_task(_watching(current, watch, tell))
    starting = asyncio.create_task(runner.start())
    # The first proposals would wait for it, and idle workers with them.
    loading = asyncio.create_task(asyncio.to_thread(current.study.strategy.warm_up))
    over = asyncio.Event()
    recall = asyncio.create_task(_heed_recall(driver, starting.cancel, recalled, over))

    def on_connected(task: asyncio.Task[str | None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            driver.interrupt("the study cannot be tracked")
            starting.cancel()

    if current.connecting is not None:
        current.connecting.add_done_callback(on_connected)
    try:
        with stoppable(driver, tell, starting.cancel, recalled), prompt(current.connecting):
            await _started(starting, driver)
            if not starting.cancelled():
                starting.result()
            current.may_connect.set()
            current.ended = await driver.drive()
    finally:
        starting.cancel()
        watcher.cancel()
        over.set()
        await runner.close()
        watch(current)
        # What cannot be imported is for the proposal that needs it to say.
        await asyncio.gather(loading, return_exceptions=True)
        # Cancelled in the middle of a question it would leave a connection open.
        await asyncio.wait([recall], timeout=_ANSWER_SECONDS)
        recall.cancel()
    return current.ended


async def _started(starting: asyncio.Task[None], driver: Driver) -> None:
    """Wait for the runner, which takes seconds to start, or for a request to cancel the study."""
    while not starting.done():
        await asyncio.wait([starting], timeout=_LOOK_SECONDS)
        if driver.heed_request():
            starting.cancel()
            await asyncio.wait([starting])


async def _heed_recall(
    driver: Driver, give_up_start: Callable[[], object], recalled: Recalled, over: asyncio.Event
) -> None:
    while not over.is_set():
        if reason := await recalled():
            driver.cancel(reason)
            give_up_start()
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _RECALL_SECONDS)


async def _watching(current: Session, watch: Watch, tell: Callable[[str], None]) -> None:
    """Show the session several times a second, and say when MLflow goes away and when it is back."""
    away = False
    while True:
        watch(current)
        trouble = current.tracker.status.away
        if (trouble is not None) != away:
            away = trouble is not None
            tell(redacted(trouble) if trouble else "MLflow is back, and gets what has waited")
        await asyncio.sleep(_WATCH_SECONDS)
