"""Bring a study from MLflow to this machine: its journal is an artifact of the study's run."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from hpo_core import InputError, Study, StudyLockedError, TrialState
from hpo_core.inner import JOURNAL, read_journal
from hpo_core.inner import events as ev
from tracking._checkpoints import CheckpointError, is_pickle, locate_checkpoint
from tracking._connection import Connection
from tracking._errors import brief, is_permanent
from tracking._lease import TAG, Lease
from tracking._retention import removable_checkpoints
from tracking._runs import StudyRuns
from tracking._server_clock import ServerClock
from tracking._uploads import JOURNAL_ARTIFACT, checkpoint_artifact


def fetch_journal(connection: Connection, study: str, folder: Path, *, to_drive: bool = False) -> Path:
    """Download the journal of the newest study of that name into ``folder``; returns the file.

    ``connection``: to the experiment that has the study, see :func:`connect_to_study`. An unbroken copy
    that is there already and has more events stays. ``to_drive``: the study is to go on from it, and not only
    to be read. Raises :class:`InputError` when the experiment has no such study or its journal was never
    uploaded; and, where it is to go on, :class:`StudyLockedError` when a driver elsewhere holds it. The lease
    of a dead one runs out within minutes.
    """
    runs = connection.named_studies(study)
    if not runs:
        raise InputError(f"MLflow has no study {study!r}; check the name, or run it where its folder is")
    lease = Lease.of(runs[0].data.tags.get(TAG)) if to_drive else None
    if lease is not None and (left := lease.until - ServerClock(connection.uri).now()) > 0:
        raise StudyLockedError(
            f"the study {study!r} is being driven by {lease.holder}; stop that driver first. If it is dead, "
            f"its lease runs out in {left:.0f} s"
        )
    with tempfile.TemporaryDirectory() as scratch:
        try:
            packed = connection.client.download_artifacts(runs[0].info.run_id, JOURNAL_ARTIFACT, scratch)
        except Exception as error:
            if not (is_permanent(error) or isinstance(error, OSError)):
                raise
            raise InputError(
                f"the study {study!r} has not uploaded its journal ({brief(error)}); it does so every few "
                "minutes and when its driver ends"
            ) from None
        fresh = Path(scratch, JOURNAL)
        with gzip.open(packed, "rb") as source, fresh.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        path = folder / JOURNAL
        if _length(path) < _length(fresh):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
    if lease is not None:
        _outlive(lease, connection, runs[0].info.run_id, path)
    return path


def _outlive(lease: Lease, connection: Connection, run_id: str, journal: Path) -> None:
    """A driver that died before it uploaded a journal with its own name would bar the study for ever."""
    taken = (event for _, event, _ in read_journal(journal) if isinstance(event, ev.DriverTookOver))
    if (lease.token, lease.holder) not in {(event.token, event.driver) for event in taken}:
        connection.client.delete_tag(run_id, TAG)


class Fetched(NamedTuple):
    """What :func:`fetch_checkpoints` has done.

    ``files``: what was downloaded. ``missing``: trial and step of checkpoints that cannot be had, where an
    earlier one of the trial is here to go on from.
    """

    files: list[Path]
    missing: list[tuple[int, int]]


def fetch_checkpoints(connection: Connection, folder: Path) -> Fetched:
    """Download the checkpoints that the study in ``folder`` keeps: what its trials and forks go on from.

    Those that are here stay; left out are those that were never uploaded (see :class:`TrackerOptions`), and
    pickles, which run code when they are loaded. Trials with none begin anew.
    """
    study = Study.replay(event for _, event, _ in read_journal(folder / JOURNAL))
    unneeded = {(found.trial, found.step) for found in removable_checkpoints(study)}
    runs: dict[int, str] = {}
    if any(trial.checkpoints for trial in study.trials):
        runs = StudyRuns(connection, study.created.study_id).ids()
    fetched = Fetched([], [])
    for trial in study.trials:
        without: list[tuple[int, int]] = []
        for step in sorted(trial.checkpoints, reverse=True):
            target = locate_checkpoint(folder, trial.checkpoints[step][0])
            if target is None or (trial.number, step) in unneeded:
                continue
            if not target.exists():
                run_id = runs.get(trial.number)
                if run_id is None or not _download(connection, run_id, checkpoint_artifact(step), target):
                    without.append((trial.number, step))
                    continue
                fetched.files.append(target)
            fetched.missing.extend(without)
            without.clear()
            if trial.state is TrialState.RUNNING:
                break  # older ones are kept for what runs, and on the other machine nothing does
    return fetched


def _download(connection: Connection, run_id: str, artifact: str, target: Path) -> bool:
    if not connection.client.list_artifacts(run_id, artifact):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as scratch:
        found = Path(connection.client.download_artifacts(run_id, artifact, scratch))
        try:
            if is_pickle(found):
                return False
        except CheckpointError:
            return False
        found.rename(target)
    return True


def _length(journal: Path) -> int:
    return sum(1 for _ in read_journal(journal))
