"""Bayesian optimisation with Gaussian processes (GP-BO).

Start with the space's default (its centre), go on with a scrambled Sobol sequence, and then propose
where the expected improvement under a model is largest.

- Models: Matern 5/2 with a length scale for each parameter under the dimension-scaled prior of
  Hvarfner et al. 2024, noise inferred, each with several warps of the outcome, of which the one with
  the largest evidence is used: no single transform suits all objectives.
- Acquisition: logarithm of the expected improvement (Ament et al. 2023) over the best posterior mean
  at an observed point; pending trials are believed to come out at their posterior means (Ginsbourger
  et al. 2010, "Kriging is well-suited to parallelize optimization", the kriging believer).
- Failed trials train a model of failure, whose log probability is added.
- Each outcome constraint has a model, too, and the log probability that it is kept is added: the constrained
  expected improvement of Gardner et al. 2014. Where next to nothing keeps them yet, that alone is maximised.
- Two objectives: expected hypervolume improvement; more: random Chebyshev scalarisations.

The parts and their sources are in `hpo_core._gp`; what was tried and measured in `docs/gp.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from hpo_core._errors import StrategyError
from hpo_core._given import check_option
from hpo_core._gp._acquire import Triple, ei, log_ei, log_pi, lower_bound
from hpo_core._gp._branch import neglected
from hpo_core._gp._climb import layout, maximise, pool
from hpo_core._gp._data import Data, data_of
from hpo_core._gp._ehvi import log_ehvi, reference
from hpo_core._gp._fit import Priors
from hpo_core._gp._posterior import Posterior, imagine
from hpo_core._gp._region import Region, box
from hpo_core._gp._score import Score, Term, single
from hpo_core._gp._several import chebyshev, draw_weights, scalarise
from hpo_core._gp._state import FEWEST, State, latest
from hpo_core._gp._surrogate import Kinds
from hpo_core._gp._threads import one_thread
from hpo_core._memo import Memo
from hpo_core._outcome_constraints import broken_least
from hpo_core._pareto import nondominated, nondominated_rank
from hpo_core._strategy import Proposal
from hpo_core._training import Curves, training_set
from hpo_core.samplers._qmc import Sobol, load_scipy
from hpo_core.samplers._random import draw_new

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._climb import Box, Layout
    from hpo_core._gp._embed import Points
    from hpo_core._history import History
    from hpo_core._space import SearchSpace

__all__ = ["GP"]

KINDS: Kinds = (("matern", "half"), ("matern", "log"), ("matern", "fence"))
PRIORS = Priors()
# On a grid, where all columns have few values, length scales are believed to be three times as long: scales
# below the distance of two values are all alike. The first model waits for one result more than there are
# columns, within these bounds: with fewer its proposals stay around the best of them (docs/gp.md).
GRID_PRIORS = replace(PRIORS, scale_loc=PRIORS.scale_loc + 1.1)
START, LONGEST_START = 5, 10
# Pending trials beyond these (the newest) are ignored.
MOST_PENDING = 256
# Half the draws of a weighted sum of three or more objectives; pending trials get twice as many futures.
FUTURES = 16
# Observed configurations around which candidates are drawn, and how many are drawn everywhere and there.
ANCHORS, POOL = 5, (200, 200)
ACQUISITIONS = ("log_ei", "ei", "ucb", "pi")


class _Trusted(NamedTuple):
    """A trust region: lower and upper `faces` (d,) each, `centre` (d,), and its side before it is shaped."""

    faces: Box
    centre: NDArray[np.float64]
    side: float


@dataclass(frozen=True, kw_only=True)
class GP:
    """Gaussian-process Bayesian optimisation, for any space and any number of objectives.

    ``acquisition``: ``"log_ei"``, ``"ei"``, ``"pi"`` or ``"ucb"`` (with ``beta`` standard deviations).
    ``start``: trials before the first model, the default configuration and then a Sobol sequence; ``None``
    for 5, or, where all columns have few values, for one more than there are columns, up to 10.
    ``cap``: results that a model sees; beyond it the best half, the newest quarter and a spread of
    the rest, so that the cost of a proposal stays flat. ``region``: dimensions beyond which the search
    keeps to a trust region.
    """

    acquisition: Literal["log_ei", "ei", "ucb", "pi"] = "log_ei"
    start: int | None = None
    cap: int = 300
    beta: float = 2.0
    region: int = 20
    _memo: Memo[State] = field(default_factory=Memo, init=False, repr=False, compare=False)
    _region: Memo[Region] = field(default_factory=Memo, init=False, repr=False, compare=False)
    _curves: Memo[Curves] = field(default_factory=Memo, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.acquisition not in ACQUISITIONS:
            raise StrategyError(f"gp: acquisition must be one of {ACQUISITIONS}, got {self.acquisition!r}")
        for name, least in (("start", 1), ("cap", 10), ("region", 0)):
            value = getattr(self, name)
            if value is not None or name != "start":
                check_option("gp", name, value, least)
        if not (isinstance(self.beta, int | float) and 0.0 <= self.beta < 1e6):
            raise StrategyError(f"gp: beta must be a number >= 0, got {self.beta!r}")

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space and any number of objectives will do."""

    def warm_up(self) -> None:
        """Import what the first proposals need: see :meth:`hpo_core.Strategy.warm_up`."""
        load_scipy()

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """The next configuration; never ``None``."""
        if not history.space.dims:
            return Proposal(u=np.empty(0), note="no parameter to choose is known")
        shape = layout(history.space)
        started = max(history.n_trials, len(history.evidence)) >= self._first(shape)
        if not started:
            return self._design(history, rng)
        data = data_of(training_set(history, history.space.dims + 1, self._curves))
        if max(int(data.usable.sum()), int(data.judged.sum())) < FEWEST:
            return self._design(history, rng)
        with one_thread(), np.errstate(under="ignore"):
            return self._model_based(history, data, shape, rng)

    def _first(self, shape: Layout) -> int:
        """Trials before the first model."""
        if self.start is not None:
            return self.start
        return START if shape.smooth.any() else min(max(START, len(shape.smooth) + 1), LONGEST_START)

    def _design(self, history: History, rng: np.random.Generator) -> Proposal:
        centre = history.space.default_unit()
        if history.space.allowed(centre[None, :])[0] and history.is_new(centre):
            return Proposal(u=centre, note="start design: the default configuration")
        point = Sobol().sample(history, rng)
        return Proposal(u=point.u, note=f"start design: {point.note}")

    def _model_based(self, history: History, data: Data, shape: Layout, rng: np.random.Generator) -> Proposal:
        space = history.space
        priors = PRIORS if shape.smooth.any() else GRID_PRIORS
        state = latest(self._memo, history, data, KINDS, priors, self.cap)
        terms, anchors, why = self._terms(data, state, rng)
        if not terms:  # every trial breaks the constraints by as much
            return self._design(history, rng)
        trusted = self._trusted(history, data, state)
        inside: Box | None = None
        if trusted is not None:
            anchors = trusted.centre[None, :]
            why += f", in a trust region of side {trusted.side:.2g}"
            inside = trusted.faces
        score = Score(state.embedding, terms)
        candidates = pool(space, shape, anchors, rng, POOL, inside)
        branch = neglected(history, shape)
        if branch is not None:
            more = space.sample(rng, POOL[0])
            more[:, branch.column] = branch.value
            there = np.concatenate([candidates, space.snap(more)])
            there = there[branch.has(there)]

            def may(v: NDArray[np.float64]) -> bool:
                return history.is_new(v) and bool(branch.has(v))

            # None where all of it was tried, or the constraints allow none of it.
            u = maximise(space, shape, score, there, may, rng, box=inside)
            if u is not None:
                name = space.column_names[branch.column]
                return Proposal(u=u, note=f"{why}, in the least tried {name}")
        u = maximise(space, shape, score, candidates, history.is_new, rng, box=inside)
        if u is None:
            return Proposal(u=draw_new(history, rng), note="every good candidate was tried: prior")
        return Proposal(u=u, note=why)

    def _trusted(self, history: History, data: Data, state: State) -> _Trusted | None:
        """The trust region; None where the whole space is searched."""
        d = history.space.dims
        if d <= self.region or data.step or data.y.shape[1] > 1 or not state.models:
            return None
        region = self._region.of(history, Region)
        # As in the paper: as many failures as there are dimensions, shared among the workers.
        evidence, patience = history.evidence, max(4, math.ceil(d / history.workers))
        region.grow(evidence.values[:, 0], evidence.trials >= 0, patience)
        values = np.where(data.usable, data.y[:, 0], np.inf)[region.first :]
        if not np.isfinite(values).any():
            return None
        centre = data.X[region.first + int(np.argmin(values))]
        model = max(state.models[0], key=lambda m: m.log_evidence)
        faces = box(centre, region.length, np.exp(model.hyper.theta[:-1]))
        return _Trusted(faces, centre, region.length)

    def _terms(
        self, data: Data, state: State, rng: np.random.Generator
    ) -> tuple[list[Term], NDArray[np.float64], str]:
        """Terms of the score, the configurations to search around (a, d), and the note."""
        risks, why_risks = self._risks(data, state)
        if not state.models:
            nearest = state.bound_rows[broken_least(data.excesses[state.bound_rows])[:ANCHORS]]
            return risks, data.X[nearest], f"next to nothing meets the constraints{why_risks}"
        chosen = [max(group, key=lambda m: m.log_evidence) for group in state.models]
        values = data.y[state.rows].T
        posteriors = [m.posterior(y, PRIORS) for m, y in zip(chosen, values, strict=True)]
        # The best is to be one that counts.
        counting = data.usable[state.rows]
        fitted = np.concatenate([p.predict(state.points)[0][counting] for p in posteriors], axis=1)
        pending = state.embedding(data.pending[-MOST_PENDING:])
        warps = ", ".join(m.warp for m in chosen)
        name = {1: self.acquisition, 2: "log_ehvi"}.get(len(posteriors), "log_ei, weighted,")
        why = f"{name} of a Gaussian process ({warps} warp) of {len(state.rows)} results"
        if data.step:
            why += f" at step {data.step}"
        if len(pending):
            why += f", {len(pending)} pending imagined"
        if len(posteriors) == 1:
            term, rank = self._one(posteriors[0], fitted, pending)
        else:
            term, rank = self._many(posteriors, fitted, pending, rng)
        best = state.rows[counting][np.argsort(rank, kind="stable")[:ANCHORS]]
        return [term, *risks], data.X[best], why + why_risks

    def _risks(self, data: Data, state: State) -> tuple[list[Term], str]:
        """Terms for the probability of a result that counts, and what they go by."""
        terms, why = state.bound_terms(data), ""
        if terms:
            infeasible = int((data.judged & ~data.usable).sum())
            why += f", {infeasible} of {int(data.judged.sum())} results break a constraint"
        failure = state.failure_term(data)
        if failure is not None:
            terms.append(failure)
            why += f", {int(data.failed.sum())} failures avoided"
        return terms, why

    def _one(
        self, posterior: Posterior, fitted: NDArray[np.float64], pending: Points
    ) -> tuple[Term, NDArray[np.float64]]:
        """The acquisition term of one objective, and the rank (r,) of the rows."""
        best = fitted.min(axis=0)
        if len(pending):
            # Sampled futures, averaged over, spread the proposals too far (docs/parallel.md).
            posterior, believed = imagine(posterior, pending, None, 1)
            best = np.minimum(best, believed.min(axis=0))

        def acquire(mean: NDArray[np.float64], sd: NDArray[np.float64]) -> Triple:
            if self.acquisition == "ucb":
                return lower_bound(mean, sd, self.beta)
            function = {"log_ei": log_ei, "ei": ei, "pi": log_pi}[self.acquisition]
            return function(mean, sd, best)

        return single(posterior, acquire), fitted[:, 0]

    def _many(
        self,
        posteriors: list[Posterior],
        fitted: NDArray[np.float64],
        pending: Points,
        rng: np.random.Generator,
    ) -> tuple[Term, NDArray[np.float64]]:
        """The term of several objectives, and the rank (r,) of the rows under it."""
        front = fitted[nondominated(fitted)]
        if len(posteriors) == 2:
            rank = nondominated_rank(fitted).astype(np.float64)
            if len(pending):
                # Believed to come out at their means: futures would each need a front of their own.
                pairs = [imagine(p, pending, None, 1) for p in posteriors]
                posteriors = [p for p, _ in pairs]
                front = np.concatenate([front, np.concatenate([f for _, f in pairs], axis=1)])
                front = front[nondominated(front)]
            rank += 0.5 * rng.random(len(rank))  # which points of the front to search around: any
            return log_ehvi(tuple(posteriors), front, reference(front)), rank
        weights, ideal = draw_weights(front, rng)
        rank = scalarise(fitted, weights, ideal)
        best = np.array([rank.min()])
        half = rng.standard_normal((FUTURES, len(posteriors)))
        if len(pending):
            pairs = [imagine(p, pending, rng, 2 * FUTURES) for p in posteriors]
            posteriors = [p for p, _ in pairs]
            sampled = np.stack([f for _, f in pairs], axis=-1)
            best = np.minimum(best, scalarise(sampled, weights, ideal).min(axis=0))
        draws = np.concatenate([half, -half])
        return chebyshev(tuple(posteriors), weights, ideal, best, draws), rank
