"""The study: a pure decision process folded over events, with ask / tell on top.

Every method that changes something writes one event to the journal first and folds it then, so the
object built by running and the object built by replaying are the same. Time is an argument, ``now``,
in seconds since the epoch; leave it out where nobody keeps time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, SupportsFloat

import numpy as np

from hpo_core import _events as ev
from hpo_core._decide import Decider
from hpo_core._decide import Segment as Segment
from hpo_core._domain import check_name
from hpo_core._errors import (
    InputError,
    JournalError,
    MustWait,
    SpaceError,
    StudyFinished,
    StudyStateError,
    nearest,
)
from hpo_core._fitting import in_its_type
from hpo_core._fold import Fold
from hpo_core._given import (
    Metrics,
    WholeNumber,
    checked_fields,
    checked_metrics,
    checked_name,
    checked_objectives,
    checked_seed,
    checked_step,
    checked_time,
    constraint_functions,
    record_of,
)
from hpo_core._history import History
from hpo_core._journal import EventSink
from hpo_core._parameters import Parameter, plain_json
from hpo_core._records import Limits, Settings, TrialRecord
from hpo_core._result import best_number, ended, front, value_by_rule
from hpo_core._space import SearchSpace
from hpo_core._states import TrialState
from hpo_core._strategies import make_strategy
from hpo_core._strategy import Finish, Stop, Strategy, Wait
from hpo_core._trial import Trial


class Study:
    """A study over a search space.

    ``space``: a :class:`SearchSpace`, a plain dict of parameters, or ``None`` for define-by-run.
    ``objectives``: name to ``"min"`` or ``"max"``. ``strategy``: a name, dict or object.
    ``seed``: everything random follows from it and the trial numbers; drawn when ``None``.
    ``limits``: the budget, a :class:`Limits` or a dict of its fields. ``settings``: likewise
    :class:`Settings`. ``journal``: where events are written before they count; ``None`` keeps the
    study in memory.

    Raises :class:`InputError` (or a kind of it) when any of these make no sense together.
    """

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Parameter] | None = None,
        objectives: Mapping[str, str] | None = None,
        strategy: Any = "auto",
        seed: int | None = 0,
        *,
        name: str = "study",
        limits: Limits | Mapping[str, Any] | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        journal: EventSink | None = None,
        now: float = 0.0,
    ) -> None:
        space = space if isinstance(space, SearchSpace) else SearchSpace({} if space is None else space)
        objectives = checked_objectives(objectives)
        chosen = make_strategy(strategy)
        limits = record_of(Limits, limits)
        if limits.improvement not in (None, "never") and len(objectives) > 1:
            raise InputError(
                f"the limit improvement is for one objective, the study has {list(objectives)}; leave it out"
            )
        settings = record_of(Settings, settings)
        chosen.check(space, len(objectives), settings.max_steps)
        if not isinstance(journal, EventSink | None):
            raise InputError(f"journal must be a Journal(path), which is open, or None; got {journal!r}")
        created = ev.StudyCreated(
            at=checked_time(now),
            study_id=uuid.uuid4().hex,
            name=checked_name(name),
            space=space.to_json(),
            objectives=objectives,
            strategy=dict(chosen.config),
            seed=int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else checked_seed(seed),
            limits=limits.to_json(),
            settings={
                f: getattr(settings, f) for f in Settings.__slots__ if getattr(settings, f) is not None
            },
            meta=checked_fields("meta", meta),
        )
        self._begin(created, chosen, constraint_functions(space), journal)
        # What the scheduler refuses, a metric without a direction for example, it refuses before
        # anything is written.
        self._decider.ask_scheduler()
        if journal is not None:
            journal.append(created)

    def _begin(
        self,
        created: ev.StudyCreated,
        strategy: Strategy,
        functions: Sequence[Callable[[dict[str, Any]], bool]],
        journal: EventSink | None,
    ) -> None:
        self._fold = Fold(created, functions)
        self.strategy = strategy
        self._sink = journal
        self._decider = Decider(self._fold, strategy, self._record)

    @classmethod
    def replay(
        cls,
        events: Iterable[ev.Event],
        *,
        journal: EventSink | None = None,
        space: SearchSpace | None = None,
        strategy: Strategy | None = None,
    ) -> Study:
        """The study that these events describe; later events go to ``journal``.

        ``space`` supplies constraint functions that JSON cannot carry; ``strategy`` an object that a
        name cannot describe. Raises :class:`StudyStateError` for events that make no study,
        :class:`JournalError` for those of a later version.
        """
        stream = iter(events)
        first = next(stream, None)
        if not isinstance(first, ev.StudyCreated):
            raise StudyStateError(f"a journal begins with study_created, got {first!r}")
        if first.version > ev.JOURNAL_VERSION:
            raise JournalError(
                f"the journal has version {first.version} and this program reads up to {ev.JOURNAL_VERSION}; "
                "upgrade mlflow-hpo to go on with this study"
            )
        study = cls.__new__(cls)
        chosen = strategy or make_strategy(first.strategy)
        study._begin(first, chosen, constraint_functions(space), journal)
        for event in stream:
            study._fold.apply(event)
        return study

    def _record(self, event: ev.Event) -> None:
        at = checked_time(event.at)
        if at is not event.at:
            event = replace(event, at=at)
        self._fold.check(event)
        if self._sink is not None:
            self._sink.append(event)
        self._fold.apply(event, checked=True)

    # -- reading -------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The study's name."""
        return self._fold.created.name

    @property
    def created(self) -> ev.StudyCreated:
        """The study's fixed terms."""
        return self._fold.created

    @property
    def history(self) -> History:
        """The columns that strategies read."""
        return self._fold.history

    @property
    def state(self) -> Fold:
        """Everything folded so far: limits, clocks, notes, queue. Read only."""
        return self._fold

    @property
    def space(self) -> SearchSpace:
        """The space in its present version."""
        return self._fold.history.space

    @property
    def objectives(self) -> dict[str, str]:
        """Name to direction, ``"min"`` or ``"max"``."""
        return dict(self._fold.created.objectives)

    @property
    def trials(self) -> Sequence[TrialRecord]:
        """Every trial asked so far, by number. Read only."""
        return self._fold.trials

    @property
    def best(self) -> TrialRecord:
        """The best complete trial by the study's rule, of equals the earliest; of several objectives the one
        on the Pareto front that is best by the first.

        Raises :class:`StudyStateError` while no trial is complete.
        """
        number = best_number(self.history)
        if number is None:
            raise StudyStateError(f"study {self.name!r} has no complete trial yet, so there is no best one")
        return self.trials[number]

    @property
    def pareto_front(self) -> list[TrialRecord]:
        """The complete trials that no other dominates, by number."""
        return [self.trials[number] for number in front(self.history).tolist()]

    @property
    def stopped(self) -> ev.StudyStopped | None:
        """How the study ended, or ``None`` while it is open."""
        return self._fold.stopped

    def exhausted(self, now: float = 0.0) -> str | None:
        """Which limit is spent, as a sentence, or ``None``."""
        return self._decider.exhausted(checked_time(now))

    def enough(self) -> str | None:
        """Why further trials are not worth it by the limit on ``improvement``, or ``None``."""
        return self._decider.enough()

    def __repr__(self) -> str:
        history = self.history
        counts = [f"{n} {s.label}" for s in TrialState if (n := history.count(s))]
        planned = "" if history.max_trials is None else f" of {history.max_trials}"
        return (
            f"Study({self.name!r}, {self.strategy.name}, {self.objectives}, "
            f"{history.n_trials}{planned} trials{': ' * bool(counts)}{', '.join(counts)})"
        )

    # -- deciding ------------------------------------------------------------------------------

    def next(self, now: float = 0.0) -> Segment | Wait | Finish:
        """What to run next: a segment, or the reason to wait or to finish.

        A segment stays due until :meth:`started` is called for it; until then asking again gives the
        same one. Nothing is handed out once a limit is spent or the study was stopped.
        """
        return self._decider.next(checked_time(now))

    # -- what happened -------------------------------------------------------------------------

    def started(self, segment: Segment, *, worker: str = "", now: float = 0.0) -> None:
        """A worker has begun the segment."""
        self._record(
            ev.SegmentStarted(
                at=now,
                trial=segment.trial,
                attempt=segment.attempt,
                worker=worker,
                from_step=segment.from_step,
            )
        )

    def report(
        self, trial: Trial | int, step: WholeNumber, metrics: Metrics, now: float = 0.0
    ) -> Stop | None:
        """Fold a running trial's metrics at a step, and say whether it may go on.

        ``None``: go on; :class:`Stop` says why not, and the trial is then to be finished as pruned. Steps
        count from 1. A report at a step that is not above the last one, or of a trial that no longer runs,
        comes from an earlier attempt and changes nothing.
        """
        step = checked_step(step, 1, "a report's step")
        record = self._known(trial)
        values = checked_metrics(metrics, self.objectives)
        if not self._current(trial) or record.state is not TrialState.RUNNING or step <= record.step:
            return None
        self._record(ev.TrialReported(at=now, trial=record.number, step=step, metrics=values))
        limit = self._fold.limits.steps
        goal = record.target or self._fold.settings.max_steps
        if limit is not None and self._fold.steps_spent >= limit and step != goal:
            return Stop(f"the limit of {limit} steps is used up")
        return self.strategy.scheduler.judge(self.history, record.number)

    def why(self, trial: Trial | int) -> str:
        """Why a trial is where it is, as a sentence; for a paused one, what it waits for."""
        record = self._known(trial)
        said = self.strategy.scheduler.why(self.history, record.number)
        return f"{said}: {record.reason}" if record.reason and record.reason not in said else said

    def resolved(self, trial: Trial | int, params: Mapping[str, Any], found: Mapping[str, Parameter]) -> None:
        """A define-by-run objective asked for ``found`` and used ``params``.

        A parameter that was proposed because earlier trials asked for it, but that this one did not ask
        for, is inactive in this trial. Raises :class:`SpaceError` where ``found`` contradicts what earlier
        trials asked for, and :class:`StrategyError` where the strategy cannot handle it; nothing has
        changed then.
        """
        record = self._known(trial)
        space = self.space.extended(found)
        declared = self._fold.declared.parameters
        used = {n: plain_json(v) for n, v in params.items() if n in found or n in declared}
        space.encode(used)
        if space.digest() != self.space.digest():
            self.strategy.check(space, len(self.objectives), self._fold.settings.max_steps)
            self._record(ev.SpaceChanged(at=self._fold.last_at, space=space.to_json(), found=list(found)))
        if used != record.params:
            self._record(ev.TrialResolved(at=self._fold.last_at, trial=record.number, params=used))

    def curve(
        self, trial: int, name: str, steps: Sequence[int], points: Sequence[float], now: float = 0.0
    ) -> None:
        """Keep points of a curve for those who look at the trial; no decision reads them."""
        kept = [(int(s), float(p)) for s, p in zip(steps, points, strict=True) if np.isfinite(p)]
        self._record(
            ev.CurveLogged(
                at=now, trial=trial, name=name, steps=[s for s, _ in kept], points=[p for _, p in kept]
            )
        )

    def checkpointed(self, trial: Trial | int, step: int, uri: str, size: int = 0, now: float = 0.0) -> None:
        """A checkpoint of the trial exists."""
        number = self._known(trial).number
        self._record(ev.CheckpointSaved(at=now, trial=number, step=step, uri=uri, size=size))

    def dropped_checkpoint(self, trial: Trial | int, step: int, now: float = 0.0) -> None:
        """A checkpoint of the trial was deleted."""
        self._record(ev.CheckpointDropped(at=now, trial=self._known(trial).number, step=step))

    def paused(self, trial: Trial | int, now: float = 0.0) -> None:
        """The trial reached its segment's target and waits for the scheduler."""
        record = self._known(trial)
        self._record(ev.TrialPausedAt(at=now, trial=record.number, step=record.step))

    def finish(
        self,
        trial: Trial | int,
        returned: Metrics | None = None,
        *,
        state: TrialState | str = TrialState.COMPLETE,
        step: WholeNumber | None = None,
        reason: str = "",
        now: float = 0.0,
    ) -> TrialState:
        """The trial has ended; returns the end state it got.

        ``returned`` is what the objective returned, the ``last`` result; the study's rule makes the
        trial's values from it and the reports. A complete trial without a finite value for every
        objective is failed, with the reason. What an earlier attempt says of a trial that is being
        repeated is ignored.

        Raises :class:`StudyStateError` for a trial that has ended already.
        """
        record = self._known(trial)
        if not self._current(trial):
            return record.state
        metrics = checked_metrics(returned, self.objectives)
        step = None if step is None else checked_step(step, 0, "the step that a trial ends at")
        event = ended(self._fold, record, metrics, TrialState.of(state), step=step, reason=reason, now=now)
        self._record(event)
        return record.state

    def lost(self, trial: Trial | int, reason: str, *, counted: bool = True, now: float = 0.0) -> None:
        """The trial's worker is gone: repeat the segment, or give up after ``max_attempts`` losses.

        A loss that is nobody's fault, such as the end of the driver, is not ``counted``.
        """
        record = self._known(trial)
        self._record(
            ev.AttemptLost(
                at=now, trial=record.number, attempt=record.attempt, reason=reason, counted=counted
            )
        )
        most = self._fold.settings.max_attempts
        if record.losses >= most:
            reason = f"{reason} ({most} attempts were lost)"
            self.finish(record.number, state=TrialState.LOST, reason=reason, now=now)

    # -- steering ------------------------------------------------------------------------------

    def stop(self, state: str = "finished", reason: str = "", now: float = 0.0) -> None:
        """End the study as ``"finished"``, ``"failed"`` or ``"cancelled"``. A second call changes nothing.

        No trial stays open: paused ones are pruned, unless the study is cancelled; all others are cancelled.
        """
        if self._fold.stopped is not None:
            return
        stopped = ev.StudyStopped(at=now, state=state, reason=reason)
        self._fold.check(stopped)
        for number in self.history.pending.tolist():
            if not stopped.resumable and self.trials[number].state is TrialState.PAUSED:
                self.finish(number, state=TrialState.PRUNED, reason=f"not promoted: {reason}", now=now)
            else:
                self.finish(number, state=TrialState.CANCELLED, reason=reason, now=now)
        self._record(stopped)

    def extend(self, now: float = 0.0, **limits: SupportsFloat | str | None) -> None:
        """Change limits, by name; ``extend(trials=200)`` makes 200 the new total. Reopens a stopped study.

        Raises :class:`InputError` for an unknown limit, and for a value that it cannot have.
        """
        changed = self._fold.limits.updated(limits)
        self._record(ev.StudyExtended(at=now, limits={name: getattr(changed, name) for name in limits}))

    def requeue(self, trial: Trial | int, now: float = 0.0) -> None:
        """Run a trial that ended badly once more, as its next attempt. Reopens a stopped study.

        One that was paused when it was cancelled is paused again, and goes on when it is promoted.

        Raises :class:`StudyStateError` for a trial that is complete or has not ended.
        """
        record = self._known(trial)
        # Its segment was done. Run again, it would train a step for nothing.
        there = record.target is not None and record.target == int(self.history.pauses[record.number])
        paused = there and record.state is TrialState.CANCELLED
        self._record(ev.TrialRequeued(at=now, trial=record.number, paused=paused))

    def enqueue(self, params: Mapping[str, Any], now: float = 0.0) -> None:
        """Try this configuration before asking the sampler; missing parameters are sampled.

        Raises :class:`SpaceError` for unknown parameters, values out of range, and a configuration that
        fails the constraints however it is completed. A study that declares no space takes any names,
        for the objective to ask for.
        """
        given = self._checked_params(params)
        known = {n: v for n, v in given.items() if n in self.space.parameters}
        if self.space.complete(known, np.random.default_rng(0)) is None:
            raise SpaceError(
                f"{given!r} does not meet the constraints {[c.source for c in self.space.constraints]}, "
                "however it is completed; change it or the constraints"
            )
        self._record(ev.Enqueued(at=now, params=given))

    def observe(
        self,
        params: Mapping[str, Any],
        values: Metrics,
        *,
        source: str = "",
        text: bool = False,
        now: float = 0.0,
    ) -> None:
        """Add a result from elsewhere as evidence; it is no trial of this study and costs no budget.

        ``values`` must have every objective; one that is not finite says that the configuration failed.

        ``text``: the parameters' values are text, as MLflow keeps them. They are read by the types in the
        space, or by those that a define-by-run objective turns out to ask for; further names are ignored, and
        the result counts for as long as it fits the space. Raises :class:`SpaceError` as :meth:`enqueue`
        does, but not for ``text``.
        """
        given = dict(params) if text else self._checked_params(params)
        named = checked_metrics(values, self.objectives)
        for name in self.objectives:
            if name not in named:
                raise InputError(
                    f"an observation needs a value of every objective {list(self.objectives)}, got "
                    f"{named!r}{nearest(name, named)}"
                )
        at = now or self._fold.last_at
        self._record(ev.Observed(at=at, params=given, values=named, source=source, text=text))

    def _checked_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(params, Mapping):
            raise SpaceError(f"a configuration is a dict of names and values, got {params!r}")
        for name in params:
            check_name("a parameter's name", name)
        given = {name: plain_json(value) for name, value in params.items()}
        parameters = self.space.parameters
        known = {n: v for n, v in given.items() if n in parameters}
        self.space.encode(known)
        given.update((n, in_its_type(parameters[n], v)) for n, v in known.items())
        if not self.history.may_hold(given):
            self.space.encode(given)
        return given

    def change_space(self, space: SearchSpace, now: float = 0.0) -> None:
        """Go on with an edited space; earlier trials that still fit it are kept as evidence.

        A trial fits when each of its values is one that the new space can have. Those that do not are
        left out, and come back if the space is changed back.
        """
        if not isinstance(space, SearchSpace):
            raise SpaceError(f"a study goes on with a SearchSpace({{...}}), got {space!r}")
        self.strategy.check(space, len(self.objectives), self._fold.settings.max_steps)
        data = {**space.to_json(), "version": self.space.version + 1}
        event = ev.SpaceChanged(at=now, space=data)
        # Of two functions with one name the later counts.
        self._fold.functions = [*self._fold.functions, *constraint_functions(space)]
        self._record(event)

    def note(self, topic: str, data: Mapping[str, Any], now: float = 0.0) -> None:
        """Keep something for later readers that no decision depends on."""
        self._record(ev.Noted(at=now, topic=topic, data=checked_fields("a note's data", data)))

    def take_over(self, driver: str, now: float = 0.0) -> int:
        """Become the study's driver; returns the fencing token.

        What the last driver had running is lost, which counts against no trial.
        """
        token = self._fold.token + 1
        self._record(ev.DriverTookOver(at=now, driver=driver, token=token))
        for number in self.history.in_state(TrialState.RUNNING).tolist():
            self.lost(number, "its driver ended", counted=False, now=now)
        return token

    # -- ask / tell ----------------------------------------------------------------------------

    def ask(self, now: float = 0.0) -> Trial:
        """The next trial to evaluate.

        With a scheduler that pauses, train to ``trial.target`` and :meth:`tell`; the same trial may
        be handed out again later with a higher target.

        Raises :class:`StudyFinished` when the plan is done, :class:`MustWait` when a running trial
        has to be told first.
        """
        due = self.next(now)
        match due:
            case Wait(reason):
                raise MustWait(f"nothing can be started now: {reason}; tell a running trial first")
            case Finish(reason):
                raise StudyFinished(f"nothing is left to ask for: {reason}")
        self.started(due, now=now)
        record = self.trials[due.trial]
        # Not the last step that it reported: a lost attempt has kept nothing beyond its pause or checkpoint.
        kept = max(record.checkpoint_step, int(self.history.pauses[due.trial]))
        return Trial(
            number=due.trial,
            params=due.params,
            seed=due.seed,
            attempt=due.attempt,
            target=due.target,
            start_step=kept,
            parent=due.parent,
            study=self.created.study_id,
        )

    def tell(
        self,
        trial: Trial | int,
        values: Metrics | None = None,
        *,
        state: TrialState | str = TrialState.COMPLETE,
        step: WholeNumber | None = None,
        now: float = 0.0,
    ) -> TrialState:
        """Tell what came out; returns the trial's new state.

        ``values``: name to value, or a bare number where there is one objective. ``state``: how the
        trial ended if not well (``"failed"``, ``"pruned"``, ``"infeasible"``...). ``step``: how far it
        went. A trial with a ``target`` that is told as complete at that step is paused there, and is
        complete if it ended before or went on beyond.

        A late word of an attempt that was given up is ignored; a trial that has ended cannot be told
        again (:class:`StudyStateError`).
        """
        record = self._known(trial)
        if not self._current(trial):
            return record.state
        state, named = TrialState.of(state), checked_metrics(values, self.objectives)
        step = None if step is None else checked_step(step, 0, "the step that a trial is told at")
        if isinstance(trial, Trial) and trial._suggestions.found:
            self.resolved(trial, trial.params, trial._suggestions.found)
        if state is TrialState.COMPLETE and record.target not in (None, self._fold.settings.max_steps):
            reached = step if step is not None else record.target if named else record.step
            if reached == record.target:
                return self._reached_target(record, named, now)
        return self.finish(trial, named, state=state, step=step, now=now)

    def _reached_target(self, record: TrialRecord, named: Mapping[str, float], now: float) -> TrialState:
        if record.state is not TrialState.RUNNING:
            return record.state  # a lost attempt has come back; its segment is due again already
        assert record.target is not None
        verdict = self.report(record.number, record.target, named, now) if named else None
        if verdict is not None:
            return self.finish(record.number, named, state=TrialState.PRUNED, reason=verdict.reason, now=now)
        values = value_by_rule(self._fold, record, named)
        if not all(np.isfinite(values.get(name, np.nan)) for name in self.objectives):
            return self.finish(record.number, named, now=now)
        self.paused(record.number, now)
        return record.state

    def _known(self, trial: Trial | int) -> TrialRecord:
        if isinstance(trial, np.integer):
            trial = int(trial)
        if isinstance(trial, Trial) and trial.study not in ("", self.created.study_id):
            raise StudyStateError(f"{trial!r} is a trial of another study; tell it to the one that was asked")
        return self._fold.trial(trial.number if isinstance(trial, Trial) else trial)

    def _current(self, trial: Trial | int) -> bool:
        """Whether this is the trial's latest attempt; a bare number always is."""
        return not isinstance(trial, Trial) or trial.attempt == self._known(trial).attempt
