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

    return Pipeline(
        [
            ("parse", _step(pd.DataFrame.astype, dtype="datetime64[us]")),
            ("since", _step(pd.DataFrame.sub, other=epoch())),
            ("days", _step(pd.DataFrame.div, other=pd.Timedelta("1D"))),
        ]
    )


def finite_numbers() -> Any:
    """Numbers, with NaN for infinite ones: they count as missing in the table that models are trained on.

    Of any kind that pandas has for numbers; of some a missing value is no NaN.
    """
    import pandas as pd
    from sklearn.pipeline import Pipeline

    return Pipeline(
        [
            ("floats", _step(pd.DataFrame.astype, dtype=np.float64)),
            ("finite", _step(pd.DataFrame.replace, to_replace=[np.inf, -np.inf], value=np.nan)),
        ]
    )


def plain_text() -> Any:
    """Whatever stands in a column of categories as text, and NaN for what is missing.

    As in the table that models are trained on, so that True is no other level than ``"True"``; and of pandas'
    three kinds of missing values an encoder knows the one that it was fitted with.
    """
    import pandas as pd
    from sklearn.pipeline import Pipeline

    return Pipeline(
        [
            ("values", _step(pd.DataFrame.astype, dtype=object)),
            ("text", _step(pd.DataFrame.map, func=str, na_action="ignore")),
            ("missing", _step(pd.DataFrame.fillna, value=np.nan)),
            # What is left may be text of pandas' own kind, or numbers where everything is missing.
            ("objects", _step(pd.DataFrame.astype, dtype=object)),
        ]
    )


def _step(function: Any, **arguments: Any) -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(function, kw_args=arguments, feature_names_out="one-to-one")


def ordinal_encoder(problem: Problem, *, max_levels: int | None = None) -> ColumnTransformer:
    """Numbers as they are, dates to days, categories to codes; NaN for missing and for unseen levels.

    The columns come out in the order of :attr:`Problem.columns`. With ``max_levels`` the rarest levels
    share a code.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
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
            ("numbers", finite_numbers(), list(problem.numbers)),
            ("dates", date_encoder() if problem.dates else "drop", list(problem.dates)),
            ("categories", make_pipeline(plain_text(), codes), list(problem.categories)),
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
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

    def numeric(name: str, first: Any) -> Any:
        steps: list[tuple[str, Any]] = [(name, first)]
        if impute:
            steps.append(
                ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True))
            )
        if scale == "standard":
            steps.append(("scale", StandardScaler()))
        elif scale == "unit":
            steps.append(("scale", MinMaxScaler(clip=True)))
        return Pipeline(steps)

    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=ONE_HOT_LEVELS, sparse_output=False
    )
    return ColumnTransformer(
        [
            ("numbers", numeric("finite", finite_numbers()), list(problem.numbers)),
            ("dates", numeric("days", date_encoder()) if problem.dates else "drop", list(problem.dates)),
            ("categories", make_pipeline(plain_text(), one_hot), list(problem.categories)),
        ]
    )
