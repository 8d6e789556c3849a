"""ASHA, asynchronous successive halving, in its two variants: promotion and stopping.

Li et al. (2020), "A System for Massively Parallel Hyperparameter Tuning", algorithm 2. With several brackets,
section 3.3 (asynchronous Hyperband): bracket b leaves out the b lowest rungs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from hpo_core._errors import StrategyError
from hpo_core._given import check_option
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._states import TrialState
from hpo_core._strategy import CONTINUE, Action, Close, Plan, Resume, Start, Stop, TrainingSteps
from hpo_core._words import many
from hpo_core.schedulers._common import (
    end_step,
    lacks_result,
    needs_end,
    run_to_the_end,
    settle,
    why_by_state,
)
from hpo_core.schedulers._criterion import Criterion
from hpo_core.schedulers._expected import after_passing, after_promotions
from hpo_core.schedulers._gates import Gates
from hpo_core.schedulers._ladder import Ladder, Rung, why_paused
from hpo_core.schedulers._rungs import (
    check_rungs,
    furthest_behind,
    hyperband_brackets,
    next_bracket,
    rung_steps,
)
from hpo_core.schedulers._timing import SettingUp, worthwhile

__all__ = ["ASHA", "ASHAStopping"]


def _check(owner: str, eta: int, min_steps: int, max_steps: int | None, brackets: int) -> None:
    check_rungs(owner, eta, min_steps, max_steps)
    check_option(owner, "brackets", brackets, 1)


def _brackets(owner: str, end: int, eta: int, min_steps: int, brackets: int) -> list[tuple[int, ...]]:
    """The steps of each bracket, ascending."""
    steps = rung_steps(end, eta, min_steps)
    if brackets > len(steps):
        raise StrategyError(
            f"{owner}: from {min_steps} to {end} steps with eta={eta} there are {len(steps)} rungs {steps}, "
            f"so at most {len(steps)} brackets; got brackets={brackets}"
        )
    return [steps[b:] for b in range(brackets)]


def _weights(end: int, eta: int, min_steps: int, brackets: int) -> list[int]:
    """How many trials each bracket gets, in proportion: as in Hyperband, so that all cost about the same."""
    return [b.sizes[0] for b in hyperband_brackets(end, eta, min_steps)[:brackets]]


def _shares(trials: int, weights: Sequence[int]) -> list[int]:
    """``trials`` split by the rule that starts them: always the bracket furthest behind its share."""
    counts = [0] * len(weights)
    for _ in range(trials):
        counts[furthest_behind(counts, weights)] += 1
    return counts


def _plan(
    brackets: Sequence[Sequence[int]],
    counts: Sequence[int] | None,
    eta: int,
    verb: str,
    expected: Callable[[int, int], Sequence[int]],
) -> Plan:
    """``expected`` says how many of so many trials get to each of so many rungs."""
    rows: list[tuple[int, int, int, int]] = []
    lines: list[str] = []
    total = 0
    for b, steps in enumerate(brackets):
        if counts is None:
            lines.append(
                f"bracket {b}: compared at steps {', '.join(map(str, steps[:-1]))}; end at {steps[-1]}"
            )
            continue
        # ASHA takes one trial to the end in any case; a stopping rung lets its first arrival pass.
        least = int(b == 0 and bool(counts[b]))
        sizes = [max(n, least) for n in expected(counts[b], len(steps))]
        rows += [(b, i, n, step) for i, (n, step) in enumerate(zip(sizes, steps, strict=True)) if n]
        total += sum(n * (r - e) for n, r, e in zip(sizes, steps, (0, *steps), strict=False))
        first, *above = zip(sizes, steps, strict=True)
        lines.append(
            f"bracket {b}: {many(first[0], 'trial')} {verb} step {first[1]}"
            + "".join(f", about {many(n, 'trial')} {verb} step {r}" for n, r in above)
        )
    lines.append(
        f"the best 1 in {eta} of a rung go on; as others arrive that is not always the same one, so that "
        "more do in all"
    )
    return Plan(
        rungs=tuple(rows),
        total_trials=None if counts is None else sum(counts),
        total_steps=None if counts is None else total,
        exact=False,
        lines=tuple(lines),
    )


@dataclass
class _View:
    """``steps`` of each bracket as they are used now, and the rungs at them."""

    setting_up: SettingUp
    steps: list[tuple[int, ...]]
    ladder: Ladder


@dataclass(frozen=True, kw_only=True)
class ASHA:
    """Promotion: a trial pauses at its rung, and resumes from its checkpoint once it is in the best 1 / eta.

    ``eta``: reduction factor. ``min_steps``: the lowest rung. ``max_steps``: the step at which a trial
    is complete, by default the study's. ``brackets``: how many of Hyperband's brackets to run side by
    side. ``metric``, ``direction``: compare by this reported metric and not by the objectives.
    ``baseline``: the first trial goes on from rung to rung at once, so that there is a complete trial
    after one trial's length; by the paper's rule alone it comes after eta^rungs others. ``timed``:
    leave out rungs that cost hardly more time than the one below, see
    :mod:`hpo_core.schedulers._timing`.

    When a free worker asks, the highest rung with a promotable trial wins, else a new configuration
    starts; so no worker ever waits while configurations are left. At the end of the budget, if
    promotions have brought no trial to its end yet, the best paused trial is taken there, so that a
    small study has a result too.
    """

    training_steps: ClassVar[TrainingSteps] = "better"

    eta: int = 3
    min_steps: int = 1
    max_steps: int | None = None
    brackets: int = 1
    metric: str | None = None
    direction: str | None = None
    baseline: bool = False
    timed: bool = True
    _memo: Memo[_View] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("asha", self.eta, self.min_steps, self.max_steps, self.brackets)
        for option in ("baseline", "timed"):
            if not isinstance(value := getattr(self, option), bool):
                raise StrategyError(f"asha: {option} must be True or False, got {value!r}")
        Criterion(self.metric, self.direction).check("asha")

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Needs to know how long a complete trial is."""
        end = needs_end("asha", self.max_steps, max_steps)
        _brackets("asha", end, self.eta, self.min_steps, self.brackets)

    def _ladder(self, history: History) -> Ladder:
        view = self._memo.of(history, lambda: self._new_view(history))
        if (steps := self._steps(history, view.setting_up)) != view.steps:
            view.steps, view.ladder = steps, self._new_ladder(history, steps)
        view.ladder.catch_up(history)
        return view.ladder

    def _steps(self, history: History, setting_up: SettingUp) -> list[tuple[int, ...]]:
        end = end_step(self.max_steps, history)
        brackets = _brackets("asha", end, self.eta, self.min_steps, self.brackets)
        if not self.timed:
            return brackets
        setting_up.catch_up(history)
        return [worthwhile(steps, self.eta, setting_up.steps) for steps in brackets]

    def _new_view(self, history: History) -> _View:
        setting_up = SettingUp()
        steps = self._steps(history, setting_up)
        return _View(setting_up, steps, self._new_ladder(history, steps))

    def _new_ladder(self, history: History, steps: list[tuple[int, ...]]) -> Ladder:
        return Ladder(history, steps, Criterion(self.metric, self.direction).bind(history))

    def _allowed(self, compared: int) -> int:
        return 1 if self.baseline and compared == 1 else compared // self.eta

    def _quota(self, rung: Rung) -> int:
        return self._allowed(len(rung.ranking))

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """A promotion if one is due, else a new configuration (Li 2020, algorithm 2, get_job)."""
        ladder = self._ladder(history)
        if ladder.hopeless:
            trial = min(ladder.hopeless)
            return Close(trial, ladder.nothing_of(history, trial))
        due = ladder.due(self._quota)
        if due is not None:
            return Resume(due[0], due[1].next)
        if history.trials_left != 0:
            end = end_step(self.max_steps, history)
            bracket = next_bracket(history, _weights(end, self.eta, self.min_steps, self.brackets))
            rungs = ladder.brackets[bracket]
            return Start(target=rungs[0].step if rungs else None, bracket=bracket)
        best = ladder.best_paused()
        if best is not None and lacks_result(history):
            return Resume(best[0], best[1].next)
        return settle(history, "who goes on")

    def judge(self, history: History, trial: int) -> Stop | None:
        """Trials end at their targets."""
        return CONTINUE

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        if history.states[trial] != TrialState.PAUSED:
            return why_by_state(history, trial)
        return why_paused(self._ladder(history), history, trial, self._rule)

    def _rule(self, rung: Rung, rank: int) -> str:
        allowed = self._quota(rung)
        return f"the best {allowed} go on" + (": as soon as a worker is free" if rank < allowed else "")

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """Rungs and the counts to expect: more than halving leaves, as ranks change."""
        end = needs_end("asha", self.max_steps, max_steps)
        brackets = _brackets("asha", end, self.eta, self.min_steps, self.brackets)
        weights = _weights(end, self.eta, self.min_steps, self.brackets)
        counts = None if trials is None else _shares(trials, weights)
        plan = _plan(
            brackets, counts, self.eta, "to", lambda n, rungs: after_promotions(n, rungs, self._allowed)
        )
        if not self.timed:
            return plan
        timed = "rungs are left out where getting there proves to take hardly longer than to the one below"
        return replace(plan, lines=(*plan.lines, timed))


