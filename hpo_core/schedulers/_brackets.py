"""Synchronous brackets: a rung is decided when all of its trials have got there or ended.

Li et al. (2018), "Hyperband", algorithm 1. Rungs are synchronous within a bracket; where a bracket has
nothing to hand out, a free worker goes on with the next one (as Falkner et al. 2018, section 4.2, do
for BOHB), so workers wait only when the budget of configurations is spent. A trial that failed or was
lost inside a rung counts there and is ranked last. A bracket that the budget cuts short is decided in
proportion.

Who does not go on is held until a trial of the bracket is complete: where all that went on have failed
before their end, the best of those held follows them, or the bracket would have been for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo_core._history import History
from hpo_core._states import TrialState
from hpo_core._strategy import Action, Close, Plan, Resume, Start
from hpo_core.schedulers._common import settle, why_by_state
from hpo_core.schedulers._criterion import Scores
from hpo_core.schedulers._ranking import Ranking, make_ranking
from hpo_core.schedulers._rungs import Bracket

__all__ = ["Brackets", "plan_brackets"]


class _Begun:
    """A bracket that has been begun: its trials, and what is to be done with those that are paused."""

    def __init__(self, number: int, bracket: Bracket) -> None:
        self.number = number
        self.bracket = bracket
        self.trials: list[int] = []
        self.heading: dict[int, int] = {}
        """Trials on their way, by their target (-1: the end)."""
        self.members: list[list[int]] = [self.trials]
        """Who is compared at each rung, up to the one that is to be decided next."""
        self.todo: list[Action] | None = None
        """What is left to do at ``rung``; ``None`` before the rung is decided."""
        self.short = False

    @property
    def rung(self) -> int:
        """The rung that is to be decided next; the last one, when all are."""
        return len(self.members) - 1

    @property
    def decided(self) -> bool:
        """Whether that is so: nothing is compared at the last rung."""
        return len(self.members) == len(self.bracket.steps)

    def target_above(self, rung: int) -> int | None:
        """Where a trial that goes on from a rung runs to; ``None``: to its end."""
        above = rung + 1
        return self.bracket.steps[above] if above < len(self.bracket.steps) - 1 else None

    @property
    def full(self) -> bool:
        """Whether every configuration of the bracket has been started."""
        return len(self.trials) >= self.bracket.sizes[0]

    def on_the_way_to(self, step: int) -> int:
        """How many trials have still to get to a step."""
        return sum(n for target, n in self.heading.items() if 0 <= target <= step)

    def on_the_way(self) -> bool:
        """Whether any trial is on its way."""
        return any(self.heading.values())

    def again(self) -> None:
        """Decide from the bottom up once more."""
        self.members, self.todo = [self.trials], None


class Brackets:
    """All brackets of a study in the order in which they were begun; a trial's ``bracket`` is the number.

    ``pattern`` is repeated for as long as there is budget, ``rounds`` times at most.
    """

    def __init__(self, pattern: Sequence[Bracket], eta: int, scores: Scores, rounds: int | None) -> None:
        self._pattern = pattern
        self._eta = eta
        self._scores = scores
        self._most = None if rounds is None else rounds * len(pattern)
        self._seen = 0
        self._begun: list[_Begun] = []
        self._stirred: set[int] = set()
        """Brackets that may have something to do: their trials have moved since they had nothing."""
        self._heading: dict[int, int] = {}
        self._known: set[int] = set()

    # -- following the history -----------------------------------------------------------------

    def catch_up(self, history: History) -> None:
        """Take in what has happened since."""
        moves = history.moves
        if len(moves) == self._seen:
            return
        for trial in dict.fromkeys(moves[self._seen :].tolist()):
            self._update(history, trial)
        self._seen = len(moves)

    def _update(self, history: History, trial: int) -> None:
        begun = self._bracket_of(history, trial)
        state, target = int(history.states[trial]), int(history.targets[trial])
        if trial not in self._known:
            self._known.add(trial)
            begun.trials.append(trial)
        old = self._heading.pop(trial, None)
        if old is not None:
            begun.heading[old] -= 1
        if state in (TrialState.WAITING, TrialState.RUNNING):
            self._heading[trial] = target
            begun.heading[target] = begun.heading.get(target, 0) + 1
        step = begun.bracket.steps[begun.rung]
        closed = state >= TrialState.COMPLETE and target == int(history.pauses[trial])
        if not closed and (begun.decided or 0 <= target <= step):
            begun.todo = None  # a trial that the rung was decided without, or was closed, is back, or ended
            if begun.rung and 0 <= target < step:
                begun.again()
        self._stirred.add(begun.number)

    def _bracket_of(self, history: History, trial: int) -> _Begun:
        number = int(history.brackets[trial])
        while len(self._begun) <= number:
            fresh = len(self._begun)
            self._begun.append(_Begun(fresh, self._pattern[fresh % len(self._pattern)]))
        return self._begun[number]

    # -- deciding ------------------------------------------------------------------------------

    def next(self, history: History) -> Action:
        """What to do with a free worker: the oldest bracket that has something to do, else a new trial."""
        self.catch_up(history)
        if self._begun and not self._begun[-1].full:
            self._stirred.add(len(self._begun) - 1)  # what it does depends on the budget, too
        for number in sorted(self._stirred):
            action = self._action(history, self._begun[number])
            if action is not None:
                return action
            self._stirred.discard(number)
        if history.trials_left != 0:
            unfilled = self._begun and not self._begun[-1].full
            number = len(self._begun) - bool(unfilled)
            if self._most is None or number < self._most:
                steps = self._pattern[number % len(self._pattern)].steps
                return Start(target=steps[0] if len(steps) > 1 else None, bracket=number)
        return settle(history, "their rungs")

    def _action(self, history: History, begun: _Begun) -> Action | None:
        short = not begun.full and history.trials_left == 0
        if short != begun.short:
            begun.short = short
            begun.again()
        steps = begun.bracket.steps
        while True:
            if begun.todo is None:
                begun.todo = self._decide(history, begun)
            if begun.todo is None:
                return None
            while begun.todo:
                action = begun.todo[0]
                assert isinstance(action, Close | Resume)
                paused = history.states[action.trial] == TrialState.PAUSED
                if paused and (begun.decided or history.pauses[action.trial] == steps[begun.rung]):
                    return action
                begun.todo.pop(0)
            if begun.decided:
                return None
            top = set(self._ranked(history, begun, begun.rung).first(self._quota(begun, begun.rung)))
            below, members = steps[begun.rung], begun.members[-1]
            begun.members.append([t for t in members if _went_on(history, t, below, t in top)])
            begun.todo = None

    def _quota(self, begun: _Begun, rung: int) -> int:
        bracket = begun.bracket.cut(len(begun.trials), self._eta) if begun.short else begun.bracket
        return bracket.sizes[rung + 1]

    def _ranked(self, history: History, begun: _Begun, rung: int) -> Ranking:
        step = begun.bracket.steps[rung]
        ranking = self._new_ranking()
        for trial in begun.members[rung]:
            if int(history.pauses[trial]) >= step:
                score = self._scores.by_rule(history, trial, step)
            elif history.states[trial] == TrialState.COMPLETE:
                score = self._scores.final(history, trial)
            else:
                score = None
            ranking.put(trial, score, self._scores.broken(history, trial, step))
        return ranking

    def _new_ranking(self) -> Ranking:
        return make_ranking(self._scores.width)

    def _decide(self, history: History, begun: _Begun) -> list[Action] | None:
        """Promotions at the current rung, or the bracket's end; ``None`` while trials are on their way."""
        rung = begun.rung
        if begun.decided:
            return self._end(history, begun)
        step = begun.bracket.steps[rung]
        filling = rung == 0 and not begun.full and not begun.short
        if filling or begun.on_the_way_to(step):
            return None
        ranking, quota = self._ranked(history, begun, rung), self._quota(begun, rung)
        top, members = ranking.first(quota), begun.members[rung]
        room = quota - sum(_went_on(history, t, step, t in top) for t in members)
        chosen = [t for t in top if _paused_at(history, t, step)][: max(room, 0)]
        hopeless = [t for t in members if _paused_at(history, t, step) and ranking.rank(t) is None]
        return [
            *(Close(trial, self._scores.nothing_by(history, trial, step)) for trial in hopeless),
            *(Resume(trial, begun.target_above(rung)) for trial in chosen),
        ]

    def _end(self, history: History, begun: _Begun) -> list[Action] | None:
        """All rungs are decided: end who is held if a trial is complete, else let the best of them go on."""
        if begun.on_the_way():
            return None
        held = {t for t in begun.trials if history.states[t] == TrialState.PAUSED}
        if not held:
            return []
        done = np.flatnonzero(history.states[begun.trials] == TrialState.COMPLETE)
        complete = any(begun.trials[i] not in history.outside for i in done.tolist())
        closes: list[Action] = []
        for rung in reversed(range(begun.rung)):
            here = [t for t in begun.members[rung] if t in held]
            if not here:
                continue
            ranking, step = self._ranked(history, begun, rung), begun.bracket.steps[rung]
            held.difference_update(here)
            if complete:
                quota = self._quota(begun, rung)
                closes += [Close(t, self._left_behind(history, ranking, t, step, quota)) for t in here]
            elif best := [t for t in ranking.first(len(ranking)) if t in here]:
                return [Resume(best[0], begun.target_above(rung))]
        return closes

    def _left_behind(self, history: History, ranking: Ranking, trial: int, step: int, quota: int) -> str:
        rank = ranking.rank(trial)
        if rank is None:
            return self._scores.nothing_by(history, trial, step)
        return f"ranked {rank + 1} of {len(ranking)} at step {step}, where the best {quota} go on"

    # -- telling -------------------------------------------------------------------------------

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        if history.states[trial] != TrialState.PAUSED:
            return why_by_state(history, trial)
        self.catch_up(history)
        begun = self._bracket_of(history, trial)
        step = int(history.pauses[trial])
        where = f"it is paused at step {step} (bracket {begun.number})"
        missing = begun.on_the_way_to(step)
        if missing:
            return f"{where}; its rung is decided when {missing} more trials have got there"
        if step == begun.bracket.steps[0] and not begun.full and history.trials_left != 0:
            return f"{where}; its rung has {len(begun.trials)} of {begun.bracket.sizes[0]} trials"
        if begun.on_the_way():
            return f"{where}; it ends when one that went on is complete, and may follow them if all fail"
        return f"{where}; its rung is complete, and it goes on or ends when a worker next asks"


