"""The torch network: every task and oddity trains, an interrupted trial has the same losses bit for bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from flows.objectives import TorchMLP, TrialInfo, make_objective  # noqa: E402
from flows.objectives._base import load_setting  # noqa: E402
from flows.objectives._data import encode  # noqa: E402
from flows.objectives._mlp import TabularNet  # noqa: E402
from flows.objectives._torch_learner import Learner  # noqa: E402
from hpo_core import InputError, ObjectiveError, TrialPruned  # noqa: E402
from tests.flows.fake_trial import FakeTrial  # noqa: E402
from tests.flows.served import served  # noqa: E402
from tests.flows.small_tables import mixed, written  # noqa: E402

# Everything that draws random numbers or keeps state is on.
FULL = {
    "learning_rate": 0.01,
    "weight_decay": 1e-3,
    "batch_size": 32,
    "layers": 2,
    "width": 16,
    "dropout": 0.2,
    "norm": "batch",
    "schedule": "cosine",
    "embedding_size": 4,
}


def objective(data: str, **options: Any) -> TorchMLP:
    made = make_objective(
        "torch", **{"data": data, "folds": 2, "max_epochs": 6, "patience": 50, "device": "cpu", **options}
    )
    assert isinstance(made, TorchMLP)
    return made


@pytest.fixture(params=["binary", "multiclass", "regression"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return written(tmp_path, mixed(task=request.param))


def test_every_task_learns_from_a_mixed_table(table: str) -> None:
    tuned = objective(table, max_epochs=20)
    setting = load_setting(tuned.table)
    trial = FakeTrial({**FULL, "dropout": 0.0})
    value = tuned(trial)
    name, y = setting.metric.name, setting.problem.y
    guess = {"auc": 0.5, "logloss": math.log(3), "rmse": float(np.std(y))}[name]
    assert setting.metric.sign * value < setting.metric.sign * guess - 0.05 * abs(guess)
    assert [step for step, _ in trial.reports] == list(range(1, 21))
    best = min(setting.metric.sign * v for v in trial.metric(name))
    assert value == setting.metric.sign * best == trial.metric(f"{name}_best")[-1]
    losses = trial.metric("train_loss")
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_an_interrupted_trial_equals_an_unbroken_one(table: str, optimizer: str) -> None:
    tuned = objective(table)
    params = {**FULL, "optimizer": optimizer, "momentum": 0.9}
    whole = FakeTrial(params, seed=5)
    expected = tuned(whole)
    trial = FakeTrial(params, seed=5, target=2)
    tuned(trial)
    torch.manual_seed(99)  # what other code draws in between does not matter
    trial = trial.resumed(target=3)
    tuned(trial)
    trial = trial.resumed()
    assert tuned(trial) == expected
    assert trial.reports == whole.reports


def test_the_seed_decides_and_the_global_generator_does_not(table: str) -> None:
    tuned = objective(table, max_epochs=2)
    before = torch.random.get_rng_state()
    values = [tuned(FakeTrial(FULL, seed=seed)) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(before, torch.random.get_rng_state()), "a trial leaves the global generator alone"


def test_early_stopping() -> None:
    tuned = objective("sklearn:wine", patience=3, max_epochs=100)
    trial = FakeTrial({"learning_rate": 0.05, "width": 32})
    tuned(trial)
    assert trial.reports[-1][0] < 100
    assert trial.reports[-1][0] - trial.metric("epochs")[-1] == 3


def test_metrics_that_jump_are_stopped_by_the_log_loss() -> None:
    ends = {}
    for metric in ("accuracy", "logloss"):
        trial = FakeTrial({"learning_rate": 0.05, "width": 32})
        objective("sklearn:wine", metric=metric, patience=3, max_epochs=100)(trial)
        ends[metric] = (trial.reports[-1][0], trial.metric("epochs")[-1])
    assert ends["accuracy"] == ends["logloss"]
    assert ends["logloss"][1] > 2, "some epochs are better than the first"


def test_a_diverging_network_reports_what_it_is() -> None:
    tuned = objective("sklearn:diabetes", max_epochs=30)
    value = tuned(FakeTrial({"optimizer": "sgd", "learning_rate": 50.0, "momentum": 0.99, "layers": 4}))
    assert not math.isfinite(value)


def test_forks_bring_their_own_settings_but_not_another_shape() -> None:
    tuned = objective("sklearn:wine")
    first = FakeTrial(FULL, target=3)
    tuned(first)
    fork = first.resumed(params={**FULL, "learning_rate": 0.003, "dropout": 0.4}, seed=8)
    tuned(fork)
    assert [step for step, _ in fork.reports] == [1, 2, 3, 4, 5, 6]
    assert fork.metric("train_loss")[3] < fork.metric("train_loss")[0], "it keeps what was learnt"
    other = first.resumed(params={**FULL, "optimizer": "sgd"})
    tuned(other)
    with pytest.raises(ObjectiveError, match="cannot change layers, width"):
        tuned(first.resumed(params={**FULL, "width": 32}))


def test_weight_decay_of_a_fork_is_its_own() -> None:
    """Loading an optimiser's state would bring the old settings back."""
    tuned = objective("sklearn:wine")
    first = FakeTrial(FULL, target=3)
    tuned(first)
    same, heavy = first.resumed(), first.resumed(params={**FULL, "weight_decay": 5.0})
    tuned(same)
    tuned(heavy)
    assert same.metric("train_loss")[3:] != heavy.metric("train_loss")[3:]


