"""What LightGBM can be told: parameter names, aliases and ranges, and the default search space.

The table is ours, not read from the library: it has to be known in the driver before LightGBM is
imported, and it holds only what makes sense to tune. A test holds it against the installed library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.objectives._data import Problem
from flows.objectives._metrics import Metric, pinball_level
from hpo_core import Categorical, Constant, Float, InputError, Int, Parameter, SearchSpace
from hpo_core.inner import nearest


@dataclass(frozen=True)
class Known:
    """One LightGBM parameter: ``kind`` int, float, bool or name; the range ends are allowed values
    unless ``open_low`` or ``open_high``; ``names`` are the allowed values of a name.
    """

    kind: str
    aliases: str = ""
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    names: tuple[str, ...] = ()


_REGRESSION = (
    "regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie",
)  # fmt: skip

KNOWN: dict[str, Known] = {
    "boosting": Known("name", "boost boosting_type", names=("gbdt", "dart")),
    "data_sample_strategy": Known("name", names=("bagging", "goss")),
    "objective": Known("name", "app loss application objective_type", names=_REGRESSION),
    "learning_rate": Known("float", "eta shrinkage_rate", 0, open_low=True),
    "num_leaves": Known("int", "max_leaf num_leaf max_leaves max_leaf_nodes", 2, 131072),
    "max_depth": Known("int", "", -1),
    "min_data_in_leaf": Known("int", "min_data min_samples_leaf min_child_samples min_data_per_leaf", 0),
    "min_sum_hessian_in_leaf": Known(
        "float", "min_hessian min_sum_hessian min_child_weight min_sum_hessian_per_leaf", 0
    ),
    "bagging_fraction": Known("float", "bagging sub_row subsample", 0, 1, True),
    "pos_bagging_fraction": Known("float", "pos_bagging pos_sub_row pos_subsample", 0, 1, True),
    "neg_bagging_fraction": Known("float", "neg_bagging neg_sub_row neg_subsample", 0, 1, True),
    "bagging_freq": Known("int", "subsample_freq", 0),
    "feature_fraction": Known("float", "sub_feature colsample_bytree", 0, 1, True),
    "feature_fraction_bynode": Known("float", "colsample_bynode sub_feature_bynode", 0, 1, True),
    "extra_trees": Known("bool", "extra_tree"),
    "max_delta_step": Known("float", "max_leaf_output max_tree_output"),
    "lambda_l1": Known("float", "reg_alpha l1_regularization", 0),
    "lambda_l2": Known("float", "reg_lambda lambda l2_regularization", 0),
    "linear_lambda": Known("float", "", 0),
    "linear_tree": Known("bool", "linear_trees"),
    "min_gain_to_split": Known("float", "min_split_gain", 0),
    "drop_rate": Known("float", "rate_drop", 0, 1),
    "max_drop": Known("int"),
    "skip_drop": Known("float", "", 0, 1),
    "uniform_drop": Known("bool"),
    "xgboost_dart_mode": Known("bool"),
    "top_rate": Known("float", "", 0, 1),
    "other_rate": Known("float", "", 0, 1),
    "min_data_per_group": Known("int", "", 0, open_low=True),
    "max_cat_threshold": Known("int", "", 0, open_low=True),
    "cat_l2": Known("float", "", 0),
    "cat_smooth": Known("float", "", 0),
    "max_cat_to_onehot": Known("int", "", 0, open_low=True),
    "path_smooth": Known("float", "", 0),
    "max_bin": Known("int", "max_bins", 2),
    "min_data_in_bin": Known("int", "", 0, open_low=True),
    "bin_construct_sample_cnt": Known("int", "subsample_for_bin", 0, open_low=True),
    "enable_bundle": Known("bool", "is_enable_bundle bundle"),
    "use_missing": Known("bool"),
    "zero_as_missing": Known("bool"),
    "is_unbalance": Known("bool", "unbalance unbalanced_sets"),
    "scale_pos_weight": Known("float", "", 0, open_low=True),
    "sigmoid": Known("float", "", 0, open_low=True),
    "boost_from_average": Known("bool"),
    "reg_sqrt": Known("bool"),
    "alpha": Known("float", "", 0, open_low=True),
    "fair_c": Known("float", "", 0, open_low=True),
    "poisson_max_delta_step": Known("float", "", 0, open_low=True),
    "tweedie_variance_power": Known("float", "", 1, 2, open_high=True),
    "use_quantized_grad": Known("bool"),
    "num_grad_quant_bins": Known("int", "", 2),
}

# Set by the objective itself, with what to do instead.
RESERVED: dict[str, str] = {
    **dict.fromkeys(
        ("num_iterations", "num_iteration", "n_iter", "num_tree", "num_trees", "num_round", "num_rounds",
         "nrounds", "num_boost_round", "n_estimators", "max_iter"),
        "early stopping finds the number of rounds; set max_rounds",
    ),
    **dict.fromkeys(
        ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change"),
        "set patience",
    ),
    **dict.fromkeys(("seed", "random_seed", "random_state", "bagging_seed", "feature_fraction_seed",
                     "extra_seed", "drop_seed", "data_random_seed"), "the trial's own seed is used"),
    **dict.fromkeys(("num_threads", "num_thread", "nthread", "nthreads", "n_jobs"), "set threads"),
    **dict.fromkeys(("metric", "metrics", "metric_types"), "set metric"),
    **dict.fromkeys(("num_class", "num_classes"), "it is taken from the target"),
    **dict.fromkeys(("verbosity", "verbose"), "LightGBM is kept quiet"),
    **dict.fromkeys(("device", "device_type"), "training runs on the CPU"),
}  # fmt: skip

ALIASES: dict[str, str] = {a: name for name, k in KNOWN.items() for a in k.aliases.split()}

# The scikit-learn wrapper knows these by other names; given both, it would warn.
WRAPPER_NAMES: dict[str, str] = {
    "boosting": "boosting_type",
    "min_gain_to_split": "min_split_gain",
    "min_sum_hessian_in_leaf": "min_child_weight",
    "min_data_in_leaf": "min_child_samples",
    "bagging_fraction": "subsample",
    "bagging_freq": "subsample_freq",
    "bin_construct_sample_cnt": "subsample_for_bin",
    "feature_fraction": "colsample_bytree",
    "lambda_l1": "reg_alpha",
    "lambda_l2": "reg_lambda",
}


def resolve(name: str) -> str:
    """LightGBM's main name for a parameter or alias; :class:`InputError` for anything else."""
    plain = name.strip().lower()
    if plain in KNOWN:
        return plain
    if plain in ALIASES:
        return ALIASES[plain]
    if plain in RESERVED:
        raise InputError(f"parameter {name!r} cannot be tuned: {RESERVED[plain]}")
    raise InputError(
        f"unknown LightGBM parameter {name!r}{nearest(plain, [*KNOWN, *ALIASES])}; see LightGBM's "
        "parameter page for the names"
    )


