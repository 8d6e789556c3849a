"""What a driver tells the user while a study runs: once, and in time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import OnMessage, Report
from hpo_core import Categorical, Float, Int, Journal, Study, TrialState
from hpo_core.inner import unheard
from tests.flows.fake_runner import FakeRunner, at_once, drive, make_study


def test_what_all_trials_have_to_say_is_told_once(tmp_path: Path) -> None:
    async def alike(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        return Outcome(kind=m.RETURNED, values=1.0, note="began anew")

    lines: list[str] = []
    drive(make_study(tmp_path), FakeRunner(alike, slots=1), tmp_path, tell=lines.append)
    assert lines == ["trial 0 began anew"]


def test_what_an_enqueued_configuration_has_in_vain_is_told(tmp_path: Path) -> None:
    """Its trial was said to be given beforehand, though what was given is not what ran."""
    asked = {"x": Float(0.0, 1.0), "depth": Int(1, 9)}
    found = {name: parameter.to_json() for name, parameter in asked.items()}

    async def asking(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        given = {n: v for n, v in job.params.items() if n in asked and asked[n].contains(v)}
        params = {"x": 0.25, "depth": 2, **given}
        return Outcome(kind=m.RETURNED, values=params["x"], params=params, found=found)

    journal = Journal(tmp_path / "journal.jsonl")
    study = Study(strategy="random", limits={"trials": 4}, journal=journal)
    for params in ({"x": 5}, {"dept": 3, "x": 0.5}, {"x": 1.0, "depth": 9}, {"x": 7}):
        study.enqueue(params)
    lines: list[str] = []
    drive(study, FakeRunner(asking, slots=1), tmp_path, tell=lines.append)
    assert lines == [
        "not tried, as the search space leaves it out: {'x': 7}",
        "trial 0 was enqueued with x=5, which Float(0.0, 1.0) leaves out: it ran with 0.25",
        "trial 1 was enqueued with dept=3, which the objective has not asked for; did you mean 'depth'?",
    ]


def test_a_study_whose_first_trials_all_fail_says_so_while_it_runs(tmp_path: Path) -> None:
    """A misspelt column failed all night, and the reason stood in the last lines; once, and not by chance."""
    failing = {0, 1, 2, 3, 4, 5, 6}

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        if job.trial in failing:
            return Outcome(kind=m.RAISED, reason="KeyError: 'targte'")
        return await at_once(job, on_message, runner)

    def told(name: str, trials: int) -> list[str]:
        lines: list[str] = []
        study = make_study(tmp_path / name, limits={"trials": trials})
        drive(study, FakeRunner(script, slots=1), tmp_path / name, tell=lines.append)
        return lines

    (line,) = told("all", 8)
    assert line.startswith(
        "the first 5 trials have all failed: KeyError: 'targte' (trials 0, 1, 2, 3, 4). The study goes on;"
    )
    assert told("few", 5) == [], "nothing goes on"
    failing.remove(1)
    assert told("some", 8) == []


@pytest.mark.parametrize("first", [0, 3])
def test_what_no_trial_can_ask_for_ends_the_study_at_its_first(tmp_path: Path, first: int) -> None:
    """Every trial of the plan was run to its end, and failed for the strategy's sake.

    ``first``: the trial that asks for it. Where others are complete it may be one branch of many.
    """
    unordered = Categorical(["a", "b", "c"])

    async def asking(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        found = {"kind": unordered.to_json()} if job.trial >= first else {"x": Float(0.0, 1.0).to_json()}
        params = {"kind": "a"} if job.trial >= first else {"x": 0.5}
        return Outcome(kind=m.RETURNED, values=1.0, params=params, found=found)

    study = Study(strategy="cmaes", limits={"trials": 6}, journal=Journal(tmp_path / "journal.jsonl"))
    drive(study, FakeRunner(asking, slots=1), tmp_path)
    assert study.history.count(TrialState.FAILED) == (3 if first else 1)
    assert study.stopped is not None
    if first:
        assert study.stopped.state == "finished"
    else:
        assert study.stopped.state == "failed"
        assert "cannot order the 3 choices of parameter 'kind'" in study.stopped.reason


@pytest.mark.parametrize(
    "strategy, objectives, reported, said",
    [
        (
            "random+asha",
            {"loss": "min"},
            {"acc": 1.0},
            r"never reported loss \(but acc\), by which random\+asha",
        ),
        ("random+median", {"loss": "min"}, {"acc": 1.0}, r"call trial.report\(step, loss=...\)"),
        ({"name": "random+asha", "metric": "auc", "direction": "max"}, {"loss": "min"}, {"loss": 1.0}, "auc"),
        ("random+median", {"a": "min", "b": "min"}, {"a": 1.0}, r"never reported b, by which"),
        ("random+median", {"a": "min", "b": "min"}, {"a": 1.0, "b": 1.0}, ""),
        ("random+median", {"loss": "min"}, {}, ""),
        ("random", {"loss": "min"}, {"acc": 1.0}, ""),
    ],
)
def test_reports_that_the_strategy_cannot_use_are_told_once(
    strategy: Any, objectives: dict[str, str], reported: dict[str, float], said: str, tmp_path: Path
) -> None:
    """All trials were pruned for it without a word, or none, whatever they reported."""

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        if reported:
            await on_message(Report(1, reported))
        if job.target == 1:
            return Outcome(kind=m.PAUSED)
        return Outcome(kind=m.RETURNED, values=dict.fromkeys(objectives, 1.0))

    lines: list[str] = []
    terms = {"strategy": strategy, "objectives": objectives, "settings": {"max_steps": 9}}
    study = make_study(tmp_path, **terms, limits={"trials": 4})
    drive(study, FakeRunner(script, slots=1), tmp_path, tell=lines.append)
    assert len(lines) == bool(said)
    assert re.search(said, "".join(lines))
    if "asha" in str(strategy):
        name = "auc" if "auc" in said else "loss"
        assert {trial.reason for trial in study.trials} == {f"no {name} reported up to step 1"}


def test_trials_that_go_beyond_the_last_step_are_told_once(tmp_path: Path) -> None:
    """The limit on steps was overshot without a word."""

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        for step in range(1, 28):
            await on_message(Report(step, {"loss": 1.0}))
        return Outcome(kind=m.RETURNED, values=1.0)

    lines: list[str] = []
    for end in (27, 9):
        study = make_study(tmp_path / str(end), settings={"max_steps": end}, limits={"trials": 2})
        drive(study, FakeRunner(script, slots=1), tmp_path / str(end), tell=lines.append)
    (line,) = lines
    assert line.startswith(
        "trial 0 went on to step 27, and the study takes trials for complete at max_steps 9, on"
    )


def test_several_objectives_are_compared_where_one_report_has_them_all(tmp_path: Path) -> None:
    study = make_study(
        tmp_path, strategy="random+median", objectives={"a": "min", "b": "max"}, limits={"trials": 1}
    )
    trial = study.ask()
    study.report(trial, 1, {"a": 1.0})
    study.report(trial, 2, {"b": 1.0, "c": 3.0})
    assert unheard(study.strategy, study.history, 0).startswith("never reported a and b at once (but c), by")
    study.report(trial, 3, {"a": 1.0, "b": 2.0})
    assert unheard(study.strategy, study.history, 0) == ""
