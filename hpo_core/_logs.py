"""What trials have shown: logs of reports and of results, which are appended to and never re-encoded.

Where a trial that ended badly is run again, new logs without what it had shown take their place.

Notation
--------
d, m    columns of the search space's unit cube; objectives, all minimised in here
k       rows of evidence: finished trials and warm-start observations, in the order they became known
r       reports, in the order they arrived
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpo_core._columns import Column
from hpo_core._states import TrialState

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Reported as NAME_fold, NAME being an objective: the result on this step's fold alone.
FOLD = "_fold"
# Reported as NAME_std: how far the results that NAME is the mean of lie apart.
SPREAD = "_std"


class Evidence:
    """Append-only log of results: everything a model may learn from, oldest first."""

    def __init__(self, dims: int, objectives: int, constraints: int = 0) -> None:
        self._X = Column(np.float64, width=dims, fill=np.nan)
        self._values = Column(np.float64, width=objectives, fill=np.nan)
        self._states = Column(np.int8)
        self._steps = Column(np.int64)
        self._trials = Column(np.int64)
        self._measured = Column(np.float64, width=objectives, fill=np.nan)
        self._excesses = Column(np.float64, width=constraints, fill=np.nan)

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def X(self) -> Floats:
        """(k, d) canonical unit cube, NaN = inactive."""
        return self._X.view

    @property
    def values(self) -> Floats:
        """(k, m) minimised; NaN where the trial has no finite result, or one that breaks a constraint."""
        return self._values.view

    @property
    def measured(self) -> Floats:
        """(k, m) the same, but with what results that break an outcome constraint measured."""
        return self._measured.view

    @property
    def states(self) -> NDArray[np.int8]:
        """(k,) :class:`TrialState` of each row, always an end state."""
        return self._states.view

    @property
    def steps(self) -> Ints:
        """(k,) the step each value belongs to; 0 when the trial reported none."""
        return self._steps.view

    @property
    def trials(self) -> Ints:
        """(k,) trial numbers, -1 for an observation from elsewhere."""
        return self._trials.view

    @property
    def excesses(self) -> Floats:
        """(k, c) by how much each of the study's outcome constraints is broken; NaN where not known."""
        return self._excesses.view

    def _append(self, u: Floats, measured: Floats, state: int, step: int, trial: int, excess: Floats) -> None:
        self._X.append(u)
        self._values.append(np.nan if state == TrialState.INFEASIBLE else measured)
        self._measured.append(measured)
        self._states.append(state)
        self._steps.append(step)
        self._trials.append(trial)
        self._excesses.append(excess)

    def _without(self, trials: Collection[int]) -> Evidence:
        """The log as if these trials had not ended yet."""
        kept, other = ~np.isin(self.trials, list(trials)), copy.copy(self)
        for name, column in vars(self).items():
            setattr(other, name, column.kept(kept))
        return other


