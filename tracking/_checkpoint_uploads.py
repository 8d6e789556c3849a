"""Which checkpoints go to MLflow, and when: those of the best trials, or all that the study keeps.

Here a study keeps what a trial, a retry or a fork may go on from (:func:`removable_checkpoints`). Where
MLflow is to have the same, it gets it with each journal, as a driver on another machine begins with a journal
and goes on from the checkpoints that this one names: first the checkpoints, then the journal, and then what
no journal names any more goes. Of a driver that leaves, and may have seconds, the journal comes first, as
results are worth more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tracking._connection import Connection
from tracking._delete import remove_files
from tracking._trial_view import TrialView
from tracking._uploads import CHECKPOINTS, Uploads, checkpoint_artifact, checkpoint_upload, journal_upload

_JOURNAL = "journal"


class CheckpointUploads:
    """Queues uploads of the checkpoints of the study in ``folder``."""

    def __init__(self, connection: Connection, folder: Path, uploads: Uploads) -> None:
        self._connection = connection
        self._folder = folder
        self._uploads = uploads
        # Trials whose checkpoints here may differ from those in MLflow.
        self._changed: set[int] = set()
        # So many journals have been queued, and of them this one was the newest to arrive.
        self._queued = self._arrived = 0

    def changed(self, trial: int) -> None:
        """A checkpoint of the trial was saved, or deleted."""
        self._changed.add(trial)

    def add(self, views: Iterable[TrialView]) -> None:
        """Queue what these trials have, unless it is there."""
        for view in views:
            for step, uri in view.checkpoints.items():
                if view.run_id is not None:
                    upload = checkpoint_upload(self._connection.client, view.run_id, self._folder, uri, step)
                    self._uploads.add(f"{CHECKPOINTS}/{view.number}/{step}", upload)

    def add_journal(
        self, parent: str, journal: Path, kept: Sequence[TrialView] = (), *, leaving: bool = False
    ) -> None:
        """Queue the journal for the run ``parent``, and what the trials ``kept`` keep for their runs.

        ``leaving``: the journal goes first.
        """
        changed = [view for view in kept if view.number in self._changed and view.run_id is not None]
        self._changed.difference_update(view.number for view in changed)
        self._queued += 1
        if not leaving:
            self.add(changed)
        upload = journal_upload(self._connection.client, parent, journal)
        self._uploads.add(_JOURNAL, functools.partial(self._upload_journal, upload, self._queued))
        if leaving:
            self.add(changed)
        for view in changed:
            names = frozenset(checkpoint_artifact(step) for step in view.checkpoints)
            sweep = functools.partial(self._sweep, view.number, str(view.run_id), names, self._queued)
            self._uploads.add(f"old {CHECKPOINTS}/{view.number}", sweep)

    def _upload_journal(self, upload: Callable[[], None], number: int) -> None:
        upload()
        self._arrived = number

    def _sweep(self, trial: int, run_id: str, names: frozenset[str], journal: int) -> None:
        """Delete what the trial's run has beside ``names``, if these and the journal have arrived."""
        try:
            client = self._connection.client
            there = {artifact.path for artifact in client.list_artifacts(run_id, CHECKPOINTS)}
            if self._arrived < journal or names - there:
                self._changed.add(trial)
            elif there - names:
                uri = client.get_run(run_id).info.artifact_uri
                for path in sorted(there - names):
                    remove_files(self._connection, uri, run_id, path)
        except Exception:  # noqa: BLE001 - not every store can delete; what is left costs space, and no result
            self._changed.add(trial)
