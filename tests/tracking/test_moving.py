"""A study that goes on on another machine, from what MLflow has of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo_core import InputError
from hpo_core.inner import events as ev
from tests.tracking.conftest import Server
from tests.tracking.fake_mlflow import FakeMlflow
from tests.tracking.studies import Script
from tracking import (
    StudyTracker,
    TrackerOptions,
    connect_to_study,
    fetch_checkpoints,
    fetch_journal,
    load_checkpoint,
    save_checkpoint,
)
from tracking._connection import connect
from tracking._projector import Projector

KEPT = TrackerOptions(flush=0.0, summary=0.0, checkpoints="kept")


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """An empty study."""
    return Script(tmp_path / "study")


class Mirrored:
    """A study whose driver uploads what it keeps, and the folder that it has on the next machine."""

    def __init__(self, script: Script, uri: str, experiment: str, folder: Path) -> None:
        self.script = script
        self.folder = folder
        self.connection = connect(uri, experiment)
        self.begin()

    def begin(self, options: TrackerOptions = KEPT) -> None:
        """Its driver begins."""
        self.projector = Projector(self.script.folder, self.connection, options)
        self.projector.open(0.0)

    def end(self) -> None:
        """Its driver is no more."""
        self.projector.close()

    def saved(self, trial: int, step: int, attempt: int = 1) -> None:
        """The trial saves what it has at the step: the number of both."""
        path = self._path(trial, step, attempt)
        size = save_checkpoint(path, [trial, step])
        self.script.study.execution.checkpointed(trial, step, str(path), size, now=self.script.now())

    def dropped(self, trial: int, step: int) -> None:
        """Nothing here can need it any more."""
        shutil.rmtree(self._path(trial, step))
        self.script.study.execution.dropped_checkpoint(trial, step, now=self.script.now())

    def superseded(self) -> int:
        """A trial that has saved step 2 since step 1 was delivered, of which nothing is left here."""
        trial = self.script.begin()
        self.saved(trial, 1)
        self.delivered()
        self.saved(trial, 2)
        self.dropped(trial, 1)
        return trial

    def _path(self, trial: int, step: int, attempt: int = 1) -> Path:
        return self.script.folder / "checkpoints" / f"trial-{trial:06d}" / f"step-{step:08d}-{attempt}"

    def delivered(self) -> None:
        """All of it, a journal included, is in MLflow."""
        self.projector.read(1.0)
        while self.projector.deliver(1.0, everything=True):
            pass
        self.projector.upload_journal(1.0)
        assert self.projector.uploads.emptied(60.0)

    def uploaded(self, trial: int) -> set[str]:
        """The names of the trial's checkpoints in MLflow."""
        run_id = self.projector.view.trials[trial].run_id
        assert run_id is not None
        there = self.connection.client.list_artifacts(run_id, "checkpoints")
        return {artifact.path.rpartition("/")[2] for artifact in there}

    def moved(self) -> list[list[int]]:
        """What the other machine gets: the contents of checkpoints, sorted."""
        shutil.rmtree(self.folder, ignore_errors=True)
        fetch_journal(self.connection, self.script.study.name, self.folder)
        self.fetched = fetch_checkpoints(self.connection, self.folder)
        return sorted(load_checkpoint(path) for path in self.fetched.files)


@pytest.fixture
def mirrored(script: Script, sqlite_uri: str, experiment: str, tmp_path: Path) -> Iterator[Mirrored]:
    """It has begun."""
    made = Mirrored(script, sqlite_uri, experiment, tmp_path / "elsewhere")
    yield made
    made.end()
    script.close()


