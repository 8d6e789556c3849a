"""The fold: events in, the state of the study out. The only code that changes a study."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from hpo_core import _events as ev
from hpo_core._errors import StudyStateError
from hpo_core._history import History
from hpo_core._outcome_constraints import OutcomeConstraint
from hpo_core._records import Limits, Settings, TrialRecord
from hpo_core._space import SearchSpace
from hpo_core._states import TrialState, check_move
from hpo_core._working_time import WorkingTime

# The state in which a trial must be for these events to follow.
_FROM: dict[type[ev.Event], TrialState] = {
    ev.TrialResumed: TrialState.PAUSED,
    ev.SegmentStarted: TrialState.WAITING,
    ev.TrialReported: TrialState.RUNNING,
    ev.TrialPausedAt: TrialState.RUNNING,
    ev.AttemptLost: TrialState.RUNNING,
}


class Fold:
    """Everything that follows from a journal: history, trials, queue, limits, clocks.

    ``functions`` are the constraints of the space that JSON cannot carry.
    """

    def __init__(
        self, created: ev.StudyCreated, functions: Sequence[Callable[[dict[str, Any]], bool]] = ()
    ) -> None:
        self.created = created
        self.limits = Limits().updated(created.limits)
        self.settings = Settings(**created.settings)
        self.outcome_constraints = tuple(map(OutcomeConstraint.of, self.settings.outcome_constraints))
        self.functions = functions
        # The space as its user wrote it; ``history.space`` also has what objectives asked for.
        self.declared = SearchSpace.from_json(created.space, constraints=functions)
        self.history = History(
            space=self.declared,
            objectives=created.objectives,
            seed=created.seed,
            workers=self.settings.workers,
            max_steps=self.settings.max_steps,
            rule=self.settings.rule,
            outcome_constraints=self.outcome_constraints,
        )
        self.history.max_trials = self.limits.trials
        self.history.length = 1
        self.trials: list[TrialRecord] = []
        self.queue: deque[dict[str, Any]] = deque()
        self.notes: list[ev.Noted] = []
        # Sources of all that was ever queued, empty for those that have no name.
        self.enqueued: list[str] = []
        # Sources of the results from elsewhere, those that have a name.
        self.observed: set[str] = set()
        self.stopped: ev.StudyStopped | None = None
        self.token = 0
        self.steps_spent = 0
        self.cost_spent = 0.0
        self.working_time = WorkingTime(created.at)
        # Methods, no lambdas: those of a copied or pickled fold must be its own.
        self._handlers: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.DriverTookOver: self._driver_took_over,
            ev.SpaceChanged: self._space_changed,
            ev.Enqueued: self._enqueued,
            ev.Observed: self._observed,
            ev.TrialAsked: self._asked,
            ev.TrialResumed: self._resumed,
            ev.SegmentStarted: self._started,
            ev.TrialResolved: self._resolved,
            ev.TrialReported: self._reported,
            ev.CurveLogged: _nothing,
            ev.CheckpointSaved: self._checkpoint_saved,
            ev.CheckpointDropped: self._checkpoint_dropped,
            ev.TrialPausedAt: self._paused,
            ev.AttemptLost: self._lost,
            ev.TrialFinished: self._finished,
            ev.TrialRequeued: self._requeued,
            ev.StudyExtended: self._extended,
            ev.StudyStopped: self._stopped,
            ev.Noted: self._noted,
        }

    @property
    def seconds_spent(self) -> float:
        """Seconds in which a driver had the study, up to its last event."""
        return self.working_time.seconds

    @property
    def last_at(self) -> float:
        """The time of the last event, in seconds since the epoch; 0 where nobody tells the time."""
        return self.working_time.last

    def cost_until(self, now: float) -> float:
        """Worker-seconds of all trials, with those of the segments that run until ``now``."""
        running: list[int] = self.history.in_state(TrialState.RUNNING).tolist()
        began = [self.trials[number].segment_started_at for number in running]
        return self.cost_spent + sum(max(now - at, 0.0) for at in began if at)

    def apply(self, event: ev.Event, *, checked: bool = False) -> None:
        """Fold one event. Raises :class:`StudyStateError` for one that cannot follow, folding nothing."""
        if not checked:
            self.check(event)
        self.working_time.heard(event, stopped=self.stopped is not None)
        self._handlers[type(event)](event)
        self.history.length += 1

    def trial(self, number: int) -> TrialRecord:
        """The record of one trial. Raises :class:`StudyStateError` when there is none."""
        if not isinstance(number, int) or not 0 <= number < len(self.trials):
            raise StudyStateError(f"there is no trial {number!r}; the study has {len(self.trials)}")
        return self.trials[number]

    def check(self, event: ev.Event) -> None:
        """Raise :class:`StudyStateError` for an event that cannot follow; :meth:`apply` then cannot fail.

        So nothing is ever written to a journal that could not be replayed.
        """
        if type(event) not in self._handlers:
            raise StudyStateError(f"an event of type {event.type!r} cannot occur inside a study")
        match event:
            case ev.DriverTookOver() if event.token <= self.token:
                raise StudyStateError(f"driver token {event.token} is not above {self.token}")
            case ev.TrialAsked():
                self._check_asked(event)
            case ev.StudyExtended():
                self.limits.updated(event.limits)
            case ev.StudyStopped() if event.state not in ("finished", "failed", "cancelled"):
                raise StudyStateError(
                    f"a study ends 'finished', 'failed' or 'cancelled', got {event.state!r}"
                )
            case ev.TrialFinished():
                check_move(event.trial, self.trial(event.trial).state, _end_state(event.state))
            case ev.TrialRequeued():
                state = self.trial(event.trial).state
                if not state.finished:
                    raise StudyStateError(
                        f"trial {event.trial} is {state.label}; only a trial that ended can run again"
                    )
                check_move(event.trial, state, _state_again(event))
            case ev.TrialResolved() if self.trial(event.trial).state.finished:
                state = self.trial(event.trial).state
                raise StudyStateError(f"trial {event.trial} is {state.label}; its configuration is settled")
            case ev.CurveLogged() | ev.CheckpointSaved() | ev.CheckpointDropped() | ev.TrialResolved():
                self.trial(event.trial)
            case _ if type(event) in _FROM:
                self._check_step(event)

    def _check_asked(self, event: ev.TrialAsked) -> None:
        if event.trial != len(self.trials):
            raise StudyStateError(f"expected trial {len(self.trials)} next, got {event.trial}")
        if event.parent is not None:
            self.trial(event.parent)
        if event.origin == "enqueued" and not self.queue:
            raise StudyStateError(f"trial {event.trial} comes from the queue, which is empty")

    def _check_step(self, event: Any) -> None:
        trial = self.trial(event.trial)
        if trial.state is not _FROM[type(event)]:
            raise StudyStateError(
                f"{event.type} needs a trial that is {_FROM[type(event)].label}; trial {trial.number} is "
                f"{trial.state.label}"
            )
        if isinstance(event, ev.SegmentStarted) and event.attempt != trial.attempt + 1:
            raise StudyStateError(
                f"trial {trial.number} has had {trial.attempt} attempts, so the next is {trial.attempt + 1}, "
                f"got {event.attempt}"
            )
        if isinstance(event, ev.TrialReported) and event.step <= trial.step:
            raise StudyStateError(
                f"trial {trial.number} is at step {trial.step}; a report at step {event.step} cannot follow"
            )

    def _driver_took_over(self, event: ev.DriverTookOver) -> None:
        self.token = event.token

    def _space_changed(self, event: ev.SpaceChanged) -> None:
        space = SearchSpace.from_json(event.space, constraints=self.functions)
        if not event.found:
            self.declared = space
            self.history.outside = frozenset(event.outside)
        self.history._change_space(space)
        self.queue = deque(p for p in self.queue if self.history.may_hold(p))

    def _enqueued(self, event: ev.Enqueued) -> None:
        self.queue.append(event.params)
        self.enqueued.append(event.source)

    def _noted(self, event: ev.Noted) -> None:
        self.notes.append(event)

    def _observed(self, event: ev.Observed) -> None:
        self.history._observe(event.params, event.values, text=event.text)
        if event.source:
            self.observed.add(event.source)

    def _asked(self, event: ev.TrialAsked) -> None:
        if event.origin == "enqueued":
            self.queue.popleft()
        self.history._ask(
            event.params,
            target=event.target,
            bracket=event.bracket,
            parent=event.parent,
            start=event.start_step,
        )
        self.trials.append(
            TrialRecord(
                number=event.trial,
                params=event.params,
                origin=event.origin,
                note=event.note,
                target=event.target,
                bracket=event.bracket,
                parent=event.parent,
                start_step=event.start_step,
                step=event.start_step,
                asked_at=event.at,
            )
        )

    def _resumed(self, event: ev.TrialResumed) -> None:
        trial = self.trials[event.trial]
        trial.state = TrialState.WAITING
        trial.target = event.target
        self.history._retarget(event.trial, event.target)
        self.history._move(event.trial, TrialState.WAITING)

    def _started(self, event: ev.SegmentStarted) -> None:
        trial = self.trials[event.trial]
        trial.state = TrialState.RUNNING
        trial.attempt = event.attempt
        trial.worker = event.worker
        trial.started_at = trial.started_at or event.at
        trial.segment_started_at = event.at
        trial.from_step = event.from_step
        trial.trained_to = min(event.from_step, trial.step)
        trial.reported_at = 0.0
        self.history._move(event.trial, TrialState.RUNNING)

    def _resolved(self, event: ev.TrialResolved) -> None:
        self.trials[event.trial].params = event.params
        self.history._resolve(event.trial, event.params)

    def _reported(self, event: ev.TrialReported) -> None:
        trial = self.trials[event.trial]
        since = trial.step if event.begun is None else min(event.begun, trial.step)
        self.steps_spent += event.step - since
        trial.step = trial.trained_to = event.step
        first = not trial.reported_at
        before = trial.segment_started_at if first else trial.reported_at
        # A deterministic study is not to hear how long its trials took.
        known = before and event.at and not self.settings.deterministic
        seconds = max(event.at - before, 0.0) if known else math.nan
        trial.reported_at = event.at
        self.history._report(event.trial, event.step, event.metrics, seconds=seconds, first=first)

    def _checkpoint_saved(self, event: ev.CheckpointSaved) -> None:
        self.trial(event.trial).checkpoints[event.step] = (event.uri, event.size)

    def _checkpoint_dropped(self, event: ev.CheckpointDropped) -> None:
        self.trial(event.trial).checkpoints.pop(event.step, None)

    def _paused(self, event: ev.TrialPausedAt) -> None:
        trial = self.trials[event.trial]
        trial.state = TrialState.PAUSED
        self._spend(trial, event.at)
        trial.segments += 1
        self.history._move(event.trial, TrialState.PAUSED)

    def _lost(self, event: ev.AttemptLost) -> None:
        trial = self.trials[event.trial]
        trial.state = TrialState.WAITING
        self._spend(trial, event.at)
        trial.losses += event.counted
        self.history._move(event.trial, TrialState.WAITING)

    def _finished(self, event: ev.TrialFinished) -> None:
        trial = self.trials[event.trial]
        state = TrialState.of(event.state)
        running = trial.state is TrialState.RUNNING
        trial.state = state
        if running:
            self._spend(trial, event.at)
            trial.segments += 1
        trial.values, trial.metrics = event.values, event.metrics
        trial.reason = event.reason
        trial.finished_at = event.at
        trial.ended_after = self.seconds_spent
        if event.step > trial.step:
            # A result that was taken over, not computed, has cost no steps.
            self.steps_spent += running * (event.step - trial.step)
            trial.step = event.step
        trial.steps_until_end = self.steps_spent
        self.history._finish(event.trial, state, {**event.metrics, **event.values}, trial.step)

    def _requeued(self, event: ev.TrialRequeued) -> None:
        trial = self.trials[event.trial]
        trial.state = _state_again(event)
        trial.values, trial.metrics, trial.reason, trial.finished_at = {}, {}, "", 0.0
        trial.losses = 0
        kept = max(trial.checkpoint_step, int(self.history.pauses[trial.number]))
        trial.step = self.history._again(event.trial, trial.state, kept)
        self.stopped = None

    def _extended(self, event: ev.StudyExtended) -> None:
        self.limits = self.limits.updated(event.limits)
        self.history.max_trials = self.limits.trials
        self.stopped = None

    def _stopped(self, event: ev.StudyStopped) -> None:
        self.stopped = event

    def _spend(self, trial: TrialRecord, at: float) -> None:
        seconds = max(at - trial.segment_started_at, 0.0) if trial.segment_started_at else 0.0
        trial.busy_seconds += seconds
        self.cost_spent += seconds


def _nothing(event: ev.CurveLogged) -> None:
    """Curves are for those who look; nothing is folded."""


def _state_again(event: ev.TrialRequeued) -> TrialState:
    return TrialState.PAUSED if event.paused else TrialState.WAITING


def _end_state(label: str) -> TrialState:
    state = TrialState.of(label)
    if not state.finished:
        raise StudyStateError(f"a trial cannot end as {state.label!r}, which is not an end")
    return state
