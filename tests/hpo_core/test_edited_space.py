"""A study whose space was edited: what is the best, and what others are compared with, it can have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Categorical, Float, Int, SearchSpace, Study, StudyFinished, TrialState, plots
from hpo_core._memo import Memo
from hpo_core._training import training_set
from hpo_core.compare import course
from tests.hpo_core.studies import recorded, replayed, snapshot

KINDS = ("a", "b", "c")
configurations = st.tuples(st.integers(0, 10), st.sampled_from(KINDS))
edits = st.tuples(
    st.integers(0, 8),
    st.integers(1, 4),
    st.sets(st.sampled_from(KINDS), min_size=1),
    st.none() | st.integers(1, 9),
)
FIRST = (0, 10, frozenset(KINDS), None)


def space_of(edit: Any) -> SearchSpace:
    low, width, kinds, bound = edit
    parameters = {"x": Float(float(low), float(low + width)), "kind": Categorical(sorted(kinds))}
    # Half of the constraints are functions, which no later reader of the journal has.
    rule = () if bound is None else (f"x <= {bound}",) if bound % 2 else (lambda p: p["x"] <= bound,)
    return SearchSpace(parameters, rule)


def can_have(edit: Any, trial: Any) -> bool:
    low, width, kinds, bound = edit
    x, kind = trial
    return low <= x <= low + width and kind in kinds and (bound is None or x <= bound)


def dominated(one: tuple[float, float], others: list[tuple[float, float]]) -> bool:
    return any(o[0] <= one[0] and o[1] <= one[1] and o != one for o in others)


@given(st.lists(configurations | edits, max_size=25), st.integers(0, 1 << 32))
def test_the_best_is_that_of_a_brute_force_over_what_the_space_can_have(moves: list[Any], salt: int) -> None:
    """The old best, outside of the edited space, was registered as the study's model for ever."""
    study, journal = recorded(space_of(FIRST), {"a": "min", "b": "min"})
    now, trials = FIRST, []
    for place, move in enumerate(moves):
        if len(move) == 4:
            low, _, _, bound = move
            now = (*move[:3], None if bound is None else max(bound, low))
            study.change_space(space_of(now))
        elif can_have(now, move):
            study.enqueue({"x": float(move[0]), "kind": move[1]})
            a, b = (hash((salt, place, which)) % 7 for which in range(2))
            study.tell(study.ask(), {"a": a, "b": b})
            trials.append((move, (float(a), float(b))))
    within = {n for n, (trial, _) in enumerate(trials) if can_have(now, trial)}
    ranking = {n: value for n, (_, value) in enumerate(trials) if n in within or not within}
    front = [n for n, value in ranking.items() if not dominated(value, list(ranking.values()))]
    assert [t.number for t in study.pareto_front] == front
    if front:
        assert study.best.number == min(front, key=lambda n: (ranking[n][0], n))
    later = replayed(journal)
    assert snapshot(later) == snapshot(study)
    assert [t.number for t in later.pareto_front] == front


def test_curves_and_plots_are_of_the_trials_that_rank() -> None:
    """The line of the best so far ended at a value that the study's best trial does not have."""
    study = Study({"x": Float(0, 1)}, strategy="random")
    for x in (0.75, 0.1, 0.5):
        study.enqueue({"x": x})
        study.tell(study.ask(), x)
    study.change_space(SearchSpace({"x": Float(0.4, 1)}))
    assert study.best.number == 2
    assert course(study).best[-1] == 0.5
    line = next(trace for trace in plots.history(study).data if trace.name == "best so far")
    assert line.y[-1] == 0.5


def test_who_asks_for_what_it_likes_keeps_what_an_edit_says_nothing_of() -> None:
    study = Study(strategy="random")
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    trial.suggest_float("y", 0.0, 1.0)
    study.tell(trial, 1.0)
    study.change_space(SearchSpace({"x": Float(0.0, 1.0)}))
    assert not study.history.outside
    study.change_space(SearchSpace({"x": Float(2.0, 3.0)}))
    assert study.history.outside == {0}


