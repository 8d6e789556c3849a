"""Shares of the rows as the budget: which rows they are, and what a trial is worth on them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from flows._plan import plan_request
from flows._request import Request
from flows.objectives import SklearnModel, TrialInfo, make_objective
from flows.objectives._base import fold_seed, load_setting
from flows.objectives._lgbm_rounds import dataset
from flows.objectives._shares import _turns, fold_at, n_shares, share_of
from hpo_core import InputError, StrategyError
from tests.flows.conftest import Hpo, Place
from tests.flows.fake_trial import FakeTrial

ROWS: dict[str, Any] = {
    "data": "sklearn:breast_cancer", "target": "target", "estimator": "linear", "folds": 3, "budget": "rows",
}  # fmt: skip


def table(path: Path, rows: int, *, rare: int = 0, regression: bool = False) -> str:
    """A table with two classes, ``rare`` rows of the second, or half; or with a number to predict."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    y = x + rng.normal(size=rows) if regression else np.arange(rows) >= rows - (rare or rows // 2)
    frame = pd.DataFrame({"x": x, "day": np.arange(rows), "y": y if regression else np.where(y, "b", "a")})
    frame.sample(frac=1.0, random_state=0).to_csv(path / "table.csv", index=False)
    return str(path / "table.csv")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 20))
