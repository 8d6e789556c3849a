"""Studies that end by themselves once nothing worth the trials is left to be won."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_core import Categorical, Float, InputError, Int, MustWait, SearchSpace, Study, StudyFinished
from hpo_core._stopping import GAP, LEAST, expected_gain, last_look
from hpo_core._strategy import Finish, Wait
from hpo_core.testing import Recorder
from tests.hpo_core.studies import LINE, replayed

PLANE = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def bowl(params: dict[str, Any]) -> float:
    """Smallest, 1, at 0.3 in every direction."""
    return 1.0 + sum((float(v) - 0.3) ** 2 for v in params.values())


def study_of(space: SearchSpace, improvement: float | str | None, **more: Any) -> Study:
    limits = {"trials": 120, "improvement": improvement}
    return Study(space, strategy=more.pop("strategy", "random"), limits=limits, **more)


def run(study: Study, noise: float = 0.0, sign: float = 1.0) -> str:
    """Play the study to its end; the reason it gave."""
    while True:
        try:
            trial = study.ask()
        except StudyFinished as end:
            return str(end)
        error = noise * np.random.default_rng([study.created.seed, trial.number]).standard_normal()
        study.tell(trial, sign * bowl(trial.params) + error)


def test_looks_are_five_results_apart_and_later_a_tenth() -> None:
    """As docs/stopping.md has it."""
    looks = {last_look(known) for known in range(73)}
    assert looks == {0, 20, 25, 30, 35, 40, 45, 50, 55, 60, 66, 72}


def test_a_constant_objective_ends_the_study_at_the_first_look() -> None:
    study = study_of(PLANE, "noise")
    while (trial := next_trial(study)) is not None:
        study.tell(trial, 7.0)
    assert study.history.n_trials == last_look(LEAST + 2 * 2 + GAP)
    assert "all of 25 results are 7: the objective is constant" in (study.execution.enough() or "")


def next_trial(study: Study) -> Any:
    try:
        return study.ask()
    except StudyFinished:
        return None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_study_ends_when_less_than_the_tolerance_is_left(sign: float) -> None:
    objectives = {"score": "min" if sign > 0 else "max"}
    study = study_of(PLANE, 0.01, objectives=objectives)
    reason = run(study, sign=sign)
    assert "all further trials are expected to gain" in reason
    assert "less than 0.01" in reason
    assert LEAST < study.history.n_trials < 120
    assert abs(study.best.values["score"]) - 1.0 < 0.02  # it said so, and it was so


def test_a_tolerance_far_below_what_is_left_lets_every_trial_run() -> None:
    study = study_of(PLANE, 1e-12)
    assert "all 120 trials have been started" in run(study)


def test_noise_ends_the_study_only_where_there_is_some() -> None:
    noisy, silent = study_of(LINE, "noise", seed=1), study_of(LINE, "noise", seed=1)
    assert "less than the noise of a result" in run(noisy, noise=0.3)
    run(silent)
    assert noisy.history.n_trials <= silent.history.n_trials


def test_a_failing_objective_is_not_a_settled_one() -> None:
    study = study_of(PLANE, 1e9)
    for _ in range(60):
        study.tell(study.ask(), state="failed")
    assert study.execution.enough() is None


@pytest.mark.parametrize("improvement", [1e9, "noise"])
def test_never_before_the_minimum(improvement: float | str) -> None:
    space = SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(6)})
    study = study_of(space, improvement, strategy="sobol")
    for _ in range(LEAST + 2 * 6 - 1):
        study.tell(study.ask(), bowl({"x": 0.5}))
    assert study.execution.enough() is None


def test_the_decision_is_the_same_on_replay_and_holds_between_looks() -> None:
    journal = Recorder()
    space = SearchSpace({"x": Float(0.0, 1.0), "kind": Categorical(["a", "b", "c"])})
    study = Study(space, strategy="random", limits={"improvement": "noise"}, journal=journal)
    before: str | None = None
    for number in range(60):
        noise = 0.1 * np.random.default_rng(number).standard_normal()
        study.observe({"x": number / 59, "kind": "abc"[number % 3]}, bowl({"x": number / 59}) + noise)
        if number % 7 == 0:
            assert replayed(journal).execution.enough() == study.execution.enough()
        if last_look(number + 1) < number + 1:
            assert study.execution.enough() == before
        before = study.execution.enough()
    assert before is not None


def test_what_runs_may_finish_and_what_was_asked_for_by_name_still_runs() -> None:
    study = study_of(LINE, 1e9, settings={"workers": 2})
    for number in range(LEAST + GAP - 1):
        study.tell(study.ask(), 0.1 * number)
    last, other = study.ask(), study.ask()
    study.tell(last, 3.0)
    assert isinstance(study.execution.next(), Wait)
    with pytest.raises(MustWait, match="expected to gain"):
        study.ask()
    study.enqueue({"x": 0.123})
    asked = study.ask()
    assert asked.params == {"x": 0.123}
    study.tell(asked, 2.0)
    study.tell(other, 2.0)
    assert isinstance(study.execution.next(), Finish)
    study.extend(improvement="never")
    assert study.ask().number == study.history.n_trials - 1


def test_limits_that_make_no_sense_are_refused() -> None:
    for value in (0, -1.0, "nois", float("nan"), float("inf"), True):
        with pytest.raises(InputError, match="'noise' or 'never' or a positive number"):
            study_of(LINE, value)
    with pytest.raises(InputError, match=r"improvement \(--stop-when\) is for one objective"):
        study_of(LINE, "noise", objectives={"a": "min", "b": "max"})


DEGENERATE: dict[str, tuple[SearchSpace, Any]] = {
    "huge values": (PLANE, lambda n, u: 1e300 * u[0]),
    "values that span more than a double": (PLANE, lambda n, u: -1.7e308 if n % 2 else 1.7e308),
    "one value but for an outlier": (PLANE, lambda n, u: float(n == 11)),
    "two values": (SearchSpace({"c": Categorical(["a", "b"])}), lambda n, u: float(n % 2)),
    "duplicates of different value": (SearchSpace({"i": Int(0, 1)}), lambda n, u: float(n)),
    "a huge categorical": (SearchSpace({"c": Categorical(list(range(3000)))}), lambda n, u: u[0]),
    "sixty columns": (SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(60)}), lambda n, u: u[0]),
    "conditions": (
        SearchSpace({"c": Categorical(["a", "b"]), "x": Float(0.0, 1.0).when("c", "a")}),
        lambda n, u: float(np.nansum(u)) + 0.01 * n,
    ),
    "hard constraints": (
        SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, constraints=["x + y <= 0.1"]),
        lambda n, u: u[0] - u[1],
    ),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_results_are_looked_at_without_a_warning(case: str) -> None:
    space, value = DEGENERATE[case]
    rng = np.random.default_rng(0)
    journal = Recorder()
    study = Study(space, strategy="random", limits={"improvement": "noise"}, journal=journal)
    for number, u in enumerate(space.sample(rng, LEAST + 2 * space.dims + 15)):
        study.observe(space.decode(u), value(number, u))
    reason = study.execution.enough()
    assert replayed(journal).execution.enough() == reason
    assert reason is None or ("nan" not in reason and "inf" not in reason)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-9, 1e-3, 1e3, 1e12]),
    shift=st.floats(-100.0, 100.0),
)
def test_the_gain_is_in_the_units_of_the_values(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    X = PLANE.sample(rng, 30)
    y = ((X - 0.3) ** 2).sum(axis=1) + 0.05 * rng.standard_normal(30)
    gain, noise = expected_gain(PLANE, X, y, np.random.default_rng(0))
    scaled = expected_gain(PLANE, X, scale * (y + shift), np.random.default_rng(0))
    assert 0.0 <= gain <= 4 * np.ptp(y)
    assert noise > 0.0
    assert scaled == pytest.approx((scale * gain, scale * noise), rel=0.05)


def test_the_gain_is_what_is_left_on_average() -> None:
    """Against functions drawn from a Gaussian process: the mean of what the rule expects and of the truth."""
    rng = np.random.default_rng(4)
    grid = (np.arange(200)[:, None] + 0.5) / 200
    covariance = np.exp(-(np.abs(grid - grid.T) ** 2) / (2 * 0.15**2)) + 1e-8 * np.eye(200)
    factor = np.linalg.cholesky(covariance)
    expected, true = [], []
    for _ in range(25):
        f = factor @ rng.standard_normal(200)
        rows = rng.choice(200, 8, replace=False)
        expected.append(expected_gain(LINE, grid[rows], f[rows], rng)[0])
        true.append(f[rows].min() - f.min())
    # 25 functions, each with a deviation of about 0.4: the means differ by less than 0.25 (three sigma).
    assert abs(np.mean(expected) - np.mean(true)) < 0.25
    assert np.corrcoef(expected, true)[0, 1] > 0.3
