"""Cleaning: feature columns of four plain kinds (number, flag, date, text), notes on what was left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from hpo_core import InputError

if TYPE_CHECKING:
    import pandas as pd

# A table with fewer rows cannot be split into training, validation and test rows that mean anything.
MIN_ROWS = 20
# A text column with this share of distinct values (and this many rows) names rows: it is left out.
ID_SHARE, ID_ROWS = 0.95, 50


def is_text(column: pd.Series) -> bool:
    """Whether the column holds strings (or anything else that is not a number, bool or date)."""
    import pandas as pd

    return bool(pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column))


def as_dates(column: pd.Series) -> pd.Series:
    """The column as dates if every value that is there is an ISO date, else the column itself."""
    import pandas as pd

    there = column.dropna()
    if there.empty or not there.astype(str).str.match(r"\d{4}-\d{2}-\d{2}([T ]|$)").all():
        return column
    try:
        # The unit is named: pandas would choose it by content, and a model's input must not depend on it.
        dates = pd.to_datetime(column, format="ISO8601", utc=True)
    except (ValueError, TypeError):
        return column
    return _naive(dates)


def _naive(column: pd.Series) -> pd.Series:
    """Dates in UTC without a zone, in microseconds."""
    if column.dt.tz is not None:
        column = column.dt.tz_convert(None)
    return column.astype("datetime64[us]")


def epoch() -> pd.Timestamp:
    """The start of 1970, in microseconds: no date after 2262 has a distance from it in nanoseconds."""
    import pandas as pd

    return pd.Timestamp("1970-01-01").as_unit("us")


def clean_features(frame: pd.DataFrame, source: str, notes: list[str]) -> tuple[pd.DataFrame, int]:
    """Columns of the four plain kinds, and how many infinite values count as missing in them.

    Notes say what was left out, and what looks odd.
    """
    import pandas as pd

    kept: dict[str, pd.Series] = {}
    empty, constant, ids = [], [], []
    infinite = 0
    for name in frame.columns:
        column = _plain_column(frame[name], source)
        if pd.api.types.is_float_dtype(column):
            wrong = np.isinf(column.to_numpy())
            infinite += int(wrong.sum())
            column = column.mask(wrong) if wrong.any() else column
        distinct = column.nunique()
        if not distinct:
            empty.append(name)
        elif distinct == 1 and not column.isna().any():
            constant.append(name)
        elif is_text(column) and len(column) >= ID_ROWS and distinct > ID_SHARE * len(column):
            ids.append(name)
        else:
            kept[name] = column
    if infinite:
        notes.append(f"{infinite} infinite feature values count as missing")
    for names, what in ((empty, "empty"), (constant, "constant"), (ids, "nearly all different (an id?)")):
        if names:
            notes.append(f"left out, {what}: {_listed(names)}")
    counters = [n for n, c in kept.items() if _is_row_number(c)]
    if counters:
        notes.append(f"looks like a row number, consider drop: {_listed(counters)}")
    if not kept:
        raise InputError(f"data {source!r} has no usable feature column besides the target")
    return pd.DataFrame(kept), infinite


def _plain_column(column: pd.Series, source: str) -> pd.Series:
    """The column as float64, int64 (nothing missing), bool, datetime64[us] or text."""
    import pandas as pd

    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype if not column.isna().any() else object)
        return _text_column(column, source)
    if types.is_bool_dtype(column) and not column.isna().any():
        return column.astype(bool)
    if types.is_complex_dtype(column):
        raise InputError(f"data {source!r}: the column {column.name!r} is complex; drop it")
    if types.is_signed_integer_dtype(column) and not column.isna().any():
        # Stays what it is: a model's signature in MLflow does not take whole numbers for a double.
        return column.astype(np.int64)
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        return pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan), name=column.name)
    if types.is_datetime64_any_dtype(column):
        return _naive(column)
    if types.is_timedelta64_dtype(column):
        return column / pd.Timedelta("1D")
    return _text_column(column, source)


def _text_column(column: pd.Series, source: str) -> pd.Series:
    """Text, dates if it reads as dates, numbers if it holds Decimals."""
    import decimal

    import pandas as pd

    there = column.dropna()
    kinds = set(there.map(type))
    if kinds and all(issubclass(k, decimal.Decimal) for k in kinds):
        return pd.to_numeric(column.astype(object)).astype(np.float64)
    wrong = next((k for k in kinds if issubclass(k, list | dict | tuple | set | bytes | np.ndarray)), None)
    if wrong is not None:
        raise InputError(
            f"data {source!r}: the column {column.name!r} holds {wrong.__name__} values; drop it or "
            "spread it over columns of numbers or text"
        )
    dated = as_dates(column)
    if dated is not column:
        return dated
    text = column.astype(object).where(column.notna(), None)
    return text.map(str, na_action="ignore")


def _is_row_number(column: pd.Series) -> bool:
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column) or len(column) < MIN_ROWS:
        return False
    steps = np.diff(column.to_numpy())
    return bool((steps == 1.0).all())


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
