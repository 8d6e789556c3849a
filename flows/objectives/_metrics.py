"""The metrics that a table can be tuned for, each with its direction, its tasks and its needs.

Plain numpy instead of scikit-learn's functions: one evaluation per boosting round has to cost
microseconds, and a validation fold that lacks a class must give a number or NaN, never a warning.
``tests/flows/test_metrics.py`` holds every one of them against scikit-learn.

Notation
--------
n, K    rows, classes
y       (n,) class codes 0 .. K-1 (code 1 is the positive class of two), or target values
p       binary: (n,) probability of class 1; multiclass: (n, K) probabilities; regression: (n,) values
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpo_core import InputError
from hpo_core.inner import nearest, sign_of

Array = NDArray[np.float64]
Task = Literal["binary", "multiclass", "regression"]
# What a model must offer: the class, scores that rank the rows, calibrated probabilities, or a value.
Needs = Literal["class", "ranking", "probability", "value"]

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One named metric.

    ``smooth`` metrics change with every small improvement of a model, so early stopping can watch
    them; the others (accuracy, F1, ...) stand still and jump, and early stopping watches
    ``watch`` instead. ``problem_with(y)`` is a sentence when the target rules the metric out.
    """

    name: str
    direction: Literal["max", "min"]
    tasks: tuple[Task, ...]
    needs: Needs
    function: Callable[[Array, Array], float]
    smooth: bool = True
    problem_with: Callable[[Array], str] = lambda y: ""

    def __call__(self, y: Array, p: Array) -> float:
        """The value on these rows; NaN where it is not defined or a prediction is not finite."""
        if not len(y) or not np.isfinite(p).all():
            return math.nan
        return float(self.function(y, p))

    @property
    def sign(self) -> float:
        """``sign * value`` is to be minimised."""
        return sign_of(self.direction)

    @property
    def watch(self) -> Metric:
        """The smooth metric that early stopping watches: itself, or, of some of classes, the log loss."""
        return self if self.smooth else METRICS["logloss"]


# -- classification ------------------------------------------------------------------------------


