"""Bayesian optimisation with Gaussian processes (GP-BO).

Start with the space's default (its centre), go on with a scrambled Sobol sequence, and from the
sixth trial on propose where the expected improvement under the models is largest.

- Models: Matern 5/2 and squared exponential, with a length scale for each parameter under the
  dimension-scaled prior of Hvarfner et al. 2024, each with several warps of the outcome; every
  trial draws one of them in proportion to its evidence, so that no single assumption can trap the study.
- Acquisition: logarithm of the expected improvement (Ament et al. 2023) over the best posterior mean
  at an observed point; pending trials are imagined (sampled jointly and conditioned on).
- Failed trials train a model of failure, whose log probability is added.
- Several objectives: randomly weighted Chebyshev scalarisations of one model each.

The parts and their sources are in `hpo_core._gp`; what was tried and measured in `docs/gp.md`.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from hpo_core._errors import StrategyError
from hpo_core._gp._acquire import Triple, ei, log_ei, log_pi, lower_bound
from hpo_core._gp._climb import Layout, layout, maximise, pool
from hpo_core._gp._data import Data, data_of
from hpo_core._gp._embed import Embedding, Points, make_embedding
from hpo_core._gp._fit import Priors
from hpo_core._gp._outcomes import warp
from hpo_core._gp._posterior import Posterior, imagine
from hpo_core._gp._score import Score, Term, feasibility, single
from hpo_core._gp._several import chebyshev, draw_weights, scalarise
from hpo_core._gp._surrogate import Model, choose_rows, fit_models, last_refit
from hpo_core._gp._threads import one_thread
from hpo_core._pareto import nondominated
from hpo_core._strategy import Proposal
from hpo_core.samplers._qmc import Sobol
from hpo_core.samplers._random import draw_new
from hpo_core.samplers._shared import is_new

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hpo_core._gp._kernel import KernelName
    from hpo_core._gp._outcomes import WarpName
    from hpo_core._history import History
    from hpo_core._space import SearchSpace

__all__ = ["GP"]

KINDS: tuple[tuple[KernelName, WarpName], ...] = (
    ("matern", "fence"),
    ("matern", "half"),
    ("matern", "log"),
)
PRIORS = Priors()
# Labels of failure: like an outcome, but of known variance and likely noise, since the jump at the border
# of a failing region is not smooth (with little noise the length scales collapse instead).
FAILURE_PRIORS = Priors(noise_loc=-3.0, noise_width=1.5, weight=float("inf"))
# Evidence that a model needs at least; a constant and a slope say nothing yet.
FEWEST = 2
# Pending trials beyond these (the newest) are ignored, beyond the second number imagined at their mean.
MOST_PENDING, MOST_SAMPLED = 256, 48
FUTURES = 16
ANCHORS = 5
POOL = (200, 200)


@dataclass(frozen=True)
class State:
    """Everything fitted at one refit length, grown to `length` rows of evidence."""

    length: int
    rows: NDArray[np.intp]
    embedding: Embedding
    points: Points
    models: tuple[tuple[Model, ...], ...]
    failure: Model | None
    failure_rows: NDArray[np.intp]


@dataclass
class Memo:
    """The last state and what it belongs to; may be emptied at any time."""

    evidence: weakref.ref[object] | None = None
    key: tuple[int, ...] = ()
    state: State | None = None
    shape: tuple[int, Layout] | None = None


@dataclass(frozen=True, kw_only=True)
class GP:
    """Gaussian-process Bayesian optimisation.

    acquisition  "log_ei" (default), "ei", "ucb" (with `beta` standard deviations) or "pi"
    start        trials before the first model: the default configuration, then a Sobol sequence
    cap          rows of evidence that a model sees; beyond it the best half, the newest quarter and a
                 spread of the rest, so that the cost of a proposal stays flat
    """

    acquisition: Literal["log_ei", "ei", "ucb", "pi"] = "log_ei"
    start: int = 5
    cap: int = 300
    beta: float = 2.0
    kinds: tuple[tuple[KernelName, WarpName], ...] = KINDS
    priors: Priors = PRIORS
    _memo: Memo = field(default_factory=Memo, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = ("log_ei", "ei", "ucb", "pi")
        if self.acquisition not in known:
            raise StrategyError(f"acquisition must be one of {known}, got {self.acquisition!r}")
        if self.start < 1 or self.cap < 10:
            raise StrategyError(
                f"gp needs start >= 1 and cap >= 10, got start={self.start!r}, cap={self.cap!r}"
            )

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space and any number of objectives."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        """The next configuration; never None."""
        if not history.space.dims:
            return Proposal(u=np.empty(0), note="the space has a single configuration")
        k, usable = len(history.evidence), np.isfinite(history.evidence.values).all(axis=1)
        if (history.n_trials < self.start and k < self.start) or usable.sum() < FEWEST:
            return self._design(history, rng)
        with one_thread(), np.errstate(under="ignore"):
            return self._model_based(history, rng)

    def _design(self, history: History, rng: np.random.Generator) -> Proposal:
        centre = history.space.default_unit()
        if history.space.allowed(centre[None, :])[0] and is_new(history, centre):
            return Proposal(u=centre, note="start design: the default configuration")
        point = Sobol().sample(history, rng)
        return Proposal(u=point.u, note=f"start design: {point.note}")

    def _model_based(self, history: History, rng: np.random.Generator) -> Proposal:
        data = data_of(history)
        state = self._state(history, data)
        shape = self._layout(history.space)
        terms, anchors, why = self._terms(history, data, state, rng)
        score = Score(state.embedding, terms, np.ones(data.extra))
        candidates = pool(history.space, shape, anchors, rng, POOL)
        u, _ = maximise(history.space, shape, score, candidates, lambda v: is_new(history, v), rng)
        if u is None:
            return Proposal(u=draw_new(history, rng), note="all good candidates were tried: prior")
        return Proposal(u=u, note=why)

    # -- models --------------------------------------------------------------------------------

    def _layout(self, space: SearchSpace) -> Layout:
        known = self._memo.shape
        if known is None or known[0] != id(space):
            self._memo.shape = known = (id(space), layout(space))
        return known[1]

    def _state(self, history: History, data: Data) -> State:
        k = len(data.y)
        # A refit needs data, so the schedule starts where there is enough of it.
        s = last_refit(k)
        while data.usable[:s].sum() < FEWEST:
            s += 1
        key = (s, data.extra, history.space.version)
        memo, evidence = self._memo, history.evidence
        held = memo.state
        same = memo.evidence is not None and memo.evidence() is evidence and memo.key == key
        if held is None or not same or held.length > k:
            held = self._refit(history, data, s)
        state = self._grown(held, data, k)
        memo.evidence, memo.key, memo.state = weakref.ref(evidence), key, state
        return state

    def _refit(self, history: History, data: Data, s: int) -> State:
        embedding = make_embedding(history.space, data.extra)
        rows = choose_rows(data.order, data.usable[:s], s, self.cap)
        points = embedding(data.X[rows])
        models = tuple(fit_models(self.kinds, embedding, points, y, self.priors) for y in data.y[rows].T)
        failed = ~data.usable[:s]
        failure, failure_rows = None, np.empty(0, dtype=np.intp)
        if failed.any():
            # Failures first, then the best of the rest: the border that matters is near the best.
            order = np.where(failed, -np.inf, data.order[:s])
            failure_rows = choose_rows(order, np.ones(s, dtype=bool), s, self.cap)
            labels = failed[failure_rows].astype(np.float64)
            kinds: tuple[tuple[KernelName, WarpName], ...] = (("matern", "fence"),)
            where = embedding(data.X[failure_rows])
            failure = fit_models(kinds, embedding, where, labels, FAILURE_PRIORS)[0]
        return State(s, rows, embedding, points, models, failure, failure_rows)

    def _grown(self, state: State, data: Data, k: int) -> State:
        if state.length == k:
            return state
        late = np.arange(state.length, k)
        rows = np.concatenate([state.rows, late[data.usable[late]]])
        points = state.embedding(data.X[rows])
        models = tuple(tuple(m.grown(points) for m in group) for group in state.models)
        failure, failure_rows = state.failure, state.failure_rows
        if failure is not None:
            failure_rows = np.concatenate([failure_rows, late])
            failure = failure.grown(state.embedding(data.X[failure_rows]))
        return State(k, rows, state.embedding, points, models, failure, failure_rows)

    # -- score ---------------------------------------------------------------------------------

    def _terms(
        self, history: History, data: Data, state: State, rng: np.random.Generator
    ) -> tuple[list[Term], NDArray[np.float64], str]:
        chosen = [_draw(group, rng) for group in state.models]
        posteriors = [
            model.posterior(y, self.priors) for model, y in zip(chosen, data.y[state.rows].T, strict=True)
        ]
        at_rows = np.concatenate([p.predict(state.points)[0] for p in posteriors], axis=1)
        names = ", ".join(f"{m.hyper.kernel}/{m.warp}" for m in chosen)
        pending = self._pending(history, data, state)
        why = f"{self.acquisition} under {names} of {len(state.rows)} trials"
        if len(pending):
            why += f", {len(pending)} pending imagined"
        if len(posteriors) == 1:
            term, rank = self._one(posteriors[0], at_rows, pending, rng)
        else:
            term, rank = self._many(posteriors, at_rows, pending, rng)
        terms = [term]
        if state.failure is not None:
            risk = _failure_term(state.failure, data, state.failure_rows)
            terms += [risk] if risk else []
            why += f", {int((~data.usable).sum())} failures modelled"
        best = state.rows[np.argsort(rank, kind="stable")[:ANCHORS]]
        return terms, data.X[best, : history.space.dims], why

    def _pending(self, history: History, data: Data, state: State) -> Points:
        waiting = history.pending_X[-MOST_PENDING:]
        rows = np.concatenate([waiting, np.ones((len(waiting), data.extra))], axis=1)
        return state.embedding(rows)

    def _one(
        self,
        posterior: Posterior,
        at_rows: NDArray[np.float64],
        pending: Points,
        rng: np.random.Generator,
    ) -> tuple[Term, NDArray[np.float64]]:
        best = at_rows.min(axis=0)
        if len(pending):
            futures = FUTURES if len(pending) <= MOST_SAMPLED else 2
            posterior, sampled = imagine(posterior, pending, rng, futures)
            best = np.minimum(best, sampled.min(axis=0))

        def acquire(mean: NDArray[np.float64], sd: NDArray[np.float64]) -> Triple:
            if self.acquisition == "ucb":
                return lower_bound(mean, sd, self.beta)
            function = {"log_ei": log_ei, "ei": ei, "pi": log_pi}[self.acquisition]
            return function(mean, sd, best)

        return single(posterior, acquire), at_rows[:, 0]

    def _many(
        self,
        posteriors: list[Posterior],
        at_rows: NDArray[np.float64],
        pending: Points,
        rng: np.random.Generator,
    ) -> tuple[Term, NDArray[np.float64]]:
        weights, ideal = draw_weights(at_rows[nondominated(at_rows)], rng)
        rank = scalarise(at_rows, weights, ideal)
        best = np.array([rank.min()])
        half = rng.standard_normal((FUTURES, len(posteriors)))
        if len(pending):
            pairs = [imagine(p, pending, rng, 2 * FUTURES) for p in posteriors]
            posteriors = [p for p, _ in pairs]
            sampled = np.stack([f for _, f in pairs], axis=-1)
            best = np.minimum(best, scalarise(sampled, weights, ideal).min(axis=0))
        draws = np.concatenate([half, -half])
        return chebyshev(tuple(posteriors), weights, ideal, best, draws), rank


def _draw(models: tuple[Model, ...], rng: np.random.Generator) -> Model:
    evidence = np.array([m.log_evidence for m in models])
    share = np.exp(evidence - evidence.max())
    return models[int(rng.choice(len(models), p=share / share.sum()))]


def _failure_term(model: Model, data: Data, rows: NDArray[np.intp]) -> Term | None:
    """Log probability of no failure; None where every row that the model sees is a failure."""
    failed = ~data.usable[rows]
    if failed.all():
        return None
    labels = failed.astype(np.float64)
    z = warp(labels, model.warp).z
    limit = 0.5 * float(z[failed].min() + z[~failed].max())
    return feasibility(model.posterior(labels, FAILURE_PRIORS), limit)
