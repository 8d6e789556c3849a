"""Other libraries' schedulers on the same virtual workers and recorded curves as ours.

Two kinds. One that stops trials is asked after every step whether to go on (Optuna's pruners, Ray Tune's
ASHA). One that plans budgets hands out a configuration with the step to run it to (SMAC's multi-fidelity
facade, DEHB, Ray Tune's BOHB): a configuration that has been run before goes on from there, which SMAC and
DEHB do not arrange by themselves, so that theirs cost as little as ours; and a worker that they would let
wait waits.
"""

from __future__ import annotations

import heapq
import math
import tempfile
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.curves import STEPS, Curves

__all__ = ["PEERS", "PEER_PACKAGES", "peer_incumbents"]

ETA = 3
Found = list[tuple[float, float]]


class Stopper(Protocol):
    """Decides after each step."""

    def begin(self) -> tuple[Any, Mapping[str, int]]:
        """A new trial and its configuration."""
        ...

    def goes_on(self, trial: Any, step: int, loss: float) -> bool:
        """Take a loss; whether the trial goes on. At the last step the answer means nothing."""
        ...


class Planner(Protocol):
    """Decides beforehand."""

    def ask(self) -> tuple[Any, Hashable, Mapping[str, int], int] | None:
        """A job, what tells its configuration from others, the configuration, the step to run it to."""
        ...

    def tell(self, job: Any, loss: float, seconds: float) -> None:
        """The loss at that step."""
        ...


class _Optuna:
    def __init__(self, name: str, curves: Curves, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pruner: Any = {
            "optuna-hyperband": lambda: optuna.pruners.HyperbandPruner(1, STEPS, ETA),
            "optuna-median": optuna.pruners.MedianPruner,
            "optuna-random": optuna.pruners.NopPruner,
        }[name]()
        kind = optuna.samplers.RandomSampler if name == "optuna-random" else optuna.samplers.TPESampler
        self._levels = curves.levels
        self._pruned = optuna.trial.TrialState.PRUNED
        self._study = optuna.create_study(sampler=kind(seed=seed), pruner=pruner)

    def begin(self) -> tuple[Any, Mapping[str, int]]:
        trial = self._study.ask()
        return trial, {n: trial.suggest_int(n, 0, k - 1) for n, k in self._levels.items()}

    def goes_on(self, trial: Any, step: int, loss: float) -> bool:
        trial.report(loss, step)
        if step == STEPS:
            self._study.tell(trial, loss)
        elif trial.should_prune():
            self._study.tell(trial, state=self._pruned)
            return False
        return True


class _RayTrial:
    """What Ray's schedulers look at in a trial."""

    is_saving = False

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)
        self.status = "PENDING"


class _Ray:
    """Ray Tune's ASHA with the sampler that its users most often give it, Optuna's TPE, or at random.

    Ray's own ``OptunaSearch`` does the same: ask, and tell Optuna what a stopped trial had last.
    """

    def __init__(self, name: str, curves: Curves, seed: int) -> None:
        import optuna
        from ray.tune.schedulers import AsyncHyperBandScheduler

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        kind = optuna.samplers.TPESampler if name == "ray-asha-optuna" else optuna.samplers.RandomSampler
        self._levels = curves.levels
        self._scheduler = AsyncHyperBandScheduler(
            metric="loss", mode="min", max_t=STEPS, grace_period=1, reduction_factor=ETA
        )
        self._study = optuna.create_study(sampler=kind(seed=seed))

    def begin(self) -> tuple[Any, Mapping[str, int]]:
        asked = self._study.ask()
        trial = _RayTrial(asked.number)
        self._scheduler.on_trial_add(None, trial)
        params = {n: asked.suggest_int(n, 0, k - 1) for n, k in self._levels.items()}
        return (trial, asked), params

    def goes_on(self, trial: Any, step: int, loss: float) -> bool:
        own, asked = trial
        result = {"training_iteration": step, "loss": loss}
        if step < STEPS and self._scheduler.on_trial_result(None, own, result) == "CONTINUE":
            return True
        self._scheduler.on_trial_complete(None, own, result)
        self._study.tell(asked, loss if math.isfinite(loss) else 1e30)
        return False


def _integers(curves: Curves, seed: int) -> Any:
    import ConfigSpace

    made = ConfigSpace.ConfigurationSpace(seed=seed)
    made.add([ConfigSpace.Integer(n, (0, k - 1)) for n, k in curves.levels.items()])
    return made


