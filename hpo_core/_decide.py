"""What to run next: the scheduler's action, carried out within the study's budget and state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hpo_core import _events as ev
from hpo_core._errors import StrategyError
from hpo_core._fold import Fold
from hpo_core._inferred import ConditionFinder
from hpo_core._propose import Choice, Proposer
from hpo_core._records import origin_of
from hpo_core._result import ended
from hpo_core._states import BAD, TrialState
from hpo_core._stopping import StopRule
from hpo_core._strategy import Action, Close, Finish, Fork, Resume, Start, Strategy, Wait
from hpo_core._trial import trial_seed

# So many reused results in a row, and the sampler is taken to repeat itself for ever.
_MOST_REUSES = 16
TAKEN_OUT = "the search space as it was edited does not have its configuration"


class Checkpoint(NamedTuple):
    """What ``trial`` saved at ``step``, and where it lies."""

    trial: int
    step: int
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a trial to be run: from ``from_step`` to ``target`` (``None``: the end).

    ``checkpoint``: the one to start from, the trial's newest; a fork without one of its own starts from the
    newest that its parent had until then. ``from_step``: that of the checkpoint, and 0 where there is none;
    who holds what its trials have trained goes on from the pause. ``attempt`` fences: results of an earlier
    attempt are ignored. ``rung`` is the number of segments that the trial has finished before.
    """

    trial: int
    attempt: int
    params: dict[str, Any]
    seed: int
    target: int | None
    from_step: int
    checkpoint: Checkpoint | None
    parent: int | None
    rung: int


