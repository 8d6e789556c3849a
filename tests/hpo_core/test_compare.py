"""Comparisons: courses are what happened, tests are exact, and nothing is claimed that does not follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hpo_core import Float, InputError, Segment, Study, TrialState, plots
from hpo_core.compare import compare, course, rank_test
from hpo_core.folds import fold_results, paired_test, spread_of, standard_error


def ran(
    name: str,
    values: Sequence[float | None],
    direction: str = "min",
    *,
    folds: Sequence[Sequence[float]] = (),
    seconds: float = 10.0,
    **more: Any,
) -> Study:
    """A study whose trials end with these values, ``None`` for a failure; each has two steps."""
    study = Study({"x": Float(0, 1)}, {"loss": direction}, "random", name=name, now=100.0, **more)
    now = 100.0
    for number, value in enumerate(values):
        study.ask(now=now)
        for step, fold in enumerate(folds[number] if folds else (0.0, 0.0), start=1):
            metrics = {"loss_fold": fold} if folds else {"other": fold}
            study.report(number, step, metrics, now=now)
        now += seconds
        if value is None:
            study.execution.finish(number, None, state="failed", now=now)
        else:
            study.execution.finish(number, value, now=now)
    return study


def test_a_course_counts_what_was_spent() -> None:
    """Failures cost and do not count; before the first result there is no best."""
    found = course(ran("a", [None, 3.0, 5.0, 1.0]))
    assert np.isnan(found.best[0])
    assert found.best[1:].tolist() == [3.0, 3.0, 1.0]
    assert found.steps is not None
    assert found.steps.tolist() == [2, 4, 6, 8]
    assert found.seconds is not None
    assert found.seconds.tolist() == [10, 20, 30, 40]
    effort = found.effort(2.0, "min")
    assert effort is not None
    assert (effort.trials, effort.steps, effort.seconds) == (4, 8, 40.0)
    assert found.effort(0.5, "min") is None


def test_steps_of_trials_that_pause_are_effort_from_when_they_were_taken() -> None:
    """Paused trials end with the study, and the rungs below the first complete trial come before it."""
    study = Study({"x": Float(0, 1)}, {"loss": "min"}, "random+asha", settings={"max_steps": 4})
    taken = 0
    while not study.history.count(TrialState.COMPLETE):
        segment = study.execution.next()
        assert isinstance(segment, Segment)
        study.execution.started(segment)
        for step in range(study.trials[segment.trial].step + 1, (segment.target or 4) + 1):
            study.report(segment.trial, step, {"loss": segment.params["x"]})
            taken += 1
        if segment.target is None:
            study.execution.finish(segment.trial)
        else:
            study.execution.paused(segment.trial)
    assert study.history.count(TrialState.PAUSED) > 1
    found = course(study)
    assert found.steps is not None
    assert (found.steps.tolist(), taken > 4) == ([taken], True)


def test_what_runs_or_was_not_counted_is_no_effort() -> None:
    study = Study({"x": Float(0, 1)}, strategy="random")
    study.tell(study.ask(), 2.0)
    study.ask()
    found = course(study)
    assert (found.best.tolist(), found.steps, found.seconds) == ([2.0], None, None)
    effort = found.effort(3.0, "min")
    assert effort is not None
    assert (effort.trials, effort.steps, effort.seconds) == (1, None, None)


def test_time_without_a_driver_is_nobodys() -> None:
    """A night between two drivers is no effort."""
    study = Study({"x": Float(0, 1)}, strategy="random", now=1.0)
    study.tell(study.ask(now=1.0), 2.0, now=5.0)
    study.execution.take_over("other", now=100_000.0)
    study.tell(study.ask(now=100_000.0), 1.0, now=100_003.0)
    found = course(study)
    assert found.seconds is not None
    assert found.seconds.tolist() == [4.0, 7.0]


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=5), st.lists(st.integers(0, 4), min_size=2, max_size=5)
)
def test_the_rank_test_is_the_permutation_test(a: list[int], b: list[int]) -> None:
    """Against scipy's count of all permutations, ties included."""
    x, y = np.array(a, dtype=float), np.array(b, dtype=float)

    def statistic(u: Any, v: Any) -> float:
        return abs(
            float(stats.rankdata(np.concatenate([u, v]))[: len(u)].sum()) - len(u) * (len(u) + len(v) + 1) / 2
        )

    reference = stats.permutation_test(
        (x, y), statistic, permutation_type="independent", vectorized=False, n_resamples=np.inf,
        alternative="greater",
    ).pvalue  # fmt: skip
    p, least = rank_test(x, y)
    assert p == pytest.approx(reference)
    if len({*a, *b}) == len(a) + len(b):
        assert least <= p + 1e-12


