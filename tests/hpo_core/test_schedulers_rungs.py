"""Rung and bracket arithmetic is integer arithmetic, and equals the paper's table."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Float, Segment, StrategyError, Study, TrialState
from hpo_core._events import SegmentStarted, TrialAsked
from hpo_core._strategies import compose
from hpo_core._strategy import Finish
from hpo_core.samplers import Random
from hpo_core.schedulers import (
    ASHA,
    PBT,
    ASHAStopping,
    Full,
    Hyperband,
    Levels,
    Median,
    Patience,
    Percentile,
    Race,
    SuccessiveHalving,
    Wilcoxon,
)
from hpo_core.schedulers._rungs import halving_sizes, hyperband_brackets, rung_steps
from hpo_core.schedulers._timing import SettingUp, worthwhile
from hpo_core.simulate import Curves, simulate
from tests.hpo_core.scheduler_loop import make_study


@pytest.mark.parametrize(
    "most, eta, rungs",
    [
        (243, 3, 6),
        (1000, 10, 4),
        (81, 3, 5),
        (125, 5, 4),
        (1, 3, 1),
        (2, 3, 1),
        (4**10, 4, 11),
        (3**20, 3, 21),
    ],
)
def test_no_rung_is_lost_to_a_logarithm(most: int, eta: int, rungs: int) -> None:
    """floor(log(243, 3)) is 4 in floats; there are five rungs below 243, and as many brackets as rungs."""
    assert len(rung_steps(most, eta)) == rungs
    assert len(hyperband_brackets(most, eta)) == rungs


def test_table_1_of_the_paper() -> None:
    """R = 81, eta = 3: configurations and steps of each rung, and the budget of (s_max + 1) R per bracket."""
    brackets = hyperband_brackets(81, 3)
    rows = [list(zip(b.sizes, b.steps, strict=True)) for b in brackets]
    assert rows == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(27, 3), (9, 9), (3, 27), (1, 81)],
        [(9, 9), (3, 27), (1, 81)],
        [(6, 27), (2, 81)],
        [(5, 81)],
    ]
    assert [b.budget for b in brackets] == [405, 324, 243, 324, 405]
    assert all(b.budget <= 5 * 81 for b in brackets)
    assert brackets[0].resumed_budget == 81 + 27 * 2 + 9 * 6 + 3 * 18 + 54


@pytest.mark.parametrize("end", [None, 0, 2.5])
def test_rungs_need_an_end(end: Any) -> None:
    """A scheduler may leave its own open; without one there is nothing to divide."""
    with pytest.raises(StrategyError, match="rungs: max_steps must be a whole number of at least 1"):
        rung_steps(end, 3)


@given(most=st.integers(1, 10**6), eta=st.integers(2, 10), least=st.integers(1, 50))
def test_rungs_ascend_by_the_factor_and_end_at_the_end(most: int, eta: int, least: int) -> None:
    """Whatever the end is, the last rung is the end and none lies below the least step."""
    if least > most:
        with pytest.raises(StrategyError, match="min_steps"):
            rung_steps(most, eta, least)
        return
    steps = rung_steps(most, eta, least)
    assert steps[-1] == most
    assert steps[0] >= least
    assert all(b // eta == a for a, b in pairwise(steps))
    assert steps[0] < least * eta, "another rung would have fitted below"
    for bracket in hyperband_brackets(most, eta, least):
        assert bracket.steps == steps[len(steps) - len(bracket.steps) :]
        assert all(a == max(b // eta, 1) for b, a in pairwise(bracket.sizes))


@given(
    most=st.integers(1, 2000),
    eta=st.integers(2, 5),
    least=st.integers(1, 20),
    worth=st.floats(0.0, 1e4),
    more=st.floats(0.0, 1e4),
)
def test_rungs_are_left_out_only_where_setting_up_costs(
    most: int, eta: int, least: int, worth: float, more: float
) -> None:
    """None where it costs nothing or was not measured; else those that are left lie far enough apart."""
    steps = rung_steps(max(most, least), eta, least)
    assert worthwhile(steps, eta, None) == worthwhile(steps, eta, 0.0) == steps
    kept = worthwhile(steps, eta, worth)
    assert kept[0] == steps[0]
    assert kept[-1] == steps[-1]
    assert set(kept) <= set(steps)
    far = [(worth + b) / (worth + a) >= eta**0.5 * (1 - 1e-9) for a, b in pairwise(kept)]
    assert len(kept) <= 2 or all(far)
    assert len(worthwhile(steps, eta, worth + more)) <= len(kept)


def test_a_first_step_that_is_worth_fifteen_leaves_one_rung_below_the_end_and_the_lowest() -> None:
    """Times 15, 17, 23, 41, 95: 17 and 23 are near to 15, 41 is not, and 95 is not near to 41."""
    steps = (1, 3, 9, 27, 81)
    assert worthwhile(steps, 3, 14.0) == (1, 27, 81)
    assert worthwhile(steps, 3, 8.0) == (1, 9, 27, 81)
    assert worthwhile(steps, 3, 500.0) == (1, 81)


def test_the_end_is_a_rung_like_the_others() -> None:
    """Times 7, 8, 10, 14: 10 is far enough from 7, and so near to 14 that the end makes up for it."""
    assert worthwhile((1, 2, 4, 8), 2, 6.0) == (1, 8)
    assert worthwhile((1, 2, 4, 9), 2, 6.0) == (1, 4, 9)
    assert worthwhile((1, 2, 4), 2, 6.0) == (1, 4)


def test_a_rung_is_held_against_the_one_that_was_kept_below() -> None:
    """Times 15, 16, 18, 22, 30, 46, 78: 22 is far from 15, and 30 from 15 but not from 22."""
    assert worthwhile((1, 2, 4, 8, 16, 32, 64), 2, 14.0) == (1, 8, 32, 64)
    # Times 3, 6, 18: what is as near to one as to the other stays.
    assert worthwhile((1, 4, 16), 4, 2.0) == (1, 4, 16)


def _times_of(study: Study, trial: int, at: list[tuple[int, float]]) -> None:
    for step, now in at:
        study.report(trial, step, 1.0, now)


def test_setting_up_is_measured_in_steps_of_the_same_trial() -> None:
    """Segments that report twice tell it; pauses, repeated attempts and clocks that stand still do not."""
    study = Study({"x": Float(0, 1)}, strategy="random+asha", settings={"max_steps": 27})
    measured = SettingUp()

    def begin(now: float) -> int:
        due = study.execution.next(now)
        assert isinstance(due, Segment)
        study.execution.started(due, now=now)
        return due.trial

    def worth() -> float | None:
        measured.catch_up(study.history)
        again = SettingUp()
        again.catch_up(study.history)
        assert again.steps == measured.steps
        return measured.steps

    first = begin(10.0)
    _times_of(study, first, [(1, 15.0)])  # five seconds to the first step
    assert worth() is None
    _times_of(study, first, [(3, 16.0)])  # half a second for each further one: 5 / 0.5 - 1
    assert worth() == pytest.approx(9.0)
    assert study.history.reports.seconds.tolist() == [5.0, 1.0]
    assert study.history.reports.first.tolist() == [True, False]
    study.execution.lost(first, "gone", now=20.0)
    assert begin(30.0) == first
    _times_of(study, first, [(4, 90.0)])  # a minute to get back to where it was
    assert worth() == pytest.approx(9.0)
    second = begin(100.0)
    _times_of(study, second, [(1, 102.0), (2, 103.0)])
    assert worth() == pytest.approx((9.0 + 1.0) / 2)
    third = begin(110.0)
    _times_of(study, third, [(1, 111.0), (2, 111.0)])
    assert worth() == pytest.approx((9.0 + 1.0) / 2)
    for at in (200.0, 300.0, 400.0):  # the first step took a fifth of the others: it costs nothing to begin
        _times_of(study, begin(at), [(1, at + 1.0), (2, at + 6.0)])
    assert worth() == 0.0


def test_a_trial_whose_beginning_nobody_timed_does_not_tell_what_it_cost() -> None:
    study = Study({"x": Float(0, 1)}, strategy="random+asha", settings={"max_steps": 27})
    due = study.execution.next()
    assert isinstance(due, Segment)
    study.execution.started(due)
    _times_of(study, due.trial, [(1, 10.0), (2, 11.0), (3, 12.0)])
    measured = SettingUp()
    measured.catch_up(study.history)
    assert measured.steps is None


def test_setting_up_a_fork_is_none_of_a_trial_that_begins() -> None:
    """It goes on from a checkpoint, which may take as long as anything."""
    study = Study({"x": Float(0, 1)}, strategy="random", settings={"max_steps": 9})
    parent = study.ask(now=10.0)
    study.report(parent, 1, 1.0, now=11.0)
    fork = TrialAsked(at=20.0, trial=1, params={"x": 0.5}, parent=0, start_step=1)
    study._log.append(fork)
    study._log.append(SegmentStarted(at=20.0, trial=1, attempt=1))
    _times_of(study, 1, [(2, 90.0), (3, 91.0)])
    measured = SettingUp()
    measured.catch_up(study.history)
    assert measured.steps is None


def test_a_study_without_times_keeps_the_rungs_of_the_paper() -> None:
    study = Study({"x": Float(0, 1)}, strategy="random+asha", settings={"max_steps": 27})
    trial = study.ask()
    study.report(trial, 1, 1.0)
    assert np.isnan(study.history.reports.seconds).all()
    measured = SettingUp()
    measured.catch_up(study.history)
    assert measured.steps is None


@pytest.mark.parametrize("timed", [False, True])
def test_dear_first_steps_make_asha_stop_less_often(timed: bool) -> None:
    """Twenty seconds to begin and one for each further step, so that step 9 is hardly dearer than step 1."""
    study = Study(
        {"x": Float(0, 1)},
        strategy={"sampler": "random", "scheduler": {"name": "asha", "timed": timed}},
        limits={"trials": 200},
        settings={"max_steps": 81},
    )
    curves = Curves(lambda p, s: p["x"] + 1 / s, lambda p, s: 20.0 if s == 1 else 1.0)
    done = simulate(study, curves, workers=4, steps=81, until=2500.0)
    stops = Counter(run.to_step for run in done.runs if run.outcome == "paused")
    complete = study.history.count(TrialState.COMPLETE)
    if timed:
        assert stops[3] + stops[9] <= 4  # before it was known, by one worker each
        assert complete >= 10
    else:
        assert stops[3] > stops[9] > stops[27] >= 3
        assert complete <= 5


@given(trials=st.integers(1, 500), rungs=st.integers(1, 8), eta=st.integers(2, 6))
def test_a_bracket_leaves_one_trial_at_least(trials: int, rungs: int, eta: int) -> None:
    """Sizes never rise, and the last rung is never empty."""
    sizes = halving_sizes(trials, rungs, eta)
    assert sizes[0] == trials
    assert min(sizes) >= 1
    assert all(a >= b for a, b in pairwise(sizes))


@given(trials=st.integers(1, 300), end=st.integers(1, 200), eta=st.integers(2, 5))
def test_a_cut_bracket_is_one_of_fewer_trials(trials: int, end: int, eta: int) -> None:
    """Never larger than the whole one, and whole when there are trials enough."""
    for bracket in hyperband_brackets(end, eta):
        cut = bracket.cut(trials, eta)
        assert cut.steps == bracket.steps
        assert all(1 <= a <= b for a, b in zip(cut.sizes, bracket.sizes, strict=True))
        assert cut.sizes[0] == min(trials, bracket.sizes[0])


@given(trials=st.integers(1, 200), workers=st.integers(1, 50))
def test_plans_add_up(trials: int, workers: int) -> None:
    """Steps of a plan are those of its rungs; wall time lies between perfect sharing and one worker."""
    for scheduler in (Hyperband(), SuccessiveHalving(), ASHA(), Levels(), ASHA(brackets=3)):
        plan = scheduler.explain(trials, 81)
        below: dict[int, int] = {}
        steps = 0
        for bracket, _, n, step in plan.rungs:
            steps += n * (step - below.get(bracket, 0))
            below[bracket] = step
        assert (plan.total_steps, plan.total_trials) == (steps, trials)
        seconds = plan.seconds(workers, 2.0)
        assert seconds is not None
        assert 2.0 * steps / workers <= seconds * (1 + 1e-9)
        assert seconds <= 2.0 * steps
        assert plan.seconds(1, 2.0) == pytest.approx(2.0 * steps)
        begun = sum(n for _, _, n, _ in plan.rungs)
        assert plan.seconds(1, 2.0, 5.0) == pytest.approx(2.0 * steps + 5.0 * begun)
        anew = plan.trained_anew()
        assert anew.total_steps == sum(n * step for _, _, n, step in plan.rungs)
        assert anew.seconds(1, 2.0) == pytest.approx(2.0 * anew.total_steps)


def test_the_most_that_training_anew_can_cost_has_the_budgets_below_the_last() -> None:
    """Shares of the rows are trained on at a ninth and a third of them before all: 13 steps, not 9."""
    stopped = Median().explain(7, 9).trained_anew()
    assert (stopped.total_steps, stopped.most) == (7 * (1 + 3 + 9), True)
    assert Full().explain(7, 9).trained_anew().total_steps == 7 * 9


@pytest.mark.parametrize("scheduler", [ASHA(brackets=2), ASHAStopping(), Levels()])
def test_the_plan_of_no_number_of_trials_has_no_total(scheduler: ASHA | ASHAStopping | Levels) -> None:
    plan = scheduler.explain(None, 81)
    assert (plan.total_steps, plan.total_trials) == (None, None)


@pytest.mark.parametrize(("scheduler", "on"), [(ASHA(brackets=2), 1), (ASHAStopping(brackets=2), 2)])
def test_the_plan_of_a_small_study_has_one_trial_at_the_end(scheduler: ASHA | ASHAStopping, on: int) -> None:
    """In the first bracket, where there is any; the others get what their share is. What is stopped and not
    paused is compared with nobody at first.
    """
    rungs = scheduler.explain(4, 9).rungs
    second = ((1, 0, 1, 3), (1, 1, 1, 9))[:on]
    assert rungs == ((0, 0, 3, 1), (0, 1, on, 3), (0, 2, on, 9), *second)
    assert [bracket for bracket, *_ in scheduler.explain(2, 9).rungs] == [0, 0, 0]


@pytest.mark.parametrize("scheduler", [ASHA(timed=False), ASHA(timed=False, brackets=3), ASHAStopping()])
@pytest.mark.parametrize("trials", [100, 300])
def test_the_plan_of_an_asynchronous_study_is_what_it_costs(
    scheduler: ASHA | ASHAStopping, trials: int
) -> None:
    """It said up to a half of that: as though only one in eta of all went on."""
    plan = scheduler.explain(trials, 81)
    spent = []
    for seed in range(12):
        study, _ = make_study(scheduler, seed=seed, limits={"trials": trials}, settings={"max_steps": 81})
        simulate(study, Curves(lambda p, s: p["x"] + 0.1 * math.sin(1e3 * p["y"] * s)), workers=4, steps=81)
        spent.append(study.state.steps_spent)
    assert not plan.exact
    assert plan.total_steps == pytest.approx(np.mean(spent), rel=0.2)


def test_a_plan_of_very_many_trials_is_one_of_fewer_in_proportion() -> None:
    few, many = (ASHA().explain(n, 9).rungs for n in (10_000, 1_000_000))
    assert [n * 100 for _, _, n, _ in few] == [n for _, _, n, _ in many]


def test_exact_plans_come_true() -> None:
    """Hyperband and halving cost what explain() says, to the step; so do the levels."""
    for strategy in ("random+hyperband", "random+successive_halving", "random+levels"):
        for trials in (7, 100, 143):
            for workers in (1, 16):
                study = Study(
                    {"x": Float(0, 1)},
                    strategy=strategy,
                    limits={"trials": trials},
                    settings={"max_steps": 81},
                )
                plan = study.strategy.explain(trials, 81)
                simulate(study, Curves(lambda p, s: p["x"] + 1 / s), workers=workers, steps=81)
                assert plan.exact
                assert study.state.steps_spent == plan.total_steps, (strategy, trials, workers)
                assert study.history.n_trials == plan.total_trials


@pytest.mark.parametrize(
    "make",
    [
        lambda: ASHA(eta=1),
        lambda: ASHA(eta=2.5),  # type: ignore[arg-type]
        lambda: ASHA(min_steps=0),
        lambda: ASHA(brackets=0),
        lambda: ASHA(baseline="yes"),  # type: ignore[arg-type]
        lambda: ASHA(timed=1),  # type: ignore[arg-type]
        lambda: Hyperband(rounds=0),
        lambda: SuccessiveHalving(trials=0),
        lambda: Levels(levels=(0.5, 0.1, 1.0), shares=(1.0, 0.5, 0.1)),
        lambda: Levels(levels=(0.1, 0.5), shares=(1.0, 0.5)),
        lambda: Levels(shares=(0.5, 0.4, 0.3, 0.2)),
        lambda: Levels(levels=(), shares=()),
        lambda: Levels(levels=(0.5, 1.0), shares=(1.0, 0.0)),
        lambda: Levels(levels=(0.0, 1.0), shares=(1.0, 0.5)),
        lambda: Levels(levels=(0.5, 0.5, 1.0), shares=(1.0, 0.5, 0.1)),
        lambda: Levels(levels=(0.5, 1.0), shares=(1.0,)),
        lambda: Levels(levels=(0.5, 1.0), shares=(1.0, 0.5, 0.1)),
        lambda: Levels(max_steps=0),
        lambda: Percentile(percentile=101.0),
        lambda: Percentile(startup_trials=0),
        lambda: Median(interval=0),
        lambda: ASHA(metric="acc", direction="up"),
    ],
)
def test_options_that_mean_nothing_are_refused(make: object) -> None:
    """At construction, with the option's name."""
    with pytest.raises(StrategyError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "kind",
    [
        ASHA,
        ASHAStopping,
        Hyperband,
        Levels,
        Median,
        PBT,
        Patience,
        Percentile,
        Race,
        SuccessiveHalving,
        Wilcoxon,
    ],
)
def test_a_direction_goes_with_a_metric(kind: Any) -> None:
    with pytest.raises(StrategyError, match="direction='max' says nothing without metric="):
        kind(direction="max")


