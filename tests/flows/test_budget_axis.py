"""Which budget axis a ready objective gets: what the strategy can use, unless the user names one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from flows._plan import plan_request
from flows._request import Request
from flows.cli._dry_run import pace_of
from flows.objectives import _base, _splits
from hpo_core import StrategyError, TrialState, make_strategy
from tests.flows.conftest import Hpo, Place

TABLE = "sklearn:wine"


def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a table of more than a hundred rows were a large one."""
    monkeypatch.setattr(_splits, "_MANY_ROWS", 100)
    monkeypatch.setattr(_splits, "_MANY_OF_A_CLASS", 10)
    _base._load.cache_clear()


def planned(objective: str, strategy: str, **options: object) -> tuple[object, int | None, str]:
    """Budget axis, length and notes of a plan."""
    plan = plan_request(
        Request(objective=objective, data=TABLE, strategy=strategy, trials=20, options=options)
    )
    axis = getattr(plan.table, "budget", "epochs")
    return axis, plan.terms.settings.max_steps, " ".join(plan.notes)


@pytest.mark.parametrize(
    "strategy",
    ["asha", "asha_stopping", "hyperband", "bohb", "successive_halving", "multi_fidelity", "pbt", "gp+asha"],
)
def test_strategies_that_compare_training_get_training(strategy: str) -> None:
    assert planned("lgbm", strategy)[:2] == ("rounds", 100)


@pytest.mark.parametrize("strategy", ["auto", "random", "tpe", "median", "wilcoxon", "race"])
def test_others_keep_folds(strategy: str) -> None:
    assert planned("lgbm", strategy)[:2] == ("folds", 5)


@pytest.mark.parametrize(
    ("given", "strategy"),
    [
        ({"timeout": 60.0}, "auto+race"),
        ({"max_cost": 60.0}, "auto+race"),
        ({"timeout": 60.0, "trials": 30}, "auto"),
        ({"trials": 30}, "auto"),
        ({}, "auto"),
        ({"timeout": 60.0, "strategy": "tpe"}, "tpe"),
        ({"timeout": 60.0, "strategy": "auto+full"}, "auto+full"),
        ({"timeout": 60.0, "strategy": "auto+median"}, "auto+median"),
        ({"timeout": 60.0, "options": {"budget": "rounds"}}, "auto"),
    ],
)
def test_a_study_that_only_the_time_ends_races_over_folds(given: dict[str, Any], strategy: str) -> None:
    """More configurations in the same time; whoever gives a number of trials gets them to their end."""
    plan = plan_request(Request(objective="lgbm", data=TABLE, **given))
    assert plan.terms.strategy.name == strategy
    assert bool(plan.terms.first) == ("auto" in strategy)


@pytest.mark.torch
def test_each_objective_has_its_own_axis_of_training() -> None:
    assert planned("sklearn", "asha")[:2] == ("steps", 30)
    assert planned("sklearn", "pbt", estimator="mlp")[:2] == ("steps", 30)
    assert planned("torch", "asha", max_epochs=50)[:2] == ("epochs", 50)


def test_the_axis_that_the_user_names_wins_and_its_price_is_said() -> None:
    axis, length, notes = planned("lgbm", "asha", budget="folds")
    assert (axis, length) == ("folds", 5)
    assert "asha compares trials by folds" in notes
    assert planned("lgbm", "random", budget="rounds")[0] == "rounds"


def test_an_estimator_that_learns_at_once_is_compared_by_folds() -> None:
    axis, length, notes = planned("sklearn", "asha", estimator="knn")
    assert (axis, length) == ("folds", 5)
    assert "does not learn step by step" in notes


@pytest.mark.parametrize(
    ("objective", "options", "remedy"),
    [
        ("lgbm", {"budget": "folds"}, "leave out the option budget"),
        ("sklearn", {"estimator": "knn"}, "another estimator"),
    ],
)
def test_what_changes_during_training_is_refused_over_folds(
    objective: str, options: dict[str, object], remedy: str
) -> None:
    with pytest.raises(StrategyError, match=remedy):
        planned(objective, "pbt", **options)


