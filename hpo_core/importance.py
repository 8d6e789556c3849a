"""How much each parameter matters: shares of the variance of a forest's prediction (functional ANOVA).

Notation
--------
n, d    rows, columns of the unit cube
T, L    trees, leaves of one tree
B       (L, d, 2) the boxes of a tree's leaves, as probabilities: each edge is mapped through its
        column's distribution function, so that every column is uniform on [0, 1]
v       (L,) means of the leaves
a_j(x)  marginal of column j: the tree's prediction with all other columns averaged out
V, V_j  variance of the prediction, and of a_j

The share V_j / V is exact for each tree (Hutter, Hoos, Leyton-Brown 2014, section 3 and algorithm 2);
each tree is grown on a bootstrap sample, and the interval is that of the shares over the trees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_core._disasters import FAR, worst_to_show
from hpo_core._errors import InputError
from hpo_core._history import History
from hpo_core._is_study import check_study
from hpo_core._result import column_of, with_value
from hpo_core._space import NOMINAL, SearchSpace
from hpo_core._states import TrialState
from hpo_core._study import Study
from hpo_core.samplers._trees import Grown, Trees

__all__ = ["Importance", "importances", "outcomes"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

_FOREST = Trees(number=48, features=1.0, leaf=3, bootstrap=True)
# Rows that a forest is grown on; beyond a thousand the shares hardly move and the time does.
_MOST_ROWS = 1000
# Fewest rows that say anything about variance.
_FEWEST_ROWS = 8
_INTERVAL = (5.0, 95.0)
# What rounding leaves of the variance of a constant tree.
_NO_VARIANCE = 1e-300
# Up to this many values of a column are told apart one by one.
_MOST_LISTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """What one parameter explains of the variance, as fractions in [0, 1].

    ``share``: over the whole space. ``local``: near the optimum, where all outcomes worse than the best
    quantile count as equal. ``..._low`` and ``..._high``: the 5th and 95th percentile over the trees.
    ``trials``: how many trials this rests on, those in which the parameter was active; a conditional
    parameter's shares are shares of the variance among them.
    """

    name: str
    share: float
    low: float
    high: float
    local: float
    local_low: float
    local_high: float
    trials: int


def importances(
    study: Study, *, objective: str | None = None, quantile: float = 0.25, seed: int = 0
) -> list[Importance]:
    """Every parameter's importance for an objective (the first one by default), largest share first.

    Complete trials and observations count with their values. Where trials were pruned, everything counts
    by rank instead, a pruned one by its rank at the step it ended at (:func:`outcomes`), and shares are
    those of the variance of ranks. ``quantile``: the best fraction that ``local`` looks at. Empty when
    fewer than eight results are known or all are equal.

    Raises :class:`InputError` for what is no study, an unknown objective and a quantile outside (0, 1).
    """
    check_study(study, "importances reads")
    if not 0.0 < quantile < 1.0:
        raise InputError(f"quantile must lie between 0 and 1, got {quantile!r}")
    X, y = outcomes(study.history, column_of(study.history, objective))
    rng = np.random.default_rng(seed)
    found: dict[int, Importance] = {}
    active = ~np.isnan(X)
    # Columns that are active in the same trials share their forests.
    patterns, which = np.unique(active, axis=1, return_inverse=True)
    for pattern in range(patterns.shape[1]):
        rows, columns = patterns[:, pattern], np.flatnonzero(which.reshape(-1) == pattern)
        U, z = X[rows], y[rows]
        if len(z) < _FEWEST_ROWS or not np.ptp(z) > 0:
            continue
        whole = _shares(study.space, U, z, rng)
        near = _shares(study.space, U, np.minimum(z, np.quantile(z, quantile)), rng)
        for c in columns.tolist():
            (share, low, high), (local, local_low, local_high) = _summary(whole[:, c]), _summary(near[:, c])
            found[c] = Importance(
                name=study.space.column_names[c],
                share=share,
                low=low,
                high=high,
                local=local,
                local_low=local_low,
                local_high=local_high,
                trials=len(z),
            )
    return sorted(found.values(), key=lambda i: (-i.share, i.name))


def outcomes(history: History, objective: int = 0) -> tuple[Array, Array]:
    """``(n, d)`` canonical configurations and ``(n,)`` outcomes to minimise, failures left out.

    Without pruned trials the outcomes are the values, disasters cut off (:func:`worst_to_show`): one value
    of 1e9 would be all the variance. With pruned trials they are ranks in [0, 1]: complete trials
    by value; a pruned trial stands, among those that were at its last step too, where its value there
    stands, and those that went on further keep their order.
    """
    evidence = history.evidence
    y = evidence.values[:, objective]
    known = with_value(history, objective)
    if not by_rank(history):
        shown = np.minimum(y[known], worst_to_show(y[known]))
        return evidence.X[known], np.clip(shown, -FAR, FAR)
    pruned = np.flatnonzero(_pruned(history))
    by_trial = dict(zip(evidence.trials[known].tolist(), mid_ranks(y[known]).tolist(), strict=True))
    placed = _placed(history, objective, by_trial, evidence.trials[pruned])
    # An observation has no steps to be compared at: it stands by its value among the complete.
    score = np.full(len(y), np.nan)
    score[known] = mid_ranks(y[known])
    score[pruned] = [placed.get(t, np.nan) for t in evidence.trials[pruned].tolist()]
    rows = ~np.isnan(score)
    return evidence.X[rows], mid_ranks(score[rows]) / max(int(rows.sum()), 1)


def by_rank(history: History) -> bool:
    """Whether :func:`outcomes` are ranks: not where the space was edited and has no pruned trial any more."""
    return bool(_pruned(history).any())


def _pruned(history: History) -> NDArray[np.bool_]:
    evidence = history.evidence
    return np.asarray((evidence.states == TrialState.PRUNED) & (evidence.trials >= 0))


def _placed(history: History, objective: int, scores: dict[int, float], pruned: Ints) -> dict[int, float]:
    """Scores of pruned trials, those that came furthest first, on the scale of ``scores``."""
    reports = history.reports
    scores = dict(scores)
    placed: dict[int, float] = {}
    by_step = np.argsort(reports.steps, kind="stable")
    steps = reports.steps[by_step]
    given = np.flatnonzero(reports.given[:, objective])
    last_of = dict(zip(reports.trials[given].tolist(), reports.steps[given].tolist(), strict=True))
    last = np.array([last_of.get(trial, 0) for trial in pruned.tolist()])
    for step in np.unique(last)[::-1].tolist():
        rows = by_step[np.searchsorted(steps, step) : np.searchsorted(steps, step, side="right")]
        at = dict(zip(reports.trials[rows].tolist(), reports.values[rows, objective].tolist(), strict=True))
        group = [t for t in pruned[last == step].tolist() if np.isfinite(at.get(t, np.nan))]
        peers = [(v, scores[t]) for t, v in at.items() if t in scores and np.isfinite(v)]
        values = np.array([at[t] for t in group])
        new = _interpolated(np.array(sorted(peers)).reshape(-1, 2), values)
        placed |= dict(zip(group, new.tolist(), strict=True))
        scores |= placed
    return placed


def _interpolated(peers: Array, values: Array) -> Array:
    """Scores for ``values`` between ``peers`` ``(k, 2)``, sorted pairs of value and score.

    Beyond the worst peer a value gets a score worse than all, in the order of the values.
    """
    if not len(peers):
        return mid_ranks(values)
    scores = np.maximum.accumulate(peers[:, 1])
    inside = np.interp(values, peers[:, 0], scores)
    beyond = values > peers[-1, 0]
    order = mid_ranks(np.where(beyond, values, -np.inf)) - int((~beyond).sum()) + 1.0
    return np.where(beyond, scores[-1] + order, inside)


def mid_ranks(values: Array) -> Array:
    """(n,) ranks from 0, the mean rank for equals."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return np.asarray((first + (counts - 1) / 2.0)[inverse.reshape(-1)])


