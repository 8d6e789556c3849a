"""A study reduced to what a sampler sees: ask, tell, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hpo_core._history import History
from hpo_core._propose import sampler_rng
from hpo_core._space import Categorical, Constant, Float, Int, LogNormal, Normal, SearchSpace
from hpo_core._states import TrialState
from hpo_core._strategy import Sampler


class Loop:
    """Drives ``sampler`` over ``space`` the way a study does, without journal or budget."""

    def __init__(
        self,
        sampler: Sampler,
        space: SearchSpace,
        *,
        seed: int = 0,
        objectives: Sequence[str] | Mapping[str, str] = ("loss",),
        workers: int = 1,
    ) -> None:
        self.sampler = sampler
        directions = objectives if isinstance(objectives, Mapping) else dict.fromkeys(objectives, "min")
        self.history = History(space=space, objectives=directions, seed=seed, workers=workers)
        sampler.check(space, len(objectives))
        self.notes: list[str] = []

    def propose(self) -> np.ndarray | None:
        """What the sampler would ask next, without asking it."""
        history = self.history
        proposal = self.sampler.sample(history, sampler_rng(history, history.n_trials))
        if proposal is None:
            return None
        self.notes.append(proposal.note)
        return proposal.u

    def due(self) -> np.ndarray:
        """What the sampler would ask next, of which there must be something."""
        u = self.propose()
        assert u is not None
        return u

    def ask(self) -> dict[str, Any] | None:
        """Ask the sampler and start the trial."""
        u = self.propose()
        return None if u is None else self.start(self.history.space.decode(u))

    def start(self, params: dict[str, Any]) -> dict[str, Any]:
        """Start a trial of the caller's choice."""
        self.history._ask(params, target=None, bracket=0, parent=None, start=0)
        self.history.length += 1
        return params

    def report(self, trial: int, step: int, *values: float) -> None:
        """An intermediate result."""
        metrics = dict(zip(self.history.objectives, values, strict=True))
        self.history._report(trial, step, metrics)
        self.history.length += 1

    def tell(self, trial: int, *values: float, state: TrialState = TrialState.COMPLETE) -> None:
        """Finish a trial; a NaN among the values makes it a failed one."""
        if state is TrialState.COMPLETE and not np.isfinite(values).all():
            state = TrialState.FAILED
        metrics = dict(zip(self.history.objectives, values, strict=True))
        self.history._finish(trial, state, metrics, int(self.history.steps[trial]))
        self.history.length += 1

    def observe(self, params: dict[str, Any], *values: float) -> None:
        """A warm-start observation."""
        self.history._observe(params, dict(zip(self.history.objectives, values, strict=True)))
        self.history.length += 1

    def run(self, objective: Callable[[dict[str, Any]], Any], trials: int, parallel: int = 1) -> None:
        """Ask and tell ``trials`` trials, the oldest of ``parallel`` in flight finishing first."""
        waiting: list[tuple[int, dict[str, Any]]] = []
        asked = 0
        while asked < trials or waiting:
            while asked < trials and len(waiting) < parallel:
                params = self.ask()
                if params is None:
                    trials = asked
                    break
                waiting.append((self.history.n_trials - 1, params))
                asked += 1
            if waiting:
                trial, params = waiting.pop(0)
                self.tell(trial, *np.atleast_1d(objective(params)).tolist())


def mixed_space() -> SearchSpace:
    """Every kind of parameter, conditions two levels deep, and a constraint."""
    return SearchSpace(
        {
            "lr": Float(1e-5, 1e-1, log=True),
            "ratio": Float(0.0, 1.0, step=0.25),
            "layers": Int(1, 4),
            "units": Int(1, 512, log=True),
            "size": Categorical(["s", "m", "l"], ordered=True),
            "opt": Categorical(["sgd", "adam", "lamb"]),
            "momentum": Float(0.0, 0.99).when("opt", "sgd"),
            "nesterov": Categorical([False, True]).when("opt", "sgd").when("momentum", ge=0.5),
            "beta": Normal(0.9, 0.05, low=0.0, high=1.0).when("opt", "adam", "lamb"),
            "decay": LogNormal(-5.0, 1.0),
            "epochs": Constant(3),
        },
        constraints=["ratio + layers <= 4.5"],
    )


def small_space() -> SearchSpace:
    """Sixteen configurations, some of them conditional."""
    return SearchSpace(
        {
            "a": Int(0, 4),
            "b": Categorical(["x", "y"]),
            "c": Float(0.0, 1.0, step=0.5).when("b", "y").when("a", ge=2),
        },
    )
