"""Which of a trial's results counts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Float, Study, TrialState
from hpo_core._memo import Memo
from hpo_core._moments import deviation, mean
from hpo_core._rule import counting, result
from hpo_core._training import training_set

RULES = ["last", "best", "average-1", "average-3"]
FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)


def by_the_book(values: Sequence[float], rule: str) -> float:
    finite = [v for v in values if math.isfinite(v)]
    if rule == "last" or not finite:
        return values[-1]
    return min(finite) if rule == "best" else float(np.mean(finite[-int(rule[-1]) :]))


@given(st.lists(FINITE | st.just(math.nan), min_size=1, max_size=8), st.sampled_from(RULES))
def test_a_result_is_that_of_the_rule_and_needs_no_more_than_what_counts(
    values: list[float], rule: str
) -> None:
    assert result(values, rule) == pytest.approx(by_the_book(values, rule), nan_ok=True)
    kept: list[float] = []
    for value in values:
        kept = counting([*kept, value], rule)
    assert kept == pytest.approx(counting(values, rule), nan_ok=True)


@given(st.lists(FINITE, min_size=2, max_size=6), st.sampled_from([-900, 0, 990]))
def test_mean_and_deviation_are_those_of_the_same_values_at_any_size(values: list[float], unit: int) -> None:
    scaled = [math.ldexp(v, unit) for v in values]
    assert mean(scaled) == pytest.approx(math.ldexp(statistics.fmean(values), unit), rel=1e-12)
    assert deviation(scaled) == pytest.approx(math.ldexp(statistics.stdev(values), unit), rel=1e-12)


def test_the_mean_of_results_at_the_end_of_all_doubles_is_a_number() -> None:
    most = 1.7e308
    assert mean([most, most, most]) == pytest.approx(most)
    assert deviation([most, most]) == 0.0
    assert deviation([most, -most]) == math.inf
    assert math.isnan(mean([1.0, math.nan]))
    assert mean([1.0, math.inf]) == math.inf


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("rule", RULES)
def test_a_trial_is_worth_the_same_to_its_study_to_a_rung_and_to_a_model(rule: str, direction: str) -> None:
    """Reports of 1.7e308 and reports that leave the objective out included."""
    study = Study(
        {"x": Float(0.0, 1.0)}, {"loss": direction}, {"scheduler": "asha_stopping"},
        settings={"max_steps": 9, "rule": rule},
    )  # fmt: skip
    reported: list[dict[str, Any]] = [
        {"loss": 1.7e308}, {"loss": 3.0}, {"other": 1.0}, {"loss": 1.7e308}, {"loss": 1.5e308}, {"other": 2.0}
    ]  # fmt: skip
    trial = study.ask()
    for step, metrics in enumerate(reported, start=1):
        study.report(trial, step, metrics)
    sign = 1.0 if direction == "min" else -1.0
    expected = result([sign * m["loss"] for m in reported if "loss" in m], rule)
    study.tell(study.ask(), state="pruned")
    found = training_set(study.history, 1, Memo())
    assert (found.step, found.values[0].tolist()) == (5, [expected])
    assert study.execution.finish(trial) is TrialState.COMPLETE
    assert study.history.values[0].tolist() == [expected]


def test_what_a_trial_says_of_other_metrics_is_no_result_of_it() -> None:
    """A loss in training after every step, and the objective every other one.

    To a model the trials of both kinds of steps are the same, and one that has reported no objective yet is
    pending and has not failed. It took everything for a failure once the last step was one without.
    """
    study = Study({"x": Float(0.0, 1.0)}, strategy={"scheduler": "median"}, limits={"trials": 9})
    for value in (0.3, 0.1, 0.2):
        trial = study.ask()
        for step in (1, 2, 3):
            study.report(trial, step, {"loss": value} if step == 2 else {"train": 0.0})
        study.tell(trial, state="pruned")
    study.report(study.ask(), 1, {"train": 0.0})
    found = training_set(study.history, 2, Memo())
    assert (found.step, found.values[:, 0].tolist()) == (2, [0.3, 0.1, 0.2])
    assert found.pending.tolist() == study.history.X[3:].tolist()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("direction", ["min", "max"])
def test_nothing_has_no_sign(direction: str, rule: str) -> None:
    """A maximised 0 was journaled and shown as -0."""
    study = Study({"x": Float(0.0, 1.0)}, objectives={"f1": direction}, settings={"rule": rule})
    reported, told = study.ask(), study.ask()
    study.report(reported, 1, {"f1": 0.0})
    assert study.execution.finish(reported) is TrialState.COMPLETE
    study.tell(told, 0.0)
    assert [math.copysign(1.0, trial.values["f1"]) for trial in study.trials] == [1.0, 1.0]
