"""What must hold after every fault."""

from __future__ import annotations

import itertools
import json
from typing import Any

import psutil
import pytest

from hpo_core import Segment, Study, TrialState
from hpo_core import _events as ev
from hpo_core._journal import read_journal
from tests.faults.harness import Driver
from tracking._states import TRIAL_STATUS


def check_whole(driver: Driver) -> Study:
    """Exact totals, nothing twice, nothing left RUNNING, three views agree, decisions as if unbroken."""
    study = driver.study()
    assert study is not None
    assert study.stopped is not None
    assert study.stopped.state == "finished"
    assert len(study.trials) == driver.trials
    assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in study.trials:
        if trial.state is TrialState.COMPLETE:
            assert trial.values["loss"] == pytest.approx(21 * trial.params["x"])
    check_steps(driver, study)
    check_mlflow(driver, study)
    check_show(driver, study)
    check_decisions(driver)
    return study


def check_cancelled(driver: Driver, reason: str) -> None:
    """Trial processes gone, runs KILLED and `cancelled`, for the reason given."""
    study = driver.study()
    assert study is not None
    assert study.stopped is not None
    assert (study.stopped.state, study.stopped.reason) == ("cancelled", reason)
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.CANCELLED}
    runs = [(run.info.status, run.data.tags["hpo.state"]) for run in runs_of(driver.tracking_uri)]
    assert set(runs[1:]) == {("FINISHED", "complete"), ("KILLED", "cancelled")}
    assert runs[0] == ("KILLED", "cancelled")
    assert not any(map(psutil.pid_exists, driver.trial_pids()))


def check_went_on(driver: Driver) -> None:
    """Trial 3, ended after its second step, went on from its checkpoint, and the plan was finished."""
    check_whole(driver)
    assert (driver.trace / "steps-3").read_text() == "1 1\n1 2\n2 3\n2 4\n2 5\n2 6\n"


def check_mlflow(driver: Driver, study: Study) -> None:
    """MLflow has one run a trial with its outcome, and the study's; none is RUNNING."""
    parent, *children = runs_of(driver.tracking_uri, driver.name)
    assert parent.info.status == "FINISHED"
    assert [int(run.data.tags["hpo.trial"]) for run in children] == list(range(driver.trials))
    for run, trial in zip(children, study.trials, strict=True):
        assert run.info.status == TRIAL_STATUS[trial.state.label]
        assert run.data.tags["hpo.state"] == trial.state.label
        assert run.data.metrics["loss"] == pytest.approx(trial.values["loss"])
        assert run.data.tags["hpo.attempt"] == str(trial.attempt)


def check_show(driver: Driver, study: Study) -> None:
    """The command line tells what the journal has."""
    shown = json.loads(driver.hpo("show", driver.name, "--json").out)
    assert shown["state"] == "finished"
    said = [(t["trial"], t["state"], t["attempt"], t["values"]) for t in shown["trials"]]
    assert said == [(t.number, t.state.label, t.attempt, t.values) for t in study.trials]


def check_steps(driver: Driver, study: Study) -> None:
    """Every step was trained, in order, and a repeated attempt began where a checkpoint allowed it to."""
    for trial in study.trials:
        lines = (driver.trace / f"steps-{trial.number}").read_text().split("\n")
        steps = [int(line.split()[1]) for line in lines if line]
        assert sorted(set(steps)) == list(range(1, trial.step + 1))
        begun = [step for before, step in itertools.pairwise([0, *steps]) if step != before + 1]
        assert len(begun) <= trial.attempt + driver.torn - 1, (trial.number, steps)


def check_decisions(driver: Driver) -> None:
    """Every decision in the journal is the one that an unbroken study takes after the same events."""
    events = [event for _, event, _ in read_journal(driver.study_folder / "journal.jsonl")]
    for at, event in enumerate(events):
        if isinstance(event, ev.TrialAsked):
            due = Study.replay(events[:at]).execution.next(event.at)
            assert isinstance(due, Segment), due
            assert (due.trial, due.params, due.target) == (event.trial, event.params, event.target)
        elif isinstance(event, ev.TrialResumed):
            due = Study.replay(events[:at]).execution.next(event.at)
            assert isinstance(due, Segment), due
            assert (due.trial, due.target) == (event.trial, event.target)


def runs_of(tracking_uri: str, experiment: str = "study") -> list[Any]:
    """Every run of the study, its own first."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = list(client.search_runs([found.experiment_id], max_results=1000))
    return sorted(runs, key=lambda run: int(run.data.tags.get("hpo.trial", -1)))
