"""Faults at random moments, each a function of a running study and a random number generator."""

from __future__ import annotations

import contextlib
import os
import random
import signal

from tests.faults.harness import Driver, ServerProcess, wait_until


def kill_driver(driver: Driver, rng: random.Random) -> None:
    """SIGKILL to the driver."""
    driver.kill()


def terminate_driver(driver: Driver, rng: random.Random) -> None:
    """SIGTERM to the driver."""
    driver.kill(signal.SIGTERM)


def tear_journal(driver: Driver, rng: random.Random) -> None:
    """SIGKILL to the driver, and the end of the journal's last line is lost."""
    driver.kill()
    if driver.finished():
        driver.tear(rng.randint(1, 30))


def kill_trial(driver: Driver, rng: random.Random) -> None:
    """SIGKILL to one of the processes that run trials."""
    alive = sorted(driver.trial_pids())
    if alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(alive), signal.SIGKILL)


def second_driver(driver: Driver, rng: random.Random) -> None:
    """Another driver on the same study; it is refused, or finds the study finished."""
    driver.hold(0)
    second = driver.second()
    second.wait()
    assert "is being driven by another process" in second.err or second.code == 0
    driver.release()


PROCESS_FAULTS = (kill_driver, terminate_driver, tear_journal, kill_trial, second_driver)


def mischief(driver: Driver, rng: random.Random, *, faults: int) -> list[str]:
    """Strike a study that many times, each after a random number of trials; returns what was done."""
    done: list[str] = []
    for _ in range(faults):
        if driver.process is None:
            driver.lead()  # else a second one might come first, and be held
        driver.wait_for(driver.finished() + rng.randint(0, 3))
        fault = rng.choice(PROCESS_FAULTS)
        fault(driver, rng)
        done.append(fault.__name__)
    return done


def outage(driver: Driver, server: ServerProcess, rng: random.Random) -> None:
    """A server dies in the middle of the study and comes back before its end."""
    at = rng.randint(0, driver.trials // 2)
    driver.hold(driver.trials - 2)
    driver.start()
    driver.wait_for(at)
    server.kill()
    wait_until(lambda: driver.finished() >= driver.trials - 3, "training to go on without the server")
    server.start()
    driver.release()
