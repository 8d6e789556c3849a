"""What the search for the next configuration maximises, put together from posteriors.

| symbol | meaning | shape |
|---|---|---|
| `U` | configurations, unit cube | (n, d) |
| `best` | incumbent of each sampled future, warped and minimised | (S,) |
| `limit` | warped value that separates failure from success | scalar |

The score of one objective is an acquisition function; of several, the expected improvement
of a randomly weighted Chebyshev scalarisation (`_several`). A model of failures adds the logarithm of the
probability that the trial does not fail (Gardner et al. 2014, "Bayesian optimization with
inequality constraints", eq. 6, in logarithms).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpo_core._gp._acquire import Triple, log_pi

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._embed import Embedding
    from hpo_core._gp._posterior import Posterior, Prediction

# Weight of the log probability of no failure.
CAUTION = 4.0
Acquisition = Callable[["NDArray[np.float64]", "NDArray[np.float64]"], Triple]
# Value (n,) of several predictions, and for each of them derivative by mean (n, S) and by sd (n,).
Joint = Callable[
    ["list[NDArray[np.float64]]", "list[NDArray[np.float64]]"],
    "tuple[NDArray[np.float64], list[NDArray[np.float64]], list[NDArray[np.float64]]]",
]


@dataclass(frozen=True)
class Term:
    """One summand of the score: a joint function of the predictions of some posteriors."""

    posteriors: tuple[Posterior, ...]
    function: Joint


def single(posterior: Posterior, acquisition: Acquisition) -> Term:
    """The term of one posterior."""

    def function(
        means: list[NDArray[np.float64]], sds: list[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        value, by_mean, by_sd = acquisition(means[0], sds[0])
        return value, [by_mean], [by_sd]

    return Term((posterior,), function)


def kept(posterior: Posterior, limit: float) -> Term:
    """Log probability that a bounded metric, modelled by `posterior`, is noise-free below `limit`."""
    return single(posterior, lambda mean, sd: log_pi(mean, sd, np.array([limit])))


def no_failure(posterior: Posterior, limit: float) -> Term:
    """Log probability that the failure label, modelled by `posterior`, is below `limit`.

    Of the noise-free label: what a model of 0s and 1s calls noise is mostly the jump between them, and
    with it the middle of a failing region would keep a chance of a percent or more. The logarithm counts
    CAUTION times: once (as in the paper) is not enough where the model of the objective is certain of
    large gains beyond the border, and of none on this side.
    """
    threshold = np.array([limit])

    def acquisition(mean: NDArray[np.float64], sd: NDArray[np.float64]) -> Triple:
        value, by_mean, by_sd = log_pi(mean, sd, threshold)
        return CAUTION * value, CAUTION * by_mean, CAUTION * by_sd

    return single(posterior, acquisition)


class Score:
    """The sum of the terms at unit-cube points, with its gradient."""

    def __init__(self, embedding: Embedding, terms: list[Term]) -> None:
        self._embedding = embedding
        self._terms = terms
        self._columns = embedding.numeric_columns

    def values(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) scores of `unit` (n, d)."""
        query = self._embedding(unit)
        total = np.zeros(len(unit))
        for term in self._terms:
            predicted = [posterior.predict(query) for posterior in term.posteriors]
            total += term.function([m for m, _ in predicted], [s for _, s in predicted])[0]
        return total

    def slopes(self, unit: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) scores of `unit` (n, d) and their gradient (n, d); 0 for unordered and inactive columns."""
        query = self._embedding(unit)
        total, gradient = np.zeros(len(unit)), np.zeros_like(unit)
        for term in self._terms:
            predicted: list[Prediction] = [p.predict_with_pull(query) for p in term.posteriors]
            value, by_means, by_sds = term.function([p.mean for p in predicted], [p.sd for p in predicted])
            total += value
            for prediction, by_mean, by_sd in zip(predicted, by_means, by_sds, strict=True):
                slope = prediction.gradient(by_mean, by_sd)[:, : len(self._columns)]
                gradient[:, self._columns] += slope * self._embedding.gain
        gradient[np.isnan(unit)] = 0.0
        return total, gradient
