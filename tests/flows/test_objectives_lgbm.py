"""LightGBM: every task and oddity trains, nothing leaks, an interrupted trial equals an unbroken one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.objectives import LightGBM, TrialInfo, _base, make_objective
from flows.objectives._base import load_setting
from flows.objectives._metrics import METRICS
from hpo_core import Constant, Float, Int, TrialPruned
from tests.flows.fake_trial import FakeTrial
from tests.flows.small_tables import mixed, written

TASKS = ("binary", "multiclass", "regression")
# Everything that draws random numbers is on.
RANDOM = {
    "learning_rate": 0.1,
    "num_leaves": 8,
    "min_data_in_leaf": 3,
    "bagging_fraction": 0.7,
    "bagging_freq": 2,
    "feature_fraction": 0.7,
    "feature_fraction_bynode": 0.8,
    "extra_trees": True,
}


def objective(data: str, **options: Any) -> LightGBM:
    made = make_objective("lgbm", **{"data": data, "folds": 3, "max_rounds": 60, "patience": 20, **options})
    assert isinstance(made, LightGBM)
    return made


def last(trial: FakeTrial) -> TrialInfo:
    return TrialInfo(seed=trial.seed, metrics=trial.reports[-1][1])


@pytest.fixture(params=TASKS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return written(tmp_path, mixed(task=request.param))


@pytest.mark.parametrize("data", ["sklearn:wine", "sklearn:diabetes", "sklearn:breast_cancer"])
def test_the_default_space_searches_ten_parameters_or_more(data: str) -> None:
    space = objective(data, target="target").prepare().space
    searched = [p for p in space.parameters.values() if not isinstance(p, Constant)]
    assert len(searched) >= 10
    assert sum(isinstance(p, Float | Int) and p.log for p in searched) >= 5


# -- trials --------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["folds", "rounds"])
def test_every_task_learns_from_a_mixed_table(
    table: str, budget: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tuned = objective(table, budget=budget)
    prepared = tuned.prepare()
    trial = FakeTrial(prepared.space.decode(prepared.space.default_unit()))
    value = tuned(trial)
    setting = load_setting(tuned.table)
    name, y = setting.metric.name, setting.problem.y
    guess = {"auc": 0.5, "logloss": math.log(3), "rmse": float(np.std(y))}[name]
    assert setting.metric.sign * value < setting.metric.sign * guess - 0.02 * abs(guess)
    assert trial.metric("rounds")[-1] >= 1
    assert capfd.readouterr() == ("", ""), "LightGBM is quiet"


def test_folds_are_reported_one_by_one(table: str) -> None:
    tuned = objective(table, max_rounds=40, patience=40)
    name = next(iter(tuned.prepare().objectives))
    trial = FakeTrial(RANDOM)
    value = tuned(trial)
    assert [step for step, _ in trial.reports] == [1, 2, 3]
    assert value == trial.metric(name)[-1]
    curves = [dict(points) for points in trial.curves.values()]
    assert set(trial.curves) == {f"{name}_fold{i}" for i in (1, 2, 3)}
    assert sum(map(len, curves)) <= 100
    sign = METRICS[name].sign
    for fold, curve in zip(trial.metric(f"{name}_fold"), curves, strict=True):
        assert sign * fold <= min(sign * v for v in curve.values()), "a fold's own result is its best round's"
    assert sign * value >= np.mean([sign * fold for fold in trial.metric(f"{name}_fold")])


@pytest.mark.parametrize("metric", ["logloss", "accuracy"])
def test_all_folds_share_the_rounds_at_which_their_mean_is_best(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a slow computation of the same, from curves long enough to end by themselves."""
    tuned = objective("sklearn:breast_cancer", metric=metric, patience=15, max_rounds=200)
    seen: list[tuple[list[float], list[float]]] = []
    train = LightGBM._train_fold

    def remember(self: LightGBM, *arguments: Any) -> tuple[list[float], list[float]]:
        seen.append(train(self, *arguments))
        return seen[-1]

    monkeypatch.setattr(LightGBM, "_train_fold", remember)
    trial = FakeTrial({**RANDOM, "learning_rate": 0.2})
    value = tuned(trial)
    lengths = [len(losses) for _, losses in seen]
    assert len(set(lengths)) > 1, "early stopping ends the folds at different rounds"

    def mean_at(kind: int, rounds: int) -> float:
        return float(np.mean([fold[kind][min(rounds, len(fold[kind])) - 1] for fold in seen]))

    best = min(range(1, max(lengths) + 1), key=lambda r: (mean_at(1, r), r))
    assert trial.metric("rounds")[-1] == best
    assert value == pytest.approx(mean_at(0, best))
    if metric == "logloss":
        assert value >= np.mean([min(losses) for _, losses in seen]), "no fold picks its own best"


