"""Ax with its default generation strategy: the centre, Sobol points, then BoTorch's GP."""

from __future__ import annotations

import logging
import math
import warnings
from typing import Any

from benchmarks.peers._space import active_only
from benchmarks.problems import Problem
from hpo_core import Categorical, Float, Int, Parameter

__all__ = ["AxPeer"]


class AxPeer:
    """``ax.api.client.Client`` by ask and tell."""

    def __init__(self, problem: Problem, variant: str, seed: int, trials: int) -> None:
        from ax.api.client import Client

        del trials
        warnings.simplefilter("ignore")  # BoTorch warns about numerics on most fits
        for name in ("ax.api.client", "ax.core.experiment", "ax"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._space = problem.space
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(
            parameters=[_parameter(n, p) for n, p in problem.space.parameters.items()]
        )
        self._client.configure_optimization(objective="-loss")
        self._client.configure_generation_strategy(method=variant)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        ((number, params),) = self._client.get_next_trials(max_trials=1).items()
        return number, active_only(self._space, params)

    def tell(self, handle: Any, value: float) -> None:
        if math.isnan(value):
            # A trial marked failed may be proposed again, and Ax does so without end where failing
            # is a property of the configuration; one marked abandoned is not.
            self._client.mark_trial_abandoned(trial_index=handle)
        else:
            self._client.complete_trial(trial_index=handle, raw_data={"loss": value})


def _parameter(name: str, parameter: Parameter) -> Any:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    if isinstance(parameter, Float | Int):
        return RangeParameterConfig(
            name=name,
            bounds=(parameter.low, parameter.high),
            parameter_type="float" if isinstance(parameter, Float) else "int",
            scaling="log" if parameter.log else "linear",
        )
    assert isinstance(parameter, Categorical)
    return ChoiceParameterConfig(
        name=name, values=list(parameter.choices), parameter_type="str", is_ordered=False
    )
