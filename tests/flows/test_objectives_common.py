"""What all ready objectives share: options, preparation in one line, pickling, light imports."""

from __future__ import annotations

import pickle
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.models.utils import _enforce_schema

from flows import _saving
from flows._final import _signature
from flows.objectives import TrialInfo, make_objective, objective_names, option_names
from flows.objectives._base import fold_seed, load_setting, thinned, useful_threads
from hpo_core import InputError
from tests.flows.fake_trial import FakeTrial
from tests.flows.small_tables import mixed, written

# Small enough that every kind trains in a blink.
QUICK: dict[str, dict[str, Any]] = {
    "lgbm": {"max_rounds": 10},
    "sklearn": {"estimator": "decision_tree"},
    "torch": {"max_epochs": 2},
}
KINDS = sorted(QUICK)
DIABETES, GOSS = "sklearn:diabetes", {"data_sample_strategy": "goss"}
LINEAR_L1 = {"objective": ["regression_l1"], "linear_tree": [True]}


def test_importing_the_objectives_imports_no_library() -> None:
    code = (
        "import sys, flows.objectives\n"
        "heavy = {'lightgbm', 'sklearn', 'torch', 'pandas', 'mlflow', 'prefect'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_objectives_are_frozen_hashable_and_travel(kind: str) -> None:
    objective = make_objective(kind, data="sklearn:wine", folds=3, drop="alcohol, ash", **QUICK[kind])
    assert pickle.loads(pickle.dumps(objective)) == objective
    assert hash(objective) == hash(pickle.loads(pickle.dumps(objective)))
    assert objective.table.drop == ("alcohol", "ash")
    with pytest.raises(AttributeError):
        objective.table = None  # type: ignore[misc, assignment]


@pytest.mark.parametrize("kind", KINDS)
def test_prepared(kind: str) -> None:
    options: dict[str, Any] = {"data": "sklearn:breast_cancer", "folds": 3, **QUICK[kind]}
    prepared = make_objective(kind, **options).prepare()
    assert prepared.objectives == {"auc": "max"}
    assert prepared.summary["rows"] == 569
    assert prepared.summary["train_rows"] + prepared.summary["test_rows"] == 569
    assert prepared.n_steps in (2, 3)
    assert "\n" not in prepared.description
    again = make_objective(kind, **options, threads=2).prepare()
    assert again.digest == prepared.digest, "threads do not change what is measured"
    changes: tuple[dict[str, Any], ...] = (
        {"metric": "f1"}, {"seed": 1}, {"folds": 4}, {"drop": ["mean area"]}, {"test_size": 0.3}
    )  # fmt: skip
    for change in changes:
        other = make_objective(kind, **{**options, **change}).prepare()
        assert other.digest != prepared.digest, change
        assert other.data_digest == prepared.data_digest


def test_the_length_of_a_step_is_part_of_the_question_where_steps_are_rounds() -> None:
    """A trial's value is looked for at the ends of steps only."""
    digests = {
        (budget, stride): make_objective(
            "lgbm", data="sklearn:wine", folds=2, budget=budget, rounds_per_step=stride
        ).prepare().digest
        for budget in ("rounds", "folds")
        for stride in (5, 10)
    }  # fmt: skip
    assert digests["rounds", 5] != digests["rounds", 10]
    assert digests["folds", 5] == digests["folds", 10]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "task, metric", [("binary", "auc"), ("multiclass", "logloss"), ("regression", "rmse")]
)
def test_the_default_space_is_large_and_its_default_is_allowed(
    kind: str, task: str, metric: str, tmp_path: Path
) -> None:
    path = written(tmp_path, mixed(task=task))
    options: dict[str, Any] = {"max_rounds": 10} if kind == "lgbm" else {}
    prepared = make_objective(kind, data=path, **options).prepare()
    assert list(prepared.objectives) == [metric]
    assert prepared.space.dims >= (10 if kind != "sklearn" else 6)
    assert prepared.space.decode(prepared.space.default_unit())


