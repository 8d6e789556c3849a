"""CMA-ES against the package it folds."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from cmaes import CMA

from hpo_core._errors import StrategyError
from hpo_core._propose import sampler_rng
from hpo_core._space import Categorical, Float, Int, SearchSpace
from hpo_core.samplers import CMAES
from tests.hpo_core.sampler_loop import Loop


def cube(d: int) -> SearchSpace:
    return SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(d)})


def ellipsoid(params: dict[str, Any]) -> float:
    return sum(10.0**i * (v - 0.3) ** 2 for i, v in enumerate(params.values()))


def package(d: int, sigma: float = 1 / 6, population: int | None = None) -> CMA:
    """The package's own optimiser, as a study begins with it."""
    bounds = np.tile([0.0, 1.0], (d, 1))
    return CMA(mean=np.full(d, 0.5), sigma=sigma, bounds=bounds, population_size=population, seed=0)


def draw(peer: CMA, loop: Loop, trial: int) -> np.ndarray:
    """What the package draws with the random numbers of the trial."""
    peer.reseed_rng(int(sampler_rng(loop.history, trial).integers(2**31)))
    return peer.ask()


def test_one_at_a_time_it_is_the_package_bit_for_bit() -> None:
    d, seed = 5, 3
    loop = Loop(CMAES(restarts="none"), cube(d), seed=seed)
    loop.run(ellipsoid, 300)
    peer = package(d)
    told: list[tuple[np.ndarray, float]] = []
    for trial in range(300):
        x = draw(peer, loop, trial)
        assert np.array_equal(x, loop.history.X[trial])
        told.append((x, ellipsoid({str(i): v for i, v in enumerate(x)})))
        if len(told) == peer.population_size:
            peer.tell(told)
            told = []


def test_it_finds_the_bottom_of_an_ill_conditioned_bowl() -> None:
    loop = Loop(CMAES(), cube(5))
    loop.run(ellipsoid, 600)
    assert np.nanmin(loop.history.values) < 0.05


def test_margin_keeps_integers_moving() -> None:
    space = SearchSpace(
        {
            "a": Int(0, 20),
            "b": Float(0.0, 1.0, step=0.1),
            "c": Categorical(["xs", "s", "m", "l", "xl"], ordered=True),
            "d": Categorical([False, True]),
            "e": Float(0.0, 1.0),
            "one": Int(3, 3),
        }
    )

    def objective(p: dict[str, Any]) -> float:
        sizes = ["xs", "s", "m", "l", "xl"]
        return float(
            (p["a"] - 17) ** 2
            + 20 * (p["b"] - 0.2) ** 2
            + (sizes.index(p["c"]) - 4) ** 2
            + (not p["d"])
            + (p["e"] - 0.5) ** 2
        )

    loop = Loop(CMAES(), space)
    loop.run(objective, 300)
    best = loop.history.params_of(int(np.nanargmin(loop.history.values)))
    assert (best["a"], best["b"], best["c"], best["d"]) == (17, 0.2, "xl", True)


def test_a_generation_may_be_half_told_when_the_study_stops() -> None:
    """A fold from the start agrees with one that grew, at every length."""
    grown = Loop(CMAES(), cube(3), seed=1)
    for trial in range(40):
        again = Loop(CMAES(), cube(3), seed=1)
        again.history = grown.history
        assert np.array_equal(grown.due(), again.due())
        params = grown.ask()
        assert params is not None
        if trial % 3:
            grown.tell(trial, math.nan if trial % 5 == 0 else ellipsoid(params))


def test_parallel_trials_are_drawn_from_one_distribution_and_late_ones_do_not_derail_it() -> None:
    loop = Loop(CMAES(population=8), cube(4), workers=8)
    for _ in range(8):
        loop.ask()
    extra = loop.ask()
    assert extra is not None
    assert len({loop.history.space.key(u) for u in loop.history.X}) == 9
    assert loop.notes[-1] == loop.notes[0]
    loop.run(ellipsoid, 400, parallel=16)
    assert np.nanmin(loop.history.values) < 0.05


def test_a_foreign_point_is_pulled_to_a_plausible_distance() -> None:
    """The user's corner counts as the point in its direction that is as far off as a draw could be."""
    d, sigma = 4, 0.01
    loop = Loop(CMAES(population=6, sigma=sigma), cube(d))
    loop.start({f"x{i}": 1.0 for i in range(d)})
    loop.tell(0, 0.0)
    towards = np.full(d, 1 / math.sqrt(d))
    told = [(0.5 + sigma * (math.sqrt(d) + 2 * d / (d + 2)) * towards, 0.0)]
    for trial in range(1, 6):
        params = loop.ask()
        assert params is not None
        loop.tell(trial, ellipsoid(params))
        told.append((loop.history.X[trial], ellipsoid(params)))
    peer = package(d, sigma, population=6)
    peer.tell(told)
    assert loop.propose() == pytest.approx(draw(peer, loop, 6), abs=1e-12)


