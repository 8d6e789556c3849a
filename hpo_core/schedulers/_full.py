"""No scheduler: every trial runs to its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpo_core._history import History
from hpo_core._strategy import CONTINUE, Action, Plan, Stop
from hpo_core.schedulers._common import plan_to_the_end, run_to_the_end, why_by_state

__all__ = ["Full"]


@dataclass(frozen=True, kw_only=True)
class Full:
    """Start trials one after the other and let each run to its end."""

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Any number of objectives, any budget."""

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Start another."""
        return run_to_the_end(history)

    def judge(self, history: History, trial: int) -> Stop | None:
        """Never stop."""
        return CONTINUE

    def why(self, history: History, trial: int) -> str:
        """Why a trial is where it is."""
        return why_by_state(history, trial)

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """All trials, all steps."""
        return plan_to_the_end(trials, max_steps)
