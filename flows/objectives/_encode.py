"""Preprocessing out of scikit-learn's own parts, so that a saved model loads without this project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows._clean import epoch
from flows.objectives._data import Problem

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer

# Levels beyond this many most frequent ones share one column of a one-hot encoding.
ONE_HOT_LEVELS = 30


def date_encoder() -> Any:
    """Dates (or ISO text) to days since 1970, missing ones to NaN.

    Built from pandas' own methods: a pickled model refers to nothing of ours.
    """
    import pandas as pd
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    def step(function: Any, **arguments: Any) -> Any:
        return FunctionTransformer(function, kw_args=arguments, feature_names_out="one-to-one")

    return Pipeline(
        [
            ("parse", step(pd.DataFrame.astype, dtype="datetime64[us]")),
            ("since", step(pd.DataFrame.sub, other=epoch())),
            ("days", step(pd.DataFrame.div, other=pd.Timedelta("1D"))),
        ]
    )


def ordinal_encoder(problem: Problem, *, max_levels: int | None = None) -> ColumnTransformer:
    """Numbers as they are, dates to days, categories to codes; NaN for missing and for unseen levels.

    The columns come out in the order of :attr:`Problem.columns`. With ``max_levels`` the rarest levels
    share a code.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=max_levels,
        dtype=np.float64,
    )
    return ColumnTransformer(
        [
            ("numbers", "passthrough", list(problem.numbers)),
            ("dates", date_encoder() if problem.dates else "drop", list(problem.dates)),
            ("categories", codes, list(problem.categories)),
        ]
    )


def dense_encoder(problem: Problem, *, impute: bool, scale: str | None) -> ColumnTransformer:
    """Everything as plain numbers: categories one-hot.

    ``impute``: missing numbers become the median, with a column that says so.
    ``scale``: ``"standard"`` for models that compare sizes, ``"unit"`` for those that refuse
    negative numbers, ``None`` for trees.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

    def numeric(first: Any = None) -> Any:
        steps: list[tuple[str, Any]] = [("days", first)] if first is not None else []
        if impute:
            steps.append(
                ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True))
            )
        if scale == "standard":
            steps.append(("scale", StandardScaler()))
        elif scale == "unit":
            steps.append(("scale", MinMaxScaler(clip=True)))
        return Pipeline(steps) if steps else "passthrough"

    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=ONE_HOT_LEVELS, sparse_output=False
    )
    return ColumnTransformer(
        [
            ("numbers", numeric(), list(problem.numbers)),
            ("dates", numeric(date_encoder()) if problem.dates else "drop", list(problem.dates)),
            ("categories", one_hot, list(problem.categories)),
        ]
    )
