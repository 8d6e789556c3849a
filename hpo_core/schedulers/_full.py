"""No scheduler: every trial runs to its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpo_core._history import History
from hpo_core._strategy import CONTINUE, Action, Plan, Start, Verdict


@dataclass(frozen=True, kw_only=True)
class Full:
    """Start trials one after the other and let each run to its end."""

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Any number of objectives, any budget."""

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Start another."""
        return Start()

    def judge(self, history: History, trial: int) -> Verdict:
        """Never stop."""
        return CONTINUE

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """All trials, all steps."""
        total = trials * max_steps if trials is not None and max_steps is not None else None
        count = "trials until a limit is reached" if trials is None else f"{trials} trials"
        return Plan(
            rungs=((0, 0, trials, max_steps),) if trials and max_steps else (),
            total_trials=trials,
            total_steps=total,
            lines=(f"{count}, each run to its end" + (f" ({max_steps} steps)" if max_steps else ""),),
        )
