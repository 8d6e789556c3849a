"""Where a study's warm start can come from: earlier studies, MLflow runs, tables, Optuna, Hyperopt.

Each source is a frozen record that reads a :class:`~hpo_core.warm_start.Past` when a study begins; what of
that fits the study is decided there. On the command line a source is one word, see :func:`parse_source`.
"""

from flows.sources._hyperopt import from_hyperopt
from flows.sources._mlflow import from_mlflow
from flows.sources._optuna import from_optuna
from flows.sources._source import Source
from flows.sources._study import from_study
from flows.sources._table import from_csv
from flows.sources._text import parse_source, sources_of

__all__ = [
    "Source",
    "from_csv",
    "from_hyperopt",
    "from_mlflow",
    "from_optuna",
    "from_study",
    "parse_source",
    "sources_of",
]