def test_what_an_objective_asks_for_besides_the_declared_space_takes_nothing_out_of_it() -> None:
    study = Study({"x": Float(0.0, 1.0), "gone": Float(0.0, 1.0)}, strategy="random")
    for _ in range(2):
        trial = study.ask()
        trial.suggest_float("y", 0.0, 1.0)
        study.tell(trial, 1.0)
    study.change_space(SearchSpace({"x": Float(0.0, 2.0), "gone": Float(0.0, 1.0)}))
    assert not study.history.outside
    study.change_space(SearchSpace({"x": Float(0.0, 2.0)}))
    assert study.history.outside == {0, 1}


def test_a_constraint_that_fails_on_an_earlier_trial_does_not_hinder_the_edit() -> None:
    study = Study({"x": Float(0, 1)}, strategy="random")
    study.enqueue({"x": 0.0})
    study.tell(study.ask(), 1.0)
    study.change_space(SearchSpace({"x": Float(0, 1)}, lambda p: 1 / p["x"] < 5))
    assert study.history.outside == {0}


@pytest.mark.parametrize("text", [False, True])
def test_a_constraint_that_fails_on_a_result_from_elsewhere_leaves_it_out_like_a_trial(text: bool) -> None:
    """The result stayed evidence beside trials that did not; as text it ended the study in an error, after
    its journal had it. Whoever reads the study without the function sees it.
    """
    study, journal = recorded(SearchSpace({"x": Float(0, 1)}), strategy="random")
    for x in (0.0, 0.5):
        study.observe({"x": str(x) if text else x}, {"loss": 1.0}, text=text)
        study.enqueue({"x": x})
        study.tell(study.ask(), 1.0)
    edited = SearchSpace({"x": Float(0, 1)}, lambda p: 1 / p["x"] < 5)
    study.change_space(edited)
    assert study.history.outside == {0}
    assert study.history.evidence.trials.tolist() == [-1, 1]
    again = Study.replay(journal.events(), space=edited)
    assert again.history.evidence.trials.tolist() == [-1, 1]
    unknown = Study.replay(journal.events())
    assert unknown.history.evidence.trials.tolist() == [-1, -1, 1]


def trained(trial: Any, step: int) -> float:
    """Less is better; what lies below 0.5, which edits take out, is ahead."""
    return float(trial.params["x"] + 0.1 / step)


def play(study: Study, most: int) -> list[Any]:
    """At most so many segments, one after the other; the trials as they were handed out."""
    ran: list[Any] = []
    while len(ran) < most:
        try:
            trial = study.ask()
        except StudyFinished:
            break
        ran.append(trial)
        end, verdict = trial.target or 9, None
        for step in range(trial.start_step + 1, end + 1):
            verdict = verdict or study.report(trial, step, trained(trial, step))
        study.tell(trial, trained(trial, end), state="pruned" if verdict else "complete", step=end)
    return ran