class _SMAC:
    """The ``MultiFidelityFacade``: Hyperband over a random forest."""

    def __init__(self, name: str, curves: Curves, seed: int) -> None:
        from smac import MultiFidelityFacade, Scenario

        del name
        self._folder = tempfile.TemporaryDirectory(prefix="smac-")
        scenario = Scenario(
            _integers(curves, seed),
            deterministic=True,
            n_trials=100_000,
            min_budget=1,
            max_budget=STEPS,
            seed=seed,
            output_directory=Path(self._folder.name),
        )
        self._smac = MultiFidelityFacade(
            scenario,
            lambda config, seed=0, budget=0.0: 0.0,
            intensifier=MultiFidelityFacade.get_intensifier(scenario, eta=ETA),
            overwrite=True,
            logging_level=False,
        )

    def ask(self) -> tuple[Any, Hashable, Mapping[str, int], int] | None:
        try:
            info = self._smac.ask()
        except StopIteration:  # it has run out of configurations
            return None
        params = {n: int(v) for n, v in dict(info.config).items()}
        return info, tuple(params.values()), params, min(max(round(info.budget), 1), STEPS)

    def tell(self, job: Any, loss: float, seconds: float) -> None:
        from smac.runhistory import TrialValue

        self._smac.tell(job, TrialValue(cost=loss if math.isfinite(loss) else 1e30, time=seconds), save=False)


class _DEHB:
    def __init__(self, name: str, curves: Curves, seed: int) -> None:
        from dehb import DEHB

        del name
        self._folder = tempfile.TemporaryDirectory(prefix="dehb-")
        space = _integers(curves, seed)
        self._dehb = DEHB(
            cs=space,
            dimensions=len(space),
            min_fidelity=1,
            max_fidelity=STEPS,
            eta=ETA,
            n_workers=1,  # who asks and tells has workers of its own
            output_path=self._folder.name,
            save_freq=None,
            seed=seed,
            log_level="ERROR",
        )

    def ask(self) -> tuple[Any, Hashable, Mapping[str, int], int] | None:
        job = self._dehb.ask()
        params = {n: int(v) for n, v in dict(job["config"]).items()}
        return job, tuple(params.values()), params, min(max(round(job["fidelity"]), 1), STEPS)

    def tell(self, job: Any, loss: float, seconds: float) -> None:
        self._dehb.tell(job, {"fitness": loss if math.isfinite(loss) else 1e30, "cost": seconds})


class _RayBOHB:
    """Ray Tune's ``HyperBandForBOHB`` with ``TuneBOHB``, which samples by HpBandSter's kernel densities.

    It stands where Ray's controller does between the two and calls them in its order: one new trial is kept
    waiting, the scheduler chooses between it and those that were paused, and the sampler hears of a milestone
    unless the trial ends there.
    """

    def __init__(self, name: str, curves: Curves, seed: int) -> None:
        from ray.tune.schedulers import HyperBandForBOHB
        from ray.tune.search.bohb import TuneBOHB

        del name
        np.random.seed(seed)  # noqa: NPY002 - HpBandSter draws from the global generator
        self.searcher = TuneBOHB(_integers(curves, seed), metric="loss", mode="min", seed=seed)
        self.search_alg = self  # the scheduler reaches the sampler through ``search_alg.searcher``
        self._scheduler = HyperBandForBOHB(metric="loss", mode="min", max_t=STEPS, reduction_factor=ETA)
        self._trials: list[_RayTrial] = []
        # A milestone that the scheduler does not pause a trial at: it keeps its worker.
        self._goes_on: list[_RayTrial] = []

    def get_trials(self) -> list[_RayTrial]:
        """For the scheduler."""
        return self._trials

    def stop_trial(self, trial: _RayTrial) -> None:
        """For the scheduler: a trial that waits is not to go on."""
        if trial.status != "TERMINATED":
            self._scheduler.on_trial_remove(self, trial)
            self.searcher.on_trial_complete(trial.trial_id)
            trial.status = "TERMINATED"

    def _keep_one_waiting(self) -> None:
        if not any(t.status == "PENDING" for t in self._trials):
            self._trials.append(_RayTrial(len(self._trials)))
            self.searcher.suggest(self._trials[-1].trial_id)
            self._scheduler.on_trial_add(self, self._trials[-1])

    def ask(self) -> tuple[Any, Hashable, Mapping[str, int], int] | None:
        self._keep_one_waiting()
        trial = self._goes_on.pop() if self._goes_on else self._scheduler.choose_trial_to_run(self)
        trial.status = "RUNNING"
        params = {n: int(v) for n, v in dict(self.searcher.trial_to_params[trial.trial_id]).items()}
        # By trial: it takes a configuration that comes again for a new one, and trains that one anew.
        return trial, trial.trial_id, params, self._milestone(trial)

    def _milestone(self, trial: _RayTrial) -> int:
        return int(self._scheduler._trial_info[trial][0]._cumul_r)

    def tell(self, job: Any, loss: float, seconds: float) -> None:
        del seconds
        self._keep_one_waiting()  # while the job ran
        result = {"training_iteration": self._milestone(job), "loss": loss if math.isfinite(loss) else 1e30}
        decision = self._scheduler.on_trial_result(self, job, result)
        if decision == "STOP":
            self._scheduler.on_trial_complete(self, job, result)
            self.searcher.on_trial_complete(job.trial_id, result=result)
            job.status = "TERMINATED"
            return
        self.searcher.on_trial_result(job.trial_id, result)
        if decision == "PAUSE":
            job.status = "PAUSED"
        else:
            self._goes_on.append(job)


