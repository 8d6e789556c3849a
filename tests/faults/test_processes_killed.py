"""Drivers and trial processes killed at random moments: exact totals, nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import Driver, check_whole, wait_until

pytestmark = pytest.mark.faults


def steps_trained(driver: Driver, trial: int) -> list[tuple[int, int]]:
    lines = (driver.trace / f"steps-{trial}").read_text().split("\n")
    return [(int(a), int(s)) for a, s in (line.split() for line in lines if line)]


@pytest.mark.parametrize("seed", range(int(os.environ.get("HPO_FAULTS", "1"))))
def test_a_killed_driver_goes_on_where_it_was_and_repeats_no_finished_trial(
    driver: Driver, seed: int
) -> None:
    rng = random.Random(seed)
    before: dict[int, int] = {}
    for _ in range(2):
        driver.start()
        wanted = driver.finished() + rng.randint(1, 3)
        wait_until(lambda w=wanted: driver.finished() >= w, f"{wanted} finished trials (seed {seed})")
        driver.kill()
        study = driver.study()
        assert study is not None
        before |= {t.number: t.attempt for t in study.trials if t.state.finished}
    driver.start()
    assert driver.finish()["complete"] == driver.trials
    study = check_whole(driver)
    assert {n: study.trials[n].attempt for n in before} == before
    for trial in study.trials:
        steps = [step for _, step in steps_trained(driver, trial.number)]
        # A repeated attempt goes on from the checkpoint: at most the step in flight is trained again.
        assert sorted(set(steps)) == list(range(1, 7))
        assert len(steps) <= 6 + trial.attempt - 1


def test_trial_processes_die_with_their_driver(driver: Driver) -> None:
    driver.start()
    wait_until(lambda: driver.finished() >= 1, "a finished trial")
    pids = {int(path.read_text()) for path in driver.trace.glob("pid-*")}
    driver.kill()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the trial processes to be gone")


def test_a_killed_trial_process_costs_that_attempt_only(driver: Driver) -> None:
    driver.start()
    for number in (1, 3, 5):
        path = driver.trace / f"pid-{number}-1"
        pid = int(wait_until(lambda p=path: p.exists() and p.read_text(), f"trial {number}"))
        wait_until((driver.trace / f"steps-{number}").exists, f"a step of trial {number}")
        os.kill(pid, signal.SIGKILL)
    driver.finish()
    study = check_whole(driver)
    assert all(study.trials[n].attempt == 2 for n in (1, 3, 5))
    assert not (study.history.evidence.values != study.history.evidence.values).any()


def test_a_driver_told_to_terminate_leaves_a_study_to_resume(driver: Driver) -> None:
    driver.start()
    wait_until(lambda: driver.finished() >= 2, "two finished trials")
    driver.kill(signal.SIGTERM)
    study = driver.study()
    assert study is not None
    assert study.stopped is None
    driver.finish()
    assert check_whole(driver).state.token == 2


def test_a_second_driver_is_refused_while_the_first_lives(driver: Driver, tmp_path: Path) -> None:
    driver.start()
    wait_until(lambda: driver.finished() >= 1, "a finished trial")
    second = Driver(tmp_path, driver.environment["PREFECT_API_URL"], trials=12)
    process = second.start()
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "is being driven by another process" in err
    driver.finish()
    check_whole(driver)


def test_a_torn_last_line_of_the_journal_costs_nothing(driver: Driver) -> None:
    driver.start()
    wait_until(lambda: driver.finished() >= 2, "two finished trials")
    driver.kill()
    journal = driver.study_folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) - random.Random(1).randint(2, 40)])
    driver.finish()
    check_whole(driver)


def test_a_damaged_journal_is_an_error_that_names_the_line(driver: Driver) -> None:
    driver.start()
    wait_until(lambda: driver.finished() >= 2, "two finished trials")
    driver.kill()
    journal = driver.study_folder / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b'"trial"', b'"trail"')
    journal.write_bytes(b"\n".join(lines))
    process: subprocess.Popen[str] = driver.start()
    _, err = process.communicate(timeout=120)
    driver.process = None
    assert process.returncode != 0
    assert "line 4" in err
