"""The MLflow run that is active where a study is called for; the study's own run is shown below it."""

from __future__ import annotations

import sys

from tracking._connection import resolve_uri


def active_run_for(tracking_uri: str | None) -> str | None:
    """The id of the run that is active in this thread, if the study is tracked on the same server.

    Imports nothing: who has an active run has loaded MLflow.
    """
    mlflow = sys.modules.get("mlflow")
    run = None if mlflow is None else mlflow.active_run()
    if run is None or resolve_uri(tracking_uri) != resolve_uri(None):
        return None
    run_id: str = run.info.run_id
    return run_id
