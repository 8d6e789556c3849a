"""The driver: keeps the runner's slots busy with what the study decides, and journals what happens.

It takes no decision itself. One event loop, one lane per slot; whatever finishes first is folded
first, unless the study is to be repeatable (:mod:`flows._turns`). It never asks MLflow or Prefect anything in
order to go on.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from flows._clock import steady_clock
from flows._late import Late, discard, find
from flows._room import Room
from flows._segment import Running, job_of, keep_traceback, not_used, settle
from flows._stretch import Orchestrate, Stretch, bare
from flows._turns import Speech, Turns
from flows._words import all_failed, beyond, left_out
from flows.runners import _messages as m
from flows.runners._messages import Outcome
from flows.runners._port import Curve, Message, Report, RunIdWanted, Runner, RunnerGone, Saved
from hpo_core import HpoError, Segment, StrategyError, Study, TrialState
from hpo_core.inner import Finish, unheard

# How long a trial that was asked to end may take before its process is killed; a cancellation, which takes
# up to a second to be noticed, has to be through in five.
GRACE_SECONDS = 2.0
# How often the study's clock limits and the cancel file are looked at.
_LOOK_SECONDS = 0.25
_TIDY_LOOKS = 8
_RUN_ID_SECONDS = 60.0


class Tracking(Protocol):
    """What the driver needs of the tracker; see :class:`tracking.StudyTracker`."""

    def notify(self) -> None:
        """The journal has grown."""

    def run_id(self, trial: int, timeout: float) -> str:
        """The trial's MLflow run, made now if need be."""
        ...

    @property
    def offline(self) -> bool:
        """Whether nothing is to be tracked now."""
        ...

    @property
    def fenced(self) -> str | None:
        """Why this driver must stop: another one has gone on with the study."""
        ...


@dataclass(frozen=True, slots=True)
class _Orchestrated:
    """A stretch's task, and whether its slot is free again."""

    task: asyncio.Task[Any]
    ran: asyncio.Event