@pytest.mark.parametrize(
    "change",
    [
        {"norm": "layer"},
        {"norm": "none", "activation": "gelu"},
        {"activation": "silu", "squash": True},
        {"class_weight": "balanced"},
        {"layers": 1, "batch_size": 1000},
        {"clip_norm": 0.5},
        {"batch_size": 53},
    ],
)
def test_every_choice_trains(tmp_path: Path, change: dict[str, Any]) -> None:
    for task in ("binary", "multiclass"):
        tuned = objective(written(tmp_path, mixed(task=task)), max_epochs=2)
        assert math.isfinite(tuned(FakeTrial({**FULL, **change})))


def test_losses_follow_the_metric() -> None:
    final = {}
    for metric in ("rmse", "mae", "pinball_0.1", "pinball_0.9"):
        tuned = objective("sklearn:diabetes", metric=metric, max_epochs=30)
        info = TrialInfo(seed=1, metrics={"epochs": 30.0})
        final[metric] = tuned.finalise({"learning_rate": 0.01, "width": 32}, info)
    low, high = final["pinball_0.1"].example_output, final["pinball_0.9"].example_output
    assert (low < high).all()


def test_missing_values_and_unseen_levels_are_taken(tmp_path: Path) -> None:
    tuned = objective(written(tmp_path, mixed()))
    final = tuned.finalise(FULL, TrialInfo(seed=1, metrics={"epochs": 3.0}))
    rows = final.example.iloc[[0, 0]].astype(object)
    rows.iloc[:] = None
    rows.iloc[1, rows.columns.get_loc("colour")] = "violet"
    out = served(final).predict_proba(rows)
    assert np.isfinite(out).all()
    assert out[0].tolist() == out[1].tolist(), "an unseen level counts as missing"


def test_odd_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(30, 200))).rename(columns=str)
    wide["y"] = wide["3"] > 0
    words = pd.DataFrame({"c": rng.choice(["u", "v", "w"], 40), "y": rng.choice(["no", "yes"], 40)})
    for name, frame in (("wide", wide), ("words", words)):
        tuned = objective(written(tmp_path, frame, f"{name}.csv"), max_epochs=2)
        prepared = tuned.prepare()
        params = prepared.space.decode(prepared.space.default_unit())
        assert math.isfinite(tuned(FakeTrial(params)))
        assert math.isfinite(tuned.finalise(params, TrialInfo(seed=1, metrics={"epochs": 2.0})).score)


def test_a_target_of_any_size_is_learned(tmp_path: Path) -> None:
    frame = mixed(task="regression")
    frame["y"] = 1e6 + 1e4 * frame["b"]
    params = {"learning_rate": 0.02, "width": 16}
    final = objective(written(tmp_path, frame)).finalise(params, TrialInfo(seed=1, metrics={"epochs": 40.0}))
    assert final.scores["r2"] > 0.9