def test_long_curves_are_thinned() -> None:
    tuned = objective("sklearn:breast_cancer", max_rounds=400, patience=400, folds=2, metric="logloss")
    trial = FakeTrial({"learning_rate": 0.01, "num_leaves": 4})
    tuned(trial)
    assert sum(map(len, trial.curves.values())) <= 100
    assert trial.curves["logloss_fold1"][-1][0] == 400


def test_rounds_are_reported_at_every_step() -> None:
    tuned = objective("sklearn:diabetes", budget="rounds", max_rounds=55, patience=100)
    trial = FakeTrial(RANDOM)
    value = tuned(trial)
    assert tuned.prepare().n_steps == 6
    assert [step for step, _ in trial.reports] == [1, 2, 3, 4, 5, 6]
    assert value == min(trial.metric("rmse")) == trial.metric("rmse_best")[-1]
    best = int(np.argmin(trial.metric("rmse")))
    assert trial.metric("rounds")[-1] == [10, 20, 30, 40, 50, 55][best]


def test_early_stopping_ends_the_rounds() -> None:
    tuned = objective("sklearn:diabetes", budget="rounds", max_rounds=1000, patience=20, rounds_per_step=5)
    trial = FakeTrial({**RANDOM, "learning_rate": 0.5})
    tuned(trial)
    end = trial.reports[-1][0] * 5
    assert end < 1000
    assert end - trial.metric("rounds")[-1] == 20


def test_a_metric_with_plateaus_is_stopped_by_the_log_loss() -> None:
    """Accuracy stands still for many rounds; its value is taken where the log loss is best."""
    tuned = objective("sklearn:breast_cancer", metric="accuracy", patience=10, max_rounds=300, folds=2)
    by_loss = objective("sklearn:breast_cancer", metric="logloss", patience=10, max_rounds=300, folds=2)
    trial, other = FakeTrial(RANDOM), FakeTrial(RANDOM)
    value = tuned(trial)
    by_loss(other)
    assert 0.8 < value <= 1.0
    assert trial.metric("rounds") == other.metric("rounds")


def test_pinball_trains_a_quantile() -> None:
    low, high = (
        objective("sklearn:diabetes", metric=f"pinball_{level}", max_rounds=40) for level in (0.1, 0.9)
    )
    info = TrialInfo(seed=1, metrics={"rounds": 40.0})
    examples = [o.finalise({"num_leaves": 6}, info).example_output for o in (low, high)]
    assert (examples[0] < examples[1]).all()


# -- the same again ------------------------------------------------------------------------------


@pytest.mark.parametrize("pauses", [(1,), (2, 3), (1, 2, 3, 4)])
def test_an_interrupted_trial_equals_an_unbroken_one(table: str, pauses: tuple[int, ...]) -> None:
    tuned = objective(table, budget="rounds", max_rounds=40, rounds_per_step=8, patience=100)
    whole = FakeTrial(RANDOM, seed=5)
    expected = tuned(whole)
    trial = FakeTrial(RANDOM, seed=5, target=pauses[0])
    tuned(trial)
    assert trial.saved is not None
    assert trial.saved.step == pauses[0]
    for target in (*pauses[1:], None):
        trial = trial.resumed(target)
        value = tuned(trial)
    assert value == expected
    assert trial.reports == whole.reports


