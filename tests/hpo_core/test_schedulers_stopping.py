"""Rules that stop running trials: against brute force, and case by case."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from hpo_core import StrategyError, Study, TrialState
from hpo_core._pareto import order_by_quality
from hpo_core._strategy import Scheduler, Stop
from hpo_core.schedulers import ASHAStopping, Median, Patience, Percentile, Race, Threshold, Wilcoxon
from hpo_core.schedulers._wilcoxon import signed_rank_p
from hpo_core.schedulers._window import is_due
from hpo_core.testing import Script
from tests.hpo_core.scheduler_loop import Past, Reader, make_study, play

CASES = {
    "seed": st.integers(0, 10**6),
    "workers": st.integers(1, 6),
    "trouble": st.sampled_from([0.0, 0.2]),
}


MAX_STEPS = 9


def due(trial: Past, warmup: int, interval: int) -> bool:
    """Whether the newest report is the first in its interval after the warm-up, and not the last of all."""
    steps = [s for s, _ in trial.reports]
    passed = [warmup + k * interval for k in range(1, 50)]
    newest, before = steps[-1], steps[-2] if len(steps) > 1 else 0
    return newest < MAX_STEPS and any(before < p <= newest for p in passed)


def expected_to_stop(trials: list[Past], t: int, names: list[str], percentile: float, startup: int) -> bool:
    """The percentile rule by the book: best so far against the complete trials' best at the same step."""
    step = trials[t].step

    def at(trial: Past) -> list[float] | None:
        reached = trial.reports and trial.reports[-1][0] >= step
        known = [[m[n] for n in names] for s, m in trial.reports if s <= step]
        if not reached or not known:
            return None
        if len(names) > 1:
            return known[-1]
        finite = [v[0] for v in known if np.isfinite(v[0])]
        return [min(finite) if finite else np.nan]

    own = at(trials[t])
    complete = [x for x in trials if x.state is TrialState.COMPLETE]
    peers = [v for x in complete if (v := at(x)) is not None and np.isfinite(v).all()]
    if own is None or len(complete) < startup:
        return False
    if not np.isfinite(own).all():
        return True
    if len(peers) < startup:
        return False
    if len(names) == 1:
        return own[0] > np.percentile([v[0] for v in peers], percentile) + 1e-12
    order = order_by_quality(np.array([own, *peers])).tolist()
    return 100.0 * order.index(0) / len(peers) > percentile


@settings(max_examples=25)
@given(
    percentile=st.sampled_from([0.0, 25.0, 50.0, 80.0, 100.0]),
    startup=st.integers(1, 4),
    warmup=st.integers(0, 3),
    interval=st.integers(1, 4),
    **CASES,
)
def test_percentile_rule_by_brute_force(
    percentile: float, startup: int, warmup: int, interval: int, **case: object
) -> None:
    """Every verdict on every running trial in a random study equals the rule's definition."""
    scheduler = Percentile(
        percentile=percentile, startup_trials=startup, warmup_steps=warmup, interval=interval
    )
    script = Script(asides=0.0, max_steps=9, **case)  # type: ignore[arg-type]
    study, journal = make_study(scheduler, seed=script.seed, limits={"trials": 15})
    read = Reader(journal)
    verdicts = []

    def compare() -> None:
        trials = read()
        for t in study.history.in_state(TrialState.RUNNING).tolist():
            if trials[t].reports:
                stop = scheduler.judge(study.history, t)
                wanted = due(trials[t], warmup, interval) and expected_to_stop(
                    trials, t, ["loss"], percentile, startup
                )
                verdicts.append(wanted)
                assert isinstance(stop, Stop) == wanted

    play(study, script, compare)


@pytest.mark.parametrize("seed", range(4))
def test_median_of_several_objectives_ranks_by_domination(seed: int) -> None:
    """A trial with more than half of the complete ones ahead, by front and then by volume, is stopped."""
    scheduler = Median(startup_trials=2)
    study, journal = make_study(
        scheduler, seed=seed, limits={"trials": 15}, objectives={"a": "min", "b": "min"}
    )
    read = Reader(journal)
    stops = 0

    def compare() -> None:
        nonlocal stops
        trials = read()
        for t in study.history.in_state(TrialState.RUNNING).tolist():
            if not trials[t].reports:
                continue
            # Newest first, as the scheduler sees them.
            done = [x for x in trials if x.state is TrialState.COMPLETE]
            order = [e.trial for e in read.events if e.type == "trial_finished" and e.state == "complete"]
            assert len(order) == len(done)
            view = [trials[k] for k in reversed(order)]
            wanted = due(trials[t], 0, 1) and expected_to_stop(
                [*view, trials[t]], len(view), ["a", "b"], 50.0, 2
            )
            stops += wanted
            assert isinstance(scheduler.judge(study.history, t), Stop) == wanted

    play(study, Script(seed=seed, asides=0.0, trouble=0.0), compare)
    assert stops


