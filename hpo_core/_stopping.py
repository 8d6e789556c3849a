"""When to end a study early: what further trials can be expected to gain is too little.

Notation
--------
k       results known, failed ones included
L       results that the rule looks at: the largest length of a fixed schedule that is at most k
f       the objective without its noise, minimised, under a Gaussian process of the first L results
i       the incumbent: the observed configuration with the lowest posterior mean
g       expected gain, E[f(i) - min f], the minimum over the whole space

``g`` is what would be left to win if the optimum were found in the end, so it is no less than the
expected improvement of one more trial (Ishibashi et al. 2023, "A stopping criterion for Bayesian
optimization by the gap of expected minimum simple regrets"), and without the confidence factor that
makes the bound of Makarova et al. 2022 ("Automatic termination for hyperparameter optimization",
eq. 5) so cautious. Like them, ``"noise"`` ends a study once ``g`` is below the standard deviation
of one result's noise: then what is still to be won could not be told from luck.

The minimum is taken over joint samples at candidates: drawn everywhere, around the best results,
and the one that promises most. Trials that were pruned count with the value they had. The decision is a
function of the first L results, and so the same however often it is asked for, and on replay.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hpo_core._memo import Memo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._embed import Embedding
    from hpo_core._gp._posterior import Posterior
    from hpo_core._history import History
    from hpo_core._space import SearchSpace

__all__ = ["StopRule", "enough_results", "expected_gain", "last_look", "result_noise"]

# Results with a value before the first look, and more for each column of the space.
LEAST, LEAST_PER_COLUMN = 20, 2
# The next look comes when the results have grown by a tenth, which keeps its cost out of sight.
GAP = 5
CAP = 300
DRAWN, ANCHORS, CANDIDATES, FUTURES = 600, 10, 200, 128


class StopRule:
    """Whether a study has found what there is to find, by its limit on ``improvement``."""

    def __init__(self) -> None:
        self._memo: Memo[str] = Memo()

    def enough(self, history: History, improvement: float | str | None) -> str | None:
        """The reason to stop, or ``None``. ``improvement`` as in :class:`hpo_core.Limits`."""
        if improvement is None or improvement == "never" or not history.space.dims:
            return None
        look = last_look(len(history.evidence))
        found = self._memo.of(history, lambda: _reason(history, look, improvement) or "", (look, improvement))
        return found or None


def last_look(k: int) -> int:
    """The largest length of the schedule that is at most ``k``; 0 before the first."""
    if k < LEAST:
        return 0
    look = LEAST
    while (following := look + max(GAP, look // 10)) <= k:
        look = following
    return look


def _reason(history: History, look: int, improvement: float | str) -> str | None:
    values = history.evidence.values[:look, 0]
    usable = np.flatnonzero(np.isfinite(values))
    n = len(usable)
    if not enough_results(n, history.space):
        return None
    X, y = history.evidence.X[usable], values[usable]
    if not y.max() > y.min():
        return f"all of {n} results are {history.signs[0] * y[0]:.6g}: the objective is constant"
    rng = np.random.default_rng([history.seed, look, 3])
    gain, noise = expected_gain(history.space, X, y, rng)
    limit = noise if improvement == "noise" else float(improvement)
    # Not a number where values span more than a double can hold: then nothing is known.
    if not (math.isfinite(gain) and gain <= limit):
        return None
    what = f"the noise of a result, {noise:.3g}" if improvement == "noise" else f"{limit:g}"
    return f"after {look} results, all further trials are expected to gain {gain:.3g}, less than {what}"


def enough_results(n: int, space: SearchSpace) -> bool:
    """Whether so many results with a value allow a word on gain and noise."""
    return n >= LEAST + LEAST_PER_COLUMN * space.dims


def expected_gain(
    space: SearchSpace, X: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float]:
    """``g`` and the noise's standard deviation, both in the units of the values ``y`` ``(n,)``.

    ``X`` ``(n, d)`` canonical; ``y`` minimised, finite and not all equal, n >= 2.
    """
    from hpo_core._gp._climb import layout, pool
    from hpo_core._gp._threads import one_thread

    with one_thread(), np.errstate(under="ignore"):
        seen = _modelled(space, X, y)
        X, embedding, posterior = seen.X, seen.embedding, seen.posterior
        fitted = posterior.predict(embedding(X))[0][:, 0]
        best = np.argsort(fitted, kind="stable")[:ANCHORS]
        drawn = pool(space, layout(space), X[best], rng, (DRAWN, DRAWN))
        if space.constraints:
            drawn = drawn[space.allowed(drawn)]
        candidates = np.concatenate([X[best], drawn])
        mean, sd = posterior.predict(embedding(candidates))
        promising = ANCHORS + np.argsort((mean[:, 0] - 2.0 * sd)[ANCHORS:], kind="stable")
        kept = embedding(candidates[np.concatenate([np.arange(len(best)), promising[:CANDIDATES]])])
        futures = posterior.sample(kept, rng, FUTURES)
    gain = float(np.mean(futures[0] - futures.min(axis=0)))
    return gain * seen.unit, seen.noise


def result_noise(space: SearchSpace, X: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The standard deviation of one result's noise, in the units of ``y``, as the same model estimates it."""
    from hpo_core._gp._threads import one_thread

    with one_thread(), np.errstate(under="ignore"):
        return _modelled(space, X, y).noise


class _Modelled(NamedTuple):
    """Rows ``X`` ``(r, d)`` as the model sees them, and what it makes of them.

    ``unit``: a unit of the posterior in those of the values; ``noise``: the standard deviation of a result's
    noise, in those of the values.
    """

    X: NDArray[np.float64]
    embedding: Embedding
    posterior: Posterior
    unit: float
    noise: float


def _modelled(space: SearchSpace, X: NDArray[np.float64], y: NDArray[np.float64]) -> _Modelled:
    from hpo_core._gp._embed import make_embedding
    from hpo_core._gp._fit import Priors
    from hpo_core._gp._outcomes import warp
    from hpo_core._gp._surrogate import choose_rows, fit_models

    rows = choose_rows(y, np.ones(len(y), dtype=bool), len(y), CAP)
    X, y = X[rows], y[rows]
    # Linear where it matters, near the best, so that a gain can be given in the user's units.
    outcomes, embedding, priors = warp(y, "fence"), make_embedding(space), Priors()
    model = fit_models((("matern", "fence"),), embedding, embedding(X), y, priors)[0]
    posterior = model.posterior(y, priors)
    noise = float(np.sqrt(model.hyper.noise * posterior.scale)) * float(outcomes.unit)
    return _Modelled(X, embedding, posterior, outcomes.unit, noise)