def test_any_beginning_has_the_classes_in_proportion(codes: list[int], part: int) -> None:
    y = np.array(codes)
    first = np.argsort(_turns(y), kind="stable")[: len(y) * part // 20]
    for code in set(codes):
        expected = (y == code).mean() * len(first)
        assert abs((y[first] == code).sum() - expected) <= len(set(codes)) / 2 + 1


def test_shares_are_nested_the_same_for_all_and_stratified() -> None:
    setting = load_setting(make_objective("sklearn", **ROWS).table)
    train = setting.split.folds[0][0]
    shares = [share_of(setting, train, k / 3) for k in (1, 2, 3)]
    assert [len(rows) for rows in shares] == [round(len(train) / 3), round(2 * len(train) / 3), len(train)]
    for smaller, larger in itertools.pairwise(shares):
        assert set(smaller) < set(larger) <= set(train)
        assert (np.diff(smaller) > 0).all()
        assert setting.problem.y[smaller].mean() == pytest.approx(setting.problem.y[larger].mean(), abs=0.01)
    assert (share_of(setting, train, 1 / 3) == shares[0]).all()


@pytest.mark.parametrize(
    ("rows", "rare", "fewest"), [(20_000, 0, 2_000), (20_000, 60, 3_300), (2_000, 0, 500)]
)
def test_validation_takes_no_more_rows_than_tell_trials_apart(
    rows: int, rare: int, fewest: int, tmp_path: Path
) -> None:
    """Of 500,000 rows most of a small budget's time went to predictions of the whole fold."""
    options = {**ROWS, "data": table(tmp_path, rows, rare=rare), "target": "y"}
    setting = load_setting(make_objective("sklearn", **options).table)
    for fold, (train, valid) in enumerate(setting.split.folds):
        parts = [fold_at(setting, fold, share) for share in (0.01, 0.75, 1.0)]
        for smaller, larger in itertools.pairwise(parts):
            assert all(np.isin(a, b).all() for a, b in zip(smaller, larger, strict=True))
        assert [len(few) for few, _ in parts] == [round(len(train) * s) for s in (0.01, 0.75, 1.0)]
        assert (parts[2][0] == train).all()
        assert (parts[2][1] == valid).all()
        least = parts[0][1]
        assert fewest <= len(least) < fewest * 1.1
        assert np.bincount(setting.problem.y[least].astype(int)).min() >= 10


def test_of_rows_in_time_the_newest_are_taken(tmp_path: Path) -> None:
    options = {**ROWS, "data": table(tmp_path, 2_000, regression=True), "target": "y", "time": "day"}
    setting = load_setting(make_objective("sklearn", **options).table)
    times = setting.problem.table.times
    assert times is not None
    for train, valid in setting.split.folds:
        few = share_of(setting, train, 1 / 3)
        rest = np.setdiff1d(train, few)
        assert times[rest].max() < times[few].min() <= times[few].max() < times[valid].min()


def test_in_time_every_share_has_every_class_too(tmp_path: Path) -> None:
    """A class that the newest rows of a fold had none of was in no small share: an estimator that learns from
    several classes only failed there, with every configuration alike.
    """
    days = np.arange(3_000)
    rare = days % 600 < 20
    frame = pd.DataFrame({"x": rare + np.random.default_rng(0).normal(size=len(days)), "day": days})
    frame.assign(y=np.where(rare, "b", "a")).to_csv(tmp_path / "table.csv", index=False)
    options = {**ROWS, "data": str(tmp_path / "table.csv"), "target": "y", "time": "day", "metric": "auc"}
    tuned = make_objective("sklearn", **options)
    setting = load_setting(tuned.table)
    times, shares = setting.problem.table.times, n_shares(setting)
    assert times is not None
    for train, _ in setting.split.folds:
        few = share_of(setting, train, 1 / shares)
        assert setting.problem.y[few].mean() == pytest.approx(setting.problem.y[train].mean(), abs=0.01)
        for code in (0, 1):
            own, taken = (times[rows[setting.problem.y[rows] == code]] for rows in (train, few))
            assert sorted(taken) == sorted(own)[len(own) - len(taken) :]  # the newest of it
    params = tuned.prepare().space.decode(tuned.prepare().space.default_unit())
    assert tuned(FakeTrial(params, target=1)) > 0.5


def test_a_budget_is_worth_what_the_model_of_these_rows_is_and_the_whole_one_what_folds_are() -> None:
    tuned, folds = (
        make_objective("sklearn", **{**ROWS, "budget": axis, "estimator": "decision_tree"})
        for axis in ("rows", "folds")
    )
    assert isinstance(tuned, SklearnModel)
    setting = load_setting(tuned.table)
    problem, parts = setting.problem, n_shares(setting)
    assert (tuned.prepare().n_steps, parts) == (3, 3)
    params = tuned.prepare().space.decode(tuned.prepare().space.default_unit())
    first, whole, plain = FakeTrial(params, target=1), FakeTrial(params), FakeTrial(params)
    by_hand = []
    for i, (train, valid) in enumerate(setting.split.folds):
        few = share_of(setting, train, 1 / 3)
        model = DecisionTreeClassifier(random_state=fold_seed(1, i)).set_params(**params)
        model.fit(problem.frame.to_numpy()[few], problem.y[few])
        chances = model.predict_proba(problem.frame.to_numpy()[valid])[:, 1]
        by_hand.append(roc_auc_score(problem.y[valid], chances))
    assert tuned(first) == pytest.approx(np.mean(by_hand))
    assert tuned(whole) == pytest.approx(folds(plain))
    assert [step for step, _ in first.reports + whole.reports] == [1, 3]
    assert tuned.on_folds(params, 1) == pytest.approx(folds.on_folds(params, 1))
    info = TrialInfo(seed=1, metrics=whole.reports[-1][1])
    assert tuned.finalise(params, info).score == pytest.approx(folds.finalise(params, info).score)


def test_lightgbm_learns_from_the_share_and_is_validated_on_the_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**ROWS, "max_rounds": 30}
    del options["estimator"]
    tuned, folds = (make_objective("lgbm", **{**options, "budget": axis}) for axis in ("rows", "folds"))
    setting = load_setting(tuned.table)
    params = tuned.prepare().space.decode(tuned.prepare().space.default_unit())
    used: list[Any] = []

    def noted(problem: Any, rows: Any, *more: Any) -> Any:
        used.append(rows)
        return dataset(problem, rows, *more)

    monkeypatch.setattr("flows.objectives._lgbm.dataset", noted)
    first, whole, plain = FakeTrial(params, target=1), FakeTrial(params), FakeTrial(params)
    assert 0.5 < tuned(first) < 1.0
    expected = [
        part for train, valid in setting.split.folds for part in (share_of(setting, train, 1 / 3), valid)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(used, expected, strict=True))
    assert tuned(whole) == folds(plain)
    assert [step for step, _ in first.reports + whole.reports] == [1, 3]
    assert whole.reports[-1][1]["rounds"] == plain.reports[-1][1]["rounds"]
    assert tuned.on_folds(params, 1) == folds.on_folds(params, 1)
    info = TrialInfo(seed=1, metrics=whole.reports[-1][1])
    assert tuned.finalise(params, info).score == folds.finalise(params, info).score


