"""When a running trial is looked at: not before the warm-up, and then once in every so many steps."""

from __future__ import annotations

from hpo_core._given import check_option
from hpo_core._history import History

__all__ = ["check_window", "is_due"]


def check_window(owner: str, warmup_steps: int, interval: int) -> None:
    """Raise :class:`StrategyError` for a window that means nothing."""
    check_option(owner, "warmup_steps", warmup_steps, 0)
    check_option(owner, "interval", interval, 1)


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
