"""The decision engine: search spaces, studies, strategies. Knows no server, no clock, no MLflow, no Prefect.

study = Study({"x": Float(0.0, 1.0)}, objectives={"loss": "min"})
trial = study.ask()
study.tell(trial, (trial.params["x"] - 0.3) ** 2)
study.best.params
"""

from __future__ import annotations

from hpo_core._errors import HpoError as HpoError
from hpo_core._errors import Infeasible as Infeasible
from hpo_core._errors import InputError as InputError
from hpo_core._errors import JournalError as JournalError
from hpo_core._errors import MustWait as MustWait
from hpo_core._errors import ObjectiveError as ObjectiveError
from hpo_core._errors import SpaceError as SpaceError
from hpo_core._errors import StrategyError as StrategyError
from hpo_core._errors import StudyExistsError as StudyExistsError
from hpo_core._errors import StudyFinished as StudyFinished
from hpo_core._errors import StudyLockedError as StudyLockedError
from hpo_core._errors import StudyStateError as StudyStateError
from hpo_core._errors import TrialPaused as TrialPaused
from hpo_core._errors import TrialPruned as TrialPruned
from hpo_core._journal import Journal as Journal
from hpo_core._parameters import Categorical as Categorical
from hpo_core._parameters import Constant as Constant
from hpo_core._parameters import Float as Float
from hpo_core._parameters import Int as Int
from hpo_core._parameters import LogNormal as LogNormal
from hpo_core._parameters import Normal as Normal
from hpo_core._parameters import Parameter as Parameter
from hpo_core._records import Limits as Limits
from hpo_core._records import Settings as Settings
from hpo_core._records import TrialRecord as TrialRecord
from hpo_core._space import SearchSpace as SearchSpace
from hpo_core._states import TrialState as TrialState
from hpo_core._strategies import make_strategy as make_strategy
from hpo_core._strategies import strategy_names as strategy_names
from hpo_core._strategy import Strategy as Strategy
from hpo_core._study import Segment as Segment
from hpo_core._study import Study as Study
from hpo_core._trial import Trial as Trial

__all__ = [
    "Categorical", "Constant", "Float", "HpoError", "Infeasible", "InputError", "Int", "Journal",
    "JournalError", "Limits", "LogNormal", "MustWait", "Normal", "ObjectiveError", "Parameter",
    "SearchSpace", "Segment", "Settings", "SpaceError", "Strategy", "StrategyError", "Study",
    "StudyExistsError", "StudyFinished", "StudyLockedError", "StudyStateError", "Trial", "TrialPaused",
    "TrialPruned", "TrialRecord", "TrialState", "make_strategy", "strategy_names",
]  # fmt: skip
