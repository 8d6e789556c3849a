"""A study in virtual time: the real decisions, on workers and training runs that only exist on paper.

The discrete-event loop calls what a driver calls (``next``, ``started``, ``report``, ``paused``,
``finish``, ``lost``) in the order in which a cluster of ``workers`` would, so scheduling, promotions,
waiting and failures are those of the study itself. Ten thousand trials take seconds.

    curves = Curves(lambda params, step: (params["lr"] - 0.1) ** 2 + 1.0 / step, seconds=1.0)
    study = Study(space, strategy="asha", limits={"trials": 1000}, settings={"max_steps": 81})
    result = simulate(study, curves, workers=64, steps=81)
    result.makespan, result.utilisation(), study.best.params
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpo_core._decide import Segment
from hpo_core._errors import InputError
from hpo_core._states import TrialState
from hpo_core._strategy import Finish, Wait
from hpo_core._study import Study

__all__ = ["Curves", "Faults", "Incumbent", "Job", "Run", "Simulation", "Table", "Workload", "simulate"]

Metrics = Mapping[str, float]


class Job(Protocol):
    """A training run that has been set up, or restored from a checkpoint."""

    def advance(self, step: int) -> tuple[float, Metrics | float]:
        """Train to ``step``, one above the last; returns the seconds that took and the metrics then."""
        ...

    def save(self) -> Any:
        """What a checkpoint written now would hold."""
        ...


class Workload(Protocol):
    """What is trained."""

    def start(self, params: Mapping[str, Any], seed: int, state: Any) -> Job:
        """A new job, from what :meth:`Job.save` gave, or from nothing (``None``)."""
        ...


@dataclass(frozen=True, slots=True)
class _CurveJob:
    params: Mapping[str, Any]
    value: Callable[[Mapping[str, Any], int], Metrics | float]
    seconds: Callable[[Mapping[str, Any], int], float] | float

    def advance(self, step: int) -> tuple[float, Metrics | float]:
        spent = self.seconds if isinstance(self.seconds, int | float) else self.seconds(self.params, step)
        return float(spent), self.value(self.params, step)

    def save(self) -> Any:
        return True


@dataclass(frozen=True, slots=True)
class Curves:
    """Training runs by formula: ``value(params, step)`` after a step, ``seconds(params, step)`` that it
    takes.
    """

    value: Callable[[Mapping[str, Any], int], Metrics | float]
    seconds: Callable[[Mapping[str, Any], int], float] | float = 1.0

    def start(self, params: Mapping[str, Any], seed: int, state: Any) -> Job:
        """A job on the curve of these parameters; it depends on nothing else."""
        return _CurveJob(params, self.value, self.seconds)


@dataclass(frozen=True, slots=True)
class Table:
    """Training runs that were recorded: one row per configuration, one column per step.

    ``metrics``: name to ``(k, T)`` values after each step. ``seconds``: ``(k, T)`` that each step took.
    ``row``: finds the row of a configuration, such as ``lambda params: params["index"]``.
    """

    metrics: Mapping[str, NDArray[np.float64]]
    seconds: NDArray[np.float64]
    row: Callable[[Mapping[str, Any]], int]

    def start(self, params: Mapping[str, Any], seed: int, state: Any) -> Job:
        """A job that replays the recorded run."""
        row = self.row(params)

        def value(_: Mapping[str, Any], step: int) -> Metrics:
            return {name: float(values[row, step - 1]) for name, values in self.metrics.items()}

        return _CurveJob(params, value, lambda _, step: float(self.seconds[row, step - 1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong, as probabilities for each attempt of a segment; drawn from ``seed``, trial and
    attempt.

    ``crash``: the objective raises, at a random step. ``nan``: its metrics are NaN from a random step
    on. ``vanish``: the worker is lost at a random step, and another takes its place ``replace`` seconds
    later. ``straggle``: the attempt is ``slowdown`` times slower.
    """

    crash: float = 0.0
    nan: float = 0.0
    vanish: float = 0.0
    straggle: float = 0.0
    slowdown: float = 10.0
    replace: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("crash", "nan", "vanish", "straggle"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a probability, from 0 to 1, got {getattr(self, name)!r}")
        if self.slowdown <= 0 or self.replace < 0:
            raise InputError(
                f"slowdown must be positive and replace not negative, got {self.slowdown!r}, {self.replace!r}"
            )


@dataclass(frozen=True, slots=True)
class Run:
    """A segment as a worker ran it: ``start`` and ``end`` in seconds, and how it ended."""

    trial: int
    attempt: int
    worker: int
    start: float
    end: float
    from_step: int
    to_step: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Incumbent:
    """At ``time`` a trial had at ``step`` the best ``value`` reported so far (of the first objective)."""

    time: float
    trial: int
    step: int
    value: float


@dataclass(slots=True)
class Simulation:
    """What happened: every run of every segment, and how the best result grew."""

    study: Study
    workers: int
    runs: list[Run] = field(default_factory=list)
    incumbents: list[Incumbent] = field(default_factory=list)
    ended: str = ""
    """Why nothing was left to start."""
    starved_at: float | None = None
    """When a free worker was first told to wait or that nothing is left."""

    @property
    def makespan(self) -> float:
        """Seconds from the first start to the last end."""
        return max((run.end for run in self.runs), default=0.0)

    @property
    def busy(self) -> float:
        """Worker-seconds spent."""
        return float(sum(run.end - run.start for run in self.runs))

    def utilisation(self, until: float | None = None) -> float:
        """Share of the workers' time that was spent running, up to ``until`` seconds or to the end."""
        until = self.makespan if until is None else until
        if until <= 0:
            return 0.0
        busy = sum(min(run.end, until) - run.start for run in self.runs if run.start < until)
        return float(busy / (until * self.workers))

    def best_at(self, times: Sequence[float]) -> NDArray[np.float64]:
        """(t,) the best value of the first objective reported by each time, ``NaN`` before any."""
        known = np.array([i.time for i in self.incumbents])
        values = np.array([np.nan, *(i.value for i in self.incumbents)])
        return np.asarray(values[np.searchsorted(known, np.asarray(times), side="right")])


class _Attempt:
    """A segment that a worker is running."""

    __slots__ = (
        "crash_at", "due", "end", "job", "metrics", "nan_at", "slow", "start", "step", "vanish_at",
        "whole", "worker",
    )  # fmt: skip

    def __init__(self, due: Segment, job: Job, worker: int, start: float, whole: int) -> None:
        self.due = due
        self.job = job
        self.worker = worker
        self.start = start
        self.step = due.from_step
        self.whole = whole
        self.end = whole if due.target is None else min(due.target, whole)
        self.metrics: dict[str, float] = {}
        self.slow = 1.0
        self.crash_at = self.nan_at = self.vanish_at = 0

    def harm(self, faults: Faults) -> None:
        """Draw what will go wrong."""
        rng = np.random.default_rng([faults.seed, self.due.trial, self.due.attempt])
        chance = rng.random(4)
        at = rng.integers(self.step + 1, max(self.end, self.step + 1) + 1, size=3).tolist()
        self.crash_at = at[0] if chance[0] < faults.crash else 0
        self.nan_at = at[1] if chance[1] < faults.nan else 0
        self.vanish_at = at[2] if chance[2] < faults.vanish else 0
        self.slow = faults.slowdown if chance[3] < faults.straggle else 1.0

    def train(self, every: int, name: str) -> float:
        """Train up to the next report, or to what goes wrong before it; returns the seconds it took."""
        spent = 0.0
        while self.step < self.end:
            self.step += 1
            seconds, metrics = self.job.advance(self.step)
            spent += seconds * self.slow
            stops = self.step % every == 0 or self.step in (self.end, self.crash_at, self.vanish_at)
            if stops:
                found = {name: metrics} if isinstance(metrics, int | float) else dict(metrics)
                broken = 0 < self.nan_at <= self.step
                self.metrics = dict.fromkeys(found, np.nan) if broken else found
                break
        return spent


def simulate(
    study: Study,
    workload: Workload,
    *,
    workers: int,
    steps: int | Callable[[Mapping[str, Any]], int],
    report_every: int = 1,
    faults: Faults | None = None,
    until: float | None = None,
) -> Simulation:
    """Run a study on ``workers`` virtual workers until it has nothing left to start, and close it.

    ``steps``: the step at which a trial is complete, or a function of its parameters. ``report_every``:
    report at every so many steps, at targets and at the end. ``until``: stop the clock after so many
    seconds; what runs then is cancelled.

    Raises :class:`InputError` when there are no workers.
    """
    if workers < 1 or report_every < 1:
        raise InputError(f"workers and report_every must be at least 1, got {workers!r} and {report_every!r}")
    return _Loop(study, workload, workers, steps, report_every, faults).run(until)


class _Loop:
    """The event loop. Times inside are seconds since the start; the study sees them after its own last."""

    def __init__(
        self,
        study: Study,
        workload: Workload,
        workers: int,
        steps: int | Callable[[Mapping[str, Any]], int],
        report_every: int,
        faults: Faults | None,
    ) -> None:
        self._study = study
        self._workload = workload
        self._steps = steps
        self._every = report_every
        self._faults = faults
        self._result = Simulation(study, workers)
        # The study takes a time of 0 for "nobody keeps time".
        self._epoch = study.state.last_at or 1.0
        self._free = list(range(workers - 1, -1, -1))
        self._events: list[tuple[float, int, _Attempt | int]] = []
        self._count = 0
        self._states: dict[tuple[int, int], Any] = {}
        self._name = next(iter(study.objectives))
        self._sign = float(study.history.signs[0])

    def run(self, until: float | None) -> Simulation:
        """Hand out work, let time pass, and so on."""
        now = 0.0
        self._hand_out(now)
        while self._events:
            if until is not None and self._events[0][0] > until:
                self._cut_off(until)
                break
            now, _, event = heapq.heappop(self._events)
            if isinstance(event, int):
                self._free.append(event)
            else:
                self._arrive(event, now)
            if self._free:
                self._hand_out(now)
        if self._study.stopped is None:
            due = self._study.execution.next(self._epoch + now)
            state = due.state if isinstance(due, Finish) else "finished"
            self._study.stop(state, self._result.ended, now=self._epoch + now)
        return self._result

    def _push(self, at: float, event: _Attempt | int) -> None:
        self._count += 1  # events at the same time happen in the order in which they were set up
        heapq.heappush(self._events, (at, self._count, event))

    def _hand_out(self, now: float) -> None:
        study = self._study
        while self._free:
            due = study.execution.next(self._epoch + now)
            if isinstance(due, Wait | Finish):
                self._result.ended = due.reason
                if self._result.starved_at is None:
                    self._result.starved_at = now
                return
            worker = self._free.pop()
            study.execution.started(due, worker=f"worker-{worker}", now=self._epoch + now)
            state = None
            if due.checkpoint is not None:
                state = self._states.get(due.checkpoint[:2])
            job = self._workload.start(due.params, due.seed, state)
            whole = self._steps if isinstance(self._steps, int) else self._steps(due.params)
            attempt = _Attempt(due, job, worker, now, whole)
            if self._faults is not None:
                attempt.harm(self._faults)
            self._push(now + attempt.train(self._every, self._name), attempt)

    def _arrive(self, attempt: _Attempt, now: float) -> None:
        """An attempt has got to its next report, or something has gone wrong on the way."""
        study, trial, step, at = self._study, attempt.due.trial, attempt.step, self._epoch + now
        if step == attempt.vanish_at:
            study.execution.lost(trial, "the worker vanished", now=at)
            delay = 0.0 if self._faults is None else self._faults.replace
            self._leave(attempt, now, "lost", delay)
            return
        if step == attempt.crash_at:
            study.execution.finish(trial, state=TrialState.FAILED, reason="the objective raised", now=at)
            self._leave(attempt, now, "failed")
            return
        record, verdict = study.trials[trial], None
        if attempt.metrics:
            begun = attempt.due.from_step if record.trained_to < record.step else None
            verdict = study.report(trial, step, attempt.metrics, now=at, begun=begun)
        self._compare(attempt, now)
        if verdict is not None:
            study.execution.finish(trial, state=TrialState.PRUNED, reason=verdict.reason, now=at)
            self._leave(attempt, now, "pruned")
        elif step < attempt.end:
            self._push(now + attempt.train(self._every, self._name), attempt)
        elif step < attempt.whole:
            self._states[trial, step] = attempt.job.save()
            study.execution.checkpointed(trial, step, f"memory:{trial}/{step}", now=at)
            study.execution.paused(trial, now=at)
            self._leave(attempt, now, "paused")
        else:
            outcome = study.execution.finish(trial, attempt.metrics, now=at)
            self._leave(attempt, now, outcome.label)

    def _leave(self, attempt: _Attempt, now: float, outcome: str, delay: float = 0.0) -> None:
        self._record(attempt, now, outcome)
        if delay > 0:
            self._push(now + delay, attempt.worker)
        else:
            self._free.append(attempt.worker)

    def _record(self, attempt: _Attempt, now: float, outcome: str) -> None:
        due = attempt.due
        self._result.runs.append(
            Run(
                trial=due.trial,
                attempt=due.attempt,
                worker=attempt.worker,
                start=attempt.start,
                end=now,
                from_step=due.from_step,
                to_step=attempt.step,
                outcome=outcome,
            )
        )

    def _compare(self, attempt: _Attempt, now: float) -> None:
        value = attempt.metrics.get(self._name, np.nan)
        best = self._result.incumbents
        if math.isfinite(value) and (not best or value * self._sign < best[-1].value * self._sign):
            best.append(Incumbent(now, attempt.due.trial, attempt.step, value))

    def _cut_off(self, until: float) -> None:
        for _, _, event in self._events:
            if isinstance(event, _Attempt):
                self._record(event, until, "cancelled")
        reason = f"the simulation was to end after {until:g} s"
        self._result.ended = reason
        self._study.stop("finished", reason, now=self._epoch + until)