class Driver:
    """Drives one study to its end, or to an interruption.

    ``tracker`` is told when the journal has grown. ``orchestrate`` wraps each stretch of work as a
    task run. ``tell`` is called with a line for the user whenever there is one. ``granularity``:
    a task run covers at least this many seconds of segments, so that tiny trials share one. ``now``: the
    clock of all that is journaled, by default one of the driver's own. ``quota``: bytes for checkpoints.
    """

    def __init__(
        self,
        study: Study,
        runner: Runner,
        *,
        folder: Path,
        tracker: Tracking | None = None,
        orchestrate: Orchestrate = bare,
        tell: Callable[[str], None] = lambda line: None,
        granularity: float = 1.0,
        now: Callable[[], float] | None = None,
        quota: int | None = None,
    ) -> None:
        self._study = study
        self._runner = runner
        self._folder = folder
        self._tracker = tracker
        self._orchestrate = orchestrate
        self._tell = tell
        self._granularity = granularity
        self._running: dict[int, Running] = {}
        self._turns = Turns(runner.slots, in_order=study.state.settings.deterministic)
        self._stretches: set[asyncio.Task[Any]] = set()
        self._latest: dict[int, _Orchestrated] = {}  # by unfinished trial
        self._changed = asyncio.Event()
        self._told: set[str] = set()
        self._draining = ""
        self._end = ""  # the state that the study is stopped in before its plan is done
        self._gone: HpoError | None = None
        self._now = now or steady_clock()
        self._room = Room(study, folder, tell, quota)
        self._typical = float("inf")  # seconds of a segment, a running mean
        self._helpers: set[asyncio.Task[None]] = set()
        # Who asks for a run may wait for minutes; the event loop's own few threads have trials to kill.
        self._asking = ThreadPoolExecutor(runner.slots, "hpo-run-id")

    # -- the loop ------------------------------------------------------------------------------

    async def drive(self) -> str:
        """Run until nothing is left or somebody interrupts; returns why it ended.

        The study is stopped when its plan is done; after an interruption it stays open. Raises
        :class:`HpoError` when the runner can run nothing any more, or the disk is full; the study stays
        open then, too.
        """
        watch = asyncio.create_task(self._look_around())
        lanes = [asyncio.create_task(self._lane(slot)) for slot in range(self._runner.slots)]
        try:
            for lane in asyncio.as_completed([*lanes, watch]):
                await lane
                if all(task.done() for task in lanes):
                    break
        finally:
            left = (watch, *lanes, *self._stretches, *self._helpers)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._asking.shutdown(wait=False, cancel_futures=True)
        reason = self._conclude()
        await self._room.tidy(self._now)
        if self._gone is not None:
            raise self._gone
        return reason

    def _conclude(self) -> str:
        if self._end:
            self._study.stop(self._end, self._draining, now=self._now())
            self._notify()
            return self._draining
        if self._draining:
            self._study.note("driver_left", {"reason": self._draining}, now=self._now())
            self._notify()
            return self._draining
        due = self._study.execution.next(self._now())
        if not isinstance(due, Finish):
            due = Finish("nothing is left to run")
        if self._study.stopped is None:
            self._study.stop(due.state, due.reason, now=self._now())
            self._notify()
        return due.reason

    async def _lane(self, slot: int) -> None:
        before: _Orchestrated | None = None
        while (segment := await self._take(slot)) is not None:
            current = self._orchestrated(slot, segment, await self._after(segment))
            # What the orchestrator does after a stretch, tens of milliseconds, overlaps with the next one.
            if before is not None:
                await before.task
            await current.ran.wait()
            if current.task.done():
                current.task.result()  # it failed, and its trial may be what there is to wait for
            before = current
            if self._study.trials[segment.trial].state.finished:
                self._latest.pop(segment.trial, None)
        if before is not None:
            await before.task

    def _orchestrated(self, slot: int, segment: Segment, after: tuple[Any, ...]) -> _Orchestrated:
        ran = asyncio.Event()
        body = functools.partial(self._stretch, slot, segment, ran.set)
        stretch = Stretch(title=self._title(segment), body=body, after=after)
        task = asyncio.ensure_future(self._orchestrate(stretch))
        task.add_done_callback(lambda _: ran.set())
        task.add_done_callback(self._stretches.discard)
        self._stretches.add(task)
        self._latest[segment.trial] = _Orchestrated(task, ran)
        return self._latest[segment.trial]

    def _title(self, segment: Segment) -> str:
        if self._typical < self._granularity / 2:
            return f"trials from {segment.trial:04d}"
        name = f"trial-{segment.trial:04d}"
        if segment.rung:
            name += f" rung {segment.rung}"
        return name + (f" attempt {segment.attempt}" if segment.attempt > segment.rung + 1 else "")

    async def _after(self, segment: Segment) -> tuple[Any, ...]:
        linked = [self._latest[t] for t in (segment.trial, segment.parent) if t in self._latest]
        return tuple([await before.task for before in linked if before.ran.is_set()])

    async def _take(self, slot: int) -> Segment | None:
        """The next segment for this slot, begun in the journal; waits for one; ``None`` at the end."""
        while not self._draining:
            changed = self._changed
            due = self._study.execution.next(self._now())
            if isinstance(due, Segment):
                self._begin(slot, due)
                return due
            if isinstance(due, Finish):
                break
            self._turns.waits(slot)
            await changed.wait()
        self._turns.leaves(slot)
        return None

    def _begin(self, slot: int, segment: Segment) -> None:
        self._study.execution.started(segment, worker=self._runner.label(slot), now=self._now())
        self._running[slot] = Running(segment)
        self._turns.runs(slot, segment.trial)
        self._notify()

    async def _stretch(self, slot: int, segment: Segment, ran: Callable[[], None]) -> tuple[str, str]:
        """Run the segment, and further due ones while they are short; returns (state, message).

        ``ran`` is called once the slot is free again.
        """
        began = time.monotonic()
        count = 1
        state = await self._run(slot, segment)
        while not self._draining and time.monotonic() - began < self._granularity:
            due = self._study.execution.next(self._now())
            if not isinstance(due, Segment):
                break
            self._begin(slot, due)
            state = await self._run(slot, due)
            count += 1
        ran()
        if count > 1:
            return "Completed", f"{count} short segments"
        record = self._study.trials[segment.trial]
        return state.capitalize().replace("_", " "), record.reason or f"step {record.step}"

    # -- one segment ---------------------------------------------------------------------------

    async def _run(self, slot: int, segment: Segment) -> str:
        running = self._running[slot]
        record = self._study.trials[segment.trial]
        job = job_of(self._study, segment, self._folder)
        began = time.monotonic()
        speech = Speech(self._turns, slot, functools.partial(self._heard, slot, running))
        try:
            late = find(job) if job.attempt > 1 else None
            if why := self._draining or running.end:
                # It came while the task was set up, and the runner has not got the segment.
                outcome = Outcome(kind=m.LOST, reason=why)
            elif late is None:
                outcome = await self._runner.run(slot, job, speech.say)
            else:
                outcome = await self._adopt(running, late, speech)
        except RunnerGone as error:
            outcome = Outcome(kind=m.LOST, reason=str(error))
            self._give_up(error, "the runner is gone")
        if outcome.kind == m.NO_SPACE:
            self._give_up(
                HpoError(
                    f"the disk of {self._folder} is full: trial {segment.trial}: {outcome.reason}; free some "
                    "space and run the same command again, it continues where this one stopped"
                ),
                "the disk is full",
            )
        await speech.end()
        del self._running[slot]
        self._settle(running, outcome)
        self._turns.asks(slot)
        if record.state is not TrialState.WAITING:  # what is lost may have left its result
            discard(job)
        seconds = time.monotonic() - began
        self._typical = seconds if self._typical == float("inf") else 0.8 * self._typical + 0.2 * seconds
        self._wake()
        return self._study.trials[segment.trial].state.label

    def _give_up(self, error: HpoError, reason: str) -> None:
        """End the session with an error; the study stays open."""
        if self._gone is None:
            self._gone = error
            self.interrupt(reason)

    async def _adopt(self, running: Running, late: Late, speech: Speech) -> Outcome:
        """Fold what the attempt before had to say, as far as it was not heard then."""
        trial = running.segment.trial
        self._tell(f"trial {trial} had finished while its driver was gone; its result is taken over")
        self._study.note("adopted", {"trial": trial, "attempt": running.segment.attempt - 1}, now=self._now())
        for message in late.unheard(self._study.trials[trial].checkpoints):
            await speech.say(message)
        return late.outcome

    def _heard(self, slot: int, running: Running, message: Message) -> None:
        trial = running.segment.trial
        match message:
            case Report() if running.end and self._turns.in_order:
                pass  # how far a trial gets before it notices that it is to end is chance
            case Report(step, metrics, begun):
                verdict = self._study.report(trial, step, metrics, now=self._now(), begun=begun)
                if verdict is not None and not running.end:
                    running.end, running.state = verdict.reason, TrialState.PRUNED
                    self._runner.stop(slot)
                self._wake()
            case Curve(name, steps, points):
                self._study.execution.curve(trial, name, steps, points, now=self._now())
            case Saved(step, uri, size):
                self._study.execution.checkpointed(trial, step, uri, size, now=self._now())
                self._room.taken = True
                self._notify()
            case RunIdWanted(answer):
                self._helper(self._answer_run_id(trial, answer))

    async def _answer_run_id(self, trial: int, answer: Callable[[str], None]) -> None:
        run_id = ""
        if self._tracker is not None:
            try:
                loop = asyncio.get_running_loop()
                run_id = await loop.run_in_executor(
                    self._asking, self._tracker.run_id, trial, _RUN_ID_SECONDS
                )
            except HpoError as error:  # the worker is told that there is none
                if not self._tracker.offline and "no run" not in self._told:
                    self._told.add("no run")
                    self._tell(
                        f"{error}; what the trial itself logs to MLflow goes elsewhere, its output says where"
                    )
        answer(run_id)

    def _settle(self, running: Running, outcome: Outcome) -> None:
        if outcome.note and outcome.note not in self._told:
            self._told.add(outcome.note)
            self._tell(f"trial {running.segment.trial} {outcome.note}")
        if outcome.traceback:
            keep_traceback(self._folder, running.segment.trial, outcome.traceback)
        if running.state is TrialState.PRUNED and self._turns.in_order:
            outcome = replace(outcome, kind=m.STOPPED)  # and so is whether it notices at all
        queued = [*self._study.state.queue]
        try:
            settle(self._study, running, outcome, leaving=self._draining, now=self._now())
        except StrategyError as error:
            # While none is complete all trials seem to ask for it, and would fail; else it may be one branch.
            if not self._study.history.count(TrialState.COMPLETE) and not self._draining:
                self._stop("failed", str(error))
        if gone := left_out(self._study, queued):
            self._tell(gone)
        if unused := not_used(self._study, running, outcome):
            self._tell(f"trial {running.segment.trial} {unused}")
        if (hopeless := all_failed(self._study)) and hopeless not in self._told:
            self._told.add(hopeless)
            self._tell(hopeless)
        self._check_heard(running.segment.trial)
        if (further := beyond(self._study, running.segment.trial)) and "beyond" not in self._told:
            self._told.add("beyond")
            self._tell(further)

    def _check_heard(self, trial: int) -> None:
        """Say once that the strategy cannot use what trials report: they would be pruned for it, or never."""
        state = self._study.trials[trial].state
        if "unheard" in self._told or state not in (
            TrialState.COMPLETE,
            TrialState.PAUSED,
            TrialState.PRUNED,
        ):
            return
        if wrong := unheard(self._study.strategy, self._study.history, trial):
            self._told.add("unheard")
            self._tell(f"trial {trial} {wrong}")

    # -- interruptions and limits --------------------------------------------------------------

    async def _look_around(self) -> None:
        """Heed the study's limits and a request to cancel."""
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            looks += 1
            if self._room.taken and looks % _TIDY_LOOKS == 0:
                await self._room.tidy(self._now)
            self.heed_request()
            if self._tracker is not None and (fenced := self._tracker.fenced) and not self._draining:
                self.interrupt(fenced)
            reason = self._study.execution.exhausted(self._now())
            if reason is not None:
                self._end_running(TrialState.CANCELLED, reason)
            self._wake()

    def heed_request(self) -> bool:
        """Whether somebody has asked for the study to be cancelled, which is done then."""
        request = self._folder / "cancel"
        if not request.exists():
            return False
        request.unlink()
        self.cancel("cancelled on request")
        return True

    def cancel(self, reason: str) -> None:
        """End the study as cancelled: what runs is stopped, then killed. It can be resumed."""
        self._stop("cancelled", reason)

    def _stop(self, state: str, reason: str) -> None:
        self._end, self._draining = state, reason
        self._end_running(TrialState.CANCELLED, reason)
        self._wake()

    def drain(self, reason: str) -> None:
        """Start nothing new; what runs may finish, or end at its next checkpoint."""
        self._draining = self._draining or reason
        for slot in self._running:
            self._runner.suspend(slot)
        self._wake()

    def interrupt(self, reason: str) -> None:
        """Stop now; what ran is repeated from its checkpoint when the study is resumed."""
        self._draining = reason
        for slot in self._running:
            self._helper(self._runner.kill(slot, reason))
        self._wake()

    def _end_running(self, state: TrialState, reason: str) -> None:
        for slot, running in self._running.items():
            if running.state is None:
                running.state, running.end = state, reason
                self._runner.stop(slot)
                self._helper(self._kill_later(slot, running, reason))

    async def _kill_later(self, slot: int, running: Running, reason: str) -> None:
        await asyncio.sleep(GRACE_SECONDS)
        if self._running.get(slot) is running:
            await self._runner.kill(slot, reason)

    def _helper(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside everything else, as long as the study is driven."""
        task = asyncio.create_task(work)
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)

    # -- wake-ups ------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Let waiting lanes ask the study again, and the tracker read on."""
        changed, self._changed = self._changed, asyncio.Event()
        self._turns.wakes()
        changed.set()
        self._notify()

    def _notify(self) -> None:
        if self._tracker is not None:
            self._tracker.notify()
