"""The default strategy: choose a sampler for the study at hand, and switch as the study grows.

| symbol | meaning |
|---|---|
| `k` | results known |
| `p` | trials in flight |
| `d`, `m` | columns of the space, objectives (a constraint on outcomes counts a third) |

The rules, first match wins. What was measured of them, and on what, is in docs/gp.md and
docs/benchmarks-samplers.md: the first up to 100 results (200 on few problems). Where the switch lies
beyond that is an estimate of cost, not a result.

1. Where most trials stop early (rungs, pruning), and not over folds, TPE: results at different steps are
   compared by rank, which is all that it uses, while a Gaussian process has to believe their values
   (docs/schedulers.md).
2. Else a Gaussian process goes first, for as long as a proposal costs less than `GP_LIMIT` by the estimate
   below: up to 100 results it had the least regret of our samplers on most kinds of problems. No clock
   is read: what was *measured* would differ on replay, what is *counted* does not.
3. Beyond that, all columns ordered, one objective, no conditions and room for some generations: CMA-ES,
   which takes in every earlier result and is cheap.
4. Otherwise TPE, which takes any space and any number of objectives at a cost that does not grow.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hpo_core._parameters import NOMINAL
from hpo_core._states import TrialState
from hpo_core._strategy import Proposal, Sampler
from hpo_core._training import by_folds
from hpo_core.samplers._qmc import load_scipy

if TYPE_CHECKING:
    from hpo_core._history import History
    from hpo_core._space import SearchSpace

__all__ = ["Auto", "choose", "gp_cost"]

# Estimated processor milliseconds that a proposal of the Gaussian process may take.
GP_LIMIT = 60.0
# Results beyond which a Gaussian process of a few hundred of them is left; a choice, not a measurement.
GP_RESULTS = 400
# Trials in flight beyond which imagining them all costs more than it was ever shown to be worth.
GP_PENDING = 128
# What the model of an outcome constraint costs in those of an objective, which has three warps.
BOUND = 1 / 3
# Generations for which CMA-ES needs room before it can do more than the samplers before it.
GENERATIONS = 10
_CLASSES = {
    "gp": ("hpo_core.samplers._gp", "GP"),
    "tpe": ("hpo_core.samplers._tpe", "TPE"),
    "cmaes": ("hpo_core.samplers._cmaes", "CMAES"),
}


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Gaussian process first, then CMA-ES or TPE; every proposal's note says which and why."""

    _members: dict[str, Sampler] = field(default_factory=dict, init=False, repr=False, compare=False)

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Any space and any number of objectives will do."""

    def warm_up(self) -> None:
        """Import what the first proposals need: see :meth:`hpo_core.Strategy.warm_up`."""
        importlib.import_module(_CLASSES["gp"][0])
        load_scipy()

    def sample(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """What the sampler that suits the study now proposes."""
        name, why = choose(history)
        proposal = self._member(name).sample(history, rng)
        if proposal is None:
            return None
        return Proposal(u=proposal.u, note=f"{name}, as {why}: {proposal.note}")

    def _member(self, name: str) -> Sampler:
        if name not in self._members:
            module, attribute = _CLASSES[name]
            self._members[name] = getattr(importlib.import_module(module), attribute)()
        return self._members[name]


def gp_cost(results: int, pending: int, dims: int, objectives: float, moving: bool) -> float:
    """Estimated processor milliseconds of one proposal of the Gaussian process, refits shared out.

    `moving`: trials stop early, so that the model is refitted for every proposal. The terms are
    operation counts, the factors a fit to timings on one core; a machine half
    as fast doubles all of them, which moves the switch by a few dozen results and changes nothing else.
    """
    seen = min(results, 120 if moving else 325)
    rows = seen + min(pending, 256)
    search = 4.0 + 2e-4 * rows * rows + 4e-3 * dims * math.sqrt(rows)
    fit = 12.0 + 1.2e-3 * seen * seen * (1.0 + dims / 40.0)
    gap = 1 if moving else min(max(seen // 10, 1), 25)
    return objectives * (search + fit / gap)


def choose(history: History) -> tuple[str, str]:
    """Name of the sampler for the next trial, and the reason in a few words."""
    space, k, p = history.space, len(history.evidence), len(history.pending)
    stopped = history.count(TrialState.PRUNED) + history.count(TrialState.PAUSED)
    if stopped > history.count(TrialState.COMPLETE) and not by_folds(history):
        return "tpe", f"trials that stopped early ({stopped}) are compared by rank"
    moving = stopped > 0
    in_flight = history.count(TrialState.WAITING) + history.count(TrialState.RUNNING)
    modelled = history.n_objectives + BOUND * len(history.outcome_constraints)
    cost = gp_cost(k, p, space.dims, modelled, moving)
    if k < GP_RESULTS and in_flight <= GP_PENDING and cost <= GP_LIMIT:
        return "gp", f"{k} results are few enough to model exactly"
    if k >= GP_RESULTS:
        reason = f"{k} results are more than a Gaussian process needs"
    elif in_flight > GP_PENDING:
        reason = f"{in_flight} trials in flight are too many to imagine"
    else:
        reason = f"a Gaussian process of {k} results and {p} open trials would take {cost:.0f} ms"
    return ("cmaes" if _suits_cmaes(history, moving) else "tpe"), reason


def _suits_cmaes(history: History, moving: bool) -> bool:
    space = history.space
    nominal = (np.asarray(space.kinds) == NOMINAL) & (np.asarray(space.cardinality) > 2)
    if history.n_objectives != 1 or moving or nominal.any() or space.conditional.any():
        return False
    smooth = int((np.asarray(space.cardinality) == 0).sum())
    if space.dims < 2 or 2 * smooth < space.dims or space.size is not None:
        return False
    left, generation = history.trials_left, 4 + 3 * math.log(space.dims)
    return left is None or len(history.evidence) + left >= GP_RESULTS + GENERATIONS * generation
