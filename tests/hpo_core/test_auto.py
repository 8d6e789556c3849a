"""The default strategy: what it chooses, and that choosing is pure."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hpo_core import Study
from hpo_core._space import Categorical, Constant, Float, Int, SearchSpace
from hpo_core._states import TrialState
from hpo_core.samplers._auto import GP_PENDING, GP_RESULTS, Auto, choose, gp_cost
from tests.hpo_core.sampler_loop import Loop, mixed_space

CUBE = SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(4)})
CHOICES = SearchSpace({"c": Categorical(["a", "b", "c"]), "x": Float(0.0, 1.0)})
GRID = SearchSpace({f"n{i}": Int(1, 20) for i in range(4)})


def filled(space: SearchSpace, results: int, *, objectives: int = 1, pending: int = 0) -> Loop:
    """A study with random results."""
    names = [f"o{i}" for i in range(objectives)]
    loop = Loop(Auto(), space, objectives=names)
    rng = np.random.default_rng(0)
    for number, u in enumerate(space.sample(rng, results + pending + 1)[:-1]):
        loop.start(space.decode(u))
        if number < results:
            loop.tell(number, *rng.random(objectives))
    return loop


def test_starts_with_the_gaussian_process_everywhere() -> None:
    for space in (CUBE, CHOICES, GRID, mixed_space()):
        for results in (0, 5, 60):
            assert choose(filled(space, results).history)[0] == "gp"


@pytest.mark.parametrize(
    ("space", "objectives", "expected"),
    [(CUBE, 1, "cmaes"), (CHOICES, 1, "tpe"), (GRID, 1, "tpe"), (CUBE, 2, "tpe"), (mixed_space(), 1, "tpe")],
)
def test_switches_to_something_cheap_when_there_is_much_evidence(
    space: SearchSpace, objectives: int, expected: str
) -> None:
    loop = filled(space, GP_RESULTS, objectives=objectives)
    name, why = choose(loop.history)
    assert name == expected
    assert str(GP_RESULTS) in why or "ms" in why
    assert loop.propose() is not None
    assert loop.notes[-1].startswith(f"{expected}, as ")
    assert "\n" not in loop.notes[-1]


def test_a_short_rest_of_the_budget_is_not_worth_a_cmaes() -> None:
    loop = filled(CUBE, GP_RESULTS)
    loop.history.max_trials = GP_RESULTS + 20
    assert choose(loop.history)[0] == "tpe"
    loop.history.max_trials = GP_RESULTS + 2000
    assert choose(loop.history)[0] == "cmaes"


def test_hundreds_of_trials_in_flight_are_left_to_the_cheap_samplers() -> None:
    loop = filled(CUBE, 50, pending=GP_PENDING + 10)
    name, why = choose(loop.history)
    assert name != "gp"
    assert str(GP_PENDING + 10) in why
    assert loop.propose() is not None


def test_estimated_cost_grows_with_everything_that_costs() -> None:
    base = gp_cost(100, 0, 5, 1, False)
    for more in ((300, 0, 5, 1, False), (100, 90, 5, 1, False), (100, 0, 50, 1, False)):
        assert gp_cost(*more) > base
    assert gp_cost(100, 0, 5, 2, False) > base
    assert gp_cost(100, 0, 5, 1, True) > base


def test_choice_does_not_depend_on_the_way_there() -> None:
    """One Auto that saw everything and one that saw nothing propose the same, across the switch."""
    loop = filled(CUBE, GP_RESULTS - 3)
    for number in range(GP_RESULTS - 3, GP_RESULTS + 3):
        fresh = Loop(Auto(), CUBE)
        fresh.history = loop.history
        proposed = fresh.propose()
        u = loop.propose()
        assert u is not None
        assert proposed is not None
        assert np.array_equal(u, proposed)
        loop.start(CUBE.decode(u))
        loop.tell(number, float(np.sum(u)))


def test_is_the_default_strategy_of_a_study() -> None:
    study = Study(CUBE, objectives={"loss": "min"}, seed=0)
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, sum((v - 0.3) ** 2 for v in trial.params.values()))
    assert study.best.values["loss"] < 0.16  # the centre, where it starts


@pytest.mark.parametrize(
    ("space", "objective"),
    [
        (SearchSpace({"a": Constant(1)}), lambda p: 0.0),
        (SearchSpace({"x": Float(1.0, 1.0)}), lambda p: 0.0),
        (CUBE, lambda p: math.nan),
    ],
)
def test_degenerate_studies_finish(space: SearchSpace, objective: Any) -> None:
    loop = Loop(Auto(), space)
    loop.run(objective, 8)
    assert loop.history.n_trials == 8


def test_trials_stopped_early_do_not_make_it_slow() -> None:
    loop = filled(CHOICES, 130)
    loop.ask()
    loop.report(130, 1, 0.5)
    loop.tell(130, 0.5, state=TrialState.PRUNED)
    cost = gp_cost(131, 0, 2, 1, True)
    assert choose(loop.history)[0] == ("gp" if cost <= 60.0 else "tpe")


def test_ranks_carry_across_rungs_so_tpe_takes_over() -> None:
    study = Study(CUBE, strategy="asha", settings={"max_steps": 9}, limits={"trials": 12})
    for _ in range(8):
        trial = study.ask()
        study.tell(trial, float(trial.number))  # nothing is ever better than the first
    notes = {t.number: t.note for t in study.trials}
    assert notes[0].startswith("gp, as ")
    assert notes[max(notes)].startswith("tpe, as ")
    assert "compared by rank" in notes[max(notes)]


def test_once_warm_no_proposal_imports_anything_of_scipy() -> None:
    """Else the first ones would hold up the workers for a second."""
    program = """
import sys
from hpo_core import Float, Study
study = Study({"x": Float(0, 1), "y": Float(0, 1)}, name="warm", objectives={"loss": "min"})
study.strategy.warm_up()
before = set(sys.modules)
for i in range(12):
    study.tell(study.ask(), (i - 5.0) ** 2)
print(sorted(m for m in set(sys.modules) - before if m.startswith(("scipy", "hpo_core"))))
"""
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"