class Reports:
    """Append-only log of intermediate metrics, in the order they arrived."""

    def __init__(self, objectives: tuple[str, ...], signs: list[float]) -> None:
        self._objectives = objectives
        self._signs = signs
        self._trials = Column(np.int64)
        self._steps = Column(np.int64)
        self._values = Column(np.float64, width=len(objectives), fill=np.nan)
        self._given = Column(np.bool_, width=len(objectives), fill=False)
        self._seconds = Column(np.float64)
        self._first = Column(np.bool_)
        self._extra: dict[str, dict[int, float]] = {}
        self._rows: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def trials(self) -> Ints:
        """(r,) trial numbers."""
        return self._trials.view

    @property
    def steps(self) -> Ints:
        """(r,) steps."""
        return self._steps.view

    @property
    def values(self) -> Floats:
        """(r, m) objectives, minimised; NaN where an objective was not reported or not finite."""
        return self._values.view

    @property
    def given(self) -> NDArray[np.bool_]:
        """(r, m) whether the report named the objective at all, finite or not."""
        return self._given.view

    @property
    def seconds(self) -> Floats:
        """(r,) since the report before in the same segment, or since the segment began; NaN where the
        study was not told the time, and in a deterministic one.
        """
        return self._seconds.view

    @property
    def first(self) -> NDArray[np.bool_]:
        """(r,) whether it was the first report of its segment, so that ``seconds`` has its setting up too."""
        return self._first.view

    def has(self, name: str) -> bool:
        """Whether any report named this metric."""
        return name in self._extra or name in self._objectives

    def metric(self, name: str) -> Floats:
        """(r,) any reported metric as the user gave it, NaN where absent."""
        if name in self._objectives:
            column = self._objectives.index(name)
            return np.asarray(self._values.view[:, column] * self._signs[column])
        out = np.full(len(self), np.nan)
        for row, value in self._extra.get(name, {}).items():
            out[row] = value
        return out

    def rows(self, trial: int) -> list[int]:
        """Row indices of one trial's reports, oldest first. Do not change the list."""
        return self._rows.get(trial, [])

    def metric_of(self, trial: int, name: str) -> Floats:
        """(number of reports of the trial,) one metric of one trial, as the user gave it."""
        rows = self.rows(trial)
        if name in self._objectives:
            column = self._objectives.index(name)
            return np.asarray(self._values.view[rows, column] * self._signs[column])
        known = self._extra.get(name, {})
        return np.array([known.get(row, np.nan) for row in rows])

    def value(self, row: int, name: str) -> float | None:
        """One metric of one report as the user gave it, NaN if not finite; ``None`` if not reported."""
        if name in self._objectives:
            column = self._objectives.index(name)
            if not self._given.view[row, column]:
                return None
            return float(self._values.view[row, column] * self._signs[column])
        found = self._extra.get(name, {}).get(row)
        return None if found is None else found if np.isfinite(found) else np.nan

    def last(self, trial: int) -> dict[str, float]:
        """Every metric of the trial's latest report that has it, as the user gave them."""
        names = (*self._objectives, *self._extra)
        series = {name: self.metric_of(trial, name) for name in names}
        known = {name: values[~np.isnan(values)] for name, values in series.items()}
        return {name: float(values[-1]) for name, values in known.items() if len(values)}

    def _append(
        self, trial: int, step: int, metrics: Mapping[str, float], seconds: float, first: bool
    ) -> None:
        row = len(self)
        self._seconds.append(seconds)
        self._first.append(first)
        self._trials.append(trial)
        self._steps.append(step)
        self._values.append(minimised(metrics, self._objectives, self._signs))
        self._given.append([name in metrics for name in self._objectives])
        for name, value in metrics.items():
            if name not in self._objectives:
                self._extra.setdefault(name, {})[row] = float(value)
        self._rows.setdefault(trial, []).append(row)

    def _without(self, later: Mapping[int, int]) -> Reports:
        """The log as if these trials had reported nothing after the steps that ``later`` gives."""
        gone = [row for trial, step in later.items() for row in self.rows(trial) if self.steps[row] > step]
        kept, other = np.ones(len(self), dtype=np.bool_), Reports(self._objectives, self._signs)
        kept[gone] = False
        for name, column in vars(self).items():
            if isinstance(column, Column):
                setattr(other, name, column.kept(kept))
        place = (np.cumsum(kept) - 1).tolist()
        for name, known in self._extra.items():
            other._extra[name] = {place[row]: value for row, value in known.items() if kept[row]}
        for row, trial in enumerate(other.trials.tolist()):
            other._rows.setdefault(trial, []).append(row)
        return other


def sign_of(direction: str) -> float:
    """``sign_of(direction) * value`` is a cost, to be minimised, for ``"min"`` and for ``"max"``."""
    return 1.0 if direction == "min" else -1.0


def minimised(values: Mapping[str, float], objectives: Sequence[str], signs: Sequence[float]) -> list[float]:
    """The objectives by name as (m,) numbers to be minimised.

    The one rule for values that are not finite: they are missing (``NaN``), never numbers to rank by.
    """
    found = [values.get(name, math.nan) for name in objectives]
    return [v * s if math.isfinite(v) else math.nan for v, s in zip(found, signs, strict=True)]
