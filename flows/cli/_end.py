"""End studies, clean up after them, and bring MLflow up to date."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from flows._find import experiment_of, find, find_all, flow_runs_of, opened, tracker_of, tracking_of
from flows._frames import forget_frame
from flows._notes import TRACKING, newest, run_in, shown_by
from flows._prefect import forget
from flows._words import way_on
from flows._workspace import study_folder
from flows.cli._output import complain
from hpo_core import InputError, JournalError, Study, StudyLockedError, TrialState
from tracking import Away, Belongings, Connection, belongings, redacted, take_out

if TYPE_CHECKING:
    from tracking import StudyTracker

_DELIVER_SECONDS = 600.0
_SILENT_SECONDS = 5.0


def cancel(name: str) -> None:
    """See ``hpo cancel``."""
    found = find(name)
    if found.stopped is not None:
        raise InputError(f"study {name!r} has ended already: {found.stopped.reason}")
    try:
        with opened(name) as idle:
            for trial in idle.history.in_state(TrialState.RUNNING).tolist():
                idle.execution.lost(trial, "its driver ended", counted=False, now=time.time())
            idle.stop("cancelled", "cancelled on request", now=time.time())
        typer.echo(f"study {name} is cancelled; nothing was running. `{way_on(found)}` goes on with it")
    except StudyLockedError:
        (study_folder(name) / "cancel").touch()
        typer.echo(f"asked the driver of study {name} to cancel it; what runs is stopped within seconds")


def delete(name: str, tracking_uri: str | None, *, dry_run: bool, keep_runs: bool) -> None:
    """See ``hpo delete``."""
    study = find(name)
    folder = study_folder(name)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    connection = None if keep_runs else _shown_by(study, tracking_uri)
    found = Belongings() if connection is None else belongings(connection, study.created.study_id)
    flow_runs = [] if keep_runs else flow_runs_of(study)
    if not dry_run:
        # A living driver holds the study, and must be cancelled first; none may begin while it goes.
        with opened(name):
            if connection is not None:
                take_out(connection, found)
            if flow_runs and not forget(flow_runs):
                complain("Prefect does not answer, so it keeps the study's flow runs")
            shutil.rmtree(folder)
        forget_frame(study)
    shown = f"in MLflow {_count(len(found.runs), 'run')} and artifacts"
    shown += f", {_count(len(found.unregistered), 'model')}; in Prefect {_count(len(flow_runs), 'flow run')}"
    typer.echo(f"{'would delete' if dry_run else 'deleted'} {folder} ({size / 2**20:.1f} MiB); {shown}")
    if found.registered:
        verb = "stays" if len(found.registered) == 1 else "stay"
        typer.echo(f"{_count(len(found.registered), 'model')} that the registry has {verb}")


def _shown_by(study: Study, tracking_uri: str | None) -> Connection | None:
    from tracking import connect_to_study

    experiment = experiment_of(study)
    uri = tracking_of(study, tracking_uri)
    try:
        return connect_to_study(uri, study.name, experiment, run_in(study, experiment))
    except Away as error:
        raise InputError(f"{error}; or leave the study's runs where they are, with --keep-runs") from None


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


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
                        # Journaled first, as by a driver: what is killed in between promises nothing.
                        study.execution.dropped_checkpoint(item.trial, item.step, now=time.time())
                        delete_checkpoint(folder, item.uri)
        except StudyLockedError:
            typer.echo(f"study {found.name} is running; its driver looks after its checkpoints")
        except JournalError as error:
            complain(f"{found.name}: {error}")
    typer.echo(f"{'would free' if dry_run else 'freed'} {total / 2**20:.1f} MiB")


@contextlib.contextmanager
def _telling(tracker: StudyTracker) -> Iterator[None]:
    """Say what MLflow does not take, while it is waited for."""
    over = threading.Event()

    def tell() -> None:
        told = None
        while not over.wait(_SILENT_SECONDS):
            trouble = tracker.status.degraded
            if trouble and trouble != told:
                told = trouble
                minutes = f"{_DELIVER_SECONDS / 60:.0f} minutes"
                complain(f"{redacted(trouble)}; waiting, for {minutes} at most while nothing arrives")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def deliver(name: str, tracking_uri: str | None, experiment: str | None = None, *, anew: bool) -> int:
    """See ``hpo sync`` and ``hpo resync``."""
    find(name)  # a name that is none shall leave nothing behind
    with opened(name) as study:
        tracker = tracker_of(study, tracking_of(study, tracking_uri), experiment)
        if anew:
            tracker.forget()
        run = tracker.start()
        if run is not None and newest(study, TRACKING) != (shown := shown_by(tracker, run)):
            study.note(TRACKING, shown, now=time.time())
        with _telling(tracker):
            done = tracker.close(_DELIVER_SECONDS) and not tracker.status.refused
    if done:
        typer.echo(f"MLflow has all of study {name}")
        return 0
    typer.echo(f"MLflow did not take everything: {redacted(tracker.status.degraded or '')}", err=True)
    return 1