def test_a_study_moves_to_another_machine_through_mlflow(
    server: Server, experiment: str, script: Script, tmp_path: Path
) -> None:
    """The journal is fetched from the study's run; the new driver takes the runs over."""
    first = StudyTracker(script.folder, server.uri, experiment, options=TrackerOptions(checkpoints="kept"))
    first.start()
    script.run(0.5)
    paused = script.begin()
    script.report(paused, 1, loss=1.0)
    checkpoint = script.folder / "checkpoints" / "trial-000001" / "step-00000001-1"
    size = save_checkpoint(checkpoint, {"weights": [1.0, 2.0]})
    script.study.execution.checkpointed(paused, 1, str(checkpoint), size, now=script.now())
    script.study.execution.paused(paused, now=script.now())
    assert first.close(60.0)
    script.close()
    elsewhere = tmp_path / "elsewhere"
    found = connect_to_study(server.uri, "toy", experiment)
    assert found is not None
    assert found.experiment_id == first.connection.experiment_id
    path = fetch_journal(found, "toy", elsewhere)
    assert path.read_bytes() == (script.folder / "journal.jsonl").read_bytes()
    shutil.rmtree(script.folder / "checkpoints")
    where = fetch_checkpoints(found, elsewhere).files
    assert [load_checkpoint(path) for path in where] == [{"weights": [1.0, 2.0]}]
    assert where == [elsewhere / "checkpoints" / "trial-000001" / "step-00000001-1"]
    assert fetch_checkpoints(found, elsewhere).files == []
    # What would run code when it is loaded is left out, whoever has put it there.
    shutil.rmtree(where[0])
    save_checkpoint(tmp_path / "pickle", {1, 2})
    run = found.client.search_runs([found.experiment_id], "tags.`hpo.trial` = '1'")[0].info.run_id
    found.client.log_artifacts(run, str(tmp_path / "pickle"), "checkpoints/step-00000001")
    assert fetch_checkpoints(found, elsewhere).files == []
    second = StudyTracker(elsewhere, server.uri, experiment)
    second.start()
    assert second.close(60.0)
    assert len({run.info.run_id for run in second.connection.runs("")}) == 3
    with pytest.raises(InputError, match="no study 'other'"):
        fetch_journal(found, "other", elsewhere)
    assert connect_to_study(server.uri, "other") is None
    assert connect_to_study(server.uri, "toy", "another experiment") is None


def test_all_that_a_trial_may_go_on_from_comes_along(mirrored: Mirrored) -> None:
    """What runs, is paused or cancelled, and what a fork starts from, which was left behind."""
    study, script = mirrored.script.study, mirrored.script
    parent, paused, cancelled, running, done = (script.begin() for _ in range(5))
    for trial in (parent, paused, cancelled, running, done):
        mirrored.saved(trial, 3)
    fork = ev.TrialAsked(
        at=script.now(),
        trial=5,
        params=study.trials[parent].params,
        origin="fork",
        parent=parent,
        start_step=3,
    )
    study.execution.paused(paused, now=script.now())
    script.finish(cancelled, state="cancelled")
    script.finish(done, 0.1)
    script.journal.append(fork)
    mirrored.saved(parent, 4)
    mirrored.saved(running, 4)
    script.finish(parent, 0.5)
    mirrored.delivered()
    found = mirrored.moved()
    # Of what runs the newest is enough; where there is a fork, any trial's newest may get another one.
    assert found == [[parent, 3], [parent, 4], [paused, 3], [cancelled, 3], [running, 4], [done, 3]]
    assert mirrored.fetched.missing == []


def test_what_is_not_kept_goes_when_the_journal_says_so(mirrored: Mirrored) -> None:
    """What is over would fill the store; deleted before, what the journal there names would be gone."""
    trial = mirrored.superseded()
    mirrored.projector.read(1.0)
    while mirrored.projector.deliver(1.0, everything=True):
        pass
    assert mirrored.uploaded(trial) == {"step-00000001"}
    assert mirrored.moved() == [[trial, 1]]
    mirrored.delivered()
    assert mirrored.uploaded(trial) == {"step-00000002"}
    # Another driver knows what its predecessor has left.
    mirrored.end()
    mirrored.begin()
    mirrored.dropped(trial, 2)
    mirrored.delivered()
    assert mirrored.uploaded(trial) == set()


