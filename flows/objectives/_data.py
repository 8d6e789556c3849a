"""Tables: read from a file or from scikit-learn, cleaned, and posed as a task.

Two steps. :func:`load_table` reads and cleans: it drops what no model can use and says so in the
notes. :func:`pose` finds the task and turns target and features into arrays.

Column order is fixed for everything downstream: numbers, then dates, then categories.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flows._clean import MIN_ROWS, as_dates, clean_features, epoch, is_text
from flows._files import read_source
from flows.objectives._metrics import TASKS, Task
from hpo_core import InputError
from hpo_core.inner import nearest

if TYPE_CHECKING:
    import pandas as pd

# Below this many rows every score is noisy enough to say so.
FEW_ROWS = 200
# Whole numbers with at most this many distinct values are classes, if each has five rows on average.
MAX_CODES = 20
# Beyond this a float does not tell whole numbers apart, and far beyond it no int64 holds them.
_MOST_EXACT = 2.0**53
# Names that a target usually has, tried when none is given.
TARGET_NAMES = ("target", "label", "class", "y", "outcome")


@dataclass(frozen=True, eq=False)
class Table:
    """A clean table: n rows with a known target.

    ``features``  DataFrame (n, f): float64, int64, bool, datetime64 or text columns
    ``labels``    Series (n,) of the target as read, nothing missing
    ``groups``    (n,) int64 group codes, or ``None``
    ``times``     (n,) float64 sort keys, or ``None``
    ``digest``    SHA-256 of the content as stored
    ``notes``     what was left out or changed, one sentence each
    ``infinite``  how many infinite values of features count as missing
    """

    source: str
    target: str
    features: pd.DataFrame
    labels: pd.Series
    groups: NDArray[np.int64] | None
    times: NDArray[np.float64] | None
    digest: str
    notes: tuple[str, ...]
    infinite: int = 0


@dataclass(frozen=True, eq=False)
class Problem:
    """A table whose task is known.

    ``y``        (n,) float64: class codes 0 .. K-1, or target values
    ``classes``  K labels in code order (sorted; the positive one last for two); empty for regression
    ``numbers``, ``dates``, ``categories``  the names of the feature columns, in column order
    """

    table: Table
    task: Task
    y: NDArray[np.float64]
    classes: tuple[Any, ...]
    numbers: tuple[str, ...]
    dates: tuple[str, ...]
    categories: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every feature column, in order."""
        return (*self.numbers, *self.dates, *self.categories)

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The features as a model's user sees them, in column order."""
        return self.table.features[list(self.columns)]

    @functools.cached_property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """The sorted distinct values of each category column; their positions are the codes."""
        return {c: tuple(sorted(set(self.frame[c].dropna()))) for c in self.categories}

    @functools.cached_property
    def matrix(self) -> NDArray[np.float64]:
        """(n, f): numbers, dates as days since 1970, category codes; NaN where missing."""
        return encode(self.frame, self)

    @property
    def categorical(self) -> list[int]:
        """Positions of the category columns in :attr:`matrix`."""
        first = len(self.numbers) + len(self.dates)
        return list(range(first, first + len(self.categories)))

    def known_in(self, rows: NDArray[np.int64]) -> Problem:
        """The problem without the columns that have no value in any of these rows."""
        there = set(self.frame.columns[self.frame.iloc[rows].notna().any()])
        numbers, dates, categories = (
            tuple(name for name in names if name in there)
            for names in (self.numbers, self.dates, self.categories)
        )
        return replace(self, numbers=numbers, dates=dates, categories=categories)

    def labels_of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The target of these rows in the user's own terms: original labels, or values."""
        if not self.classes:
            return self.y[rows]
        return np.asarray(self.classes)[self.y[rows].astype(np.int64)]


def encode(frame: pd.DataFrame, problem: Problem) -> NDArray[np.float64]:
    """(rows, f) float64 of a frame with the problem's columns; a level never seen becomes NaN."""
    import pandas as pd

    out = np.full((len(frame), len(problem.columns)), np.nan)
    for j, name in enumerate(problem.columns):
        column = frame[name]
        if name in problem.levels:
            codes = pd.Index(problem.levels[name], dtype=object).get_indexer(column.astype(object))
            out[:, j] = np.where(codes >= 0, codes, np.nan)
        elif name in problem.dates:
            out[:, j] = (column - epoch()) / pd.Timedelta("1D")
        else:
            out[:, j] = column.to_numpy(dtype=np.float64)
    return out


# -- reading -------------------------------------------------------------------------------------


