"""The simulator: time adds up, decisions are the study's own, and faults happen as asked."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_core import Float, InputError, Int, Study, TrialState
from hpo_core.schedulers import ASHA, SuccessiveHalving
from hpo_core.simulate import Curves, Faults, Run, Table, simulate
from hpo_core.testing import Recorder
from tests.hpo_core.scheduler_loop import make_study

CURVES = Curves(lambda p, step: (p["x"] - 0.3) ** 2 + 0.5 / step)


def study_of(strategy: str, trials: int = 20, seed: int = 0, max_steps: int = 9, **options: object) -> Study:
    return Study(
        {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)},
        strategy=strategy,
        seed=seed,
        limits={"trials": trials, **options},
        settings={"max_steps": max_steps},
    )


def test_one_worker_takes_the_sum_and_many_take_their_share() -> None:
    """20 trials of 9 s: 180 s alone, 45 s by four, 9 s by twenty or more."""
    for workers, makespan in ((1, 180.0), (4, 45.0), (20, 9.0), (50, 9.0)):
        result = simulate(study_of("random"), CURVES, workers=workers, steps=9)
        assert result.makespan == pytest.approx(makespan)
        assert result.busy == pytest.approx(180.0)
        assert result.utilisation() == pytest.approx(min(1.0, 20 / workers))
        assert result.study.history.count(TrialState.COMPLETE) == 20


def test_utilisation_up_to_a_time_counts_what_ran_by_then() -> None:
    """20 trials of 9 s by 16 workers: all run for 9 s, then four of them for another 9 s."""
    result = simulate(study_of("random"), CURVES, workers=16, steps=9)
    assert result.utilisation(5.0) == result.utilisation(9.0) == pytest.approx(1.0)
    assert result.utilisation(13.5) == pytest.approx((16 * 9 + 4 * 4.5) / (16 * 13.5))
    assert result.utilisation() == pytest.approx(180 / (16 * 18))
    assert result.utilisation(0.0) == 0.0


@settings(max_examples=30)
@given(
    strategy=st.sampled_from(["random", "random+asha", "random+hyperband", "random+median", "random+pbt"]),
    workers=st.integers(1, 12),
    seed=st.integers(0, 1000),
    every=st.integers(1, 4),
    crash=st.sampled_from([0.0, 0.3]),
    vanish=st.sampled_from([0.0, 0.3]),
    nan=st.sampled_from([0.0, 0.3]),
)
def test_runs_never_overlap_and_the_study_is_closed(
    strategy: str, workers: int, seed: int, every: int, crash: float, vanish: float, nan: float
) -> None:
    """A worker runs one segment at a time, a trial is in one place at a time, and nothing stays open."""
    study = study_of(strategy, seed=seed)
    curves = Curves(CURVES.value, lambda p, step: 0.5 + p["y"])
    faults = Faults(crash=crash, vanish=vanish, nan=nan, straggle=0.1, replace=3.0, seed=seed)
    result = simulate(study, curves, workers=workers, steps=9, report_every=every, faults=faults)
    for of in (lambda run: run.worker, lambda run: run.trial):
        lanes: dict[int, list[Run]] = {}
        for run in sorted(result.runs, key=lambda r: (r.start, r.end)):
            lanes.setdefault(of(run), []).append(run)
        for lane in lanes.values():
            assert all(a.end <= b.start + 1e-9 for a, b in itertools.pairwise(lane))
    assert {run.worker for run in result.runs} <= set(range(workers))
    assert study.stopped is not None
    assert not len(study.history.pending)
    assert 0.0 < result.utilisation() <= 1.0 + 1e-9
    values = [i.value for i in result.incumbents]
    assert values == sorted(values, reverse=True)
    finished = sum(t.busy_seconds for t in study.trials)
    assert result.busy == pytest.approx(finished), "the study's own accounts agree with the clock"


def test_the_same_simulation_twice_is_the_same() -> None:
    """Faults included: nothing depends on the machine."""
    faults = Faults(crash=0.2, vanish=0.2, nan=0.1, straggle=0.2, seed=5)
    first, second = (
        simulate(study_of("random+asha"), CURVES, workers=5, steps=9, faults=faults) for _ in range(2)
    )
    assert first.runs == second.runs
    assert first.incumbents == second.incumbents


def test_faults_come_as_often_as_asked() -> None:
    """Of 600 attempts, within five standard deviations (0.1); only lost segments are repeated."""
    for name, outcome in (("crash", "failed"), ("vanish", "lost")):
        faults = Faults(**{name: 0.3})  # type: ignore[arg-type]
        result = simulate(study_of("random", trials=600), CURVES, workers=20, steps=9, faults=faults)
        outcomes = [run.outcome for run in result.runs]
        assert abs(outcomes.count(outcome) / len(outcomes) - 0.3) < 0.1
        if name == "crash":
            assert len(outcomes) == 600
        else:
            complete = result.study.history.count(TrialState.COMPLETE)
            assert complete + result.study.history.count(TrialState.LOST) == 600
            assert complete > 590
    diverged = simulate(study_of("random", trials=300), CURVES, workers=20, steps=9, faults=Faults(nan=0.5))
    assert abs(diverged.study.history.count(TrialState.FAILED) / 300 - 0.5) < 0.15


def test_reports_come_at_every_so_many_steps_at_targets_and_at_the_end() -> None:
    study = study_of("random+successive_halving", trials=9)
    simulate(study, CURVES, workers=2, steps=8, report_every=5)
    rows = [study.history.reports_of(t.number) for t in study.trials if t.state is TrialState.COMPLETE]
    assert [study.history.reports.steps[r].tolist() for r in rows] == [[1, 3, 5, 8]]


@pytest.mark.parametrize(("faults", "outcome"), [(Faults(crash=0.5), "failed"), (Faults(vanish=0.5), "lost")])
def test_what_goes_wrong_does_so_at_any_step_that_is_yet_to_be_trained(faults: Faults, outcome: str) -> None:
    """Of resumed trials, too, half of which it hits (to five standard errors), wherever reports are due."""
    study = study_of("random+successive_halving", trials=250)
    result = simulate(study, CURVES, workers=9, steps=9, report_every=9, faults=faults)
    steps = {run.to_step for run in result.runs if run.outcome == outcome and run.from_step == 3}
    assert steps == {4, 5, 6, 7, 8, 9}
    resumed = [run.outcome == outcome for run in result.runs if run.from_step]
    assert np.mean(resumed) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(resumed)))
    assert len(resumed) > 50


def test_a_study_of_failures_ends_as_failed() -> None:
    study = study_of("random", failures=2)
    result = simulate(study, CURVES, workers=1, steps=9, faults=Faults(crash=1.0))
    assert study.stopped is not None
    assert (study.stopped.state, study.stopped.reason) == ("failed", result.ended)


def test_virtual_time_begins_when_the_study_was_last_heard_of() -> None:
    study = Study({"x": Float(0.0, 1.0)}, strategy="random", limits={"trials": 2}, now=1000.0)
    result = simulate(study, CURVES, workers=1, steps=3)
    assert result.makespan == 6.0
    assert [t.started_at for t in study.trials] == [1000.0, 1003.0]
    assert study.state.seconds_spent == 6.0


def test_stragglers_and_replacements_take_time() -> None:
    """Every attempt ten times slower takes ten times as long; a lost worker is away for a while."""
    slow = simulate(study_of("random"), CURVES, workers=2, steps=9, faults=Faults(straggle=1.0))
    assert slow.makespan == pytest.approx(10 * 90.0)
    gone = simulate(study_of("random"), CURVES, workers=1, steps=9, faults=Faults(vanish=1.0, replace=100.0))
    starts = [run.start for run in gone.runs]
    assert all(b - a >= 100.0 for a, b in itertools.pairwise(starts))
    assert gone.study.history.count(TrialState.LOST) == 20


def test_promotions_go_on_from_checkpoints() -> None:
    """A resumed segment begins where its trial paused, and no step is trained twice."""
    study = study_of("random+asha", trials=30)
    result = simulate(study, CURVES, workers=4, steps=9)
    for trial in study.trials:
        own = [r for r in result.runs if r.trial == trial.number]
        assert [r.from_step for r in own] == [0, *(r.to_step for r in own[:-1])]
    assert result.busy == pytest.approx(study.state.steps_spent)


def test_lost_workers_cost_the_steps_since_the_checkpoint() -> None:
    """The repeated attempt starts from the last pause, and its old reports count once."""
    study = study_of("random+asha", trials=30)
    result = simulate(study, CURVES, workers=4, steps=9, faults=Faults(vanish=0.3, seed=2))
    assert result.busy > study.state.steps_spent
    for run in result.runs:
        pauses = {0, *study.trials[run.trial].checkpoints}
        assert run.from_step in pauses


def test_the_clock_can_be_stopped() -> None:
    """What runs at that time is cancelled and its time counts; the study is finished."""
    result = simulate(study_of("random", trials=100), CURVES, workers=3, steps=9, until=20.0)
    assert result.makespan == 20.0
    assert result.busy == pytest.approx(60.0)
    assert result.study.history.count(TrialState.COMPLETE) == 6
    assert result.study.history.count(TrialState.CANCELLED) == 3
    assert result.study.stopped is not None
    result = simulate(study_of("random", trials=100), CURVES, workers=1, steps=9, until=18.0)
    assert result.study.history.count(TrialState.COMPLETE) == 2, "what ends at that time has ended"


def test_a_limit_on_seconds_is_the_studys_own() -> None:
    """Nothing starts after it; what runs may end."""
    study = study_of("random", trials=100, seconds=20.0)
    result = simulate(study, CURVES, workers=1, steps=9)
    assert [run.start for run in result.runs] == pytest.approx([0.0, 9.0, 18.0])
    assert "20 s" in result.ended


def test_anytime_curve() -> None:
    """NaN before the first report; then the best so far, in the objective's direction."""
    study = Study(
        {"x": Float(0.0, 1.0)}, {"score": "max"}, "random", limits={"trials": 5}, settings={"max_steps": 4}
    )
    result = simulate(study, Curves(lambda p, step: p["x"] * step), workers=1, steps=4)
    best = result.best_at([0.0, 0.5, 1.0, 4.0, 1000.0])
    assert np.isnan(best[:2]).all()
    assert best[3] == 4 * best[2]
    assert best[4] == max(4 * t.params["x"] for t in study.trials)


