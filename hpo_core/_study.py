"""The study: a pure decision process folded over events, with ask / tell on top.

Every method that changes something writes one event to the journal first and folds it then, so the
object built by running and the object built by replaying are the same. Time is an argument, ``now``,
in seconds since the epoch; leave it out where nobody keeps time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

from hpo_core import _events as ev
from hpo_core._errors import InputError, MustWait, StudyFinished, StudyStateError, nearest
from hpo_core._fold import BAD, Fold
from hpo_core._history import History
from hpo_core._journal import EventSink
from hpo_core._parameters import Parameter
from hpo_core._propose import Proposer
from hpo_core._records import Limits, Settings, TrialRecord
from hpo_core._result import best_trial, front, value_by_rule
from hpo_core._space import SearchSpace
from hpo_core._states import TrialState
from hpo_core._strategies import make_strategy
from hpo_core._strategy import Close, Finish, Fork, Resume, Start, Strategy, Verdict, Wait
from hpo_core._trial import Trial, trial_seed

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a trial to be run: from a checkpoint (or nothing) to ``target`` (``None``: the end).

    ``checkpoint`` is ``(trial, step, uri)`` of the checkpoint to start from; a fork starts from its
    parent's. ``attempt`` fences: results of an earlier attempt are ignored.
    """

    trial: int
    attempt: int
    params: dict[str, Any]
    seed: int
    target: int | None
    from_step: int
    checkpoint: tuple[int, int, str] | None
    parent: int | None
    rung: int


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
        space = space if isinstance(space, SearchSpace) else SearchSpace(space or {})
        objectives = _checked_objectives(objectives)
        chosen = make_strategy(strategy)
        limits = _record(Limits, limits)
        settings = _record(Settings, settings)
        chosen.check(space, len(objectives), settings.max_steps)
        created = ev.StudyCreated(
            at=now,
            study_id=uuid.uuid4().hex,
            name=name,
            space=space.to_json(),
            objectives=objectives,
            strategy=dict(chosen.config),
            seed=int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else _whole(seed),
            limits=limits.to_json(),
            settings={
                f: getattr(settings, f) for f in Settings.__slots__ if getattr(settings, f) is not None
            },
            meta=dict(meta or {}),
        )
        if journal is not None:
            journal.append(created)
        self._begin(created, chosen, _constraint_functions(space), journal)

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
        self._proposer = Proposer(strategy.sampler, self._fold.settings.on_duplicate)

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
        name cannot describe. Raises :class:`StudyStateError` for events that make no study.
        """
        stream = iter(events)
        first = next(stream, None)
        if not isinstance(first, ev.StudyCreated):
            raise StudyStateError(f"a journal begins with study_created, got {first!r}")
        study = cls.__new__(cls)
        chosen = strategy or make_strategy(first.strategy)
        study._begin(first, chosen, _constraint_functions(space), journal)
        for event in stream:
            study._fold.apply(event)
        return study

    def _record(self, event: ev.Event) -> None:
        if self._sink is not None:
            self._sink.append(event)
        self._fold.apply(event)

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
        """The best complete trial by the study's rule; of several objectives, by the first.

        Raises :class:`StudyStateError` while no trial is complete.
        """
        return best_trial(self._fold)

    @property
    def pareto_front(self) -> list[TrialRecord]:
        """The complete trials that no other dominates, by number."""
        return front(self._fold)

    @property
    def stopped(self) -> ev.StudyStopped | None:
        """How the study ended, or ``None`` while it is open."""
        return self._fold.stopped

    def exhausted(self, now: float = 0.0) -> str | None:
        """Which limit is spent, as a sentence, or ``None``."""
        limits, fold = self._fold.limits, self._fold
        running = now - fold.last_at if now > fold.last_at > 0.0 else 0.0
        if limits.seconds is not None and fold.seconds_spent + running >= limits.seconds:
            return f"the time limit of {limits.seconds:g} s is used up"
        if limits.steps is not None and fold.steps_spent >= limits.steps:
            return f"the limit of {limits.steps} steps is used up"
        if limits.cost is not None and fold.cost_spent >= limits.cost:
            return f"the limit of {limits.cost:g} worker-seconds is used up"
        if limits.failures is not None:
            failures = sum(self.history.count(s) for s in BAD)
            if failures >= limits.failures:
                return f"{failures} trials failed, the limit is {limits.failures}"
        return None

    # -- deciding ------------------------------------------------------------------------------

    def next(self, now: float = 0.0) -> Segment | Wait | Finish:
        """What to run next: a segment, or the reason to wait or to finish.

        A segment stays due until :meth:`started` is called for it; until then asking again gives the
        same one. Nothing is handed out once a limit is spent or the study was stopped.
        """
        if self._fold.stopped is not None:
            return Finish(self._fold.stopped.reason)
        reason = self.exhausted(now)
        if reason is not None:
            return self._finish_when_idle(reason)
        waiting = self.history.in_state(TrialState.WAITING)
        if len(waiting):
            return self._segment(int(waiting[0]))
        while True:
            rng = np.random.default_rng([self.created.seed, self.history.n_trials, 1])
            action = self.strategy.scheduler.next(self.history, rng)
            match action:
                case Close(trial, why):
                    self._close(trial, why, now)
                case Resume(trial, target):
                    self._record(ev.TrialResumed(at=now, trial=trial, target=target))
                    return self._segment(trial)
                case Fork():
                    return self._fork(action, now)
                case Start():
                    outcome = self._start(action, now)
                    if outcome is not None:
                        return outcome
                case Finish(why):
                    return self._finish_when_idle(why)
                case Wait(why):
                    if self.history.count(TrialState.RUNNING):
                        return action
                    # Waiting for nothing would be for ever; a scheduler's conformance test forbids it.
                    return Finish(f"the scheduler waits although nothing runs: {why}")

    def _finish_when_idle(self, reason: str) -> Wait | Finish:
        running = self.history.count(TrialState.RUNNING)
        return Wait(f"{reason}; {running} trials still run") if running else Finish(reason)

    def _start(self, action: Start, now: float) -> Segment | Wait | Finish | None:
        """The segment of a new trial, or ``None`` when the trial needs no run (a reused result)."""
        if self.history.trials_left == 0:
            return self._finish_when_idle(f"all {self.history.max_trials} trials have been started")
        number = self.history.n_trials
        choice = self._proposer.choose(self.history, self._fold.queue)
        if choice is None:
            return self._finish_when_idle("every configuration of the space has been tried")
        self._record(
            ev.TrialAsked(
                at=now,
                trial=number,
                params=choice.params,
                origin=choice.origin,
                note=choice.note or action.note,
                target=action.target,
                bracket=action.bracket,
            )
        )
        if choice.reuse is None:
            return self._segment(number)
        known = self.trials[choice.reuse]
        self._record(
            ev.TrialFinished(
                at=now,
                trial=number,
                state=known.state.label,
                values=known.values,
                metrics=known.metrics,
                step=known.step,
                reason=f"the result of trial {known.number}, which has the same configuration",
            )
        )
        return None

    def _fork(self, action: Fork, now: float) -> Segment:
        number = self.history.n_trials
        self._record(
            ev.TrialAsked(
                at=now,
                trial=number,
                params=self.space.decode(action.u),
                origin="fork",
                note=action.note,
                target=action.target,
                bracket=action.bracket,
                parent=action.source,
                start_step=action.step,
            )
        )
        return self._segment(number)

    def _segment(self, number: int) -> Segment:
        trial = self.trials[number]
        checkpoint: tuple[int, int, str] | None = None
        if trial.checkpoints:
            step = max(trial.checkpoints)
            checkpoint = (number, step, trial.checkpoints[step][0])
        elif trial.parent is not None:
            uri, _ = self.trials[trial.parent].checkpoints.get(trial.start_step, ("", 0))
            checkpoint = (trial.parent, trial.start_step, uri)
        return Segment(
            trial=number,
            attempt=trial.attempt + 1,
            params=trial.params,
            seed=trial_seed(self.created.seed, number),
            target=trial.target,
            from_step=checkpoint[1] if checkpoint else 0,
            checkpoint=checkpoint,
            parent=trial.parent,
            rung=trial.segments,
        )

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
        self, trial: int, step: int, metrics: Mapping[str, float] | float, now: float = 0.0
    ) -> Verdict:
        """Fold a running trial's metrics at a step and say whether it may go on.

        A step that is not above the last one is a repeated attempt catching up, and changes nothing.
        """
        record = self._known(trial)
        if record.state is TrialState.RUNNING and step > record.step:
            values = {k: float(v) for k, v in self._named(metrics).items()}
            self._record(ev.TrialReported(at=now, trial=trial, step=step, metrics=values))
            return self.strategy.scheduler.judge(self.history, trial)
        return None

    def resolved(self, trial: int, params: Mapping[str, Any], found: Mapping[str, Parameter]) -> None:
        """A define-by-run objective asked for ``found`` and used ``params``.

        Raises :class:`SpaceError` where it contradicts what earlier trials asked for.
        """
        space = self.space.extended(found)
        if space.digest() != self.space.digest():
            self._record(ev.SpaceChanged(at=self._fold.last_at, space=space.to_json()))
        if dict(params) != self.trials[trial].params:
            self._record(ev.TrialResolved(at=self._fold.last_at, trial=trial, params=dict(params)))

    def checkpointed(self, trial: int, step: int, uri: str, size: int = 0, now: float = 0.0) -> None:
        """A checkpoint of the trial exists."""
        self._record(ev.CheckpointSaved(at=now, trial=trial, step=step, uri=uri, size=size))

    def dropped_checkpoint(self, trial: int, step: int, now: float = 0.0) -> None:
        """A checkpoint of the trial was deleted."""
        self._record(ev.CheckpointDropped(at=now, trial=trial, step=step))

    def paused(self, trial: int, now: float = 0.0) -> None:
        """The trial reached its segment's target and waits for the scheduler."""
        record = self._known(trial)
        self._record(ev.TrialPausedAt(at=now, trial=trial, step=record.step))

    def finish(
        self,
        trial: int,
        returned: Mapping[str, float] | float | None = None,
        *,
        state: TrialState | str = TrialState.COMPLETE,
        step: int | None = None,
        reason: str = "",
        now: float = 0.0,
    ) -> TrialState:
        """The trial has ended; returns the end state it got.

        ``returned`` is what the objective returned, the ``last`` result; the study's rule makes the
        trial's values from it and the reports. A complete trial without a finite value for every
        objective is failed, with the reason.
        """
        record = self._known(trial)
        state = TrialState.of(state) if isinstance(state, str) else state
        metrics = {} if returned is None else {k: float(v) for k, v in self._named(returned).items()}
        values = value_by_rule(self._fold, record, metrics)
        if state is TrialState.COMPLETE:
            missing = [n for n in self.objectives if not np.isfinite(values.get(n, np.nan))]
            if missing:
                got = {n: values[n] for n in missing if n in values}
                state = TrialState.FAILED
                reason = reason or (
                    f"the objective gave no finite value for {', '.join(map(repr, missing))}"
                    + (f" (got {got})" if got else "; return it, or report it")
                )
        self._record(
            ev.TrialFinished(
                at=now,
                trial=trial,
                state=state.label,
                values=values,
                metrics={k: v for k, v in metrics.items() if k not in self.objectives},
                step=record.step if step is None else step,
                reason=reason,
            )
        )
        return state

    def lost(self, trial: int, reason: str, *, counted: bool = True, now: float = 0.0) -> None:
        """The trial's worker is gone: repeat the segment, or give up after ``max_attempts`` losses.

        A loss that is nobody's fault, such as the end of the driver, is not ``counted``.
        """
        record = self._known(trial)
        self._record(
            ev.AttemptLost(at=now, trial=trial, attempt=record.attempt, reason=reason, counted=counted)
        )
        most = self._fold.settings.max_attempts
        if record.losses >= most:
            self.finish(trial, state=TrialState.LOST, reason=f"{reason} ({most} attempts were lost)", now=now)

    def _close(self, trial: int, reason: str, now: float) -> None:
        self.finish(trial, state=TrialState.PRUNED, reason=reason, now=now)

    # -- steering ------------------------------------------------------------------------------

    def stop(self, state: str = "finished", reason: str = "", now: float = 0.0) -> None:
        """End the study: paused and waiting trials are closed, so that nothing stays open."""
        for number in self.history.pending.tolist():
            if state == "cancelled":
                self.finish(number, state=TrialState.CANCELLED, reason=reason, now=now)
            elif self.trials[number].state is TrialState.PAUSED:
                self._close(number, f"not promoted: {reason}", now)
            else:
                self.finish(number, state=TrialState.CANCELLED, reason=reason, now=now)
        self._record(ev.StudyStopped(at=now, state=state, reason=reason))

    def extend(self, now: float = 0.0, **limits: float | None) -> None:
        """Change limits, by name; ``extend(trials=200)`` makes 200 the new total."""
        self._fold.limits.updated(limits)
        self._record(ev.StudyExtended(at=now, limits=limits))

    def requeue(self, trial: int, now: float = 0.0) -> None:
        """Run a trial that ended badly once more."""
        self._known(trial)
        self._record(ev.TrialRequeued(at=now, trial=trial))

    def enqueue(self, params: Mapping[str, Any], now: float = 0.0) -> None:
        """Try this configuration before asking the sampler; missing parameters are sampled.

        Raises :class:`SpaceError` for unknown parameters and values out of range.
        """
        self.space.encode(params)
        self._record(ev.Enqueued(at=now, params=dict(params)))

    def observe(
        self, params: Mapping[str, Any], values: Mapping[str, float] | float, *, source: str = ""
    ) -> None:
        """Add a result from elsewhere as evidence; it is no trial of this study and costs no budget."""
        self.space.encode(params)
        named = {k: float(v) for k, v in self._named(values).items()}
        self._record(ev.Observed(at=self._fold.last_at, params=dict(params), values=named, source=source))

    def change_space(self, space: SearchSpace, now: float = 0.0) -> None:
        """Go on with an edited space; earlier trials that still fit it are kept as evidence."""
        self.strategy.check(space, len(self.objectives), self._fold.settings.max_steps)
        self._fold.functions = _constraint_functions(space)
        data = {**space.to_json(), "version": self.space.version + 1}
        self._record(ev.SpaceChanged(at=now, space=data))

    def note(self, topic: str, data: Mapping[str, Any], now: float = 0.0) -> None:
        """Keep something for later readers that no decision depends on."""
        self._record(ev.Noted(at=now, topic=topic, data=dict(data)))

    def take_over(self, driver: str, now: float = 0.0) -> int:
        """Become the study's driver; returns the fencing token. Running trials count as lost."""
        token = self._fold.token + 1
        self._record(ev.DriverTookOver(at=now, driver=driver, token=token))
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
        return Trial(
            number=due.trial,
            params=due.params,
            seed=due.seed,
            attempt=due.attempt,
            target=due.target,
            start_step=record.step,
            parent=due.parent,
        )

    def tell(
        self,
        trial: Trial | int,
        values: Mapping[str, float] | float | None = None,
        *,
        state: TrialState | str = TrialState.COMPLETE,
        step: int | None = None,
        now: float = 0.0,
    ) -> TrialState:
        """Tell what came out; returns the trial's new state.

        ``values``: name to value, or a bare number where there is one objective. ``state``: how the
        trial ended if not well (``"failed"``, ``"pruned"``, ``"infeasible"``...). A trial with a
        ``target`` that is told as complete is paused there, unless ``step`` says it went to the end.
        """
        number = trial.number if isinstance(trial, Trial) else trial
        record = self._known(number)
        state = TrialState.of(state) if isinstance(state, str) else state
        if isinstance(trial, Trial) and trial._suggestions.found:
            self.resolved(number, trial.params, trial._suggestions.found)
        reached = step if step is not None else record.target
        pausing = record.target is not None and reached is not None and reached <= record.target
        if state is TrialState.COMPLETE and pausing and values is not None:
            assert reached is not None
            if reached > record.step:
                self.report(number, reached, values, now)
            finite = np.isfinite(list(self._named(values).values())).all()
            if finite and record.target != self._fold.settings.max_steps:
                self.paused(number, now)
                return TrialState.PAUSED
        return self.finish(number, values, state=state, step=step, now=now)

    def _named(self, values: Mapping[str, float] | float) -> Mapping[str, float]:
        if isinstance(values, Mapping):
            return values
        if len(self.objectives) > 1:
            raise InputError(
                f"the study has the objectives {list(self.objectives)}; tell a dict with a value for "
                f"each, got {values!r}"
            )
        try:
            return {next(iter(self.objectives)): float(values)}
        except (TypeError, ValueError):
            raise InputError(
                f"an objective's value must be a number or a dict of numbers, got {values!r}"
            ) from None

    def _known(self, trial: int) -> TrialRecord:
        return self._fold.trial(trial)