def _paused_at(history: History, trial: int, step: int) -> bool:
    return bool(history.states[trial] == TrialState.PAUSED and history.pauses[trial] == step)


def _went_on(history: History, trial: int, step: int, top: bool) -> bool:
    """Whether the trial was sent beyond a step; one that was complete before holds its place by rank."""
    target = int(history.targets[trial])
    if history.states[trial] == TrialState.COMPLETE and history.pauses[trial] < step:
        return top
    return target < 0 or target > step


def plan_brackets(pattern: Sequence[Bracket], eta: int, trials: int | None, rounds: int | None) -> Plan:
    """The brackets that so many trials fill; without a number, one round of them."""
    most = len(pattern) * (rounds or 1) if trials is None or rounds is not None else None
    rows: list[tuple[int, int, int, int]] = []
    lines: list[str] = []
    started = steps = number = 0
    while (trials is None or started < trials) and (most is None or number < most):
        whole = pattern[number % len(pattern)]
        bracket = whole if trials is None else whole.cut(trials - started, eta)
        rows += [(number, i, n, r) for i, (n, r) in enumerate(zip(bracket.sizes, bracket.steps, strict=True))]
        rungs = ", ".join(f"{n} to step {r}" for n, r in zip(bracket.sizes, bracket.steps, strict=True))
        cut = "" if bracket is whole else f" (cut short from {whole.sizes[0]} by the limit on trials)"
        lines.append(f"bracket {number}: {rungs}; {bracket.resumed_budget} steps{cut}")
        started += bracket.sizes[0]
        steps += bracket.resumed_budget
        number += 1
    if trials is None and rounds is None:
        lines.append("and again from the first bracket, until a limit is reached")
    return Plan(rungs=tuple(rows), total_trials=started, total_steps=steps, lines=tuple(lines))