def load_table(
    source: str,
    target: str | None = None,
    *,
    group: str | None = None,
    time: str | None = None,
    drop: Sequence[str] = (),
) -> Table:
    """Read a table and make it fit for training.

    ``source``: a path to CSV, TSV or Parquet (CSV may be compressed), or ``sklearn:NAME``.
    ``target``: the column to predict; without one, a column named target, label, class, y or outcome.
    ``group``, ``time``: columns that split the rows; they are not features.
    ``drop``: columns to leave out.

    Rows without a target are dropped. So are columns that are empty, constant, or text in which
    nearly every value is different; each with a note. Raises :class:`InputError`, one line, for
    everything that the user has to put right.
    """
    frame, digest = read_source(source)
    columns = [str(c) for c in frame.columns]
    if len(set(columns)) != len(columns):
        twice = next(c for c in columns if columns.count(c) > 1)
        raise InputError(f"data {source!r}: the column {twice!r} appears twice; rename one of them")
    frame.columns = columns
    target = _target_of(source, target, columns)
    for role, name in [("group", group), ("time", time), *[("drop", d) for d in drop]]:
        if name is not None:
            _check_column(source, role, name, columns)
            if name == target:
                raise InputError(f"data {source!r}: {name!r} is the target and cannot be the {role} column")
    notes: list[str] = []
    frame = _known_target(frame, source, target, notes)
    if len(frame) < MIN_ROWS:
        raise InputError(
            f"data {source!r} has {len(frame)} rows with a target; tuning with held-out rows needs at "
            f"least {MIN_ROWS}"
        )
    if len(frame) < FEW_ROWS:
        notes.append(f"only {len(frame)} rows: expect noisy scores")
    out = [target, *drop, *[c for c in (group, time) if c is not None]]
    features, infinite = clean_features(frame.drop(columns=list(dict.fromkeys(out))), source, notes)
    return Table(
        source=source,
        target=target,
        features=features,
        labels=frame[target],
        groups=None if group is None else _group_codes(frame[group], source),
        times=None if time is None else _time_keys(frame[time], source),
        digest=digest,
        notes=tuple(notes),
        infinite=infinite,
    )


def _check_column(source: str, role: str, name: str, columns: Sequence[str]) -> None:
    if name not in columns:
        shown = ", ".join(repr(c) for c in columns[:8]) + (", ..." if len(columns) > 8 else "")
        raise InputError(
            f"data {source!r} has no column {name!r} (given as {role})"
            f"{nearest(name, columns) or f'; its columns are {shown}'}"
        )


def _target_of(source: str, target: str | None, columns: Sequence[str]) -> str:
    if target is not None:
        _check_column(source, "target", target, columns)
        return target
    for usual in TARGET_NAMES:
        for column in columns:
            if column.lower() == usual:
                return column
    shown = ", ".join(repr(c) for c in columns[-5:])
    raise InputError(f"data {source!r}: say which column to predict with target; the last are {shown}")


def _known_target(frame: pd.DataFrame, source: str, target: str, notes: list[str]) -> pd.DataFrame:
    """The rows whose target is there, freshly numbered."""
    import pandas as pd

    labels = frame[target]
    known = labels.notna()
    if pd.api.types.is_float_dtype(labels):
        known &= np.isfinite(labels.to_numpy(dtype=np.float64, na_value=np.nan))
    missing = int((~known).sum())
    if missing == len(frame):
        raise InputError(
            f"data {source!r}: every value of the target {target!r} is missing; check the column"
        )
    if missing:
        notes.append(f"{missing} of {len(frame)} rows dropped: their target is missing or infinite")
    frame = frame[known].reset_index(drop=True)
    if frame[target].nunique() == 1:
        only = frame[target].astype(object).iloc[0]
        rest = f" in the rows where it is neither missing nor infinite ({missing} are not)" if missing else ""
        raise InputError(
            f"data {source!r}: the target {target!r} has one value only, {only!r}{rest}; "
            "there is nothing to predict"
        )
    return frame


def _group_codes(column: pd.Series, source: str) -> NDArray[np.int64]:
    _refuse_missing(column, source, "group")
    return np.asarray(column.astype(str).rank(method="dense").to_numpy() - 1, dtype=np.int64)


def _time_keys(column: pd.Series, source: str) -> NDArray[np.float64]:
    import pandas as pd

    _refuse_missing(column, source, "time")
    column = as_dates(column) if is_text(column) else column
    if is_text(column):
        raise InputError(
            f"data {source!r}: the time column {column.name!r} holds {column.iloc[0]!r}, neither a "
            "number nor a date; write dates as 2024-12-31 or 2024-12-31 23:59:59"
        )
    if pd.api.types.is_datetime64_any_dtype(column):
        return np.asarray(column.astype("int64"), dtype=np.float64)
    return column.to_numpy(dtype=np.float64)


def _refuse_missing(column: pd.Series, source: str, role: str) -> None:
    missing = int(column.isna().sum())
    if missing:
        raise InputError(
            f"data {source!r}: the {role} column {column.name!r} is missing in {missing} rows; fill or "
            "remove them"
        )


# -- posing --------------------------------------------------------------------------------------