@pytest.mark.parametrize(
    ("strategy", "objective", "options", "changed", "kept"),
    [
        ("pbt", "torch", {}, {"learning_rate", "dropout"}, {"layers", "width", "norm", "squash"}),
        ("random+pbt", "sklearn", {"estimator": "mlp"}, {"alpha", "beta_1"}, {"hidden_layer_sizes"}),
        ('{"name": "pbt", "interval": 3}', "sklearn", {"estimator": "sgd"}, {"alpha", "eta0"}, {"average"}),
        ("pbt", "sklearn", {"estimator": "gradient_boosting"}, {"max_depth"}, {"learning_rate"}),
        ('{"name": "pbt", "parameters": ["momentum"]}', "torch", {}, {"momentum"}, {"dropout"}),
    ],
)
def test_forks_change_what_a_model_in_training_can_change(
    strategy: str, objective: str, options: dict[str, object], changed: set[str], kept: set[str]
) -> None:
    """Half of the forks of `hpo tune torch --strategy pbt` failed: their networks had another shape."""
    request = Request(objective=objective, data=TABLE, strategy=strategy, trials=20, options=options)
    terms = plan_request(request).terms
    assert terms.space is not None
    may_change = set(getattr(terms.strategy.scheduler, "parameters", None) or ())
    assert changed <= may_change <= set(terms.space.names)
    assert not kept & may_change
    again = plan_request(request, strategy=terms.strategy).terms.strategy
    assert again.config == terms.strategy.config == make_strategy(terms.strategy.config).config


@pytest.mark.torch
def test_forks_are_not_told_to_change_what_they_cannot(hpo: Hpo, place: Place) -> None:
    """Every fork failed, for the reason that could be known before."""
    command = (
        "tune",
        "torch",
        "--data",
        TABLE,
        "--strategy",
        '{"name": "pbt", "parameters": ["width", "lr"]}',
    )
    said = hpo(*command, "--trials", 8)
    assert said.code == 2
    assert "pbt cannot change 'width' of a model in training" in said.err
    assert place.studies == []
    # A study that was begun when nobody looked can be gone on with.
    before = make_strategy({"name": "pbt", "parameters": ["width"]})
    request = Request(objective="torch", data=TABLE, trials=8)
    assert plan_request(request, strategy=before).terms.strategy.config == before.config


@pytest.mark.parametrize("name", ["objective", "sigmoid"])
def test_forks_of_boosting_keep_what_its_scores_mean(name: str) -> None:
    """Trees that were grown for one loss were added to those of another."""
    binary = name == "sigmoid"
    searched = {"type": "float", "low": 0.5, "high": 2.0} if binary else ["regression", "poisson"]
    space = json.dumps({name: searched, "num_leaves": {"type": "int", "low": 4, "high": 31}})
    data = TABLE if binary else "sklearn:diabetes"
    request = Request(objective="lgbm", data=data, strategy="pbt", trials=20, options={"space": space})
    may_change = plan_request(request).terms.strategy.config["scheduler"]["parameters"]
    assert name not in may_change
    assert "num_leaves" in may_change


def test_forks_of_what_can_change_altogether_may_change_all() -> None:
    plan = plan_request(Request(objective="lgbm", data=TABLE, strategy="pbt", trials=20))
    assert plan.terms.strategy.config["scheduler"] == "pbt"