def check_domain(name: str, parameter: Parameter) -> None:
    """Raise :class:`InputError` when part of the domain is outside what LightGBM accepts."""
    known = KNOWN[name]
    if isinstance(parameter, Categorical):
        values: tuple[Any, ...] = parameter.choices
    elif isinstance(parameter, Constant):
        values = (parameter.value,)
    else:
        values = (parameter.decode(0.0), parameter.decode(1.0))  # a normal variable may have no bounds
        if known.kind == "int" and not isinstance(parameter, Int):
            raise InputError(f"parameter {name!r} is a whole number; give it type: int")
        if known.kind in ("bool", "name"):
            raise InputError(f"parameter {name!r} needs choices, got a range; write {_example(known)}")
    for value in values:
        reason = _refusal(known, value)
        if reason:
            raise InputError(f"parameter {name!r}: LightGBM refuses {value!r}; {reason}")


def _example(known: Known) -> str:
    return "[true, false]" if known.kind == "bool" else f"[{', '.join(known.names[:2])}]"


def _refusal(known: Known, value: Any) -> str:
    """What LightGBM wants instead of ``value``, or an empty string."""
    if known.kind == "name":
        return "" if value in known.names else f"it must be one of {', '.join(known.names)}"
    if known.kind == "bool":
        return "" if isinstance(value, bool) else "it must be true or false"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "it must be a number"
    if known.kind == "int" and value != int(value):
        return "it must be a whole number"
    below = value < known.low or (known.open_low and value == known.low)
    if below or value > known.high or (known.open_high and value == known.high):
        left = f"{'above' if known.open_low else 'at least'} {known.low:g}"
        right = f"{'below' if known.open_high else 'at most'} {known.high:g}"
        bounds = [b for b, end in ((left, known.low), (right, known.high)) if math.isfinite(end)]
        return f"it must be {' and '.join(bounds)}"
    return ""


