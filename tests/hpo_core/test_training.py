"""What a model trains on when trials stop at different steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from hpo_core._memo import Memo
from hpo_core._space import Float, SearchSpace
from hpo_core._states import TrialState
from hpo_core._training import Curves, Training, _transported, training_set
from hpo_core.samplers import Random
from hpo_core.samplers._auto import choose
from tests.hpo_core.sampler_loop import Loop


def study(
    curves: list[list[float]], ends: Sequence[TrialState | None], objectives: tuple[str, ...] = ("loss",)
) -> Loop:
    """One trial for each curve (values at steps 1, 2, ...), then its end state; ``None``: running."""
    loop = Loop(Random(), SearchSpace({"x": Float(0, 1)}), objectives=objectives)
    for trial, (curve, end) in enumerate(zip(curves, ends, strict=True)):
        loop.start({"x": trial / 10})
        for step, value in enumerate(curve, start=1):
            loop.report(trial, step, value)
        if end is TrialState.PAUSED:
            loop.history._move(trial, TrialState.RUNNING)
            loop.history._move(trial, TrialState.PAUSED)
        elif end is not None:
            loop.tell(trial, curve[-1] if curve else math.nan, state=end)
    return loop


def trained(loop: Loop, fewest: int) -> Training:
    return training_set(loop.history, fewest, Memo[Curves]())


PRUNED, COMPLETE, FAILED, PAUSED = (
    TrialState.PRUNED,
    TrialState.COMPLETE,
    TrialState.FAILED,
    TrialState.PAUSED,
)


def test_without_early_stops_it_is_the_evidence() -> None:
    loop = study([[3.0, 1.0], [4.0, 2.0], [9.0]], [COMPLETE, COMPLETE, None])
    data = trained(loop, 1)
    assert data.step == 0
    assert data.values[:, 0].tolist() == [1.0, 2.0]
    assert data.pending[:, 0] == pytest.approx([0.2])


def test_stopped_trials_take_the_place_at_the_last_step_that_they_had_at_theirs() -> None:
    curves = [[5.0, 1.0], [6.0, 2.0], [8.0, 3.0], [5.5], [7.0], [9.0]]
    loop = study(curves, [COMPLETE] * 3 + [PRUNED] * 3)
    data = trained(loop, 3)
    assert data.step == 2
    # 5.5 would be second of 5, 6, 8; 7 third; 9 worse than all, hence the worst.
    assert data.values[:, 0].tolist() == [1.0, 2.0, 3.0, 2.0, 3.0, 3.0]


def test_a_trial_that_reports_at_other_steps_stands_among_those_that_got_as_far() -> None:
    """By the newest result up to there. One that had stopped between two reports of the others, as early
    stopping does, was taken for worse than all of them, and so was one that had got beyond.
    """
    loop = study([[]] * 5, [None] * 5)
    for trial, reports in enumerate(([5.0, 1.0], [6.0, 2.0], [8.0, 3.0])):
        for step, value in zip((2, 4), reports, strict=True):
            loop.report(trial, step, value)
        loop.tell(trial, reports[-1], state=COMPLETE)
    for trial, step, value in ((3, 3, 5.5), (4, 3, 0.1), (4, 5, 0.05)):
        loop.report(trial, step, value)
    for trial, value in ((3, 5.5), (4, 0.05)):
        loop.tell(trial, value, state=PRUNED)
    data = trained(loop, 3)
    assert (data.step, data.values[:, 0].tolist()) == (4, [1.0, 2.0, 3.0, 2.0, 0.1])


def test_the_step_is_the_largest_that_enough_trials_reached() -> None:
    curves = [[5.0, 1.0, 0.5], [6.0, 2.0], [8.0, 3.0], [4.0]]
    loop = study(curves, [COMPLETE, PRUNED, PRUNED, PRUNED])
    assert trained(loop, 1).step == 3
    assert trained(loop, 2).step == 2
    assert trained(loop, 4).step == 1
    assert trained(loop, 4).values[:, 0].tolist() == [5.0, 6.0, 8.0, 4.0]
    # Not enough anywhere: final results, for want of anything better.
    assert trained(loop, 5).step == 0


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("last", [4.0, 2.0, 8.0, 8.0]),
        # The dip to 1 counts, and the trial that stopped at 3 has held a place above that.
        ("best", [1.0, 2.0, 6.0, 2.0]),
        ("average-2", [2.5, 2.5, 7.0, 7.0]),
    ],
)
def test_values_at_a_step_follow_the_rule_of_the_study(rule: str, expected: list[float]) -> None:
    curves = [[5.0, 1.0, 4.0], [6.0, 3.0, 2.0], [7.0, 6.0, 8.0], [3.0, 9.0]]
    loop = study([], [])
    loop.history.rule = rule
    for trial, curve in enumerate(curves):
        loop.start({"x": trial / 10})
        for step, value in enumerate(curve, start=1):
            loop.report(trial, step, value)
    # A finished trial, so that the rungs matter at all; its result is that of the last step.
    loop.tell(3, 3.0 if rule == "best" else 9.0, state=PRUNED)
    data = trained(loop, 3)
    assert data.step == 3
    assert data.values[:, 0].tolist() == expected


def test_paused_and_running_trials_count_once_they_have_reported() -> None:
    loop = study([[5.0, 1.0], [6.0], [4.0], []], [COMPLETE, PAUSED, None, None])
    data = trained(loop, 3)
    assert data.step == 1
    assert data.values[:, 0].tolist() == [5.0, 6.0, 4.0]
    assert data.pending[:, 0] == pytest.approx([0.3])


def test_results_from_elsewhere_are_final_ones_and_count_at_an_earlier_step_by_rank() -> None:
    """They belong to no step: better than p of one another, better than p of the trials at the step."""
    loop = study([[5.0, 1.0], [6.0, 2.0], [8.0, 3.0], [9.0]], [COMPLETE] * 3 + [PRUNED])
    for value in (200.0, 100.0):
        loop.observe({"x": 0.9}, value)
    assert trained(loop, 3).values[:2, 0].tolist() == [2.0, 1.0]
    loop.history.max_steps = 3
    assert trained(loop, 3).values[:2, 0].tolist() == [2.0, 1.0]
    loop.history.max_steps = 2
    assert trained(loop, 3).values[:2, 0].tolist() == [200.0, 100.0]


def test_of_many_results_from_elsewhere_each_part_counts_as_the_part_of_the_trials() -> None:
    """Of a hundred all but the best three were as bad as the worst trial."""
    loop = study([[5.0, 1.0], [6.0, 2.0], [8.0, 3.0], [8.5, 4.0], [9.0]], [COMPLETE] * 4 + [PRUNED])
    for value in range(100):
        loop.observe({"x": 0.9}, float(value))
    assert trained(loop, 4).values[:100, 0].tolist() == [*[1.0] * 25, *[2.0] * 25, *[3.0] * 25, *[4.0] * 25]


def test_a_trial_that_only_returned_its_result_counts_with_that() -> None:
    loop = study([[5.0, 1.0], [6.0, 2.0], [9.0]], [COMPLETE, COMPLETE, PRUNED])
    loop.start({"x": 0.3})
    loop.tell(3, 7.0)
    assert trained(loop, 2).values[:, 0].tolist() == [1.0, 2.0, 2.0, 7.0]


@pytest.mark.parametrize("before", [[], [0.5], [0.5, 0.1]])
def test_a_failed_trial_has_no_value_at_any_step(before: list[float]) -> None:
    """However far it got and however good it was then: else more would be proposed of what fails."""
    loop = study([[5.0, 1.0], [6.0], before], [COMPLETE, PRUNED, FAILED])
    data = trained(loop, 1)
    assert data.step == 2
    assert data.values[0, 0] == 1.0
    assert math.isnan(data.values[2, 0])


def test_a_trial_that_ended_with_a_part_of_its_result_has_no_value() -> None:
    """Its reports have both objectives, and would give it a place."""
    loop = Loop(Random(), SearchSpace({"x": Float(0, 1)}), objectives=("a", "b"))
    for trial in range(3):
        loop.start({"x": trial / 10})
        loop.report(trial, 1, 5.0 + trial, 1.0)
    loop.tell(0, 5.0, 1.0)
    loop.tell(1, 6.0, math.nan, state=PRUNED)
    loop.tell(2, 7.0, 1.0, state=PRUNED)
    values = trained(loop, 4).values, trained(loop, 1).values
    for found in values:
        assert np.isfinite(found).all(axis=1).tolist() == [True, False, True]


def test_nan_reports_are_the_worst() -> None:
    own = np.array([[math.nan], [0.5]])
    early, late = np.array([[1.0], [2.0], [math.nan]]), np.array([[10.0], [20.0], [30.0]])
    assert _transported(own, early, late).tolist() == [[30.0], [10.0]]
    assert np.isnan(_transported(own, early[:0], late[:0])).all()
    assert _transported(own, early[:0], late).tolist() == [[30.0], [30.0]]
    assert _transported(own, np.full((3, 1), math.nan), late).tolist() == [[30.0], [30.0]]
    assert np.isnan(_transported(own, early, np.full((3, 1), math.nan))).all()


def test_a_study_of_a_thousand_stopped_trials_shows_the_newest() -> None:
    curves = [[float(i), float(i)] if i % 3 == 0 else [float(i)] for i in range(1300)]
    loop = Loop(Random(), SearchSpace({"x": Float(0, 1)}))
    for trial, curve in enumerate(curves):
        loop.start({"x": trial / 1300})
        for step, value in enumerate(curve, start=1):
            loop.report(trial, step, value)
        loop.tell(trial, curve[-1], state=COMPLETE if len(curve) == 2 else PRUNED)
    data = trained(loop, 3)
    assert len(data.values) == 1024
    assert data.X[-1, 0] == pytest.approx(1299 / 1300)
    assert not np.isnan(data.values).any()


def over_folds(
    results: list[list[float]],
    ends: Sequence[TrialState | None],
    objectives: tuple[str, ...] | dict[str, str] = ("loss",),
) -> Loop:
    """Trials that report the result of each fold beside the mean so far; all objectives the same."""
    loop = Loop(Random(), SearchSpace({"x": Float(0, 1)}), objectives=objectives)
    for trial, (folds, end) in enumerate(zip(results, ends, strict=True)):
        loop.start({"x": trial / 10})
        for step, value in enumerate(folds, start=1):
            mean = sum(folds[:step]) / step
            metrics = dict.fromkeys(objectives, mean) | {f"{name}_fold": value for name in objectives}
            loop.history._report(trial, step, metrics)
        if end is not None:
            mean = sum(folds) / len(folds) if folds and end is not FAILED else math.nan
            loop.tell(trial, *[mean] * len(objectives), state=end)
    return loop


@pytest.mark.parametrize("objectives", [("loss",), ("loss", "more")])
def test_over_folds_what_is_hard_for_everybody_is_taken_off(objectives: tuple[str, ...]) -> None:
    """Results that are a trial's own level plus a fold's: one fold is enough to know the level."""
    levels, hard = [3.0, 1.0, 2.0, 7.0, 4.0, 0.5], [0.0, 5.0, -1.0, -4.0]
    done = [4, 4, 4, 1, 2, 3]
    curves = [[level + hard[f] for f in range(n)] for level, n in zip(levels, done, strict=True)]
    data = trained(over_folds(curves, [*[COMPLETE] * 3, PRUNED, PRUNED, None], objectives), 2)
    assert data.step == 4
    assert data.values == pytest.approx(np.repeat(np.array(levels)[:, None], len(objectives), axis=1))
    assert data.X[:, 0] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert not len(data.pending)
    turned = [[-value for value in curve] for curve in curves]
    maximised = over_folds(turned, [COMPLETE] * 3 + [PRUNED, PRUNED, None], dict.fromkeys(objectives, "max"))
    assert trained(maximised, 2).values == pytest.approx(data.values)


def test_over_folds_one_disaster_of_a_complete_trial_is_not_the_folds() -> None:
    """What a fold adds is the median over trials: by the mean all others would look worse on it."""
    curves = [[1.0, 1.0], [2.0, 2.0], [3.0, 300.0], [5.0]]
    data = trained(over_folds(curves, [COMPLETE] * 3 + [PRUNED]), 2)
    assert data.values[3, 0] == pytest.approx(5.0)


def test_over_folds_a_failed_trial_has_no_value_and_one_that_begins_is_pending() -> None:
    curves = [[3.0, 4.0], [1.0, 2.0], [5.0], [9.0], []]
    data = trained(over_folds(curves, [COMPLETE, COMPLETE, PRUNED, FAILED, None]), 2)
    assert data.values[:, 0] == pytest.approx([3.5, 1.5, 5.5, math.nan], nan_ok=True)
    assert data.pending[:, 0] == pytest.approx([0.4])


def test_over_folds_a_running_trial_counts_though_another_has_failed() -> None:
    curves = [[math.nan], [3.0, 4.0], [1.0, 2.0], [6.0], [5.0]]
    data = trained(over_folds(curves, [FAILED, COMPLETE, COMPLETE, None, PRUNED]), 2)
    assert data.values[:, 0] == pytest.approx([math.nan, 3.5, 1.5, 6.5, 5.5], nan_ok=True)


def test_over_folds_a_running_trial_counts_once_it_has_a_fold() -> None:
    """With the mean so far beside it or without; another metric is no fold."""
    loop = over_folds([[3.0, 4.0], [1.0, 2.0], [5.0], [], []], [COMPLETE, COMPLETE, PRUNED, None, None])
    loop.history._report(3, 1, {"loss_fold": 6.0})
    loop.history._report(4, 1, {"seconds": 1.0})
    data = trained(loop, 2)
    assert data.values[:, 0] == pytest.approx([3.5, 1.5, 5.5, 6.5])
    assert data.pending[:, 0] == pytest.approx([0.4])


def test_over_folds_results_from_elsewhere_are_final_ones() -> None:
    loop = over_folds([[3.0, 4.0], [1.0, 2.0], [5.0]], [COMPLETE, COMPLETE, PRUNED])
    loop.observe({"x": 0.9}, 7.0)
    data = trained(loop, 2)
    assert data.values[:, 0] == pytest.approx([7.0, 3.5, 1.5, 5.5])
    assert data.X[:, 0] == pytest.approx([0.9, 0.0, 0.1, 0.2])


def test_over_folds_a_trial_with_no_number_for_any_fold_has_no_value() -> None:
    """0, the mean of none, would be the best of all."""
    loop = over_folds([[3.0, 4.0], [1.0, 2.0], [5.0]], [COMPLETE, COMPLETE, PRUNED])
    loop.start({"x": 0.3})
    loop.history._report(3, 1, {"loss": 2.0, "loss_fold": math.nan})
    loop.tell(3, 2.0, state=PRUNED)
    assert trained(loop, 2).values[:, 0] == pytest.approx([3.5, 1.5, 5.5, math.nan], nan_ok=True)


def test_over_folds_of_a_space_that_no_trial_fits_any_more() -> None:
    loop = over_folds([[3.0, 4.0], [5.0]], [COMPLETE, PRUNED])
    loop.history._change_space(SearchSpace({"x": Float(5, 6)}))
    assert trained(loop, 2).X.shape == (0, 1)


def test_over_folds_nothing_complete_leaves_the_mean_of_what_is_known() -> None:
    data = trained(over_folds([[3.0, 4.0], [1.0]], [PRUNED, PRUNED]), 2)
    assert data.values[:, 0] == pytest.approx([3.5, 1.0])


def test_a_gaussian_process_goes_on_where_trials_are_stopped_over_folds() -> None:
    """Estimates of final results are values that it can believe; after rungs it hands over to TPE."""
    curves = [[3.0, 4.0], [1.0, 2.0], *[[5.0 + i] for i in range(6)]]
    ends: Sequence[TrialState | None] = [COMPLETE] * 2 + [PRUNED] * 6
    assert choose(over_folds(curves, ends).history)[0] == "gp"
    assert choose(study(curves, ends).history)[0] == "tpe"