def test_what_is_no_number_is_no_best_result() -> None:
    """As in the study itself, where a loss that is infinite on the good side is a failure, too."""
    values = {1: -math.inf, 2: 0.5, 3: math.nan, 4: 0.25}
    study = Study({"x": Float(0.0, 1.0)}, strategy="random", limits={"trials": 1})
    result = simulate(study, Curves(lambda params, step: values[step]), workers=1, steps=4)
    assert [(i.step, i.value) for i in result.incumbents] == [(2, 0.5), (4, 0.25)]


def test_recorded_runs_are_replayed() -> None:
    """A table of three configurations: values and seconds are those of its rows."""
    losses = np.array([[3.0, 2.0], [5.0, 1.0], [4.0, 4.0]])
    table = Table(
        {"loss": losses, "extra": losses * 10},
        np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]),
        lambda p: p["i"],
    )
    study = Study({"i": Int(0, 2)}, strategy="grid", settings={"max_steps": 2}, limits={"trials": 9})
    result = simulate(study, table, workers=1, steps=2)
    assert result.makespan == 12.0
    assert study.best.params == {"i": 1}
    assert sorted(t.values["loss"] for t in study.trials) == [1.0, 2.0, 4.0]
    assert [t.metrics["extra"] for t in study.trials] == [10 * t.values["loss"] for t in study.trials]


