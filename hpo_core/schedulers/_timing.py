"""What it costs to begin a trial, measured, and which rungs are worth stopping at then.

Notation
--------
r_0 < ... < r_n   steps of a ladder, the last one the end of a complete trial
eta               reduction factor
s, a              step of a trial's first report, seconds that it took to get there
c                 seconds of one further step of that trial
o                 steps that setting up is worth: the median over trials of a / c - s, never below 0

Successive halving spends the same at every rung because each has 1 / eta of the trials and eta times the
steps (Li et al. 2018, section 3). Where the first step is dear, since a table is binned or a process
started in it, rungs at the lowest steps cost nearly the same as each other and show nearly the same: a
ladder that has them all wants eta^n trials below the first complete one, which in time may be as many
complete ones. The time to step r is proportional to o + r; so a rung is left out where o + r is nearer to
that of the rung below than to eta times that, as ratios: (o + r_i)^2 < eta (o + r_j)^2.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from hpo_core._history import History

__all__ = ["SettingUp", "worthwhile"]

# So many trials are measured, the first ones; then the rungs stay as they are.
_MEASURED = 64


@dataclass
class SettingUp:
    """Steps that setting up a trial is worth: a fold over the reports.

    ``steps``: ``None`` until a trial has reported twice in one segment. Times are those of the events, so a
    study that is not told the time never measures anything.
    """

    steps: float | None = None
    _rows: int = 0
    _begun: dict[int, tuple[float, int]] = field(default_factory=dict)
    """By trial: ``(a, s)``."""
    _went_on: dict[int, tuple[float, int]] = field(default_factory=dict)
    """By trial: seconds and number of its further steps."""

    def catch_up(self, history: History) -> None:
        """Take in the reports that have arrived since."""
        reports = history.reports
        before, self._rows = self._rows, len(reports)
        changed = False
        for row in range(before, len(reports)):
            changed |= self._take(history, row)
        if changed:
            known = [
                max(a * steps / spent - s, 0.0)
                for trial, (spent, steps) in self._went_on.items()
                for a, s in [self._begun[trial]]
                if spent > 0
            ]
            self.steps = statistics.median(known) if known else None

    def _take(self, history: History, row: int) -> bool:
        reports = history.reports
        trial, step, seconds = int(reports.trials[row]), int(reports.steps[row]), float(reports.seconds[row])
        if math.isnan(seconds):
            return False
        rows = history.reports_of(trial)
        if row == rows[0]:
            if not history.starts[trial]:
                self._begun[trial] = (seconds, step)
            return False
        full = trial not in self._went_on and len(self._went_on) >= _MEASURED
        if full or reports.first[row] or trial not in self._begun:
            return False
        spent, steps = self._went_on.get(trial, (0.0, 0))
        last = int(reports.steps[rows[rows.index(row) - 1]])
        self._went_on[trial] = (spent + seconds, steps + step - last)
        return True


def worthwhile(steps: Sequence[int], eta: int, setting_up: float | None) -> tuple[int, ...]:
    """The rungs of a ladder that cost enough more than the one below; the lowest and the end always stay.

    ``setting_up``: o in the module's notation; ``None``, not measured, leaves all of them.
    """
    if setting_up is None or len(steps) < 3:
        return tuple(steps)

    def near(low: int, high: int) -> bool:
        return (setting_up + high) ** 2 < eta * (setting_up + low) ** 2

    kept = [steps[0]]
    for step in steps[1:-1]:
        if not near(kept[-1], step):
            kept.append(step)
    if len(kept) > 1 and near(kept[-1], steps[-1]):
        kept.pop()
    return (*kept, steps[-1])