class Decider:
    """Asks the strategy on behalf of a study; what it decides goes to ``record`` before it counts."""

    def __init__(self, fold: Fold, strategy: Strategy, record: Callable[[ev.Event], None]) -> None:
        self._fold = fold
        self._strategy = strategy
        self._record = record
        self._proposer = Proposer(strategy.sampler, fold.settings.on_duplicate)
        self._rule = StopRule()
        self._conditions = ConditionFinder(fold)

    def exhausted(self, now: float) -> str | None:
        """Which limit is spent, as a sentence, or ``None``."""
        end = self._end_by_limits(now)
        return None if end is None else end.reason

    def _end_by_limits(self, now: float) -> Finish | None:
        """How a limit ends the study; too many failures before the others, for the study has failed then."""
        if (many := self._too_many_failures()) is not None:
            return Finish(many, "failed")
        spent = self._spent(now)
        return None if spent is None else Finish(spent)

    def _spent(self, now: float) -> str | None:
        limits, fold = self._fold.limits, self._fold
        if limits.seconds is not None and fold.working_time.until(now) >= limits.seconds:
            return f"the time limit of {limits.seconds:g} s is used up"
        if limits.steps is not None and fold.steps_spent >= limits.steps:
            return f"the limit of {limits.steps} steps is used up"
        if limits.cost is not None and fold.cost_until(now) >= limits.cost:
            return f"the limit of {limits.cost:g} worker-seconds is used up"
        return None

    def _too_many_failures(self) -> str | None:
        most = self._fold.limits.failures
        if most is None:
            return None
        failures = sum(self._fold.history.count(s) for s in BAD)
        if failures < most:
            return None
        return f"{failures} trial{'' if failures == 1 else 's'} failed, the limit is {most}"

    def enough(self) -> str | None:
        """Why nothing more should be started by the limit on improvement, or ``None``."""
        return self._rule.enough(self._fold.history, self._fold.limits.improvement)

    def next(self, now: float, *, held: bool = False) -> Segment | Wait | Finish:
        """What to run next; see :meth:`hpo_core.Execution.next`.

        ``held``: whoever asks holds what a trial had trained when it paused. Workers have checkpoints alone.
        """
        fold, history = self._fold, self._fold.history
        if fold.stopped is not None:
            why = fold.stopped.reason or f"the study was stopped as {fold.stopped.state}"
            return Finish(why, fold.stopped.state)
        if (end := self._end_by_limits(now)) is not None:
            return self._finish_when_idle(end.reason, end.state)
        waiting = history.in_state(TrialState.WAITING)
        if len(waiting):
            # One that failed and was queued again asks for its steps a second time.
            due = (self._segment(int(trial), held=held) for trial in waiting)
            fitting = next((each for each in due if self._room(each.from_step, each.target)), None)
            return fitting or self._finish_when_idle(self._no_room())
        # What the user has asked for by name is run all the same.
        reason = None if fold.queue else self.enough()
        return self._decide(now, held=held) if reason is None else self._finish_when_idle(reason)

    def ask_scheduler(self, *, exhausted: bool = False) -> Action:
        """The scheduler's next action; decisions are pure, so asking changes nothing.

        A trial that an edit has taken out of the space is closed where the scheduler would have it go on.
        ``exhausted``: the sampler has no configuration left, so new trials cannot be started.
        """
        history = self._fold.history.without_new_trials() if exhausted else self._fold.history
        rng = np.random.default_rng([self._fold.created.seed, history.n_trials, 1])
        action = self._strategy.scheduler.next(history, rng)
        if isinstance(action, Resume | Close) and self.taken_out(action.trial):
            return Close(action.trial, TAKEN_OUT)
        return action

    def taken_out(self, trial: int) -> bool:
        """Whether the space as it was edited does not have the trial's configuration."""
        history, known = self._fold.history, self._fold.history.space.parameters
        given = history.params_of(trial).items()
        # What was running at the edit may have asked for a value since that the space no longer has.
        return trial in history.outside or any(n in known and not known[n].contains(v) for n, v in given)

    def _decide(self, now: float, *, held: bool) -> Segment | Wait | Finish:
        fold = self._fold
        reused, exhausted = 0, False
        while True:
            action = self.ask_scheduler(exhausted=exhausted)
            if not isinstance(action, Close | Wait | Finish) and not self._fits(action, held=held):
                return self._finish_when_idle(self._no_room())
            match action:
                case Close(trial, why):
                    self._record(ended(fold, fold.trial(trial), {}, TrialState.PRUNED, reason=why, now=now))
                case Resume(trial, target):
                    self._record(ev.TrialResumed(at=now, trial=trial, target=target))
                    return self._segment(trial, held=held)
                case Fork():
                    return self._segment(self._fork(action, now), held=held)
                case Start() if exhausted:
                    return self._finish_when_idle(ev.ALL_TRIED)
                case Start() if fold.history.trials_left == 0:
                    total = fold.history.max_trials
                    begun = "its one trial has" if total == 1 else f"all {total} trials have"
                    return self._finish_when_idle(self._with_all_tried(f"{begun} been started"))
                case Start():
                    self._learn_conditions()
                    choice = self._proposer.choose(fold.history, fold.queue, reuse=reused < _MOST_REUSES)
                    if choice is None:
                        exhausted = True
                        continue
                    number = self._start(action, choice, now)
                    if choice.reuse is None:
                        return self._segment(number, held=held)
                    reused += 1
                case Finish(why):
                    return self._finish_when_idle(self._with_all_tried(why))
                case Wait(why):
                    if fold.history.count(TrialState.RUNNING):
                        return action
                    # Waiting for nothing would be for ever; the schedulers' conformance test forbids it.
                    return self._finish_when_idle(f"the scheduler waits although nothing runs: {why}")

    def _fits(self, action: Start | Resume | Fork, *, held: bool) -> bool:
        """Whether the limit on steps has room for the action's segment."""
        begin = action.step if isinstance(action, Fork) else 0
        if isinstance(action, Resume):
            begin = self._segment(action.trial, held=held).from_step
        return self._room(begin, action.target)

    def _room(self, begin: int, target: int | None) -> bool:
        """Whether the limit on steps has room from ``begin`` to ``target`` beside those that are running.

        A segment to an end that nobody knows is let through, and stopped by :meth:`Study.report`.
        """
        limit, history = self._fold.limits.steps, self._fold.history
        if limit is None:
            return True
        end = self._fold.settings.max_steps or 0
        goal = end if target is None else target
        running = history.in_state(TrialState.RUNNING)
        goals = np.where(history.targets[running] < 0, end, history.targets[running])
        trained = np.array([self._fold.trials[number].trained_to for number in running], dtype=np.int64)
        promised = int(np.maximum(goals - trained, 0).sum())
        return self._fold.steps_spent + promised + max(goal - begin, 0) <= limit

    def _no_room(self) -> str:
        return f"the limit of {self._fold.limits.steps} steps has no room for another segment"

    def _with_all_tried(self, reason: str) -> str:
        """The reason, and whether more trials would find nothing to try."""
        history = self._fold.history
        ends = history.trials_left == 0 and not history.count(TrialState.RUNNING)
        return f"{ev.ALL_TRIED}: {reason}" if ends and self._proposer.exhausted(history) else reason

    def _finish_when_idle(self, reason: str, state: str = "finished") -> Wait | Finish:
        history = self._fold.history
        if running := history.count(TrialState.RUNNING):
            return Wait(f"{reason}; {running} trials still run")
        if state == "finished" and not history.count(TrialState.COMPLETE):
            return Finish(ev.NO_RESULT + reason, "failed")
        return Finish(reason, state)

    def _learn_conditions(self) -> None:
        """Let the sampler see on what the parameters depend that the objective asked for."""
        changed = self._conditions.change()
        if changed is None:
            return
        space, found = changed
        try:
            self._strategy.check(space, self._fold.history.n_objectives, self._fold.settings.max_steps)
        except StrategyError:
            return  # a sampler that takes no conditions goes on without knowing them
        self._record(ev.SpaceChanged(at=self._fold.last_at, space=space.to_json(), found=found))

    def _start(self, action: Start, choice: Choice, now: float) -> int:
        """The number of a new trial; one with a reused result has ended."""
        number = self._fold.history.n_trials
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
            return number
        known = self._fold.trial(choice.reuse)
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
        return number

    def _fork(self, action: Fork, now: float) -> int:
        number = self._fold.history.n_trials
        self._record(
            ev.TrialAsked(
                at=now,
                trial=number,
                params=self._fold.history.space.decode(action.u),
                origin="fork",
                note=action.note,
                target=action.target,
                bracket=action.bracket,
                parent=action.source,
                start_step=action.step,
            )
        )
        return number

    def _segment(self, number: int, *, held: bool) -> Segment:
        trial = self._fold.trial(number)
        checkpoint: Checkpoint | None = None
        if trial.checkpoints:
            step = max(trial.checkpoints)
            checkpoint = Checkpoint(number, step, trial.checkpoints[step][0])
        elif trial.parent is not None:
            checkpoint = Checkpoint(trial.parent, trial.start_step, "")
            if origin := origin_of(self._fold.trials, trial):
                source, step = origin
                checkpoint = Checkpoint(source, step, self._fold.trial(source).checkpoints[step][0])
        begin = checkpoint.step if checkpoint is not None and checkpoint.uri else 0
        if held:
            # Not the last step that it reported: a lost attempt has kept nothing beyond its pause.
            begin = max(trial.checkpoint_step, int(self._fold.history.pauses[number]))
        return Segment(
            trial=number,
            attempt=trial.attempt + 1,
            params=dict(trial.params),
            seed=trial_seed(self._fold.created.seed, number),
            target=trial.target,
            from_step=begin,
            checkpoint=checkpoint,
            parent=trial.parent,
            rung=trial.segments,
        )
