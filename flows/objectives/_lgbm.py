"""The LightGBM objective: cross-validated boosting with early stopping, over folds, rows or rounds.

Three budget axes.

``folds``   One step is one fold, trained until early stopping ends it. A scheduler can stop a poor
            configuration after its first folds. The value is the best point of the folds' mean curve, so all
            of them have one number of rounds, as the final model has; the best of each fold by itself
            would favour configurations whose curves are rough.
``rows``    One step is an even share of each fold's rows, of those that are validated on too where these are
            many. A trial trains anew, until early stopping ends it, with each budget that the strategy wants
            (``trial.budgets``). The value is as over folds.
``rounds``  One step is ``rounds_per_step`` boosting rounds in all folds at once. A scheduler can pause a
            trial and go on with it later. The value is the best point of the mean curve.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from flows.objectives._base import (
    CURVE_POINTS,
    FinalModel,
    Prepared,
    Rerun,
    Saving,
    Setting,
    Stretch,
    TableConfig,
    Trial,
    TrialInfo,
    all_needs,
    contract,
    example_of,
    final_scores,
    fold_seed,
    importance_table,
    load_setting,
    mean,
    prepared,
    reported_on_folds,
    requirements,
    spread,
    thinned,
    useful_threads,
)
from flows.objectives._data import Problem
from flows.objectives._encode import ordinal_encoder
from flows.objectives._fitted import outputs_of
from flows.objectives._lgbm_params import (
    WRAPPER_NAMES,
    check_domain,
    check_together,
    default_space,
    first_configurations,
    resolve,
    training_objective,
)
from flows.objectives._lgbm_rounds import FoldBooster, FoldCurves, Rounds, dataset, valid_predictions
from flows.objectives._shares import fold_at, n_shares, rows_axis
from flows.objectives._space_file import build_space
from flows.objectives._splits import Rows
from hpo_core import InputError, TrialPruned
from hpo_core.inner import check_whole

# Fewer rounds in a step are not worth setting up a booster in every fold.
_MIN_STRIDE = 10
# What raw scores mean, so trees that were grown for another value cannot be added to.
_SETTLED = ("objective", "reg_sqrt", "sigmoid")
# More than any split gains, so that a tree is one leaf.
_NO_GAIN = 1e300
# LightGBM builds a JSON of its own from feature names, and lines: it refuses these characters in them.
_FORBIDDEN = set('[]{}":,\n\r')


@dataclass(frozen=True, kw_only=True)
class LightGBM:
    """Tune LightGBM on a table.

    ``budget``           ``"folds"``, ``"rows"`` or ``"rounds"``, see the module's docstring
    ``max_rounds``       boosting rounds at most
    ``patience``         rounds without a better value before training stops
    ``rounds_per_step``  rounds in one step of the ``rounds`` axis; default: a hundredth of
                         ``max_rounds``, 10 at least

    Raises :class:`InputError` for values out of range.
    """

    name: ClassVar[str] = "lgbm"

    table: TableConfig
    budget: str = "folds"
    max_rounds: int = 1000
    patience: int = 50
    rounds_per_step: int | None = None

    def __post_init__(self) -> None:
        if self.budget not in ("folds", "rows", "rounds"):
            raise InputError(f"budget must be 'folds', 'rows' or 'rounds', got {self.budget!r}")
        for name in ("max_rounds", "patience", "rounds_per_step"):
            value = getattr(self, name)
            if value is not None or name != "rounds_per_step":
                check_whole(name, value)

    @property
    def stride(self) -> int:
        """Rounds in one step of the ``rounds`` axis."""
        return self.rounds_per_step or max(_MIN_STRIDE, math.ceil(self.max_rounds / CURVE_POINTS))

    @property
    def _n_steps(self) -> int:
        return math.ceil(self.max_rounds / self.stride)

    def prepare(self) -> Prepared:
        """Check data, metric and space file; the default space follows the table."""
        setting = load_setting(self.table)
        n_train = len(setting.split.train)
        default = default_space(setting.problem, n_train, self.max_rounds)
        space = build_space(
            default,
            self.table.space,
            resolve=resolve,
            check=check_domain,
            check_space=lambda space: check_together(space, setting.problem.task, self.budget),
        )
        steps = {
            "folds": lambda: (setting.n_folds, "fold"),
            "rows": lambda: rows_axis(setting),
            "rounds": lambda: (self._n_steps, f"{self.stride} rounds"),
        }[self.budget]()
        question = {
            "budget": self.budget, "max_rounds": self.max_rounds, "patience": self.patience,
            "rounds_per_step": self.stride if self.budget == "rounds" else None,
        }  # fmt: skip
        made = prepared(self, setting, space, steps=steps, question=question, settled=_SETTLED)
        return replace(made, first=first_configurations(space, setting.problem, n_train))

    def over_training(self) -> LightGBM:
        """The same over rounds."""
        return replace(self, budget="rounds")

    def warm_up(self) -> None:
        """Load all that trials need; called in each worker process before its first trial."""
        importlib.import_module("lightgbm")
        load_setting(self.table)

    def __call__(self, trial: Trial) -> float:
        """The cross-validated metric of ``trial.params``."""
        setting = load_setting(self.table)
        if self.budget == "rounds":
            return self._over_rounds(trial, setting)
        if self.budget == "rows":
            return self._over_rows(trial, setting)
        return self._over_folds(trial, setting)

    def _params(self, setting: Setting, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
        return {
            **training_objective(setting.problem, setting.metric),
            **params,
            # Ours to set. One histogram layout and deterministic sums: the same on any number of threads.
            "metric": "None",
            "verbosity": -1,
            "num_threads": useful_threads(self.table.threads, setting.problem.matrix.size),
            "deterministic": True,
            "force_row_wise": True,
            "feature_pre_filter": False,
            "seed": seed,
        }

    # -- folds -----------------------------------------------------------------------------------

    def _over_folds(self, trial: Trial, setting: Setting) -> float:
        name = setting.metric.name
        curves = FoldCurves.start(trial)
        saving = Saving(trial, curves.to_bytes)
        for step in trial.steps(setting.n_folds):
            curves.add(*self._train_fold(trial, setting, step - 1, *setting.split.folds[step - 1]))
            values = curves.values[-1]
            at = thinned(len(values), max(CURVE_POINTS // setting.n_folds, 2))
            trial.log_curve(f"{name}_fold{step}", [i + 1 for i in at], [values[i] for i in at])
            saving.passed(step)
            best, rounds = curves.best()
            trial.report(
                step,
                **{
                    name: mean(best),
                    f"{name}_fold": curves.newest(),
                    **spread(name, best),
                    "rounds": float(rounds),
                },
            )
        saving.ended(len(curves.values), setting.n_folds)
        if not curves.values:
            raise TrialPruned("stopped before the first fold was finished")
        return mean(curves.best()[0])

    def _over_rows(self, trial: Trial, setting: Setting) -> float:
        shares, name, best = n_shares(setting), setting.metric.name, list[float]()
        for budget in trial.budgets(shares):
            curves = FoldCurves([], [])
            for fold in range(setting.n_folds):
                curves.add(*self._train_fold(trial, setting, fold, *fold_at(setting, fold, budget / shares)))
            best, rounds = curves.best()
            trial.report(budget, **{name: mean(best), **spread(name, best), "rounds": float(rounds)})
        if not best:
            raise TrialPruned("stopped before the first budget was used")
        return mean(best)

    def _train_fold(
        self, trial: Trial, setting: Setting, fold: int, train_rows: Rows, valid_rows: Rows
    ) -> tuple[list[float], list[float]]:
        """The metric, and the minimised watched metric, round by round until early stopping."""
        import lightgbm

        params = self._params(setting, trial.params, fold_seed(trial.seed, fold))
        data = dataset(setting.problem, train_rows, params)
        valid = dataset(setting.problem, valid_rows, params, data)
        booster = lightgbm.Booster(params, data)
        booster.add_valid(valid, "valid")
        watch = setting.metric.watch
        y = setting.problem.y[valid_rows]
        best, best_round = math.inf, 0
        values: list[float] = []
        losses: list[float] = []
        for done in range(1, self.max_rounds + 1):
            # True means that nothing could be split this time; with sampled rows and features the next
            # round may be able to, so only patience ends a fold.
            booster.update()
            predictions = valid_predictions(booster)
            values.append(setting.metric(y, predictions))
            losses.append(watch.sign * (values[-1] if watch is setting.metric else watch(y, predictions)))
            if losses[-1] < best:
                best, best_round = losses[-1], done
            if done - best_round >= self.patience:
                break
        return values, losses

    # -- rounds ----------------------------------------------------------------------------------

    def _over_rounds(self, trial: Trial, setting: Setting) -> float:
        run = Rounds.start(trial, setting)
        params = self._params(setting, trial.params, 0)
        boosters = [FoldBooster(setting, fold, params) for fold in range(setting.n_folds)]
        for fold, booster in enumerate(boosters):
            for model in run.models[fold]:
                booster.replay(model)
        saving = Saving(trial, run.to_bytes)
        for step in trial.steps(self._n_steps):
            rounds = min(self.stride, self.max_rounds - (step - 1) * self.stride)
            pairs = [b.advance(rounds, fold_seed(trial.seed, i, step)) for i, b in enumerate(boosters)]
            for models, booster in zip(run.models, boosters, strict=True):
                models.append(booster.newest)
            value, loss = (mean([p[i] for p in pairs]) for i in (0, 1))
            run.add(step, value, loss, (step - 1) * self.stride + rounds)
            over = step * self.stride - run.best_rounds >= self.patience or not math.isfinite(value)
            if not over:  # else the next attempt would try one more step
                saving.passed(step)
            trial.report(
                step,
                **{
                    setting.metric.name: value,
                    f"{setting.metric.name}_best": run.best_value,
                    "rounds": float(run.best_rounds),
                },
            )
            if over:
                return run.best_value if math.isfinite(value) else value
        saving.ended(run.step, self._n_steps)
        if not run.step:
            raise TrialPruned("stopped before the first step was finished")
        return run.best_value

    def on_folds(self, params: Mapping[str, Any], seed: int) -> dict[int, float]:
        """Each fold at the number of rounds that is best for it."""
        return reported_on_folds(replace(self, budget="folds"), params, seed)

    # -- final model -----------------------------------------------------------------------------

    def finalise(self, params: Mapping[str, Any], info: TrialInfo) -> FinalModel:
        """Refit with the number of rounds that cross-validation found."""
        setting = load_setting(self.table)
        problem, split = setting.problem, setting.split
        rounds = max(1, round(self._rounds_of(params, info)))
        model, booster = self._fit(setting, self._turns(params, rounds, info), info.seed)
        test = problem.frame.iloc[split.test]
        predictions = outputs_of(model, test, problem, "probability", problem.classes)
        scores = final_scores(setting, all_needs(predictions, problem.task))
        example = example_of(test)
        example_output = model.predict(example)
        # The server that loads the model decides on its threads.
        booster.set_params(n_jobs=None)
        piped = model is not booster
        return FinalModel(
            model=model,
            flavor="sklearn" if piped else "lightgbm",
            log_options={"serialization_format": "cloudpickle"} if piped else {},
            example=example,
            example_output=example_output,
            requirements=requirements(
                "lightgbm", "scikit-learn", "numpy", "scipy", "pandas", *(["cloudpickle"] if piped else [])
            ),
            metric=setting.metric.name,
            score=scores.get(setting.metric.name, math.nan),
            scores=scores,
            importance=importance_table(
                problem.columns,
                importance=booster.booster_.feature_importance("gain"),
                splits=booster.booster_.feature_importance("split"),
            ),
            params={**params, "num_iterations": rounds},
            contract=contract(problem),
        )

    def _rounds_of(self, params: Mapping[str, Any], info: TrialInfo) -> float:
        """The rounds that the trial reported, or those of cross-validating once more."""
        if info.metrics.get("rounds"):
            return info.metrics["rounds"]
        again = Rerun(params, info.seed)
        self(again)
        return again.last["rounds"]

    def _turns(self, params: Mapping[str, Any], rounds: int, info: TrialInfo) -> list[Stretch]:
        """Configurations with the last round of their turns."""
        stretches = info.stretches(params, math.ceil(rounds / self.stride))
        return [(turn, min(step * self.stride, rounds)) for turn, step in stretches]

    def _fit(self, setting: Setting, turns: Sequence[Stretch], seed: int) -> tuple[Any, Any]:
        """The model that users call, and the LightGBM estimator inside it (or the same).

        Where a chain of forks made it, each turn's rounds go on from the trees before.
        """
        before, done = self._beginning(setting, turns[0][0], seed), 0
        for params, last in turns:
            estimator = self._estimator(setting, params, last - done, seed)
            model = _fit_after(before, setting, estimator)
            before, done = estimator, last
        estimator.set_params(n_estimators=done)
        return model, estimator

    def _beginning(self, setting: Setting, params: Mapping[str, Any], seed: int) -> Any:
        """What the first tree is added to, where LightGBM would not begin where it began in the folds.

        That is at the share of each class. It leaves ``scale_pos_weight`` out of account there, but not
        weights of classes, which may have to take its place.
        """
        weighted = self._estimator(setting, params, 1, seed)
        if weighted.class_weight is None or not params.get("boost_from_average", True):
            return None
        rest = {name: value for name, value in params.items() if name != "scale_pos_weight"}
        constant = self._estimator(setting, {**rest, "min_gain_to_split": _NO_GAIN}, 1, seed)
        _fit_after(None, setting, constant)
        return constant

    def _estimator(self, setting: Setting, params: Mapping[str, Any], rounds: int, seed: int) -> Any:
        """LightGBM's own estimator with a configuration."""
        from lightgbm import LGBMClassifier, LGBMRegressor

        problem = setting.problem
        settings = self._params(setting, params, seed)
        for ours in ("metric", "seed", "num_class", "feature_pre_filter"):
            settings.pop(ours, None)
        threads = settings.pop("num_threads")
        settings = {WRAPPER_NAMES.get(k, k): v for k, v in _sorted_classes(settings, problem).items()}
        kind = LGBMRegressor if problem.task == "regression" else LGBMClassifier
        return kind(**settings, n_estimators=rounds, random_state=seed, n_jobs=threads)