def test_levels_take_shares_and_fractions_as_they_were_written() -> None:
    """0.29 of 100 is 29, which the nearest double makes 28.99...; and one level is a plain study."""
    plan = Levels(levels=(0.29, 1.0), shares=(1.0, 0.29)).explain(100, 100)
    assert plan.rungs == ((0, 0, 100, 29), (0, 1, 29, 100))
    assert Levels(levels=(0.5, 1.0), shares=(1.0, 1.0)).explain(3, 10).rungs == ((0, 0, 3, 5), (0, 1, 3, 10))
    assert Levels(shares=(1.0, 0.4, 0.1, 0.05)).explain(3, 10).rungs[-1] == (0, 3, 1, 10)
    with pytest.raises(StrategyError, match="do not ascend"):
        Levels(levels=(0.1, 0.12, 1.0), shares=(1.0, 0.5, 0.1)).check(1, 9)
    scheduler = compose(Random(), Levels(levels=(1.0,), shares=(1.0,)))
    study = Study({"x": Float(0, 1)}, strategy=scheduler, limits={"trials": 3}, settings={"max_steps": 9})
    for _ in range(3):
        trial = study.ask()
        assert trial.target is None
        study.tell(trial, 0.5)
    assert isinstance(study.execution.next(), Finish)


def test_refusals_say_what_to_do() -> None:
    """A scheduler that compares fractions of a run must know how long that is, with room for its rungs."""
    for scheduler in (ASHA(), Hyperband(), SuccessiveHalving(), Levels()):
        with pytest.raises(StrategyError, match="max_steps"):
            scheduler.check(1, None)
        scheduler.check(1, 81)
    ASHA(max_steps=9).check(1, None)
    with pytest.raises(StrategyError, match="brackets"):
        ASHA(brackets=3).check(1, 3)
    with pytest.raises(StrategyError, match="min_steps"):
        Hyperband(min_steps=9).check(1, 3)
    with pytest.raises(StrategyError, match="ascend"):
        Levels().check(1, 5)
