"""The tags that are read as well as written, on the runs of studies and trials and on registered models.

Others are spelt where they are written. The script of the study pages reads some more, for people to see.
"""

from __future__ import annotations

# MLflow's own.
PARENT_RUN_ID = "mlflow.parentRunId"
NOTE = "mlflow.note.content"

# Which run it is. A role is "study", "trial" or "repeat"; runs with one uid are one trial.
ROLE = "hpo.role"
STUDY = "hpo.study"
STUDY_ID = "hpo.study_id"
TRIAL = "hpo.trial"
UID = "hpo.uid"
ATTEMPT = "hpo.attempt"

# How it stands, and why; of a study also the trials by state, and how many there are to be.
STATE = "hpo.state"
REASON = "hpo.reason"
COUNTS = "hpo.counts"
PLANNED = "hpo.planned"
# Why trials of a study ended badly, a line each.
FAILURES = "hpo.failures"
BEST_VALUES = "hpo.best_values"

# The terms of a study, as JSON.
OBJECTIVES = "hpo.objectives"
STRATEGY = "hpo.strategy"
SPACE = "hpo.space"
LIMITS = "hpo.limits"
# Bounds on metrics that a result must keep, as JSON.
CONSTRAINTS = "hpo.constraints"
# With how many seeds each of its configurations is run, where there are several.
REPEATS = "hpo.repeats"

# Of a study, and of a trial that did not run in one go: seconds that it ran until it last stopped (the study:
# until its newest event), and, while it runs, since when (milliseconds). A run's own duration has the pauses.
BUSY, BUSY_SINCE = "hpo.busy_seconds", "hpo.busy_since"

# A trial's configuration as JSON, where it is short enough, and its hash.
PARAMS = "hpo.params"
CONFIG_SHA256 = "hpo.config_sha256"
# "true" of a trial that the space, as it was edited since, cannot have.
OUTSIDE = "hpo.outside_space"
# The trial whose checkpoint it went on from, as a fork of it.
PARENT_TRIAL = "hpo.parent_trial"
# What MLflow calls parameters and metrics whose names it does not take, as JSON: its key to the name.
NAMES = "hpo.names"

# The other study of a confirmation as JSON, and the sentence: of the one that is confirmed, and of the one
# that confirms.
CONFIRMED_BY, CONFIRMATION = "hpo.confirmed_by", "hpo.confirmation"
CONFIRMS, VERDICT = "hpo.confirms", "hpo.verdict"

# Of the run that `mlflow run` opened for a study that has one: that one, and Prefect's flow run.
RESUMED_RUN_ID = "hpo.resumed_run_id"
FLOW_RUN = "hpo.flow_run"

# The objective by which a registered model was made.
OBJECTIVE = "hpo.objective"
# JSON: the options of a ready objective that its configurations have to be evaluated with.
OPTIONS = "hpo.objective_options"


def trial_uid(study_id: str, trial: int) -> str:
    """The identity of a trial's run, the same from every machine: runs with one uid are one trial."""
    return f"{study_id}:{trial}"
