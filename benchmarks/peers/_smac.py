"""SMAC3's hyperparameter-optimisation facade: random forest, log EI, interleaved random points."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers._space import active_only
from benchmarks.problems import Problem
from hpo_core import Categorical, Float, Int, Parameter, SearchSpace

__all__ = ["SmacPeer"]


class SmacPeer:
    """``HyperparameterOptimizationFacade`` by ask and tell, each configuration run once."""

    def __init__(self, problem: Problem, variant: str, seed: int, trials: int) -> None:
        from smac import HyperparameterOptimizationFacade, Scenario

        del variant
        self._space = problem.space
        self._worst = -math.inf
        # Removed with this object; SMAC insists on writing its run history somewhere.
        self._folder = tempfile.TemporaryDirectory(prefix="smac-")
        scenario = Scenario(
            _configuration_space(problem.space, seed),
            deterministic=True,
            n_trials=trials,
            seed=seed,
            output_directory=Path(self._folder.name),
        )
        self._smac = HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        info = self._smac.ask()
        plain = {k: getattr(v, "item", lambda v=v: v)() for k, v in dict(info.config).items()}
        return info, active_only(self._space, plain)

    def tell(self, handle: Any, value: float) -> None:
        from smac.runhistory import StatusType, TrialValue

        if math.isnan(value):
            # SMAC's own default for a crash, infinity, makes its forest's fit fail.
            cost = self._worst if math.isfinite(self._worst) else 1e10
            self._smac.tell(handle, TrialValue(cost=cost, status=StatusType.CRASHED))
        else:
            self._worst = max(self._worst, value)
            self._smac.tell(handle, TrialValue(cost=value))


def _configuration_space(space: SearchSpace, seed: int) -> Any:
    import ConfigSpace

    made = ConfigSpace.ConfigurationSpace(seed=seed)
    made.add([_parameter(name, p) for name, p in space.parameters.items()])
    for name, parameter in space.parameters.items():
        if parameter.conditions:
            made.add(_condition(made, space, name))
    return made


def _parameter(name: str, parameter: Parameter) -> Any:
    import ConfigSpace

    if isinstance(parameter, Float):
        return ConfigSpace.Float(name, (parameter.low, parameter.high), log=parameter.log)
    if isinstance(parameter, Int):
        return ConfigSpace.Integer(name, (parameter.low, parameter.high), log=parameter.log)
    assert isinstance(parameter, Categorical)
    return ConfigSpace.Categorical(name, list(parameter.choices))


def _condition(made: Any, space: SearchSpace, name: str) -> Any:
    import ConfigSpace

    (condition,) = space.parameters[name].conditions
    child, parent = made[name], made[condition.parent]
    if condition.values:
        return ConfigSpace.InCondition(child, parent, list(condition.values))
    above = space.parameters[condition.parent]
    assert isinstance(above, Int)
    allowed = [v for v in range(above.low, above.high + 1) if condition.holds(v)]
    return ConfigSpace.InCondition(child, parent, allowed)
