"""What the ready objectives share: configuration, the prepared data of a process, the final model.

An objective is a frozen, picklable record with three verbs.

``prepare()``    in the driver, before anything runs: checks every input, returns the space.
``__call__(trial)``  in a worker: evaluates one configuration by cross-validation.
``finalise(params, info)``  refits on all training rows and scores once on the test rows.

Cross-validation, test rows and the refit use the same seed for the split, so no row of the test is
ever trained on or tuned for.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from flows._saving import Checkpoint
from flows._saving import Saving as Saving
from flows.objectives._data import Problem, identity, load_table, pose
from flows.objectives._metrics import Array, Metric, Needs, get_metric, score_all
from flows.objectives._splits import Split, SplitPlan, make_split
from hpo_core import InputError, SearchSpace
from hpo_core.inner import FOLD, SPREAD, check_whole

if TYPE_CHECKING:
    import pandas as pd

    from hpo_core.schedules import Recorded

# Points of one trial's curves in MLflow, all curves together.
CURVE_POINTS = 100
# Rows of a final model's input example; more than one, so that torch.export keeps the batch free.
_EXAMPLE_ROWS = 5
# The dates that MLflow's check of a model's input knows: those of nanoseconds in 64 bits.
_KNOWN_DATES = ("1678-01-01", "2262-01-01")
# Fewer numbers than this do not occupy a thread.
_CELLS_PER_THREAD = 100_000
# Permutation importance looks at no more test rows than this.
_IMPORTANCE_ROWS = 500


class Trial(Protocol):
    """The part of ``trial`` that the ready objectives use."""

    @property
    def params(self) -> dict[str, Any]:
        """The configuration."""

    @property
    def seed(self) -> int:
        """For the objective's own randomness."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where to go on from."""

    def steps(self, n: int) -> Iterator[int]:
        """Steps 1 .. n, from after the checkpoint; ends early on a stop or a pause."""

    def budgets(self, n: int) -> Iterator[int]:
        """Those of them at which training that begins anew is to give a result."""

    def report(self, step: int, **metrics: float) -> None:
        """Tell the study how it goes."""

    def save(self, step: int, content: bytes) -> None:
        """Save a checkpoint."""

    def log_curve(self, name: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Points that are to be seen and that no decision reads."""


class Rerun:
    """A trial without a study: cross-validates once more when a trial's own record was lost.

    ``most``: steps after which it ends; ``None``: it runs to its own end. ``last``: the newest value of
    every metric that was reported. ``reports``: what was reported at each step.
    """

    checkpoint = None

    def __init__(self, params: Mapping[str, Any], seed: int, most: int | None = None) -> None:
        self.params, self.seed = dict(params), seed
        self.last: dict[str, float] = {}
        self.reports: dict[int, dict[str, float]] = {}
        self._most = most

    def steps(self, n: int) -> Iterator[int]:
        """All of them, or the first ``most``."""
        return iter(range(1, (n if self._most is None else min(n, self._most)) + 1))

    def budgets(self, n: int) -> Iterator[int]:
        """The last of them."""
        return iter([n if self._most is None else min(n, self._most)])

    def report(self, step: int, **metrics: float) -> None:
        """Keep the newest values, and those of each step."""
        self.reports[step] = metrics
        self.last.update(metrics)

    def save(self, step: int, content: bytes) -> None:
        """Nothing to resume."""

    def log_curve(self, name: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Nobody looks."""


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """What every ready objective needs to know about the table and how to measure on it.

    ``data``      path to CSV, TSV or Parquet, or ``sklearn:NAME``
    ``target``    column to predict
    ``metric``    name of the metric to tune (default: by task)
    ``task``      binary, multiclass or regression (default: found from the target)
    ``positive``  the positive class of two (default: the last in sorted order)
    ``plan``      test rows and folds
    ``group``, ``time``  columns that split the rows; not features
    ``drop``      columns to leave out
    ``space``     path of a space file, or its content as JSON text
    ``threads``   threads that one trial may use
    """

    data: str
    target: str | None = None
    metric: str | None = None
    task: str | None = None
    positive: str | None = None
    plan: SplitPlan = field(default_factory=SplitPlan)
    group: str | None = None
    time: str | None = None
    drop: tuple[str, ...] = ()
    space: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        check_whole("threads", self.threads)


@dataclass(frozen=True, eq=False)
class Setting:
    """Everything that all trials of a study share, loaded once per process."""

    problem: Problem
    split: Split
    metric: Metric

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed or left out, one sentence each."""
        return (*self.problem.notes, *self.split.notes)

    @property
    def n_folds(self) -> int:
        """Number of folds after rare classes have been looked at."""
        return len(self.split.folds)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the driver needs before the first trial.

    ``objectives``   {metric: "max" or "min"}
    ``digest``       identity of the study's data and question: equal means results are comparable
    ``data_digest``  SHA-256 of the table's content
    ``n_steps``      length of the budget axis (folds, boosting steps, epochs), ``None`` if there is none
    ``step_unit``    what one step is, for people
    ``summary``      counts and names for the parent run
    ``first``        configurations of the space that are worth trying before any sampler is asked
    ``settled``      parameters that a model keeps once its training has begun, such as its shape
    """

    space: SearchSpace
    objectives: dict[str, str]
    digest: str
    data_digest: str
    description: str
    notes: tuple[str, ...]
    n_steps: int | None
    step_unit: str
    summary: dict[str, Any]
    first: tuple[dict[str, Any], ...] = ()
    settled: frozenset[str] = frozenset()


# A configuration, and the last step that is trained with it.
Stretch = tuple[Mapping[str, Any], int]


@dataclass(frozen=True, kw_only=True)
class TrialInfo:
    """What is known of the trial whose configuration is refitted.

    ``metrics``  its last reported values
    ``followed`` the configurations that its model was trained with over the steps, where it was forked from
                 others' models; ``None``: one and the same
    """

    seed: int
    number: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    followed: Recorded | None = None

    def stretches(self, params: Mapping[str, Any], n: int) -> list[Stretch]:
        """How steps 1 .. ``n`` are trained: each configuration with the last step of its turn.

        ``params``: the trial's own, with which all of them are where nothing was followed.
        """
        if self.followed is None:
            return [(params, n)]
        runs = itertools.groupby(range(1, n + 1), self.followed)
        return [(params, max(steps)) for params, steps in runs]


@dataclass(frozen=True, kw_only=True)
class FinalModel:
    """A model fitted on all training rows and scored once on the test rows.

    ``flavor``        lightgbm, sklearn or pyfunc: the MLflow flavor to log ``model`` with
    ``log_options``   further arguments of that flavor's ``log_model``
    ``example``       a few test rows; ``example_output``: what the model returns for them
    ``requirements``  pinned, ``name==version``
    ``score``         the tuned metric on the test rows; ``scores``: that and the task's usual ones
    ``importance``    DataFrame: feature, importance (and more), the most important first
    ``params``        what the model was trained with, the number of rounds or epochs included
    ``contract``      JSON: columns, categories and classes as the model knows them
    """

    model: Any
    flavor: str
    log_options: dict[str, Any]
    example: Any
    example_output: Any
    requirements: tuple[str, ...]
    metric: str
    score: float
    scores: dict[str, float]
    importance: pd.DataFrame
    params: dict[str, Any]
    contract: dict[str, Any]


class TableObjective(Protocol):
    """A ready objective: see the module's docstring for the three verbs."""

    name: ClassVar[str]

    @property
    def table(self) -> TableConfig:
        """The table and how to measure on it."""

    def prepare(self) -> Prepared:
        """Check every input; raises :class:`InputError`, one line."""

    def over_training(self) -> Self | None:
        """The same with training as its budget axis (rounds, epochs); ``None`` where it has no such axis."""

    def warm_up(self) -> None:
        """Load all that trials need; called in each worker process before its first trial."""

    def __call__(self, trial: Trial) -> float:
        """Evaluate ``trial.params``; the value of the metric."""

    def on_folds(self, params: Mapping[str, Any], seed: int) -> dict[int, float]:
        """Evaluate a configuration once more, fold by fold; empty where folds are not told apart."""

    def finalise(self, params: Mapping[str, Any], info: TrialInfo) -> FinalModel:
        """Refit on all training rows, score once on the test rows."""


def reported_on_folds(objective: TableObjective, params: Mapping[str, Any], seed: int) -> dict[int, float]:
    """What an objective whose steps are folds reports of each."""
    trial, name = Rerun(params, seed), f"{load_setting(objective.table).metric.name}{FOLD}"
    objective(trial)
    return {step: metrics[name] for step, metrics in trial.reports.items()}


def load_setting(config: TableConfig) -> Setting:
    """Table, split and metric for a configuration; kept for the next call in this process.

    Raises :class:`InputError`.
    """
    # Neither changes what is loaded, and both differ between driver and workers.
    return _load(replace(config, threads=1, space=None), _stamp(config.data))


def _stamp(source: str) -> tuple[int, int] | None:
    """Changes when the file does: a notebook outlives edits of its data."""
    try:
        status = Path(source).expanduser().stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=2)
