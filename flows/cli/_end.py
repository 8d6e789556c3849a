"""End studies, clean up after them, and bring MLflow up to date."""

from __future__ import annotations

import shutil
import time

import typer

from flows._find import experiment_of, find, find_all, opened, tracking_of
from flows._workspace import study_folder
from flows.cli._output import complain
from hpo_core import InputError, Study, StudyLockedError, TrialState

_DELIVER_SECONDS = 600.0


def cancel(name: str) -> None:
    """See ``hpo cancel``."""
    found = find(name)
    if found.stopped is not None:
        raise InputError(f"study {name!r} has ended already: {found.stopped.reason}")
    try:
        with opened(name) as idle:
            for trial in idle.history.in_state(TrialState.RUNNING).tolist():
                idle.lost(trial, "its driver ended", counted=False, now=time.time())
            idle.stop("cancelled", "cancelled on request", now=time.time())
        typer.echo(f"study {name} is cancelled; nothing was running. `hpo resume {name}` goes on with it")
    except StudyLockedError:
        (study_folder(name) / "cancel").touch()
        typer.echo(f"asked the driver of study {name} to cancel it; what runs is stopped within seconds")


def delete(name: str, tracking_uri: str | None, *, dry_run: bool, keep_runs: bool) -> None:
    """See ``hpo delete``."""
    study = find(name)
    folder = study_folder(name)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    uri = tracking_of(study, tracking_uri)
    runs = [] if keep_runs else _runs_of(study, uri)
    if not dry_run:
        with opened(name):
            pass  # a living driver holds the study, and must be cancelled first
        if runs:
            from mlflow import MlflowClient

            client = MlflowClient(uri)
            for run in runs:
                client.delete_run(run)
        shutil.rmtree(folder)
    verb = "would delete" if dry_run else "deleted"
    typer.echo(f"{verb} {folder} ({size / 2**20:.1f} MiB) and {len(runs)} MLflow runs")


def _runs_of(study: Study, tracking_uri: str | None) -> list[str]:
    from tracking import connect_to_study

    connection = connect_to_study(tracking_uri, study.name, experiment_of(study))
    if connection is None:
        return []
    parents = [run.info.run_id for run in connection.study_runs(study.created.study_id)]
    children = [run.info.run_id for parent in parents for run in connection.children(parent)]
    return [*children, *parents]


def gc(*, dry_run: bool) -> None:
    """See ``hpo gc``."""
    from tracking import delete_checkpoint, removable_checkpoints

    total = 0
    for found in find_all(complain):
        folder = study_folder(found.name)
        try:
            with opened(found.name) as study:
                for item in removable_checkpoints(study):
                    total += item.size
                    if not dry_run:
                        delete_checkpoint(folder, item.uri)
                        study.dropped_checkpoint(item.trial, item.step, now=time.time())
        except StudyLockedError:
            typer.echo(f"study {found.name} is running; its driver looks after its checkpoints")
    typer.echo(f"{'would free' if dry_run else 'freed'} {total / 2**20:.1f} MiB")


def deliver(name: str, tracking_uri: str | None, *, anew: bool) -> int:
    """See ``hpo sync`` and ``hpo resync``."""
    from tracking import StudyTracker

    study = find(name)
    with opened(name):
        uri = tracking_of(study, tracking_uri)
        tracker = StudyTracker(study_folder(name), uri, experiment_of(study))
        if anew:
            tracker.forget()
        tracker.start()
        done = tracker.close(_DELIVER_SECONDS)
    if done:
        typer.echo(f"MLflow has all of study {name}")
        return 0
    typer.echo(f"MLflow did not take everything: {tracker.status.degraded}", err=True)
    return 1
