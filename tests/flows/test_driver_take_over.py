"""What a driver makes of results that came while nobody drove the study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows._late import leave
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import OnMessage, Report
from hpo_core import Segment, Study
from tests.flows.fake_runner import FakeRunner, at_once, drive, make_study


def interrupted(folder: Path, **options: Any) -> tuple[Study, Job]:
    """A study whose driver died while trial 0 ran, and the job of that attempt."""
    study = make_study(folder, **options)
    due = study.execution.next()
    assert isinstance(due, Segment)
    study.execution.started(due)
    study.report(0, 1, 0.9)
    study.execution.take_over("another")
    return study, Job(
        trial=0, attempt=1, params=due.params, seed=due.seed, target=due.target, from_step=0, known_step=0,
        checkpoint="", folder=str(folder),
    )  # fmt: skip


LATE = [Report(step, {"loss": 1 - step / 10}) for step in (1, 2, 3)]


def test_a_result_that_came_when_no_driver_listened_is_taken_over(tmp_path: Path) -> None:
    """With the reports that were not heard; the trial is not run again, and the result is taken once."""
    study, job = interrupted(tmp_path)
    leave(job, LATE, Outcome(kind=m.RETURNED, values=0.25))
    runner = FakeRunner(at_once)
    drive(study, runner, tmp_path)
    assert 0 not in {job.trial for job in runner.jobs}
    assert study.trials[0].values == {"loss": 0.25}
    assert [n.data for n in study.state.notes if n.topic == "adopted"] == [{"trial": 0, "attempt": 1}]
    rows = study.history.reports_of(0)
    assert study.history.reports.steps[rows].tolist() == [1, 2, 3]
    assert not list((tmp_path / "outcomes").iterdir())


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"target": 7}, m.RETURNED), ({"attempt": 3}, m.RETURNED), ({}, m.RAISED), ({}, m.STOPPED)],
)
def test_a_result_of_another_segment_or_a_failure_is_not_taken_over(
    change: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    study, job = interrupted(tmp_path)
    leave(replace(job, **change), LATE, Outcome(kind=kind, values=0.25))
    runner = FakeRunner(at_once)
    drive(study, runner, tmp_path)
    assert [j.attempt for j in runner.jobs if j.trial == 0] == [2]
    assert study.trials[0].values == {"loss": study.trials[0].params["x"]}


def test_a_result_that_comes_while_the_trial_is_repeated_is_ignored(tmp_path: Path) -> None:
    study, late = interrupted(tmp_path)

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        if job.trial == 0:
            leave(late, LATE, Outcome(kind=m.RETURNED, values=0.25))
        return await at_once(job, on_message, runner)

    drive(study, FakeRunner(script), tmp_path)
    assert study.trials[0].values == {"loss": study.trials[0].params["x"]}
    assert not list((tmp_path / "outcomes").iterdir())


def test_a_damaged_result_is_no_result(tmp_path: Path) -> None:
    study, job = interrupted(tmp_path)
    leave(job, LATE, Outcome(kind=m.RETURNED, values=0.25))
    [path] = (tmp_path / "outcomes").iterdir()
    path.write_text(path.read_text()[:-9])
    drive(study, FakeRunner(at_once), tmp_path)
    assert study.trials[0].values == {"loss": study.trials[0].params["x"]}