@pytest.mark.parametrize(
    "kind, options, words",
    [
        ("lgmb", {}, "did you mean 'lgbm'"),
        ("lgbm", {"data": None}, "needs data"),
        ("lgbm", {"fold": 3}, "did you mean 'folds'"),
        ("lgbm", {"estimator": "x"}, "has no option 'estimator'"),
        ("lgbm", {"budget": "epochs"}, "'folds', 'rows' or 'rounds'"),
        ("lgbm", {"max_rounds": 0}, "max_rounds must be a whole number of at least 1, got 0"),
        ("lgbm", {"patience": 1.5}, "patience must be a whole number"),
        ("lgbm", {"threads": 0}, "threads must be a whole number of at least 1"),
        ("lgbm", {"metric": "acuracy"}, "did you mean 'accuracy'"),
        ("lgbm", {"metric": "rmse"}, "for regression targets"),
        ("lgbm", {"target": "targt"}, "did you mean 'target'"),
        ("lgbm", {"space": "nowhere.yaml"}, "does not exist"),
        ("lgbm", {"space": {"boosting": ["gbdt", "dart"]}, "budget": "rounds"}, "cannot be paused"),
        ("lgbm", {"space": {"data_sample_strategy": "goss"}, "budget": "rounds"}, "cannot be paused"),
        ("lgbm", {"space": {"objective": ["huber", "fair"]}}, "regression only"),
        ("lgbm", {"space": {"is_unbalance": True, "scale_pos_weight": 2.0}}, "exclude each other"),
        ("lgbm", {"data": "sklearn:iris", "space": {"scale_pos_weight": 2.0}}, "two classes"),
        ("lgbm", {"data": DIABETES, "space": {"objective": ["quantile"], "alpha": [0.9, 1.0]}}, "below 1"),
        ("lgbm", {"data": DIABETES, "space": {"objective": ["huber", "quantile"], "alpha": 1.5}}, "below 1"),
        (
            "lgbm",
            {"data": DIABETES, "space": {"objective": ["regression_l1"], "linear_tree": [True]}},
            "go with",
        ),
        ("lgbm", {"space": {**GOSS, "top_rate": {"low": 0.1, "high": 0.8}, "other_rate": 0.3}}, "at most 1"),
        ("lgbm", {"space": {**GOSS, "top_rate": {"low": 0.0, "high": 0.8}}}, "each must be above 0"),
        ("lgbm", {"data": "sklearn:diabetes", "metric": "auc"}, "for binary or multiclass targets"),
        ("torch", {"device": "tpu"}, "device must be one of"),
        ("torch", {"max_epochs": True}, "max_epochs must be"),
        ("torch", {"space": {"layer": 3}}, "did you mean 'layers'"),
        ("torch", {"space": {"epochs": 3}}, "set max_epochs"),
        ("torch", {"space": {"dropout": {"high": 2.0}}}, "outside 0 to 0.95"),
        (
            "torch",
            {"space": {"dropout": {"type": "normal", "mu": 0.2, "sigma": 0.1, "high": 0.9}}},
            "outside 0 to 0.95",
        ),
        ("torch", {"space": {"norm": ["none", "weight"]}}, "'weight' is not one of"),
        ("torch", {"space": {"norm": {"low": 0, "high": 1}}}, "needs choices"),
        ("torch", {"space": {"width": 3.5}}, "whole number"),
        ("torch", {"space": {"width": {"type": "float", "low": 3, "high": 8}}}, "give it type: int"),
        ("torch", {"space": {"squash": 1}}, "is not one of [False, True]"),
        ("torch", {"space": {"embedding_size": 3}}, "needs categorical columns"),
        ("torch", {"space": {"label_smoothing": 0.1}}, "more than two classes"),
        ("sklearn", {"budget": "rounds"}, "'folds', 'rows' or 'steps'"),
        ("sklearn", {"n_steps": 0}, "n_steps must be"),
        ("sklearn", {"estimator": "sklearn.linear_model.Ridge"}, "use a classifier, or force the task"),
        (
            "sklearn",
            {"estimator": "sklearn.tree.ExtraTreeRegressor"},
            "use sklearn.tree.ExtraTreeClassifier, or",
        ),
        ("sklearn", {"n_steps": 50, "max_size": 20}, "cannot be spread"),
    ],
)
def test_refusals_are_one_line(kind: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        make_objective(kind, **{"data": "sklearn:breast_cancer", **options}).prepare()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_may_come_as_a_mapping() -> None:
    flat = make_objective("lgbm", data="sklearn:wine", max_rounds=7, folds=None)
    assert flat == make_objective("lgbm", data="sklearn:wine", options={"max_rounds": 7})
    assert flat.table.plan.n_folds == 5


def test_every_objective_lists_its_options() -> None:
    assert objective_names() == ["lgbm", "sklearn", "torch"]
    for kind in objective_names():
        assert {"data", "metric", "folds", "seed", "space"} <= set(option_names(kind))


def test_edited_data_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path, mixed(100))
    objective = make_objective("lgbm", data=path, target="y")
    first = load_setting(objective.table)
    assert load_setting(objective.table) is first
    written(tmp_path, mixed(120))
    assert len(load_setting(objective.table).problem.y) == 120


