"""scikit-learn estimators: found by name or path, given what they need, resumed exactly."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from flows.objectives import SklearnModel, TrialInfo, make_objective
from flows.objectives._base import load_setting
from flows.objectives._estimators import SHORT, default_space, find
from hpo_core import Categorical, Infeasible, InputError, Int, TrialPruned
from tests.flows.fake_trial import FakeTrial
from tests.flows.small_tables import mixed, written

# Cheap parameters of estimators whose defaults take long.
CHEAP = {"n_estimators": 5, "max_iter": 5}


def objective(data: str, estimator: str = "decision_tree", **options: Any) -> SklearnModel:
    made = make_objective("sklearn", **{"data": data, "estimator": estimator, "folds": 3, **options})
    assert isinstance(made, SklearnModel)
    return made


def default_params(tuned: SklearnModel) -> dict[str, Any]:
    space = tuned.prepare().space
    params = space.decode(space.default_unit())
    return {**params, **{k: v for k, v in CHEAP.items() if k in params}}


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        objective(*args, **options).prepare()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("name", ["hist_gradient_boosting", "extra_trees", "linear", "knn", "sgd"])
def test_short_names_train_on_a_mixed_table(tmp_path: Path, name: str, task: str) -> None:
    """Missing values, categories, a flag and dates reach every kind of estimator in a form it takes."""
    tuned = objective(written(tmp_path, mixed(task=task)), name)
    params = default_params(tuned)
    trial = FakeTrial(params)
    value = tuned(trial)
    assert math.isfinite(value)
    assert [step for step, _ in trial.reports] == [1, 2, 3]
    final = tuned.finalise(params, TrialInfo(seed=1, metrics=trial.reports[-1][1]))
    assert final.flavor == "sklearn"
    assert math.isfinite(final.score)
    if task != "regression":
        labels = set(load_setting(tuned.table).problem.classes)
        assert set(np.asarray(final.example_output).tolist()) <= labels
    assert set(final.importance["feature"]) == set(load_setting(tuned.table).problem.columns)


@pytest.mark.parametrize("name", sorted({*SHORT, "svm"} - {"xgboost"}))
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_every_default_space_is_of_parameters_that_exist(tmp_path: Path, name: str, task: str) -> None:
    setting = load_setting(objective(written(tmp_path, mixed(task=task))).table)
    found = find(name, setting.problem)
    space = default_space(found.kind, setting.problem, 100)
    assert space
    assert set(space) <= set(found.make().get_params())


@pytest.mark.parametrize("name", sorted({*SHORT, "svm", "linear"} - {"xgboost"}))
@pytest.mark.parametrize("task", ["binary", "regression", "below zero"])
def test_every_default_space_is_of_values_that_the_estimator_takes(
    tmp_path: Path, name: str, task: str
) -> None:
    """A criterion that scikit-learn has dropped failed every second forest where a target goes below zero."""
    frame = mixed(task=task if task == "binary" else "regression")
    if task == "below zero":
        frame["y"] -= 10
    problem = load_setting(objective(written(tmp_path, frame), target="y").table).problem
    found = find(name, problem)
    for parameter, domain in (default_space(found.kind, problem, 100) or {}).items():
        if isinstance(domain, Categorical):
            for value in domain.choices:
                given = tuple(value) if isinstance(value, list) else value
                found.make().set_params(**{parameter: given})._validate_params()


def test_xgboost_by_name(tmp_path: Path) -> None:
    pytest.importorskip("xgboost")
    tuned = objective(written(tmp_path, mixed(100)), "xgboost")
    params = default_params(tuned)
    assert tuned(FakeTrial(params)) > 0.6
    final = tuned.finalise(params, TrialInfo(seed=1))
    assert any(r.startswith(("xgboost==", "xgboost-cpu==")) for r in final.requirements)
    assert set(np.asarray(final.example_output).tolist()) <= {0, 1}, (
        "XGBoost takes codes, listed in the contract"
    )


def test_an_import_path_and_parameters_of_a_space_file(tmp_path: Path) -> None:
    space = {"replace": True, "n_neighbors": {"low": 1, "high": 9}, "weights": ["uniform", "distance"]}
    tuned = objective(
        "sklearn:wine", "sklearn.neighbors.KNeighborsClassifier", metric="accuracy", space=space
    )
    assert set(tuned.prepare().space.names) == {"n_neighbors", "weights"}
    assert tuned(FakeTrial({"n_neighbors": 3, "weights": "distance"})) > 0.9


@pytest.mark.parametrize("last, child, parent", [("SVC", "gamma", "kernel"), ("SGD", "l1_ratio", "penalty")])
def test_conditions_of_a_default_space_hold_in_a_pipeline_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, child: str, parent: str
) -> None:
    """Every pipeline that ended in one of these was refused, with a TypeError of ours."""
    (tmp_path / f"ends_in_{last}.py").write_text(
        "from sklearn.linear_model import SGDClassifier as SGD\n"
        "from sklearn.pipeline import Pipeline\nfrom sklearn.preprocessing import StandardScaler\n"
        "from sklearn.svm import SVC\n\n\n"
        f"def make():\n    return Pipeline([('scale', StandardScaler()), ('last', {last}())])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    tuned = objective("sklearn:iris", f"ends_in_{last}:make", metric="accuracy")
    space = tuned.prepare().space
    (condition,) = space.parameters[f"last__{child}"].conditions
    assert condition.parent == f"last__{parent}"
    assert space.parameters[f"last__{child}"].default is not None
    assert tuned(FakeTrial(default_params(tuned))) > 0.8


def test_a_pipeline_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text(
        "from sklearn.decomposition import PCA\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "def make():\n"
        "    return make_pipeline(StandardScaler(), PCA(), LogisticRegression(max_iter=500))\n"
        "broken = 3\n"
        "def nothing():\n"
        "    return object()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    space = {"pca__n_components": {"low": 2, "high": 10}}
    tuned = objective("sklearn:wine", "my_models:make", metric="accuracy", space=space)
    prepared = tuned.prepare()
    # The default space of the last step, under the step's name.
    assert {"logisticregression__C", "pca__n_components"} <= set(prepared.space.names)
    assert tuned(FakeTrial({"logisticregression__C": 1.0, "pca__n_components": 5})) > 0.9
    with pytest.raises(InputError, match="did you mean 'pca__n_components'"):
        objective("sklearn:wine", "my_models:make", space={"pca__n_component": 3}).prepare()
    assert "did you mean 'make'" in refusal("sklearn:wine", "my_models:mak")
    assert "expected an estimator class" in refusal("sklearn:wine", "my_models:broken")
    assert "lacks fit, predict" in refusal("sklearn:wine", "my_models:nothing")
    (tmp_path / "my_failing.py").write_text("1 / 0")
    assert "ZeroDivisionError" in refusal("sklearn:wine", "my_failing:make")


@pytest.mark.parametrize(
    "estimator, options, words",
    [
        ("random_forrest", {}, "did you mean 'random_forest'"),
        ("sklearn.ensemble.RandomForestClasifier", {}, "did you mean 'RandomForestClassifier'"),
        ("sklearn.ensembl.RandomForestClassifier", {}, "no module 'sklearn.ensembl'"),
        ("nowhere.at.All", {}, "no module 'nowhere'"),
        ("sklearn.ensemble.RandomForestRegressor", {}, "use sklearn.ensemble.RandomForestClassifier"),
        ("sklearn.ensemble.VotingClassifier", {}, "without arguments"),
        ("sklearn.ensemble.StackingClassifier", {}, "without arguments"),
        ("sklearn.discriminant_analysis.LinearDiscriminantAnalysis", {}, "no default space"),
        ("knn", {"space": {"n_neighbours": 3}}, "did you mean 'n_neighbors'"),
        ("random_forest", {"space": {"n_jobs": 3}}, "set threads"),
        ("random_forest", {"space": {"random_state": 3}}, "the trial's own seed"),
        ("random_forest", {"space": {"criterion": "ginni"}}, "cannot be fitted on this table: Invalid"),
        ("random_forest", {"budget": "steps", "space": {"n_estimators": 5}}, "is the budget axis"),
        ("knn", {"budget": "steps"}, "cannot learn step by step"),
        ("svm", {"metric": "logloss"}, "needs probabilities (predict_proba)"),
    ],
)  # fmt: skip
def test_refusals(estimator: str, options: dict[str, Any], words: str) -> None:
    assert words in refusal("sklearn:breast_cancer", estimator, **options)


def test_regressors_see_a_standardised_target_and_users_see_units(tmp_path: Path) -> None:
    frame = mixed(task="regression")
    frame["y"] = 1e6 + 1e4 * frame["y"]
    tuned = objective(written(tmp_path, frame), "svm")
    params = default_params(tuned)
    trial = FakeTrial(params)
    spread = float(frame["y"].std())
    assert tuned(trial) < 0.9 * spread
    final = tuned.finalise(params, TrialInfo(seed=1))
    assert abs(float(np.mean(final.example_output)) - 1e6) < 1e6


@pytest.mark.parametrize("estimator", ["random_forest", "linear", "hist_gradient_boosting"])
def test_what_is_infinite_counts_as_missing_where_the_model_is_used_too(
    tmp_path: Path, estimator: str
) -> None:
    """Trained with such values as missing, a model raised for them, or took them for large."""
    frame = mixed(300)
    frame.loc[::7, "a"] = np.inf
    frame.loc[1::7, "a"] = -np.inf
    tuned = objective(written(tmp_path, frame), estimator, target="y")
    model = tuned.finalise(default_params(tuned), TrialInfo(seed=1)).model
    rows = pd.read_csv(tmp_path / "table.csv", parse_dates=["when"]).drop(columns="y").head(30)
    assert np.isinf(rows["a"]).sum() > 5
    missing = rows.replace([np.inf, -np.inf], np.nan)
    assert model.predict_proba(rows).tolist() == model.predict_proba(missing).tolist()


def test_columns_that_are_empty_in_a_fold_stop_no_histogram(tmp_path: Path) -> None:
    """scikit-learn 1.9 raised for them, in each trial."""
    frame = mixed(300)
    seldom = np.arange(300) == 7
    frame["number"] = np.where(seldom, 1.5, np.nan)
    frame["day"] = pd.Series("2024-02-03", frame.index).where(seldom, None)
    frame["word"] = pd.Series("one", frame.index).where(seldom, None)
    tuned = objective(written(tmp_path, frame), "hist_gradient_boosting", target="y")
    params, folds = default_params(tuned), load_setting(tuned.table).split.folds
    problem = load_setting(tuned.table).problem
    assert {"number", "day"} < set(problem.columns)
    assert any(not seldom[train].any() for train, _ in folds)
    assert 0.5 < tuned(FakeTrial(params)) <= 1
    model = tuned.finalise(params, TrialInfo(seed=1)).model
    assert len(model.predict(problem.frame)) == 300


def test_models_without_probabilities_are_ranked_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path, mixed())
    ranked = objective(path, "sklearn.svm.LinearSVC", metric="auc", space={"C": {"low": 0.01, "high": 1.0}})
    ranked.prepare()
    assert ranked(FakeTrial({"C": 0.1})) > 0.7
    final = ranked.finalise({"C": 0.1}, TrialInfo(seed=1))
    assert {"auc", "accuracy"} <= set(final.scores)
    assert "logloss" not in final.scores
    flipped = objective(
        path, "sklearn.svm.LinearSVC", metric="auc", positive="no", space={"C": {"low": 0.01, "high": 1.0}}
    )
    assert flipped(FakeTrial({"C": 0.1})) > 0.7, "the scores turn with the positive class"
    assert flipped.finalise({"C": 0.1}, TrialInfo(seed=1)).score > 0.7
    hinge = objective(path, "sgd", metric="logloss", space={"loss": ["hinge", "log_loss"]})
    with pytest.raises(Infeasible, match="gives no probabilities"):
        hinge(FakeTrial({"loss": "hinge"}))


PIPELINE_WITH_A_THRESHOLD = """
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline

