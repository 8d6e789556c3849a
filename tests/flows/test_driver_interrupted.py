"""What ends a driver, or a trial, before its time: the study stays open, and what ran is repeated."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flows import _driver
from flows._driver import Driver
from flows._stretch import Stretch
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import OnMessage, Report, RunnerGone, Saved
from hpo_core import HpoError, TrialState
from tests.flows.fake_runner import FakeRunner, at_once, drive, make_study, replayed
from tracking import save_checkpoint


async def _full(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
    return Outcome(kind=m.NO_SPACE, reason="no room for a checkpoint")


async def _gone(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
    raise RunnerGone("the cluster is gone")


@pytest.mark.parametrize(("script", "words"), [(_full, "the disk of .* is full"), (_gone, "is gone")])
def test_where_no_trial_can_run_the_study_is_left_open(script: Any, words: str, tmp_path: Path) -> None:
    """The next trial would end the same way; what could not run is no bad result, however often."""
    study = make_study(tmp_path)
    for _ in range(study.state.settings.max_attempts + 1):
        with pytest.raises(HpoError, match=words):
            drive(study, FakeRunner(script, slots=1), tmp_path)
    again = replayed(tmp_path)
    assert again.stopped is None
    assert [trial.state for trial in again.trials] == [TrialState.WAITING]
    drive(study, FakeRunner(at_once), tmp_path)
    assert study.history.count(TrialState.COMPLETE) == 10


@pytest.mark.parametrize("kind", [m.CUT_OFF, m.SUSPENDED])
def test_what_was_cut_off_or_suspended_counts_against_no_trial(kind: str, tmp_path: Path) -> None:
    """However often: a scheduler that goes away again and again would have its trials given up as lost."""

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        if job.attempt < 9:
            return Outcome(kind=kind, reason="the connection was lost")
        return await at_once(job, on_message, runner)

    study = make_study(tmp_path, limits={"trials": 2})
    drive(study, FakeRunner(script), tmp_path)
    assert study.history.count(TrialState.COMPLETE) == 2


@pytest.mark.parametrize(
    ("verb", "state"),
    [("interrupt", TrialState.WAITING), ("drain", TrialState.WAITING), ("cancel", TrialState.CANCELLED)],
)
def test_what_ends_the_driver_while_a_segments_task_is_set_up_keeps_it_from_running(
    verb: str, state: TrialState, tmp_path: Path
) -> None:
    """The runner was told to kill what it did not have yet; it ran it, and the driver waited for its end."""

    async def endless(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def set_up(stretch: Stretch) -> None:
        getattr(driver, verb)("enough")
        await stretch.body()

    async def go() -> str:
        return await asyncio.wait_for(driver.drive(), 30)

    study = make_study(tmp_path)
    runner = FakeRunner(endless, slots=1)
    runner.signals[0] = asyncio.Event()
    driver = Driver(study, runner, folder=tmp_path, orchestrate=set_up)
    assert (asyncio.run(go()), runner.jobs) == ("enough", [])
    assert [trial.state for trial in replayed(tmp_path).trials] == [state]


def test_a_driver_that_has_a_successor_stops(tmp_path: Path) -> None:
    """Whatever runs is killed, and the study is the other one's to end."""

    class Succeeded:
        offline = False
        fenced = "driver elsewhere:7 has gone on"

        def run_id(self, trial: int, timeout: float) -> str:
            raise AssertionError("nobody asks")

        def notify(self) -> None: ...

    async def long(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        await runner.signals[0].wait()
        return Outcome(kind=m.LOST, reason="killed")

    study, runner = make_study(tmp_path), FakeRunner(long, slots=1)
    driver = Driver(study, runner, folder=tmp_path, tracker=Succeeded())
    assert asyncio.run(asyncio.wait_for(driver.drive(), 60)) == "driver elsewhere:7 has gone on"
    assert runner.verbs == [("kill", 0)]
    assert replayed(tmp_path).stopped is None
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


def test_a_trial_that_does_not_heed_the_cancellation_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that end when they are asked to are left to do so."""
    monkeypatch.setattr(_driver, "GRACE_SECONDS", 0.0)

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        slot = job.trial
        await runner.signals[slot].wait()  # it is asked to stop
        if slot == 0:
            return Outcome(kind=m.STOPPED)
        runner.signals[slot].clear()
        await runner.signals[slot].wait()  # and killed
        return Outcome(kind=m.LOST, reason="killed")

    study, runner = make_study(tmp_path), FakeRunner(script, slots=2)
    (tmp_path / "cancel").touch()
    asyncio.run(asyncio.wait_for(Driver(study, runner, folder=tmp_path).drive(), 60))
    assert sorted(runner.verbs) == [("kill", 1), ("stop", 0), ("stop", 1)]
    assert [trial.state for trial in study.trials] == [TrialState.CANCELLED] * 2
    assert study.stopped is not None
    assert study.stopped.state == "cancelled"


def test_checkpoints_that_nobody_needs_go_while_trials_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when the driver leaves, which may be days later."""
    monkeypatch.setattr(_driver, "_LOOK_SECONDS", 0.0)

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        for step in range(1, 5):
            place = tmp_path / "checkpoints" / f"step-{step}"
            await on_message(Saved(step, str(place), save_checkpoint(place, b"x")))
            await on_message(Report(step, {"loss": 1.0}))
        while len(list((tmp_path / "checkpoints").iterdir())) > 2:
            await asyncio.sleep(0)
        return Outcome(kind=m.RETURNED, values=1.0)

    study = make_study(tmp_path, limits={"trials": 1})
    driver = Driver(study, FakeRunner(script, slots=1), folder=tmp_path)
    asyncio.run(asyncio.wait_for(driver.drive(), 60))
    assert study.trials[0].state is TrialState.COMPLETE