def _tied_groups(sorted_scores: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of the runs of equal values in a sorted array."""
    cuts = np.flatnonzero(np.diff(sorted_scores)) + 1
    return np.concatenate([[0], cuts]), np.concatenate([cuts, [len(sorted_scores)]])


def _auc_of(positive: NDArray[np.bool_], score: Array) -> float:
    """Mann-Whitney U over all pairs, ties counted one half."""
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return math.nan
    order = np.argsort(score)
    starts, ends = _tied_groups(score[order])
    ranks = np.repeat((starts + ends + 1) / 2, ends - starts)
    rank_sum = float(ranks[positive[order]].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def _precision_of(positive: NDArray[np.bool_], score: Array) -> float:
    """Average precision: the step-wise area under the precision-recall curve."""
    if not positive.any():
        return math.nan
    order = np.argsort(-score)
    _, ends = _tied_groups(score[order])
    hits = np.cumsum(positive[order])[ends - 1]
    recall_gain = np.diff(hits, prepend=0) / hits[-1]
    return float((recall_gain * hits / ends).sum())


def _one_against_rest(function: Callable[[NDArray[np.bool_], Array], float], y: Array, p: Array) -> float:
    """The binary function, or its mean over the classes that some but not all rows have."""
    if p.ndim == 1:
        return function(y == 1, p)
    present = [k for k in range(p.shape[1]) if 0 < int((y == k).sum()) < len(y)]
    return float(np.mean([function(y == k, p[:, k]) for k in present])) if present else math.nan


def _auc(y: Array, p: Array) -> float:
    return _one_against_rest(_auc_of, y, p)


def _average_precision(y: Array, p: Array) -> float:
    return _one_against_rest(_precision_of, y, p)


def _two_columns(p: Array) -> Array:
    return np.stack([1 - p, p], axis=1) if p.ndim == 1 else p


def _logloss(y: Array, p: Array) -> float:
    chosen = _two_columns(p)[np.arange(len(y)), y.astype(np.int64)]
    eps = np.finfo(np.float64).eps
    return float(-np.log(np.clip(chosen, eps, 1.0)).mean())


def _brier(y: Array, p: Array) -> float:
    if p.ndim == 1:
        return float(((p - y) ** 2).mean())
    truth = np.eye(p.shape[1])[y.astype(np.int64)]
    return float(((p - truth) ** 2).sum(axis=1).mean())


def predicted_class(p: Array) -> NDArray[np.int64]:
    """(n,) class codes: the likelier class, class 1 at exactly one half."""
    return (p >= 0.5).astype(np.int64) if p.ndim == 1 else p.argmax(axis=1).astype(np.int64)


def _confusion(y: Array, p: Array) -> NDArray[np.int64]:
    """(K, K) counts: true class down, predicted class across."""
    k = 2 if p.ndim == 1 else p.shape[1]
    pairs = y.astype(np.int64) * k + predicted_class(p)
    return np.bincount(pairs, minlength=k * k).reshape(k, k)


def _accuracy(y: Array, p: Array) -> float:
    return float((y == predicted_class(p)).mean())


def _balanced_accuracy(y: Array, p: Array) -> float:
    table = _confusion(y, p)
    members = table.sum(axis=1)
    there = members > 0
    return float((np.diag(table)[there] / members[there]).mean())


def _per_class(y: Array, p: Array) -> tuple[Array, Array, Array, Array]:
    """(K,) each: precision, recall, F1 (0 where undefined) and the members of each class."""
    table = _confusion(y, p)
    hits, members, named = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    precision = hits / np.maximum(named, 1)
    recall = hits / np.maximum(members, 1)
    return precision, recall, 2 * hits / np.maximum(named + members, 1), members


def _f1(y: Array, p: Array) -> float:
    return float(_per_class(y, p)[2][1])


def _precision(y: Array, p: Array) -> float:
    return float(_per_class(y, p)[0][1])


def _recall(y: Array, p: Array) -> float:
    return float(_per_class(y, p)[1][1])


def _f1_macro(y: Array, p: Array) -> float:
    table = _confusion(y, p)
    seen = (table.sum(axis=0) + table.sum(axis=1)) > 0
    return float(_per_class(y, p)[2][seen].mean())


def _f1_weighted(y: Array, p: Array) -> float:
    _, _, f1, members = _per_class(y, p)
    return float((f1 * members).sum() / members.sum())


def _mcc(y: Array, p: Array) -> float:
    """Matthews correlation for K classes (Gorodkin 2004, eq. 8); 0 when a side is constant."""
    table = _confusion(y, p).astype(np.float64)
    true, named, n = table.sum(axis=1), table.sum(axis=0), table.sum()
    spread = math.sqrt(max((n * n - named @ named) * (n * n - true @ true), 0.0))
    return float((np.trace(table) * n - true @ named) / spread) if spread else 0.0


def _kappa(y: Array, p: Array) -> float:
    """Cohen's kappa; 0 when both sides are one and the same constant."""
    table = _confusion(y, p).astype(np.float64)
    n = table.sum()
    chance = float(table.sum(axis=1) @ table.sum(axis=0)) / (n * n)
    return float((np.trace(table) / n - chance) / (1 - chance)) if chance < 1 else 0.0


# -- regression ----------------------------------------------------------------------------------


def _mse(y: Array, p: Array) -> float:
    return float(((y - p) ** 2).mean())


def _rmse(y: Array, p: Array) -> float:
    return math.sqrt(_mse(y, p))


def _mae(y: Array, p: Array) -> float:
    return float(np.abs(y - p).mean())


def _medae(y: Array, p: Array) -> float:
    return float(np.median(np.abs(y - p)))


def _mape(y: Array, p: Array) -> float:
    return float((np.abs(y - p) / np.maximum(np.abs(y), np.finfo(np.float64).eps)).mean())


def _smape(y: Array, p: Array) -> float:
    """Symmetric mean absolute percentage error in [0, 2]; a row where both are 0 counts 0."""
    total = np.abs(y) + np.abs(p)
    gap = 2 * np.abs(y - p)
    return float(np.divide(gap, total, out=np.zeros_like(gap), where=total > 0).mean())


def _rmsle(y: Array, p: Array) -> float:
    # A model may predict below zero although no target is; the logarithm then sees zero.
    return _rmse(np.log1p(y), np.log1p(np.maximum(p, 0.0)))


def _r2(y: Array, p: Array) -> float:
    total = float(((y - y.mean()) ** 2).sum())
    # The mean of equal values may be another float, next to them.
    varies = total > 0 and np.ptp(y) > 0
    return 1 - float(((y - p) ** 2).sum()) / total if varies else math.nan


def _pinball(y: Array, p: Array, *, alpha: float) -> float:
    gap = y - p
    return float(np.maximum(alpha * gap, (alpha - 1) * gap).mean())


def _no_zeros(y: Array) -> str:
    zeros = int((y == 0).sum())
    return f"the target is 0 in {zeros} rows; use 'smape' or 'mae'" if zeros else ""


def _no_negatives(y: Array) -> str:
    negative = int((y < 0).sum())
    return f"the target is negative in {negative} rows; use 'rmse' or 'mae'" if negative else ""


_BOTH: tuple[Task, ...] = ("binary", "multiclass")
_TWO: tuple[Task, ...] = ("binary",)
_VALUES: tuple[Task, ...] = ("regression",)


def _metric(
    name: str,
    direction: Literal["max", "min"],
    tasks: tuple[Task, ...],
    function: Callable[[Array, Array], float],
    needs: Needs = "class",
) -> Metric:
    smooth = needs != "class"
    return Metric(name=name, direction=direction, tasks=tasks, needs=needs, function=function, smooth=smooth)


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        _metric("auc", "max", _BOTH, _auc, "ranking"),
        _metric("average_precision", "max", _BOTH, _average_precision, "ranking"),
        _metric("logloss", "min", _BOTH, _logloss, "probability"),
        _metric("brier", "min", _BOTH, _brier, "probability"),
        _metric("accuracy", "max", _BOTH, _accuracy),
        _metric("balanced_accuracy", "max", _BOTH, _balanced_accuracy),
        _metric("f1", "max", _TWO, _f1),
        _metric("f1_macro", "max", _BOTH, _f1_macro),
        _metric("f1_weighted", "max", _BOTH, _f1_weighted),
        _metric("precision", "max", _TWO, _precision),
        _metric("recall", "max", _TWO, _recall),
        _metric("mcc", "max", _BOTH, _mcc),
        _metric("kappa", "max", _BOTH, _kappa),
        _metric("rmse", "min", _VALUES, _rmse, "value"),
        _metric("mse", "min", _VALUES, _mse, "value"),
        _metric("mae", "min", _VALUES, _mae, "value"),
        _metric("medae", "min", _VALUES, _medae, "value"),
        Metric(
            name="mape", direction="min", tasks=_VALUES, needs="value", function=_mape,
            problem_with=_no_zeros,
        ),
        _metric("smape", "min", _VALUES, _smape, "value"),
        Metric(
            name="rmsle", direction="min", tasks=_VALUES, needs="value", function=_rmsle,
            problem_with=_no_negatives,
        ),
        _metric("r2", "max", _VALUES, _r2, "value"),
    )
}  # fmt: skip

