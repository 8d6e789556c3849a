"""CMA-ES as a fold over the evidence, through the ``cmaes`` package.

Notation
--------
d       columns of the space
m, C    mean and covariance of the sampling distribution, sigma its step size
lambda  population: results in one generation
g       generation

The state after k results is a function of those k results alone: results are told in the order in
which they finished, ``lambda`` at a time. Trial ``t`` is drawn from the distribution as it stands
when the trial is asked for, with random numbers of ``(study seed, t)``; nothing about it needs to be
stored, because the fold can draw it again. A result that the current distribution would not have
drawn for its trial comes from elsewhere: from an earlier generation (asynchronous workers), from the
user's queue, or from another study. It is injected: moved towards m to a length that a draw could
have (Hansen 2011, "Injecting external solutions into CMA-ES", eq. 3-5), so that it can steer the
distribution but not blow it up.

Every ``_EPOCH`` results the fold begins anew from the best configuration known, so that the first
proposal after a resume costs a bounded number of results and not all of them. By then the method
has restarted several times of its own accord, unless its population has grown to many hundreds.

So the population need not grow with the number of workers. With 32 of them, 200 trials and BBOB in
5 and 10 dimensions (12 functions, 6 seeds, geometric mean of regret), the usual population of 8 to 10
reached 0.0157 and one of 32 reached 0.022; with 8 workers it was 0.0047, with one 0.0036.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_core._errors import StrategyError
from hpo_core._given import check_option
from hpo_core._history import History
from hpo_core._memo import Memo
from hpo_core._outcome_constraints import behind_the_kept
from hpo_core._propose import sampler_rng
from hpo_core._space import NOMINAL, SearchSpace
from hpo_core._strategy import Proposal
from hpo_core.samplers._random import draw_new

__all__ = ["CMAES"]

Array = NDArray[np.float64]

# Draws per trial until one meets the constraints and, in a finite space, is new.
_TRIES = 32
# The package refuses coordinates and values beyond about 1e32 and 1e308; a value this large is only
# ever compared.
_LARGEST = 1e300
_EPOCH = 8192
_RESTARTS = ("none", "ipop", "bipop")


@dataclass
class _Fold:
    """The optimiser after ``rows`` rows of evidence; ``told`` is the generation being filled."""

    optimizer: Any
    free: NDArray[np.int64]
    rows: int = 0
    epoch: int = 0
    told: list[tuple[Array, float, Array]] = field(default_factory=list)
    restarts: int = 0
    large: int = 0
    spent_large: int = 0
    spent_small: int = 0
    in_small: bool = False
    warm: tuple[float, Array] | None = None


@dataclass(frozen=True, kw_only=True)
class CMAES:
    """Covariance matrix adaptation (Hansen 2016), with margin where the space has integers.

    ``sigma``: initial step size in the unit cube. ``population``: results per generation; by
    default ``4 + floor(3 ln d)``. ``restarts``: what follows when the distribution has collapsed:
    ``"ipop"`` doubles the population (Auger and Hansen 2005), ``"bipop"`` alternates that with small
    local runs (Hansen 2009), ``"none"`` goes on. Integers and ordered categories use CMA-ES with
    margin (Hamano 2022); a two-way choice counts as an integer. Other unordered choices are refused:
    the method has no notion of a direction in them.
    """

    sigma: float = 1.0 / 6.0
    population: int | None = None
    restarts: str = "bipop"
    _memo: Memo[_Fold] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.sigma, int | float) and 0.0 < self.sigma <= 1.0):
            raise StrategyError(f"cmaes: sigma must be in (0, 1], got {self.sigma!r}")
        if self.population is not None:
            check_option("cmaes", "population", self.population, 4)
        if self.restarts not in _RESTARTS:
            raise StrategyError(f"cmaes: restarts must be one of {_RESTARTS}, got {self.restarts!r}")

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Raise for unordered choices of three or more and for several objectives."""
        if n_objectives != 1:
            raise StrategyError(
                f"strategy 'cmaes' minimises one objective, the study has {n_objectives}; "
                "use 'nsga2' or 'tpe'"
            )
        for name, kind, size in zip(space.column_names, space.kinds, space.cardinality, strict=True):
            if kind == NOMINAL and size > 2:
                raise StrategyError(
                    f"strategy 'cmaes' cannot order the {size} choices of parameter {name!r}; declare "
                    "it ordered=True if they have an order, or use 'tpe', 'forest' or 'gp'"
                )

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """A draw from the current distribution."""
        space = history.space
        fold = self._folded(history)
        if not len(fold.free):
            return Proposal(u=draw_new(history, rng), note="nothing to adapt: prior")
        drawn = list(_draws(fold, space, _seed(rng)))
        for u, _ in drawn:
            if space.size is None or history.is_new(u):
                optimizer = fold.optimizer
                note = f"generation {optimizer.generation + 1} of run {fold.restarts + 1}"
                if fold.epoch:
                    note += f" since result {fold.epoch * _EPOCH}"
                return Proposal(u=u, note=f"{note}, population {optimizer.population_size}")
        note = "every draw was tried before" if drawn else "no draw met the constraints"
        return Proposal(u=draw_new(history, rng), note=f"{note}: prior")

    def _folded(self, history: History) -> _Fold:
        evidence = history.evidence
        epoch = len(evidence) // _EPOCH
        fold = self._memo.of(history, lambda: self._begin(history, epoch), key=epoch)
        for row in range(fold.rows, len(evidence)):
            fold.rows = row + 1
            if len(fold.free):
                self._tell(fold, history, row)
        return fold

    def _begin(self, history: History, epoch: int) -> _Fold:
        """The fold before the first row of the epoch, a function of the rows before that."""
        space, start = history.space, epoch * _EPOCH
        # A column of one value has no direction to adapt in (and the package asserts two).
        free = np.flatnonzero(space.cardinality != 1)
        fold = _Fold(optimizer=None, free=free, rows=start, epoch=epoch)
        if len(free):
            fold.large = self.population or _default_population(len(free))
            mean = np.full(len(free), 0.5)
            known = history.evidence.values[:start, 0]
            if np.isfinite(known).any():
                best = history.evidence.X[int(np.nanargmin(known)), free]
                mean = np.where(np.isnan(best), 0.5, best)
            fold.optimizer = _optimizer(space, free, mean, self.sigma, fold.large)
        return fold

    def _tell(self, fold: _Fold, history: History, row: int) -> None:
        evidence, optimizer = history.evidence, fold.optimizer
        u, trial = evidence.X[row], int(evidence.trials[row])
        value = float(np.clip(evidence.values[row, 0], -_LARGEST, _LARGEST))
        first = not fold.epoch and not optimizer.generation and not fold.told
        if trial < 0 and first:
            # Results from elsewhere before the first of our own say where to start.
            if not math.isnan(value) and (fold.warm is None or value < fold.warm[0]):
                point = u[fold.free]
                fold.warm = value, np.where(np.isnan(point), 0.5, point)
                fold.optimizer = _optimizer(history.space, fold.free, fold.warm[1], self.sigma, fold.large)
            return
        fold.told.append((_latent(fold, history, u, trial), value, evidence.excesses[row]))
        if len(fold.told) < optimizer.population_size:
            return
        told = behind_the_kept(*(np.array(column) for column in list(zip(*fold.told, strict=True))[1:]))
        # Where all have failed there is nothing to rank: the same distribution draws again.
        if not np.isnan(told).all():
            numbers = np.where(np.isnan(told), np.nanmax(told), told).clip(max=_LARGEST)
            failed_last = np.argsort(np.isnan(told), kind="stable")
            solutions = [(fold.told[i][0], float(numbers[i])) for i in failed_last]
            # A degenerate generation (all points equal) divides by zero inside; the state is
            # examined below instead.
            with np.errstate(all="ignore"):
                optimizer.tell(solutions)
                self._restart_if_over(fold, history)
        fold.told = []

    def _restart_if_over(self, fold: _Fold, history: History) -> None:
        optimizer = fold.optimizer
        if fold.in_small:
            fold.spent_small += optimizer.population_size
        else:
            fold.spent_large += optimizer.population_size
        broken = not _is_sound(optimizer)
        if not broken and (self.restarts == "none" or not optimizer.should_stop()):
            return
        fold.restarts += 1
        rng = np.random.default_rng([history.seed, fold.restarts, fold.epoch])
        sigma, population = self.sigma, fold.large
        fold.in_small = self.restarts == "bipop" and fold.spent_small < fold.spent_large
        if fold.in_small and fold.restarts > 1:
            # Hansen 2009, section 2: a population between the default and half the large one, and
            # a step size up to a hundred times smaller.
            first = self.population or _default_population(len(fold.free))
            power = rng.random() ** 2
            population = max(int(first * (0.5 * fold.large / first) ** power), 4)
            sigma *= 10.0 ** (-2.0 * rng.random())
        elif self.restarts != "none":
            fold.in_small = False
            fold.large = population = 2 * fold.large
        mean = rng.random(len(fold.free))
        fold.optimizer = _optimizer(history.space, fold.free, mean, sigma, population)


