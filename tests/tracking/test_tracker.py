"""The tracker as the driver uses it: against SQLite, and against a server that goes away and comes back."""

from __future__ import annotations

import csv
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from hpo_core import InputError
from tests.tracking.conftest import Line
from tests.tracking.studies import Script
from tracking import (
    NoRunYet,
    StudyTracker,
    TrackerOptions,
    TrackingError,
)
from tracking._connection import Connection, connect
from tracking._cursor import Cursor, Target
from tracking._projector import Projector

QUICK = TrackerOptions(flush=0.05, summary=0.05)


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for another thread to make it true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def statuses(connection: Connection) -> dict[str, str]:
    """Name to status of all runs."""
    return {run.info.run_name: run.info.status for run in connection.runs("")}


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """An empty study."""
    return Script(tmp_path / "study")


def test_a_study_from_start_to_end(sqlite_uri: str, experiment: str, script: Script) -> None:
    """Started, notified, closed: MLflow shows it all, and the status says so."""
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    parent = tracker.start()
    for value in (0.5, 0.25):
        script.run(value, steps=2)
        tracker.notify()
    trial = script.begin()
    tracker.notify()
    running = tracker.run_id(trial, 30.0)
    assert tracker.connection.client.get_run(running).info.status == "RUNNING"
    script.finish(trial, 0.75)
    script.stop()
    tracker.notify()
    assert tracker.close(60.0)
    assert tracker.close(60.0)
    events = script.close()
    status = tracker.status
    assert (status.degraded, status.pending_events, status.delivered_seq) == (None, 0, events - 1)
    shown = statuses(tracker.connection)
    assert shown == dict.fromkeys(("toy", "trial-0000", "trial-0001", "trial-0002"), "FINISHED")
    run = tracker.connection.client.get_run(str(parent))
    assert run.data.metrics["best_loss"] == 0.25
    artifacts = tracker.connection.client.list_artifacts(str(parent))
    assert [a.path for a in artifacts] == ["journal.jsonl.gz", "trials.csv"]
    table = tracker.connection.client.download_artifacts(str(parent), "trials.csv", str(script.folder))
    with Path(table).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows] == ["0.5", "0.25", "0.75"]
    assert rows[2]["run_id"] == running
    assert rows[0]["start"] == "2023-11-14T22:13:21.000+00:00"
    assert float(rows[1]["lr"]) == script.study.trials[1].params["lr"]
    experiment_tags = tracker.connection.client.get_experiment(tracker.connection.experiment_id).tags
    assert experiment_tags["mlflow.experiment.primaryMetric.name"] == "loss"


