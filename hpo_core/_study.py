"""The study: a pure decision process folded over events, with ask / tell on top.

Every method that changes something writes one event to the journal first and folds it then, so the
object built by running and the object built by replaying are the same. Time is an argument, ``now``,
in seconds since the epoch; leave it out where nobody keeps time.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np

from hpo_core import _events as ev
from hpo_core._decide import TAKEN_OUT
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
from hpo_core._event_log import EventLog
from hpo_core._execution import Execution
from hpo_core._fitting import in_its_type, meets
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
from hpo_core._result import best_number, front, value_by_rule
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

    ``execution`` is the driver's side: what is due next, and what became of it, for who runs trials otherwise
    than by :meth:`ask` and :meth:`tell`.

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
                f"the limit improvement (--stop-when) is for one objective, the study has "
                f"{list(objectives)}; leave it out"
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
                f: getattr(settings, f) for f in Settings.__slots__ if getattr(settings, f) not in (None, ())
            },
            meta=checked_fields("meta", meta),
        )
        self._begin(EventLog(Fold(created, constraint_functions(space)), journal), chosen)
        # What the scheduler refuses, a metric without a direction for example, it refuses before
        # anything is written.
        self.execution.decider.ask_scheduler()
        if journal is not None:
            journal.append(created)

    def _begin(self, log: EventLog, strategy: Strategy) -> None:
        self.strategy = strategy
        self._log = log
        self.execution = Execution(log, strategy)

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
        if isinstance(events, str) or not isinstance(events, Iterable):
            raise InputError(f"a study is replayed from events, such as Journal(path).events; got {events!r}")
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
        fold = Fold(first, constraint_functions(space))
        study._begin(EventLog(fold, journal), chosen)
        for event in stream:
            fold.apply(event)
        return study

    # -- reading -------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The study's name."""
        return self.state.created.name

    @property
    def created(self) -> ev.StudyCreated:
        """The study's fixed terms."""
        return self.state.created

    @property
    def history(self) -> History:
        """The columns that strategies read."""
        return self.state.history

    @property
    def state(self) -> Fold:
        """Everything folded so far: limits, clocks, notes, queue. Read only."""
        return self._log.fold

    @property
    def space(self) -> SearchSpace:
        """The space in its present version."""
        return self.state.history.space

    @property
    def objectives(self) -> dict[str, str]:
        """Name to direction, ``"min"`` or ``"max"``."""
        return dict(self.state.created.objectives)

    @property
    def trials(self) -> Sequence[TrialRecord]:
        """Every trial asked so far, by number. Read only."""
        return self.state.trials

    @property
    def best(self) -> TrialRecord:
        """The best complete trial by the study's rule, of equals the earliest; of several objectives the one
        on the Pareto front that is best by the first.

        Raises :class:`StudyStateError` while no trial is complete.
        """
        number = best_number(self.history)
        if number is None:
            ended = "" if self.stopped is None else f": {self.stopped.reason.removeprefix(ev.NO_RESULT)}"
            raise StudyStateError(
                f"study {self.name!r} has no complete trial yet, so there is no best one{ended}"
            )
        return self.trials[number]

    @property
    def pareto_front(self) -> list[TrialRecord]:
        """The complete trials that no other dominates, by number."""
        return [self.trials[number] for number in front(self.history).tolist()]

    @property
    def stopped(self) -> ev.StudyStopped | None:
        """How the study ended, or ``None`` while it is open."""
        return self.state.stopped

    def why(self, trial: Trial | int) -> str:
        """Why a trial is where it is, as a sentence; for a paused one, what it waits for."""
        record = self._log.known(trial)
        if record.state is TrialState.PAUSED and self.execution.decider.taken_out(record.number):
            return f"it is paused at step {record.step}, and {TAKEN_OUT}"
        said = self.strategy.scheduler.why(self.history, record.number)
        return f"{said}: {record.reason}" if record.reason and record.reason not in said else said

    def __repr__(self) -> str:
        history = self.history
        counts = [f"{n} {s.label}" for s in TrialState if (n := history.count(s))]
        planned = "" if history.max_trials is None else f" of {history.max_trials}"
        return (
            f"Study({self.name!r}, {self.strategy.name}, {self.objectives}, "
            f"{history.n_trials}{planned} trials{': ' * bool(counts)}{', '.join(counts)})"
        )

    # -- steering ------------------------------------------------------------------------------

    def stop(self, state: str = "finished", reason: str = "", now: float = 0.0) -> None:
        """End the study as ``"finished"``, ``"failed"`` or ``"cancelled"``. A second call changes nothing.

        No trial stays open: paused ones are pruned, unless the study is cancelled; all others are cancelled.
        """
        if self.state.stopped is not None:
            return
        stopped = ev.StudyStopped(at=now, state=state, reason=reason)
        self.state.check(stopped)
        for number in self.history.pending.tolist():
            if not stopped.resumable and self.trials[number].state is TrialState.PAUSED:
                self.execution.finish(number, state=TrialState.PRUNED, reason=stopped.left, now=now)
            else:
                self.execution.finish(number, state=TrialState.CANCELLED, reason=reason, now=now)
        self._log.append(stopped)

    def extend(self, now: float = 0.0, **limits: SupportsFloat | str | None) -> None:
        """Change limits, by name; ``extend(trials=200)`` makes 200 the new total. Reopens a stopped study.

        What its end has cut short goes on: trials that ran are run again, paused ones are paused again.

        Raises :class:`InputError` for an unknown limit, and for a value that it cannot have.
        """
        changed = self.state.limits.updated(limits)
        if (stopped := self.stopped) is not None:
            # First of all: whoever dies over this finds a study that is open and has nothing left to spend.
            for trial in self.trials:
                if trial.state is TrialState.PRUNED and trial.reason == stopped.left:
                    self._log.append(ev.TrialRequeued(at=now, trial=trial.number, paused=True))
                elif stopped.interrupted(trial.state.label, trial.reason):
                    self.requeue(trial.number, now)
        self._log.append(ev.StudyExtended(at=now, limits={name: getattr(changed, name) for name in limits}))

    def requeue(self, trial: Trial | int, now: float = 0.0) -> None:
        """Run a trial that ended badly once more, as its next attempt. Reopens a stopped study.

        One that was paused when it was cancelled is paused again, and goes on when it is promoted.

        Raises :class:`StudyStateError` for a trial that is complete or has not ended.
        """
        record = self._log.known(trial)
        # Its segment was done. Run again, it would train a step for nothing.
        there = record.target is not None and record.target == int(self.history.pauses[record.number])
        paused = there and record.state is TrialState.CANCELLED
        self._log.append(ev.TrialRequeued(at=now, trial=record.number, paused=paused))

    def enqueue(self, params: Mapping[str, Any], now: float = 0.0, *, source: str = "") -> None:
        """Try this configuration before asking the sampler; missing parameters are sampled.

        ``source``: what wants it, kept in ``state.enqueued``, where that can see that it is there already.
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
        self._log.append(ev.Enqueued(at=now, params=given, source=source))

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
        if not (text or self.space.meets_constraints(given)):
            sources = [c.source for c in self.space.constraints]
            raise SpaceError(f"{given!r} does not meet the constraints {sources}; leave the result out")
        named = checked_metrics(values, self.objectives)
        for name in self.objectives:
            if name not in named:
                raise InputError(
                    f"an observation needs a value of every objective {list(self.objectives)}, got "
                    f"{named!r}{nearest(name, named)}"
                )
        at = now or self.state.last_at
        self._log.append(ev.Observed(at=at, params=given, values=named, source=source, text=text))

    def _checked_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(params, Mapping):
            raise SpaceError(f"a configuration is a dict of names and values, got {params!r}")
        for name in params:
            check_name("a parameter's name", name)
        given = {name: plain_json(value, f"parameter {name!r}") for name, value in params.items()}
        parameters = self.space.parameters
        known = {n: v for n, v in given.items() if n in parameters}
        self.space.encode(known)
        given.update((n, in_its_type(parameters[n], v)) for n, v in known.items())
        if not self.history.may_hold(given):
            self.space.encode(given)
        return given

    def change_space(self, space: SearchSpace, now: float = 0.0) -> None:
        """Go on with an edited space; earlier trials that still fit it are kept as evidence.

        A trial fits when each of its values is one that the new space can have, and they meet its input
        constraints. Those that do not are left out, and come back if the space is changed back. The best
        trial is then one that fits; the old best remains until there is one.
        """
        if not isinstance(space, SearchSpace):
            raise SpaceError(f"a study goes on with a SearchSpace({{...}}), got {space!r}")
        self.strategy.check(space, len(self.objectives), self.state.settings.max_steps)
        data = {**space.to_json(), "version": self.space.version + 1}
        outside = [t.number for t in self.trials if not self._may_have(space, t.params)]
        event = ev.SpaceChanged(at=now, space=data, outside=outside)
        # Of functions with one name the last ones count.
        self.state.functions = [*self.state.functions, *constraint_functions(space)]
        self._log.append(event)

    def note(self, topic: str, data: Mapping[str, Any], now: float = 0.0) -> None:
        """Keep something for later readers that no decision depends on."""
        self._log.append(ev.Noted(at=now, topic=topic, data=checked_fields("a note's data", data)))

    # -- ask / tell ----------------------------------------------------------------------------

    def ask(self, now: float = 0.0) -> Trial:
        """The next trial to evaluate.

        With a scheduler that pauses, train to ``trial.target`` and :meth:`tell`; the same trial may
        be handed out again later with a higher target.

        Raises :class:`StudyFinished` when the plan is done, :class:`MustWait` when a running trial
        has to be told first.
        """
        due = self.execution.decider.next(checked_time(now), held=True)
        match due:
            case Wait(reason):
                raise MustWait(f"nothing can be started now: {reason}; tell a running trial first")
            case Finish(reason):
                raise StudyFinished(f"nothing is left to ask for: {reason}")
        self.execution.started(due, now=now)
        return Trial(
            number=due.trial,
            params=due.params,
            seed=due.seed,
            attempt=due.attempt,
            target=due.target,
            start_step=due.from_step,
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
        record = self._log.known(trial)
        if not self._log.current(trial):
            return record.state
        state, named = TrialState.of(state), checked_metrics(values, self.objectives)
        step = None if step is None else checked_step(step, 0, "the step that a trial is told at")
        if isinstance(trial, Trial) and trial._suggestions.found:
            self.execution.resolved(trial, trial.params, trial._suggestions.found)
        if state is TrialState.COMPLETE and record.target not in (None, self.state.settings.max_steps):
            reached = step if step is not None else record.target if named else record.step
            if reached == record.target:
                return self._reached_target(record, named, now)
        return self.execution.finish(trial, named, state=state, step=step, now=now)

    def report(
        self,
        trial: Trial | int,
        step: WholeNumber,
        metrics: Metrics,
        now: float = 0.0,
        *,
        begun: WholeNumber | None = None,
    ) -> Stop | None:
        """Fold a running trial's metrics at a step, and say whether it may go on.

        ``begun``: the step that the training which led to them began at, where that was not the trial's last
        one: its steps are counted from there.

        ``None``: go on; :class:`Stop` says why not, and the trial is then to be finished as pruned. Steps
        count from 1. A report at a step that is not above the last one, or of a trial that no longer runs,
        comes from an earlier attempt and changes nothing.
        """
        step = checked_step(step, 1, "a report's step")
        record = self._log.known(trial)
        values = checked_metrics(metrics, self.objectives)
        if not self._log.current(trial) or record.state is not TrialState.RUNNING or step <= record.step:
            return None
        since = None if begun is None else checked_step(begun, 0, "the step that training began at")
        self._log.append(
            ev.TrialReported(at=now, trial=record.number, step=step, metrics=values, begun=since)
        )
        limit = self.state.limits.steps
        goal = record.target or self.state.settings.max_steps
        if limit is not None and self.state.steps_spent >= limit and step != goal:
            return Stop(f"the limit of {limit} steps is used up")
        return self.strategy.scheduler.judge(self.history, record.number)

    def _may_have(self, space: SearchSpace, params: Mapping[str, Any]) -> bool:
        """Whether a configuration could be one of that space."""
        # What nobody has declared may yet be asked for, as it was before.
        asked_for = params.keys() if self.history.define_by_run else self.space.parameters.keys()
        undeclared = asked_for - self.state.declared.parameters.keys() - space.parameters.keys()
        declared = {n: v for n, v in params.items() if n not in undeclared}
        try:
            space.encode(declared)
        except SpaceError:
            return False
        return meets(space, declared)

    def _reached_target(self, record: TrialRecord, named: Mapping[str, float], now: float) -> TrialState:
        if record.state is not TrialState.RUNNING:
            return record.state  # a lost attempt has come back; its segment is due again already
        assert record.target is not None
        verdict = self.report(record.number, record.target, named, now) if named else None
        if verdict is not None:
            return self.execution.finish(
                record.number, named, state=TrialState.PRUNED, reason=verdict.reason, now=now
            )
        values = value_by_rule(self.state, record, named)
        if not all(np.isfinite(values.get(name, np.nan)) for name in self.objectives):
            return self.execution.finish(record.number, named, now=now)
        self.execution.paused(record.number, now)
        return record.state
