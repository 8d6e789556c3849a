"""Hyperopt's TPE, its ``fmin`` loop turned inside out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.peers._space import active_only
from benchmarks.problems import Problem
from hpo_core import Categorical, Float, Int, Parameter, SearchSpace

__all__ = ["HyperoptPeer"]


class HyperoptPeer:
    """``tpe.suggest`` on a ``Trials`` that this class fills as ``fmin`` would."""

    def __init__(self, problem: Problem, variant: str, seed: int, trials: int) -> None:
        from hyperopt import Trials
        from hyperopt.base import Domain

        del variant, trials
        self._space = problem.space
        self._expression = _expression(self._space)
        self._domain = Domain(lambda config: 0.0, self._expression)
        self._trials = Trials()
        self._rng = np.random.default_rng(seed)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        from hyperopt import space_eval, tpe

        ids = self._trials.new_trial_ids(1)
        seed = int(self._rng.integers(2**31 - 1))
        document = tpe.suggest(ids, self._domain, self._trials, seed)[0]
        self._trials.insert_trial_docs([document])
        self._trials.refresh()
        chosen = {k: v[0] for k, v in document["misc"]["vals"].items() if v}
        flat = dict(_flatten(space_eval(self._expression, chosen)))
        return ids[0], active_only(self._space, flat)

    def tell(self, handle: Any, value: float) -> None:
        from hyperopt import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK

        # `trials` leaves failed ones out, `_dynamic_trials` has every document.
        document = next(d for d in reversed(self._trials._dynamic_trials) if d["tid"] == handle)
        document["state"] = JOB_STATE_DONE
        if math.isnan(value):
            document["result"] = {"status": STATUS_FAIL}
        else:
            document["result"] = {"status": STATUS_OK, "loss": value}
        self._trials.refresh()


def _expression(space: SearchSpace) -> dict[str, Any]:
    """``hp`` expressions: children of a categorical parent nested in its choices, the rest flat."""
    nested: dict[str, list[str]] = {}
    roots: list[str] = []
    for name, parameter in space.parameters.items():
        parents = [c.parent for c in parameter.conditions]
        if len(parents) == 1 and isinstance(space.parameters[parents[0]], Categorical):
            nested.setdefault(parents[0], []).append(name)
        else:
            roots.append(name)
    return {name: _node(space, nested, name) for name in roots}


def _node(space: SearchSpace, nested: dict[str, list[str]], name: str) -> Any:
    from hyperopt import hp

    parameter: Parameter = space.parameters[name]
    if isinstance(parameter, Float):
        if parameter.log:
            return hp.loguniform(name, math.log(parameter.low), math.log(parameter.high))
        return hp.uniform(name, parameter.low, parameter.high)
    if isinstance(parameter, Int):
        return hp.uniformint(name, parameter.low, parameter.high)
    assert isinstance(parameter, Categorical)
    options: list[Any] = []
    children = {child: _node(space, nested, child) for child in nested.get(name, [])}
    for choice in parameter.choices:
        below = {
            child: node
            for child, node in children.items()
            if space.parameters[child].conditions[0].holds(choice)
        }
        options.append({name: choice, "below": below} if children else choice)
    return hp.choice(name, options)


def _flatten(values: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """Name and value of every parameter in a nested configuration."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield name, value[name]
            yield from _flatten(value["below"])
        else:
            yield name, value