# Names that other libraries use for the same thing.
_ALIASES = {
    "roc_auc": "auc", "auroc": "auc", "roc_auc_ovr": "auc", "auc_mu": "auc",
    "ap": "average_precision", "pr_auc": "average_precision", "aucpr": "average_precision",
    "log_loss": "logloss", "neg_log_loss": "logloss", "binary_logloss": "logloss",
    "multi_logloss": "logloss", "mlogloss": "logloss", "cross_entropy": "logloss",
    "brier_score": "brier", "acc": "accuracy", "matthews_corrcoef": "mcc",
    "cohen_kappa": "kappa", "l1": "mae", "mean_absolute_error": "mae", "l2": "mse",
    "mean_squared_error": "mse", "root_mean_squared_error": "rmse", "r2_score": "r2",
    "median_absolute_error": "medae", "mean_absolute_percentage_error": "mape",
}  # fmt: skip

_DEFAULT: dict[Task, str] = {"binary": "auc", "multiclass": "logloss", "regression": "rmse"}

# What a final model is scored with besides the metric that was tuned.
_FURTHER: dict[Task, tuple[str, ...]] = {
    "binary": (
        "auc", "average_precision", "logloss", "brier", "accuracy", "balanced_accuracy", "f1", "mcc",
    ),
    "multiclass": ("auc", "logloss", "accuracy", "balanced_accuracy", "f1_macro", "mcc"),
    "regression": ("rmse", "mae", "medae", "r2"),
}  # fmt: skip


