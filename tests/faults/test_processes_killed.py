"""Drivers and trial processes killed: exact totals, nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from hpo_core import TrialState
from tests.faults.checks import check_whole, runs_of
from tests.faults.conftest import MakeDriver
from tests.faults.harness import Driver, checkpoint, wait_until
from tests.faults.prefect_api import Api, flow_runs


def test_a_killed_driver_goes_on_where_it_was_and_its_trial_processes_die_with_it(
    driver: Driver, api: Api
) -> None:
    driver.start()
    driver.wait_for(3)
    driver.kill()
    driver.tear(20)
    pids = driver.trial_pids()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the trial processes to be gone")
    study = driver.study()
    assert study is not None
    before = {t.number: t.attempt for t in study.trials if t.state.finished}
    assert driver.finish()["complete"] == driver.trials
    after = check_whole(driver)
    assert [api.state(flow_run) for flow_run in flow_runs(driver)] == ["Crashed", "Completed"]
    assert {n: after.trials[n].attempt for n in before} == before
    assert after.state.token == 2


def test_a_killed_trial_process_costs_that_attempt_only(driver: Driver) -> None:
    driver.hold(1, 3)
    driver.start()
    wait_until(lambda: checkpoint(driver, 1) == 3, "a checkpoint of trial 1")
    os.kill(int((driver.trace / "pid-1-1").read_text()), signal.SIGKILL)
    driver.release()
    driver.finish()
    study = check_whole(driver)
    assert study.trials[1].attempt == 2
    assert (driver.trace / "steps-1").read_text() == "1 1\n1 2\n1 3\n2 4\n2 5\n2 6\n"
    assert len(study.history.evidence) == driver.trials


def test_a_second_driver_is_refused_and_the_first_one_can_be_told_to_leave(driver: Driver) -> None:
    driver.hold(4)
    driver.start()
    driver.wait_for(4)
    second = driver.second()
    assert second.wait() != 0
    assert "is being driven by another process" in second.err
    driver.kill(signal.SIGTERM)
    study = driver.study()
    assert study is not None
    assert study.stopped is None
    assert [run.info.status for run in runs_of(driver.tracking_uri)].count("RUNNING") == 0
    driver.release()
    driver.finish()
    assert check_whole(driver).state.token == 2


@pytest.mark.faults
def test_a_damaged_journal_is_an_error_that_names_the_line(driver: Driver) -> None:
    driver.start()
    driver.wait_for(2)
    driver.kill()
    journal = driver.study_folder / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b":", b" :", 1)
    journal.write_bytes(b"\n".join(lines))
    process = driver.start()
    assert process.wait() != 0
    assert "line 4" in process.err
    driver.process = None


@pytest.mark.faults
def test_a_scheduler_that_pauses_goes_on_where_it_was(make_driver: MakeDriver) -> None:
    """Paused trials and their checkpoints outlive the driver; a promotion is decided as if it had lived."""
    driver = make_driver(strategy="asha", max_steps=6)
    driver.start()
    driver.wait_for(2)
    driver.kill()
    driver.finish()
    study = check_whole(driver)
    assert study.history.count(TrialState.PRUNED)


@pytest.mark.faults
def test_what_a_trial_came_to_while_its_driver_hung_is_taken_over(driver: Driver) -> None:
    """The driver is stopped, its trials finish, and it is killed before it could hear of that."""
    driver.environment["HPO_TEST_STEP"] = "0.25"
    driver.hold(1, 3)
    driver.start()
    wait_until(lambda: checkpoint(driver, 1) == 3, "a checkpoint of trial 1")
    assert driver.process is not None
    driver.process.send(signal.SIGSTOP)
    driver.release()
    left = driver.study_folder / "outcomes" / "1-1.json"
    wait_until(left.exists, "the trial's result")
    driver.kill()
    driver.finish()
    study = check_whole(driver)
    assert study.trials[1].attempt == 2
    assert (driver.trace / "steps-1").read_text() == "".join(f"1 {step}\n" for step in range(1, 7))
    assert {"trial": 1, "attempt": 1} in [n.data for n in study.state.notes if n.topic == "adopted"]


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [86_400, -86_400])
def test_a_clock_set_while_a_study_runs_changes_nothing(
    seconds: int, make_driver: MakeDriver, tmp_path: Path
) -> None:
    """For MLflow and Prefect in the driver's process, too; a driver that begins at the wrong time goes on."""
    driver = make_driver(timeout=3600.0)
    driver.environment["HPO_TEST_CLOCK"] = str(tmp_path / "clock")
    driver.hold(6)
    driver.start()
    driver.wait_for(3)
    (tmp_path / "new").write_text(str(seconds))
    (tmp_path / "new").replace(tmp_path / "clock")
    driver.wait_for(6)
    driver.kill()
    driver.release()
    driver.finish()
    check_whole(driver)
