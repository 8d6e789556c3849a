"""Optuna's samplers: TPE (its default), GP, CMA-ES, random."""

from __future__ import annotations

import math
import warnings
from typing import Any

from benchmarks.peers._space import activate
from benchmarks.problems import Problem
from hpo_core import Categorical, Float, Int, Parameter

__all__ = ["OptunaPeer"]


class OptunaPeer:
    """A study in memory, asked define-by-run, so that conditions are Optuna's own."""

    def __init__(self, problem: Problem, variant: str, seed: int, trials: int) -> None:
        import optuna

        del trials  # Optuna is not told how many trials to expect
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        make = {
            "random": optuna.samplers.RandomSampler,
            "tpe": optuna.samplers.TPESampler,
            "gp": optuna.samplers.GPSampler,
            "cmaes": optuna.samplers.CmaEsSampler,
        }[variant]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental-feature notices
            self._study = optuna.create_study(sampler=make(seed=seed))
        self._failed = optuna.trial.TrialState.FAIL
        self._space = problem.space

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self._study.ask()

        def suggest(name: str, parameter: Parameter) -> Any:
            if isinstance(parameter, Float):
                return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)
            if isinstance(parameter, Int):
                return trial.suggest_int(name, parameter.low, parameter.high, log=parameter.log)
            assert isinstance(parameter, Categorical)
            return trial.suggest_categorical(name, parameter.choices)

        return trial, activate(self._space, suggest)

    def tell(self, handle: Any, value: float) -> None:
        if math.isnan(value):
            self._study.tell(handle, state=self._failed)
        else:
            self._study.tell(handle, value)
