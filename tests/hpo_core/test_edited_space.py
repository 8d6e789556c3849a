"""Which trial is the best of a study whose space was edited: one that it can have, once there is any."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Categorical, Float, SearchSpace, Study, plots
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
