"""Whether trials report what their scheduler compares them by."""

from __future__ import annotations

from hpo_core._history import History
from hpo_core._strategy import Strategy


def unheard(strategy: Strategy, history: History, trial: int) -> str:
    """What is wrong with the reports of a trial that its scheduler can make nothing of; empty where it can.

    A scheduler that compares by reports says by which, as ``metric``: by ``None`` it means the objectives, of
    which a report needs all. A trial without reports is no mistake: it need not be stopped early.
    """
    rows = history.reports_of(trial)
    if not rows or not hasattr(strategy.scheduler, "metric"):
        return ""
    metric = strategy.scheduler.metric
    names = history.objectives if metric is None else (metric,)
    given = ({n for n in names if history.reports.value(row, n) is not None} for row in rows)
    found: set[str] = set()
    for some in given:
        if len(some) == len(names):
            return ""
        found |= some
    lacking = [name for name in names if name not in found]
    what = (
        f"never reported {' and '.join(lacking)}"
        if lacking
        else f"never reported {' and '.join(names)} at once"
    )
    others = sorted(set(history.reports.last(trial)) - set(names))
    instead = f" (but {', '.join(others)})" if others else ""
    call = ", ".join(f"{name}=..." for name in names)
    return (
        f"{what}{instead}, by which {strategy.name} compares trials, so it can make nothing of its reports; "
        f"call trial.report(step, {call})"
    )