def _checked_objectives(objectives: Mapping[str, str] | None) -> dict[str, str]:
    objectives = {"loss": "min"} if objectives is None else dict(objectives)
    if not objectives:
        raise InputError("a study needs at least one objective, such as {'loss': 'min'}")
    for name, direction in objectives.items():
        if direction not in ("min", "max"):
            raise InputError(
                f"objective {name!r}: the direction must be 'min' or 'max', got {direction!r}"
                f"{nearest(str(direction), ('min', 'max'))}"
            )
    return objectives


def _record(kind: type[_R], given: _R | Mapping[str, Any] | None) -> _R:
    if isinstance(given, kind):
        return given
    data: dict[str, Any] = {} if given is None else dict(cast("Mapping[str, Any]", given))
    known = list(kind.__slots__)  # type: ignore[attr-defined]
    for name in data:
        if name not in known:
            raise InputError(
                f"unknown name {name!r} among the {kind.__name__.lower()}{nearest(name, known)} ({known})"
            )
    return kind(**data)


def _whole(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0, or None, got {seed!r}")
    return int(seed)


def _constraint_functions(space: SearchSpace | None) -> list[Callable[[dict[str, Any]], bool]]:
    constraints = () if space is None else space.constraints
    return [c.original for c in constraints if callable(c.original)]
