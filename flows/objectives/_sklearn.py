"""The scikit-learn objective: any estimator or pipeline by import path, cross-validated.

Three budget axes.

``folds``  One step is one fold. The value is the mean over the folds.
``rows``   One step is an even share of each fold's rows, of those that are validated on too where these are
           many. A trial trains anew with each budget that the strategy wants (``trial.budgets``). The value
           is the mean over the folds.
``steps``  For estimators that learn bit by bit, all folds at once: one pass over the data each step where
           there is ``partial_fit``, else a share of ``max_size`` trees or iterations with ``warm_start``.
           A trial can be paused and goes on from its fitted estimators. The value is the best point of
           the mean curve.

A plain estimator gets the preprocessing it needs (``_estimators.py``), fitted on the training rows of
each fold only. A pipeline of the user's own gets the table as it is.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from flows._retune import settled
from flows.objectives import _estimators as estimators
from flows.objectives._base import (
    FinalModel,
    Prepared,
    Rerun,
    Saving,
    Setting,
    Stretch,
    TableConfig,
    Trial,
    TrialInfo,
    contract,
    example_of,
    final_scores,
    fold_seed,
    load_setting,
    mean,
    permutation_importance,
    prepared,
    reported_on_folds,
    requirements,
    spread,
    useful_threads,
)
from flows.objectives._fitted import names_codes, needed, outputs_of, packages_of, pipeline_of, unbound
from flows.objectives._growth import FoldRows, Grown, Growth, Run, own_parameters
from flows.objectives._metrics import Array, Needs
from flows.objectives._shares import fold_at, n_shares, rows_axis
from flows.objectives._space_file import build_space
from flows.objectives._splits import Rows
from hpo_core import InputError, Parameter, TrialPruned
from hpo_core.inner import check_whole, nearest, parameter_from_json

# Rows of the trial fit in prepare().
_DRY_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class SklearnModel:
    """Tune a scikit-learn estimator on a table.

    ``estimator``  short name (``random_forest``), import path of a class
                   (``sklearn.svm.SVC``), or ``module:name`` of a function that makes an estimator
    ``budget``     ``"folds"``, ``"rows"`` or ``"steps"``, see the module's docstring
    ``n_steps``    length of the ``steps`` axis
    ``max_size``   trees or iterations at the end of the ``steps`` axis, for ``warm_start``
    ``patience``   steps without a better value before training stops

    Raises :class:`InputError` for values out of range.
    """

    name: ClassVar[str] = "sklearn"

    table: TableConfig
    estimator: str = "hist_gradient_boosting"
    budget: str = "folds"
    n_steps: int = 30
    max_size: int = 300
    patience: int = 8

    def __post_init__(self) -> None:
        if self.budget not in ("folds", "rows", "steps"):
            raise InputError(f"budget must be 'folds', 'rows' or 'steps', got {self.budget!r}")
        for name in ("n_steps", "max_size", "patience"):
            check_whole(name, getattr(self, name))
        if self.max_size < self.n_steps:
            raise InputError(
                f"max_size={self.max_size} cannot be spread over n_steps={self.n_steps}; raise it, or lower "
                "n_steps"
            )

    # -- preparation -----------------------------------------------------------------------------

    def prepare(self) -> Prepared:
        """Check data, metric, estimator and space file, and fit once on a few rows."""
        setting = load_setting(self.table)
        found = estimators.find(self.estimator, setting.problem)
        model = estimators.with_preprocessing(found, setting.problem, setting.split.train)
        growth = self._growth(model)
        # Of folds in time the first has a fraction of the rows.
        fewest = min(len(train) for train, _ in setting.split.folds)
        n_train = min(len(setting.split.train), 3 * fewest)
        default = estimators.default_space(found.kind, setting.problem, n_train)
        default = self._addressed(found, model, default or {}, growth)
        if not default and self.table.space is None:
            raise InputError(
                f"estimator {found.path!r} has no default space; give a space file with some of its "
                f"parameters: {', '.join(self._tunable(found, model, growth)[:12])}"
            )
        names = self._tunable(found, model, growth)
        space = build_space(
            default, self.table.space, resolve=lambda name: _resolve(name, names, found.path, growth)
        )
        self._dry_fit(found, setting, space.decode(space.default_unit()))
        steps = self._axis(setting, growth)
        question = {
            "estimator": found.path, "budget": self.budget,
            **({"n_steps": self.n_steps, "max_size": self.max_size, "patience": self.patience}
               if self.budget == "steps" else {}),
        }  # fmt: skip
        own = own_parameters(model)
        never = {None, *settled(found.kind)}
        fixed = (name for name in space.names if own.get(name) in never)
        return prepared(self, setting, space, steps=steps, question=question, settled=fixed)

    def _axis(self, setting: Setting, growth: Growth) -> tuple[int, str]:
        """How many steps there are, and what one is."""
        if self.budget == "folds":
            return setting.n_folds, "fold"
        if self.budget == "rows":
            return rows_axis(setting)
        return self.n_steps, growth.unit(self.max_size / self.n_steps)

    def over_training(self) -> SklearnModel | None:
        """The same over steps, where the estimator learns bit by bit."""
        model = estimators.find(self.estimator, load_setting(self.table).problem).make()
        stepwise = replace(self, budget="steps")
        try:
            stepwise._growth(model)
        except InputError:
            return None
        return stepwise

    def _growth(self, model: Any) -> Growth:
        last = estimators.last_step(model)
        parameters = last.get_params(deep=False)
        if self.budget != "steps":
            return Growth("", "")
        if hasattr(last, "partial_fit"):
            # The number of passes is the axis.
            return Growth("partial_fit", "max_iter" if "max_iter" in parameters else "")
        if "warm_start" in parameters:
            for size in ("n_estimators", "max_iter" if type(last).__name__.startswith("Hist") else ""):
                if size in parameters:
                    return Growth("warm_start", size)
        raise InputError(
            f"estimator {self.estimator!r} cannot learn step by step (no partial_fit, no warm_start over "
            "trees); use budget='folds'"
        )

    def _prefix(self, found: estimators.Estimator, model: Any) -> str:
        """What default parameter names need in front: nothing, or the step's name in a user's pipeline."""
        return f"{model.steps[-1][0]}__" if found.ready else ""

    def _addressed(
        self, found: estimators.Estimator, model: Any, default: dict[str, Parameter], growth: Growth
    ) -> dict[str, Parameter]:
        prefix = self._prefix(found, model)
        if prefix:
            default = {name: _renamed_parents(parameter, prefix) for name, parameter in default.items()}
        return {f"{prefix}{name}": p for name, p in default.items() if name != growth.size}

    def _tunable(self, found: estimators.Estimator, model: Any, growth: Growth) -> list[str]:
        """Every parameter that a space file may name."""
        holder = model if found.ready else estimators.last_step(model)
        axis = f"{self._prefix(found, model)}{growth.size}" if growth.size else ""
        return sorted(
            name
            for name, value in holder.get_params(deep=True).items()
            if name.rpartition("__")[2] not in estimators.RESERVED
            and name != axis
            and not hasattr(value, "get_params")
        )

    def _dry_fit(self, found: estimators.Estimator, setting: Setting, params: Mapping[str, Any]) -> None:
        """Fit on a few rows: what is refused there would fail every trial."""
        problem, metric = setting.problem, setting.metric
        rows = setting.split.folds[0][0]
        ordered = rows[np.argsort(problem.y[rows], kind="stable")]
        few = ordered[np.unique(np.linspace(0, len(ordered) - 1, _DRY_ROWS).astype(int))]
        try:
            model = self._fittable(setting, params, 0, few)
            with self._quiet(setting):
                model.fit(problem.frame.iloc[few], problem.y[few])
                offered = estimators.offers(model, problem)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - an estimator may raise anything
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"estimator {found.path!r} cannot be fitted on this table: {type(error).__name__}: {reason}"
            ) from None
        if metric.needs not in offered:
            raise InputError(
                f"metric {metric.name!r} needs {needed(metric.needs)}, which {found.path!r} does not have; "
                f"use {'auc or accuracy' if 'ranking' in offered else 'accuracy or f1_macro'}, or another "
                "estimator"
            )

    def _model(self, setting: Setting, params: Mapping[str, Any], seed: int, rows: Rows) -> Any:
        """An unfitted pipeline with the trial's parameters, seed and threads, to be fitted on these rows."""
        found = estimators.find(self.estimator, setting.problem)
        model = estimators.with_preprocessing(found, setting.problem, rows)
        prefix = "" if found.ready else "model__"
        given = {f"{prefix}{k}": tuple(v) if isinstance(v, list) else v for k, v in params.items()}
        ours = {
            name: seed for name in model.get_params(deep=True) if name.rpartition("__")[2] == "random_state"
        }
        last = model.steps[-1][0]
        if "n_jobs" in model.steps[-1][1].get_params(deep=False):
            ours[f"{last}__n_jobs"] = self.table.threads
        if self.budget == "steps" and found.kind.startswith("HistGradientBoosting"):
            # Its own early stopping would hold rows back and end the axis unasked.
            ours[f"{last}__early_stopping"] = False
        return model.set_params(**{**ours, **given})

    def _quiet(self, setting: Setting) -> contextlib.AbstractContextManager[None]:
        """No warnings on the console, and no more OpenMP and BLAS threads than the table feeds."""
        return _limited(useful_threads(self.table.threads, setting.problem.matrix.size))

    def _fittable(self, setting: Setting, params: Mapping[str, Any], seed: int, rows: Rows) -> Any:
        """The pipeline, around which the target is standardised where the estimator wants that."""
        model = self._model(setting, params, seed, rows)
        if not self._scales_target(setting):
            return model
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.preprocessing import StandardScaler

        return TransformedTargetRegressor(model, transformer=StandardScaler())

    def _scales_target(self, setting: Setting) -> bool:
        return estimators.scales_target(estimators.find(self.estimator, setting.problem), setting.problem)

    # -- trials ----------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Load all that trials need; called in each worker process before its first trial."""
        estimators.find(self.estimator, load_setting(self.table).problem)

    def __call__(self, trial: Trial) -> float:
        """The cross-validated metric of ``trial.params``."""
        setting = load_setting(self.table)
        with self._quiet(setting):
            if self.budget == "steps":
                return self._over_steps(trial, setting, self._begun(trial, setting))
            if self.budget == "rows":
                return self._over_rows(trial, setting)
            return self._over_folds(trial, setting)

    def _over_folds(self, trial: Trial, setting: Setting) -> float:
        name = setting.metric.name
        values: list[float] = [] if trial.checkpoint is None else json.loads(trial.checkpoint.load())
        saving = Saving(trial, lambda: json.dumps(values).encode())
        for step in trial.steps(setting.n_folds):
            train, valid = setting.split.folds[step - 1]
            value = self._on_fold(setting, trial, step - 1, train, valid)
            values.append(value)
            saving.passed(step)
            trial.report(step, **{name: mean(values), f"{name}_fold": value, **spread(name, values)})
        saving.ended(len(values), setting.n_folds)
        if not values:
            raise TrialPruned("stopped before the first fold was finished")
        return mean(values)

    def _over_rows(self, trial: Trial, setting: Setting) -> float:
        parts, name, values = n_shares(setting), setting.metric.name, list[float]()
        for budget in trial.budgets(parts):
            values = [
                self._on_fold(setting, trial, fold, *fold_at(setting, fold, budget / parts))
                for fold in range(setting.n_folds)
            ]
            trial.report(budget, **{name: mean(values), **spread(name, values)})
        if not values:
            raise TrialPruned("stopped before the first budget was used")
        return mean(values)

    def _on_fold(self, setting: Setting, trial: Trial, fold: int, train: Rows, valid: Rows) -> float:
        """The metric on ``valid`` of the trial's configuration trained on ``train``."""
        problem, metric = setting.problem, setting.metric
        model = self._fittable(setting, trial.params, fold_seed(trial.seed, fold), train)
        model.fit(problem.frame.iloc[train], problem.y[train])
        predictions = outputs_of(model, problem.frame.iloc[valid], problem, metric.needs)
        return metric(problem.y[valid], predictions)

    def _begun(self, trial: Trial, setting: Setting) -> Run:
        """From the checkpoint, or from nothing."""
        if trial.checkpoint is None:
            return Run([self._grown(setting, trial.params, trial.seed, i) for i in range(setting.n_folds)])
        run: Run = trial.checkpoint.load()
        for fold in run.folds:
            fold.take(trial.params)
        return run

    def _over_steps(self, trial: Trial, setting: Setting, run: Run) -> float:
        metric = setting.metric
        parts = [FoldRows.of(setting, fold, i) for i, fold in enumerate(run.folds)]
        # As an object, which is kept as a pickle that says so: none is taken from MLflow.
        saving = Saving(trial, lambda: run)
        for step in trial.steps(self.n_steps):
            scores = []
            for fold, part in zip(run.folds, parts, strict=True):
                fold.advance(part.train, part.labels, self._size(step))
                predictions = outputs_of(fold.last, part.valid, setting.problem, metric.needs)
                scores.append(metric(part.y, fold.unscaled(predictions)))
            value = mean(scores)
            run.add(step, value, scores, metric.sign)
            over = step - run.best_step >= self.patience or not math.isfinite(value)
            if not over:  # else the next attempt would try one more step
                saving.passed(step)
            best = {f"{metric.name}_best": run.best_value, "steps": float(run.best_step)}
            trial.report(step, **{metric.name: value, **best})
            if over:
                return run.best_value if math.isfinite(value) else value
        saving.ended(run.step, self.n_steps)
        if not run.step:
            raise TrialPruned("stopped before the first step was finished")
        return run.best_value

    def on_folds(self, params: Mapping[str, Any], seed: int) -> dict[int, float]:
        """Over steps, each fold at the step that is best for all: the folds that the trial's value is of."""
        if self.budget != "steps":
            return reported_on_folds(replace(self, budget="folds"), params, seed)
        setting, trial = load_setting(self.table), Rerun(params, seed)
        with self._quiet(setting):
            run = self._begun(trial, setting)
            self._over_steps(trial, setting, run)
        return dict(enumerate(run.best_scores, start=1))

    def _size(self, step: int) -> int:
        """Trees or iterations after ``step``: an even share of ``max_size`` for each step."""
        return -(-self.max_size * step // self.n_steps)

    def _grown(self, setting: Setting, params: Mapping[str, Any], seed: int, fold: int | None) -> Grown:
        """An untrained fold (``None``: all training rows) whose preprocessing is fitted."""
        problem = setting.problem
        rows = setting.split.train if fold is None else setting.split.folds[fold][0]
        model = self._model(setting, params, fold_seed(seed, fold) if fold is not None else seed, rows)
        growth = self._growth(model)
        if growth.way == "warm_start":
            model.set_params(**{f"{model.steps[-1][0]}__warm_start": True})
        model[:-1].fit(problem.frame.iloc[rows], problem.y[rows])
        y = problem.y[rows]
        scale = (float(y.mean()), float(y.std()) or 1.0) if self._scales_target(setting) else (0.0, 1.0)
        return Grown(model, growth, len(problem.classes), scale)

    # -- final model -----------------------------------------------------------------------------

    def finalise(self, params: Mapping[str, Any], info: TrialInfo) -> FinalModel:
        """Refit on all training rows; on the ``steps`` axis, to the step that did best."""
        setting = load_setting(self.table)
        problem, split = setting.problem, setting.split
        with self._quiet(setting):
            model, grown = self._fit_final(setting, params, info)
            test = problem.frame.iloc[split.test]
            offered = sorted(estimators.offers(model, problem))
            labels = self._final_labels(setting)
            outputs: dict[Needs, Array] = {
                needs: outputs_of(model, test, problem, needs, labels) for needs in offered
            }
            scores = final_scores(setting, outputs)
            importance = permutation_importance(
                setting,
                test,
                lambda rows: outputs_of(model, rows, problem, setting.metric.needs, labels),
                info.seed,
            )
            example = example_of(test)
            example_output = model.predict(example)
        return FinalModel(
            model=model,
            flavor="sklearn",
            log_options={"serialization_format": "cloudpickle"},
            example=example,
            example_output=example_output,
            requirements=requirements(
                *("scikit-learn", "numpy", "scipy", "pandas", "cloudpickle"), *packages_of(model)
            ),
            metric=setting.metric.name,
            score=scores.get(setting.metric.name, math.nan),
            scores=scores,
            importance=importance,
            params={**params, **grown},
            contract=contract(problem),
        )

    def _fit_final(
        self, setting: Setting, params: Mapping[str, Any], info: TrialInfo
    ) -> tuple[Any, dict[str, Any]]:
        """The fitted model, and what the steps axis adds to its parameters."""
        train = setting.split.train
        frame = setting.problem.frame.iloc[train]
        model = self._fittable(setting, params, info.seed, train)
        labels = self._final_targets(setting)
        if self.budget != "steps":
            return unbound(model.fit(frame, labels)), {}
        best = info.metrics.get("steps")
        if not best:
            again = Rerun(params, info.seed)
            self(again)
            best = again.last["steps"]
        steps = max(1, round(best))
        stretches = info.stretches(params, steps)
        growth = self._growth(self._model(setting, params, info.seed, train))
        size = self._size(steps)
        if growth.way == "warm_start" and len(stretches) == 1:
            pipeline = pipeline_of(model)
            pipeline.set_params(**{f"{pipeline.steps[-1][0]}__{growth.size}": size})
            return unbound(model.fit(frame, labels)), {growth.size: size}
        told = {growth.size: size} if growth.way == "warm_start" else {"passes": steps}
        grown = self._trained(setting, stretches, info.seed)
        if model is not pipeline_of(model):
            from sklearn.frozen import FrozenEstimator

            # Fits the scaling of the target around what is already fitted.
            model.set_params(regressor=FrozenEstimator(grown))
            return model.fit(frame, labels), told
        return grown, told

    def _trained(self, setting: Setting, stretches: Sequence[Stretch], seed: int) -> Any:
        """A pipeline trained on all training rows step by step, as a chain of forks trains it."""
        labels, done = self._final_targets(setting), 0
        grown = self._grown(setting, stretches[0][0], seed, None)
        grown.classes = np.unique(labels) if setting.problem.classes else None
        inputs = grown.transform(setting.problem.frame.iloc[setting.split.train])
        for params, last in stretches:
            grown.take(params)
            for step in range(done + 1, last + 1):
                grown.advance(inputs, grown.scaled(labels), self._size(step))
            done = last
        return unbound(grown.model)

    def _final_targets(self, setting: Setting) -> Any:
        problem, rows = setting.problem, setting.split.train
        labels = self._final_labels(setting)
        return np.asarray(labels)[problem.y[rows].astype(np.int64)] if labels else problem.y[rows]

    def _final_labels(self, setting: Setting) -> Sequence[Any]:
        """What a final model calls the classes: the user's own labels, but XGBoost takes codes only."""
        found = estimators.find(self.estimator, setting.problem)
        classes = setting.problem.classes
        return range(len(classes)) if names_codes(found.make()) else classes


@contextlib.contextmanager
def _limited(threads: int) -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")
        yield


def _resolve(name: str, names: list[str], path: str, growth: Growth) -> str:
    last = name.rpartition("__")[2]
    if name in names:
        return name
    if last in estimators.RESERVED:
        raise InputError(f"parameter {name!r} cannot be tuned: {estimators.RESERVED[last]}")
    if last == growth.size:
        raise InputError(f"parameter {name!r} is the budget axis; remove it, or use budget='folds'")
    hint = nearest(name, names) or f" (it has {', '.join(names[:10])}{', ...' if len(names) > 10 else ''})"
    raise InputError(f"{path} has no parameter {name!r}{hint}")


def _renamed_parents(parameter: Parameter, prefix: str) -> Parameter:
    """The parameter with its conditions' parents under a pipeline step's prefix."""
    data = parameter.to_json()
    when = [{**condition, "parent": f"{prefix}{condition['parent']}"} for condition in data.get("when", ())]
    return parameter_from_json(prefix, {**data, "when": when}) if when else parameter
