"""The public face as a type checker sees it. Checked by mypy (test_typing.py), never run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, assert_type

import numpy as np

from hpo_core import (
    Categorical,
    Constant,
    Float,
    Infeasible,
    InputError,
    Int,
    Journal,
    Limits,
    LogNormal,
    Normal,
    Parameter,
    SearchSpace,
    Segment,
    Settings,
    Strategy,
    Study,
    StudyFinished,
    Trial,
    TrialPruned,
    TrialRecord,
    TrialState,
    make_strategy,
    strategy_names,
)
from hpo_core._history import History
from hpo_core._plan import Plan
from hpo_core._strategy import Action, Finish, Proposal, Sampler, Scheduler, Start, Stop, Wait
from hpo_core.testing import check_sampler, check_scheduler

space = SearchSpace(
    {
        "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
        "layers": Int(1, 5),
        "opt": Categorical(["sgd", "adam"]),
        "momentum": Float(0.0, 0.99).when("opt", "sgd"),
        "width": Normal(0.0, 1.0, low=-2.0).when("layers", ge=2),
        "decay": LogNormal(-5.0, 1.0),
        "epochs": Constant(3),
    },
    constraints=["layers <= 4", lambda params: bool(params["lr"] < 0.05)],
)
assert_type(Float(0, 1).when("opt", "sgd"), Float)
assert_type(space.parameters["lr"], Parameter)
assert_type(space.size, int | None)

study = Study(
    space,
    objectives={"loss": "min"},
    strategy="tpe",
    seed=0,
    limits={"trials": 100},
    settings=Settings(workers=4),
    journal=Journal(Path("journal.jsonl")),
)
Study({"x": Float(0, 1)}, limits=Limits(trials=3))
Study()

trial = study.ask()
assert_type(trial, Trial)
assert_type(trial.params, dict[str, Any])
assert_type(trial.target, int | None)
assert_type(trial.suggest_float("x", 0.0, 1.0), float)
assert_type(trial.suggest_int("n", 1, 5, log=True), int)
assert_type(study.report(trial, 1, {"loss": 0.3}), Stop | None)
assert_type(study.report(0, 1, 0.3), Stop | None)
assert_type(study.tell(trial, 0.3), TrialState)
study.tell(trial, {"loss": 0.3}, step=9)
study.tell(trial, np.float32(0.3))
study.tell(trial, {"loss": np.array([0.3])}, step=np.int64(9))
study.extend(trials=np.int64(50))
study.tell(trial, state="failed")
study.tell(trial, state=TrialState.PRUNED)
assert_type(study.best, TrialRecord)
assert_type(study.best.values, dict[str, float])
assert_type(study.pareto_front, list[TrialRecord])
assert_type(study.trials, Sequence[TrialRecord])

due = study.execution.next(now=0.0)
assert_type(due, Segment | Wait | Finish)
if isinstance(due, Segment):
    study.execution.started(due, worker="a")
    assert_type(due.params, dict[str, Any])
study.enqueue({"lr": 0.01})
study.observe({"lr": 0.01}, 0.5)
study.extend(trials=200, seconds=None)
study.change_space(SearchSpace({"lr": Float(1e-4, 1e-2, log=True)}))

assert_type(make_strategy("gp+asha"), Strategy)
assert_type(strategy_names(), list[str])
assert_type(study.strategy.explain(100, 81), Plan)

try:
    raise Infeasible("too large")
except TrialPruned:
    pass
except (InputError, StudyFinished) as error:
    assert_type(error, InputError | StudyFinished)


class MySampler:
    """A third-party sampler needs no base class."""

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        """Anything goes."""

    def sample(self, history: History, rng: np.random.Generator) -> Proposal | None:
        """The centre."""
        return Proposal(history.space.default_unit(), "the centre")


class MyScheduler:
    """Nor does a scheduler."""

    def check(self, n_objectives: int, max_steps: int | None) -> None:
        """Anything goes."""

    def next(self, history: History, rng: np.random.Generator) -> Action:
        """Another one."""
        return Start()

    def judge(self, history: History, trial: int) -> Stop | None:
        """Let it run."""
        return None

    def why(self, history: History, trial: int) -> str:
        """Because."""
        return "it runs"

    def explain(self, trials: int | None, max_steps: int | None) -> Plan:
        """All of it."""
        return Plan()


sampler: Sampler = MySampler()
scheduler: Scheduler = MyScheduler()
factory: Callable[[], Sampler] = MySampler
Study(space, strategy=MySampler())
check_sampler(MySampler)
check_scheduler(MyScheduler)

# What must not pass; mypy reports a comment that silences nothing.
SearchSpace({"x": 3})  # type: ignore[dict-item]
Float("0", 1)  # type: ignore[arg-type]
Int(0, 1, True)  # type: ignore[call-arg]
study.tell(trial, "good")  # type: ignore[arg-type]
study.best.values["loss"].upper()  # type: ignore[attr-defined]
wrong: Sampler = MyScheduler()  # type: ignore[assignment]
