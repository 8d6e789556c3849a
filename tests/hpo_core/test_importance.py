"""Importance finds known shares of variance, also of conditional parameters and with pruned trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hpo_core import Categorical, Float, InputError, Int, SearchSpace, Study
from hpo_core._disasters import worst_to_show
from hpo_core.importance import _boxes, _tree_shares, importances, mid_ranks, outcomes
from hpo_core.samplers._trees import Trees
from hpo_core.uncertainty import band
from tests.hpo_core.studies import started

CONDITIONAL = {
    "kind": Categorical(["with", "without"]),
    "inner": Float(0, 1).when("kind", "with"),
    "outer": Float(0, 1),
}


def tried(space: Any, value: Callable[[dict[str, Any]], float], trials: int = 300) -> Study:
    """A study whose trials are random."""
    study = Study(space, strategy="random", limits={"trials": trials})
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, value(trial.params))
    return study


def test_shares_of_an_additive_function() -> None:
    """Variances 4/12, 1/12 and 0.06 make shares of 0.70, 0.17 and 0.13; what is irrelevant has none."""
    space = {
        "a": Float(0, 1),
        "b": Float(1e-4, 1, log=True),
        "kind": Categorical(["x", "y", "z"]),
        "count": Int(1, 5),
    }
    levels = {"x": 0.0, "y": 0.6, "z": 0.3}
    study = tried(space, lambda p: 2 * p["a"] + (np.log10(p["b"]) + 4) / 4 + levels[p["kind"]])
    found = {i.name: i for i in importances(study)}
    assert list(found) == ["a", "b", "kind", "count"]
    assert found["a"].share == pytest.approx(0.70, abs=0.08)
    assert found["b"].share == pytest.approx(0.17, abs=0.07)
    assert found["kind"].share == pytest.approx(0.13, abs=0.06)
    assert found["count"].share < 0.01
    for one in found.values():
        assert one.trials == 300
        assert 0 <= one.low <= one.share <= one.high <= 1
        assert 0 <= one.local_low <= one.local_high <= 1


def test_conditional_parameters_are_judged_where_they_are_active() -> None:
    """By hand: the kind explains 0.56 of all; the inner parameter 0.92 of what happens where it is active."""
    study = tried(CONDITIONAL, lambda p: p.get("inner", 0.0) + 0.3 * p["outer"])
    found = {i.name: i for i in importances(study)}
    assert found["kind"].share == pytest.approx(0.56, abs=0.08)
    assert found["inner"].share == pytest.approx(0.92, abs=0.06)
    assert found["inner"].trials == sum("inner" in t.params for t in study.trials) < found["kind"].trials


def test_local_importance_looks_near_the_optimum() -> None:
    """What separates bad from worse matters over the space, and not near the optimum."""
    study = tried({"a": Float(0, 1), "b": Float(0, 1)}, lambda p: p["b"] if p["a"] < 0.5 else 10 + 5 * p["a"])
    found = {i.name: i for i in importances(study)}
    assert found["a"].share > 0.9 > found["a"].local
    assert found["b"].local > 5 * found["b"].share


def test_a_disaster_is_not_all_that_matters() -> None:
    """One value of 1e9 leaves the shares about as they are."""
    study = tried({"a": Float(0, 1), "b": Float(0, 1)}, lambda p: p["a"] if p["b"] > 0.01 else 1e9)
    assert importances(study)[0].name == "a"
    assert importances(study)[0].share > 0.8


def test_the_shares_of_a_tree_are_exact() -> None:
    """The same as averages over a fine grid, which falls into the same leaves."""
    space = SearchSpace({"a": Float(0, 1), "k": Categorical(["x", "y", "z"])})
    rng = np.random.default_rng(0)
    U = space.sample(rng, 12)
    grown = Trees(number=3).fit(space, U, U[:, 0] + (U[:, 1] > 0.6) * U[:, 0], rng)
    _, tree, boxes = _boxes(grown, 3)
    assert np.bincount(tree, (boxes[:, :, 1] - boxes[:, :, 0]).prod(axis=1)) == pytest.approx([1, 1, 1])
    steps = 4000
    a = (np.arange(steps) + 0.5) / steps
    grid = np.array([[x, (k + 0.5) / 3] for k in range(3) for x in a])
    means = (grown.total / np.maximum(grown.count, 1))[grown.leaves(grid)].reshape(3, 3, steps)
    total = means.reshape(3, -1).var(axis=1)
    expected = np.stack([means.mean(axis=1).var(axis=1), means.mean(axis=2).var(axis=1)], axis=1)
    assert _tree_shares(grown, 3) == pytest.approx(expected / total[:, None], abs=2e-3)


def test_the_shares_of_whole_numbers_on_a_log_scale_are_exact() -> None:
    """Their cells are of unequal size: 1 has half of the prior's mass here, and 4 a ninth."""
    space = SearchSpace({"a": Int(1, 4, log=True), "b": Int(1, 4, log=True)})
    rng = np.random.default_rng(0)
    U = space.sample(rng, 40)
    grown = Trees(number=3).fit(space, U, U[:, 0] + U[:, 0] * U[:, 1], rng)
    parameter = space.parameters["a"]
    units, mass = parameter.units(), parameter.masses()
    grid = np.array([[a, b] for a in units for b in units])
    means = (grown.total / np.maximum(grown.count, 1))[grown.leaves(grid)].reshape(3, 4, 4)
    means -= np.einsum("tab,a,b->t", means, mass, mass)[:, None, None]
    total = np.einsum("tab,a,b->t", means**2, mass, mass)
    of_a = (means @ mass) ** 2 @ mass
    of_b = np.einsum("tab,a->tb", means, mass) ** 2 @ mass
    assert _tree_shares(grown, 3) == pytest.approx(np.stack([of_a, of_b], axis=1) / total[:, None])


