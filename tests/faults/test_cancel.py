"""Each way to stop a study ends work that hears nothing, within seconds, and the study can be resumed.

The seconds are printed; `docs/failures.md` keeps them.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import psutil
import pytest

from hpo_core import TrialState
from tests.faults.checks import check_cancelled, check_went_on, runs_of
from tests.faults.harness import Driver, checkpoint, wait_until
from tests.faults.prefect_api import Api, flow_runs

pytestmark = pytest.mark.faults

MOST_SECONDS = 5.0


@pytest.fixture
def deaf(driver: Driver) -> Driver:
    """A study whose trials 3 and 4 run and can only be killed."""
    driver.environment["HPO_TEST_DEAF"] = "yes"
    driver.hold(3, 2)
    driver.start()
    both = [driver.trace / "pid-3-other", driver.trace / "pid-4-other"]
    wait_until(lambda: checkpoint(driver, 3) == 2 and all(p.exists() for p in both), "both to be deaf")
    return driver


def stop(driver: Driver, request: Callable[[], object], *, code: int = 0) -> float:
    """Stop the study, wait for its driver; returns the seconds after which all work had ended."""
    pids = driver.trial_pids()
    assert len([pid for pid in pids if psutil.pid_exists(pid)]) >= 4
    assert driver.process is not None
    began = time.monotonic()
    request()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the work's end")
    ended = time.monotonic() - began
    assert driver.process.wait() == code, driver.process.err
    print(f"work ended after {ended:.1f} s, its driver after {time.monotonic() - began:.1f} s")
    driver.process = None
    return ended


def go_on(driver: Driver) -> None:
    """Resume with trials that hear again."""
    del driver.environment["HPO_TEST_DEAF"]
    driver.release()
    driver.finish()
    check_went_on(driver)


def test_hpo_cancel(deaf: Driver) -> None:
    cancelled = deaf.run  # not to its end: the time counts from the command's own start
    assert stop(deaf, lambda: cancelled("flows.cli:main", "cancel", "study")) < MOST_SECONDS
    check_cancelled(deaf, "cancelled on request")
    go_on(deaf)


def test_cancel_in_prefect(deaf: Driver, api: Api) -> None:
    [flow_run] = flow_runs(deaf)
    assert stop(deaf, lambda: api.set_state(flow_run, "CANCELLING")) < MOST_SECONDS
    check_cancelled(deaf, "cancelled in Prefect")
    assert api.state(flow_run) == "Cancelled"
    go_on(deaf)


def test_ctrl_c_twice(deaf: Driver) -> None:
    """Interrupted, not cancelled: the study stays open, and what ran is repeated."""

    def press_twice() -> None:
        assert deaf.process is not None
        deaf.process.send(signal.SIGINT)
        wait_until(
            lambda: deaf.process is None or "Ctrl-C again" in deaf.process.err, "the first to be heard"
        )
        deaf.process.send(signal.SIGINT)

    assert stop(deaf, press_twice) < MOST_SECONDS
    study = deaf.study()
    assert study is not None
    assert study.stopped is None
    assert study.history.count(TrialState.RUNNING) == 0
    assert [run.info.status for run in runs_of(deaf.tracking_uri)].count("RUNNING") == 0
    go_on(deaf)


def test_a_killed_driver_takes_even_those_with_it_that_hold_the_interpreter(deaf: Driver) -> None:
    kinds = ("1", "other")  # the trial's process, and one in a session of its own that it has started
    pids = {int((deaf.trace / f"pid-{n}-{kind}").read_text()) for n in (3, 4) for kind in kinds}
    deaf.kill()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "the trial processes to be gone")
    go_on(deaf)