# From here on trees of hundreds of leaves are among what is tried first (docs/main-job.md).
_MANY_ROWS = 10_000
# Rows in a leaf of the large trees to begin with, and of the largest that are searched.
_IN_A_LEAF, _LEAST_IN_A_LEAF = 160, 400


def default_space(problem: Problem, n_train: int, max_rounds: int) -> dict[str, Parameter]:
    """The default search space for a problem with ``n_train`` training rows and so many rounds at most.

    Bounds follow the rows: a tree cannot use more leaves than a quarter of them, nor leaves that
    hold more than a quarter, and more leaves than usual only where rows are many. There a rate that is not
    done learning when rounds are at their end is not searched either, as it costs most.
    ``min_data_in_leaf`` reaches below the library's 20, which on small tables forbids nearly every split, and
    ``min_data_per_group`` below its 100, which forgets levels.

    Few parameters, so that few trials will do. Left out is what says nearly the same as one that is here:
    ``path_smooth``, ``lambda_l1`` and ``min_gain_to_split`` moreover take LightGBM off its fast path however
    small they are, which doubles the time of a tree (docs/main-job.md).
    """
    leaves = int(min(max(256, n_train // _LEAST_IN_A_LEAF), 2048, max(8, n_train // 4)))
    leaf_rows = int(min(200, max(4, n_train // 4)))
    slowest = 0.005 if n_train < _MANY_ROWS else min(max(0.005, 20 / max_rounds), 0.02)
    space: dict[str, Parameter] = {
        "learning_rate": Float(slowest, 0.3, log=True, default=0.05),
        "num_leaves": Int(4, leaves, log=True, default=min(31, leaves)),
        "min_data_in_leaf": Int(1, leaf_rows, log=True, default=min(20, leaf_rows)),
        "min_sum_hessian_in_leaf": Float(1e-3, 10.0, log=True, default=1e-3),
        "feature_fraction": Float(0.3, 1.0, default=0.9),
        "feature_fraction_bynode": Float(0.4, 1.0, default=1.0),
        "bagging_fraction": Float(0.4, 1.0, default=0.9),
        "bagging_freq": Constant(1),
        "lambda_l2": Float(1e-3, 100.0, log=True, default=1e-3),
        "max_bin": Int(31, 511, log=True, default=255),
        "extra_trees": Categorical([False, True], default=False),
    }
    if problem.categories:
        space["cat_smooth"] = Float(1.0, 100.0, log=True, default=10.0)
        space["min_data_per_group"] = Int(5, 200, log=True, default=100)
    weight = _positive_weight(problem)
    if weight is not None:
        space["scale_pos_weight"] = weight
    return space


# What differs from the default in the configurations to begin with.
_SMALL = {"num_leaves": 6, "learning_rate": 0.1, "feature_fraction": 0.7}
_RANDOM = {"extra_trees": True}


def _beginnings(problem: Problem, n_train: int) -> tuple[dict[str, Any], ...]:
    random = _RANDOM, {**_SMALL, **_RANDOM}
    if n_train < _MANY_ROWS:
        return {}, _SMALL, *random
    # The faster rate pays for the leaves; with several classes a round has a tree for each.
    trees = len(problem.classes) if problem.task == "multiclass" else 1
    leaves = min(255, max(63, n_train // (_IN_A_LEAF * trees)))
    # Small ones before: they take least, and a short time may end before anything else does.
    return {}, _SMALL, {"num_leaves": leaves, "learning_rate": 0.1}, *random


def first_configurations(space: SearchSpace, problem: Problem, n_train: int) -> tuple[dict[str, Any], ...]:
    """The default configuration and a few that differ from it in what matters most, each at most once.

    Tables fall into those that want large trees and those that want small ones, and into those where
    splits at random places do better (Geurts et al. 2006) and those where they do not: four trials
    tell which, where points spread over the whole space may take dozens; where rows are many, a fifth has
    trees to suit. A portfolio of this kind is what AutoGluon begins with (Erickson et al. 2020). What a
    space file has fixed or left out stays so.
    """
    default = space.decode(space.default_unit())
    found: list[dict[str, Any]] = []
    for changes in _beginnings(problem, n_train):
        fitting = {
            name: value
            for name, value in changes.items()
            if name in default and space.parameters[name].contains(value)
        }
        # What a change makes inactive goes, what it makes active gets its middle.
        u = space.snap(space.encode({**default, **fitting})[None, :])
        chosen = space.decode(u[0])
        if space.allowed(u)[0] and chosen not in found:
            found.append(chosen)
    return tuple(found)


def _positive_weight(problem: Problem) -> Parameter | None:
    """From no weight to twice what would balance the classes; ``None`` where they are balanced enough."""
    if problem.task != "binary":
        return None
    share = float(problem.y.mean())
    ratio = (1 - share) / share
    if 0.5 < ratio < 2:
        return None
    low, high = (1.0, 2 * ratio) if ratio >= 2 else (ratio / 2, 1.0)
    return Float(low, high, log=True, default=1.0)


def training_objective(problem: Problem, metric: Metric) -> dict[str, Any]:
    """LightGBM's own objective for the task, the one that minimises the metric where there is one."""
    if problem.task == "binary":
        return {"objective": "binary"}
    if problem.task == "multiclass":
        return {"objective": "multiclass", "num_class": len(problem.classes)}
    level = pinball_level(metric)
    if level is not None:
        return {"objective": "quantile", "alpha": level}
    return {"objective": {"mae": "regression_l1", "medae": "regression_l1", "mape": "mape"}.get(
        metric.name, "regression")}  # fmt: skip


def check_together(space: SearchSpace, task: str, budget: str) -> None:
    """Raise :class:`InputError` for parameters that do not go together, or not with this table and budget."""
    parameters = space.parameters
    if task != "binary":
        for name in ("scale_pos_weight", "is_unbalance", "pos_bagging_fraction", "neg_bagging_fraction"):
            if name in parameters:
                raise InputError(
                    f"parameter {name!r} is for targets with two classes, and this one is "
                    f"{task}; remove it from the space"
                )
    if {"scale_pos_weight", "is_unbalance"} <= set(parameters):
        raise InputError(
            "parameters 'scale_pos_weight' and 'is_unbalance' exclude each other; set one to null"
        )
    if "objective" in parameters and task != "regression":
        raise InputError("parameter 'objective' can be tuned for regression only; remove it from the space")
    _check_ranges(parameters)
    if budget == "rounds":
        for name, value, why in (
            ("boosting", "dart", "rescales earlier trees"),
            ("data_sample_strategy", "goss", "warms up over many rounds"),
        ):
            parameter = parameters.get(name)
            if parameter is not None and parameter.contains(value):
                raise InputError(
                    f"{name}={value!r} {why} and cannot be paused; use budget='folds', or leave it out"
                )


def _check_ranges(parameters: Mapping[str, Parameter]) -> None:
    """Raise for ranges that are fine by themselves, and with which LightGBM refuses every trial, or some."""
    losses = parameters.get("objective")
    if losses is not None and losses.contains("quantile") and _most(parameters, "alpha") >= 1:
        raise InputError("parameter 'alpha' is the quantile's level, which must be below 1; lower its end")
    if losses is not None and losses.contains("regression_l1") and _may(parameters, "linear_tree", True):
        raise InputError("linear_tree does not go with objective='regression_l1'; leave one of them out")
    if _may(parameters, "data_sample_strategy", "goss"):
        rates = {n: _most(parameters, n, usual) for n, usual in (("top_rate", 0.2), ("other_rate", 0.1))}
        if sum(rates.values()) > 1 or any(_may(parameters, name, 0.0) for name in rates):
            raise InputError(
                "'top_rate' and 'other_rate' are the shares of rows that goss takes: each must be above 0, "
                f"both together at most 1; got up to {rates['top_rate']:g} and {rates['other_rate']:g}"
            )


def _may(parameters: Mapping[str, Parameter], name: str, value: Any) -> bool:
    return name in parameters and parameters[name].contains(value)


def _most(parameters: Mapping[str, Parameter], name: str, usual: float = 0.0) -> float:
    """The largest value that the parameter can take, or LightGBM's own."""
    parameter = parameters.get(name)
    if parameter is None:
        return usual
    if isinstance(parameter, Categorical):
        return max(map(float, parameter.choices))
    return float(parameter.decode(1.0))
