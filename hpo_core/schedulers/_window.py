"""When a running trial is looked at: not before the warm-up, and then once in every so many steps.

A rule that is to save steps does not look at a trial that has taken all of its own: that has only a result
to lose.
"""

from __future__ import annotations

from hpo_core._given import check_option
from hpo_core._history import History

__all__ = ["all_done", "check_window", "is_due"]


def check_window(owner: str, warmup_steps: int, interval: int) -> None:
    """Raise :class:`StrategyError` for a window that means nothing."""
    check_option(owner, "warmup_steps", warmup_steps, 0)
    check_option(owner, "interval", interval, 1)


def all_done(history: History, trial: int) -> bool:
    """Whether the trial has taken all of its steps, as far as anybody knows how many these are."""
    return history.max_steps is not None and bool(history.steps[trial] >= history.max_steps)


def is_due(history: History, trial: int, warmup_steps: int, interval: int) -> bool:
    """Whether the trial's latest report is the first at or after a step ``warmup + k interval``, k >= 1.

    A trial that reports every 7 steps is looked at as often as one that reports every step.
    """
    rows = history.reports_of(trial)
    if not rows:
        return False
    steps = history.reports.steps
    latest = (int(steps[rows[-1]]) - warmup_steps) // interval
    before = (int(steps[rows[-2]]) - warmup_steps) // interval if len(rows) > 1 else 0
    return latest > max(before, 0)