def test_a_quantile_has_its_share_of_targets_below(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": np.arange(2000) % 2, "y": 100 + 10 * rng.normal(size=2000)})
    tuned = objective(written(tmp_path, frame), metric="pinball_0.9")
    params = {"learning_rate": 0.05, "layers": 1, "width": 4, "schedule": "cosine"}
    model = served(tuned.finalise(params, TrialInfo(seed=1, metrics={"epochs": 6.0})))
    assert np.mean(frame["y"] < model.predict(frame[["x"]].head(1))[0]) == pytest.approx(0.9, abs=0.04)


def test_a_network_that_squashes_takes_extremes_for_little_more_than_large() -> None:
    features = np.random.default_rng(0).normal(size=(100, 3))
    far = torch.tensor([[1e6, -1e6, 1e6], [0.0, 0.0, 0.0]])
    moved = {}
    for squash in (False, True):
        torch.manual_seed(0)
        first, second = TabularNet(features, [], 1, {"squash": squash})(far)[:, 0].tolist()
        moved[squash] = abs(first - second)
    assert moved[True] < 20 < 1e4 < moved[False]


def test_a_cosine_schedule_falls_from_the_rate_to_nearly_nothing() -> None:
    setting = load_setting(objective("sklearn:wine").table)
    params = {"learning_rate": 0.1, "schedule": "cosine"}
    learner = Learner(setting.problem, setting.split.train, params, (1, torch.device("cpu")), "l2")
    rates = []
    for epoch in (1, 2, 3, 4):
        learner.epoch(epoch, 4)
        rates.append(learner.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-4)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_balanced_class_weights_give_each_class_the_same_say(tmp_path: Path, task: str) -> None:
    """Where the rows say nothing, what is predicted is the share of each class, or the same for all."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([*"aaaaaabbcc"], 200))
    frame = pd.DataFrame({"x": np.arange(2000) % 2, "y": y})
    if task == "binary":
        frame = frame[frame["y"] != "c"].reset_index(drop=True)
    tuned = objective(written(tmp_path, frame), max_epochs=60)
    params = {"learning_rate": 0.05, "layers": 1, "width": 4, "batch_size": 400}
    info = TrialInfo(seed=1, metrics={"epochs": 60.0})
    plain, balanced = (
        served(tuned.finalise({**params, "class_weight": kind}, info))
        .predict_proba(frame.head(1))[0]
        .tolist()
        for kind in ("none", "balanced")
    )
    classes = 2 if task == "binary" else 3
    assert plain == pytest.approx([0.75, 0.25] if classes == 2 else [0.6, 0.2, 0.2], abs=0.07)
    assert balanced == pytest.approx([1 / classes] * classes, abs=0.07)


def test_what_is_the_same_in_all_training_rows_says_little_of_others(tmp_path: Path) -> None:
    """Its deviation was what a mean is rounded by, 1e-17, so a row that differs was 1e16 deviations away."""
    frame = mixed(task="regression")
    frame["c"] = np.where(frame.index == 0, 0.2, 0.1)
    test = load_setting(objective(written(tmp_path, frame, "a.csv"), target="y").table).split.test
    frame["c"] = np.where(frame.index == test[0], 0.2, 0.1)
    tuned = objective(written(tmp_path, frame, "b.csv"), target="y")
    model = served(tuned.finalise(FULL, TrialInfo(seed=1, metrics={"epochs": 2.0})))
    problem = load_setting(tuned.table).problem
    rows = problem.frame.iloc[[test[0]] * 2].reset_index(drop=True)
    rows.loc[1, "c"] = 0.1
    first, second = model.predict(rows).tolist()
    assert abs(first - second) < float(np.std(problem.y))


def test_test_rows_do_not_touch_a_trial(tmp_path: Path) -> None:
    frame = mixed(task="regression")
    before = objective(written(tmp_path, frame, "a.csv"), target="y")
    rows = load_setting(before.table).split.test
    frame.loc[rows, ["a", "b", "order"]] *= -1000.0
    frame.loc[rows, "y"] += 500.0
    after = objective(written(tmp_path, frame, "b.csv"), target="y")
    assert before(FakeTrial(FULL)) == after(FakeTrial(FULL))


def test_the_final_model(table: str) -> None:
    tuned = objective(table)
    trial = FakeTrial(FULL, seed=2)
    tuned(trial)
    final = tuned.finalise(FULL, TrialInfo(seed=2, metrics=trial.reports[-1][1]))
    setting = load_setting(tuned.table)
    problem, rows = setting.problem, setting.split.test
    model, frame = served(final), problem.frame.iloc[rows]
    if problem.classes:
        scores = model.predict_proba(frame)
        assert model.predict(frame).tolist() == model.classes_[scores.argmax(axis=1)].tolist()
        predictions = scores[:, 1] if problem.task == "binary" else scores
    else:
        predictions = model.predict(frame)
    assert (
        final.score
        == final.scores[final.metric]
        == pytest.approx(setting.metric(problem.y[rows], predictions))
    )
    assert final.params["epochs"] == round(trial.metric("epochs")[-1])
    assert final.flavor == "pyfunc"
    assert final.example.equals(frame.head(len(final.example)))
    assert final.example_output.tolist() == model.predict(frame).tolist()[: len(final.example)]
    assert set(final.importance["feature"]) == set(problem.columns)
    assert final.contract["categories"] == {"colour": ["blue", "green", "red"]}
    assert not any("+" in r for r in final.requirements), "local build tags cannot be installed"
    lost = tuned.finalise(FULL, TrialInfo(seed=2))
    assert lost.score == final.score


def test_the_model_reads_rows_as_training_does(tmp_path: Path) -> None:
    """It took the encoded matrix, and nobody but this project could have made that of a row."""
    frame = mixed()
    tuned = objective(written(tmp_path, frame))
    final = tuned.finalise(FULL, TrialInfo(seed=1, metrics={"epochs": 2.0}))
    problem, model = load_setting(tuned.table).problem, served(final)
    assert problem.dates == ("when",)
    np.testing.assert_array_equal(model.encoded(problem.frame), problem.matrix)
    rows = problem.frame.head(3).copy()
    strange = rows.assign(colour=["red", "violet", None], b=[np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(
        model.encoded(strange), encode(strange.assign(b=np.nan).astype({"colour": object}), problem)
    )
    as_text = rows.assign(when=rows["when"].astype(str))[[*rows.columns[::-1]]]
    assert model.predict(as_text).tolist() == model.predict(rows).tolist()


def test_the_model_takes_flags_with_gaps_as_they_stand_in_the_file(tmp_path: Path) -> None:
    """They are text in the table, and none in what a user reads: as levels never seen, they said nothing."""
    frame = mixed()
    frame["flag"] = frame["flag"].astype(object).mask(frame["b"] > 1, None)
    tuned = objective(written(tmp_path, frame))
    model = served(tuned.finalise(FULL, TrialInfo(seed=1, metrics={"epochs": 2.0})))
    problem = load_setting(tuned.table).problem
    assert "flag" in problem.categories
    rows = pd.read_csv(tmp_path / "table.csv", parse_dates=["when"])
    assert set(rows["flag"].dropna()) == {True, False}
    np.testing.assert_array_equal(model.encoded(rows), problem.matrix)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e200])
@pytest.mark.parametrize("offset", [0.0, 2.0**31])
def test_numbers_of_any_size_are_told_apart(scale: float, offset: float) -> None:
    """In single precision seconds since 1970 were two minutes apart; the spread of 1e-300 was 0."""
    x = scale * (offset + np.arange(8.0))[:, None]
    torch.manual_seed(0)
    net = TabularNet(x, [], 1, {}).eval()
    seen: list[Any] = []
    net.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(torch.tensor(x))
    expected = (np.arange(8.0) - 3.5) / np.std(np.arange(8.0))
    assert seen[0][:, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_cuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="sees no CUDA device"):
        objective("sklearn:wine", device="cuda").prepare()


def test_a_trial_stopped_before_anything_was_measured_is_pruned() -> None:
    with pytest.raises(TrialPruned):
        objective("sklearn:wine")(FakeTrial(FULL, stop_after=0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu_a_resumed_trial_follows_the_unbroken_one(table: str) -> None:
    tuned = objective(table, device="auto")
    whole, first = FakeTrial(FULL, seed=5), FakeTrial(FULL, seed=5, target=3)
    expected = tuned(whole)
    tuned(first)
    second = first.resumed()
    assert tuned(second) == pytest.approx(expected, rel=1e-3)
    final = tuned.finalise(FULL, TrialInfo(seed=5, metrics=whole.reports[-1][1]))
    assert served(final).predict(final.example).tolist() == final.example_output.tolist()


def test_levels_that_training_has_not_seen_say_nothing() -> None:
    """Each had an embedding as it was drawn, which no training row had ever moved."""
    seen = np.column_stack([np.linspace(-1.0, 1.0, 9), np.arange(9) % 3]).astype(np.float64)
    torch.manual_seed(0)
    net = TabularNet(seen, [6], 1, {})
    rows = torch.tensor([[0.5, code] for code in (0.0, 1.0, 3.0, 4.0, 5.0, np.nan)])
    first, second, *unseen = (round(value, 5) for value in net(rows)[:, 0].tolist())
    assert len({first, second, *unseen}) == 3
    assert len(set(unseen)) == 1
