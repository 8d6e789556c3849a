"""Racing: who is stopped after a few folds, and how often that is a mistake."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpo_core import StrategyError, Study
from hpo_core.schedulers import Race
from hpo_core.schedulers._champion import Champion
from hpo_core.schedulers._criterion import Criterion
from hpo_core.schedulers._race import _chance, _Field
from tests.hpo_core.scheduler_loop import make_study


def race(folds: int, *, objectives: dict[str, str] | None = None, **options: object) -> Study:
    """A study of trials over so many folds."""
    study, _ = make_study(
        Race(**options),  # type: ignore[arg-type]
        objectives=objectives or {"loss": "min"},
        limits={"trials": 5000},
        settings={"max_steps": folds},
    )
    return study


def run(study: Study, results: NDArray[np.float64] | list[float], sign: float = 1.0) -> int | None:
    """One trial, reporting each fold and the mean so far; after how many it was stopped, or ``None``."""
    trial = study.ask()
    for step, value in enumerate(results, start=1):
        mean = float(np.mean(results[:step]))
        verdict = study.report(trial, step, {"loss": sign * mean, "loss_fold": sign * value})
        if verdict is not None:
            study.execution.finish(trial, state="pruned", reason=verdict.reason)
            return step
    study.tell(trial, sign * float(np.mean(results)))
    return None


HARD = np.array([0.0, 0.4, -0.3, 0.1, -0.2])


@pytest.mark.parametrize(("direction", "sign"), [("min", 1.0), ("max", -1.0)])
def test_one_fold_is_enough_for_what_is_clearly_worse(direction: str, sign: float) -> None:
    """Folds differ by ten times more than trials do; only differences on the same fold count."""
    study = race(5, objectives={"loss": direction})
    rng = np.random.default_rng(0)
    for _ in range(4):
        assert run(study, HARD + rng.normal(0.0, 0.01, 5), sign) is None
    assert run(study, HARD + 0.1, sign) == 1
    assert run(study, HARD - 0.1, sign) is None, "it is the best by far"
    assert run(study, HARD, sign) == 1, "the champion is another one by now"


def test_nobody_is_stopped_before_there_are_enough_to_compare_with() -> None:
    study = race(5, startup_trials=3)
    rng = np.random.default_rng(0)
    for level in (0.0, 5.0, 9.0):
        assert run(study, HARD + level + rng.normal(0.0, 0.01, 5)) is None
    assert run(study, HARD + 9.0) == 1


def test_of_equals_the_lower_number_is_the_champion() -> None:
    """Whichever was complete first."""
    for last in (0, 1):
        study = race(2)
        trials = study.ask(), study.ask()
        for trial in (trials[1 - last], trials[last]):
            study.report(trial, 1, 1.0)
            study.tell(trial, 1.0)
        champion = Champion(Criterion(), study.history)
        champion.catch_up(study.history)
        assert champion.trial == 0
    study.tell(study.ask(), 0.0)
    champion.catch_up(study.history)
    assert champion.trial == 0, "one that reported nothing can be compared with nobody"


def test_a_fold_without_a_number_says_nothing() -> None:
    study = race(3)
    for more in (0.0, 0.1, 0.2, 0.3):
        run(study, HARD[:3] + more)
    trial = study.ask()
    assert study.report(trial, 1, {"loss": 0.0, "loss_fold": float("nan")}) is None
    assert study.report(trial, 2, {"loss": 9.0, "loss_fold": 9.0}) is not None


def test_a_bad_fold_is_forgiven_where_folds_vary() -> None:
    """The spread is that of the good ones: 0.1 behind on one fold is nothing, on four of five it is."""
    study = race(5)
    rng = np.random.default_rng(1)
    for _ in range(12):
        run(study, HARD + rng.normal(0.0, 0.1, 5))
    best = study.best.values["loss"]
    own = np.array([study.history.reports.metric_of(study.best.number, "loss_fold")]).ravel()
    assert run(study, own + 0.001) is None, "at its last fold there is nothing left to save"
    assert run(study, own + np.array([0.1, -0.2, -0.2, -0.2, -0.2])) is None
    assert study.best.values["loss"] < best


def test_results_that_never_vary_are_certain() -> None:
    """No spread at all: whoever is behind stays behind, and an equal goes on."""
    study = race(3, startup_trials=2)
    assert run(study, [1.0, 2.0, 3.0]) is None
    assert run(study, [1.5, 2.5, 3.5]) is None
    assert run(study, [1.1, 2.1, 3.1]) == 1
    assert run(study, [1.0, 2.0, 3.0]) is None


def test_nobody_is_stopped_where_nothing_is_known_of_how_results_vary() -> None:
    """All that is complete came out the same."""
    study = race(3, startup_trials=2)
    for _ in range(2):
        assert run(study, [1.0, 2.0, 3.0]) is None
    assert run(study, [1.5, 2.5, 3.5]) is None


@settings(max_examples=12)
@given(
    behind=st.floats(0.01, 2.0),
    folds=st.sampled_from([(1, 3), (1, 5), (2, 5), (4, 5), (3, 10)]),
    s=st.floats(0.2, 2.0),
    freedom=st.integers(3, 30),
)
def test_the_chance_is_that_of_drawing_the_rest(
    behind: float, folds: tuple[int, int], s: float, freedom: int
) -> None:
    """By simulation: spread and level drawn from what is believed of them, then the folds to come."""
    k, n = folds
    rng = np.random.default_rng(0)
    draws = 100_000
    sigma = s * np.sqrt(freedom / rng.chisquare(freedom, draws))
    level = behind + sigma / np.sqrt(k) * rng.standard_normal(draws)
    rest = level + sigma / np.sqrt(n - k) * rng.standard_normal(draws)
    ahead = (k * behind + (n - k) * rest) / n < 0
    assert _chance(behind, k, n, s, freedom) == pytest.approx(ahead.mean(), abs=0.006)


@pytest.mark.parametrize("spread", [0.05, 0.5])
def test_few_winners_are_stopped(spread: float) -> None:
    """Of trials that would have become the best, far fewer than one in five; and most steps are saved."""
    lost = won = steps = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        study, best = race(5), np.inf
        for _ in range(80):
            results = rng.normal(0.0, 1.0) + HARD + rng.normal(0.0, spread, 5)
            stopped = run(study, results)
            steps += stopped or 5
            if results.mean() < best:
                won, lost = won + 1, lost + (stopped is not None)
            if stopped is None:
                best = min(best, float(results.mean()))
    assert won > 25
    assert lost / won < 0.2
    assert steps < 0.6 * 8 * 80 * 5


def test_what_it_cannot_do_is_said_at_the_start() -> None:
    with pytest.raises(StrategyError, match="max_steps"):
        Race().check(1, None)
    with pytest.raises(StrategyError, match="metric="):
        Race().check(2, 5)
    Race(metric="a").check(2, 5)
    with pytest.raises(StrategyError, match="p_threshold"):
        Race(p_threshold=1.0)
    with pytest.raises(StrategyError, match="startup_trials"):
        Race(startup_trials=1)


def test_a_plain_metric_by_name_is_compared_as_it_is() -> None:
    """One result per seed, without the suffix; what the objective says of its folds is another matter."""
    study = race(4, metric="score", direction="max", startup_trials=2)

    def play(scores: list[float]) -> int | None:
        trial = study.ask()
        for step, score in enumerate(scores, start=1):
            if study.report(trial, step, {"score": score, "loss_fold": -score}) is not None:
                study.execution.finish(trial, {"loss": 0.0}, state="pruned")
                return step
        study.tell(trial, 0.0)
        return None

    assert play([0.8, 0.9, 0.7, 0.8]) is None
    assert play([0.7, 0.85, 0.6, 0.7]) is None
    assert play([0.3, 0.4, 0.2, 0.3]) == 1


def test_the_spread_is_that_of_the_better_half_of_the_newest() -> None:
    """Differences to bad configurations vary more; those of long ago are of another champion."""
    study = race(3)
    for shifts in ([0, 0, 0], [1.0, 1.2, 1.1], [2.0, 2.1, 2.3], [50.0, 10.0, 90.0], [90.0, 5.0, 40.0]):
        run(study, HARD[:3] + np.array(shifts))
    for shift in (0.5, 0.6):
        single = study.ask()  # of a single fold there is no spread
        study.report(single, 1, {"loss": shift, "loss_fold": HARD[0] + shift})
        study.tell(single, shift)
    field = _Field(Criterion(), study.history)
    field.catch_up(study.history)
    near = [np.array([1.0, 1.2, 1.1]), np.array([2.0, 2.1, 2.3])]
    s = np.sqrt(sum(((d - d.mean()) ** 2).sum() for d in near) / 4)
    assert field.spread == pytest.approx((s, 4))


def test_only_the_newest_trials_tell_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo_core.schedulers._race._NEWEST", 2)
    study = race(3)
    for shifts in ([0, 0, 0], [1.0, 9.0, 5.0], [2.0, 2.1, 2.3], [3.0, 3.1, 3.3]):
        run(study, HARD[:3] + np.array(shifts))
    field = _Field(Criterion(), study.history)
    field.catch_up(study.history)
    assert field.complete == 4
    assert field.spread == pytest.approx((np.std([2.0, 2.1, 2.3], ddof=1), 2))
