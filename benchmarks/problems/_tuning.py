"""Real tuning of scikit-learn and LightGBM models on scikit-learn's own tables, recorded.

Each tuning is a grid that was run once, completely, on several random splits of the data, by

python -m benchmarks.problems._tuning

and kept in ``data/``. A trial reports the loss on one split, drawn at random; the mean over the splits
is the noise-free value. A parameter that the model does not use at a configuration is conditional.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.problems._problem import Params, Problem, median_of
from hpo_core import Categorical, Int, Parameter, SearchSpace

__all__ = ["TUNINGS", "Tuning", "tuning"]

_DATA = Path(__file__).parent / "data"
_SPLITS = 4

# What a model is fitted and scored on: train X, train y, test X, test y.
Split = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A grid of configurations of one model on one data set.

    ``grid``: levels per parameter; numbers become positions on the grid, strings categories.
    ``when``: parameter -> (parent, values of the parent at which it is used).
    ``losses``: (configuration, split) -> losses, one for each level of ``staged``, where a single fit
    yields them all (the number of trees), else one.
    """

    data: str
    grid: Mapping[str, Sequence[Any]]
    losses: Callable[[Mapping[str, Any], Split], Sequence[float]]
    when: Mapping[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    staged: str | None = None


def tuning(name: str) -> Problem:
    """The recorded problem ``tune-NAME``, one of ``TUNINGS``."""
    recipe = TUNINGS[name]
    values = np.load(_DATA / f"{name}.npy").astype(np.float64)
    means = values.mean(axis=-1)

    def place(params: Params) -> tuple[int, ...]:
        return tuple(
            0 if n not in params else levels.index(params[n]) if isinstance(levels[0], str) else params[n]
            for n, levels in recipe.grid.items()
        )

    parameters: dict[str, Parameter] = {}
    for parameter, levels in recipe.grid.items():
        made: Parameter = Categorical(list(levels)) if isinstance(levels[0], str) else Int(0, len(levels) - 1)
        if parameter in recipe.when:
            parent, at = recipe.when[parameter]
            made = made.when(parent, *at)
        parameters[parameter] = made

    def true(params: Params) -> float:
        return float(means[place(params)])

    space = SearchSpace(parameters)
    return Problem(
        name=f"tune-{name}",
        space=space,
        true=true,
        optimum=float(np.nanmin(means)),
        median=median_of(space, true),
        observe=lambda params, rng: float(values[place(params)][rng.integers(_SPLITS)]),
    )


def _record(name: str) -> NDArray[np.float32]:
    """Losses of every used configuration: the grid's shape, then the splits; NaN where not used."""
    recipe = TUNINGS[name]
    out = np.full((*(len(v) for v in recipe.grid.values()), _SPLITS), np.nan, dtype=np.float32)
    splits = list(_splits(recipe.data))
    ranges = [range(1) if n == recipe.staged else range(len(v)) for n, v in recipe.grid.items()]
    axis = list(recipe.grid).index(recipe.staged) if recipe.staged else None
    for place in itertools.product(*ranges):
        config = {n: v[i] for (n, v), i in zip(recipe.grid.items(), place, strict=True)}
        unused = [n for n, (parent, at) in recipe.when.items() if config[parent] not in at]
        if any(place[list(recipe.grid).index(n)] for n in unused):
            continue
        for s, split in enumerate(splits):
            losses = recipe.losses(config, split)
            target: list[Any] = list(place)
            if axis is not None:
                target[axis] = slice(None)
            out[(*target, s)] = losses if axis is not None else losses[0]
    return out


@cache
def _table(data: str) -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn import datasets

    X, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    return X, y


def _splits(data: str) -> Iterator[Split]:
    from sklearn.model_selection import train_test_split

    X, y = _table(data)
    classes = y if len(np.unique(y)) < 20 else None
    for seed in range(_SPLITS):
        train, test = train_test_split(np.arange(len(y)), test_size=0.4, random_state=seed, stratify=classes)
        yield X[train], y[train], X[test], y[test]


def _lightgbm(trees: Sequence[int], task: str) -> Callable[[Mapping[str, Any], Split], list[float]]:
    def losses(config: Mapping[str, Any], split: Split) -> list[float]:
        import lightgbm
        from sklearn.metrics import log_loss, mean_squared_error

        X, y, X_test, y_test = split
        booster = lightgbm.train(
            {"objective": task, "verbosity": -1, "num_threads": 1, "seed": 0, "deterministic": True}
            | {k: v for k, v in config.items() if k != "trees"},
            lightgbm.Dataset(X, y),
            num_boost_round=trees[-1],
        )
        score = log_loss if task == "binary" else mean_squared_error
        return [float(score(y_test, booster.predict(X_test, num_iteration=n))) for n in trees]

    return losses


def _svm(kind: str) -> Callable[[Mapping[str, Any], Split], list[float]]:
    def losses(config: Mapping[str, Any], split: Split) -> list[float]:
        from sklearn.metrics import mean_squared_error, roc_auc_score
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler
        from sklearn.svm import SVC, SVR

        X, y, X_test, y_test = split
        scaler = {
            "standard": StandardScaler(),
            "minmax": MinMaxScaler(),
            "quantile": QuantileTransformer(n_quantiles=50),
        }[config["scaler"]]
        options = {k: v for k, v in config.items() if k != "scaler"}
        # A fit that does not converge by then is a bad configuration, as it is in practice.
        model = (SVC if kind == "classify" else SVR)(**options, max_iter=20_000)
        fitted = make_pipeline(scaler, model).fit(X, y)
        if kind == "classify":
            return [1.0 - float(roc_auc_score(y_test, fitted.decision_function(X_test)))]
        return [float(mean_squared_error(y_test, fitted.predict(X_test)))]

    return losses


_TREES = (10, 20, 40, 80, 150)
_BOOSTING: dict[str, Sequence[Any]] = {
    "learning_rate": (0.01, 0.03, 0.1, 0.3, 0.6),
    "num_leaves": (3, 6, 12, 31),
    "min_child_samples": (2, 10, 40),
    "lambda_l2": (0.0, 1.0, 10.0),
    "feature_fraction": (0.4, 1.0),
    "trees": _TREES,
}
_KERNELS = {"gamma": ("kernel", ("rbf", "poly")), "degree": ("kernel", ("poly",))}

TUNINGS: dict[str, Tuning] = {
    "lightgbm_breast_cancer": Tuning(
        data="breast_cancer", grid=_BOOSTING, losses=_lightgbm(_TREES, "binary"), staged="trees"
    ),
    "lightgbm_diabetes": Tuning(
        data="diabetes", grid=_BOOSTING, losses=_lightgbm(_TREES, "regression"), staged="trees"
    ),
    "svm_breast_cancer": Tuning(
        data="breast_cancer",
        grid={
            "scaler": ("standard", "minmax", "quantile"),
            "kernel": ("linear", "rbf", "poly"),
            "C": tuple(10.0**k for k in range(-3, 5)),
            "gamma": tuple(10.0**k for k in (-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0)),
            "degree": (2, 3, 4),
        },
        losses=_svm("classify"),
        when=_KERNELS,
    ),
    "svr_diabetes": Tuning(
        data="diabetes",
        grid={
            "scaler": ("standard", "minmax", "quantile"),
            "kernel": ("linear", "rbf", "poly"),
            "C": tuple(10.0**k for k in range(-1, 5)),
            "epsilon": (0.1, 1.0, 10.0, 30.0, 60.0),
            "gamma": tuple(10.0**k for k in (-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0)),
            "degree": (2, 3),
        },
        losses=_svm("regress"),
        when=_KERNELS,
    ),
}


def main() -> None:
    """Record the tunings named on the command line, or all."""
    _DATA.mkdir(exist_ok=True)
    for name in sys.argv[1:] or TUNINGS:
        values = _record(name)
        np.save(_DATA / f"{name}.npy", values)
        print(f"{name}: {np.count_nonzero(~np.isnan(values))} losses, {values.nbytes >> 10} KiB")


if __name__ == "__main__":
    main()
