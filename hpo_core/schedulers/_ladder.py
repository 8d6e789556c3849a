"""The rungs of an asynchronous study: who has reached which, who may go on. Shared by ASHA and the levels.

A trial belongs to a rung when it has paused there or further up, or has ended on the way to it (then it
counts, and is ranked last). One that has paused between two rungs, where there was one before, waits at the
lower of the two. Everything in here follows from the history as it stands, not from the order in which
it was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpo_core._history import History
from hpo_core._states import TrialState
from hpo_core.schedulers._common import idle
from hpo_core.schedulers._criterion import Score, Scores
from hpo_core.schedulers._ranking import Ranking, make_ranking

__all__ = ["Ladder", "Rung", "why_paused"]


class Rung:
    """The trials that have been compared at one step of one bracket."""

    def __init__(self, bracket: int, index: int, steps: Sequence[int], width: int) -> None:
        self.bracket = bracket
        self.index = index
        self.step = steps[index]
        self.above = steps[index + 1]
        self.next = self.above if index + 2 < len(steps) else None
        """Where a promoted trial runs to; ``None``: to its end."""
        self.ranking: Ranking = make_ranking(width)
        self.promoted: set[int] = set()
        self.members: dict[int, tuple[bool, bool]] = {}
        """By trial, what its score depends on: whether it got here, or only ended on the way, and whether it
        is complete.
        """


class Ladder:
    """All rungs of all brackets. ``brackets`` lists the steps of each, ascending, the last being the end."""

    def __init__(self, history: History, brackets: Sequence[Sequence[int]], scores: Scores) -> None:
        self._scores = scores
        self._seen = 0
        self.brackets = [
            [Rung(b, i, steps, scores.width) for i in range(len(steps) - 1)]
            for b, steps in enumerate(brackets)
        ]
        self.descending = sorted(
            (rung for rungs in self.brackets for rung in rungs), key=lambda r: (-r.step, r.bracket)
        )
        self.hopeless: set[int] = set()
        """Paused trials without a usable score: they can never be promoted."""
        self.catch_up(history)

    def catch_up(self, history: History) -> None:
        """Take in what has happened since."""
        moves = history.moves
        if len(moves) == self._seen:
            return
        for trial in dict.fromkeys(moves[self._seen :].tolist()):
            self._update(history, trial)
        self._seen = len(moves)

    def _update(self, history: History, trial: int) -> None:
        bracket = min(int(history.brackets[trial]), len(self.brackets) - 1)
        state = TrialState(int(history.states[trial]))
        target, paused = int(history.targets[trial]), int(history.pauses[trial])
        complete = state is TrialState.COMPLETE
        self.hopeless.discard(trial)
        for rung in self.brackets[bracket]:
            reached = paused >= rung.step
            heading = target < 0 or target >= rung.step
            ended = state.finished and (heading or (complete and history.steps[trial] >= rung.step))
            if not reached and not ended:
                if trial in rung.members:  # it failed here and was started once more
                    del rung.members[trial]
                    rung.ranking.drop(trial)
                continue
            # Nobody need have looked between a failure and the end that a trial came to when run again.
            if rung.members.get(trial) != (reached, complete):
                rung.members[trial] = reached, complete
                score = self._score(history, trial, rung.step, reached, complete)
                rung.ranking.put(trial, score, self._scores.broken(history, trial, rung.step))
            here = state is TrialState.PAUSED and rung.step <= paused < rung.above
            rung.ranking.offer(trial, here)
            if here and rung.ranking.rank(trial) is None:
                self.hopeless.add(trial)
            if reached and (target < 0 or target >= rung.above):
                rung.promoted.add(trial)

    def _score(self, history: History, trial: int, step: int, reached: bool, complete: bool) -> Score | None:
        if reached or (complete and history.steps[trial] >= step):  # or it went by when here was no rung
            score = self._scores.by_rule(history, trial, step)
            # Nothing was reported by then, as where the objective only returns its result.
            return self._scores.final(history, trial) if score is None and complete else score
        return self._scores.final(history, trial) if complete else None

    def due(self, quota: Callable[[Rung], int]) -> tuple[int, Rung] | None:
        """The promotion that is due, highest rung first.

        ``quota`` says how many of a rung's best may go on; its best candidate goes on if it is one of them.
        """
        for rung in self.descending:
            trial = rung.ranking.best()
            if trial is None:
                continue
            rank = rung.ranking.rank(trial)
            if rank is not None and rank < quota(rung):
                return trial, rung
        return None

    def best_paused(self) -> tuple[int, Rung] | None:
        """The best candidate of the highest rung that has one."""
        for rung in self.descending:
            trial = rung.ranking.best()
            if trial is not None:
                return trial, rung
        return None

    def nothing_of(self, history: History, trial: int) -> str:
        """Why a hopeless trial cannot go on."""
        return self._scores.nothing_by(history, trial, int(history.pauses[trial]))

    def rung_of(self, history: History, trial: int) -> Rung | None:
        """The rung that a paused trial waits at."""
        bracket = min(int(history.brackets[trial]), len(self.brackets) - 1)
        paused = int(history.pauses[trial])
        return next((r for r in self.brackets[bracket] if r.step <= paused < r.above), None)


def why_paused(ladder: Ladder, history: History, trial: int, rule: Callable[[Rung, int], str]) -> str:
    """Where a paused trial stands; ``rule`` says in words who goes on from a rung, given the trial's rank."""
    rung = ladder.rung_of(history, trial)
    if rung is None:
        step = int(history.pauses[trial])
        return f"it is paused at step {step}, which is no rung; it ends when the study does"
    rank = rung.ranking.rank(trial)
    step = int(history.pauses[trial])
    compared = "" if step == rung.step else f", compared at step {rung.step}"
    where = f"it is paused at step {step} (bracket {rung.bracket}, rung {rung.index}{compared})"
    if rank is None:
        return f"{where} without a finite result there, so it cannot go on"
    more = "" if history.trials_left != 0 or not idle(history) else "; no more trials will come"
    return f"{where}, ranked {rank + 1} of {len(rung.ranking)}; {rule(rung, rank)}{more}"
