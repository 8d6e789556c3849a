"""Prefect's side of a study: the server to talk to, and task runs around stretches of work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from flows._embedded import embedded_api, home
from flows._run_context import prefect_runs
from flows._stretch import Orchestrate, Stretch
from tracking import check_version, redacted, set_defaults, status_of
from tracking.tags import FLOW_RUN

# Prefect reads these when it is imported; whoever set them wins.
QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",  # else the first import on a terminal prints about telemetry
}
# How long the end of a study waits for a Prefect server that may be about to come back.
_AWAY_SECONDS, _LOOK_SECONDS = 10.0, 0.5
# How long for what it has not got yet.
_DELIVER_SECONDS = 10.0
# Whether a call in somebody's process has imported Prefect, which was not there then.
_brought = False


@contextlib.contextmanager
def prefect_api(meanwhile: Callable[[], object] = lambda: None) -> Iterator[Callable[[], None]]:
    """A Prefect API to run flows against: the configured one, the calling flow's, or the embedded server.

    Yields a function to call before the first flow: it waits until the server, which starts when the
    block is entered, answers. A cold start takes seconds, in which ``meanwhile`` is called. Raises
    :class:`HpoError` when no server can be had, and for a version of Prefect that this was not made for.
    """
    check_version("prefect")
    set_defaults(QUIET)
    if _brought and "prefect" in sys.modules and _callers_api() is None:
        _take_the_wish()
    # Counts, on whatever handlers there are, the events that Prefect has yet to deliver at the end.
    logging.getLogger("EventsWorker").setLevel(logging.CRITICAL)
    if os.environ.get("PREFECT_API_URL") or _profile_has_api():
        yield lambda: None
        return
    if (url := _callers_api()) is not None:
        with _talking_to(url):
            yield lambda: None
        return
    with embedded_api() as server, contextlib.ExitStack() as settings:

        def ready() -> None:
            if server.coming:
                meanwhile()
            settings.enter_context(_talking_to(server.url()))

        yield ready


@contextlib.contextmanager
def heard_again() -> Iterator[None]:
    """For a call in somebody's process: Prefect, if it is imported in the block, is as talkative afterwards
    as it would be without us, and as quiet in each later call as in the first one.

    It reads the wish for quiet when it is imported and keeps to it, in the caller's own flows too. To be
    left when the environment is again as it was.
    """
    global _brought
    _brought = _brought or "prefect" not in sys.modules
    try:
        yield
    finally:
        if _brought and "prefect" in sys.modules:
            _take_the_wish()


def _take_the_wish() -> None:
    """Have Prefect, which is imported, log as the environment says now."""
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    refresh_global_settings_context()
    setup_logging()


@contextlib.contextmanager
def _talking_to(url: str) -> Iterator[None]:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}):
        try:
            yield
        finally:
            _deliver_all()


def _deliver_all() -> None:
    """Have Prefect deliver its events and logs now, and begin anew for the next study.

    What sends them keeps to the server that it began with, for as long as the process lives: of a study on
    another one they would be lost, its task runs with them, and the process would wait for them at its exit.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    def deliver() -> None:
        for sender in (EventsWorker, APILogWorker):
            sender.drain_all(timeout=_DELIVER_SECONDS, at_exit=False)

    # In a thread with a running loop Prefect would hand out something to await.
    thread = threading.Thread(target=deliver, name="deliver to Prefect")
    thread.start()
    thread.join()


def _callers_api() -> str | None:
    """The API of the flow or task that this is called in, if there is one.

    Without a configured API, Prefect has started a server for it, and no setting says where. On another
    server its subflow would have no parent.
    """
    context = sys.modules.get("prefect.context")
    if context is None:
        return None
    running = context.TaskRunContext.get() or context.FlowRunContext.get()
    return None if running is None else str(running.client.api_url)


def _profile_has_api() -> bool:
    """Whether Prefect's active profile names an API; read without importing Prefect, which takes seconds."""
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", home() / "profiles.toml"))
    if not path.exists():
        return False
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() is not None


