"""Optuna's schedulers on the same virtual workers and recorded curves as ours."""

from __future__ import annotations

import heapq
import math
from typing import Any

from benchmarks.curves import STEPS, Curves

__all__ = ["PEERS", "optuna_incumbents"]

PEERS = ("optuna-hyperband", "optuna-median", "optuna-random")


def _study(name: str, seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner: Any = {
        "optuna-hyperband": lambda: optuna.pruners.HyperbandPruner(1, STEPS, 3),
        "optuna-median": optuna.pruners.MedianPruner,
        "optuna-random": optuna.pruners.NopPruner,
    }[name]()
    kind = optuna.samplers.RandomSampler if name == "optuna-random" else optuna.samplers.TPESampler
    return optuna.create_study(sampler=kind(seed=seed), pruner=pruner)


def optuna_incumbents(
    name: str, curves: Curves, workers: int, until: float, seed: int
) -> list[tuple[float, float]]:
    """(time, best loss reported so far) of Optuna's driver loop: ask, report, should_prune, tell."""
    import optuna

    study, best = _study(name, seed), math.inf
    found: list[tuple[float, float]] = []
    events: list[tuple[float, int, Any, int, int]] = []
    count = 0

    def begin(now: float) -> None:
        nonlocal count
        trial = study.ask()
        row = curves.row({n: trial.suggest_int(n, 0, k - 1) for n, k in curves.levels.items()})
        count += 1
        heapq.heappush(events, (now + curves.seconds[row, 0], count, trial, row, 1))

    for _ in range(workers):
        begin(0.0)
    while True:
        now, number, trial, row, step = heapq.heappop(events)
        if now > until:
            return found
        loss = float(curves.loss[row, step - 1])
        trial.report(loss, step)
        if loss < best:
            best = loss
            found.append((now, loss))
        if step == STEPS:
            study.tell(trial, loss)
        elif trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            heapq.heappush(events, (now + curves.seconds[row, step], number, trial, row, step + 1))
            continue
        begin(now)