def test_a_failed_trial_counts_as_the_worst_of_its_generation_and_comes_last() -> None:
    """Wherever it stood in the order of results, behind the one that is as bad."""
    loop = Loop(CMAES(population=6, restarts="none"), cube(3))
    values = [5.0, math.nan, 2.0, 9.0, 1.0, math.nan]
    for trial, value in enumerate(values):
        loop.ask()
        loop.tell(trial, value)
    peer = package(3, population=6)
    order = [0, 2, 3, 4, 1, 5]
    peer.tell([(loop.history.X[i], 9.0 if math.isnan(values[i]) else values[i]) for i in order])
    assert loop.propose() == pytest.approx(draw(peer, loop, 6), abs=1e-12)


def test_results_from_elsewhere_say_where_to_start() -> None:
    loop = Loop(CMAES(sigma=1e-6), cube(2))
    loop.observe({"x0": 0.9, "x1": 0.1}, 1.0)
    loop.observe({"x0": 0.2, "x1": 0.8}, 0.5)
    loop.observe({"x0": 0.5, "x1": 0.5}, math.nan)
    assert loop.propose() == pytest.approx([0.2, 0.8], abs=1e-4)


@pytest.mark.parametrize(("restarts", "populations"), [("ipop", [6, 12, 24]), ("bipop", [6, 12, 6])])
def test_a_collapsed_run_starts_again_elsewhere(restarts: str, populations: list[int]) -> None:
    """Twice as large each time; or, once it has, small ones until they have had as many results."""
    loop = Loop(CMAES(restarts=restarts), cube(2))
    loop.run(lambda p: 1.0 if p["x0"] < 0.5 else 1.0 + 1e-13 * p["x1"], 1500)
    runs = dict(re.findall(r"of run (\d+), population (\d+)", "\n".join(loop.notes)))
    assert [int(runs[str(run)]) for run in (1, 2, 3)] == populations


def test_a_distribution_that_broke_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where none is restarted that has only collapsed: nothing can be drawn from it."""
    told = CMA.tell

    def tell(optimizer: CMA, solutions: Any) -> None:
        told(optimizer, solutions)
        if optimizer.generation == 3:
            optimizer._sigma = math.nan

    monkeypatch.setattr(CMA, "tell", tell)
    loop = Loop(CMAES(restarts="none"), cube(2))
    loop.run(ellipsoid, 40)
    assert np.isfinite(loop.history.X).all()
    assert loop.notes[-1].startswith("generation 1 of run 3") or "of run 2" in loop.notes[-1]


def test_all_failed_generations_are_drawn_again() -> None:
    loop = Loop(CMAES(), cube(2))
    loop.run(lambda p: math.nan, 60)
    assert {note.split(",")[0] for note in loop.notes} == {"generation 1 of run 1"}
    assert len({loop.history.space.key(u) for u in loop.history.X}) == 60


def test_what_it_cannot_handle_is_named() -> None:
    space = SearchSpace({"lr": Float(0, 1), "opt": Categorical(["a", "b", "c"])})
    with pytest.raises(StrategyError, match=r"'cmaes' cannot order the 3 choices of .*'opt'.*'tpe'"):
        CMAES().check(space, 1)
    with pytest.raises(StrategyError, match="one objective, the study has 2; use 'nsga2'"):
        CMAES().check(cube(1), 2)
    with pytest.raises(StrategyError, match="restarts must be one of"):
        CMAES(restarts="often")


@pytest.fixture
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of 50 results, not of 8,192."""
    monkeypatch.setattr("hpo_core.samplers._cmaes._EPOCH", 50)


@pytest.mark.usefixtures("short_epochs")
def test_an_epoch_begins_from_the_best_known() -> None:
    loop = Loop(CMAES(), cube(3), seed=5)
    for trials in (49, 1, 1, 30, 19, 1, 17):
        loop.run(ellipsoid, trials)
        warm = loop.due()
        loop.sampler = CMAES()  # no memo: as after a resume
        assert np.array_equal(warm, loop.due())
        if loop.history.n_trials == 100:
            loop.sampler = CMAES(sigma=1e-6)
            best = loop.history.X[int(np.argmin(loop.history.values[:, 0]))]
            assert np.allclose(loop.due(), best, atol=1e-4)
            loop.sampler = CMAES()
    assert "since result 100" in loop.notes[-1]


@pytest.mark.usefixtures("short_epochs")
def test_an_epoch_needs_no_results_from_before_it_but_the_best() -> None:
    """So the first proposal after a resume costs no more in a long study than in a short one."""
    loop = Loop(CMAES(), cube(3), seed=5)
    loop.run(ellipsoid, 130)
    best = int(np.argmin(loop.history.values[:100, 0]))
    other = Loop(CMAES(), cube(3), seed=5)
    for trial in range(130):
        kept = trial == best or trial >= 100
        other.start(loop.history.params_of(trial) if kept else {f"x{i}": 0.9 for i in range(3)})
        other.tell(trial, loop.history.values[trial, 0] if kept else 1e6)
    assert np.array_equal(other.due(), loop.due())
