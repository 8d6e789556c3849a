"""The recorded curves are what training gives, and the comparison reads them right."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmarks import multi_fidelity as mf
from benchmarks.curves import LEVELS, STEPS, Curves, configurations, curve_names, load
from benchmarks.curves._train import curve, table


@pytest.mark.parametrize("name", ["lgbm-diabetes", "mlp-wine"])
@pytest.mark.parametrize("row", [0, 517])
def test_a_recorded_curve_is_trained_again(name: str, row: int) -> None:
    learner, _, title = name.partition("-")
    losses, _ = curve(learner, table(title), configurations(learner)[row], 20, seed=row)
    assert load(name).loss[row, :20] == pytest.approx(losses, rel=2e-3)


def test_every_file_is_whole() -> None:
    assert {name.partition("-")[0] for name in curve_names()} == set(LEVELS)
    for name in curve_names():
        curves = load(name)
        n = len(configurations(name.partition("-")[0]))
        assert n > 1000
        assert curves.loss.shape == curves.seconds.shape == (n, STEPS)
        assert np.isfinite(curves.loss).all()
        assert (curves.seconds > 0).mean() > 0.99
        assert curves.optimum < curves.median


def test_rows_are_found_by_levels() -> None:
    curves = load("lgbm-wine")
    levels = LEVELS["lgbm"]
    for row in (0, 1, 500, 1079):
        params = configurations("lgbm")[row]
        assert curves.row({name: levels[name].index(value) for name, value in params.items()}) == row
    assert curves.space.size == len(configurations("lgbm"))


def small() -> Curves:
    """The table of a benchmark with a flat loss for each configuration."""
    n = len(configurations("lgbm"))
    loss = np.repeat(np.linspace(0.0, 2.0, n)[:, None], STEPS, axis=1)
    return Curves("lgbm-made", loss, np.full((n, STEPS), 1.0))


def test_regret_is_one_at_the_median_and_holds_the_best_so_far() -> None:
    until = 100.0
    found = mf.regrets([(2.0, 0.5), (50.0, 0.1)], small(), until)
    at = mf.SHARES * until
    assert found[at < 2].tolist() == [1.0] * int((at < 2).sum())
    assert found[(at >= 2) & (at < 50)] == pytest.approx(0.5)
    assert found[-1] == pytest.approx(0.1)


def test_random_search_gets_its_budget_done() -> None:
    curves = small()
    until = mf.time_limit(curves, 8)
    assert until == pytest.approx(STEPS * mf.BUDGET[8] / 8)
    found, trials = mf.our_incumbents("random", curves, 8, until, seed=0)
    assert mf.BUDGET[8] <= trials <= mf.BUDGET[8] + 8
    assert all(a[0] <= b[0] and a[1] > b[1] for a, b in pairwise(found))


def test_areas_and_speed_ups_by_hand() -> None:
    slow, fast = np.full(len(mf.SHARES), 1.0), np.full(len(mf.SHARES), 0.01)
    slow[-1] = 0.1
    assert mf.area({"a": [fast], "b": [fast]}) == pytest.approx(0.01)
    assert mf.area({"a": [slow * 0 + 1.0], "b": [fast]}) == pytest.approx(0.1)
    assert mf.speed_ups({"a": [fast]}, {"a": [slow]}) == {"a": pytest.approx(100.0)}
    assert mf.speed_ups({"a": [slow]}, {"a": [fast]}) == {"a": 0.0}
