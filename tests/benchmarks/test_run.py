"""The benchmark loop asks, tells and scores as an asynchronous pool would."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.problems import Problem, drive, noise_rng, run
from hpo_core import Float, SearchSpace


class Scripted:
    """Proposes given values in turn and writes down every call."""

    def __init__(self, values):
        self.values = list(values)
        self.calls = []

    def ask(self):
        number = sum(1 for c in self.calls if c[0] == "ask")
        self.calls.append(("ask", number))
        return number, {"x": self.values[number]}

    def tell(self, handle, value):
        self.calls.append(("tell", handle, value))


def line(observe=None) -> Problem:
    return Problem(
        name="line",
        space=SearchSpace({"x": Float(0.0, 1.0)}),
        true=lambda p: p["x"],
        optimum=0.0,
        median=0.5,
        observe=observe,
    )


def test_regret_is_that_of_the_best_so_far():
    trace = drive(line(), lambda: Scripted([0.5, 0.25, 0.4, 0.1]), seed=0, trials=4)
    assert trace.regret == pytest.approx([1.0, 0.5, 0.5, 0.2])
    assert trace.at(3) == pytest.approx(0.5)
    assert len(trace.ask) == len(trace.tell) == len(trace.ask_cpu) == len(trace.tell_cpu) == 4


def test_the_incumbent_is_the_best_observed_and_is_scored_by_its_true_value():
    """A lucky observation of a bad point makes it the incumbent, and its regret is that of the truth."""
    lucky = {0.2: 0.2, 0.4: 0.0}
    trace = drive(line(lambda p, rng: lucky[p["x"]]), lambda: Scripted([0.2, 0.4]), seed=0, trials=2)
    assert trace.regret == pytest.approx([0.4, 0.8])


def test_a_failed_trial_is_told_as_nan_and_never_becomes_the_incumbent():
    optimiser = Scripted([0.1, 0.3])
    values = iter([math.nan, 0.3])
    trace = drive(line(lambda p, rng: next(values)), lambda: optimiser, seed=0, trials=2)
    assert trace.regret == pytest.approx([1.0, 0.6])  # the median's regret until something succeeds
    assert math.isnan(optimiser.calls[1][2])


def test_several_workers_are_asked_ahead_and_the_oldest_finishes_first():
    optimiser = Scripted(np.linspace(0.1, 0.5, 5))
    drive(line(), lambda: optimiser, seed=0, trials=5, workers=3)
    calls = [c[:2] for c in optimiser.calls]
    assert calls == [
        ("ask", 0), ("ask", 1), ("ask", 2),
        ("tell", 0), ("ask", 3), ("tell", 1), ("ask", 4), ("tell", 2), ("tell", 3), ("tell", 4),
    ]  # fmt: skip


def test_the_noise_of_a_trial_depends_on_problem_seed_and_number_only():
    draw = noise_rng(line(), 1, 7).random()
    assert draw == noise_rng(line(), 1, 7).random()
    assert draw != noise_rng(line(), 2, 7).random()
    assert draw != noise_rng(line(), 1, 8).random()


def test_our_own_study_runs_and_repeats_itself():
    first, second = (run(line(), "random", seed=3, trials=12, workers=4) for _ in range(2))
    assert first.observed.tolist() == second.observed.tolist()
    assert len(set(first.observed)) == 12
    assert run(line(), "random", seed=4, trials=12).observed.tolist() != first.observed.tolist()


def test_our_own_study_is_told_of_failures():
    trace = run(line(lambda p, rng: math.nan if p["x"] > 0.5 else p["x"]), "random", seed=0, trials=20)
    assert np.isnan(trace.observed).any()
    assert np.isfinite(trace.regret).all()
