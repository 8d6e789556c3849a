"""Which rows a model sees, when it is refitted, and the models that come of it.

| symbol | meaning | shape |
|---|---|---|
| `k` | rows of evidence known now | scalar |
| `s` | rows of evidence known at the last refit, a fixed schedule in k | scalar |
| `rows` | evidence rows the model sees: chosen among the first s, then all usable ones up to k | (r,) |

Hyperparameters are a function of the first `s` rows alone: every fit is cold, so that a
replay needs one refit and at most `GAP` appended rows, and comes to the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hpo_core._gp._fit import Priors, fit
from hpo_core._gp._outcomes import FLAT, Outcomes, WarpName, rescale, warp
from hpo_core._gp._posterior import Factor, Posterior, condition, factorise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._embed import Embedding, Points
    from hpo_core._gp._fit import Hyperparameters
    from hpo_core._gp._kernel import KernelName

Kinds = tuple[tuple["KernelName", "WarpName"], ...]

# Log prior odds against a warp. The pole of "log" is put at the best value seen, which is a choice made
# with the data in hand; among few results it wins too often without this, and searches too narrowly.
HANDICAP: dict[WarpName, float] = {"log": 3.0}
# Refits come at every row at first, then every tenth of what is known, then every GAP rows.
GAP = 25
# Rows beyond the cap are those of the best half, the newest quarter and a spread of the rest.
SHARE_BEST, SHARE_NEW = 0.5, 0.25


@lru_cache(maxsize=64)
def last_refit(k: int) -> int:
    """The largest refit length that is at most `k`, k >= 1."""
    s = 1
    while s + _gap(s) <= k:
        # Once the gap has stopped growing the rest is arithmetic.
        if s >= 10 * GAP:
            return s + (k - s) // GAP * GAP
        s += _gap(s)
    return s


def _gap(s: int) -> int:
    return max(1, min(s // 10, GAP))


def choose_rows(order: NDArray[np.float64], usable: NDArray[np.bool_], s: int, cap: int) -> NDArray[np.intp]:
    """Rows for a model: at most `cap` of the first `s`, then every usable later one, ascending.

    `order` (k,): smaller is better; `usable` (k,) bool.
    """
    early = np.flatnonzero(usable[:s])
    late = s + np.flatnonzero(usable[s:])
    if len(early) > cap:
        newest = early[len(early) - int(cap * SHARE_NEW) :]
        rest = early[: len(early) - len(newest)]
        ranked = rest[np.argsort(order[rest], kind="stable")]
        n_best = int(cap * SHARE_BEST)
        others = np.sort(ranked[n_best:])
        # The remaining rows evenly through time: a spread without random numbers.
        spread = others[np.linspace(0, len(others) - 1, cap - n_best - len(newest)).astype(int)]
        early = np.sort(np.concatenate([ranked[:n_best], spread, newest]))
    return np.concatenate([early, late])


@dataclass(frozen=True)
class Model:
    """One kernel and one outcome warp, fitted; `log_evidence` compares it with other models."""

    warp: WarpName
    hyper: Hyperparameters
    log_evidence: float
    factor: Factor

    def grown(self, points: Points) -> Model:
        """With every row of `points` beyond those already in the factor appended, one by one."""
        factor = self.factor
        for row in range(len(factor.points), len(points)):
            factor = factor.extend(points.take(slice(row, row + 1)), self.hyper.noise)
        return replace(self, factor=factor)

    def posterior(self, values: NDArray[np.float64], priors: Priors) -> Posterior:
        """The posterior for the minimised, unwarped `values` (r,) of the factor's rows."""
        return condition(self.factor, warp(values, self.warp).z, priors.weight)


def on_plateau(points: Points, values: NDArray[np.float64]) -> bool:
    """Whether different ones of `points` (r) have the least of the `values` (r,), r >= 1."""
    best = points.take(np.flatnonzero(rescale(values) < FLAT))
    return bool((best.numeric != best.numeric[0]).any() or (best.codes != best.codes[0]).any())


def fit_models(
    kinds: Kinds,
    embedding: Embedding,
    points: Points,
    values: NDArray[np.float64],
    priors: Priors,
) -> tuple[Model, ...]:
    """A model of `values` (r,) at `points` (r), r >= 1, for each kernel and warp that suits them."""
    # On a plateau every result is at the pole of "log": its evidence grows without bound while its length
    # scales shrink to the distances between them, and the search stays on the plateau (docs/gp.md).
    suited = [kind for kind in kinds if kind[1] != "log" or not on_plateau(points, values)]
    warped: dict[WarpName, Outcomes] = {name: warp(values, name) for _, name in suited}
    models: list[Model] = []
    for kernel, name in suited:
        outcome = warped[name]
        # Warps of the same values agree on most length scales: the first fit starts the others.
        start = models[0].hyper.theta if models else None
        hyper = fit(kernel, embedding, points, outcome.z, priors, start)
        evidence = hyper.log_posterior + outcome.log_slope - HANDICAP.get(name, 0.0)
        models.append(Model(name, hyper, evidence, factorise(hyper, points)))
    return tuple(models)
