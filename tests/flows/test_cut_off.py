"""What is said of trials that a limit has cut off, and how much more is suggested for them."""

from __future__ import annotations

from typing import Any

import pytest

from flows import Result
from flows._words import ended_badly, what_next
from hpo_core import Float, Segment, Study, StudyStateError, TrialState


def cut_study(
    limit: str, *, steps: int = 0, saved: int = 0, workers: int = 1, max_steps: int | None = None
) -> Study:
    """Its trials took ten seconds each when a limit of 10 was used up; none is complete."""
    study = Study(
        {"x": Float(0.0, 1.0)},
        strategy="random",
        now=100.0,
        limits={"trials": 9, limit: 10},
        settings={"workers": workers, "max_steps": max_steps},
    )
    for _ in range(workers):
        due = study.execution.next(100.0)
        assert isinstance(due, Segment)
        study.execution.started(due, now=100.0)
    for trial in range(workers):
        for step in range(1, steps + 1):
            study.report(trial, step, {"loss": 1.0}, now=100.0 + step)
        if saved:
            study.execution.checkpointed(trial, saved, "here", now=109.0)
    reason = "no trial is complete: the limit of 10 is used up"
    study.stop("failed", reason, now=110.0)
    return study


@pytest.mark.parametrize(
    ("given", "line", "way"),
    [
        ({}, "trial 0 after 10 s; once the study is extended it begins anew, as it has saved no", 32),
        (
            {"steps": 5, "saved": 4},
            "at step 5 after 10 s; once the study is extended it goes on from its",
            20,
        ),
        # Five steps took ten seconds: fifty take a hundred, and 46 of them 92.
        ({"steps": 5, "max_steps": 50}, "trial 0 at step 5 of 50 after 10 s; once the", 120),
        ({"steps": 5, "saved": 4, "max_steps": 50}, "goes on from its checkpoint at step 4", 112),
    ],
)
def test_who_has_no_result_for_lack_of_time_is_told_how_much_it_takes(
    given: dict[str, Any], line: str, way: int
) -> None:
    """Twice the time was suggested, in which a trial that begins anew gets as far as it got before."""
    study = cut_study("seconds", **given)
    (label, said), *others = ended_badly(study)
    assert (label, others) == ("cut off", [])
    assert line in said
    assert what_next(study) == ["hpo show study", f"hpo extend study --timeout {way}"]
    with pytest.raises(StudyStateError, match="no best one: the limit of 10 is used up") as error:
        _ = Result(study=study, name="study", ended="").best
    assert said in str(error.value)
    assert f"hpo extend study --timeout {way}" in str(error.value)


def test_all_that_were_cut_off_take_from_a_limit_on_cost_and_few_are_told_of() -> None:
    study = cut_study("cost", workers=5, steps=5, max_steps=10)
    assert [label for label, _ in ended_badly(study)] == ["cut off"] * 4
    assert ended_badly(study)[-1][1] == "and 2 more"
    # Fifty seconds are spent, and each of the five takes twenty.
    assert what_next(study)[-1] == "hpo extend study --max-cost 160"


def test_a_limit_on_steps_is_raised_by_what_one_trial_takes_at_least() -> None:
    """Of a trial of fifty steps none was begun with ten, nor with the twenty that were suggested."""
    study = Study({"x": Float(0, 1)}, strategy="random", limits={"steps": 10}, settings={"max_steps": 50})
    study.stop("failed", "no trial is complete: the limit of 10 steps has no room for another segment")
    assert what_next(study)[-1] == "hpo extend study --max-total-steps 50"


def test_what_a_limit_on_steps_has_stopped_goes_on_when_it_is_raised() -> None:
    """It was pruned for good, as if it had been worse than others, and with it the only result."""
    study = Study({"x": Float(0, 1)}, strategy="random", limits={"steps": 4})
    trial = study.ask()
    verdict = [study.report(trial, step, 1.0) for step in range(1, 5)][-1]
    assert verdict is not None
    study.execution.checkpointed(trial, 4, "here")
    study.execution.finish(trial, state=TrialState.PRUNED, reason=verdict.reason)
    study.stop("failed", f"no trial is complete: {verdict.reason}")
    (line,) = ended_badly(study)
    assert line == (
        "cut off",
        "trial 0 at step 4; once the study is extended it goes on from its checkpoint at step 4",
    )
    assert what_next(study)[-1] == "hpo extend study --max-total-steps 8"
    study.extend(steps=8)
    again = study.ask()
    assert (again.number, again.start_step) == (0, 4)
