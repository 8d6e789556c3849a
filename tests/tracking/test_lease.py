"""Drivers that succeed each other on several machines, with nothing between them but MLflow."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hpo_core import InputError, Journal, Study, StudyLockedError
from hpo_core._journal import read_journal
from tests.tracking.studies import Script
from tracking import StudyTracker, TrackerOptions, fetch_journal

QUICK = TrackerOptions(flush=0.05, summary=0.05)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """An empty study."""
    return Script(tmp_path / "study")


def test_a_driver_that_slept_until_it_had_a_successor_leaves_what_that_has_written(
    sqlite_uri: str, experiment: str, script: Script
) -> None:
    """It heard of the other only a minute after it woke; closing before, it took the other's lease away and
    uploaded its own outdated journal.
    """
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    parent = str(tracker.start())
    script.study.execution.take_over("here:1", now=script.now())
    client = tracker.connection.client
    client.set_tag(parent, "hpo.lease", "1 99 elsewhere:7")
    script.run(0.5)
    assert not tracker.close(60.0)
    assert "driver elsewhere:7 has gone on" in str(tracker.fenced)
    assert client.get_run(parent).data.tags["hpo.lease"] == "1 99 elsewhere:7"
    assert client.list_artifacts(parent) == []
    assert client.get_run(parent).info.status == "RUNNING"
    assert [run.info.run_name for run in tracker.connection.runs("")] == ["toy"]


def test_an_outdated_copy_is_refused_when_its_successor_has_left(
    sqlite_uri: str, experiment: str, script: Script, tmp_path: Path
) -> None:
    """With the tag of the lease went the only sign of it: the copy wrote its own trials over the others."""
    script.study.execution.take_over("here:1", now=script.now())
    first = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    first.start()
    script.run(0.5)
    assert first.close(60.0)
    events = script.close()
    elsewhere = tmp_path / "elsewhere"
    connection = first.connection
    fetch_journal(connection, "toy", elsewhere, to_drive=True)
    with Journal(elsewhere / "journal.jsonl") as journal:
        Study.replay(journal.events, journal=journal).execution.take_over("elsewhere:7", now=script.now())
    second = StudyTracker(elsewhere, sqlite_uri, experiment, options=QUICK)
    parent = str(second.start())
    assert second.close(60.0)
    assert connection.client.get_run(parent).data.tags["hpo.lease"] == "2 0 elsewhere:7"
    with pytest.raises(InputError, match="driver elsewhere:7 has gone on with this study"):
        StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK).start()
    again = fetch_journal(connection, "toy", tmp_path / "again", to_drive=True)
    assert sum(1 for _ in read_journal(again)) == events + 1
    heir = StudyTracker(again.parent, sqlite_uri, experiment, options=QUICK)
    heir.start()
    assert heir.close(60.0)


def test_a_driver_that_died_before_its_first_upload_does_not_bar_the_study(
    sqlite_uri: str, experiment: str, script: Script, tmp_path: Path
) -> None:
    """What MLflow has is from before it, so nobody could go on, however long the lease had run out."""
    first = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    parent = str(first.start())
    assert first.close(60.0)
    script.close()
    client = first.connection.client
    client.set_tag(parent, "hpo.lease", "1 99 dead:7")
    for to_drive in (False, True):
        path = fetch_journal(first.connection, "toy", tmp_path / str(to_drive), to_drive=to_drive)
        assert ("hpo.lease" in client.get_run(parent).data.tags) is not to_drive
    heir = StudyTracker(path.parent, sqlite_uri, experiment, options=QUICK)
    heir.start()
    assert heir.close(60.0)


def test_a_study_that_is_driven_elsewhere_can_be_read(
    sqlite_uri: str, experiment: str, script: Script, tmp_path: Path
) -> None:
    """A warm start from it was refused, and told to stop its driver."""
    script.study.execution.take_over("here:1", now=script.now())
    tracker = StudyTracker(script.folder, sqlite_uri, experiment, options=QUICK)
    tracker.start()
    script.run(0.5)
    assert tracker.close(60.0)
    script.close()
    (run,) = tracker.connection.named_studies("toy")
    tracker.connection.client.set_tag(run.info.run_id, "hpo.lease", f"1 {time.time() + 60:.0f} here:1")
    assert fetch_journal(tracker.connection, "toy", tmp_path / "read").exists()
    with pytest.raises(StudyLockedError, match="is being driven by here:1"):
        fetch_journal(tracker.connection, "toy", tmp_path / "driven", to_drive=True)
