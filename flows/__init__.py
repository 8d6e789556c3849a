"""Execution: the ``tune`` flow, runners, trial processes, the command line and ready objectives.

``tune`` is the Python face, and the ``from_...`` functions say where its ``warm_start`` comes from;
``confirm`` runs the best trials of a study again on fresh seeds. Each is imported when it is first asked for,
and everything heavy when it is called: the command line answers mistakes and questions at once.
"""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from flows._confirm import confirm as confirm
    from flows._result import Result as Result
    from flows._tune import tune as tune
    from flows.sources import from_csv as from_csv
    from flows.sources import from_hyperopt as from_hyperopt
    from flows.sources import from_mlflow as from_mlflow
    from flows.sources import from_optuna as from_optuna
    from flows.sources import from_study as from_study

__all__ = [
    "Result",
    "confirm",
    "from_csv",
    "from_hyperopt",
    "from_mlflow",
    "from_optuna",
    "from_study",
    "tune",
]


def __getattr__(name: str) -> typing.Any:
    if name not in __all__:
        raise AttributeError(f"module 'flows' has no attribute {name!r}")
    home = "flows._confirm" if name == "confirm" else "flows._tune"
    module = "flows.sources" if name.startswith("from_") else home
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return __all__