def test_an_interrupted_trial_of_folds_goes_on_at_the_next_fold(table: str) -> None:
    tuned = objective(table)
    whole = FakeTrial(RANDOM, seed=5)
    expected = tuned(whole)
    first = FakeTrial(RANDOM, seed=5, target=2)
    tuned(first)
    second = first.resumed()
    assert tuned(second) == expected
    assert second.reports == whole.reports
    assert len(second.curves) == 1, "only the third fold was trained again"


def test_a_fork_goes_on_with_other_parameters() -> None:
    tuned = objective("sklearn:diabetes", budget="rounds", max_rounds=60, patience=100)
    first = FakeTrial(RANDOM, target=2)
    tuned(first)
    fork = first.resumed(params={**RANDOM, "learning_rate": 0.02, "max_bin": 63}, seed=9)
    tuned(fork)
    assert [step for step, _ in fork.reports] == [1, 2, 3, 4, 5, 6]
    assert fork.metric("rmse")[2] < fork.metric("rmse")[1], "it keeps what was learnt"


@pytest.mark.parametrize("budget", ["folds", "rounds"])
def test_the_seed_decides(table: str, budget: str) -> None:
    tuned = objective(table, budget=budget)
    values = [tuned(FakeTrial(RANDOM, seed=seed)) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_base, "_CELLS_PER_THREAD", 1)
    one, two = (objective("sklearn:wine", threads=threads, max_rounds=3, folds=2) for threads in (1, 2))
    assert one(FakeTrial(RANDOM)) == two(FakeTrial(RANDOM))


def test_a_trial_stopped_before_anything_was_measured_is_pruned() -> None:
    for budget in ("folds", "rounds"):
        with pytest.raises(TrialPruned):
            objective("sklearn:wine", budget=budget)(FakeTrial(RANDOM, stop_after=0))


def test_a_stopped_trial_keeps_what_it_has() -> None:
    trial = FakeTrial(RANDOM, stop_after=2)
    value = objective("sklearn:wine")(trial)
    assert [step for step, _ in trial.reports] == [1, 2]
    assert value == trial.metric("logloss")[-1]


# -- no leaks ------------------------------------------------------------------------------------


def test_test_rows_do_not_touch_a_trial(tmp_path: Path) -> None:
    frame = mixed(task="regression")
    before = objective(written(tmp_path, frame, "a.csv"), target="y")
    rows = load_setting(before.table).split.test
    # Only numbers: a level that exists nowhere else would rightly change the codes.
    frame.loc[rows, ["a", "b", "order"]] *= -1000.0
    frame.loc[rows, "y"] += 500.0
    after = objective(written(tmp_path, frame, "b.csv"), target="y")
    np.testing.assert_array_equal(load_setting(after.table).split.test, rows)
    assert before(FakeTrial(RANDOM)) == after(FakeTrial(RANDOM))


@pytest.mark.parametrize("split", ["grouped", "time"])
def test_other_splits_train(tmp_path: Path, split: str) -> None:
    column = {"grouped": {"group": "person"}, "time": {"time": "when"}}[split]
    tuned = objective(written(tmp_path, mixed(200)), **column)
    assert tuned.prepare().summary["split"] == split
    assert set(column.values()).isdisjoint(load_setting(tuned.table).problem.columns)
    assert 0.5 < tuned(FakeTrial(RANDOM)) <= 1


# -- odd tables ----------------------------------------------------------------------------------