def _load(config: TableConfig, stamp: tuple[int, int] | None) -> Setting:
    problem = _problem(replace(config, plan=SplitPlan(), metric=None), stamp)
    metric = get_metric(config.metric, problem.task)
    reason = metric.problem_with(problem.y)
    if reason:
        raise InputError(f"metric {metric.name!r} cannot be used: {reason}")
    return Setting(problem, make_split(problem, config.plan), metric)


@functools.lru_cache(maxsize=2)
def _problem(config: TableConfig, stamp: tuple[int, int] | None) -> Problem:
    """Kept apart from the folds, so that other folds can be made without reading the table again."""
    del stamp  # part of the key
    table = load_table(config.data, config.target, group=config.group, time=config.time, drop=config.drop)
    return pose(table, config.task, config.positive)


def prepared(
    objective: TableObjective,
    setting: Setting,
    space: SearchSpace,
    *,
    steps: tuple[int | None, str],
    question: Mapping[str, Any],
    settled: Iterable[str] = (),
) -> Prepared:
    """The :class:`Prepared` of an objective; ``question``: its own options that change what is measured."""
    config, problem, split = objective.table, setting.problem, setting.split
    asked = {
        "objective": objective.name, "data": problem.table.digest, "target": problem.table.target,
        "task": problem.task, "positive": config.positive, "metric": setting.metric.name,
        "split": split.kind, "folds": setting.n_folds, "test_size": config.plan.test_size,
        "seed": config.plan.seed, "group": config.group, "time": config.time,
        "drop": sorted(config.drop), **question,
    }  # fmt: skip
    summary = {
        "data": config.data, "target": problem.table.target, "task": problem.task,
        "metric": setting.metric.name, "rows": len(problem.y), "features": len(problem.columns),
        "categorical_features": len(problem.categories), "classes": len(problem.classes),
        "train_rows": len(split.train), "test_rows": len(split.test), "split": split.kind,
        "folds": setting.n_folds, **question,
    }  # fmt: skip
    folds = f"{setting.n_folds} {split.kind} folds" if setting.n_folds > 1 else f"one {split.kind} holdout"
    return Prepared(
        space=space,
        objectives={setting.metric.name: setting.metric.direction},
        digest=identity(sorted(asked.items())),
        data_digest=problem.table.digest,
        description=(
            f"{objective.name}: {problem.task} {problem.table.target!r} from {config.data}, "
            f"{len(split.train)} training rows x {len(problem.columns)} features, {folds}, "
            f"{len(split.test)} test rows, {setting.metric.name} ({setting.metric.direction})"
        ),
        notes=setting.notes,
        n_steps=steps[0],
        step_unit=steps[1],
        summary=summary,
        settled=frozenset(settled),
    )


