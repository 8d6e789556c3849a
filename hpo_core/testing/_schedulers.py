"""What every scheduler must do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import numpy as np

from hpo_core._errors import StrategyError
from hpo_core._plan import Plan
from hpo_core._space import Float, SearchSpace
from hpo_core._states import TrialState
from hpo_core._strategies import compose
from hpo_core._strategy import Close, Finish, Fork, Resume, Scheduler, Start, Strategy, Wait
from hpo_core._study import Study
from hpo_core.testing._replay import check_replays
from hpo_core.testing._script import Script

__all__ = ["check_scheduler"]

_SPACE = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def check_scheduler(
    factory: Callable[[], Scheduler],
    *,
    max_steps: int = 9,
    trials: int = 20,
    workers: Iterable[int] = (1, 4),
    objectives: Iterable[int] = (1, 2),
    troubles: Iterable[float] = (0.0, 0.3),
    replayed_events: int = 150,
    elsewhere: int = 3,
) -> None:
    """Hold the schedulers that ``factory`` makes to what a study relies on.

    A study of ``trials`` trials of ``max_steps`` steps, with every number of workers and objectives that
    ``check`` does not refuse, and with workers that fail, diverge and vanish as often as ``troubles`` say:
    it ends; it never waits while nothing runs; it stays within the trials; actions are possible (a
    resumed trial is paused and goes up, a fork's source has been where it starts); the same question
    gets the same answer; ``explain`` and ``why`` speak; and the replay contract holds, with a study of
    ``replayed_events`` events.

    ``elsewhere``: after how many of these another process has to decide the same; 0 starts none, for whoever
    holds many schedulers to that with one process (:func:`check_replays`).

    Raises :class:`AssertionError` saying what was expected and what came.
    """
    accepted = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for m in objectives:
            try:
                factory().check(m, max_steps)
            except StrategyError as refusal:
                _require(len(str(refusal)) > 20, "check", "a refusal that says why", str(refusal))
                continue
            accepted += 1
            _check_plan(factory(), trials, max_steps)
            for n in workers:
                for trouble in troubles:
                    script = Script(seed=n, workers=n, max_steps=max_steps, trouble=trouble, asides=0.0)
                    _check_run(_strategy(factory), m, script, trials)
        if not accepted:
            raise AssertionError("the scheduler refused every number of objectives")
        m = next(m for m in objectives if _takes(factory(), m, max_steps))
        check_replays(
            {"scheduler": lambda: _strategy(factory)},
            space=_SPACE,
            objectives=_names(m),
            trials=trials,
            events=replayed_events,
            script=Script(max_steps=max_steps),
            every=3,
            elsewhere=elsewhere,
        )


def _names(m: int) -> dict[str, str]:
    return {f"objective{i}": ("min", "max")[i % 2] for i in range(m)}


def _takes(scheduler: Scheduler, m: int, max_steps: int) -> bool:
    try:
        scheduler.check(m, max_steps)
    except StrategyError:
        return False
    return True


def _strategy(factory: Callable[[], Scheduler]) -> Strategy:
    from hpo_core.samplers import Random

    return compose(Random(), factory())


def _check_plan(scheduler: Scheduler, trials: int, max_steps: int) -> None:
    for n in (trials, None):
        plan = scheduler.explain(n, max_steps)
        _require(isinstance(plan, Plan), "explain", "a Plan", plan)
        _require(bool(plan.lines) and all(plan.lines), "explain", "lines that say what will happen", plan)
        steps = [step for _, _, _, step in plan.rungs]
        _require(all(1 <= s <= max_steps for s in steps), "explain", f"rungs of 1 to {max_steps} steps", plan)


def _check_run(strategy: Strategy, m: int, script: Script, trials: int) -> None:
    study = Study(
        _SPACE,
        _names(m),
        strategy,
        limits={"trials": trials},
        settings={"max_steps": script.max_steps, "workers": script.workers},
    )
    where = f"{m} objectives, {script.workers} workers, trouble {script.trouble}"
    # A trial can take a report, a pause and a resume for each step, and be lost a few times.
    for _ in range(trials * (3 * script.max_steps + 40)):
        _check_action(study, where)
        if not script.act(study):
            break
    else:
        raise AssertionError(f"{where}: expected an end, but the study goes on for ever: {study!r}")
    history = study.history
    forks = int((history.parents >= 0).sum())
    _require(history.n_trials - forks <= trials, where, f"at most {trials} trials", history.n_trials)
    _require(history.n_trials > 0, where, "some trials", history.n_trials)
    if not script.trouble:
        done = history.count(TrialState.COMPLETE)
        _require(done > 0, where, "at least one complete trial", study)
        _require(bool(np.isin(history.states, _CALM).all()), where, "no failures out of nothing", study)
    for trial in study.trials:
        _require(bool(study.why(trial.number)), where, "a reason for every trial", trial)


_CALM = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PAUSED]


def _check_action(study: Study, where: str) -> None:
    history, decider = study.history, study.execution.decider
    action, again = decider.ask_scheduler(), decider.ask_scheduler()
    _require(repr(action) == repr(again), where, "the same answer to the same question", (action, again))
    match action:
        case Start(target):
            _require(target is None or target >= 1, where, "a target of at least 1, or None", action)
        case Resume(trial, target):
            paused = history.states[trial] == TrialState.PAUSED
            _require(bool(paused), where, "a paused trial to resume", action)
            higher = target is None or target > history.steps[trial]
            _require(bool(higher), where, f"a target above step {history.steps[trial]}", action)
        case Fork(source, step, u, target):
            _require(
                0 < step <= history.steps[source], where, "a fork from where the source has been", action
            )
            _require(u.shape == (history.space.dims,), where, "a configuration for the fork", action)
            _require(target is None or target > step, where, f"a target above step {step}", action)
        case Close(trial, _):
            _require(history.states[trial] == TrialState.PAUSED, where, "a paused trial to close", action)
        case Wait(reason) | Finish(reason):
            _require(bool(reason), where, "a reason", action)
            open_ = history.count(TrialState.RUNNING) + history.count(TrialState.WAITING)
            _require(
                bool(open_) or isinstance(action, Finish), where, "no waiting while nothing runs", action
            )
        case other:
            raise AssertionError(f"{where}: expected an Action, got {other!r}")


def _require(condition: bool, where: str, expected: str, got: object) -> None:
    if not condition:
        raise AssertionError(f"{where}: expected {expected}, got {got!r}")