def _optimizer(
    space: SearchSpace, free: NDArray[np.int64], mean: Array, sigma: float, population: int
) -> Any:
    """A fresh ``CMA``, or ``CMAwM`` when a free column is discrete; bounds are the cells' centres."""
    from cmaes import CMA, CMAwM

    cells = space.cardinality[free]
    half = np.where(cells > 0, 0.5 / np.maximum(cells, 1), 0.0)
    bounds = np.stack([half, 1.0 - half], axis=1)
    options: dict[str, Any] = {
        "mean": np.clip(mean, bounds[:, 0], bounds[:, 1]),
        "sigma": sigma,
        "bounds": bounds,
        "population_size": population,
        "seed": 0,  # reseeded for every draw
    }
    if not cells.any():
        return CMA(**options)
    return CMAwM(**options, steps=2.0 * half)


def _default_population(d: int) -> int:
    return 4 + math.floor(3 * math.log(d))  # Hansen 2016, eq. 48


def _core(optimizer: Any) -> Any:
    """The ``CMA`` itself: ``CMAwM`` wraps one."""
    return getattr(optimizer, "_cma", optimizer)


def _is_sound(optimizer: Any) -> bool:
    core = _core(optimizer)
    state = (core._mean, core._C, core._sigma, core._p_sigma, core._pc)
    return all(bool(np.isfinite(part).all()) for part in state) and core._sigma > 0.0


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _draws(fold: _Fold, space: SearchSpace, seed: int) -> Iterator[tuple[Array, Array]]:
    """Up to ``_TRIES`` draws as (canonical point (d,), the optimiser's own point); only allowed ones.

    An infinite space without constraints takes the first.
    """
    optimizer, free = fold.optimizer, fold.free
    optimizer.reseed_rng(seed)
    once = space.size is None and not space.constraints
    for _ in range(1 if once else _TRIES):
        drawn = optimizer.ask()
        seen, own = drawn if isinstance(drawn, tuple) else (drawn, drawn)
        point = np.full(space.dims, 0.5)
        point[free] = seen
        canonical = space.snap(point[None, :])
        if once or space.allowed(canonical)[0]:
            yield canonical[0], own


def _latent(fold: _Fold, history: History, u: Array, trial: int) -> Array:
    """The optimiser's own point behind canonical ``u``: drawn again, or injected."""
    if trial >= 0:
        # What was stored went through the user's units and back, hence the tolerance.
        for point, own in _draws(fold, history.space, _seed(sampler_rng(history, trial))):
            # Of what differs, inactive columns (NaN in both) compare as false too.
            if not (np.abs(point - u) > 1e-7).any():
                return own
    core = _core(fold.optimizer)
    B, D = core._eigen_decomposition()
    point = u[fold.free]
    y = np.where(np.isnan(point), 0.0, point - core._mean) / core._sigma
    with np.errstate(divide="ignore", invalid="ignore"):
        length = float(np.linalg.norm((B.T @ y) / D))
    d = len(y)
    longest = math.sqrt(d) + 2.0 * d / (d + 2.0)
    if not length <= longest:
        y = y * (longest / length) if math.isfinite(length) else np.zeros(d)
    return np.asarray(core._mean + core._sigma * y)
