"""Ready objectives: tune LightGBM, a scikit-learn estimator or a torch network on a table.

    objective = make_objective("lgbm", data="sklearn:breast_cancer", metric="auc")
    prepared = objective.prepare()          # checks everything; prepared.space, prepared.objectives
    value = objective(trial)                # in a worker
    final = objective.finalise(params, TrialInfo(seed=trial_seed, metrics=last_reported))

Importing this package imports none of the three libraries.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from flows.objectives._base import FinalModel as FinalModel
from flows.objectives._base import Prepared as Prepared
from flows.objectives._base import Rerun as Rerun
from flows.objectives._base import TableConfig as TableConfig
from flows.objectives._base import TableObjective as TableObjective
from flows.objectives._base import TrialInfo as TrialInfo
from flows.objectives._lgbm import LightGBM as LightGBM
from flows.objectives._sklearn import SklearnModel as SklearnModel
from flows.objectives._space_file import read_space as read_space
from flows.objectives._splits import SplitPlan as SplitPlan
from flows.objectives._torch import TorchMLP as TorchMLP
from hpo_core import InputError as _InputError
from hpo_core.inner import nearest as _nearest

__all__ = [
    "FinalModel",
    "LightGBM",
    "Prepared",
    "Rerun",
    "SklearnModel",
    "SplitPlan",
    "TableConfig",
    "TableObjective",
    "TorchMLP",
    "TrialInfo",
    "make_objective",
    "objective_names",
    "option_names",
    "read_space",
]

_KINDS: dict[str, type[LightGBM] | type[SklearnModel] | type[TorchMLP]] = {
    "lgbm": LightGBM,
    "sklearn": SklearnModel,
    "torch": TorchMLP,
}
# Where options go that are not the objective's own: name in the plan, or in the table's configuration.
_PLAN = {"split": "kind", "folds": "folds", "test_size": "test_size", "seed": "seed"}
_TABLE = (
    "data", "target", "metric", "task", "positive", "group", "time", "drop", "space", "threads",
)  # fmt: skip
# A network is trained in all folds for every epoch; three of them tell enough.
_USUAL_FOLDS = {"torch": 3}


def objective_names() -> list[str]:
    """The ready objectives."""
    return sorted(_KINDS)


def option_names(kind: str) -> list[str]:
    """Every option that :func:`make_objective` takes for this objective, sorted."""
    own = [f.name for f in dataclasses.fields(_kind(kind)) if f.name != "table"]
    return sorted([*_TABLE, *_PLAN, *own])


def make_objective(
    kind: str, *, options: Mapping[str, Any] | None = None, **more: Any
) -> LightGBM | SklearnModel | TorchMLP:
    """A ready objective from its options, by keyword or as a mapping; ``None`` keeps an option's default.

    Options of the table: data (required), target, metric, task, positive, group, time, drop,
    space (a path, or a mapping), threads. Of the split: split, folds, test_size, seed. Of the objective: see
    :class:`LightGBM`, :class:`SklearnModel`, :class:`TorchMLP`.

    Raises :class:`InputError` for an unknown objective or option, and for values out of range.
    Reads no data: that is for ``prepare()``.
    """
    cls = _kind(kind)
    known = option_names(kind)
    asked = {**more, **(options or {})}
    for name in asked:
        if name not in known:
            hint = _nearest(name, known) or f" (it has {', '.join(known)})"
            raise _InputError(f"objective {kind!r} has no option {name!r}{hint}")
    given = {k: v for k, v in asked.items() if v is not None}
    data = given.get("data")
    if not isinstance(data, str) or not data:
        got = f"got {data!r}" if isinstance(data, str | int | float | None) else f"got {type(data)}"
        convert = "; give its .to_pandas()" if hasattr(data, "to_pandas") else ""
        raise _InputError(
            f"objective {kind!r} needs data: a path to CSV or Parquet, sklearn:NAME, or in tune() a "
            f"DataFrame of pandas; {got}{convert}"
        )
    split = {_PLAN[k]: given.pop(k) for k in list(given) if k in _PLAN}
    plan = SplitPlan(usual=_USUAL_FOLDS.get(kind, SplitPlan.usual), **split)
    table = {k: given.pop(k) for k in list(given) if k in _TABLE}
    table["drop"] = _names(table.get("drop", ()))
    if isinstance(table.get("space"), Mapping):
        table["space"] = json.dumps(table["space"])
    return cls(table=TableConfig(plan=plan, **table), **given)


def _kind(kind: str) -> type[LightGBM] | type[SklearnModel] | type[TorchMLP]:
    if kind not in _KINDS:
        raise _InputError(
            f"unknown objective {kind!r}{_nearest(kind, _KINDS)} (one of {', '.join(objective_names())})"
        )
    return _KINDS[kind]


def _names(drop: Any) -> tuple[str, ...]:
    """Column names from a list, or from text with commas."""
    if isinstance(drop, str):
        drop = [name.strip() for name in drop.split(",") if name.strip()]
    return tuple(str(name) for name in drop)
