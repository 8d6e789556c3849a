"""The ``cmaes`` package on its own, for continuous problems: the reference for our fold over it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.problems import Problem
from hpo_core import Float

__all__ = ["CmaesPeer"]


class CmaesPeer:
    """CMA-ES in the unit cube from its centre, step size 1/6; ``ipop`` restarts with twice the
    population when the package says that it should stop.
    """

    def __init__(self, problem: Problem, variant: str, seed: int, trials: int) -> None:
        del trials
        for name, parameter in problem.space.parameters.items():
            if not isinstance(parameter, Float) or parameter.conditions:
                raise ValueError(
                    f"expected floats only, got {name!r}: {parameter!r}; the cmaes package knows "
                    "no other kind: choose problems of the bbob families"
                )
        self._space = problem.space
        self._restarts = variant == "ipop"
        self._seed = seed
        self._optimizer = self._new(population=None)
        self._told: list[tuple[Any, float]] = []

    def _new(self, population: int | None) -> Any:
        from cmaes import CMA

        dims = self._space.dims
        return CMA(
            mean=np.full(dims, 0.5),
            sigma=1.0 / 6.0,
            bounds=np.tile([0.0, 1.0], (dims, 1)),
            population_size=population,
            seed=self._seed,
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        point = self._optimizer.ask()
        return point, self._space.decode(point)

    def tell(self, handle: Any, value: float) -> None:
        self._told.append((handle, 1e300 if math.isnan(value) else value))
        if len(self._told) < self._optimizer.population_size:
            return
        self._optimizer.tell(self._told)
        self._told = []
        if self._restarts and self._optimizer.should_stop():
            self._seed += 1
            self._optimizer = self._new(2 * self._optimizer.population_size)
