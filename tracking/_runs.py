"""Which run in MLflow is whose: those of a study and its trials, found by their tags, and rid of ghosts.

A ghost is what a creation leaves that was repeated because nobody heard of its success: a second run of one
trial, or of the study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hpo_core import InputError
from tracking._connection import Connection
from tracking._errors import brief, is_permanent
from tracking._states import KILLED, RUNNING, TRIAL_STATUS
from tracking._trial_view import TrialView
from tracking.tags import PARENT_RUN_ID, STUDY_ID, UID, trial_uid

if TYPE_CHECKING:
    from mlflow.entities import Run

# More lookups by uid than this are slower than reading all runs of the study at once.
_FEW = 20


class StudyRuns:
    """The runs of one study in one experiment. Every method may raise what MLflow raises."""

    def __init__(self, connection: Connection, study_id: str) -> None:
        self._connection = connection
        self._client = connection.client
        self._study_id = study_id

    def parent(self, noted: str | None) -> str | None:
        """The study's own run: the one that was ``noted``, if it still is that, else what a search finds."""
        return self._still_ours(noted) or self._searched()

    def _still_ours(self, noted: str | None) -> str | None:
        if noted is None:
            return None
        try:
            run = self._client.get_run(noted)
        except Exception as error:
            if is_permanent(error):
                return None
            raise
        ours = run.data.tags.get(STUDY_ID) == self._study_id
        return noted if ours and run.info.lifecycle_stage == "active" else None

    def _searched(self) -> str | None:
        runs = self._connection.study_runs(self._study_id)
        for ghost in runs[1:]:
            self._remove(ghost.info.run_id)
        return runs[0].info.run_id if runs else None

    def check_adoptable(self, run_id: str) -> None:
        """Raise :class:`InputError` for a run that cannot become the study's."""
        try:
            info = self._client.get_run(run_id).info
        except Exception as error:
            if not is_permanent(error):
                raise
            raise InputError(
                f"cannot make run {run_id!r} the study's: {brief(error)}; unset MLFLOW_RUN_ID, or point "
                "the tracking URI to the server that has it"
            ) from None
        if info.experiment_id != self._connection.experiment_id:
            raise InputError(
                f"cannot make run {run_id!r} the study's: it is in experiment {info.experiment_id}, the "
                f"study in {self._connection.experiment_id}; leave the experiment's name out, or unset "
                "MLFLOW_RUN_ID"
            )

    def of_trials(self, trials: Sequence[int]) -> dict[int, str]:
        """Runs by trial: of these ``trials``, and perhaps of others too."""
        if len(trials) > _FEW:
            return _ids(self._all())
        found: list[Run] = []
        for trial in trials:
            found += self._sorted_out(self._connection.trial_runs(self._study_id, trial))
        return _ids(found)

    def ids(self) -> dict[int, str]:
        """Every trial's run."""
        return _ids(self._all())

    def gathered(self, parent: str) -> dict[int, str]:
        """Every trial's run, below ``parent`` from now on: MLflow keeps the children of a deleted run."""
        runs = self._all()
        for run in runs:
            if run.data.tags.get(PARENT_RUN_ID) != parent:
                self._client.set_tag(run.info.run_id, PARENT_RUN_ID, parent)
        return _ids(runs)

    def _all(self) -> list[Run]:
        return self._sorted_out(self._connection.runs_of(self._study_id, "trial"))

    def _sorted_out(self, runs: Iterable[Run]) -> list[Run]:
        """Of several with one uid the most advanced stays; the others are removed."""
        found: dict[str, Run] = {}
        # All of them first: what is removed would move others out of the pages that are still to come.
        for run in list(runs):
            uid = run.data.tags.get(UID)
            if uid is None:
                continue
            other = found.setdefault(uid, run)
            if other is run:
                continue
            # Only the run that was written to has metrics; a ghost has the tags of its creation.
            keep, drop = (run, other) if len(run.data.metrics) > len(other.data.metrics) else (other, run)
            found[uid] = keep
            self._remove(drop.info.run_id)
        return list(found.values())

    def _remove(self, run_id: str) -> None:
        self._client.set_terminated(run_id, KILLED)
        self._client.delete_run(run_id)

    def close_below(self, run_id: str) -> None:
        """End the runs that a trial's own code opened and that its death left open."""
        for run in self._running_below(run_id):
            self._client.set_terminated(run.info.run_id, KILLED)

    def sweep(self, parent: str, views: Iterable[TrialView]) -> None:
        """Nothing of the study stays RUNNING: ghosts of repeated creations, statuses that user code set."""
        by_uid = {trial_uid(self._study_id, view.number): view for view in views}
        for run in self._running_below(parent):
            view = by_uid.get(run.data.tags.get(UID, ""))
            if view is None:
                continue
            if view.run_id not in (None, run.info.run_id):
                self._remove(run.info.run_id)
            else:
                self._client.set_terminated(run.info.run_id, TRIAL_STATUS.get(view.state, KILLED))

    def _running_below(self, run_id: str) -> list[Run]:
        # A list: what is ended would drop out of the pages that are still to come.
        return list(self._connection.children(run_id, f" AND attributes.status = '{RUNNING}'"))


def _ids(runs: Iterable[Run]) -> dict[int, str]:
    return {int(run.data.tags[UID].rpartition(":")[2]): run.info.run_id for run in runs}