@pytest.mark.parametrize("estimator", ["mlp", "sgd"])
def test_no_fork_of_a_ready_objective_fails(estimator: str, hpo: Hpo, tracked: Place) -> None:
    """They went on with another network, or without the averages that they asked for."""
    command = ("tune", "sklearn", "--estimator", estimator, "--data", TABLE, "--strategy", "pbt")
    said = hpo(*command, "--trials", 8, "--name", "mine", "--isolation", "thread", "--offline")
    assert said.code == 0
    study = tracked.study("mine")
    assert any(trial.parent is not None for trial in study.trials)
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize(
    "one, two, pace",
    [
        (1.0, 1.25, (0.25, 0.75)),
        (1.0, 2.0, (1.0, 0.0)),
        (1.0, 3.0, (1.5, 0.0)),
        (1.0, 0.9, (1.0, 0.0)),
    ],
)
def test_what_comes_before_the_first_step_is_no_part_of_each(
    one: float, two: float, pace: tuple[float, float]
) -> None:
    """A trial of 100 steps was said to take 3.5 times what it does: as often was its table prepared."""
    assert tuple(pace_of(one, two)) == pace


def test_a_dry_run_says_rungs_steps_and_time(hpo: Hpo, place: Place) -> None:
    command = ("tune", "lgbm", "--data", TABLE, "--strategy", "hyperband", "--trials", 125, "--dry-run")
    plain = hpo(*command, "--workers", 4, "--option", "max_rounds=270")
    assert plain.code == 0
    assert "81 to step 1" not in plain.out  # 27 steps of 10 rounds: four brackets, the first has 27
    assert "bracket 0: 27 to step 1, 9 to step 3, 3 to step 9, 1 to step 27" in plain.out
    assert "a step is 10 rounds" in plain.out
    assert "on 4 workers, at" in plain.out
    said = json.loads(hpo(*command, "--workers", 1, "--option", "max_rounds=270", "--json").out)
    assert said["rungs"][0] == [0, 0, 27, 1]
    begun = sum(trials for _, _, trials, _ in said["rungs"])
    assert said["seconds"] == pytest.approx(  # one worker never waits
        said["steps"] * said["step_seconds"] + begun * said["set_up_seconds"]
    )
    assert place.studies == []


def test_a_dry_run_counts_each_share_of_the_rows_in_full(hpo: Hpo, place: Place) -> None:
    """It counted as if a trial trained on from a third of the rows to all of them."""
    command = ("tune", "sklearn", "--data", "sklearn:breast_cancer", "--strategy", "hyperband")
    given = ("--trials", 27, "--option", "budget=rows", "--workers", 1, "--dry-run", "--json")
    said = json.loads(hpo(*command, *given).out)
    assert [step for *_, step in said["rungs"]][-1] == 3
    assert said["steps"] == sum(trials * step for _, _, trials, step in said["rungs"])
    begun = sum(trials for _, _, trials, _ in said["rungs"])
    assert said["seconds"] == pytest.approx(
        said["steps"] * said["step_seconds"] + begun * said["set_up_seconds"]
    )
    assert place.studies == []


@pytest.fixture(autouse=True)
def _as_usual() -> Iterator[None]:
    yield
    _base._load.cache_clear()


@pytest.mark.parametrize(
    ("strategy", "folds"), [("auto", 1), ("random", 1), ("asha", 1), ("random+median", 5), ("auto+race", 5)]
)
def test_who_stops_trials_by_folds_has_some(
    strategy: str, folds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many rows are validated on once, and such a strategy would have nothing to stop a trial by."""
    few_are_many(monkeypatch)
    plan = plan_request(Request(objective="lgbm", data=TABLE, strategy=strategy, trials=9))
    assert plan.terms.meta["summary"]["folds"] == folds
    by_time = plan_request(Request(objective="lgbm", data=TABLE, timeout=9.0))
    assert by_time.terms.strategy.name == "auto"


def test_a_study_keeps_its_folds_whatever_is_usual_by_now(
    hpo: Hpo, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older version's study of a large table would have been refused for another question."""
    command = ("tune", "lgbm", "--data", TABLE, "--strategy", "random", "--name", "mine", "--offline")
    few = ("--isolation", "thread", "--workers", 1, "--option", "max_rounds=5")
    assert hpo(*command, *few, "--trials", 1).code == 0
    few_are_many(monkeypatch)
    said = hpo("extend", "mine", "--trials", 2)
    assert (said.code, said.err) == (0, "")
    assert [trial.step for trial in place.study("mine").trials] == [5, 5]