@dataclass(frozen=True, kw_only=True)
class ASHAStopping:
    """Stopping: a trial that is not in the best 1 / eta of a rung when it gets there is stopped for good.

    Options as of :class:`ASHA`. Needs no checkpoints. A trial's result at a rung is its first report at
    or after that step, and it is compared with those who have got there before; the first one always
    goes on.
    """

    training_steps: ClassVar[TrainingSteps] = "better"

    eta: int = 3
    min_steps: int = 1
    max_steps: int | None = None
    brackets: int = 1
    metric: str | None = None
    direction: str | None = None
    _memo: Memo[Gates] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("asha_stopping", self.eta, self.min_steps, self.max_steps, self.brackets)
        Criterion(self.metric, self.direction).check("asha_stopping")

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Needs to know how long a complete trial is."""
        end = needs_end("asha_stopping", self.max_steps, max_steps)
        _brackets("asha_stopping", end, self.eta, self.min_steps, self.brackets)

    def _gates(self, history: History) -> Gates:
        gates = self._memo.of(history, lambda: self._new_gates(history))
        gates.catch_up(history)
        return gates

    def _new_gates(self, history: History) -> Gates:
        end = end_step(self.max_steps, history)
        steps = _brackets("asha_stopping", end, self.eta, self.min_steps, self.brackets)
        return Gates(steps, self.eta, Criterion(self.metric, self.direction).bind(history))

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Another trial, to its end."""
        self._gates(history)
        action = run_to_the_end(history)
        if not isinstance(action, Start):
            return action
        end = end_step(self.max_steps, history)
        weights = _weights(end, self.eta, self.min_steps, self.brackets)
        return Start(bracket=next_bracket(history, weights))

    def judge(self, history: History, trial: int) -> Stop | None:
        """Stop a trial that was outside the best 1 / eta at a rung."""
        reason = self._gates(history).stopped.get(trial)
        return CONTINUE if reason is None else Stop(reason)

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        reason = self._gates(history).stopped.get(trial)
        stopped = history.states[trial] == TrialState.PRUNED and reason is not None
        return f"it was stopped: {reason}" if stopped else why_by_state(history, trial)

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """Rungs, and the counts to expect: early arrivals go on more often than one in eta."""
        end = needs_end("asha_stopping", self.max_steps, max_steps)
        brackets = _brackets("asha_stopping", end, self.eta, self.min_steps, self.brackets)
        weights = _weights(end, self.eta, self.min_steps, self.brackets)
        counts = None if trials is None else _shares(trials, weights)

        def expected(n: int, rungs: int) -> list[int]:
            return after_passing(n, rungs, lambda compared: max(compared // self.eta, 1))

        return _plan(brackets, counts, self.eta, "reach", expected)
