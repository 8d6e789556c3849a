"""What the other packages use of the core beyond its public face; nobody else should.

Nothing in here is promised to users, and everything in here is used by ``tracking`` or ``flows``. They
import no other module of the core whose name begins with an underscore; a test keeps it so.
"""

from __future__ import annotations

from hpo_core import _events as events
from hpo_core._disasters import robust_range
from hpo_core._domain import choice_text
from hpo_core._errors import JournalWriteError, nearest
from hpo_core._events import Event
from hpo_core._given import (
    check_whole,
    checked_metrics,
    checked_objectives,
    checked_step,
    is_number,
    single,
)
from hpo_core._journal import JOURNAL, is_open, lock_of, read_created, read_journal
from hpo_core._logs import FOLD, SPREAD, sign_of
from hpo_core._moments import deviation, mean
from hpo_core._outcome_constraints import OutcomeConstraint
from hpo_core._parameters import parameter_from_json
from hpo_core._pareto import nondominated
from hpo_core._plan import Plan, budgets_below
from hpo_core._records import IMPROVEMENTS, origin_of
from hpo_core._result import by_rule, leaders, ranked, ranks
from hpo_core._states import BAD
from hpo_core._strategy import Finish, strategy_words
from hpo_core._trial import Suggesting, Suggestions, repeat_seed, trial_seed
from hpo_core._unheard import unheard
from hpo_core._words import many
from hpo_core._working_time import WorkingTime

__all__ = [
    "BAD",
    "FOLD",
    "IMPROVEMENTS",
    "JOURNAL",
    "SPREAD",
    "Event",
    "Finish",
    "JournalWriteError",
    "OutcomeConstraint",
    "Plan",
    "Suggesting",
    "Suggestions",
    "WorkingTime",
    "budgets_below",
    "by_rule",
    "check_whole",
    "checked_metrics",
    "checked_objectives",
    "checked_step",
    "choice_text",
    "deviation",
    "events",
    "is_number",
    "is_open",
    "leaders",
    "lock_of",
    "many",
    "mean",
    "nearest",
    "nondominated",
    "origin_of",
    "parameter_from_json",
    "ranked",
    "ranks",
    "read_created",
    "read_journal",
    "repeat_seed",
    "robust_range",
    "sign_of",
    "single",
    "strategy_words",
    "trial_seed",
    "unheard",
]
