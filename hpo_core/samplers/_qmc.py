"""Quasi-random search: scrambled Sobol and Halton sequences over the unit cube.

Notation
--------
d       number of columns
i       index into the sequence: the trial's number
b       base of a Halton column: the (j + 1)-th prime
pi_k    permutation of the digits 0..b-1 at digit place k

The scramble comes from the study's seed, so that the whole sequence is fixed when the study starts
and trial ``i`` gets point ``i`` whatever else happens. With input constraints it is the ``i``-th
point of the sequence that meets them. Conditions: every point has a coordinate for every column,
and those of inactive columns are dropped.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_core._errors import StrategyError
from hpo_core._history import History
from hpo_core._space import SearchSpace
from hpo_core._strategy import Proposal
from hpo_core.samplers._random import draw_new

__all__ = ["Halton", "Sobol", "halton_points", "load_scipy", "sobol_points", "start_point"]

Array = NDArray[np.float64]

# scipy ships Joe and Kuo's direction numbers for this many dimensions.
_SOBOL_COLUMNS = 21_201
_CHUNK = 64
# Points of the sequence that the constraints may reject in a row before the prior's own sampler
# takes over (it reports unsatisfiable constraints).
_REJECTIONS = 4096


@dataclass
class _Walk:
    """Points made already, a pure function of (seed, space): ``allowed`` ones of a constrained sequence.

    ``rejected``: how many of the last ones in a row met no constraints. ``chunk`` holds the points of an
    unconstrained one from ``position`` on.
    """

    key: tuple[Any, ...] = ()
    allowed: list[Array] = field(default_factory=list)
    rejected: int = 0
    chunk: Array = field(default_factory=lambda: np.empty((0, 0)))
    position: int = 0


@dataclass(frozen=True, kw_only=True)
class Sobol:
    """Scrambled Sobol sequence (Owen's scramble in Matousek's linear form, as scipy implements it).

    Fills the space more evenly than random draws; the balance is best after 2^k trials.
    """

    _walk: _Walk = field(default_factory=_Walk, init=False, repr=False, compare=False)

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space of at most 21,201 columns, any number of objectives."""
        if space.dims > _SOBOL_COLUMNS:
            raise StrategyError(
                f"strategy 'sobol' has direction numbers for {_SOBOL_COLUMNS} parameters, the "
                f"space has {space.dims}; use 'halton' or 'random'"
            )

    def warm_up(self) -> None:
        """Import what the first proposals need: see :meth:`hpo_core.Strategy.warm_up`."""
        load_scipy()

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """Point number ``history.n_trials`` of the sequence."""
        return _propose(history, rng, sobol_points, self._walk, "Sobol")


@dataclass(frozen=True, kw_only=True)
class Halton:
    """Halton sequence with random digit permutations (Owen 2017, "A randomized Halton algorithm").

    Without the permutations columns beyond about the tenth move in lockstep for hundreds of points.
    """

    _walk: _Walk = field(default_factory=_Walk, init=False, repr=False, compare=False)

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space and any number of objectives will do."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """Point number ``history.n_trials`` of the sequence."""
        return _propose(history, rng, halton_points, self._walk, "Halton")


_Points = Callable[[int, int, int, int], Array]


def _propose(history: History, rng: np.random.Generator, points: _Points, walk: _Walk, name: str) -> Proposal:
    index = history.n_trials
    u = _point(history.space, history.seed, index, points, walk)
    note = f"point {index} of the scrambled {name} sequence"
    if u is None:
        return Proposal(u=draw_new(history, rng), note="constraints left the sequence empty: prior")
    if history.space.size is not None and not history.is_new(u):
        return Proposal(u=draw_new(history, rng), note=f"{note} was tried before: prior")
    return Proposal(u=u, note=note)


def _point(space: SearchSpace, seed: int, index: int, points: _Points, walk: _Walk) -> Array | None:
    if not space.constraints:
        return _free_point(space, seed, index, points, walk)
    key = (seed, space.version, space.digest())
    if walk.key != key:
        walk.key, walk.allowed, walk.rejected, walk.position = key, [], 0, 0
    while len(walk.allowed) <= index:
        if walk.rejected >= _REJECTIONS:
            return None  # for good: how far the walk gets must not depend on how often it was asked
        U = space.snap(points(seed, space.dims, walk.position, _CHUNK))
        kept = list(U[space.allowed(U)])
        walk.allowed.extend(kept)
        walk.position += _CHUNK
        walk.rejected = 0 if kept else walk.rejected + _CHUNK
    return walk.allowed[index]


def _free_point(space: SearchSpace, seed: int, index: int, points: _Points, walk: _Walk) -> Array:
    # A sequence costs far more to set up than to go on with, so that points are made some at a time.
    key, position = (seed, space.dims), index - index % _CHUNK
    if walk.key != key or walk.position != position:
        walk.key, walk.position = key, position
        walk.chunk = points(seed, space.dims, position, _CHUNK)
    return np.asarray(space.snap(walk.chunk[index - position][None, :])[0])


def start_point(history: History, rng: np.random.Generator) -> Array:
    """``(d,)`` the next point of a start design: the space's default, then the Sobol sequence.

    The default is what the user declared, else the centre: a single trial that is rarely among the
    worst. What was tried before, or is not allowed, gives way to a draw from the prior.
    """
    space, index = history.space, history.n_trials
    u = space.default_unit()
    if index and space.dims:
        u = space.snap(sobol_points(history.seed, space.dims, index, 1))[0]
    if space.allowed(u[None, :])[0] and history.is_new(u):
        return np.asarray(u)
    return draw_new(history, rng)


def sobol_points(seed: int, dims: int, start: int, n: int) -> Array:
    """Points ``start`` to ``start + n - 1`` of the Sobol sequence, ``(n, dims)`` in [0, 1)."""
    from scipy.stats import qmc

    if not dims:
        return np.zeros((n, 0))
    engine = qmc.Sobol(dims, scramble=True, rng=np.random.default_rng([seed, 0]))
    if start:
        engine.fast_forward(start)
    # One by one: scipy warns where the first batch is not a power of two, but a study of trials
    # that come one at a time has no say in that.
    return np.concatenate([engine.random(1) for _ in range(n)])


def load_scipy() -> None:
    """Import what :func:`sobol_points` does: a second of scipy, and with it all that our models use of it."""
    importlib.import_module("scipy.stats.qmc")


def halton_points(seed: int, dims: int, start: int, n: int) -> Array:
    """Points ``start`` to ``start + n - 1`` of the Halton sequence, ``(n, dims)`` in [0, 1).

    Each column has its own generator, so that a column that joins later changes no other one.
    """
    U = np.empty((n, dims))
    index = np.arange(start, start + n, dtype=np.int64)
    for column, base in enumerate(_primes(dims)):
        rng = np.random.default_rng([seed, 1, column])
        rest, scale = index.copy(), 1.0 / base
        value = np.zeros(n)
        # Digits down to the resolution of a double: leading zeros are permuted as well.
        while scale > 2.0**-54:
            value += rng.permutation(base)[rest % base] * scale
            rest //= base
            scale /= base
        U[:, column] = np.minimum(value, 1.0 - 2.0**-53)
    return U


def _primes(n: int) -> list[int]:
    """The first ``n`` primes."""
    bound = 20 if n < 6 else int(n * (np.log(n) + np.log(np.log(n)))) + 1
    sieve = np.ones(bound + 1, dtype=bool)
    sieve[:2] = False
    for i in range(2, int(bound**0.5) + 1):
        if sieve[i]:
            sieve[i * i :: i] = False
    return [int(p) for p in np.flatnonzero(sieve)[:n]]
