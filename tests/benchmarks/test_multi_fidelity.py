"""The recorded curves are what training gives, and the comparison reads them right."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from benchmarks import _multi_fidelity_peers as peers
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
    until = mf.time_limit(curves, 8, 48)
    assert until == pytest.approx(STEPS * 48 / 8)
    found, trials = mf.our_incumbents("random", curves, 8, until, seed=0)
    assert 48 <= trials <= 48 + 8
    assert all(a[0] <= b[0] and a[1] > b[1] for a, b in pairwise(found))


def test_areas_and_speed_ups_by_hand() -> None:
    slow, fast = np.full(len(mf.SHARES), 1.0), np.full(len(mf.SHARES), 0.01)
    slow[-1] = 0.1
    assert mf.area({"a": [fast], "b": [fast]}) == pytest.approx(0.01)
    assert mf.area({"a": [slow * 0 + 1.0], "b": [fast]}) == pytest.approx(0.1)
    assert mf.speed_ups({"a": [fast]}, {"a": [slow]}) == {"a": pytest.approx(100.0)}
    assert mf.speed_ups({"a": [slow]}, {"a": [fast]}) == {"a": 0.0}


def test_the_error_of_an_area_is_that_of_its_seeds() -> None:
    one, two = np.full(len(mf.SHARES), 0.1), np.full(len(mf.SHARES), 0.1 * np.e)
    # Seed by seed the benchmarks agree: logarithms of the area of log 0.1 and 1 more, whose error is 1/2.
    assert mf.standard_error({"a": [one, two], "b": [one, two]}) == pytest.approx(0.5)
    # They disagree, and every seed comes to the same area.
    assert mf.standard_error({"a": [one, two], "b": [two, one]}) == pytest.approx(0.0)
    assert np.isnan(mf.standard_error({"a": [one], "b": [one, two]}))


def test_what_could_be_reached_is_read_off_the_table() -> None:
    # Losses rise evenly, so half a regret is reached by half of the better half, each at its first step.
    ends = np.full(len(mf.SHARES), 0.5)
    found = mf.ceilings({"lgbm-wine": [ends]}, 1, 12)["lgbm-wine"]
    curves = load("lgbm-wine")
    goal = (curves.optimum + curves.median) / 2
    by_hand = [
        sum(curves.seconds[row, : step + 1])
        for row in range(len(curves.loss))
        for step in np.flatnonzero(curves.loss[row] <= goal)[:1]
    ]
    assert found == pytest.approx(mf.time_limit(curves, 1, 12) / np.median(by_hand))


class _Planned:
    """Runs configuration 0 to step 2, to step 5, to step 3 again, then others; waits now and then."""

    def __init__(self, waits: bool) -> None:
        self.jobs = [(0, 2), (0, 5), (0, 3), (1, 2), None, (2, 1)] if waits else [(0, 2), (0, 5), (0, 3)]
        self.told: list[tuple[Any, float, float]] = []

    def ask(self) -> Any:
        job = self.jobs.pop(0) if self.jobs else None
        if job is None:
            return None
        row, target = job
        names = LEVELS["lgbm"]
        at = np.unravel_index(row, [len(values) for values in names.values()])
        return job, row, dict(zip(names, map(int, at), strict=True)), target

    def tell(self, job: Any, loss: float, seconds: float) -> None:
        self.told.append((job, loss, seconds))


def test_a_peer_that_plans_pays_for_new_steps_only() -> None:
    planned = _Planned(waits=False)
    peers._planning(planned, small(), 1, 100.0)
    assert [(job, seconds) for job, _, seconds in planned.told] == [
        ((0, 2), 2.0),
        ((0, 5), 3.0),
        ((0, 3), 0.0),
    ]


def test_a_worker_waits_where_a_peer_has_nothing_for_it() -> None:
    planned = _Planned(waits=True)
    found = peers._planning(planned, small(), 2, 100.0)
    assert len(planned.told) == 5
    assert found[0][1] == 0.0
    assert not planned.jobs


class _Stopping:
    """Stops every trial after two steps."""

    def __init__(self) -> None:
        self.begun = 0
        self.seen: list[tuple[int, int]] = []

    def begin(self) -> Any:
        self.begun += 1
        return self.begun, dict.fromkeys(LEVELS["lgbm"], 0)

    def goes_on(self, trial: int, step: int, loss: float) -> bool:
        self.seen.append((trial, step))
        return step < 2


def test_a_peer_that_stops_gets_the_next_trial_at_once() -> None:
    stopping = _Stopping()
    peers._stopping(stopping, small(), 2, 4.5)
    assert stopping.seen == [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (4, 1), (3, 2), (4, 2)]
