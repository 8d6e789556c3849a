"""Who is best among the members of a rung, kept in order while members arrive.

One number: ascending, earlier trials first among equals. Several: by non-dominated rank (Deb 2002), and
within a front by greedy hypervolume contribution. Behind these come members that break an outcome constraint
where they are, by how much (the same, VI). Members without a usable score count, and come last.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hpo_core._pareto import order_by_quality
from hpo_core.schedulers._criterion import Score, usable

__all__ = ["Ranking", "in_order", "make_ranking"]


def in_order(scores: Sequence[Score], broken: Sequence[float]) -> list[int]:
    """The places of usable ``scores``, best first; those that are ``broken`` at all last, the least first."""
    kept = [i for i, amount in enumerate(broken) if not amount]
    order = order_by_quality(np.array([scores[i] for i in kept], dtype=float)).tolist() if kept else []
    rest = sorted((amount, scores[i], i) for i, amount in enumerate(broken) if amount)
    return [*(kept[i] for i in order), *(i for *_, i in rest)]


class Ranking(Protocol):
    """Members with scores, some of which are candidates for promotion."""

    def __len__(self) -> int:
        """How many members, those without a usable score included."""
        ...

    def put(self, trial: int, score: Score | None, broken: float) -> None:
        """Add a member, or replace its score; ``broken`` as of :meth:`Scores.broken`."""
        ...

    def drop(self, trial: int) -> None:
        """Take a member out again."""
        ...

    def rank(self, trial: int) -> int | None:
        """0 for the best; ``None`` for no member, and for one without a usable score."""
        ...

    def offer(self, trial: int, candidate: bool) -> None:
        """Say whether a member may be promoted now."""
        ...

    def best(self) -> int | None:
        """The best candidate."""
        ...

    def first(self, count: int) -> list[int]:
        """The ``count`` best members."""
        ...


def make_ranking(width: int) -> Ranking:
    """A ranking for scores of this many numbers."""
    return _ByValue() if width == 1 else _ByDomination()


class _ByValue:
    """A sorted list; a member arrives in O(log n) comparisons and one move of memory."""

    def __init__(self) -> None:
        # What a member is placed by: how far it breaks constraints, then its score.
        self._score: dict[int, tuple[float, float] | None] = {}
        self._order: list[tuple[float, float, int]] = []
        self._candidates: set[int] = set()
        self._heap: list[tuple[float, float, int]] = []

    def __len__(self) -> int:
        return len(self._score)

    def put(self, trial: int, score: Score | None, broken: float) -> None:
        value = (broken, score[0]) if score is not None and usable(score) else None
        old = self._score.get(trial)
        if old is not None:
            if old == value:
                return
            del self._order[bisect_left(self._order, (*old, trial))]
        self._score[trial] = value
        if value is not None:
            insort(self._order, (*value, trial))
        if trial in self._candidates:
            self._candidates.discard(trial)
            self.offer(trial, True)

    def drop(self, trial: int) -> None:
        self.put(trial, None, 0.0)
        self._candidates.discard(trial)
        del self._score[trial]

    def rank(self, trial: int) -> int | None:
        value = self._score.get(trial)
        return None if value is None else bisect_left(self._order, (*value, trial))

    def offer(self, trial: int, candidate: bool) -> None:
        value = self._score.get(trial)
        if not candidate or value is None:
            self._candidates.discard(trial)
        elif trial not in self._candidates:
            self._candidates.add(trial)
            heapq.heappush(self._heap, (*value, trial))

    def best(self) -> int | None:
        while self._heap:
            *value, trial = self._heap[0]
            if trial in self._candidates and self._score[trial] == tuple(value):
                return trial
            heapq.heappop(self._heap)
        return None

    def first(self, count: int) -> list[int]:
        return [trial for *_, trial in self._order[:count]]


class _ByDomination:
    """Ordered again when members have changed since it was last asked."""

    def __init__(self) -> None:
        self._score: dict[int, tuple[Score, float] | None] = {}
        self._candidates: set[int] = set()
        self._order: list[int] | None = None
        self._rank: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._score)

    def put(self, trial: int, score: Score | None, broken: float) -> None:
        found = (score, broken) if score is not None and usable(score) else None
        if trial not in self._score or self._score[trial] != found:
            self._score[trial] = found
            self._order = None
        if found is None:
            self._candidates.discard(trial)

    def drop(self, trial: int) -> None:
        self._candidates.discard(trial)
        del self._score[trial]
        self._order = None

    def _ordered(self) -> list[int]:
        if self._order is None:
            # By trial number, so that the order does not depend on who arrived first.
            known = [(t, *found) for t, found in sorted(self._score.items()) if found is not None]
            order = in_order([score for _, score, _ in known], [broken for *_, broken in known])
            self._order = [known[i][0] for i in order]
            self._rank = {trial: i for i, trial in enumerate(self._order)}
        return self._order

    def rank(self, trial: int) -> int | None:
        self._ordered()
        return self._rank.get(trial)

    def offer(self, trial: int, candidate: bool) -> None:
        if candidate and self._score.get(trial) is not None:
            self._candidates.add(trial)
        else:
            self._candidates.discard(trial)

    def best(self) -> int | None:
        if not self._candidates:
            return None
        order = self._ordered()
        return next(trial for trial in order if trial in self._candidates)

    def first(self, count: int) -> list[int]:
        return self._ordered()[:count]