def forget(flow_runs: Iterable[str]) -> bool:
    """Delete flow runs with their task runs, those that there are; whether Prefect answered."""
    try:
        with prefect_api() as ready:
            ready()
            with impatient():
                asyncio.run(_forget(flow_runs))
    except Exception:  # noqa: BLE001 - whatever keeps Prefect from answering
        return False
    return True


async def _forget(flow_runs: Iterable[str]) -> None:
    from prefect import get_client
    from prefect.exceptions import ObjectNotFound

    async with get_client() as client:
        for flow_run in flow_runs:
            with contextlib.suppress(ObjectNotFound):
                await client.delete_flow_run(UUID(flow_run))


def task_runs(study: str, tell: Callable[[str], None]) -> Orchestrate:
    """An orchestrator that makes each stretch a task run of the current flow run.

    When Prefect cannot be reached the work is done all the same and ``tell`` is told once.
    """
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.context import TaskRunContext
    from prefect.states import Completed

    complained = False

    @task(name="trial", task_run_name="{title}", cache_policy=NO_CACHE, persist_result=False)
    async def run_stretch(title: str, work: _Work) -> Any:  # noqa: ARG001 - the title names the run
        context = TaskRunContext.get()
        if context is not None:
            run = context.task_run
            prefect_runs.set({"hpo.task_run": str(run.id), FLOW_RUN: str(run.flow_run_id)})
        name, message = await work.run()
        return Completed(name=name, message=message)

    async def orchestrate(stretch: Stretch) -> Any:
        nonlocal complained
        work = _Work(stretch.body)
        try:
            return await run_stretch(
                stretch.title, work, wait_for=list(stretch.after) or None, return_state=True
            )
        except Exception as error:  # noqa: BLE001 - a view that fails must not take the study along
            if work.error is not None:
                raise work.error from None
            if not complained:
                complained = True
                tell(
                    f"Prefect cannot be reached ({type(error).__name__}); study {study!r} goes on without it"
                )
            if not work.begun:
                await stretch.body()
            return None
        finally:
            if work.error is not None:
                raise work.error

    return orchestrate


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Let Prefect's client give up after seconds; by default it tries each request for minutes."""
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    if "PREFECT_CLIENT_MAX_RETRIES" in os.environ:
        yield
        return
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 2}):
        yield


async def expect_nothing_if_away(tell: Callable[[str], None]) -> None:
    """Wait a moment for a Prefect API that does not answer, and then expect nothing of it any more.

    To be awaited at the end of a flow's function. The study's end would otherwise wait for minutes until
    Prefect gives up on the flow run's last state and on each event that it has still to deliver.
    """
    from prefect.context import SettingsContext, get_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES

    url = PREFECT_API_URL.value()
    deadline = time.monotonic() + _AWAY_SECONDS
    # Who wants to know first who asks is there, too.
    while await asyncio.to_thread(status_of, f"{url}/health", 5.0) is None:
        if time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
            continue
        tell(
            f"Prefect does not answer at {redacted(str(url))}: its pages lack the end of this flow run, "
            "and the study does not need them"
        )
        # Never left: what Prefect does after the flow's function has returned runs in the same context.
        # Prefect's own `temporary_settings`, not left either, would end with its last reference.
        context = get_settings_context()
        settings = context.settings.copy_with_update(updates={PREFECT_CLIENT_MAX_RETRIES: 0})
        SettingsContext(profile=context.profile, settings=settings).__enter__()
        _drop_events()
        return


def _drop_events() -> None:
    """Prefect has no setting for how often it connects anew for each event that it has not delivered."""
    from prefect.events.worker import EventsWorker

    for worker in list(getattr(EventsWorker, "_instances", {}).values()):
        client = getattr(worker, "_client", None)
        if client is not None and hasattr(client, "_reconnection_attempts"):
            client._reconnection_attempts = 0


class _Work:
    """The body of a stretch, which remembers how far it got."""

    def __init__(self, body: Callable[[], Awaitable[tuple[str, str]]]) -> None:
        self._body = body
        self.begun = False
        self.error: BaseException | None = None

    async def run(self) -> tuple[str, str]:
        self.begun = True
        try:
            return await self._body()
        except BaseException as error:
            self.error = error
            raise