def _summary(shares: Array) -> tuple[float, float, float]:
    low, high = np.percentile(shares, _INTERVAL)
    return float(shares.mean()), float(low), float(high)


def _shares(space: SearchSpace, U: Array, z: Array, rng: np.random.Generator) -> Array:
    """(T, d) V_j / V of every tree of a forest on these rows."""
    if len(z) > _MOST_ROWS:
        # The best half of the sample is the best rows: near the optimum there are few.
        order = np.argsort(z, kind="stable")
        rest = rng.permutation(order[_MOST_ROWS // 4 :])[: _MOST_ROWS - _MOST_ROWS // 4]
        chosen = np.concatenate([order[: _MOST_ROWS // 4], rest])
        U, z = U[chosen], z[chosen]
    grown = _FOREST.fit(space, filled(space, U, rng), z, rng)
    return _tree_shares(grown, _FOREST.number)


def filled(space: SearchSpace, U: Array, rng: np.random.Generator) -> Array:
    """Rows ``U`` ``(n, d)`` with inactive values replaced by draws from the prior, on which outcomes then do
    not depend.

    Left as they are, they would tell a tree what the parent's value is and take its share; and with another
    value for the parent a row would be no configuration, which no tree has seen.
    """
    out = U.copy()
    for c in np.flatnonzero(np.isnan(U).any(axis=0)).tolist():
        missing = np.isnan(U[:, c])
        draws = rng.random(int(missing.sum()))
        out[missing, c] = space.parameters[space.column_names[c]].canonical(draws)
    return out


def _tree_shares(grown: Grown, trees: int) -> Array:
    """(T, d) V_j / V of each tree; zeros for a tree that is a single leaf. All trees at a time."""
    leaves, tree, B = _boxes(grown, trees)
    v = grown.total[leaves] / np.maximum(grown.count[leaves], 1.0)
    width = B[:, :, 1] - B[:, :, 0]
    volume = width.prod(axis=1)
    v = v - np.bincount(tree, volume * v, minlength=trees)[tree]
    variance = np.bincount(tree, volume * v * v, minlength=trees)
    shares = np.zeros((trees, B.shape[1]))
    for j in range(B.shape[1]):
        weight = v * np.delete(width, j, axis=1).prod(axis=1)
        # Each leaf adds its weight between its two edges. Tree t has its edges on [2 t, 2 t + 1]; its
        # weights sum to nothing beyond the last edge, so that one running sum serves all trees.
        edges, at = np.unique((B[:, j, :] + 2.0 * tree[:, None]).reshape(-1), return_inverse=True)
        jumps = np.stack([weight, -weight], axis=1).reshape(-1)
        marginal = np.cumsum(np.bincount(at.reshape(-1), jumps, minlength=len(edges)))[:-1]
        owner = np.floor(edges[:-1] / 2.0).astype(np.int64)
        shares[:, j] = np.bincount(owner, np.diff(edges) * marginal * marginal, minlength=trees)
    shares /= np.where(variance > _NO_VARIANCE, variance, np.inf)[:, None]
    return np.asarray(np.clip(shares, 0.0, 1.0))


def _boxes(grown: Grown, trees: int) -> tuple[Ints, Ints, Array]:
    """All leaves, the tree of each, and their boxes ``(leaves, d, 2)`` in probabilities."""
    nodes = owners = np.arange(trees)
    boxes = np.tile(np.array([0.0, 1.0]), (trees, grown.space.dims, 1))
    found: list[tuple[Ints, Ints, Array]] = []
    while len(nodes):
        leaf = grown.left[nodes] == nodes
        found.append((nodes[leaf], owners[leaf], boxes[leaf]))
        nodes, owners, boxes = nodes[~leaf], owners[~leaf], boxes[~leaf]
        column, every = grown.feature[nodes], np.arange(len(nodes))
        cut = _probability(grown.space, column, grown.threshold[nodes])
        cut = np.clip(cut, boxes[every, column, 0], boxes[every, column, 1])
        lower, upper = boxes, boxes.copy()
        lower[every, column, 1] = cut
        upper[every, column, 0] = cut
        nodes = np.concatenate([grown.left[nodes], grown.left[nodes] + 1])
        owners, boxes = np.concatenate([owners, owners]), np.concatenate([lower, upper])
    leaves, of, shape = zip(*found, strict=True)
    return np.concatenate(leaves), np.concatenate(of), np.concatenate(shape)


def _probability(space: SearchSpace, column: Ints, threshold: Array) -> Array:
    """The probability that a column lies at or below a threshold."""
    cells = space.cardinality[column].astype(float)
    nominal = space.kinds[column] == NOMINAL
    # Cell centres at or below the threshold; categories are numbered 0, 1, ...
    count = np.where(nominal, np.floor(threshold) + 1.0, np.floor(threshold * cells + 0.5))
    found = np.where(cells > 0, count / np.maximum(cells, 1.0), threshold)
    for c in np.unique(column[cells == 0]).tolist():
        parameter = space.parameters[space.column_names[c]]
        # Cells of unequal size, as whole numbers have on a log scale; very many of them do not show.
        if parameter.count is not None and parameter.count <= _MOST_LISTED:
            here = column == c
            edges = np.concatenate([[0.0], np.cumsum(parameter.masses())])
            found[here] = edges[np.searchsorted(parameter.units(), threshold[here], side="right")]
    return np.asarray(found)
