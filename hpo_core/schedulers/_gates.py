"""Rungs that running trials pass or are stopped at, in the order in which their reports arrived."""

from __future__ import annotations

from collections.abc import Sequence

from hpo_core._history import History
from hpo_core.schedulers._criterion import Scores, usable
from hpo_core.schedulers._ranking import Ranking, make_ranking

__all__ = ["Gates"]


class Gates:
    """Folds the log of reports; a verdict depends on the reports up to that one and on nothing else.

    ``stopped`` keeps the reason for each trial that failed to pass, so that a verdict which never reached its
    worker is given again at the next report.
    """

    def __init__(self, brackets: Sequence[Sequence[int]], eta: int, scores: Scores) -> None:
        self._steps = [tuple(steps[:-1]) for steps in brackets]
        self._eta = eta
        self._scores = scores
        self._rankings: list[list[Ranking]] = [[make_ranking(scores.width) for _ in s] for s in self._steps]
        self._passed: dict[int, int] = {}
        self._seen = 0
        self.stopped: dict[int, str] = {}

    def catch_up(self, history: History) -> None:
        """Take in the reports that have arrived since."""
        reports = history.reports
        for row in range(self._seen, len(reports)):
            self._report(history, row, int(reports.trials[row]), int(reports.steps[row]))
        self._seen = len(reports)

    def _report(self, history: History, row: int, trial: int, step: int) -> None:
        bracket = min(int(history.brackets[trial]), len(self._steps) - 1)
        steps = self._steps[bracket]
        rung = self._passed.get(trial, 0)
        if trial in self.stopped or rung >= len(steps) or step < steps[rung]:
            return
        reported = self._scores.of_row(history, row) is not None
        score = self._scores.by_rule(history, trial, step) if reported else None
        if score is None:
            return
        broken = self._scores.broken(history, trial, step)
        while rung < len(steps) and step >= steps[rung]:
            ranking = self._rankings[bracket][rung]
            ranking.put(trial, score, broken)
            rank = ranking.rank(trial)
            rung += 1
            if not usable(score) or rank is None:
                self.stopped[trial] = f"its result at step {step} is not finite"
                break
            allowed = max(len(ranking) // self._eta, 1)
            if rank >= allowed:
                self.stopped[trial] = (
                    f"ranked {rank + 1} of {len(ranking)} at the rung of step {steps[rung - 1]}, where the "
                    f"best {allowed} go on"
                )
                break
        self._passed[trial] = rung