def test_lengths_may_differ_between_trials() -> None:
    """``steps`` as a function: a trial that ends before its rung does not hold the rung up."""
    study, _ = make_study(SuccessiveHalving(), limits={"trials": 9}, settings={"max_steps": 9})
    simulate(study, CURVES, workers=3, steps=lambda p: 2 if p["x"] < 0.5 else 9)
    short = [t for t in study.trials if t.params["x"] < 0.5 and t.state is TrialState.COMPLETE]
    assert short
    assert all(t.step == 2 for t in short)


def test_asha_keeps_five_hundred_workers_busy() -> None:
    """Log-normal durations: above 95 % for as long as there are configurations to start."""
    lognormal = Curves(CURVES.value, lambda p, step: math.exp(NormalDist().inv_cdf(0.001 + 0.998 * p["y"])))
    study, _ = make_study(ASHA(), limits={"trials": 1000}, settings={"max_steps": 81})
    result = simulate(study, lognormal, workers=500, steps=81, report_every=81)
    assert result.starved_at is not None
    assert result.utilisation(result.starved_at) > 0.95


def test_a_journal_of_a_simulation_replays() -> None:
    """The events are those of a real study; what they fold to is what was simulated."""
    study, journal = make_study(ASHA(), limits={"trials": 15})
    assert isinstance(journal, Recorder)
    simulate(study, CURVES, workers=3, steps=9, faults=Faults(crash=0.2, vanish=0.2))
    again = Study.replay(journal.events())
    assert [t.state for t in again.trials] == [t.state for t in study.trials]
    assert again.best.values == study.best.values


def test_what_cannot_be_simulated_is_refused() -> None:
    """No workers, and probabilities that are none."""
    with pytest.raises(InputError, match="workers"):
        simulate(study_of("random"), CURVES, workers=0, steps=9)
    with pytest.raises(InputError, match="crash"):
        Faults(crash=1.5)
    for make in (lambda: Faults(slowdown=0.0), lambda: Faults(replace=-1.0)):
        with pytest.raises(InputError, match="slowdown must be positive and replace not negative"):
            make()
