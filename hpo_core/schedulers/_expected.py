"""How many trials get to each rung of an asynchronous bracket, as far as that can be known beforehand.

One in eta of those that are compared at a rung is a rank, and who holds it changes as others arrive: of n
trials more than n / eta are among the best n / eta for a while, by about the square root of n, and each
has gone on by then. So trials are drawn at random here, whose order is the same at every rung, and the rules
are applied to them. Rounded means of a few draws, the same ones every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hpo_core.schedulers._ranking import Ranking, make_ranking

__all__ = ["after_passing", "after_promotions"]

# Draws for a small study; of a large one fewer say as much.
_MOST_DRAWS, _TRIALS = 32, 4000
# Of more trials the first so many are drawn; what exceeds one in eta is a small part of the rest.
_DRAWN = 10_000

Draw = Callable[[Sequence[float], int, Callable[[int], int]], list[int]]


def after_promotions(trials: int, rungs: int, quota: Callable[[int], int]) -> list[int]:
    """How many get to each of ``rungs`` where they pause; of n the best ``quota(n)`` may go on."""
    return _mean(_promoted, trials, rungs, quota)


def after_passing(trials: int, rungs: int, quota: Callable[[int], int]) -> list[int]:
    """The same where one of ``quota(n)`` among the n that have come by goes on at once, or never."""
    return _mean(_passed, trials, rungs, quota)


def _mean(draw: Draw, trials: int, rungs: int, quota: Callable[[int], int]) -> list[int]:
    if not trials:
        return [0] * rungs
    drawn = min(trials, _DRAWN)
    rng = np.random.default_rng(0)
    draws = [
        draw(rng.random(drawn).tolist(), rungs, quota)
        for _ in range(min(max(_TRIALS // drawn, 1), _MOST_DRAWS))
    ]
    return [round(float(n) * trials / drawn) for n in np.mean(draws, axis=0)]


def _promoted(scores: Sequence[float], rungs: int, quota: Callable[[int], int]) -> list[int]:
    here: list[Ranking] = [make_ranking(1) for _ in range(rungs)]
    for trial in range(len(scores)):
        rung: int | None = 0
        going = trial
        while rung is not None:
            here[rung].put(going, (scores[going],), 0.0)
            here[rung].offer(going, True)
            rung = None
            for above in range(rungs - 1, 0, -1):
                below = here[above - 1]
                best = below.best()
                rank = None if best is None else below.rank(best)
                if best is not None and rank is not None and rank < quota(len(below)):
                    below.offer(best, False)
                    rung, going = above, best
                    break
    return [len(ranking) for ranking in here]


def _passed(scores: Sequence[float], rungs: int, quota: Callable[[int], int]) -> list[int]:
    here: list[Ranking] = [make_ranking(1) for _ in range(rungs)]
    for trial, score in enumerate(scores):
        for ranking in here:
            ranking.put(trial, (score,), 0.0)
            rank = ranking.rank(trial)
            if rank is None or rank >= quota(len(ranking)):
                break
    return [len(ranking) for ranking in here]
