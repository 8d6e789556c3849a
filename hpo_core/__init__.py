"""The decision engine: search spaces, studies, strategies. Knows no server, no clock, no MLflow, no Prefect.

study = Study({"x": Float(0.0, 1.0)}, objectives={"loss": "min"})
trial = study.ask()
study.tell(trial, (trial.params["x"] - 0.3) ** 2)
study.best.params
"""

from __future__ import annotations

from hpo_core._decide import Segment
from hpo_core._errors import (
    HpoError,
    Infeasible,
    InputError,
    JournalError,
    MustWait,
    ObjectiveError,
    SpaceError,
    StrategyError,
    StudyExistsError,
    StudyFinished,
    StudyLockedError,
    StudyStateError,
    TrialPaused,
    TrialPruned,
)
from hpo_core._execution import Execution
from hpo_core._journal import Journal
from hpo_core._parameters import Categorical, Constant, Float, Int, LogNormal, Normal, Parameter
from hpo_core._records import Limits, Settings, TrialRecord
from hpo_core._space import SearchSpace
from hpo_core._states import TrialState
from hpo_core._strategies import make_strategy, strategy_names
from hpo_core._strategy import Strategy
from hpo_core._study import Study
from hpo_core._trial import Trial

__all__ = [
    "Categorical",
    "Constant",
    "Execution",
    "Float",
    "HpoError",
    "Infeasible",
    "InputError",
    "Int",
    "Journal",
    "JournalError",
    "Limits",
    "LogNormal",
    "MustWait",
    "Normal",
    "ObjectiveError",
    "Parameter",
    "SearchSpace",
    "Segment",
    "Settings",
    "SpaceError",
    "Strategy",
    "StrategyError",
    "Study",
    "StudyExistsError",
    "StudyFinished",
    "StudyLockedError",
    "StudyStateError",
    "Trial",
    "TrialPaused",
    "TrialPruned",
    "TrialRecord",
    "TrialState",
    "make_strategy",
    "strategy_names",
]