def useful_threads(allowed: int, cells: int) -> int:
    """As many threads as the work feeds, ``allowed`` at most.

    ``cells``: numbers that one parallel region works through. OpenMP's threads spin while they wait for each
    other: on a small table two threads take several times the processor time of one, and when all
    cores are busy with other trials, a hundred times its wall time (measured: 0.5 s against 58 s).
    """
    return max(1, min(allowed, cells // _CELLS_PER_THREAD))


def fold_seed(seed: int, *stream: int) -> int:
    """A seed for one part of a trial's work: a pure function, so a resumed trial draws the same."""
    return int(np.random.SeedSequence([seed, *stream]).generate_state(1)[0] % 2**31)


def mean(values: Sequence[float]) -> float:
    """The mean as a plain float; NaN for nothing."""
    return float(np.mean(values)) if len(values) else math.nan


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The sample standard deviation of a metric's values on folds, under the name that it is reported by."""
    return {f"{name}{SPREAD}": float(np.std(values, ddof=1))} if len(values) > 1 else {}


def thinned(n: int, most: int) -> list[int]:
    """At most ``most`` positions of 0 .. n-1, evenly spread, both ends among them."""
    if n <= most:
        return list(range(n))
    return sorted({round(i) for i in np.linspace(0, n - 1, max(most, 2))})


def requirements(*packages: str) -> tuple[str, ...]:
    """``name==version`` of the packages that are installed, local build tags (``+cpu``) removed."""
    pinned = []
    for package in packages:
        try:
            pinned.append(f"{package}=={version(package).split('+')[0]}")
        except PackageNotFoundError:
            continue
    return tuple(pinned)


def contract(problem: Problem) -> dict[str, Any]:
    """What a caller of the model has to know, as plain JSON."""
    return {
        "target": problem.table.target,
        "task": problem.task,
        "classes": list(problem.classes),
        "columns": list(problem.columns),
        "dates_as_days_since_1970": list(problem.dates),
        "categories": {name: list(levels) for name, levels in problem.levels.items()},
    }


def final_scores(setting: Setting, outputs: Mapping[Needs, Array]) -> dict[str, float]:
    """The scores of a final model on the test rows, the tuned metric first.

    ``outputs``: its predictions for them, as each kind of metric wants them.
    """
    y = setting.problem.y[setting.split.test]
    return score_all(setting.problem.task, y, outputs, setting.metric)


def example_of(rows: pd.DataFrame) -> pd.DataFrame:
    """A few of the rows as MLflow takes them: a date that it refuses, such as one for never, is missing."""
    example = rows.head(_EXAMPLE_ROWS).copy()
    for name in example.select_dtypes("datetime"):
        example[name] = example[name].where(example[name].between(*_KNOWN_DATES))
    return example


def all_needs(predictions: Array, task: str) -> dict[Needs, Array]:
    """Values, or probabilities, which serve every kind of metric."""
    if task == "regression":
        return {"value": predictions}
    return {"class": predictions, "ranking": predictions, "probability": predictions}


def permutation_importance(
    setting: Setting, inputs: pd.DataFrame, predict: Callable[[pd.DataFrame], Array], seed: int
) -> pd.DataFrame:
    """How much worse the metric gets on test rows when one feature is shuffled, feature by feature.

    ``inputs``: test rows as ``predict`` takes them.
    Breiman (2001), Random Forests, section 10.
    """
    rng = np.random.default_rng(seed)
    y = setting.problem.y[setting.split.test]
    rows = rng.permutation(len(y))[:_IMPORTANCE_ROWS]
    inputs = inputs.iloc[rows].reset_index(drop=True)
    y, metric = y[rows], setting.metric
    base = metric.sign * metric(y, predict(inputs))
    losses = []
    for name in setting.problem.columns:
        shuffled = inputs.copy()
        order = rng.permutation(len(y))
        shuffled[name] = inputs[name].to_numpy()[order]
        losses.append(metric.sign * metric(y, predict(shuffled)) - base)
    return importance_table(setting.problem.columns, importance=np.asarray(losses))


def importance_table(features: Sequence[str], **columns: NDArray[Any]) -> pd.DataFrame:
    """One row per feature, sorted by the first column, the largest first."""
    import pandas as pd

    table = pd.DataFrame({"feature": list(features), **columns})
    first = next(iter(columns))
    return table.sort_values(first, ascending=False, kind="stable").reset_index(drop=True)
