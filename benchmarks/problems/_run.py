"""Run one optimiser on one problem, with any number of trials in flight."""

from __future__ import annotations

import math
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems._problem import Problem

__all__ = ["AskTell", "OurStudy", "Trace", "drive", "noise_rng", "run"]


class AskTell(Protocol):
    """What the loop needs of an optimiser, ours or a peer's."""

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """A handle for ``tell``, and the active parameters."""
        ...

    def tell(self, handle: Any, value: float) -> None:
        """Report a trial's minimised value; ``nan`` means that it failed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What happened in one run, in the order the trials finished.

    observed   (n,) reported values, ``nan`` for failures
    regret     (n,) normalised regret of the incumbent: the best observed so far, by its true value
    ask, tell            (n,) seconds of the wall clock spent in the two calls
    ask_cpu, tell_cpu    (n,) seconds of processor time, which other work hardly changes
    """

    observed: NDArray[np.float64]
    regret: NDArray[np.float64]
    ask: NDArray[np.float64]
    tell: NDArray[np.float64]
    ask_cpu: NDArray[np.float64]
    tell_cpu: NDArray[np.float64]

    def at(self, trials: int) -> float:
        """Regret of the incumbent after ``trials`` finished trials."""
        return float(self.regret[trials - 1])


class OurStudy:
    """A study of ours behind :class:`AskTell`."""

    def __init__(self, problem: Problem, strategy: Any, seed: int, trials: int, workers: int) -> None:
        from hpo_core import Study

        self._study = Study(
            problem.space,
            objectives={"loss": "min"},
            strategy=strategy,
            seed=seed,
            limits={"trials": trials},
            settings={"workers": workers},
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        trial = self._study.ask()
        return trial, dict(trial.params)

    def tell(self, handle: Any, value: float) -> None:
        if math.isnan(value):
            self._study.tell(handle, state="failed")
        else:
            self._study.tell(handle, {"loss": value})


def noise_rng(problem: Problem, seed: int, number: int) -> np.random.Generator:
    """The noise of trial ``number``: the same draw for every optimiser, whatever it asks for."""
    return np.random.default_rng([zlib.crc32(problem.name.encode()), seed, number])


def drive(problem: Problem, make: Callable[[], AskTell], seed: int, trials: int, workers: int = 1) -> Trace:
    """Run ``trials`` trials with ``workers`` in flight; the oldest in flight finishes first.

    Asking ``workers`` ahead and telling in order is an asynchronous pool whose trials all take
    equally long; the number of finished trials is what the regret is indexed by.
    """
    optimiser = make()
    waiting: deque[tuple[int, Any, dict[str, Any]]] = deque()
    observed: list[float] = []
    regret: list[float] = []
    asks: list[tuple[float, float]] = []
    tells: list[tuple[float, float]] = []
    best, incumbent = math.inf, problem.median
    while len(observed) < trials:
        while len(asks) < trials and len(waiting) < workers:
            start = _now()
            handle, params = optimiser.ask()
            asks.append(_since(start))
            waiting.append((len(asks) - 1, handle, params))
        number, handle, params = waiting.popleft()
        value = problem.evaluate(params, noise_rng(problem, seed, number))
        start = _now()
        optimiser.tell(handle, value)
        tells.append(_since(start))
        observed.append(value)
        if value < best:
            best, incumbent = value, problem.true(params)
        regret.append(problem.normalised(incumbent))
    spent = np.array([asks, tells])
    return Trace(
        observed=np.array(observed),
        regret=np.array(regret),
        ask=spent[0, :, 0],
        tell=spent[1, :, 0],
        ask_cpu=spent[0, :, 1],
        tell_cpu=spent[1, :, 1],
    )


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = _now()
    return wall - start[0], cpu - start[1]


def run(problem: Problem, strategy: Any, seed: int, trials: int, workers: int = 1) -> Trace:
    """Run our ``strategy`` (a name, or a configured object) on ``problem``."""
    return drive(problem, lambda: OurStudy(problem, strategy, seed, trials, workers), seed, trials, workers)
