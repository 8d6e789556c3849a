"""Rank correlation of parameters with the outcome, and among one another.

C. Spearman (1904): the correlation of ranks, mid-ranks for ties; 1 or -1 where one never falls, or never
rises, as the other grows. Each pair is judged on the results in which both are known, so that a conditional
parameter counts where it was active. A category has no order: each choice is a column of its own, 1 where it
was chosen. What a sampler avoided is missing, so among parameters a correlation may say where good results
were sought as much as where they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_core._domain import choice_text
from hpo_core._result import column_of
from hpo_core._space import NOMINAL
from hpo_core._study import Study
from hpo_core.importance import mid_ranks, outcomes

__all__ = ["Correlations", "correlations"]

Array = NDArray[np.float64]

_FEWEST, _MOST_ROWS = 8, 5000
_MOST_CHOICES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlations:
    """``names``: the objective first, then columns by the strength of their correlation with it.

    ``rho``: ``(n, n)``, NaN where fewer than eight results tell or one of the two never varies. ``trials``:
    ``(n, n)``, how many results each rests on.
    """

    names: tuple[str, ...]
    rho: Array
    trials: NDArray[np.int64]

    def strongest(self, most: int) -> Correlations:
        """The objective and at most ``most`` columns, without those of which nothing can be told."""
        other = ~np.eye(len(self.names), dtype=bool)
        told = np.flatnonzero(np.any(np.isfinite(self.rho) & other, axis=1))
        told = told[told > 0][:most]
        kept = np.concatenate([[0], told])
        at = np.ix_(kept, kept)
        return Correlations(
            names=tuple(self.names[i] for i in kept), rho=self.rho[at], trials=self.trials[at]
        )

    @property
    def chance(self) -> Array:
        """``(n, n)`` what independent columns exceed in one case of twenty; smaller ones mean nothing."""
        return np.asarray(1.96 / np.sqrt(np.maximum(self.trials - 1, 1)))


def correlations(study: Study, *, objective: str | None = None) -> Correlations:
    """Of all searched parameters and an objective, the first one by default; its larger values rank higher.

    Complete trials and observations count by value, pruned ones as in
    :func:`hpo_core.importance.outcomes`. Raises :class:`InputError` for an unknown objective.
    """
    column = column_of(study.history, objective)
    X, y = outcomes(study.history, column)
    if len(y) > _MOST_ROWS:
        rows = np.random.default_rng(0).choice(len(y), _MOST_ROWS, replace=False)
        X, y = X[rows], y[rows]
    names, columns, owners = [list(study.objectives)[column]], [y * study.history.signs[column]], [-1]
    for j, name in enumerate(study.space.column_names):
        for label, values in _columns(study, j, X[:, j]):
            names.append(f"{name}{label}")
            columns.append(values)
            owners.append(j)
    rho, trials = _matrix(np.stack(columns, axis=1), owners)
    order = np.argsort(-np.nan_to_num(np.abs(rho[0, 1:])), kind="stable") + 1
    order = np.concatenate([[0], order])
    return Correlations(
        names=tuple(names[i] for i in order),
        rho=rho[np.ix_(order, order)],
        trials=trials[np.ix_(order, order)],
    )


def _columns(study: Study, j: int, u: Array) -> list[tuple[str, Array]]:
    """What stands for a parameter: itself, or each of its choices with its name."""
    parameter = study.space.parameters[study.space.column_names[j]]
    if study.space.kinds[j] != NOMINAL:
        return [("", u)]
    choice = np.floor(u * parameter.cardinality)
    # Of two choices one says it all; of very many each was tried too rarely.
    shown = range(1, 2) if parameter.cardinality == 2 else range(min(parameter.cardinality, _MOST_CHOICES))
    inactive = np.isnan(u)
    return [
        (f" = {choice_text(parameter.value_at(i))}", np.where(inactive, np.nan, (choice == i).astype(float)))
        for i in shown
    ]


def _matrix(columns: Array, owners: list[int]) -> tuple[Array, NDArray[np.int64]]:
    n = columns.shape[1]
    rho, trials = np.full((n, n), math.nan), np.zeros((n, n), dtype=np.int64)
    for a in range(n):
        for b in range(a, n):
            both = ~np.isnan(columns[:, a]) & ~np.isnan(columns[:, b])
            trials[a, b] = trials[b, a] = both.sum()
            # Two choices of one category exclude each other, which says nothing.
            if a != b and owners[a] == owners[b]:
                continue
            if trials[a, b] >= _FEWEST:
                rho[a, b] = rho[b, a] = _spearman(columns[both, a], columns[both, b])
    return rho, trials


def _spearman(a: Array, b: Array) -> float:
    x, y = mid_ranks(a), mid_ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan
