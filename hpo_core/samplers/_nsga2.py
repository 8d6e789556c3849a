"""NSGA-II: evolution of a population towards the Pareto front (Deb 2002).

Notation
--------
P       population size
X       (P, d) parents, unit cube
eta     distribution index of crossover and mutation: the larger, the closer children stay

Generation g's parents are the best P of those of generation g - 1 and the next P results in the
order in which they finished; so parents are a function of the evidence, and a child of the parents
and its own trial's random numbers. Results that arrive late simply count in a later generation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hpo_core._given import check_option, check_real
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._outcome_constraints import behind_the_kept
from hpo_core._pareto import crowding_distance, nondominated_rank
from hpo_core._space import NOMINAL, SearchSpace
from hpo_core._strategy import Proposal
from hpo_core.samplers._random import draw_new

__all__ = ["NSGA2"]

Array = NDArray[np.float64]

_CHILDREN = 16
# Configurations that break a constraint fill up to one in so many parents.
_BROKEN = 4


@dataclass(frozen=True)
class _Parents:
    """Configurations, their objectives, by how much they break constraints; what the tournament compares."""

    X: Array
    values: Array
    excesses: Array
    ranks: Array
    crowding: Array


@dataclass
class _Evolution:
    """The parents after ``rows`` rows of evidence."""

    parents: _Parents
    rows: int = 0
    generation: int = 0


@dataclass(frozen=True, kw_only=True)
class NSGA2:
    """Elitist evolution for one or several objectives; any parameters, conditions and constraints.

    ``population``: size of a generation. ``crossover``: probability that a child has two parents;
    ``swap``: probability that a column is crossed at all. ``eta_crossover``, ``eta_mutation``:
    distribution indices of simulated binary crossover (Deb and Agrawal 1995) and polynomial
    mutation. Each column mutates with probability 1 / d. Unordered choices are inherited from
    either parent and mutate to any other choice.

    The defaults suit hundreds of trials, not the tens of thousands of the evolutionary literature:
    over ZDT1, 2, 3 and 6 in 5 and 10 dimensions and DTLZ2, mean hypervolume after 200 trials was
    2.92 for random search, 3.23 with Deb's population of 50 and indices 15 and 20, 3.50 with a
    population of 16, and 3.85 with these.
    """

    population: int = 16
    crossover: float = 0.9
    swap: float = 0.9
    eta_crossover: float = 15.0
    eta_mutation: float = 5.0
    _memo: Memo[_Evolution] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_option("nsga2", "population", self.population, 2)
        for name in ("crossover", "swap"):
            check_real("nsga2", name, getattr(self, name), lambda x: 0.0 <= x <= 1.0, "in [0, 1]")
        for name in ("eta_crossover", "eta_mutation"):
            check_real("nsga2", name, getattr(self, name), lambda x: x > 0.0, "positive")

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space and any number of objectives will do."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """A child of two parents, or a draw from the prior while the first generation fills."""
        evolution = self._evolved(history)
        parents = evolution.parents
        if not len(parents.X):
            return Proposal(u=draw_new(history, rng), note="first generation: prior")
        space = history.space
        for _ in range(_CHILDREN):
            child = space.snap(self._child(space, parents, rng)[None, :])
            if space.allowed(child)[0] and history.is_new(child[0]):
                return Proposal(u=child[0], note=f"child of generation {evolution.generation}")
        return Proposal(u=draw_new(history, rng), note="no new child was allowed: prior")

    def _evolved(self, history: History) -> _Evolution:
        evidence, none = history.evidence, slice(0, 0)
        nobody = _select(evidence.X[none], evidence.values[none], evidence.excesses[none], 0)
        evolution = self._memo.of(history, lambda: _Evolution(nobody))
        while evolution.rows + self.population <= len(evidence):
            rows = slice(evolution.rows, evolution.rows + self.population)
            parents = evolution.parents
            X = np.concatenate([parents.X, evidence.X[rows]])
            values = np.concatenate([parents.values, evidence.values[rows]])
            excesses = np.concatenate([parents.excesses, evidence.excesses[rows]])
            evolution.parents = _select(X, values, excesses, self.population)
            evolution.rows = rows.stop
            evolution.generation += 1
        return evolution

    def _child(self, space: SearchSpace, parents: _Parents, rng: np.random.Generator) -> Array:
        a = parents.X[_tournament(parents, rng)]
        b = parents.X[_tournament(parents, rng)] if rng.random() < self.crossover else a
        # A column that only one parent has is inherited; what neither has is new where it becomes
        # active.
        new = rng.random(space.dims)
        first = np.where(np.isnan(a), np.where(np.isnan(b), new, b), a)
        second = np.where(np.isnan(b), first, b)
        nominal = space.kinds == NOMINAL
        crossed = rng.random(space.dims) < self.swap
        blend = _crossed(first, second, self.eta_crossover, rng)
        child = np.where(crossed, np.where(nominal, second, blend), first)
        mutated = rng.random(space.dims) < 1.0 / max(space.dims, 1)
        moved = np.where(nominal, rng.random(space.dims), _mutated(child, self.eta_mutation, rng))
        return np.where(mutated, moved, child)


def _select(X: Array, values: Array, excesses: Array, most: int) -> _Parents:
    """The best ``most`` rows by front, then by crowding distance (Deb 2002, III.C); failures are none.

    Where few keep the study's outcome constraints, those follow that break them least (the same, VI).
    """
    ranks = nondominated_rank(values)
    crowding = np.zeros(len(X))
    complete = ~np.isnan(values).any(axis=1)
    for rank in np.unique(ranks[complete]):
        front = np.flatnonzero(ranks == rank)
        crowding[front] = crowding_distance(values[front])
    places = behind_the_kept(np.where(complete, ranks, np.nan), excesses)
    able = np.flatnonzero(~np.isnan(places))
    # Beside more of those the few that keep the constraints would seldom be parents (docs/gp.md).
    room = min(max(int(complete.sum()), most // _BROKEN, 2), most)
    keep = able[np.lexsort((-crowding[able], places[able]))][:room]
    return _Parents(X[keep], values[keep], excesses[keep], places[keep], crowding[keep])


def _tournament(parents: _Parents, rng: np.random.Generator) -> int:
    """The better of two random parents: lower front, then less crowded."""
    i, j = (int(k) for k in rng.integers(len(parents.X), size=2))
    if parents.ranks[i] != parents.ranks[j]:
        return i if parents.ranks[i] < parents.ranks[j] else j
    return i if parents.crowding[i] >= parents.crowding[j] else j


def _crossed(a: Array, b: Array, eta: float, rng: np.random.Generator) -> Array:
    """Simulated binary crossover of ``a`` and ``b`` ``(d,)``, one child, bounded to [0, 1].

    The spread factor's distribution is cut so that neither child of the pair leaves the cube (Deb
    and Beyer 2001; the bounded form used in Deb's NSGA-II code).
    """
    low, high = np.minimum(a, b), np.maximum(a, b)
    gap = np.maximum(high - low, 1e-14)
    beta = 1.0 + 2.0 * np.minimum(low, 1.0 - high) / gap
    alpha = 2.0 - beta ** -(eta + 1.0)
    draw = rng.random(len(a)) * alpha
    spread = np.where(draw <= 1.0, draw, 1.0 / np.maximum(2.0 - draw, 1e-14)) ** (1.0 / (eta + 1.0))
    towards = np.where(rng.random(len(a)) < 0.5, -1.0, 1.0)
    return np.asarray(np.clip(0.5 * (low + high) + 0.5 * towards * spread * (high - low), 0.0, 1.0))


def _mutated(x: Array, eta: float, rng: np.random.Generator) -> Array:
    """Polynomial mutation of ``x`` ``(d,)`` within [0, 1] (Deb and Goyal 1996)."""
    draw = rng.random(len(x))
    power = 1.0 / (eta + 1.0)
    left = (2.0 * draw + (1.0 - 2.0 * draw) * (1.0 - x) ** (eta + 1.0)) ** power - 1.0
    right = 1.0 - (2.0 * (1.0 - draw) + (2.0 * draw - 1.0) * x ** (eta + 1.0)) ** power
    return np.asarray(np.clip(x + np.where(draw < 0.5, left, right), 0.0, 1.0))