def pinball(alpha: float) -> Metric:
    """The quantile loss at level ``alpha``, minimal where a share ``alpha`` of the targets lies below."""
    function = functools.partial(_pinball, alpha=alpha)
    return _metric(f"pinball_{alpha!r}", "min", _VALUES, function, "value")


def pinball_level(metric: Metric) -> float | None:
    """The quantile level of a pinball metric, ``None`` for any other."""
    head, _, tail = metric.name.partition("_")
    return float(tail) if head == "pinball" else None


def metric_names(task: Task) -> list[str]:
    """Every metric for the task, sorted."""
    names = [m.name for m in METRICS.values() if task in m.tasks]
    return sorted([*names, "pinball_0.9"] if task == "regression" else names)


def get_metric(name: str | None, task: Task) -> Metric:
    """The metric of that name, or the task's default for ``None``.

    Case, ``-`` and the names that scikit-learn, LightGBM and XGBoost use are understood;
    ``pinball_0.9`` is the quantile loss at 0.9. Raises :class:`InputError` for an unknown name
    and for a metric of another task.
    """
    if name is None:
        return METRICS[_DEFAULT[task]]
    wanted = name.strip().lower().replace("-", "_")
    wanted = _ALIASES.get(wanted, wanted)
    metric = _as_pinball(wanted) or METRICS.get(wanted)
    valid = ", ".join(metric_names(task))
    if metric is None:
        if "," in name:
            raise InputError(
                f"a ready objective tunes one metric, got {name!r}; a function of yours may return several"
            )
        hint = nearest(wanted, [*METRICS, *_ALIASES])
        raise InputError(f"unknown metric {name!r}{hint} (valid for a {task} target: {valid})")
    if task not in metric.tasks:
        raise InputError(
            f"metric {metric.name!r} is for {' or '.join(metric.tasks)} targets, and this target is "
            f"{task}; use one of {valid}, or force the task"
        )
    return metric


def _as_pinball(name: str) -> Metric | None:
    head, _, level = name.partition("_")
    if head not in ("pinball", "quantile"):
        return None
    try:
        alpha = float(level)
    except ValueError:
        alpha = math.nan
    if not 0 < alpha < 1:
        raise InputError(f"metric {name!r} needs a level between 0 and 1, such as 'pinball_0.9'")
    return pinball(alpha)


def score_all(task: Task, y: Array, outputs: Mapping[Needs, Array], metric: Metric) -> dict[str, float]:
    """``metric`` first, then the task's usual metrics that the target and the model allow.

    ``outputs``: what the model offers, as each kind of metric wants it. Values that are not defined
    on these rows are left out.
    """
    further = [METRICS[n] for n in _FURTHER[task] if n != metric.name]
    usable = [m for m in (metric, *further) if m.needs in outputs and not m.problem_with(y)]
    scores = {m.name: m(y, outputs[m.needs]) for m in usable}
    return {name: value for name, value in scores.items() if math.isfinite(value)}