def pose(table: Table, task: str | None = None, positive: str | None = None) -> Problem:
    """Find the task from the target, or check the one that is forced, and encode the target.

    Text, bool and two-valued targets are classes; so are whole numbers with at most 20 distinct
    values and five rows each on average; everything else is regression. ``positive`` names the
    positive class of two (default: the last in sorted order).

    Raises :class:`InputError` when the forced task is impossible for this target.
    """
    if task is not None and task not in TASKS:
        raise InputError(f"unknown task {task!r}{nearest(task, TASKS)} (one of {', '.join(TASKS)})")
    found = _task_of(table)
    if task is None:
        chosen: Task = found
    else:
        chosen = next(t for t in TASKS if t == task)
        _check_forced(table, chosen)
    notes = list(table.notes)
    classes: tuple[Any, ...] = ()
    if chosen == "regression":
        y = table.labels.to_numpy(dtype=np.float64)
        if positive is not None:
            raise InputError(f"positive={positive!r} is for targets with two classes, not for regression")
    else:
        classes, y = _class_codes(table, chosen, positive, notes)
    numbers, dates, texts = _kinds(table.features)
    return Problem(
        table=table, task=chosen, y=y, classes=classes, numbers=numbers, dates=dates,
        categories=texts, notes=tuple(notes),
    )  # fmt: skip


def _kinds(features: pd.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    import pandas as pd

    dates = tuple(c for c in features if pd.api.types.is_datetime64_any_dtype(features[c]))
    texts = tuple(c for c in features if is_text(features[c]))
    return tuple(c for c in features if c not in {*dates, *texts}), dates, texts


def _is_number(labels: pd.Series) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(labels)) and not pd.api.types.is_bool_dtype(labels)


def _task_of(table: Table) -> Task:
    labels, distinct = table.labels, table.labels.nunique()
    if distinct == 2:
        return "binary"
    if not _is_number(labels):
        _refuse_ids(table)
        return "multiclass"
    values = labels.to_numpy(dtype=np.float64)
    whole = bool((values == np.round(values)).all())
    return "multiclass" if whole and distinct <= min(MAX_CODES, len(values) / 5) else "regression"


def _refuse_ids(table: Table) -> None:
    distinct = table.labels.nunique()
    if distinct > len(table.labels) / 2:
        raise InputError(
            f"data {table.source!r}: the target {table.target!r} has {distinct} different values in "
            f"{len(table.labels)} rows, such as {_example(table)}; that is a name, not a class"
        )


def _example(table: Table) -> str:
    """A value of the target, as Python writes it."""
    return repr(table.labels.iloc[:1].tolist()[0])


def _check_forced(table: Table, task: Task) -> None:
    where = f"data {table.source!r}: task {task!r} is impossible for the target {table.target!r}"
    distinct = table.labels.nunique()
    if task == "regression":
        if not _is_number(table.labels):
            raise InputError(f"{where}, which holds {_example(table)}; regression needs numbers")
        return
    if (distinct == 2) != (task == "binary"):
        fits = "binary" if distinct == 2 else "multiclass or regression"
        raise InputError(f"{where}, which has {distinct} different values; use {fits}")
    _refuse_ids(table)


def _class_codes(
    table: Table, task: Task, positive: str | None, notes: list[str]
) -> tuple[tuple[Any, ...], NDArray[np.float64]]:
    labels = table.labels
    if _is_number(labels):
        values = labels.to_numpy(dtype=np.float64)
        whole = (values == np.round(values)).all() and np.abs(values).max() < _MOST_EXACT
        labels = labels.astype("int64") if whole else labels
    else:
        kinds = {type(v) for v in labels}
        labels = labels.astype(object) if len(kinds) == 1 else labels.map(str)
    classes = [v.item() if isinstance(v, np.generic) else v for v in sorted(set(labels))]
    if any(isinstance(label, float) for label in classes):
        # To scikit-learn and LightGBM, fractions are values and no classes.
        labels, classes = labels.map(lambda label: str(float(label))), [str(label) for label in classes]
        shown = f"{', '.join(map(repr, classes[:5]))}{', ...' if len(classes) > 5 else ''}"
        notes.append(f"the classes are no whole numbers, so the model calls them by text: {shown}")
    if positive is not None:
        if task != "binary":
            raise InputError(
                f"positive={positive!r} is for targets with two classes, this one has {len(classes)}"
            )
        match = [c for c in classes if str(c) == str(positive)]
        if not match:
            raise InputError(f"positive={positive!r} is not a class of {table.target!r}: {classes!r}")
        classes = [c for c in classes if c != match[0]] + match
    if task == "binary" and isinstance(classes[1], str):
        notes.append(f"the positive class is {classes[1]!r}")
    codes = labels.map({c: float(i) for i, c in enumerate(classes)})
    return tuple(classes), codes.to_numpy(dtype=np.float64)


def identity(*parts: object) -> str:
    """SHA-256 over the representations of ``parts``: equal inputs, equal digest."""
    return hashlib.sha256("\x1f".join(repr(p) for p in parts).encode()).hexdigest()