def test_a_database_that_fails_as_tracking_begins_is_told_in_a_line(
    sqlite_uri: str, experiment: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answered a moment ago; what it says now was a traceback."""

    def busy(database: sqlite3.Connection) -> bool:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("tracking._sqlite_writer._has_known_tables", busy)
    script.run(0.5)
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    with pytest.raises(InputError, match=r"cannot track to .*database is locked"):
        tracker.start()
    script.close()


def test_trials_of_a_study_whose_run_was_deleted_are_shown_below_its_new_one(
    sqlite_uri: str, experiment: str, script: Script
) -> None:
    """All were written a second time, and the old ones stayed: 30 complete runs of 16 trials."""

    def shown_by(tracker: StudyTracker) -> tuple[str, set[str]]:
        parent = tracker.start()
        assert tracker.close(60.0)
        assert parent is not None
        return parent, {run.info.run_id for run in tracker.connection.children(parent)}

    script.run(0.5)
    script.run(0.25)
    first = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    parent, trials = shown_by(first)
    first.connection.client.delete_run(parent)
    script.run(0.75)
    again, now = shown_by(StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK))
    script.close()
    assert again != parent
    assert (len(trials), len(now), trials <= now) == (2, 3, True)
    assert len(list(first.connection.runs(""))) == 4


def test_many_threads_ask_for_many_runs(sqlite_uri: str, experiment: str, script: Script) -> None:
    """Each trial gets one run, whoever asks first; its parameters are there before the id is."""
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=TrackerOptions(flush=60.0))
    tracker.start()
    trials = [script.begin() for _ in range(6)]
    tracker.notify()
    with ThreadPoolExecutor(12) as pool:
        ids = list(pool.map(lambda trial: tracker.run_id(trial, 60.0), trials * 4))
    assert len(set(ids)) == 6
    for run_id in set(ids):
        assert set(tracker.connection.client.get_run(run_id).data.params) == {"lr", "depth", "kind"}
    for trial in trials:
        script.finish(trial, 1.0)
    assert tracker.close(60.0)
    script.close()
    assert len(statuses(tracker.connection)) == 7


def test_a_run_may_be_asked_for_before_the_journal_knows_the_trial(
    sqlite_uri: str, experiment: str, script: Script
) -> None:
    """The answer comes once it does; where it never does, the question ends in time."""
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    tracker.start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(tracker.run_id, 0, 60.0)
        script.begin()
        tracker.notify()
        assert answer.result()
    with pytest.raises(NoRunYet, match="trial 7 has no run"):
        tracker.run_id(7, 0.05)
    assert tracker.close(60.0)
    script.close()


def test_what_the_start_takes_is_not_taken_from_the_wait_for_a_run(
    sqlite_uri: str, experiment: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 5 s for each of its dozen requests the first trials' own metrics went to another database."""
    asked, connecting = threading.Event(), threading.Event()

    def slow(*terms: Any) -> Connection:
        connecting.set()
        assert asked.wait(60.0)
        return connect(*terms)

    monkeypatch.setattr("tracking._tracker.connect", slow)
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    script.begin()
    with ThreadPoolExecutor(2) as pool:
        started = pool.submit(tracker.start)
        assert connecting.wait(60.0)
        answer = pool.submit(tracker.run_id, 7, 0.0)
        asked.set()
        assert started.result()
        with pytest.raises(NoRunYet, match="trial 7 has no run yet: MLflow did not answer in time"):
            answer.result()
    assert tracker.close(60.0)
    script.close()


def test_a_start_that_hangs_holds_up_training_once(
    sqlite_uri: str, experiment: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks when it has hung for long is answered at once."""
    over, connecting = threading.Event(), threading.Event()

    def hanging(*terms: Any) -> Connection:
        connecting.set()
        assert over.wait(60.0)
        return connect(*terms)

    monkeypatch.setattr("tracking._tracker.connect", hanging)
    monkeypatch.setattr("tracking._tracker._START_SECONDS", 0.0)
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(tracker.start)
        assert connecting.wait(60.0)
        with pytest.raises(NoRunYet, match="tracking has not started"):
            tracker.run_id(0, 60.0)
        assert not started.done()
        over.set()
        assert started.result()
    assert tracker.close(60.0)
    script.close()


def test_files_that_cannot_be_written_are_told_of_and_delivered_once_they_can(
    sqlite_uri: str, experiment: str, script: Script, tmp_path: Path
) -> None:
    """Where artifacts could not be written, MLflow was said to have all of the study."""
    root = tmp_path / "artifacts of mlflow"
    root.write_text("a file where a folder should be")
    MlflowClient(sqlite_uri).create_experiment(experiment, artifact_location=(root / "here").as_uri())
    script.run(0.5)
    script.stop()
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    parent = tracker.start()
    assert parent is not None
    assert not tracker.close(60.0)
    assert "cannot be uploaded" in str(tracker.status.degraded)
    root.unlink()
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    tracker.start()
    assert tracker.close(60.0)
    kept = {file.path for file in tracker.connection.client.list_artifacts(parent)}
    assert {"journal.jsonl.gz", "trials.csv"} <= kept
    script.close()


def test_offline_the_tracker_does_nothing_and_says_so(
    script: Script, sqlite_uri: str, experiment: str
) -> None:
    """The next tracker catches up."""
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, offline=True)
    assert tracker.start() is None
    script.run(0.5)
    tracker.notify()
    with pytest.raises(TimeoutError, match="offline"):
        tracker.run_id(0, 1.0)
    with pytest.raises(TrackingError, match="offline"):
        _ = tracker.connection
    assert tracker.status.degraded == "tracking is offline"
    assert tracker.close(1.0)
    later = StudyTracker(script.folder, sqlite_uri, experiment)
    later.start()
    assert later.close(60.0)
    script.close()
    assert statuses(later.connection) == {"toy": "KILLED", "trial-0000": "FINISHED"}


def test_the_notes_on_runs_have_no_password(tmp_path: Path) -> None:
    """They lie in the study's folder, for everybody who may read it; and serve as they did."""
    target = Target("study", "http://me:secret@127.0.0.1:9", "1")
    notes = Cursor(tmp_path, target, events=1)
    notes.begin("run")
    notes.close()
    assert "secret" not in (tmp_path / "runs.jsonl").read_text()
    assert Cursor(tmp_path, target, events=1).parent == "run"


def test_the_run_of_mlflow_run_becomes_the_parent(
    sqlite_uri: str, experiment: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its id leaves the environment, where every child would adopt it."""
    client = MlflowClient(sqlite_uri)
    # Without a location of its own the experiment's files would be in the working directory.
    made = client.create_experiment(experiment, artifact_location=(script.folder / "artifacts").as_uri())
    run = client.create_run(made, run_name="by mlflow run")
    client.log_param(run.info.run_id, "strategy", "tpe")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, adopt_run=run.info.run_id)
    assert tracker.start() == run.info.run_id
    assert "MLFLOW_RUN_ID" not in os.environ
    script.run(0.5)
    script.stop()
    assert tracker.close(60.0)
    adopted = client.get_run(run.info.run_id)
    assert (adopted.info.status, adopted.data.params) == ("FINISHED", {"strategy": "tpe"})
    assert adopted.info.run_name == "by mlflow run"
    children = list(tracker.connection.children(run.info.run_id))
    assert [child.info.run_name for child in children] == ["trial-0000"]

    second = client.create_run(tracker.connection.experiment_id)
    again = StudyTracker(script.folder, sqlite_uri, experiment, adopt_run=second.info.run_id)
    assert again.start() == run.info.run_id
    assert again.close(60.0)
    script.close()
    assert client.get_run(second.info.run_id).data.tags["hpo.resumed_run_id"] == run.info.run_id


def test_runs_that_a_dead_trial_left_open_are_closed(
    sqlite_uri: str, experiment: str, script: Script
) -> None:
    """User code that nests runs below its trial's, and is killed, cannot close them."""
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    tracker.start()
    trial = script.begin()
    tracker.notify()
    run_id = tracker.run_id(trial, 60.0)
    client = tracker.connection.client
    tags = {"mlflow.parentRunId": run_id}
    child = client.create_run(tracker.connection.experiment_id, tags=tags)
    script.finish(trial, state="timed_out")
    assert tracker.close(60.0)
    script.close()
    assert client.get_run(child.info.run_id).info.status == "KILLED"


def test_an_outage_is_survived(line: Line, experiment: str, script: Script) -> None:
    """The driver never waits; the status says what is wrong; everything arrives, once.

    The server itself is killed in the fault suite.
    """
    tracker = StudyTracker(script.folder, line.uri, experiment, options=QUICK)
    tracker.start()
    script.run(1.0, steps=2)
    tracker.notify()
    until(lambda: tracker.status.pending_events == 0)
    line.cut()
    for value in (0.75, 0.5):
        script.run(value, steps=2)
        tracker.notify()
    until(lambda: tracker.status.degraded)
    assert "MLflow is away" in str(tracker.status.degraded)
    assert tracker.status.pending_events > 0
    with pytest.raises(NoRunYet, match="MLflow is away"):
        tracker.run_id(script.begin(), 0.1)
    script.finish(3, 0.25)
    line.mend()
    script.stop()
    tracker.notify()
    assert tracker.close(120.0)
    script.close()
    runs = {run.info.run_name: run for run in tracker.connection.runs("")}
    assert set(runs) == {"toy", *(f"trial-{n:04d}" for n in range(4))}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    history = tracker.connection.client.get_metric_history(runs["trial-0001"].info.run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(1, 1.75), (2, 0.75)]


def test_a_long_backlog_can_be_given_up(
    sqlite_uri: str, experiment: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ended a finished study, by a signal, waited minutes for the last of its trials to arrive."""
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    script.run(0.5)
    script.stop()
    begun = threading.Event()

    def endless(projector: Projector, now: float, **how: bool) -> bool:
        projector.writes += 1
        if how.get("everything"):
            begun.set()
        return bool(how.get("everything"))

    with monkeypatch.context() as patched:
        patched.setattr(Projector, "deliver", endless)
        tracker.start()
        answers: list[bool] = []
        closing = threading.Thread(target=lambda: answers.append(tracker.close(60.0)))
        closing.start()
        assert begun.wait(60.0)
        tracker.give_up()
        closing.join(60.0)
    assert answers == [False]
    later = StudyTracker(script.folder, sqlite_uri, experiment)
    later.start()
    assert later.close(60.0)
    script.close()
    assert statuses(later.connection) == {"toy": "FINISHED", "trial-0000": "FINISHED"}


def test_what_could_not_be_delivered_waits_for_the_next_tracker(
    line: Line, experiment: str, script: Script
) -> None:
    """Closing does not wait longer than it was told to, and says that something is left."""
    tracker = StudyTracker(script.folder, line.uri, experiment, options=QUICK)
    tracker.start()
    line.cut()
    script.run(0.5)
    script.stop()
    tracker.notify()
    assert not tracker.close(1.0)
    assert tracker.status.degraded
    line.mend()
    later = StudyTracker(script.folder, line.uri, experiment)
    later.start()
    assert later.close(60.0)
    script.close()
    assert statuses(later.connection) == {"toy": "FINISHED", "trial-0000": "FINISHED"}
    assert later.parent_url == f"{line.uri}/#/experiments/{later.connection.experiment_id}/runs/" + next(
        run.info.run_id for run in later.connection.runs("") if run.info.run_name == "toy"
    )


def test_no_thread_outlives_its_tracker(sqlite_uri: str, experiment: str, script: Script) -> None:
    """Neither the writer nor the uploader."""
    before = set(threading.enumerate())
    tracker = StudyTracker(script.folder, sqlite_uri, experiment)
    tracker.start()
    script.run(0.5)
    assert {t.name for t in set(threading.enumerate()) - before} == {"hpo-tracking"}
    assert tracker.close(60.0)
    script.close()
    assert set(threading.enumerate()) <= before


def test_everything_is_written_again_when_asked(sqlite_uri: str, experiment: str, script: Script) -> None:
    """``resync``: the same runs, whatever somebody has done to their tags."""
    first = StudyTracker(script.folder, sqlite_uri, experiment)
    first.start()
    script.run(0.5)
    assert first.close(60.0)
    script.close()
    run = next(r for r in first.connection.runs("") if r.info.run_name == "trial-0000")
    first.connection.client.set_tag(run.info.run_id, "hpo.state", "wrong")
    second = StudyTracker(script.folder, sqlite_uri, experiment)
    second.forget()
    second.start()
    assert second.close(60.0)
    again = second.connection.client.get_run(run.info.run_id)
    assert again.data.tags["hpo.state"] == "complete"
    assert len(statuses(second.connection)) == 2


def test_closing_waits_as_long_as_something_arrives(
    sqlite_uri: str, experiment: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow server with a long backlog is not given up on: the time counts from the last arrival."""
    tracker = StudyTracker(script.folder, sqlite_uri, experiment)
    tracker.start()
    for value in (1.0, 0.75, 0.5, 0.25):
        script.run(value)
    script.stop()
    projector = tracker._projector
    assert projector is not None
    write = projector._writer.write

    def slowly(writes: list[Any], progress: Any) -> None:
        for item in writes:
            write([item], progress)
            time.sleep(1.0)  # the slow server itself

    monkeypatch.setattr(projector._writer, "write", slowly)
    began = time.monotonic()
    assert tracker.close(3.0)
    assert time.monotonic() > began + 3.0  # else it has shown nothing
    script.close()
    assert set(statuses(tracker.connection).values()) == {"FINISHED"}


def test_a_driver_that_another_one_has_succeeded_writes_nothing_more(
    sqlite_uri: str, experiment: str, script: Script
) -> None:
    """It was cut off while its lease ran out; when it is back, it finds the other's and stops."""
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    parent = str(tracker.start())
    script.study.execution.take_over("here:1", now=script.now())
    client = tracker.connection.client
    client.set_tag(parent, "hpo.lease", "1 99 elsewhere:7")
    projector = tracker._projector
    assert projector is not None
    projector._next_lease = 0.0
    script.run(0.5)
    tracker.notify()
    until(lambda: tracker.fenced)
    assert "driver elsewhere:7 has gone on with this study" in str(tracker.fenced)
    assert not tracker.close(60.0)
    script.close()
    assert [run.info.run_name for run in tracker.connection.runs("")] == ["toy"]
    assert client.get_run(parent).data.tags["hpo.lease"] == "1 99 elsewhere:7"


def test_closing_ends_where_the_folder_of_the_study_is_gone(
    sqlite_uri: str, experiment: str, script: Script, tmp_path: Path
) -> None:
    """Every attempt wrote the study's run once more, which was taken for progress: it waited for ever."""
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    tracker.start()
    script.folder.rename(tmp_path / "elsewhere")
    assert not tracker.close(1.0)
