"""Forks learn on with their own settings, and the final model of one goes the way that it came about."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from flows.objectives import FinalModel, TrialInfo, make_objective
from flows.objectives._base import load_setting
from hpo_core import ObjectiveError, TrialState
from hpo_core.schedules import Recorded, followed
from tests.flows.conftest import Hpo, Place
from tests.flows.fake_trial import FakeTrial
from tests.flows.served import served
from tests.flows.small_tables import mixed, written


def final(tuned: Any, params: dict[str, Any], steps: int, *changes: tuple[int, dict[str, Any]]) -> Any:
    """The final model after that many steps. A change: the step that it comes after, and what it changes."""
    course = [(after, {**params, **change}) for after, change in changes]
    followed = Recorded(changes=[(0, params), *course]) if course else None
    known = {"epochs": float(steps), "steps": float(steps), "rounds": float(4 * steps)}
    return tuned.finalise({**params, **(changes[-1][1] if changes else {})}, TrialInfo(
        seed=3, metrics=known, followed=followed
    ))  # fmt: skip


def boosting(data: str, **options: Any) -> Any:
    return make_objective("lgbm", data=data, budget="rounds", max_rounds=60, rounds_per_step=4, **options)


TREES = {"learning_rate": 0.3, "num_leaves": 4, "min_data_in_leaf": 3}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("categories", [False, True])
def test_boosting_goes_on_from_the_trees_before(tmp_path: Path, task: str, categories: bool) -> None:
    frame = mixed(task=task)
    columns = frame.columns if categories else [*frame.select_dtypes("number").columns, "y"]
    tuned = boosting(written(tmp_path, frame[list(dict.fromkeys(columns))]))
    made = final(tuned, TREES, 5, (3, {"learning_rate": 0.01, "num_leaves": 7, "max_bin": 31}))
    plain = final(tuned, TREES, 3)
    trees, before = (boosters(m)[0].trees_to_dataframe() for m in (made, plain))
    per_round = 3 if task == "multiclass" else 1
    assert trees["tree_index"].max() + 1 == 20 * per_round
    kept = trees[trees["tree_index"] < 12 * per_round].reset_index(drop=True)
    assert kept["value"].tolist() == before["value"].tolist(), "the first turn is as it was"
    leaves = trees[trees["left_child"].isna()].groupby("tree_index").size()
    assert leaves.iloc[: 12 * per_round].max() <= 4 < leaves.iloc[12 * per_round :].max()
    assert made.params["num_iterations"] == boosters(made)[1].n_estimators == 20
    rows = load_setting(tuned.table).problem.frame.head(30)
    assert not np.allclose(raw(made, rows), raw(plain, rows)), "all trees count"


def boosters(made: Any) -> tuple[Any, Any]:
    estimator = made.model if hasattr(made.model, "booster_") else made.model[-1]
    return estimator.booster_, estimator


def raw(made: Any, rows: Any) -> Any:
    return getattr(made.model, "predict_proba", made.model.predict)(rows)


def test_the_last_turn_of_boosting_may_end_within_a_step(tmp_path: Path) -> None:
    tuned = boosting(written(tmp_path, mixed()))
    followed = Recorded(changes=[(0, TREES), (3, {**TREES, "learning_rate": 0.05})])
    made = tuned.finalise(TREES, TrialInfo(seed=3, metrics={"rounds": 18.0}, followed=followed))
    assert boosters(made)[0].num_trees() == 18


def network(data: str) -> Any:
    return make_objective("torch", data=data, max_epochs=12, folds=2)


LAYERS = {"learning_rate": 0.02, "width": 16, "batch_size": 32, "optimizer": "sgd", "schedule": "constant"}


@pytest.mark.torch
def test_a_network_keeps_what_it_has_learned_under_the_next_settings(tmp_path: Path) -> None:
    def said(made: FinalModel) -> Any:
        return served(made).predict_proba(made.example)

    tuned = network(written(tmp_path, mixed(200)))
    whole = final(tuned, LAYERS, 6)
    same = final(tuned, LAYERS, 6, (4, {"clip_norm": 1e6}))  # which changes nothing
    assert same.scores == whole.scores
    assert said(same).tolist() == said(whole).tolist()
    # Momentum and weights go on: what follows is no training of its own.
    still = final(tuned, LAYERS, 6, (4, {"learning_rate": 1e-12, "momentum": 0.0}))
    assert said(still) == pytest.approx(said(final(tuned, LAYERS, 4)), abs=1e-6)
    assert said(still) != pytest.approx(said(whole), abs=1e-6)


@pytest.mark.parametrize(
    "name, params, change, nothing",
    [
        ("sgd", {"alpha": 1e-4, "learning_rate": "constant", "eta0": 0.01}, {"eta0": 0.001}, {"eta0": 1e-12}),
        ("mlp", {"learning_rate_init": 0.01}, {"alpha": 5.0}, {"learning_rate_init": 1e-12}),
        ("gradient_boosting", {"max_depth": 1}, {"max_depth": 5}, None),
        ("hist_gradient_boosting", {"learning_rate": 0.3}, {"max_leaf_nodes": 5}, {"learning_rate": 1e-12}),
    ],
)
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_estimators_grow_on(
    tmp_path: Path, task: str, name: str, params: dict[str, Any], change: dict[str, Any], nothing: Any
) -> None:
    options: dict[str, Any] = {"budget": "steps", "n_steps": 6, "max_size": 12, "folds": 2}
    data = written(tmp_path, mixed(200, task=task))
    tuned = make_objective("sklearn", data=data, estimator=name, **options)
    whole, changed = final(tuned, params, 6), final(tuned, params, 6, (4, change))
    assert changed.scores != whole.scores
    assert {k: changed.params[k] for k in change} == change
    assert {*changed.params} - {*change} == {*whole.params} - {*change}
    if nothing is not None:  # what is learned no more leaves the model as it was
        still, early = final(tuned, params, 6, (4, nothing)), final(tuned, params, 4)
        assert still.scores == pytest.approx(early.scores, rel=1e-6)
    settings = getattr(changed.model, "regressor_", changed.model)
    settings = getattr(settings, "estimator", settings).steps[-1][1].get_params()
    assert not settings.get("warm_start", False), "whoever fits it again begins anew"


@pytest.mark.slow
def test_the_registered_model_of_a_fork_went_its_way(tracked: Place, hpo: Hpo) -> None:
    """It was trained from nothing with the fork's last settings, which no score belongs to."""
    table = written(tracked.folder, mixed(300))
    command = ("tune", "lgbm", "--data", table, "--target", "y", "--isolation", "thread", "--workers", 1)
    many = ("--strategy", "pbt", "--trials", 4, "--option", "max_rounds=200", "--option", "patience=200")
    assert hpo(*command, *many, "--name", "mine", "--register", "m").code == 0
    study = tracked.study("mine")
    fork = next(t for t in study.trials if t.parent is not None and t.state is TrialState.COMPLETE)
    said = hpo("promote", "mine", "--trial", fork.number, "--alias", "fork")
    assert (said.code, said.err) == (0, "")
    client = mlflow.MlflowClient(f"sqlite:///{tracked.database}")
    version = client.get_model_version_by_alias("m", "fork")
    assert "came about by forks" in version.description
    written_down = client.download_artifacts(version.run_id, "schedule.json", str(tracked.folder))
    schedule = Recorded.from_json(json.loads(Path(written_down).read_text()))
    assert schedule == followed(study, fork.number)
    assert len(schedule.changes) > 1

    refused = hpo("promote", "mine", "--trial", fork.number, "--alias", "fork", "--gate", "folds")
    assert refused.code == 2
    assert f"trial {fork.number} came about by forks" in refused.err
    assert hpo(*command, "--strategy", "random", "--trials", 2, "--name", "other").code == 0
    held = hpo("promote", "other", "--model", "m", "--alias", "fork", "--gate", "folds")
    assert held.code == 1
    assert "cannot be compared with version" in held.out
    assert "came about by forks" in held.out


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_forks_of_a_perceptron_learn_at_their_own_rate(solver: str) -> None:
    """They said another rate and learned on at the first one."""
    tuned = make_objective("sklearn", data="sklearn:iris", estimator="mlp", metric="logloss", folds=2,
                           budget="steps", n_steps=6, space={"solver": [solver]})  # fmt: skip
    params = {"learning_rate_init": 0.01, "solver": solver}
    first = FakeTrial(params, target=3)
    tuned(first)
    still = first.resumed(params={**params, "learning_rate_init": 1e-12})
    tuned(still)
    assert still.metric("logloss")[3:] == pytest.approx([still.metric("logloss")[2]] * 3, rel=1e-6)
    unchanged = first.resumed()
    tuned(unchanged)
    assert unchanged.metric("logloss")[-1] < 0.99 * unchanged.metric("logloss")[2]


