"""Bring a study from MLflow to this machine: its journal is an artifact of the study's run."""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hpo_core import InputError, Study, StudyLockedError, TrialRecord, TrialState
from hpo_core.inner import JOURNAL, read_journal
from hpo_core.inner import events as ev
from tracking._checkpoints import CheckpointError, is_pickle, locate_checkpoint
from tracking._connection import Connection, meant
from tracking._errors import brief, is_permanent
from tracking._lease import TAG, Lease
from tracking._retention import removable_checkpoints
from tracking._runs import StudyRuns
from tracking._server_clock import ServerClock
from tracking._uploads import CHECKPOINTS, JOURNAL_ARTIFACT
from tracking._words import moment

_STEP = re.compile(r"/step-(\d+)$")


def fetch_journal(
    connection: Connection, study: str, folder: Path, *, to_drive: bool = False, run: str | None = None
) -> Path:
    """Download the journal of the newest study of that name into ``folder``; returns the file.

    ``connection``: to the experiment that has the study, see :func:`connect_to_study`, of ``run`` too. An
    unbroken copy that is there already and has more events stays. ``to_drive``: the study is to go on from
    it, and not only to be read. Raises :class:`InputError` when the experiment has no such study or its
    journal was never uploaded; and, where it is to go on, :class:`StudyLockedError` when a driver elsewhere
    holds it. The lease of a dead one runs out within minutes.
    """
    runs = connection.named_studies(study)
    if not runs:
        raise InputError(f"MLflow has no study {study!r}; check the name, or run it where its folder is")
    own = meant(runs, run)
    lease = Lease.of(own.data.tags.get(TAG)) if to_drive else None
    if lease is not None and (left := lease.until - ServerClock(connection.uri).now()) > 0:
        raise StudyLockedError(
            f"the study {study!r} is being driven by {lease.holder}; stop that driver first. If it is dead, "
            f"its lease runs out in {left:.0f} s"
        )
    with tempfile.TemporaryDirectory() as scratch:
        try:
            packed = connection.client.download_artifacts(own.info.run_id, JOURNAL_ARTIFACT, scratch)
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
        _outlive(lease, connection, own.info.run_id, path)
    return path


def which_study(connection: Connection, study: str, run: str | None = None) -> str:
    """Which of the studies of that name is meant, where the server has several; empty where it has not."""
    runs = connection.named_studies(study, anywhere=True)
    if len(runs) < 2:
        return ""
    own = meant(runs, run)
    begun = moment((own.info.start_time or 0) / 1000)
    user = own.data.tags.get("mlflow.user") or own.info.user_id
    place = connection.client.get_experiment(own.info.experiment_id).name
    return (
        f"{'the newest' if own is runs[0] else 'one'} of the {len(runs)} of that name there, "
        f"begun {begun} by {user} in experiment {place!r}, run {own.info.run_id}"
    )


def _outlive(lease: Lease, connection: Connection, run_id: str, journal: Path) -> None:
    """A driver that died before it uploaded a journal with its own name would bar the study for ever."""
    taken = (event for _, event, _ in read_journal(journal) if isinstance(event, ev.DriverTookOver))
    if (lease.token, lease.holder) not in {(event.token, event.driver) for event in taken}:
        connection.client.delete_tag(run_id, TAG)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What :func:`fetch_checkpoints` has done.

    ``files``: what was downloaded. Where a trial's newest checkpoints cannot be had and an earlier one can,
    ``missing`` has trial and step of those. ``older``, trial, step and place: an earlier one that MLflow
    still has and the journal no longer.
    """

    files: list[Path] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)
    older: list[tuple[int, int, Path]] = field(default_factory=list)


def fetch_checkpoints(connection: Connection, folder: Path) -> Fetched:
    """Download the checkpoints that the study in ``folder`` keeps: what its trials and forks go on from.

    Those that are here stay; left out are those that were never uploaded (see :class:`TrackerOptions`), and
    pickles, which run code when they are loaded. Trials with none begin anew.
    """
    study = Study.replay(event for _, event, _ in read_journal(folder / JOURNAL))
    unneeded = {(found.trial, found.step) for found in removable_checkpoints(study)}
    holders = [trial for trial in study.trials if trial.checkpoints]
    runs = StudyRuns(connection, study.created.study_id).ids() if holders else {}
    fetched = Fetched()
    for trial in holders:
        wanted = {
            step: place
            for step, (uri, _) in sorted(trial.checkpoints.items(), reverse=True)
            if (trial.number, step) not in unneeded and (place := locate_checkpoint(folder, uri)) is not None
        }
        if wanted and trial.number in runs:
            _fetch_of(trial, wanted, _OfRun(connection, runs[trial.number]), fetched)
    return fetched


class _OfRun:
    """The checkpoints of a trial that its run has."""

    def __init__(self, connection: Connection, run_id: str) -> None:
        self._client = connection.client
        self._run_id = run_id
        there = (artifact.path for artifact in self._client.list_artifacts(run_id, CHECKPOINTS))
        self._paths = {int(step[1]): path for path in there if (step := _STEP.search(path))}
        self.steps = sorted(self._paths, reverse=True)

    def download(self, step: int, place: Path) -> bool:
        """Whether the checkpoint of that step is at its place now; a pickle never is."""
        if step not in self._paths:
            return False
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as scratch:
            found = Path(self._client.download_artifacts(self._run_id, self._paths[step], scratch))
            try:
                if is_pickle(found):
                    return False
            except CheckpointError:
                return False
            found.rename(place)
        return True


def _fetch_of(trial: TrialRecord, wanted: dict[int, Path], run: _OfRun, fetched: Fetched) -> None:
    """Download one trial's checkpoints: those ``wanted``, newest first, else the newest before them."""
    missing: list[int] = []
    for step, place in wanted.items():
        if not place.exists():
            if not run.download(step, place):
                missing.append(step)
                continue
            fetched.files.append(place)
        fetched.missing.extend((trial.number, step) for step in missing)
        missing.clear()
        if trial.state is TrialState.RUNNING:
            return  # older ones are kept for what runs, and on the other machine nothing does
    if len(missing) == len(wanted):
        # A journal that was uploaded before the checkpoints that it names, when its driver had seconds left.
        folder = wanted[missing[0]].parent
        for step in run.steps:
            place = folder / f"step-{step:08d}-mlflow"
            if step < missing[-1] and run.download(step, place):
                fetched.files.append(place)
                fetched.missing.extend((trial.number, step) for step in missing)
                fetched.older.append((trial.number, step, place))
                return


def _length(journal: Path) -> int:
    return sum(1 for _ in read_journal(journal))
