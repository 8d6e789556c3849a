"""Every metric equals scikit-learn's; names are resolved or refused in one line."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from flows.objectives._metrics import METRICS, get_metric, metric_names, pinball_level, score_all
from hpo_core import InputError

CLASS_REFERENCE = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "f1": lambda y, c: sk.f1_score(y, c, zero_division=0),
    "f1_macro": lambda y, c: sk.f1_score(y, c, average="macro", zero_division=0),
    "f1_weighted": lambda y, c: sk.f1_score(y, c, average="weighted", zero_division=0),
    "precision": lambda y, c: sk.precision_score(y, c, zero_division=0),
    "recall": lambda y, c: sk.recall_score(y, c, zero_division=0),
    "mcc": sk.matthews_corrcoef,
    "kappa": sk.cohen_kappa_score,
}


def draw(seed: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(k), np.arange(k), rng.integers(0, k, n)]).astype(float)
    # Rounded, so that ties occur.
    p = rng.dirichlet(np.ones(k), len(y)).round(1 + seed % 3) + 1e-3
    p /= p.sum(axis=1, keepdims=True)
    return y, p[:, 1] if k == 2 else p


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 60), st.sampled_from([2, 3, 5]))
def test_class_metrics_equal_sklearn(seed: int, n: int, k: int) -> None:
    y, p = draw(seed, n, k)
    predicted = (p >= 0.5).astype(int) if k == 2 else p.argmax(axis=1)
    task = "binary" if k == 2 else "multiclass"
    for name, reference in CLASS_REFERENCE.items():
        if task in METRICS[name].tasks:
            assert METRICS[name](y, p) == pytest.approx(reference(y, predicted), abs=1e-12), name


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 60), st.sampled_from([2, 3, 5]))
def test_probability_metrics_equal_sklearn(seed: int, n: int, k: int) -> None:
    y, p = draw(seed, n, k)
    one_hot = np.eye(k)[y.astype(int)]
    if k == 2:
        assert METRICS["auc"](y, p) == pytest.approx(sk.roc_auc_score(y, p))
        assert METRICS["average_precision"](y, p) == pytest.approx(sk.average_precision_score(y, p))
        assert METRICS["brier"](y, p) == pytest.approx(sk.brier_score_loss(y, p))
    else:
        auc = sk.roc_auc_score(y, p, multi_class="ovr")
        assert METRICS["auc"](y, p) == pytest.approx(auc)
        precision = sk.average_precision_score(one_hot, p, average="macro")
        assert METRICS["average_precision"](y, p) == pytest.approx(precision)
        assert METRICS["brier"](y, p) == pytest.approx(((one_hot - p) ** 2).sum(axis=1).mean())
    assert METRICS["logloss"](y, p) == pytest.approx(sk.log_loss(y, p))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 80))
def test_regression_metrics_equal_sklearn(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.gamma(2.0, size=n) + 0.01, rng.gamma(2.0, size=n)
    reference = {
        "rmse": sk.root_mean_squared_error,
        "mse": sk.mean_squared_error,
        "mae": sk.mean_absolute_error,
        "medae": sk.median_absolute_error,
        "mape": sk.mean_absolute_percentage_error,
        "rmsle": sk.root_mean_squared_log_error,
        "r2": sk.r2_score,
    }
    for name, function in reference.items():
        assert METRICS[name](y, p) == pytest.approx(function(y, p), rel=1e-9), name
    level = get_metric("pinball_0.9", "regression")
    assert level(y, p) == pytest.approx(sk.mean_pinball_loss(y, p, alpha=0.9))
    assert pinball_level(level) == 0.9
    assert pinball_level(METRICS["rmse"]) is None


def test_smape_counts_two_zeros_as_no_error() -> None:
    assert METRICS["smape"](np.array([0.0, 1.0]), np.array([0.0, 3.0])) == pytest.approx(0.5)


def test_undefined_values_are_nan_without_a_warning() -> None:
    ones = np.ones(4)
    assert math.isnan(METRICS["auc"](ones, np.linspace(0, 1, 4)))
    assert math.isnan(METRICS["average_precision"](0 * ones, np.linspace(0, 1, 4)))
    assert math.isnan(METRICS["r2"](ones, ones))
    # Three times 0.1 is not 0.3: their mean is another float.
    assert math.isnan(METRICS["r2"](np.full(3, 0.1), np.array([0.1, 0.2, 0.3])))
    assert math.isnan(METRICS["r2"](np.array([1e-200, 2e-200]), np.zeros(2)))
    assert math.isnan(METRICS["rmse"](ones, np.array([1.0, 2.0, np.nan, 1.0])))
    assert math.isnan(METRICS["accuracy"](np.zeros(0), np.zeros(0)))
    assert METRICS["mcc"](ones, ones) == 0.0
    assert METRICS["kappa"](ones, ones) == 0.0


def test_a_single_row_of_a_class_counts_in_full() -> None:
    y, p = np.array([1.0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])
    assert [METRICS[name](y, p) for name in ("recall", "precision", "f1", "f1_macro")] == [1.0] * 4


def test_multiclass_auc_ignores_a_class_that_the_fold_lacks() -> None:
    y = np.array([0.0, 0, 1, 1])
    p = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]])
    assert METRICS["auc"](y, p) == 1.0


@pytest.mark.parametrize(
    "name, task, expected",
    [
        (None, "binary", "auc"),
        (None, "multiclass", "logloss"),
        (None, "regression", "rmse"),
        ("ROC-AUC", "binary", "auc"),
        ("l2", "regression", "mse"),
        ("quantile_0.25", "regression", "pinball_0.25"),
        ("pinball_.50", "regression", "pinball_0.5"),
        ("pinball_0.9999999", "regression", "pinball_0.9999999"),  # not 1, which no model can learn
    ],
)
def test_names(name: str | None, task: str, expected: str) -> None:
    assert get_metric(name, task).name == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name, task, words",
    [
        ("acuracy", "binary", "did you mean 'accuracy'"),
        ("zzz", "regression", "valid for a regression target: mae, mape"),
        ("rmse", "binary", "for regression targets, and this target is binary"),
        ("f1", "multiclass", "f1_macro"),
        ("pinball_0", "regression", "level between 0 and 1"),
        ("pinball_1", "regression", "level between 0 and 1"),
        ("pinball_2", "regression", "level between 0 and 1"),
        ("quantile", "regression", "level between 0 and 1"),
    ],
)
def test_refusals_are_one_line(name: str, task: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        get_metric(name, task)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_targets_that_rule_a_metric_out() -> None:
    assert "0 in 1 rows" in METRICS["mape"].problem_with(np.array([0.0, 1.0, 2.0]))
    assert METRICS["mape"].problem_with(np.array([-1.0, 1.0])) == ""
    assert "negative in 2 rows" in METRICS["rmsle"].problem_with(np.array([-1.0, -2.0, 0.0, 0.5]))
    assert METRICS["rmsle"].problem_with(np.array([0.0, 1.0])) == ""
    assert METRICS["rmse"].problem_with(np.array([-1.0, 0.0])) == ""


def test_early_stopping_watches_a_smooth_metric() -> None:
    assert METRICS["f1"].watch.name == "logloss"
    assert METRICS["auc"].watch.name == "auc"
    assert METRICS["r2"].watch.name == "r2"


def test_score_all_leads_with_the_tuned_metric_and_skips_what_the_model_lacks() -> None:
    y, p = draw(0, 30, 2)
    scores = score_all("binary", y, {"class": p, "ranking": p}, METRICS["recall"])
    assert next(iter(scores)) == "recall"
    assert "auc" in scores
    assert "logloss" not in scores


def test_every_task_has_sorted_names() -> None:
    for task in ("binary", "multiclass", "regression"):
        names = metric_names(task)
        assert names == sorted(names)
        assert names
        assert ("pinball_0.9" in names) == (task == "regression")