PAUSING: list[Any] = [
    "random+asha",
    "random+hyperband",
    "random+successive_halving",
    "random+levels",
    {"name": "pbt", "parameters": ["x"]},
]
RULES: list[Any] = ["random+asha_stopping", "random+median", "random+race", "random+wilcoxon"]
EDITS = {
    "range": SearchSpace({"x": Float(0.5, 1), "size": Int(1, 4)}),
    "constraint": SearchSpace({"x": Float(0, 1), "size": Int(1, 4)}, "x >= 0.5"),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("strategy", [*PAUSING, *RULES], ids=str)
def test_a_scheduler_compares_with_what_the_edited_space_can_have(strategy: Any, edit: str) -> None:
    """Trials outside kept their places in rungs and rules, so that none inside ever got to its end."""
    study, journal = recorded(
        {"x": Float(0, 1), "size": Int(1, 4)},
        strategy=strategy,
        limits={"trials": 24},
        settings={"max_steps": 9},
    )
    for place in range(8):
        study.enqueue({"x": (place + 1) / 20, "size": 4})
    while study.state.queue:
        play(study, 1)
    study.change_space(EDITS[edit])
    asked = len(study.trials)
    ran = play(study, 400)
    assert all(t.params["x"] >= 0.5 for t in ran)
    assert all(study.trials[t.parent].params["size"] == t.params["size"] for t in ran if t.parent is not None)
    assert study.best.number >= asked
    assert snapshot(replayed(journal)) == snapshot(study)


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("fold", ["", "_fold"], ids=["steps", "folds"])
def test_a_model_learns_nothing_from_trials_outside_that_have_reported(fold: str, edit: str) -> None:
    """Results that none can have, at points that were no points, came back as values at a step. Of paused
    trials outside a Gaussian process imagined the results at the middle of the space.
    """
    study = Study({"x": Float(0, 1), "size": Int(1, 4)}, strategy="random+median", settings={"max_steps": 9})
    for place in range(17):
        study.enqueue({"x": (5 * place % 8 + 1) / 10, "size": 2})
    running = [study.ask() for _ in range(17)]
    for place, trial in enumerate(running[:16]):
        for step in range(1, place % 3 + 2):
            study.report(trial, step, {"loss": trained(trial, step), f"loss{fold}": trained(trial, step)})
        if place < 12:
            study.tell(trial, trained(trial, 3), state="complete" if place % 3 == 2 else "pruned")
    study.change_space(EDITS[edit])
    data = training_set(study.history, 2, Memo())
    assert data.step == (9 if fold else 3)
    assert len(data.X) == sum(trial.params["x"] >= 0.5 for trial in running)
    assert not np.isnan(data.X).any()
    assert not len(data.pending)  # the last has reported nothing, and is outside, too


def test_a_paused_trial_outside_says_that_it_is() -> None:
    study = Study({"x": Float(0, 1)}, strategy="random+asha", limits={"trials": 4}, settings={"max_steps": 9})
    study.enqueue({"x": 0.1})
    play(study, 1)
    study.change_space(EDITS["range"])
    assert study.why(0) == (
        "it is paused at step 1, and the search space as it was edited does not have its configuration"
    )


def test_a_paused_trial_goes_on_with_what_its_objective_asked_for_besides_the_declared_space() -> None:
    """It was closed, as the edited space had no parameter of the name that it had asked for."""
    study = Study({"x": Float(0, 1)}, strategy="random+asha", limits={"trials": 1}, settings={"max_steps": 9})
    trial = study.ask()
    trial.suggest_float("y", 0.0, 1.0)
    study.tell(trial, 0.5, step=1)
    study.change_space(SearchSpace({"x": Float(0, 2)}))
    assert not study.history.outside
    play(study, 10)
    assert study.trials[0].state is TrialState.COMPLETE


@pytest.mark.parametrize("explore", ["perturb", "resample", "model"])
@pytest.mark.parametrize("exploit", [0.5, "tournament"])
def test_no_member_of_a_population_copies_one_outside(explore: str, exploit: Any) -> None:
    """Nothing of its configuration was known to the fork, which drew another size for its checkpoint."""
    scheduler = {"name": "pbt", "parameters": ["x"], "explore": explore, "exploit": exploit}
    space = {"x": Float(0, 1), "size": Int(1, 9)}
    study = Study(space, strategy=scheduler, limits={"trials": 12}, settings={"max_steps": 9})
    outside = range(6, 12)
    for place in range(12):
        study.enqueue({"x": 0.1 if place in outside else 0.9 + place / 100, "size": place % 6 + 1})
    play(study, 12)
    study.change_space(SearchSpace({"x": Float(0.5, 1), "size": Int(1, 9)}))
    play(study, 400)
    forks = [trial for trial in study.trials if trial.parent is not None]
    assert forks
    assert not [fork for fork in forks if fork.parent in outside]
    assert all(study.trials[fork.parent or 0].params["size"] == fork.params["size"] for fork in forks)
