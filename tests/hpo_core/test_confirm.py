"""The verdict on a winner: intervals against scipy, the rate of false alarms, and what is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from hpo_core import Float, InputError, Study
from hpo_core.confirm import CONFIRMED, CONFIRMS, Again, Verdict, confirmed, said_of

values = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=8)


def again(trial: int, results: object, reported: float = 0.0) -> Again:
    found = {i + 1: float(v) for i, v in enumerate(results)}  # type: ignore[arg-type, var-annotated]
    return Again(trial=trial, reported=reported, results=found, reason="" if found else "failed: boom")


@given(values, st.sampled_from(["min", "max"]))
def test_the_interval_is_that_of_a_paired_t_test(pairs: list[tuple[float, float]], direction: str) -> None:
    winner, other = np.array(pairs).T
    assume(np.ptp(winner - other) > 1e-6)
    by = confirmed([again(4, winner), again(7, other)], direction).differences[7]
    sign = 1.0 if direction == "max" else -1.0
    expected = stats.ttest_rel(sign * other, sign * winner).confidence_interval(0.95)
    assert (by.low, by.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)
    assert by.gain == pytest.approx(sign * (other - winner).mean(), abs=1e-9)


@given(values, st.integers(2, 5))
def test_more_leaders_make_each_interval_wider(pairs: list[tuple[float, float]], m: int) -> None:
    """Bonferroni: the level of each is that of the whole divided by their number."""
    winner, other = np.array(pairs).T
    assume(np.ptp(winner - other) > 1e-6)
    found = confirmed([again(0, winner), *(again(n, other) for n in range(1, m + 1))], "max")
    expected = stats.ttest_rel(other, winner).confidence_interval(1.0 - 0.05 / m)
    for by in found.differences.values():
        assert (by.low, by.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)


def test_leaders_that_are_alike_are_seldom_told_apart() -> None:
    """2000 draws of a winner and three others from one distribution: 5% at most, plus six of its sd's."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(2000):
        found = confirmed([again(i, rng.normal(size=4)) for i in range(4)], "min")
        alarms += found.verdict != Verdict.OPEN
    assert alarms / 2000 < 0.05 + 6 * (0.05 * 0.95 / 2000) ** 0.5


@pytest.mark.parametrize(
    ("others", "verdict", "trial", "said"),
    [
        (
            [[2.0, 3.1, 4.0], [5.0, 6.1, 7.0]],
            Verdict.HOLDS,
            9,
            "holds: on 3 fresh seeds it is better than trials 0, 1",
        ),
        (
            [[2.0, 3.1, 4.0], [0.1, 1.1, 2.0]],
            Verdict.ANOTHER,
            1,
            "trial 1 is better than the winner, trial 9, on 3",
        ),
        ([[0.1, 1.1, 2.0], [-4.0, -3.0, -2.1]], Verdict.ANOTHER, 1, "by 5.033 (4.8"),
        ([[2.0, 3.1, 4.0], [9.0, -9.0, 2.0]], Verdict.OPEN, 9, "trial 9, and trial 1 cannot be told apart"),
        ([[2.0, 3.1, 4.0], [1.1, 2.0, 3.0]], Verdict.OPEN, 9, "trial 9, and trial 1 cannot be told apart"),
        ([[]], Verdict.ALONE, 9, "compared with no other"),
    ],
)
def test_verdicts(others: list[list[float]], verdict: str, trial: int, said: str) -> None:
    """Of a study that minimises; the winner is trial 9."""
    leaders = [again(9, [1.0, 2.0, 3.0]), *(again(n, results) for n, results in enumerate(others))]
    found = confirmed(leaders, "min")
    assert (found.verdict, found.trial) == (verdict, trial)
    assert said in found.sentence()


def test_a_winner_that_fails_leaves_the_best_of_the_others() -> None:
    found = confirmed([again(9, []), again(1, [1.0, 2.0]), again(2, [3.0, 4.0])], "max")
    assert (found.verdict, found.trial) == (Verdict.FAILED, 2)
    assert found.sentence() == "the winner, trial 9, failed on fresh seeds: failed: boom"
    assert confirmed([again(9, []), again(1, [])], "max").trial is None


def test_results_on_other_seeds_are_not_compared() -> None:
    winner = again(0, [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match=r"the same seeds, got those of {0: \[1, 2, 3\], 1: \[2, 3, 4\]}"):
        confirmed([winner, Again(trial=1, reported=0.0, results={2: 1.0, 3: 2.0, 4: 3.0})], "min")
    with pytest.raises(InputError, match="at least two"):
        confirmed([again(0, [1.0]), again(1, [2.0])], "min")


def test_either_study_says_what_came_out_of_the_newest_confirmation() -> None:
    """And the one that was confirmed whether its winner is still the best."""
    study, again = (Study({"x": Float(0.0, 1.0)}, name=name) for name in ("mine", "mine-confirm"))
    study.tell(study.ask(), 1.0)
    assert said_of(study) == ""
    for number, sentence in enumerate(("it fell", "it holds")):
        kept = {"study": f"mine-{number}", "sentence": sentence, "trials": [{"trial": 0}, {"trial": 7}]}
        study.note(CONFIRMED, kept)
    assert said_of(study) == "Verdict of mine-1: it holds."
    study.tell(study.ask(), 0.5)
    assert said_of(study) == "Verdict of mine-1: it holds. Another trial has become the best since."
    again.note(CONFIRMS, {"study": "mine", "sentence": "it holds"})
    assert said_of(again) == "Verdict on the trials of mine: it holds."


def test_of_several_objectives_no_trial_has_become_the_best_since() -> None:
    """The winner is the first by the first objective; of equals the front has another one first."""
    study = Study({"x": Float(0.0, 1.0)}, objectives={"loss": "min", "size": "min"})
    for size in (5.0, 3.0):
        study.tell(study.ask(), {"loss": 1.0, "size": size})
    assert study.best.number == 1
    study.note(CONFIRMED, {"study": "again", "sentence": "it holds", "trials": [{"trial": 0}]})
    assert said_of(study) == "Verdict of again: it holds."