def _fit_after(before: Any, setting: Setting, estimator: Any) -> Any:
    """Fit the estimator on all training rows, from another one's trees on; the model that users call."""
    from sklearn.pipeline import Pipeline

    problem, train = setting.problem, setting.split.train
    features, labels = problem.frame.iloc[train], problem.labels_of(train)
    if _takes_frame(problem):
        return estimator.fit(features, labels, init_model=before)
    model = Pipeline([("encode", ordinal_encoder(problem)), ("model", estimator)])
    given = {"categorical_feature": problem.categorical or "auto", "init_model": before}
    return model.fit(features, labels, **{f"model__{k}": v for k, v in given.items()})


def _sorted_classes(settings: dict[str, Any], problem: Problem) -> dict[str, Any]:
    """The settings for an estimator that numbers the classes in sorted order.

    That differs from ours when the user named the first one positive; what is meant for the positive
    class then has to go to the other number.
    """
    if problem.task != "binary" or problem.classes[0] < problem.classes[1]:
        return settings
    swapped = dict(settings)
    if "scale_pos_weight" in swapped:
        weight = swapped.pop("scale_pos_weight")
        swapped["class_weight"] = {problem.classes[0]: 1.0, problem.classes[1]: weight}
    pair = ("pos_bagging_fraction", "neg_bagging_fraction")
    kept = {theirs: settings[ours] for ours, theirs in (pair, pair[::-1]) if ours in settings}
    return {**{k: v for k, v in swapped.items() if k not in pair}, **kept}


def _takes_frame(problem: Problem) -> bool:
    """Whether LightGBM can be fitted on the table as it is: numbers only, under names that it accepts.

    Infinite ones count as missing, and are no such thing to LightGBM.
    """
    # It writes blanks in names as underscores, and refuses two equal names and one of no letters.
    names = {re.sub(r"\s", "_", c) for c in problem.columns}
    return (
        not problem.categories
        and not problem.dates
        and not problem.table.infinite
        and len(names) == len(problem.columns)
        and all(names)
        and not any(_FORBIDDEN & set(c) for c in problem.columns)
    )