def test_pruned_trials_stand_where_they_stood_among_their_peers() -> None:
    """Complete 1 < 3; of two that were pruned at step 1 one was between them there, the other behind.

    What they reported after that was another metric.
    """
    study = Study({"x": Float(0, 1)}, strategy="random", settings={"max_steps": 2})
    ends = {0: (1.0, 1.0), 1: (3.0, 3.0), 2: (2.0, None), 3: (9.0, None)}
    for number, (early, final) in ends.items():
        study.ask()
        study.report(number, 1, early)
        if final is None:
            study.report(number, 2, {"seconds": 1.0})
            study.execution.finish(number, state="pruned")
        else:
            study.report(number, 2, final)
            study.execution.finish(number, final)
    X, y = outcomes(study.history)
    order = study.history.evidence.trials[np.argsort(y)].tolist()
    assert order == [0, 2, 1, 3]
    assert len(X) == 4
    assert (y.min(), y.max()) == (0.0, 0.75)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 2, 0], [1, 3, 0, 2]])
def test_ranks_do_not_depend_on_which_trial_came_first(order: list[int]) -> None:
    """Three complete trials and one that was pruned, which stands second, also as the very first trial."""
    curves = {0: [1.0, 10.0], 1: [3.0], 2: [5.0, 20.0], 3: [9.0, 30.0]}
    study = Study({"x": Float(0, 1)}, strategy="random", settings={"max_steps": 2})
    for number, which in enumerate(order):
        study.ask()
        for step, value in enumerate(curves[which], start=1):
            study.report(number, step, value)
        if len(curves[which]) == 2:
            study.execution.finish(number, curves[which][-1])
        else:
            study.execution.finish(number, state="pruned")
    _, y = outcomes(study.history)
    trials = study.history.evidence.trials
    assert [order[trial] for trial in trials[np.argsort(y)]] == [0, 1, 2, 3]


def test_equal_outcomes_share_a_rank_and_very_many_are_sampled() -> None:
    assert mid_ranks(np.array([3.0, 1.0, 3.0, 3.0, 0.0])).tolist() == [3.0, 1.0, 3.0, 3.0, 0.0]
    study = Study({"x": Float(0, 1), "y": Float(0, 1)}, strategy="random")
    for x, y in np.random.default_rng(0).random((1300, 2)):
        study.observe({"x": x, "y": y}, 2 * x + y)
    first, second = importances(study)
    assert (first.name, first.trials) == ("x", 1300)
    # The best quarter of the sample is there in full, so the shares are not quite those of all.
    assert first.share == pytest.approx(0.8, abs=0.1)
    assert second.share == pytest.approx(0.2, abs=0.1)


def test_a_disaster_is_four_times_as_far_from_the_best_as_the_worst_but_a_tenth() -> None:
    """Ordinary results end at 1, nine tenths of them below 0.95."""
    ordinary = np.linspace(0.0, 1.0, 19)
    assert worst_to_show(np.append(ordinary, 3.7)) == np.inf
    assert 1.0 < worst_to_show(np.append(ordinary, 3.9)) < 2.0
    assert worst_to_show(np.append(ordinary[:8], 1e9)) == np.inf  # of so few nobody knows what is ordinary


def test_a_pruned_trial_is_compared_with_those_that_were_pruned_later() -> None:
    """At step 1 it lies between the complete trial and the one that went on a step further."""
    study = Study({"x": Float(0, 1)}, strategy="random")
    for curve, state in (([1.0] * 3, "complete"), ([5.0] * 2, "pruned"), ([3.0], "pruned")):
        number = started(study).trial
        for step, value in enumerate(curve, start=1):
            study.report(number, step, value)
        study.execution.finish(number, curve[-1] if state == "complete" else None, state=state)
    _, y = outcomes(study.history)
    assert study.history.evidence.trials[np.argsort(y)].tolist() == [0, 2, 1]
    assert len(np.unique(y)) == 3


def test_results_at_the_end_of_all_doubles_have_shares() -> None:
    """Half of the trials diverged, on either side; the parameter that decides it explains it."""
    study = Study({"x": Float(0, 1), "y": Float(0, 1)}, strategy="random")
    for _ in range(40):
        trial = study.ask()
        study.tell(trial, 1.7e308 if trial.params["x"] > 0.5 else -1.7e308 * (trial.params["x"] > 0.3))
    first, second = importances(study)
    assert (first.name, second.name) == ("x", "y")
    assert first.share > 0.6
    assert band(study, [0, 1]) is None


def test_wrong_questions_are_refused_and_empty_studies_have_no_answer() -> None:
    """An unknown objective names the known ones."""
    study = Study({"x": Float(0, 1)}, strategy="random")
    assert importances(study) == []
    with pytest.raises(InputError, match="no objective 'lose'"):
        importances(study, objective="lose")
    with pytest.raises(InputError, match="quantile"):
        importances(study, quantile=1.0)
