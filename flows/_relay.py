"""How a process that is told to stop tells the study in it, whichever thread that runs in.

Signals arrive in the main thread. Where that has a running loop, as in a notebook or an async flow, it waits
for the study in another thread, and hands on what interrupts it.

While trials run, the study decides how to stop them; before and after, what is being done is cancelled,
which closes the study in good order all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol, TypeVar

from flows._driver import Driver
from flows._result import INTERRUPTED, TERMINATED
from flows._signals import instead

_T = TypeVar("_T")

# How long an answer may take when the process is to end anyway.
_ANSWER_SECONDS = 2.0


class Stops(Protocol):
    """What can be asked of the study that runs."""

    def press(self) -> object:
        """Ctrl-C: once drains, twice interrupts."""

    def end(self) -> object:
        """The process is to end: interrupt the study, or cancel it."""


class Relay:
    """One call's. ``terminated``: the process was told to end, which is put off until the study is closed.

    ``interrupted``: by Ctrl-C while trials ran, or in another thread than the study's.
    """

    def __init__(self) -> None:
        self.terminated = False
        self.interrupted = False
        self._cancel: Callable[[], object] | None = None
        self._stops: Stops | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: contextvars.Context | None = None

    @contextlib.contextmanager
    def passed_on(self) -> Iterator[None]:
        """The caller's process was told to end, not its study alone: what would come next shall not."""
        try:
            yield
        finally:
            if self.terminated:
                sys.stdout.flush()
                signal.raise_signal(signal.SIGTERM)

    @contextlib.contextmanager
    def within(self) -> Iterator[None]:
        """To be entered by the task that does everything; before and after its trials it is cancelled."""
        loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._cancel = task.cancel
        if self.interrupted or self.terminated:
            loop.call_soon(task.cancel)
        try:
            with instead(signal.SIGTERM, self.end):
                yield
        finally:
            self._cancel = self._loop = None

    def above_prefect(self) -> contextlib.AbstractContextManager[None]:
        """To be entered in a flow: Prefect's own handler raises in the middle of whatever goes on.

        In a flow that Prefect began, which nobody waits for here, Prefect's is the right one.
        """
        return contextlib.nullcontext() if self._cancel is None else instead(signal.SIGTERM, self.end)

    @contextlib.contextmanager
    def trials(self, stops: Stops) -> Iterator[None]:
        """For as long as trials run."""
        alone = self._loop is None
        self._loop = asyncio.get_running_loop()
        self._stops = stops
        # A signal comes in whichever context is there, and which flow run the study is in is in this one.
        self._context = contextvars.copy_context()
        try:
            with instead(signal.SIGINT, self.press), instead(signal.SIGTERM, self.end):
                yield
        finally:
            self._stops = self._context = None
            if alone:
                self._loop = None

    def press(self, *_: object) -> None:
        """Ctrl-C; takes no lock, for it is called by signals."""
        self.interrupted = True
        self._hand_on(lambda stops: stops.press())

    def end(self, *_: object) -> None:
        """SIGTERM; who says it twice does not want the study left open."""
        if not self.terminated:
            self.terminated = True
            self._hand_on(lambda stops: stops.end())

    def _hand_on(self, how: Callable[[Stops], object]) -> None:
        def there() -> None:
            if self._stops is not None:
                how(self._stops)
            elif self._cancel is not None:
                self._cancel()

        if self._loop is not None:
            self._loop.call_soon_threadsafe(there, context=self._context)


relay: contextvars.ContextVar[Relay] = contextvars.ContextVar("relay")


def run_elsewhere(work: Callable[[], _T], messages: Relay) -> _T:
    """Do the work in a thread of its own, and hand on to it the signals that come meanwhile."""
    box: list[_T | BaseException] = []

    def target() -> None:
        try:
            box.append(work())
        except BaseException as error:  # noqa: BLE001 - handed on to the caller's thread
            box.append(error)

    thread = threading.Thread(target=target, name="tune")
    with instead(signal.SIGINT, messages.press), instead(signal.SIGTERM, messages.end):
        thread.start()
        thread.join()
    outcome = box[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


class _Stops:
    """See :class:`Stops`."""

    def __init__(
        self,
        driver: Driver,
        tell: Callable[[str], None],
        give_up_start: Callable[[], object],
        recalled: Callable[[], Awaitable[str]],
    ) -> None:
        self._driver = driver
        self._tell = tell
        self._give_up_start = give_up_start
        self._recalled = recalled
        self._presses = 0
        self.ending: list[asyncio.Task[None]] = []

    def press(self) -> None:
        self._presses += 1
        if self._presses == 1:
            self._tell("stopping: what runs may finish or reach its next checkpoint; Ctrl-C again stops now")
            self._driver.drain(INTERRUPTED)
        else:
            self._interrupt(INTERRUPTED)

    def end(self) -> None:
        self.ending.append(asyncio.ensure_future(self._end()))

    def _interrupt(self, reason: str) -> None:
        self._driver.interrupt(reason)
        self._give_up_start()

    async def _end(self) -> None:
        # A Prefect worker ends the process of a flow run that it was told to cancel.
        reason = ""
        with contextlib.suppress(TimeoutError):
            reason = await asyncio.wait_for(self._recalled(), _ANSWER_SECONDS)
        if reason:
            self._driver.cancel(reason)
            self._give_up_start()
        else:
            self._interrupt(TERMINATED)


@contextlib.contextmanager
def stoppable(
    driver: Driver,
    tell: Callable[[str], None],
    give_up_start: Callable[[], object],
    recalled: Callable[[], Awaitable[str]],
) -> Iterator[None]:
    """Ctrl-C once drains, twice interrupts; SIGTERM interrupts, or cancels."""
    stops = _Stops(driver, tell, give_up_start, recalled)
    try:
        with relay.get(Relay()).trials(stops):
            yield
    finally:
        for task in stops.ending:
            task.cancel()