def test_imbalanced_classes_get_a_weight(tmp_path: Path) -> None:
    frame = mixed(200)
    rare = frame[frame["y"] == "yes"].head(20)
    frame = pd.concat([frame[frame["y"] == "no"], rare], ignore_index=True)
    path = written(tmp_path, frame)
    weight = objective(path).prepare().space.parameters["scale_pos_weight"]
    ratio = (frame["y"] == "no").sum() / 20
    assert weight.contains(ratio)
    assert weight.default == 1.0
    flipped = objective(path, positive="no").prepare().space.parameters["scale_pos_weight"]
    assert flipped.contains(1 / ratio)
    assert "scale_pos_weight" not in objective("sklearn:breast_cancer").prepare().space.names


def test_rare_classes_wide_and_tiny_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = mixed(120, "multiclass")
    frame.loc[:1, "y"] = "once"
    tuned = objective(written(tmp_path, frame, "rare.csv"))
    assert any("'once'" in note for note in tuned.prepare().notes)
    assert math.isfinite(tuned(FakeTrial(RANDOM)))
    assert math.isfinite(tuned.finalise(RANDOM, TrialInfo(seed=1, metrics={"rounds": 3.0})).score)
    wide = pd.DataFrame(rng.normal(size=(40, 300))).rename(columns=str)
    wide["y"] = wide["3"] + 0.1 * wide["5"]
    tuned = objective(written(tmp_path, wide, "wide.csv"))
    assert math.isfinite(tuned(FakeTrial(RANDOM)))
    tiny = pd.DataFrame({"x": np.arange(20.0) % 6, "y": [0, 1] * 10})
    tuned = objective(written(tmp_path, tiny, "tiny.csv"))
    prepared = tuned.prepare()
    assert math.isfinite(tuned(FakeTrial(prepared.space.decode(prepared.space.default_unit()))))


@pytest.mark.parametrize(
    "names, flavor",
    [
        (["mean radius", "größe"], "lightgbm"),
        (["a[0]", 'quote"d'], "sklearn"),
        (["a b", "a_b"], "sklearn"),
        (["two\nlines", "and\r"], "sklearn"),
        (["", " "], "sklearn"),
    ],
)
def test_column_names(tmp_path: Path, names: list[str], flavor: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=names)
    frame["y"] = frame[names[0]] > 0
    tuned = objective(written(tmp_path, frame, "table.parquet"), target="y")
    trial = FakeTrial(RANDOM)
    tuned(trial)
    final = tuned.finalise(RANDOM, last(trial))
    assert final.flavor == flavor
    assert final.importance["feature"][0] == names[0]
    assert list(final.example.columns) == names


