"""Studies by name: to be read while they run, or opened for writing when nobody drives them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from flows._notes import TRACKING, newest, request_data, run_in
from flows._workspace import journal_in, read_study, studies_home, study_folder, study_names
from hpo_core import HpoError, InputError, Study, TrialRecord
from hpo_core.inner import JOURNAL, is_open, nearest, read_created

if TYPE_CHECKING:
    from tracking import StudyTracker

# By which MLflow logs in where the address has no name and password.
_LOGINS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN")


def find(name: str) -> Study:
    """The study as it is now, for reading. Raises :class:`InputError` with the nearest names."""
    folder = study_folder(name)
    if read_created(folder / JOURNAL) is None:
        known = study_names()
        listed = "; `hpo list` names those that are there" if known else ""
        elsewhere = (
            f"{listed}; `hpo resume {shlex.quote(name)} --tracking-uri URI` fetches one that MLflow has"
        )
        raise InputError(f"there is no study {name!r} in {studies_home()}{nearest(name, known) or elsewhere}")
    return read_study(folder)


def find_all(complain: Callable[[str], None]) -> Iterator[Study]:
    """Every study that can be read; ``complain`` is called with a line for each of the others."""
    for name in study_names():
        try:
            yield read_study(studies_home() / name)
        except HpoError as error:
            complain(f"{name}: {error}")


def trial_of(study: Study, number: int) -> TrialRecord:
    """The trial of that number. Raises :class:`InputError` with the numbers that there are."""
    if not 0 <= number < len(study.trials):
        has = f"the trials 0 to {len(study.trials) - 1}" if study.trials else "no trials"
        raise InputError(f"study {study.name!r} has {has}, got {number}")
    return study.trials[number]


@contextlib.contextmanager
def opened(name: str) -> Iterator[Study]:
    """The study opened for writing, without driving it. Raises :class:`StudyLockedError`."""
    with journal_in(study_folder(name)) as journal:
        events, journal.events = journal.events, []
        yield Study.replay(events, journal=journal)


def is_driven(name: str) -> bool:
    """Whether a living process on this machine holds the study's lock."""
    return is_open(study_folder(name) / JOURNAL)


def state_of(study: Study) -> str:
    """``finished``, ``failed``, ``cancelled``, ``running`` or ``interrupted``."""
    if study.stopped is not None:
        return study.stopped.state
    return "running" if is_driven(study.name) else "interrupted"


def experiment_of(study: Study) -> str:
    """The MLflow experiment that shows the study."""
    shown = newest(study, TRACKING).get("experiment")
    return str(shown or request_data(study.created.meta).get("experiment") or study.name)


def tracking_of(study: Study, given: str | None) -> str | None:
    """The tracking server: the one asked for, the environment's, the one that shows the study.

    Raises :class:`InputError` for one that cannot be used without the password that nobody has kept.
    """
    if given or os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    shown = newest(study, TRACKING)
    guarded = str(shown.get("guarded_uri") or "")
    if guarded.startswith("http") and any(os.environ.get(name) for name in _LOGINS):
        return re.sub("//[^/]*@", "//", guarded)
    if guarded:
        raise InputError(
            f"study {study.name!r} is shown by {guarded}, and passwords are not kept; set "
            "MLFLOW_TRACKING_URI to that address with its password"
        )
    return shown.get("uri")


def tracker_of(study: Study, tracking_uri: str | None, experiment: str | None = None) -> StudyTracker:
    """A tracker that shows the study on that server; ``experiment``: not in the one that has shown it."""
    from tracking import StudyTracker, TrackerOptions

    experiment = experiment or experiment_of(study)
    known = run_in(study, experiment)
    asked = request_data(study.created.meta)
    options = TrackerOptions(checkpoints=asked.get("upload_checkpoints", "best"))
    return StudyTracker(study_folder(study.name), tracking_uri, experiment, known_run=known, options=options)


def flow_runs_of(study: Study) -> list[str]:
    """The ids of the Prefect flow runs that drove the study."""
    return list(dict.fromkeys(str(n.data["id"]) for n in study.state.notes if n.topic == "flow_run"))