def test_many_values_use_the_approximation() -> None:
    """Close to the exact count where both can be had."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=12), rng.normal(0.8, size=12)
    exact = stats.mannwhitneyu(a, b, method="exact").pvalue
    assert rank_test(a, b)[0] == pytest.approx(exact, rel=0.15)


def test_sides_are_compared_at_equal_effort() -> None:
    """A study that ran on to a better final gains nothing by it."""
    short = [ran(f"s{i}", [5.0, 3.0 + i / 10]) for i in range(4)]
    long = [ran(f"l{i}", [5.0, 4.0 + i / 10, 0.0]) for i in range(4)]
    found = compare({"short": short, "long": long})
    assert found.common == 2
    (difference,) = found.differences
    assert difference.gain == pytest.approx(-1.0)
    assert difference.p == pytest.approx(2 / 70)
    assert difference.low is not None
    assert difference.high is not None
    assert -1.3 < difference.low < difference.gain < difference.high < -0.7
    assert found.claim() == (
        f"After 2 trials each, short is better than long by 1 on average (95% interval "
        f"{-difference.high:.4g} to {-difference.low:.4g}), p = 0.0286 by the Mann-Whitney test."
    )
    assert found.target == pytest.approx(3.3)
    (turned,) = compare({"long": long, "short": short}).differences
    assert turned.gain == pytest.approx(1.0)
    assert compare({"long": long, "short": short}).claim() == (
        f"After 2 trials each, short is better than long by 1 on average (95% interval "
        f"{turned.low:.4g} to {turned.high:.4g}), p = 0.0286 by the Mann-Whitney test."
    )


def test_several_sides_pay_for_several_tests() -> None:
    """Holm: the smaller p counts twice, the larger once, and none less than a smaller one.

    The least p that four studies a side could give rises with them, beyond what allows a claim.
    """

    def adjusted(third: float) -> list[float]:
        begin = {"a": 0.0, "b": 1.0, "c": third}
        sides = {n: [ran(f"{n}{i}", [v + i / 100]) for i in range(4)] for n, v in begin.items()}
        found = compare(sides)
        assert found.claim().count("So few studies cannot give less than p = 0.057: no claim.") == 2
        return [d.p for d in found.differences]

    assert adjusted(2.0) == pytest.approx([4 / 70, 4 / 70])
    alone = rank_test(np.arange(4) / 100, 0.015 + np.arange(4) / 100)[0]
    assert adjusted(0.015) == pytest.approx([4 / 70, alone])


def test_one_study_a_side_claims_nothing() -> None:
    """But the best configurations are compared on their folds, where these are the same."""
    first = ran("a", [3.0, 2.0], folds=[(3.1, 2.9), (2.1, 1.9)])
    second = ran("b", [1.0, 4.0], folds=[(1.0, 1.0), (4.0, 4.0)])
    assert compare([first, second]).claim().startswith("One study on a side allows no claim")
    assert compare([first, second]).configurations is None
    found = compare([first, second], same_folds=True).configurations
    assert found == paired_test({1: 1.0, 2: 1.0}, {1: 2.1, 2: 1.9}, "min")
    assert found.gain == pytest.approx(1.0)
    said = "The best configuration of {} against that of {}: {} by 1 on average over 2 folds (95% interval {}"
    far = said.format("b", "a", "better", "-1.201 to 3.201")
    assert far in (claim := compare([first, second], same_folds=True).claim())
    assert claim.endswith("That may be chance.")
    worse = said.format("a", "b", "worse", "-1.201 to 3.201")
    assert worse in compare([second, first], same_folds=True).claim()
    sure = ran("c", [5.0], folds=[(5.0, 5.01)])
    assert "chance" not in compare([first, sure], same_folds=True).claim()
    assert "chance" not in compare([sure, first], same_folds=True).claim()
    repeats: dict[str, Any] = {"meta": {"step_unit": "repeat"}, "settings": {"max_steps": 2}}
    seeds = ran("b", [1.0, 4.0], folds=[(1.0, 1.0), (4.0, 4.0)], **repeats)
    assert compare([first, seeds], same_folds=True).configurations is None  # fold 1 is not seed 1
    by_seed = compare([ran("c", [2.0], folds=[(2.1, 1.9)], **repeats), seeds], same_folds=True).configurations
    assert by_seed == paired_test({1: 1.0, 2: 1.0}, {1: 2.1, 2: 1.9}, "min", seeds=True)
    two = compare({"a": [first, ran("c", [1.0])], "b": [second, ran("d", [2.0])]})
    assert "So few studies cannot give less than p = 0.33: no claim." in two.claim()


def test_a_study_that_ended_before_anothers_first_result_leaves_nothing_to_compare() -> None:
    """Whatever the number of studies: more seeds would not mend it."""
    early = [ran(f"e{i}", [1.0, 2.0]) for i in range(2)]
    late = [ran(f"l{i}", [None, None, 3.0]) for i in range(2)]
    found = compare({"early": early, "late": late})
    assert (found.common, found.differences) == (0, ())
    assert found.claim().startswith("There is no number of trials after which every study has a complete one")
    alone = compare({"early": early[:1], "late": late[:1]})
    assert alone.claim().startswith("One study on a side allows no claim")


@pytest.mark.parametrize(
    "studies, says",
    [
        ([ran("a", [1.0])], "at least two"),
        ([ran("a", [1.0]), ran("a", [2.0])], "the same name"),
        ([ran("a", [1.0]), ran("b", [1.0], "max")], "to be max in study 'b' and min in 'a'"),
        ([ran("a", [1.0]), ran("b", [None])], "'b' has no complete trial"),
    ],
)
def test_what_cannot_be_compared_is_refused(studies: list[Study], says: str) -> None:
    """With the study that is in the way."""
    with pytest.raises(InputError, match=says):
        compare(studies)


def test_another_objective_is_refused() -> None:
    """Even if both are to be minimised."""
    other = Study({"x": Float(0, 1)}, {"error": "min"}, "random", name="b")
    other.tell(other.ask(), 1.0)
    with pytest.raises(InputError, match="compare studies of one objective"):
        compare([ran("a", [1.0]), other])


def test_the_paired_test_is_nadeau_and_bengios() -> None:
    """Five folds: the variance counts 1/5 + 1/4 times; the reference is spelt out."""
    a = {1: 0.80, 2: 0.82, 3: 0.79, 4: 0.85, 5: 0.81}
    b = {1: 0.78, 2: 0.81, 3: 0.80, 4: 0.80, 5: 0.79, 6: 0.5}
    d = np.array([a[i] - b[i] for i in a])
    t = d.mean() / math.sqrt((1 / 5 + 1 / 4) * d.var(ddof=1))
    found = paired_test(a, b, "max")
    assert found.p == pytest.approx(stats.t.sf(t, 4))
    assert found.low == pytest.approx(d.mean() - stats.t.ppf(0.975, 4) * d.mean() / t)
    assert found.folds == 5
    assert paired_test(a, b, "min").p == pytest.approx(1 - found.p)
    assert paired_test(a, {k: v - 0.01 for k, v in a.items()}, "max").p < 1e-6
    assert paired_test(a, a, "max").p == 1.0
    with pytest.raises(InputError, match="at least two common folds"):
        paired_test({1: 1.0}, b, "max")


def test_sides_that_diverged_are_compared() -> None:
    sides = {n: [ran(f"{n}{i}", [sign * 1.7e308]) for i in range(4)] for n, sign in (("a", 1), ("b", -1))}
    (difference,) = compare(sides).differences
    assert difference.gain > 1e299
    assert difference.p == pytest.approx(2 / 70)


@pytest.mark.parametrize("seeds", [False, True])
@pytest.mark.parametrize("other", [1.0, 1.7e308, -1.7e308])
def test_the_paired_test_takes_results_at_the_end_of_all_doubles(other: float, seeds: bool) -> None:
    """Objectives return such values where they diverge. Without a warning, and the better one stays that."""
    a, b = {1: 1.7e308, 2: 1.7e308, 3: 1.0}, {1: other, 2: 1.7e308, 3: 1.0}
    found = paired_test(a, b, "max", seeds=seeds)
    assert (found.gain > 0) == (other < 1.7e308)
    assert 0.0 <= found.p <= 1.0
    assert not math.isnan(found.low + found.gain)


def test_results_with_different_seeds_are_independent() -> None:
    """The correction for shared training rows would make half of what is certain uncertain."""
    a = {1: 0.80, 2: 0.82, 3: 0.79, 4: 0.85, 5: 0.81}
    b = {1: 0.78, 2: 0.81, 3: 0.80, 4: 0.80, 5: 0.79}
    found = paired_test(a, b, "max", seeds=True)
    plain = stats.ttest_rel(list(a.values()), list(b.values()), alternative="greater")
    assert found.p == pytest.approx(plain.pvalue)
    assert "on average over 5 seeds (95% interval" in str(found)
    assert "(99% interval" in str(paired_test(a, b, "max", seeds=True, level=0.99))
    assert paired_test(a, a, "max", seeds=True).seeds
    with pytest.raises(InputError, match="at least two common seeds"):
        paired_test({1: 1.0}, b, "max", seeds=True)


def test_results_on_folds_are_found_by_their_name() -> None:
    """One for each step at which ``loss_fold`` was reported, not finite ones left out."""
    study = ran("a", [1.0], folds=[(0.5, math.nan, 0.7)])
    assert fold_results(study, 0) == {1: 0.5, 3: 0.7}
    assert fold_results(ran("b", [1.0]), 0) == {}
    assert math.isnan(standard_error(np.array([1.0])))


@pytest.mark.parametrize(("unit", "spread"), [("repeat", 0.25), ("fold", None)])
def test_a_spread_is_that_over_seeds(unit: str, spread: float | None) -> None:
    """Of another study ``loss_std`` is a metric like any other, whatever its objective means by it."""
    study = Study({"x": Float(0, 1)}, settings={"max_steps": 3}, meta={"step_unit": unit})
    study.tell(study.ask(), {"loss": 1.0, "loss_std": 0.25})
    assert spread_of(study, study.trials[0], "loss") == spread


def test_the_figure_follows_the_courses() -> None:
    """A single study's line has its corners; several are a median in a band; what was not counted is said."""
    a, b = ran("a", [3.0, 4.0, 1.0]), ran("b", [2.0, 2.0, 0.0], seconds=20.0)
    lines = {t.name: t for t in plots.compare([a, b]).data}
    assert list(lines["a"].x) == [1, 3, 3]
    assert list(lines["a"].y) == [3.0, 1.0, 1.0]
    lines = {t.name: t for t in plots.compare([a, b], against="seconds").data}
    assert list(lines["b"].x) == [20, 60, 60]
    figure = plots.compare({"both": [a, b], "other": [ran("c", [9.0, 9.0, 9.0])]})
    lines = {t.name: t for t in figure.data}
    assert list(lines["both (2 studies)"].y) == [2.5, 2.5, 0.5]
    assert (min(lines["both, range"].y), max(lines["both, range"].y)) == (0.0, 3.0)
    with pytest.raises(InputError, match="did you mean 'steps'"):
        plots.compare([a, b], against="step")
    untimed = Study({"x": Float(0, 1)}, strategy="random", name="untimed")
    untimed.tell(untimed.ask(), 1.0)
    with pytest.raises(InputError, match="none of the studies counted its seconds"):
        plots.compare([untimed, _renamed(untimed)], against="seconds")


def _renamed(study: Study) -> Study:
    other = Study({"x": Float(0, 1)}, strategy="random", name="other")
    other.tell(other.ask(), study.best.values)
    return other
