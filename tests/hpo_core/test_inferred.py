"""Conditions that a define-by-run study finds out from what its objective asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_core import Categorical, Int, SearchSpace, StrategyError, Study, Trial, TrialState
from hpo_core import _events as ev
from hpo_core._conditions import Condition
from hpo_core._history import History
from hpo_core._strategies import SAMPLERS
from hpo_core._strategy import Proposal
from tests.hpo_core.studies import recorded

Objective = Callable[[Trial], float]


def run(study: Study, objective: Objective, trials: int) -> list[Trial]:
    """So many trials, one after the other."""
    done = []
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, objective(trial))
        done.append(trial)
    return done


def conditions(study: Study, name: str) -> tuple[Condition, ...]:
    """What the study takes the parameter to depend on; known from the next trial on."""
    study.ask()
    return study.space.parameters[name].conditions


def classifier(trial: Trial) -> float:
    """Two levels: a kernel for one model, a gamma for one kernel."""
    size = trial.suggest_float("size", 0.0, 1.0)
    if trial.suggest_categorical("model", ["forest", "svc", "linear"]) != "svc":
        return size
    if trial.suggest_categorical("kernel", ["flat", "rbf"]) == "flat":
        return size / 2
    return size * trial.suggest_float("gamma", 1e-3, 1.0, log=True)


def layers(trial: Trial) -> float:
    """Widths of layers that only deep networks have."""
    n = trial.suggest_int("n", 1, 6)
    return float(n + sum(trial.suggest_int(f"width{i}", 1, 100) for i in range(1, 7) if i <= n))


# Grid has not come to every branch after 30 trials, and CMA-ES refuses three choices without an order.
@pytest.mark.parametrize("strategy", sorted(SAMPLERS.keys() - {"grid", "cmaes"}))
def test_branches_become_conditions(strategy: str) -> None:
    study = Study(strategy=strategy, settings={"on_duplicate": "repeat"})
    run(study, classifier, 30)
    assert conditions(study, "kernel") == (Condition("model", ("svc",)),)
    assert conditions(study, "gamma") == (Condition("kernel", ("rbf",)),)
    assert conditions(study, "model") == conditions(study, "size") == ()


def test_a_threshold_becomes_one() -> None:
    study = Study(strategy="random")
    run(study, layers, 60)
    for i in range(2, 7):
        assert conditions(study, f"width{i}") == (Condition("n", ge=i),)
    assert conditions(study, "width1") == ()


def test_a_threshold_from_above_leaves_what_was_not_seen_to_the_objective() -> None:
    study = Study(strategy="random")
    for n in (1, 2, 1, 2, 1, 8, 9, 8):
        study.enqueue({"n": n})

    def small(trial: Trial) -> float:
        n = trial.suggest_int("n", 1, 9)
        return trial.suggest_float("x", 0.0, 1.0) if n <= 4 else 1.0

    run(study, small, 8)
    assert conditions(study, "x") == (Condition("n", le=7),)


@pytest.mark.parametrize(
    "asked, condition", [((0.75, 1.0), Condition("x", ge=0.625)), ((0.125, 0.25), Condition("x", le=0.375))]
)
def test_a_threshold_on_a_real_number_lies_in_the_middle(
    asked: tuple[float, float], condition: Condition
) -> None:
    study = Study(strategy="random")
    for x in (0.125, 0.25, 0.5, 0.75, 1.0, 0.125, 1.0):
        study.enqueue({"x": x})
    low, high = asked

    def part(trial: Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        return trial.suggest_float("y", 0.0, 1.0) if low <= x <= high else x

    run(study, part, 7)
    assert conditions(study, "y") == (condition,)


@pytest.mark.parametrize("turned", [1, -1])
def test_a_value_with_and_without_is_no_threshold(turned: int) -> None:
    """What depends on two things at once stays unconditional."""
    study = Study(strategy="random")
    for n in (1, 2, 2, 3, 1, 3, 1, 3, 2, 2):
        study.enqueue({"n": turned * n})

    def some(trial: Trial) -> float:
        n = turned * trial.suggest_int("n", -3, 3)
        return trial.suggest_float("y", 0.0, 1.0) if n == 1 or (n == 2 and trial.number % 2) else 0.0

    run(study, some, 10)
    assert conditions(study, "y") == ()


def test_nothing_is_proposed_for_a_branch_that_is_not_taken() -> None:
    """What was asked for and what was proposed are the same, once the conditions are known."""
    study = Study(strategy="random", seed=1)
    run(study, classifier, 30)
    for trial in run(study, lambda t: 0.0, 10):
        assert ("kernel" in trial.params) == (trial.params["model"] == "svc")
        assert ("gamma" in trial.params) == (trial.params.get("kernel") == "rbf")


def test_few_trials_are_no_proof() -> None:
    study = Study(strategy="random")
    for model in ("forest", "svc", "linear", "svc", "forest"):
        study.enqueue({"model": model})
    run(study, classifier, 5)
    assert conditions(study, "kernel") == ()


def test_a_contradiction_removes_a_condition_for_good() -> None:
    """The objective was changed: a value that it asks for is used, though it was taken to be inactive."""
    study = Study(strategy="random")
    run(study, classifier, 30)
    assert conditions(study, "kernel")

    def always(trial: Trial) -> float:
        model = trial.suggest_categorical("model", ["forest", "svc", "linear"])
        return float(len(trial.suggest_categorical("kernel", ["flat", "rbf"]) + model))

    for trial in run(study, always, 6):
        assert study.trials[trial.number].params.keys() == {"model", "kernel"}
    assert conditions(study, "kernel") == ()
    run(study, classifier, 30)
    assert conditions(study, "kernel") == ()
    assert np.isfinite(study.history.X[-20:, study.space.column_names.index("kernel")]).any()


def test_a_failed_trial_proves_nothing() -> None:
    """It may have ended before it asked."""
    study = Study(strategy="random")
    for i in range(20):
        trial = study.ask()
        if trial.suggest_categorical("kind", ["good", "bad"]) == "bad":
            study.tell(trial, state="failed")
        else:
            study.tell(trial, trial.suggest_float("x", 0.0, 1.0) + i)
    assert conditions(study, "x") == ()


def test_a_queued_value_is_kept_for_an_objective_that_may_ask_for_it() -> None:
    study = Study(strategy="random")
    run(study, classifier, 30)
    study.enqueue({"model": "forest", "kernel": "rbf"})
    assert study.ask().suggest_categorical("kernel", ["flat", "rbf"]) == "rbf"


def test_declared_parameters_keep_the_conditions_that_they_have() -> None:
    """Somebody who declares a space means it."""
    study = Study({"kind": Categorical(["a", "b"]), "n": Int(1, 500)}, strategy="random")
    for trial in run(study, lambda t: 0.0, 20):
        assert trial.params.keys() == {"kind", "n"}
    assert all(p.conditions == () for p in study.space.parameters.values())


def test_a_sampler_that_takes_no_conditions_goes_on_without() -> None:
    """It is not the user who declared one, so nobody is to be told, and the study must not end."""

    class Flat:
        def check(self, space: SearchSpace, n_objectives: int) -> None:
            if space.conditional.any():
                raise StrategyError("flat: takes no conditions")

        def sample(self, history: History, rng: np.random.Generator) -> Proposal:
            return Proposal(u=history.space.sample(rng, 1)[0], note="prior")

    study = Study(strategy=Flat())
    run(study, classifier, 30)
    assert conditions(study, "kernel") == ()


def _running(study: Study) -> bool:
    return bool(study.history.count(TrialState.RUNNING))


# How each parameter below depends on an earlier one: its number and which half of its values, or on none.
TREES = st.lists(st.none() | st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=2, max_size=5)


@settings(max_examples=15)
@given(tree=TREES, seed=st.integers(0, 1000), categorical=st.booleans())
def test_any_tree_of_conditions(tree: list[Any], seed: int, categorical: bool) -> None:
    """Conditions say what the objective does; all of it is in the journal, and replays from any cut."""

    def objective(trial: Trial) -> float:
        values: dict[int, int] = {}
        for i, depends in enumerate(tree):
            on = depends is None or depends[0] >= i or values.get(depends[0], -1) // 2 == depends[1]
            if on and categorical:
                values[i] = trial.suggest_categorical(f"p{i}", [0, 1, 2, 3])
            elif on:
                values[i] = trial.suggest_int(f"p{i}", 0, 3)
        return float(sum(values.values()))

    study, journal = recorded(None, strategy="random", seed=seed, settings={"on_duplicate": "repeat"})
    run(study, objective, 40)
    study.ask()
    for trial in study.trials[:-1]:
        u = study.history.X[trial.number]
        assert study.space.decode(u).keys() == trial.params.keys()
    for i, depends in enumerate(tree):
        if f"p{i}" in study.space.names:
            for condition in study.space.parameters[f"p{i}"].conditions:
                assert depends is not None
                assert condition.parent < f"p{i}"
    events = journal.events()
    assert sum(e.type == "space_changed" for e in events) <= 4 * len(tree) + len(study.space.names)
    asked = {e.trial: e.params for e in events if isinstance(e, ev.TrialAsked)}
    idle = [
        again for n in range(len(events) - 12, len(events)) if not _running(again := Study.replay(events[:n]))
    ]
    assert idle
    for again in idle:
        next_one = again.ask()
        assert next_one.params == asked[next_one.number]