_STOPPERS: dict[str, Callable[[str, Curves, int], Stopper]] = {
    "optuna-hyperband": _Optuna,
    "optuna-median": _Optuna,
    "optuna-random": _Optuna,
    "ray-asha": _Ray,
    "ray-asha-optuna": _Ray,
}
_PLANNERS: dict[str, Callable[[str, Curves, int], Planner]] = {
    "smac-multi-fidelity": _SMAC,
    "dehb": _DEHB,
    "ray-bohb": _RayBOHB,
}
PEERS = (*_STOPPERS, *_PLANNERS)
PEER_PACKAGES = ("optuna", "ray", "hpbandster", "smac", "dehb")


def peer_incumbents(name: str, curves: Curves, workers: int, until: float, seed: int) -> Found:
    """(time, best loss reported so far) of a peer on virtual workers."""
    if name in _STOPPERS:
        return _stopping(_STOPPERS[name](name, curves, seed), curves, workers, until)
    return _planning(_PLANNERS[name](name, curves, seed), curves, workers, until)


def _stopping(peer: Stopper, curves: Curves, workers: int, until: float) -> Found:
    found: Found = []
    events: list[tuple[float, int, Any, int, int]] = []
    count = 0

    def begin(now: float) -> None:
        nonlocal count
        trial, params = peer.begin()
        row = curves.row(params)
        count += 1
        heapq.heappush(events, (now + curves.seconds[row, 0], count, trial, row, 1))

    for _ in range(workers):
        begin(0.0)
    while events[0][0] <= until:
        now, number, trial, row, step = heapq.heappop(events)
        loss = float(curves.loss[row, step - 1])
        _note(found, now, loss)
        if peer.goes_on(trial, step, loss) and step < STEPS:
            heapq.heappush(events, (now + curves.seconds[row, step], number, trial, row, step + 1))
        else:
            begin(now)
    return found


def _planning(peer: Planner, curves: Curves, workers: int, until: float) -> Found:
    found: Found = []
    # The next step of each job that runs: (time, number, job, key, row, step, target, when it began)
    events: list[tuple[float, int, Any, Hashable, int, int, int, float]] = []
    trained: dict[Hashable, int] = {}
    count = 0

    def begin(now: float) -> bool:
        nonlocal count
        asked = peer.ask()
        if asked is None:
            return False
        job, key, params, target = asked
        row, done = curves.row(params), trained.get(key, 0)
        if target <= done:  # known already: it takes no time
            peer.tell(job, float(curves.loss[row, target - 1]), 0.0)
            return True
        count += 1
        at = now + curves.seconds[row, done]
        heapq.heappush(events, (at, count, job, key, row, done + 1, target, now))
        return True

    _fill(begin, events, workers, 0.0)
    while events and events[0][0] <= until:
        now, number, job, key, row, step, target, began = heapq.heappop(events)
        loss = float(curves.loss[row, step - 1])
        _note(found, now, loss)
        trained[key] = max(trained.get(key, 0), step)
        if step < target:
            at = now + curves.seconds[row, step]
            heapq.heappush(events, (at, number, job, key, row, step + 1, target, began))
            continue
        peer.tell(job, loss, now - began)
        _fill(begin, events, workers, now)
    return found


# Jobs in a row that a peer may ask for whose answer is known: more, and it has nothing new left.
_KNOWN_IN_A_ROW = 2000


def _fill(begin: Callable[[float], bool], events: list[Any], workers: int, now: float) -> None:
    """Give each free worker a job."""
    for _ in range(_KNOWN_IN_A_ROW):
        if len(events) >= workers or not begin(now):
            return


def _note(found: Found, now: float, loss: float) -> None:
    if loss < (found[-1][1] if found else math.inf):
        found.append((now, loss))
