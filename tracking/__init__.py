"""A study as MLflow runs: one run for the study, one nested run for each trial, from the journal alone."""

from __future__ import annotations

from tracking._active_run import trial_run as trial_run
from tracking._active_run import trial_run_activator as trial_run_activator
from tracking._connection import probe as probe
from tracking._errors import NoRunYet as NoRunYet
from tracking._errors import TrackingError as TrackingError
from tracking._projector import TrackerOptions as TrackerOptions
from tracking._text import config_sha256 as config_sha256
from tracking._tracker import StudyTracker as StudyTracker
from tracking._tracker import TrackerStatus as TrackerStatus

__all__ = [
    "NoRunYet", "StudyTracker", "TrackerOptions", "TrackerStatus", "TrackingError", "config_sha256",
    "probe", "trial_run", "trial_run_activator",
]  # fmt: skip