def make():
    return make_pipeline(FixedThresholdClassifier(LogisticRegression()))
"""


def test_metrics_of_classes_are_of_the_classes_that_a_model_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The likelier class was taken, whatever threshold was tuned, and the second one in a tie."""
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (200, 2))
    data = written(tmp_path, pd.DataFrame(x, columns=["a", "b"]).assign(y=x[:, 0] + rng.normal(size=200) > 3))
    (tmp_path / "with_a_threshold.py").write_text(PIPELINE_WITH_A_THRESHOLD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    threshold = "fixedthresholdclassifier__threshold"
    space = {threshold: {"type": "float", "low": 0.05, "high": 0.9}}
    low, high, tied = (
        (objective(data, "with_a_threshold:make", metric="f1", space=space), {threshold: 0.1}),
        (objective(data, "with_a_threshold:make", metric="f1", space=space), {threshold: 0.6}),
        (objective(data, "knn", metric="f1"), {"n_neighbors": 2}),
    )
    assert low[0](FakeTrial(low[1])) != high[0](FakeTrial(high[1]))
    for tuned, params in (low, high, tied):
        trial, setting = FakeTrial(params), load_setting(tuned.table)
        value = tuned(trial)
        final = tuned.finalise(params, TrialInfo(seed=trial.seed))
        frame, y = setting.problem.frame, setting.problem.y
        test = setting.split.test
        assert final.score == pytest.approx(f1_score(y[test], final.model.predict(frame.iloc[test])))
        folds = []
        for train, valid in setting.split.folds:
            final.model.fit(frame.iloc[train], y[train])
            folds.append(f1_score(y[valid], final.model.predict(frame.iloc[valid])))
        assert value == pytest.approx(np.mean(folds))


def test_every_fold_has_as_many_rows_as_a_default_space_asks_for_neighbours(tmp_path: Path) -> None:
    """The first fold in time trains on a sixth of the rows; trials with more neighbours failed."""
    tuned = objective(written(tmp_path, mixed(task="regression")), "knn", time="order", folds=5)
    neighbours = tuned.prepare().space.parameters["n_neighbors"]
    assert isinstance(neighbours, Int)
    assert math.isfinite(tuned(FakeTrial({"n_neighbors": neighbours.high})))


def test_a_fold_that_trains_on_two_of_three_classes_ranks_these(tmp_path: Path) -> None:
    """Its scores were taken for those of the second class, which it does not know."""
    frame = mixed(180)
    early = np.where(frame.index % 2, -1.0, 1.0) * (1 + frame.index / 180)
    x = np.where(frame.index < 60, early, frame["b"])
    table = pd.DataFrame(
        {"x": x, "t": frame.index, "y": np.array(["a", "b", "c"])[np.digitize(x, [-0.5, 0.5])]}
    )
    tuned = objective(
        written(tmp_path, table), "sklearn.svm.LinearSVC", metric="auc", time="t", folds=2,
        space={"C": {"low": 0.01, "high": 1.0}},
    )  # fmt: skip
    trial = FakeTrial({"C": 0.1})
    tuned(trial)
    train = load_setting(tuned.table).split.folds[0][0]
    assert set(load_setting(tuned.table).problem.y[train]) == {0.0, 2.0}
    assert trial.metric("auc_fold")[0] == pytest.approx((1 + 0.5 + 1) / 3), "nothing is known of b"


@pytest.mark.parametrize(
    "name, task",
    [
        ("sgd", "binary"),
        ("sgd", "regression"),
        ("mlp", "multiclass"),
        ("random_forest", "multiclass"),
        ("gradient_boosting", "regression"),
        ("hist_gradient_boosting", "binary"),
    ],
)
def test_an_interrupted_trial_equals_an_unbroken_one(tmp_path: Path, name: str, task: str) -> None:
    path = written(tmp_path, mixed(100, task=task))
    tuned = objective(path, name, budget="steps", n_steps=5, max_size=15, patience=10, folds=2)
    params = default_params(tuned)
    whole = FakeTrial(params, seed=3)
    expected = tuned(whole)
    trial = FakeTrial(params, seed=3, target=2)
    tuned(trial)
    trial = trial.resumed(target=3)
    tuned(trial)
    trial = trial.resumed()
    assert tuned(trial) == expected
    assert trial.reports == whole.reports
    assert [step for step, _ in trial.reports] == [1, 2, 3, 4, 5]
    name = load_setting(tuned.table).metric.name
    assert len(set(trial.metric(name))) > 1, "the estimator learns from step to step"
    final = tuned.finalise(params, TrialInfo(seed=3, metrics=trial.reports[-1][1]))
    assert math.isfinite(final.score)
    lost = tuned.finalise(params, TrialInfo(seed=3))
    assert lost.params == final.params
    assert lost.score == final.score


def test_settings_of_the_training_do_not_stay_in_the_final_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server chooses its threads, and another fit begins anew."""
    (tmp_path / "warm_forest.py").write_text(
        "from sklearn.ensemble import RandomForestClassifier\n"
        "def make():\n    return RandomForestClassifier(5, warm_start=True, n_jobs=1)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    space = {"max_depth": {"type": "int", "low": 2, "high": 4}}
    tuned = objective("sklearn:iris", "warm_forest:make", space=space)
    params = tuned.finalise({"max_depth": 3}, TrialInfo(seed=1)).model[-1].get_params()
    assert (params["warm_start"], params["n_jobs"], params["max_depth"]) == (False, None, 3)


@pytest.mark.parametrize("metric", ["auc", "logloss"])
def test_importance_is_how_much_worse_the_metric_gets(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=400), rng.normal(size=400)
    frame = pd.DataFrame(
        {"noise": noise, "x": x, "y": np.where(x + 0.3 * rng.normal(size=400) > 0, "p", "n")}
    )
    tuned = objective(written(tmp_path, frame), "linear", metric=metric)
    table = tuned.finalise({"C": 1.0}, TrialInfo(seed=1)).importance
    assert table["feature"].tolist() == ["x", "noise"]
    lost = dict(zip(table["feature"], table["importance"], strict=True))
    # What is guessed instead of known: half of the pairs are wrong, or a logarithmic loss of more than log 2.
    assert lost["x"] > {"auc": 0.3, "logloss": 0.5}[metric]
    assert abs(lost["noise"]) < 0.03


def test_a_value_that_stands_still_is_no_better_one() -> None:
    """Patience is over, and the final model is no larger than the first that was as good."""
    tuned = objective(
        "sklearn:iris",
        "gradient_boosting",
        metric="accuracy",
        budget="steps",
        n_steps=20,
        max_size=20,
        patience=3,
    )
    assert tuned.prepare().step_unit == "1 of n_estimators"
    trial = FakeTrial({"min_samples_split": 1000})  # trees of one leaf
    tuned(trial)
    assert [(step, metrics["steps"]) for step, metrics in trial.reports] == [(1, 1), (2, 1), (3, 1), (4, 1)]
    passes = objective("sklearn:iris", "sgd", metric="accuracy", budget="steps").prepare()
    assert passes.step_unit == "pass over the data"


@pytest.mark.parametrize("name", ["gradient_boosting", "sgd"])
def test_folds_of_what_grows_are_those_of_its_value(name: str) -> None:
    """They were measured at scikit-learn's own number of trees or passes, whatever the steps had come to."""
    tuned = objective("sklearn:iris", name, metric="logloss", budget="steps", n_steps=4, max_size=12)
    params = {"max_depth": 2} if name == "gradient_boosting" else {"loss": "log_loss"}
    value = tuned(FakeTrial(params, seed=5))
    folds = tuned.on_folds(params, 5)
    assert sorted(folds) == [1, 2, 3]
    assert np.mean(list(folds.values())) == pytest.approx(value, rel=1e-12)


def test_an_interrupted_trial_of_folds_goes_on_at_the_next_fold() -> None:
    tuned = objective("sklearn:wine")
    params = {"max_depth": 3}
    whole, first = FakeTrial(params, seed=2), FakeTrial(params, seed=2, target=1)
    expected = tuned(whole)
    tuned(first)
    second = first.resumed()
    assert tuned(second) == expected
    assert second.reports == whole.reports


def test_seeds(tmp_path: Path) -> None:
    tuned = objective(written(tmp_path, mixed(100)), "extra_trees")
    values = [tuned(FakeTrial({"n_estimators": 5}, seed=seed)) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_a_trial_stopped_before_anything_was_measured_is_pruned() -> None:
    for budget, name in (("folds", "knn"), ("steps", "sgd")):
        with pytest.raises(TrialPruned):
            objective("sklearn:wine", name, budget=budget)(FakeTrial({}, stop_after=0))


def test_preprocessing_is_fitted_on_training_rows_only(tmp_path: Path) -> None:
    frame = mixed(120, task="regression")
    before = objective(written(tmp_path, frame, "a.csv"), "linear", target="y")
    setting = load_setting(before.table)
    rows = setting.split.test
    frame.loc[rows, ["a", "b", "order"]] *= -1000.0
    frame.loc[rows, "y"] += 500.0
    after = objective(written(tmp_path, frame, "b.csv"), "linear", target="y")
    assert before(FakeTrial({"alpha": 1.0})) == after(FakeTrial({"alpha": 1.0}))
    final = before.finalise({"alpha": 1.0}, TrialInfo(seed=1))
    pipeline = final.model.regressor_
    assert isinstance(pipeline, Pipeline)
    scaler = pipeline[0].named_transformers_["numbers"][-1]
    column = setting.problem.numbers.index("b")
    expected = setting.problem.frame["b"].iloc[setting.split.train].mean()
    assert scaler.mean_[column] == pytest.approx(expected)