def test_what_an_estimator_cannot_learn_on_with_is_refused() -> None:
    """Where a strategy was told to change it, a later rate rescaled all the trees that were there."""
    tuned = make_objective("sklearn", data="sklearn:iris", estimator="gradient_boosting", folds=2,
                           budget="steps", n_steps=4, max_size=8)  # fmt: skip
    first = FakeTrial({"learning_rate": 0.1, "max_depth": 2}, target=2)
    tuned(first)
    with pytest.raises(ObjectiveError, match=r"learning_rate=0\.1 cannot go on with 0\.2"):
        tuned(first.resumed(params={"learning_rate": 0.2, "max_depth": 2}))
    tuned(first.resumed(params={"learning_rate": 0.1, "max_depth": 3}))


PIPELINE = """
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline


def make():
    return make_pipeline(SelectKBest(), SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.001))
"""


def test_forks_keep_what_was_fitted_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They said another preprocessing, and learned on behind the one that was there."""
    (tmp_path / "selects_first.py").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    space = {"selectkbest__k": {"type": "int", "low": 1, "high": 4}, "sgdclassifier__alpha": [0.1, 0.01]}
    tuned = make_objective("sklearn", data="sklearn:iris", estimator="selects_first:make", space=space,
                           budget="steps", n_steps=4, folds=2)  # fmt: skip
    assert tuned.prepare().settled == {"selectkbest__k", "sgdclassifier__loss", "sgdclassifier__average"}
    first = FakeTrial({"selectkbest__k": 2, "sgdclassifier__alpha": 0.1}, target=2)
    tuned(first)
    fork = first.resumed(params={"selectkbest__k": 2, "sgdclassifier__alpha": 0.01})
    tuned(fork)
    assert len(fork.reports) == 4
    with pytest.raises(ObjectiveError, match="'selectkbest__k' belongs to a step that was fitted before"):
        tuned(first.resumed(params={"selectkbest__k": 3, "sgdclassifier__alpha": 0.1}))
