"""A study as MLflow runs: one run for the study, one nested run for each trial, from the journal alone.

Each name is imported when it is first asked for: every trial process asks for one or two of them.
"""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from tracking._active_run import TrialRunActivator as TrialRunActivator
    from tracking._active_run import trial_run as trial_run
    from tracking._board import Board as Board
    from tracking._board import BoardStudy as BoardStudy
    from tracking._board import BoardTrial as BoardTrial
    from tracking._callers_run import active_run_for as active_run_for
    from tracking._checkpoints import CheckpointError as CheckpointError
    from tracking._checkpoints import delete_checkpoint as delete_checkpoint
    from tracking._checkpoints import load_checkpoint as load_checkpoint
    from tracking._checkpoints import locate_checkpoint as locate_checkpoint
    from tracking._checkpoints import save_checkpoint as save_checkpoint
    from tracking._collecting import uncollected as uncollected
    from tracking._compare_page import comparison_html as comparison_html
    from tracking._compare_page import draw_comparison as draw_comparison
    from tracking._connection import Connection as Connection
    from tracking._connection import absolute_uri as absolute_uri
    from tracking._connection import connect as connect
    from tracking._connection import connect_to_study as connect_to_study
    from tracking._connection import probe as probe
    from tracking._delete import Belongings as Belongings
    from tracking._delete import belongings as belongings
    from tracking._delete import take_out as take_out
    from tracking._errors import Away as Away
    from tracking._errors import Denied as Denied
    from tracking._errors import NoRunYet as NoRunYet
    from tracking._errors import NotComparable as NotComparable
    from tracking._errors import TrackingError as TrackingError
    from tracking._errors import brief as brief
    from tracking._fetch import Fetched as Fetched
    from tracking._fetch import fetch_checkpoints as fetch_checkpoints
    from tracking._fetch import fetch_journal as fetch_journal
    from tracking._fetch import which_study as which_study
    from tracking._http import status_of as status_of
    from tracking._models import CodeModel as CodeModel
    from tracking._models import LoggedModel as LoggedModel
    from tracking._models import find_model as find_model
    from tracking._models import find_trial_model as find_trial_model
    from tracking._models import is_logged as is_logged
    from tracking._models import load_writers as load_writers
    from tracking._models import log_model as log_model
    from tracking._models import log_trial_model as log_trial_model
    from tracking._options import UPLOADED as UPLOADED
    from tracking._options import TrackerOptions as TrackerOptions
    from tracking._past_runs import past_runs as past_runs
    from tracking._registry import Candidate as Candidate
    from tracking._registry import Gate as Gate
    from tracking._registry import Promotion as Promotion
    from tracking._registry import is_registered as is_registered
    from tracking._registry import load_own_model as load_own_model
    from tracking._registry import promote as promote
    from tracking._registry import roll_back as roll_back
    from tracking._registry_names import check_registered as check_registered
    from tracking._repeat_run import repeat_run as repeat_run
    from tracking._report import write_report as write_report
    from tracking._retention import Removable as Removable
    from tracking._retention import beyond_quota as beyond_quota
    from tracking._retention import disk_warning as disk_warning
    from tracking._retention import removable_checkpoints as removable_checkpoints
    from tracking._settings import as_found as as_found
    from tracking._settings import set_defaults as set_defaults
    from tracking._settings import users_variable as users_variable
    from tracking._sqlite import database_file as database_file
    from tracking._sqlite import database_uri as database_uri
    from tracking._sqlite import prepare_sqlite as prepare_sqlite
    from tracking._summary import failure_lines as failure_lines
    from tracking._summary import version_note as version_note
    from tracking._text import config_sha256 as config_sha256
    from tracking._text import finite as finite
    from tracking._text import redacted as redacted
    from tracking._tracker import StudyTracker as StudyTracker
    from tracking._tracker import TrackerStatus as TrackerStatus
    from tracking._uploads import open_artifact as open_artifact
    from tracking._versions import check_version as check_version
    from tracking._words import duration as duration
    from tracking._words import goal as goal
    from tracking._words import markdown_cell as markdown_cell
    from tracking._words import markdown_table as markdown_table
    from tracking._words import number_text as number_text

__all__ = [
    "UPLOADED", "Away", "Belongings", "Board", "BoardStudy", "BoardTrial", "Candidate", "CheckpointError",
    "CodeModel", "Connection", "Denied", "Fetched", "Gate", "LoggedModel", "NoRunYet", "NotComparable",
    "Promotion", "Removable", "StudyTracker", "TrackerOptions", "TrackerStatus", "TrackingError",
    "TrialRunActivator", "absolute_uri", "active_run_for", "as_found", "belongings", "beyond_quota", "brief",
    "check_registered", "check_version",
    "comparison_html", "config_sha256", "connect", "connect_to_study", "database_file", "database_uri",
    "delete_checkpoint", "disk_warning", "draw_comparison", "duration", "failure_lines", "fetch_checkpoints",
    "fetch_journal", "find_model", "find_trial_model", "finite", "goal", "is_logged", "is_registered",
    "load_checkpoint", "load_own_model", "load_writers",
    "locate_checkpoint", "log_model", "log_trial_model", "markdown_cell", "markdown_table", "number_text",
    "open_artifact", "past_runs", "prepare_sqlite", "probe", "promote", "redacted", "removable_checkpoints",
    "repeat_run", "roll_back", "save_checkpoint", "set_defaults", "status_of", "take_out", "trial_run",
    "uncollected",
    "users_variable", "version_note", "which_study", "write_report",
]  # fmt: skip

# Where each name lives.
_HOMES = {
    "_active_run": "TrialRunActivator trial_run",
    "_callers_run": "active_run_for",
    "_board": "Board BoardStudy BoardTrial",
    "_checkpoints": "CheckpointError delete_checkpoint load_checkpoint locate_checkpoint save_checkpoint",
    "_collecting": "uncollected",
    "_compare_page": "comparison_html draw_comparison",
    "_connection": "Connection absolute_uri connect connect_to_study probe",
    "_delete": "Belongings belongings take_out",
    "_errors": "Away Denied NoRunYet NotComparable TrackingError brief",
    "_fetch": "Fetched fetch_checkpoints fetch_journal which_study",
    "_http": "status_of",
    "_models": "CodeModel LoggedModel find_model find_trial_model is_logged load_writers log_model "
    "log_trial_model",
    "_past_runs": "past_runs",
    "_options": "UPLOADED TrackerOptions",
    "_registry": "Candidate Gate Promotion is_registered load_own_model promote roll_back",
    "_registry_names": "check_registered",
    "_repeat_run": "repeat_run",
    "_report": "write_report",
    "_retention": "Removable beyond_quota disk_warning removable_checkpoints",
    "_settings": "as_found set_defaults users_variable",
    "_sqlite": "database_file database_uri prepare_sqlite",
    "_summary": "failure_lines version_note",
    "_text": "config_sha256 finite redacted",
    "_tracker": "StudyTracker TrackerStatus",
    "_uploads": "open_artifact",
    "_versions": "check_version",
    "_words": "duration goal markdown_cell markdown_table number_text",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> typing.Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tracking' has no attribute {name!r}")
    home = importlib.import_module(f"tracking.{_HOME_OF[name]}")
    found = getattr(home, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