@pytest.mark.parametrize(
    ("ms", "loss", "stopped"),
    [(30.0, 0.0, True), (12.0, 0.0, False), (5.0, 0.9, False), (None, 0.0, False)],
)
def test_who_breaks_a_bound_is_behind_those_that_keep_it(
    ms: float | None, loss: float, stopped: bool
) -> None:
    """At that step: of five complete trials two kept the bound there, the others at their ends."""
    study, _ = make_study(Median(), limits={"trials": 9}, settings={"outcome_constraints": ["ms <= 10"]})
    for number in range(5):
        trial = study.ask()
        study.report(trial, 1, {"loss": number / 10 + 0.1, "ms": 9.0 if number < 2 else 20.0})
        study.tell(trial, {"loss": 0.0, "ms": 9.0})
    trial = study.ask()
    assert study.history.count(TrialState.COMPLETE) == 5
    told = study.report(trial, 1, {"loss": loss} | ({} if ms is None else {"ms": ms}))
    assert (told is not None) == stopped


def curve(study: object, values: list[float], *, name: str = "loss", finish: bool = True) -> int | None:
    """Run one trial along a curve; the step at which it was stopped, or ``None``."""
    trial = study.ask()  # type: ignore[attr-defined]
    for step, value in enumerate(values, start=1):
        metrics = {name: value} if name == "loss" else {"loss": 0.5, name: value}
        verdict = study.report(trial, step, metrics)  # type: ignore[attr-defined]
        if verdict is not None:
            study.execution.finish(trial, state="pruned", reason=verdict.reason)  # type: ignore[attr-defined]
            return step
    if finish:
        study.tell(trial, {"loss": values[-1] if name == "loss" else 0.5})  # type: ignore[attr-defined]
    return None


def test_median_waits_for_startup_trials_and_warm_up() -> None:
    """Four complete trials stop nobody; a fifth does, but not in the first two steps."""
    study, _ = make_study(Median(startup_trials=5, warmup_steps=2), limits={"trials": 20})
    for level in (0.1, 0.2, 0.3, 0.4):
        assert curve(study, [level] * 5) is None
    assert curve(study, [9.0] * 5) is None
    assert curve(study, [9.0] * 5) == 3
    assert curve(study, [0.25] * 5) is None


def test_a_trial_is_compared_by_its_best_with_those_that_got_as_far() -> None:
    """One that dips and comes back was never behind; one that ended earlier says nothing of later steps."""
    study, _ = make_study(Median(startup_trials=1), limits={"trials": 20})
    assert curve(study, [0.5] * 3) is None
    assert curve(study, [0.1, 9.0, 9.0]) is None
    study, _ = make_study(Median(startup_trials=1, warmup_steps=2), limits={"trials": 20})
    assert curve(study, [0.5] * 2) is None
    assert curve(study, [9.0] * 3) is None
    assert curve(study, [9.5] * 3) == 3
    study, _ = make_study(Median(startup_trials=2), limits={"trials": 20})
    assert [curve(study, [level] * steps) for level, steps in ((0.5, 1), (0.4, 2))] == [None, None]
    late = study.ask()
    assert study.report(late, 2, 9.0) is None, "one complete trial got there, and two there must be"


def test_of_several_objectives_the_newest_result_is_compared() -> None:
    """There is no best of them; nobody is compared with fewer than were asked for."""
    study, _ = make_study(Median(startup_trials=2), objectives={"a": "min", "b": "max"}, limits={"trials": 9})

    def run(*values: float, steps: int = 2) -> int | None:
        trial = study.ask()
        for step, value in enumerate(values[:steps], start=1):
            if study.report(trial, step, {"a": value, "b": -value}) is not None:
                return step
        study.tell(trial, {"a": 0.5, "b": -0.5})
        return None

    assert [run(0.5, 0.5), run(0.5, 0.5, steps=1), run(0.1, 0.9)] == [None, None, None]
    assert run(0.5, 0.5) is None
    assert run(0.1, 0.95) == 2


