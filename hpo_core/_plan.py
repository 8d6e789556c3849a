"""What a scheduler is going to do, in numbers, before anything runs."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, replace

__all__ = ["Plan", "budgets_below"]

_ETA = 3


def budgets_below(end: int) -> tuple[int, ...]:
    """The budgets, ascending to ``end``, at which a trial that may be stopped is asked for a result, where
    each of them is trained with anew.
    """
    budgets = [end]
    while budgets[0] >= _ETA:
        budgets.insert(0, budgets[0] // _ETA)
    return tuple(budgets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a scheduler will do, in numbers, before anything runs.

    ``rungs`` has a row per bracket and rung: ``(bracket, rung, trials, step)``, where ``step`` is the
    step at which those trials are compared. ``total_steps`` is the sum over all trials when none
    fails, promotions going on from their checkpoints, or training from the first step with ``anew``; ``None``
    where nothing is known. ``exact`` is
    false where counts depend on results; ``most``, whether they are then the most that can come. ``lines`` is
    for people.
    """

    rungs: tuple[tuple[int, int, int, int], ...] = ()
    total_trials: int | None = None
    total_steps: int | None = None
    exact: bool = True
    most: bool = False
    anew: bool = False
    lines: tuple[str, ...] = ()

    def trained_anew(self) -> Plan:
        """The same of trials that train anew for each result, as with shares of the rows."""
        rungs = self.rungs
        if self.most:
            rungs = tuple((b, i, n, r) for b, _, n, end in rungs for i, r in enumerate(budgets_below(end)))
        total = sum(n * step for _, _, n, step in rungs) if self.total_steps is not None else None
        return replace(self, rungs=rungs, total_steps=total, anew=True)

    def seconds(self, workers: int, seconds_per_step: float, set_up: float = 0.0) -> float | None:
        """Wall time on ``workers`` workers when every step takes this long; ``None`` without rungs.

        ``set_up``: seconds before the first step of a trial, and again wherever it goes on from a checkpoint.

        The rungs are run as a list schedule: free workers take the oldest bracket's next trial, and a
        rung opens when the one below it is done. An asynchronous scheduler does not wait for that: its time
        is often less, and more where a promotion comes late.
        """
        if not self.rungs:
            return None
        return _list_schedule(self.rungs, workers, seconds_per_step, set_up, anew=self.anew)


def _list_schedule(
    rungs: tuple[tuple[int, int, int, int], ...],
    workers: int,
    seconds_per_step: float,
    set_up: float,
    *,
    anew: bool,
) -> float:
    """Seconds of wall time until the last rung is done."""
    brackets: dict[int, list[tuple[int, float]]] = {}
    below: dict[int, int] = {}
    for bracket, _, trials, step in sorted(rungs):
        begun = 0 if anew else below.get(bracket, 0)
        length = set_up + (step - begun) * seconds_per_step
        brackets.setdefault(bracket, []).append((trials, length))
        below[bracket] = step
    rung = dict.fromkeys(brackets, 0)
    left = {b: chain[0][0] for b, chain in brackets.items()}
    running: Counter[int] = Counter()
    events: list[tuple[float, int]] = []
    now, free = 0.0, workers
    while True:
        for b, chain in brackets.items():
            take = min(left.get(b, 0), free)
            for _ in range(take):
                heapq.heappush(events, (now + chain[rung[b]][1], b))
            if take:
                left[b] -= take
                running[b] += take
                free -= take
        if not events:
            return now
        now, b = heapq.heappop(events)
        free += 1
        running[b] -= 1
        if not running[b] and not left[b] and rung[b] + 1 < len(brackets[b]):
            rung[b] += 1
            left[b] = brackets[b][rung[b]][0]