def test_metrics_that_the_target_rules_out(tmp_path: Path) -> None:
    frame = mixed(task="regression")
    frame.loc[0, "y"] = 0.0
    path = written(tmp_path, frame)
    with pytest.raises(InputError, match="the target is 0 in 1 rows; use 'smape'"):
        make_objective("lgbm", data=path, metric="mape").prepare()


@pytest.mark.parametrize("n, most", [(1, 5), (5, 5), (6, 5), (1000, 20), (3, 1)])
def test_thinned_keeps_both_ends(n: int, most: int) -> None:
    at = thinned(n, most)
    assert at[0] == 0
    assert at[-1] == n - 1
    assert len(at) <= max(most, 2)
    assert at == sorted(set(at))


@pytest.mark.parametrize(
    "kind, options", [(k, QUICK[k]) for k in KINDS] + [("lgbm", {"budget": "rounds", "max_rounds": 30})]
)
def test_only_long_or_interrupted_trials_save(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = make_objective(kind, data="sklearn:wine", folds=3, **options)
    whole, paused = FakeTrial({}), FakeTrial({}, target=1)
    objective(whole)
    objective(paused)
    assert whole.saves == 0, "a short trial that ran to its end leaves nothing on the disk"
    assert paused.saves == 1
    monkeypatch.setattr(_saving, "_SAVE_SECONDS", -1.0)
    long = FakeTrial({})
    objective(long)
    assert long.saves == len(long.reports), "a long one saves as it goes"
    assert long.saved is not None
    again = FakeTrial({}, checkpoint=long.saved)
    assert objective(again) == objective(FakeTrial({})), "lost after its last step, it still knows its value"


@pytest.mark.parametrize(
    "kind, options",
    [
        ("lgbm", {"budget": "rounds", "max_rounds": 60, "rounds_per_step": 1, "patience": 3}),
        ("sklearn", {"estimator": "sgd", "budget": "steps", "patience": 3}),
        ("torch", {"max_epochs": 60, "patience": 3}),
    ],
)
def test_a_trial_that_was_lost_when_its_patience_was_over_trains_no_further(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on from after its last step, where its value may be a better one."""
    monkeypatch.setattr(_saving, "_SAVE_SECONDS", -1.0)
    objective = make_objective(kind, data="sklearn:wine", folds=2, **options)
    params = {"learning_rate": 0.3} if kind != "sklearn" else {"loss": "log_loss", "alpha": 0.1}
    whole = FakeTrial(params)
    value = objective(whole)
    assert whole.reports[-1][0] < (objective.prepare().n_steps or 0), "its patience ended it"
    again = whole.resumed()
    assert (objective(again), again.reports) == (value, whole.reports)


@pytest.mark.parametrize("kind", ["lgbm", "sklearn"])
def test_the_spread_over_folds_is_that_of_a_sample_as_over_seeds(kind: str) -> None:
    """It was that of a whole population, a tenth less with five folds, and 0 on a single one."""
    trial = FakeTrial({})
    make_objective(kind, data="sklearn:breast_cancer", folds=3, metric="accuracy", **QUICK[kind])(trial)
    assert ["accuracy_std" in metrics for _, metrics in trial.reports] == [False, True, True]
    if kind == "sklearn":  # LightGBM's folds are taken at the number of rounds that is best for all
        expected = statistics.stdev(trial.metric("accuracy_fold"))
        assert trial.metric("accuracy_std")[-1] == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_classes_may_be_fractions(tmp_path: Path, kind: str, task: str) -> None:
    """All trials ran, and then the final model took them for values and raised."""
    frame = mixed(task=task)
    frame["y"] = frame["y"].map({"no": -0.5, "yes": 10.5, "low": 0.5, "mid": 2.5, "top": 10.5})
    tuned = make_objective(kind, data=written(tmp_path, frame), target="y", task=task, **QUICK[kind])
    prepared = tuned.prepare()
    final = tuned.finalise(
        prepared.space.decode(prepared.space.default_unit()),
        TrialInfo(seed=1, metrics={"rounds": 5.0, "epochs": 2.0}),
    )
    problem = load_setting(tuned.table).problem
    assert problem.classes == tuple(str(label) for label in sorted(set(frame["y"])))
    assert {str(label) for label in final.example_output} <= set(problem.classes)
    assert any("'10.5'" in note for note in prepared.notes)
    assert final.scores["auc"] > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_has_no_date_that_mlflow_refuses(tmp_path: Path, kind: str) -> None:
    """A network was trained, and not to be logged where one of its five example rows had a date for never."""
    frame = mixed()
    frame["until"] = ["9999-12-31" if i % 2 else "2024-05-06" for i in range(len(frame))]
    tuned = make_objective(kind, data=written(tmp_path, frame), target="y", **QUICK[kind])
    final = tuned.finalise({}, TrialInfo(seed=1, metrics={"rounds": 2.0, "epochs": 1.0}))
    assert 0 < final.example["until"].isna().sum() < len(final.example)
    enforced = _enforce_schema(final.example, _signature(final).inputs)
    assert enforced["until"].tolist() == final.example["until"].tolist()


def test_a_signature_needs_every_column_whatever_the_example_rows_lack(tmp_path: Path) -> None:
    """Five rows decided what may be left out, for which the model raised, and of what kind a text is."""
    frame = mixed()
    frame["seldom"] = [*[None] * (len(frame) - 9), *["often"] * 9]
    tuned = make_objective("lgbm", data=written(tmp_path, frame), target="y", **QUICK["lgbm"])
    final = tuned.finalise({}, TrialInfo(seed=1, metrics={"rounds": 2.0}))
    assert final.example["seldom"].isna().all()
    inputs = _signature(final).inputs
    assert inputs.input_names() == inputs.required_input_names() == list(final.contract["columns"])
    kinds = {c.name: c.type.name for c in inputs}
    assert (kinds["a"], kinds["order"], kinds["when"]) == ("double", "long", "datetime")
    assert kinds["colour"] == kinds["seldom"] == "string"


def test_every_fold_and_step_has_a_seed_of_its_own() -> None:
    assert len({fold_seed(7, fold, step) for fold in range(50) for step in range(100)}) == 5000
    assert all(0 <= fold_seed(seed, 1) < 2**31 for seed in (0, 1, 2**63))


def test_small_tables_get_one_thread() -> None:
    """Two spinning threads on a small table are slower than one, by far when the machine is busy."""
    assert useful_threads(8, 569 * 30) == 1
    assert useful_threads(8, 100_000 * 20) == 8
    assert useful_threads(8, 300_000) == 3