def test_what_is_infinite_counts_as_missing_where_the_model_is_used_too(tmp_path: Path) -> None:
    """Trained with such values as missing, a table's own rows were predicted with them as large numbers."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 2)), columns=["a", "b"])
    frame["y"] = (frame["a"] > 0) ^ (np.arange(200) % 3 == 0)
    frame.loc[::3, "a"] = np.where(np.arange(0, 200, 3) % 2, np.inf, -np.inf)
    final = objective(written(tmp_path, frame)).finalise(RANDOM, TrialInfo(seed=1, metrics={"rounds": 9.0}))
    rows = pd.read_csv(tmp_path / "table.csv").drop(columns="y")
    assert np.isinf(rows["a"]).sum() > 50
    missing = rows.replace([np.inf, -np.inf], np.nan)
    assert final.model.predict_proba(rows).tolist() == final.model.predict_proba(missing).tolist()


# -- final model ---------------------------------------------------------------------------------


def test_the_final_model_is_scored_on_the_test_rows(table: str) -> None:
    tuned = objective(table)
    trial = FakeTrial(RANDOM)
    tuned(trial)
    final = tuned.finalise(RANDOM, last(trial))
    setting = load_setting(tuned.table)
    problem, rows = setting.problem, setting.split.test
    frame = problem.frame.iloc[rows]
    if problem.task == "regression":
        predictions = final.model.predict(frame)
    else:
        assert final.model.classes_.tolist() == list(problem.classes)
        predictions = final.model.predict_proba(frame)
        predictions = predictions[:, 1] if problem.task == "binary" else predictions
    assert final.score == final.scores[final.metric] == setting.metric(problem.y[rows], predictions)
    assert next(iter(final.scores)) == final.metric
    assert len(final.scores) >= 4
    assert final.params["num_iterations"] == round(trial.metric("rounds")[-1])
    assert final.importance["feature"][0] in ("a", "colour")
    assert list(final.importance.columns) == ["feature", "importance", "splits"]
    assert all("==" in r for r in final.requirements)
    packages = {r.partition("==")[0] for r in final.requirements}
    assert packages == {"lightgbm", "scikit-learn", "numpy", "scipy", "pandas", "cloudpickle"}, (
        "it is a pickle"
    )
    assert list(final.example.columns) == list(problem.columns)
    assert len(final.example_output) == len(final.example)
    assert final.contract["classes"] == list(problem.classes)
    estimator = final.model[-1]
    assert estimator.n_jobs is None, "the server decides on its threads"
    assert "num_threads" not in estimator.get_params()


def test_the_newest_rows_may_have_a_class_that_no_training_row_has(tmp_path: Path) -> None:
    """All trials ran, and then the final model had no column for it and the study ended in a traceback."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=200), "day": np.arange(200)})
    frame["y"] = np.array(list("abc"))[np.digitize(frame["x"], [-0.5, 0.5])]
    frame.loc[190:195, "y"] = "new"
    tuned = objective(written(tmp_path, frame), time="day")
    problem, test = load_setting(tuned.table).problem, load_setting(tuned.table).split.test
    final = tuned.finalise(RANDOM, TrialInfo(seed=1, metrics={"rounds": 9.0}))
    model = final.model
    assert "new" in problem.classes
    assert "new" not in model.classes_
    predicted = model.predict(problem.frame.iloc[test])
    assert final.scores["accuracy"] == pytest.approx(np.mean(predicted == frame["y"].to_numpy()[test]))


def test_rounds_are_found_again_when_the_trial_lost_them() -> None:
    for budget in ("folds", "rounds"):
        tuned = objective("sklearn:diabetes", budget=budget)
        trial = FakeTrial(RANDOM, seed=4)
        tuned(trial)
        known, lost = (tuned.finalise(RANDOM, info) for info in (last(trial), TrialInfo(seed=4)))
        assert known.params == lost.params
        assert known.scores == lost.scores


@pytest.mark.parametrize("more", [{}, {"sigmoid": 2.0}, {"boost_from_average": False}])
def test_the_weight_goes_with_the_class_that_is_named_positive(tmp_path: Path, more: dict[str, Any]) -> None:
    """scikit-learn numbers classes by name; what is meant for the positive one must not follow it there."""
    frame = mixed(200)
    named = objective(written(tmp_path, frame, "named.csv"), positive="no")
    # The same table, with names in whose order 'no' comes last.
    frame["y"] = frame["y"].map({"yes": "a", "no": "z"})
    sorted_ = objective(written(tmp_path, frame, "sorted.csv"))
    shares = {"pos_bagging_fraction": 0.9, "neg_bagging_fraction": 0.5}
    params = {**RANDOM, "scale_pos_weight": 6.0, **shares, **more}
    assert named(FakeTrial(params)) == sorted_(FakeTrial(params))
    info = TrialInfo(seed=1, metrics={"rounds": 30.0})
    one, two = (o.finalise(params, info) for o in (named, sorted_))
    rows = load_setting(named.table).problem.frame
    column = one.model.classes_.tolist().index("no")
    # Where boosting starts, too: LightGBM counts weights of classes there, not scale_pos_weight.
    gap = one.model.predict_proba(rows)[:, column] - two.model.predict_proba(rows)[:, 1]
    assert np.abs(gap).max() < 1e-9
    assert one.scores == pytest.approx(two.scores, abs=1e-9)
    assert one.importance["splits"].tolist() == two.importance["splits"].tolist()