def test_nothing_is_deleted_whose_journal_did_not_arrive(
    mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow refuses a journal for good; what the last one names stays until there is a newer one."""
    trial = mirrored.superseded()
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise PermissionError(13, "no")

        patch.setattr(mirrored.connection.client, "log_artifact", refuse)
        mirrored.delivered()
        assert mirrored.uploaded(trial) == {"step-00000001", "step-00000002"}
    mirrored.delivered()
    assert mirrored.uploaded(trial) == {"step-00000002"}


@pytest.mark.parametrize(("leaving", "first"), [(True, "journal"), (False, "checkpoint")])
def test_a_driver_that_leaves_uploads_its_results_first(
    leaving: bool, first: str, mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told to end has seconds; before that, no journal names a checkpoint that is not there."""
    trial = mirrored.script.begin()
    mirrored.delivered()
    mirrored.saved(trial, 1)
    mirrored.projector.read(1.0)
    client, order = mirrored.connection.client, list[str]()
    for name, what in (("log_artifact", "journal"), ("log_artifacts", "checkpoint")):
        real = getattr(client, name)

        def noted(*given: str, real: Any = real, what: str = what) -> None:
            order.append(what)
            real(*given)

        monkeypatch.setattr(client, name, noted)
    mirrored.projector.upload_journal(1.0, leaving=leaving)
    assert mirrored.projector.uploads.emptied(60.0)
    assert (order[0], set(order)) == (first, {"journal", "checkpoint"})


def test_what_cannot_be_deleted_holds_up_nothing_and_is_tried_again(
    mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some stores delete nothing, some not for everybody: a study that waits for that would never end."""
    trial = mirrored.superseded()
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise NotImplementedError

        patch.setattr("tracking._checkpoint_uploads.remove_files", refuse)
        mirrored.delivered()
        assert mirrored.uploaded(trial) == {"step-00000001", "step-00000002"}
        assert mirrored.projector.uploads.trouble is None
    mirrored.delivered()
    assert mirrored.uploaded(trial) == {"step-00000002"}


def test_nothing_is_deleted_before_what_follows_it_is_there(
    mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal that a leaving driver uploads first names the newer one, of which the upload fails."""
    trial = mirrored.superseded()
    mirrored.projector.read(1.0)
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise PermissionError(13, "no")

        patch.setattr(mirrored.connection.client, "log_artifacts", refuse)
        mirrored.projector.upload_journal(1.0, leaving=True)
        assert mirrored.projector.uploads.emptied(60.0)
    assert mirrored.uploaded(trial) == {"step-00000001"}
    # It goes on from there: the journal names the newer one only.
    assert mirrored.moved() == [[trial, 1]]
    (place,) = mirrored.fetched.files
    assert mirrored.fetched.missing == [(trial, 2)]
    assert mirrored.fetched.older == [(trial, 1, place)]


def test_a_trial_goes_on_from_the_newest_checkpoint_that_arrived(mirrored: Mirrored) -> None:
    """The machine went down amid the upload of the newest: the trial has lost some steps, and not all."""
    script = mirrored.script
    trial, other = script.begin(), script.begin()
    mirrored.saved(trial, 1)
    mirrored.delivered()
    for number in (trial, other):
        mirrored.saved(number, 2)
    mirrored.projector.read(1.0)
    uploads = mirrored.projector.uploads
    mirrored.projector._checkpoints.add_journal(mirrored.projector.parent, script.folder / "journal.jsonl")
    assert uploads.emptied(60.0)
    assert mirrored.moved() == [[trial, 1]]
    # Nothing of the other arrived: that is said when it begins anew.
    assert mirrored.fetched.missing == [(trial, 2)]


def test_of_a_study_that_uploads_none_there_are_none(mirrored: Mirrored) -> None:
    """Neither the best trial's, nor anything to delete."""
    mirrored.end()
    mirrored.begin(TrackerOptions(checkpoints="none"))
    trial = mirrored.script.begin()
    mirrored.saved(trial, 1)
    mirrored.script.finish(trial, 0.5)
    mirrored.script.stop()
    mirrored.projector.read(1.0)
    assert mirrored.projector.finish(1.0)
    mirrored.delivered()
    assert mirrored.uploaded(trial) == set()
    with pytest.raises(InputError, match="checkpoints must be one of none, best, kept, got 'last'"):
        TrackerOptions(checkpoints="last")


def test_the_journal_goes_to_mlflow_early_and_then_ever_more_seldom(tmp_path: Path) -> None:
    """A machine that was lost within five minutes had left nothing to go on from."""
    script, mlflow = Script(tmp_path), FakeMlflow()
    projector = Projector(
        tmp_path, mlflow.connection(), TrackerOptions(flush=0.0, summary=1e9, journal=100.0)
    )
    projector.open(0.0)
    sent, at = projector.uploads.done, []
    for second in range(1, 500):
        if second % 5 == 0:
            script.run(0.5)
        projector.read(second)
        projector.deliver(second)
        assert projector.uploads.emptied(60.0)
        if projector.uploads.done > sent:
            sent = projector.uploads.done
            at.append(second)
    projector.close()
    script.close()
    assert at == [20, 60, 140, 240, 340, 440]
