"""The fitted models of a study between two proposals: refitted on schedule, grown in between.

| symbol | meaning | shape |
|---|---|---|
| `k` | rows known now | scalar |
| `s` | rows known at the last refit | scalar |
| `rows` | rows that the models of the objectives see | (r,) |
| `failure_rows` | rows that the model of failures sees | (q,) |
| `bound_rows` | rows that the models of the outcome constraints see | (b,) |

Everything fitted is a function of the first `s` rows, everything grown a function of the first `k`, by the
same calls on the same shapes whether the memo was warm or empty. Where rows may change (trials
stopped early) nothing is kept, and models see fewer rows instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpo_core._gp._embed import Embedding, Points, make_embedding
from hpo_core._gp._fit import Priors
from hpo_core._gp._outcomes import warp, warped
from hpo_core._gp._score import Term, kept, no_failure
from hpo_core._gp._surrogate import Kinds, Model, choose_rows, fit_models, last_refit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._data import Data
    from hpo_core._history import History
    from hpo_core._memo import Memo
    from hpo_core._space import SearchSpace

# Rows that an objective's model needs at least: from one nothing follows.
FEWEST = 2
# Rows that models see at most where every proposal refits them.
CAP_MOVING = 120
# Labels of failure: like an outcome, but of known variance and likely noise, since the jump at the
# border of a failing region is not smooth (with little noise or short length scales the model
# interpolates the labels, and every gap between two failures looks safe).
FAILURE_PRIORS = Priors(scale_loc=4.4, noise_loc=-3.0, noise_width=1.5, weight=float("inf"))
FAILURE_KINDS: Kinds = (("matern", "fence"),)
# By how much a constraint is broken is an outcome like any other (Gardner et al. 2014, "Bayesian Optimization
# with Inequality Constraints", section 3); results far beyond the bound only say that they are.
BOUND_PRIORS = Priors()
BOUND_KINDS: Kinds = (("matern", "fence"),)


@dataclass(frozen=True)
class State:
    """Models of the objectives (m groups), of failure (None without failures) and of the c constraints.

    At `length` rows; none of the objectives as long as too few rows have a value.
    """

    length: int
    rows: NDArray[np.intp]
    embedding: Embedding
    points: Points
    models: tuple[tuple[Model, ...], ...]
    failure: Model | None
    failure_rows: NDArray[np.intp]
    bounds: tuple[Model, ...]
    bound_rows: NDArray[np.intp]

    def grown(self, data: Data) -> State:
        """With the rows of `data` that came since."""
        k = len(data.y)
        if self.length == k:
            return self
        late = np.arange(self.length, k)
        rows = np.concatenate([self.rows, late[data.measured[late]]])
        points = self.embedding(data.X[rows])
        models = tuple(tuple(m.grown(points) for m in group) for group in self.models)
        failure, failure_rows = self.failure, self.failure_rows
        if failure is not None:
            failure_rows = np.concatenate([failure_rows, late[(data.usable | data.failed)[late]]])
            failure = failure.grown(self.embedding(data.X[failure_rows]))
        bounds, bound_rows = self.bounds, self.bound_rows
        if bounds:
            bound_rows = np.concatenate([bound_rows, late[data.judged[late]]])
            where = self.embedding(data.X[bound_rows])
            bounds = tuple(model.grown(where) for model in bounds)
        return State(k, rows, self.embedding, points, models, failure, failure_rows, bounds, bound_rows)

    def failure_term(self, data: Data) -> Term | None:
        """Log probability of no failure; None if no or only failures are known to the model."""
        failed = data.failed[self.failure_rows]
        if self.failure is None or failed.all():
            return None
        labels = failed.astype(np.float64)
        z = warp(labels, self.failure.warp).z
        limit = 0.5 * float(z[failed].min() + z[~failed].max())
        return no_failure(self.failure.posterior(labels, FAILURE_PRIORS), limit)

    def bound_terms(self, data: Data) -> list[Term]:
        """Log probability that each constraint is kept, but for those whose metric never changes."""
        terms = []
        for model, excess in zip(self.bounds, data.excesses[self.bound_rows].T, strict=False):
            limit = warped(0.0, excess, model.warp)
            if limit is not None:
                terms.append(kept(model.posterior(excess, BOUND_PRIORS), limit))
        return terms


def refit(space: SearchSpace, data: Data, s: int, kinds: Kinds, priors: Priors, cap: int) -> State:
    """The state at the first `s` rows of `data`, from nothing."""
    embedding = make_embedding(space)
    rows = choose_rows(data.order, data.measured[:s], s, cap)
    points = embedding(data.X[rows])
    values = data.y[rows].T if data.usable[rows].sum() >= FEWEST else ()
    models = tuple(fit_models(kinds, embedding, points, y, priors) for y in values)
    failure, failure_rows = _of_failures(embedding, data, s, cap)
    bounds, bound_rows = _of_bounds(embedding, data, s, cap)
    return State(s, rows, embedding, points, models, failure, failure_rows, bounds, bound_rows)


def _of_failures(embedding: Embedding, data: Data, s: int, cap: int) -> tuple[Model | None, NDArray[np.intp]]:
    failed = data.failed[:s]
    if not failed.any():
        return None, np.empty(0, dtype=np.intp)
    # Failures count as the best here: of the successes, those near them say most about the border,
    # and the best successes are where proposals will be.
    order = np.where(failed, -np.inf, data.order[:s])
    rows = choose_rows(order, data.usable[:s] | failed, s, cap)
    labels = failed[rows].astype(np.float64)
    where = embedding(data.X[rows])
    return fit_models(FAILURE_KINDS, embedding, where, labels, FAILURE_PRIORS)[0], rows


def _of_bounds(
    embedding: Embedding, data: Data, s: int, cap: int
) -> tuple[tuple[Model, ...], NDArray[np.intp]]:
    judged = data.judged[:s]
    if judged.sum() < FEWEST:
        return (), np.empty(0, dtype=np.intp)
    # Near the border say most, as of failures.
    order = np.where(data.usable[:s], data.order[:s], -np.inf)
    rows = choose_rows(order, judged, s, cap)
    where = embedding(data.X[rows])
    columns = data.excesses[rows].T
    return tuple(fit_models(BOUND_KINDS, embedding, where, c, BOUND_PRIORS)[0] for c in columns), rows


def latest(memo: Memo[State], history: History, data: Data, kinds: Kinds, priors: Priors, cap: int) -> State:
    """The state for all of `data`, of which FEWEST rows are usable or judged; ``memo`` has the last one."""
    k = len(data.y)
    if data.step or data.usable.sum() < FEWEST:
        return refit(history.space, data, k, kinds, priors, min(cap, CAP_MOVING))
    first = int(np.flatnonzero(data.usable)[FEWEST - 1]) + 1
    s = max(last_refit(k), first)
    held = memo.of(history, lambda: refit(history.space, data, s, kinds, priors, cap), key=s)
    return memo.put(history, held.grown(data), key=s)