@pytest.mark.parametrize(("rows", "rare", "shares"), [(20_000, 0, 100), (4_500, 0, 24), (4_500, 40, 10)])
def test_the_smallest_share_has_enough_of_everything(
    rows: int, rare: int, shares: int, tmp_path: Path
) -> None:
    options = {**ROWS, "data": table(tmp_path, rows, rare=rare), "target": "y"}
    setting = load_setting(make_objective("sklearn", **options).table)
    assert n_shares(setting) == shares
    for train, _ in setting.split.folds:
        few = share_of(setting, train, 1 / shares)
        assert len(few) >= 100
        assert len(set(setting.problem.y[few])) == 2


@pytest.mark.parametrize(
    ("rows", "rare", "says"),
    [
        (300, 0, "300 training rows and 6 of each class"),
        (3_000, 8, "and 4 of the rarest class; use budget='folds'"),
    ],
)
def test_too_small_a_table_is_refused(rows: int, rare: int, says: str, tmp_path: Path) -> None:
    options = {**ROWS, "data": table(tmp_path, rows, rare=rare), "target": "y"}
    with pytest.raises(InputError, match=says):
        make_objective("sklearn", **options).prepare()


def planned(strategy: str, objective: str = "sklearn") -> Any:
    options = {"budget": "rows", **({"estimator": "linear"} if objective == "sklearn" else {})}
    table: dict[str, Any] = {
        "data": "sklearn:breast_cancer", "target": "target", "trials": 20, "options": options,
    }  # fmt: skip
    return plan_request(Request(objective=objective, strategy=strategy, **table))


@pytest.mark.parametrize("objective", ["sklearn", "lgbm"])
@pytest.mark.parametrize("strategy", ["asha", "hyperband", "median", "successive_halving", "tpe"])
def test_rows_are_the_axis_of_whoever_asks_for_them(strategy: str, objective: str) -> None:
    plan = planned(strategy, objective)
    assert (plan.table.budget, plan.terms.settings.max_steps) == ("rows", 3)
    assert ("trains every trial on all rows" in " ".join(plan.notes)) == (strategy == "tpe")


@pytest.mark.parametrize("objective", ["sklearn", "lgbm"])
def test_what_changes_during_training_cannot_do_so_over_rows(objective: str) -> None:
    with pytest.raises(StrategyError, match="needs steps of training and not shares of the rows"):
        planned("pbt", objective)


def test_a_study_over_rows_trains_few_on_all_of_them(hpo: Hpo, tracked: Place) -> None:
    command = (
        "tune",
        "sklearn",
        "--estimator",
        "linear",
        "--data",
        "sklearn:breast_cancer",
        "--target",
        "target",
    )
    said = hpo(
        *(*command, "--strategy", "asha", "--option", "budget=rows", "--trials", 9, "--workers", 1),
        *("--isolation", "thread", "--name", "rows", "--offline"),
    )
    assert (said.code, said.err) == (0, "")
    trials = tracked.study("rows").trials
    ends = [trial.step for trial in trials]
    assert set(ends) == {1, 3}
    assert ends.count(3) < 9 / 2
    assert "began anew" not in said.out