def test_a_trial_that_was_run_again_counts_once_among_the_complete() -> None:
    """Between two looks it was waiting, running and complete."""
    study, _ = make_study(Median(startup_trials=1), limits={"trials": 20})
    curve(study, [1.0] * 3)
    failed = study.ask()
    for step in (1, 2, 3):
        study.report(failed, step, 9.0)
    study.tell(failed, state="failed")
    study.requeue(failed.number)
    assert study.ask().number == failed.number
    study.tell(failed.number, 9.0)
    assert curve(study, [7.0] * 3) == 1


@pytest.mark.parametrize(
    ("scheduler", "before"),
    [
        (Median(startup_trials=1, warmup_steps=3), 4),
        (Percentile(startup_trials=1, warmup_steps=3), 4),
        (Wilcoxon(startup_steps=4), 4),
        (Patience(patience=3), 5),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_trial_that_has_taken_all_of_its_steps_is_not_stopped(scheduler: Scheduler, before: int) -> None:
    """There was nothing left to save, and its result was lost: it had been pruned."""
    for max_steps, stopped in ((before, None), (before + 1, before), (None, before)):
        study, _ = make_study(scheduler, limits={"trials": 2}, settings={"max_steps": max_steps})
        curve(study, [0.5 - step / 10 for step in range(before)])
        assert curve(study, [1.0] * before, finish=False) == stopped
    study, _ = make_study(Threshold(upper=0.5), settings={"max_steps": 1})
    assert curve(study, [0.9], finish=False) == 1, "out of bounds it is no result"


def test_a_median_looks_when_and_at_what_it_was_told_to() -> None:
    study, _ = make_study(Median(startup_trials=1, interval=3), limits={"trials": 20})
    curve(study, [0.5] * 5)
    assert curve(study, [9.0] * 5) == 3
    by_size = Median(startup_trials=1, metric="size", direction="max")
    study, _ = make_study(by_size, limits={"trials": 20})
    curve(study, [0.5] * 3, name="size")
    assert curve(study, [0.1] * 3, name="size") == 1
    assert curve(study, [0.9] * 3, name="size") is None


def test_of_several_objectives_only_the_newest_complete_trials_are_peers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hpo_core.schedulers._percentile._PEERS", 2)
    objectives = {"a": "min", "b": "min"}
    study, _ = make_study(
        Median(startup_trials=1, warmup_steps=1), objectives=objectives, limits={"trials": 20}
    )

    def end(level: float) -> bool:
        """Whether it was stopped."""
        trial, both = study.ask(), {"a": level, "b": level}
        study.report(trial, 1, both)
        stopped = study.report(trial, 2, both) is not None
        study.tell(trial, both)
        return stopped

    for level in (0.3, 0.2, 0.1):
        assert not end(level)
    assert end(0.9), "both of the newest two are ahead"
    assert not end(0.8), "one of them is; of all four it would be three"


def test_the_newest_are_those_that_became_complete_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a study that followed its trials and for one that reads of them in its journal."""
    monkeypatch.setattr("hpo_core.schedulers._percentile._PEERS", 1)
    study, journal = make_study(Median(startup_trials=1), objectives={"a": "min", "b": "min"})
    trials = [study.ask() for _ in range(3)]
    for trial, level in ((trials[1], 0.1), (trials[0], 0.9)):
        study.report(trial, 1, {"a": level, "b": level})
        study.tell(trial, {"a": level, "b": level})
        study.ask()
    assert study.report(trials[2], 1, {"a": 0.5, "b": 0.5}) is None, "trial 0, the last, was behind it"
    assert Median(startup_trials=1).judge(Study.replay(journal.events()).history, 2) is None


def test_nobody_is_behind_an_equal() -> None:
    """Of several objectives, too: all have the same results after their first step, say."""
    study, _ = make_study(Median(startup_trials=2), objectives={"a": "min", "b": "max"})
    for _ in range(4):
        trial, same = study.ask(), {"a": 0.5, "b": 0.5}
        assert study.report(trial, 1, same) is None
        study.tell(trial, same)


def test_maximised_objectives_are_stopped_when_low() -> None:
    """The direction is the study's, and numbers are told as the user gave them."""
    study, _ = make_study(Median(startup_trials=2), objectives={"loss": "max"}, limits={"trials": 20})
    assert [curve(study, [level] * 3) for level in (0.8, 0.9)] == [None, None]
    assert curve(study, [0.1] * 3) == 1
    assert study.trials[2].reason == (
        "its best 0.1 up to step 1 is worse than 0.85, the 50th percentile of 2 complete trials"
    )
    assert curve(study, [0.95] * 3) is None


def test_nobody_is_stopped_before_there_are_enough_to_compare_with() -> None:
    """Not even who diverged: with a seed that is no good, they all may."""
    study, _ = make_study(Median(startup_trials=2), limits={"trials": 20})
    assert curve(study, [0.5]) is None
    trial = study.ask()
    assert study.report(trial, 1, float("nan")) is None


def test_a_diverged_trial_is_stopped() -> None:
    """A result that was given and is no number is worse than any; one that was not given is no result."""
    for scheduler in (Median(startup_trials=1), ASHAStopping(), Threshold(upper=5.0)):
        study, _ = make_study(scheduler, limits={"trials": 20}, settings={"max_steps": 9})
        curve(study, [0.5] * 9)
        trial = study.ask()
        assert study.report(trial, 1, {"other": 1.0}) is None
        verdict = study.report(trial, 2, float("nan"))
        assert verdict is not None
        assert "finite" in verdict.reason


def test_patience_counts_steps_since_the_last_improvement() -> None:
    """Reports need not come at every step, and an improvement below min_delta is none."""
    study, _ = make_study(Patience(patience=3, min_delta=0.1), limits={"trials": 20})
    assert curve(study, [1.0, 0.95, 0.93, 0.91, 0.91]) == 5
    assert curve(study, [1.0, 0.8, 0.6, 0.4, 0.39, 0.38, 0.37]) is None
    trial = study.ask()
    assert study.report(trial, 2, 1.0) is None
    assert study.report(trial, 5, 1.0) is None
    assert study.report(trial, 6, 1.0) is not None
    study, _ = make_study(Patience(patience=3, warmup_steps=6), limits={"trials": 20})
    assert curve(study, [1.0] * 9) == 7


def test_patience_has_seen_no_improvement_in_what_is_no_number() -> None:
    """Counted from the first report where there has been nothing else."""
    study, _ = make_study(Patience(patience=2), limits={"trials": 5})
    assert curve(study, [0.5, math.nan, math.nan, math.nan]) == 4
    trial = study.ask()
    assert study.report(trial, 5, math.nan) is None
    assert study.report(trial, 7, math.nan) is None
    assert study.report(trial, 8, math.nan) == Stop("no improvement since step 5, 3 steps ago")


def test_patience_with_several_objectives_watches_the_trials_own_front() -> None:
    """A result that is better in any objective than all before is progress."""
    study, _ = make_study(Patience(patience=2), objectives={"a": "min", "b": "min"}, limits={"trials": 5})
    trial = study.ask()
    for step, (a, b) in enumerate([(1.0, 1.0), (2.0, 0.9), (0.9, 3.0), (1.0, 1.0), (1.0, 1.0)], start=1):
        assert study.report(trial, step, {"a": a, "b": b}) is None
    assert study.report(trial, 6, {"a": 1.0, "b": 1.0}) is not None


@given(lower=st.floats(-5, 0), upper=st.floats(0, 5), value=st.floats(-10, 10))
def test_threshold_is_in_the_metrics_own_units(lower: float, upper: float, value: float) -> None:
    """Also where the objective is maximised."""
    for direction in ("min", "max"):
        study, _ = make_study(
            Threshold(lower=lower, upper=upper), objectives={"loss": direction}, limits={"trials": 2}
        )
        stopped = curve(study, [value], finish=False)
        assert (stopped == 1) == (not lower <= value <= upper)


def test_threshold_by_name_and_its_refusals() -> None:
    """Any reported metric can be bounded; no bound, crossed bounds and an unclear objective are refused."""
    study, _ = make_study(Threshold(metric="gradient", upper=10.0), limits={"trials": 5})
    assert curve(study, [1.0, 2.0, 11.0], name="gradient") == 3
    with pytest.raises(StrategyError, match="upper"):
        Threshold()
    with pytest.raises(StrategyError, match="lower"):
        Threshold(lower=2.0, upper=1.0)
    with pytest.raises(StrategyError, match="metric"):
        Threshold(upper=1.0).check(2, None)


@settings(max_examples=80)
@given(st.lists(st.integers(-1000, 1000).filter(bool), min_size=1, max_size=14, unique_by=lambda x: abs(x)))
def test_p_value_is_scipys_without_ties(numbers: list[int]) -> None:
    """Exact distribution, no zeros, no ties."""
    differences = np.array(numbers, dtype=float)
    expected = wilcoxon(differences, alternative="greater", method="exact").pvalue
    assert signed_rank_p(differences) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_p_value_by_enumeration_with_ties_and_zeros(numbers: list[int]) -> None:
    """Every pattern of signs once (Pratt: zeros are ranked, and then left out)."""
    size = np.abs(np.array(numbers, dtype=float))
    ranks = np.array([(size < s).sum() + ((size == s).sum() + 1) / 2 for s in size])[size > 0]
    observed = ranks[np.array(numbers)[size > 0] > 0].sum()
    sums = [ranks[list(signs)].sum() for signs in itertools.product([False, True], repeat=len(ranks))]
    expected = np.mean([s >= observed - 1e-9 for s in sums])
    assert signed_rank_p(np.array(numbers, dtype=float)) == pytest.approx(expected)


def test_ties_are_those_of_the_decimals_that_were_reported() -> None:
    """0.9 - 0.85 and 0.85 - 0.8 differ in the last digit, which ranked the one above the other."""
    better = np.array([0.95, 0.90, 0.80, 0.90])
    worse = np.array([0.90, 0.85, 0.85, 0.50])
    assert len(set(np.abs(better - worse))) > 2
    assert signed_rank_p(better - worse) == signed_rank_p(np.array([1.0, 1.0, -1.0, 8.0]))


def test_p_value_of_many_differences_is_close_to_exact() -> None:
    """Beyond the exact range the normal approximation takes over without a jump."""
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.2, 0.5):
        differences = rng.standard_normal(80) + shift
        expected = wilcoxon(differences, alternative="greater", method="exact").pvalue
        # Without its correction for continuity it would be farther off.
        assert signed_rank_p(differences) == pytest.approx(expected, abs=1e-3)


def test_wilcoxon_stops_a_trial_that_loses_on_every_fold() -> None:
    """With four folds lost p is 1/16; a trial that wins or is the first goes on."""
    study, _ = make_study(Wilcoxon(p_threshold=0.1), limits={"trials": 20})
    assert curve(study, [0.5, 0.6, 0.4, 0.5, 0.6]) is None
    assert curve(study, [0.7, 0.8, 0.6, 0.7, 0.8]) == 4
    assert curve(study, [0.3, 0.4, 0.2, 0.3, 0.4]) is None
    assert curve(study, [0.5, 0.6, 0.4, 0.5, 0.6]) == 4, "the champion is the best complete trial by now"


@pytest.mark.parametrize(("direction", "sign"), [("min", 1.0), ("max", -1.0)])
def test_wilcoxon_compares_folds_and_not_the_means_so_far(direction: str, sign: float) -> None:
    """One bad fold makes every mean after it worse; the folds themselves are won."""
    study, _ = make_study(Wilcoxon(), objectives={"loss": direction}, limits={"trials": 20})
    folds = ([0.5, 0.5, 0.5, 0.5, 0.5], [0.9, 0.45, 0.45, 0.45, 0.45], [0.6, 0.6, 0.6, 0.6, 0.6])
    stopped: list[int | None] = []
    for values in folds:
        trial, at = study.ask(), None
        for step in range(1, 6):
            mean = sum(values[:step]) / step
            metrics = {"loss": sign * mean, "loss_fold": sign * values[step - 1]}
            if study.report(trial, step, metrics) is not None:
                at = step
                break
        stopped.append(at)
        study.tell(trial, sign * sum(values) / 5, state="pruned" if at else "complete")
    assert stopped == [None, None, 4]


def test_wilcoxon_never_stops_the_better_mean() -> None:
    """Losing many folds by a hair and winning one by far is no reason to stop."""
    study, _ = make_study(Wilcoxon(p_threshold=0.2), limits={"trials": 20})
    curve(study, [0.5] * 6)
    assert curve(study, [0.51, 0.51, 0.51, 0.51, 0.51, 0.1], finish=False) == 3
    curve(study, [0.49] * 12)
    assert signed_rank_p(np.array([-0.39, *[0.02] * 11])) < 0.05
    assert curve(study, [0.1, *[0.51] * 11], finish=False) is None


def test_wilcoxon_waits_for_as_many_results_as_asked_for() -> None:
    """At a threshold by which a single lost fold would do."""
    for startup in (1, 3):
        study, _ = make_study(Wilcoxon(p_threshold=0.6, startup_steps=startup), limits={"trials": 20})
        curve(study, [0.5] * 5)
        assert curve(study, [0.6] * 5, finish=False) == startup


@pytest.mark.parametrize("seed", range(6))
def test_wilcoxon_false_alarms_are_as_rare_as_promised(seed: int) -> None:
    """Trials as good as the champion: tested once at the last fold but one, one in ten would be stopped.

    The champion is the best of all complete ones, so the share is higher than for two fixed trials; it
    must stay below one half over 40 trials of 10 folds, and above it for trials that are worse by three
    standard errors of a fold.
    """
    rng = np.random.default_rng(seed)
    study, _ = make_study(
        Wilcoxon(p_threshold=0.1, startup_steps=10), limits={"trials": 100}, settings={"max_steps": 11}
    )
    curve(study, rng.normal(0.0, 0.1, 10).tolist())
    same = [curve(study, rng.normal(0.0, 0.1, 10).tolist(), finish=False) for _ in range(40)]
    worse = [curve(study, rng.normal(0.3, 0.1, 10).tolist(), finish=False) for _ in range(40)]
    assert sum(s is not None for s in same) < 20
    assert sum(s is not None for s in worse) > 35


def test_wilcoxon_compares_single_numbers() -> None:
    """Refused with several objectives unless one is named."""
    with pytest.raises(StrategyError, match="metric="):
        Wilcoxon().check(2, None)
    Wilcoxon(metric="a").check(2, None)


def test_a_trial_gets_to_a_rung_with_a_report_of_what_is_compared() -> None:
    """One without it, as of a curve beside the loss, is no verdict on what the trial had before."""
    study, _ = make_study(ASHAStopping(min_steps=3), limits={"trials": 9}, settings={"max_steps": 9})
    study.report(study.ask(), 3, 0.5)
    trial = study.ask()
    assert study.report(trial, 2, 0.9) is None
    assert study.report(trial, 3, {"rate": 0.1}) is None
    assert study.report(trial, 4, 0.4) is None
    late = study.ask()
    assert study.report(late, 4, 0.9) is not None


def test_a_verdict_that_got_lost_is_given_again() -> None:
    """The first report after the driver was away repeats what ASHA had decided at the rung.

    Where the trial got to meanwhile it is compared with nobody: the next one is the best of two at step 3.
    """
    study, _ = make_study(ASHAStopping(), limits={"trials": 9}, settings={"max_steps": 9})
    first, trial, third = study.ask(), study.ask(), study.ask()
    assert study.report(first, 1, 0.1) is None
    verdict = study.report(trial, 1, 0.2)
    assert verdict is not None
    assert study.report(trial, 2, 0.0) == verdict
    assert study.report(first, 3, 0.1) is None
    assert study.report(trial, 3, 0.0) == verdict
    assert study.report(third, 1, 0.05) is None
    assert study.report(third, 3, 0.05) is None


@pytest.mark.parametrize(
    ("steps", "looked_at"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [6, 9]),  # 3 + 3, 3 + 6
        ([2, 7, 8, 14], [7, 14]),  # the first report at or after each
        ([4, 5], []),
        ([30, 31, 33], [30, 33]),
    ],
)
def test_a_trial_is_looked_at_once_in_each_interval_after_the_warm_up(
    steps: list[int], looked_at: list[int]
) -> None:
    study, _ = make_study(Patience(), settings={"max_steps": 99})
    trial, due = study.ask(), []
    for step in steps:
        study.report(trial, step, 1.0)
        if is_due(study.history, 0, warmup_steps=3, interval=3):
            due.append(step)
    assert due == looked_at


def test_results_at_the_end_of_all_doubles_are_compared_like_others() -> None:
    """Objectives return 1e308 where they diverge, and the tests add up squares."""
    folds = [1.0, 2.0, 3.0, 4.0, 5.0]
    for scheduler in (Wilcoxon(), Race(startup_trials=3)):
        study, _ = make_study(scheduler, limits={"trials": 9}, settings={"max_steps": 5})
        curve(study, [1.7e308, *folds[1:]])
        for more in (0.0, 0.5, 0.25):
            curve(study, [value + more for value in folds])
        assert curve(study, [value + 9.0 for value in folds]) is not None
    study, _ = make_study(Median(startup_trials=2))
    for value in (-1.7e308, 1.7e308):
        curve(study, [value])
    assert curve(study, [1e308], finish=False) == 1
    assert curve(study, [-1e308], finish=False) is None
