"""The ask / tell face: what a user in a plain script sees."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hpo_core import (
    Categorical,
    Constant,
    Float,
    InputError,
    Int,
    MustWait,
    SearchSpace,
    SpaceError,
    Study,
    StudyFinished,
    StudyStateError,
    Trial,
    TrialState,
)
from hpo_core._strategy import Resume, Start, Stop
from tests.hpo_core.studies import LINE, recorded, replayed, scripted, snapshot


def study(space: Any = LINE, **kwargs: Any) -> Study:
    kwargs.setdefault("strategy", "random")
    return Study(space, **kwargs)


def test_the_example_of_the_readme() -> None:
    space = SearchSpace({"x": Float(0.0, 1.0), "n": Int(1, 3)})
    tuned = Study(space, objectives={"loss": "min"}, strategy="random", seed=0, limits={"trials": 20})
    for number in range(20):
        trial = tuned.ask()
        assert trial.number == number
        assert set(trial.params) == {"x", "n"}
        tuned.tell(trial, (trial.params["x"] - 0.3) ** 2)
    with pytest.raises(StudyFinished, match="nothing is left to ask for: all 20 trials have been started"):
        tuned.ask()
    assert tuned.best.values["loss"] == min(t.values["loss"] for t in tuned.trials)
    assert (tuned.best.params["x"] - 0.3) ** 2 == tuned.best.values["loss"]


def test_a_plain_dict_is_a_space_and_a_study_has_defaults() -> None:
    tuned = Study({"x": Float(0, 1)}, strategy="random")
    assert tuned.objectives == {"loss": "min"}
    assert tuned.created.seed == 0
    assert tuned.tell(tuned.ask(), 1.0) is TrialState.COMPLETE


def test_maximising_is_minimising_upside_down() -> None:
    """The same decisions, the same best; only the sign differs, and the user never sees it."""
    down, up = study(objectives={"v": "min"}), study(objectives={"v": "max"})
    for _ in range(10):
        a, b = down.ask(), up.ask()
        assert a.params == b.params
        down.tell(a, a.params["x"])
        up.tell(b, -b.params["x"])
    assert down.best.params == up.best.params
    assert up.best.values == {"v": -down.best.values["v"]}
    assert np.array_equal(down.history.values, up.history.values)


def test_the_same_seed_gives_the_same_study_and_another_seed_another() -> None:
    def configurations(seed: int | None) -> list[Any]:
        tuned = study(seed=seed)
        return [tuned.ask().params for _ in range(5)]

    assert configurations(3) == configurations(3)
    assert configurations(3) != configurations(4)
    assert configurations(None) != configurations(None)


def test_trial_seeds_follow_from_the_study_seed_and_the_number() -> None:
    a, b = study(seed=1), study(seed=1)
    seeds = [a.ask().seed for _ in range(50)]
    assert len(set(seeds)) == 50
    assert [b.ask().seed for _ in range(50)] == seeds
    assert all(0 <= s < 2**31 for s in seeds)


# -- telling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_fails_the_trial_and_is_never_ranked(value: float) -> None:
    tuned = study()
    assert tuned.tell(tuned.ask(), value) is TrialState.FAILED
    assert "no finite value for 'loss'" in tuned.trials[0].reason
    assert str(value) in tuned.trials[0].reason
    assert np.isnan(tuned.history.values).all()
    assert np.isnan(tuned.history.evidence.values).all()
    with pytest.raises(StudyStateError, match="no complete trial yet"):
        _ = tuned.best
    tuned.tell(tuned.ask(), 5.0)
    assert tuned.best.number == 1


def test_a_failed_trial_is_no_number_whatever_it_said_before() -> None:
    tuned = study()
    trial = tuned.ask()
    tuned.report(trial, 1, 0.01)
    tuned.tell(trial, state="failed")
    assert np.isnan(tuned.history.values[0, 0])
    assert np.isnan(tuned.history.evidence.values[0, 0])
    assert tuned.history.evidence.states.tolist() == [TrialState.FAILED]


@pytest.mark.parametrize(
    "state",
    ["pruned", "failed", "infeasible", "timed_out", "out_of_memory", "cancelled", "lost", TrialState.FAILED],
)
def test_every_end_can_be_told(state: str | TrialState) -> None:
    tuned = study()
    told = tuned.tell(tuned.ask(), state=state)
    assert told is TrialState.of(state)
    assert tuned.trials[0].state is told
    learns = told not in (TrialState.CANCELLED, TrialState.LOST)
    assert len(tuned.history.evidence) == learns


def test_what_cannot_be_told_is_refused_and_changes_nothing() -> None:
    tuned, journal = recorded(LINE)
    trial = tuned.ask()
    before = snapshot(tuned), len(journal.lines)
    refused: list[tuple[Any, str, type[Exception], str]] = [
        ("0.3", "complete", InputError, "the value of 'loss' must be a number, got '0.3'"),
        ({"loss": None}, "complete", InputError, "the value of 'loss' must be a number, got None"),
        ([1, 2], "complete", InputError, "must be a number"),
        (1.0, "finished", InputError, "state must be one of .* got 'finished'"),
        (1.0, "complet", InputError, "did you mean 'complete'"),
        (1.0, "running", StudyStateError, "cannot end as 'running'"),
        (1.0, "paused", StudyStateError, "cannot end as 'paused'"),
    ]
    for values, state, error, words in refused:
        with pytest.raises(error, match=words):
            tuned.tell(trial, values, state=state)
    with pytest.raises(StudyStateError, match="there is no trial 7; the study has 1"):
        tuned.tell(7, 1.0)
    assert (snapshot(tuned), len(journal.lines)) == before
    tuned.tell(trial, 1.0)


def test_telling_twice_is_an_error_that_leaves_a_good_journal() -> None:
    tuned, journal = recorded(LINE)
    trial = tuned.ask()
    tuned.tell(trial, 1.0)
    with pytest.raises(StudyStateError, match="trial 0 is complete and cannot become complete"):
        tuned.tell(trial, 2.0)
    assert tuned.best.values == {"loss": 1.0}
    assert snapshot(replayed(journal)) == snapshot(tuned)


def test_a_mistyped_objective_fails_the_trial_with_a_hint() -> None:
    tuned = study(objectives={"accuracy": "max"})
    assert tuned.tell(tuned.ask(), {"acuracy": 0.9}) is TrialState.FAILED
    assert tuned.trials[0].reason == (
        "the objective gave no finite value for 'accuracy' (got ['acuracy']); did you mean 'acuracy'?"
    )
    assert tuned.trials[0].metrics == {"acuracy": 0.9}


def test_results_by_names_that_nobody_said_fail_the_trial_with_the_way_to_say_them() -> None:
    tuned = study(objectives={"loss": "min"})
    assert tuned.tell(tuned.ask(), {"error": 0.5, "size": 3.0}) is TrialState.FAILED
    assert tuned.trials[0].reason == (
        "the objective gave no finite value for 'loss' (got ['error', 'size']); return it, or report it, "
        "or name the objectives (--metric error=min,size=min, objectives={'error': 'min', 'size': 'min'})"
    )


def test_several_objectives_need_names() -> None:
    tuned = study(objectives={"a": "min", "b": "max"})
    trial = tuned.ask()
    with pytest.raises(InputError, match=r"objectives \['a', 'b'\]; tell a dict"):
        tuned.tell(trial, 1.0)
    assert tuned.tell(trial, {"a": 1.0, "b": 2.0, "extra": 3}) is TrialState.COMPLETE
    assert tuned.trials[0].metrics == {"extra": 3.0}
    assert tuned.history.values.tolist() == [[1.0, -2.0]]


def test_numbers_of_any_make_are_numbers() -> None:
    tuned = study()
    numbers: tuple[Any, ...] = (np.float32(0.5), np.int64(3), np.array(0.25), 1, True)
    for value in numbers:
        assert tuned.tell(tuned.ask(), value) is TrialState.COMPLETE
    assert [t.values["loss"] for t in tuned.trials] == [0.5, 3.0, 0.25, 1.0, 1.0]


# -- reports, targets, forks -----------------------------------------------------------------------


def test_a_scheduler_that_stops_says_so_in_the_report() -> None:
    tuned = study(strategy=scripted(stop_above=1.0))
    trial = tuned.ask()
    assert tuned.report(trial, 1, 0.5) is None
    assert tuned.report(trial, 2, 1.5) == Stop("1.5 is above 1.0")
    tuned.tell(trial, state="pruned")
    assert tuned.trials[0].values == {"loss": 1.5}
    assert tuned.history.values.tolist() == [[1.5]]


@pytest.mark.parametrize("step", [0, -1, 1.5, True, "1"])
def test_steps_count_from_one(step: Any) -> None:
    tuned = study()
    with pytest.raises(InputError, match="step must be a whole number of at least 1"):
        tuned.report(tuned.ask(), step, 0.5)


def test_a_step_that_no_column_holds_is_refused_before_it_is_written() -> None:
    """The journal had it then, and could not be replayed: the study was lost."""
    tuned, journal = recorded(LINE)
    trial = tuned.ask()
    length = len(journal.lines)
    for tell in (lambda: tuned.report(trial, 2**63, 0.5), lambda: tuned.tell(trial, 0.5, step=10**400)):
        with pytest.raises(InputError, match=r"must be below 2\*\*63"):
            tell()
    assert len(journal.lines) == length
    tuned.report(trial, 2**63 - 1, 0.5)
    assert replayed(journal).trials[0].step == 2**63 - 1


def test_an_old_step_changes_nothing() -> None:
    tuned, journal = recorded(LINE)
    trial = tuned.ask()
    tuned.report(trial, 3, 0.5)
    length = len(journal.lines)
    assert tuned.report(trial, 3, 0.1) is None
    assert tuned.report(trial, 2, 0.1) is None
    assert len(journal.lines) == length
    tuned.tell(trial)
    assert tuned.report(trial, 9, 0.1) is None
    assert tuned.best.values == {"loss": 0.5}


def test_a_trial_with_a_target_pauses_there_and_comes_back() -> None:
    tuned = study(strategy=scripted(Start(target=3), Start(target=3), Resume(0)), settings={"max_steps": 9})
    a, b = tuned.ask(), tuned.ask()
    assert (a.target, a.start_step) == (3, 0)
    tuned.report(a, 1, 0.9)
    assert tuned.tell(a, 0.5) is TrialState.PAUSED
    tuned.report(b, 3, 0.7)
    assert tuned.tell(b) is TrialState.PAUSED  # its last report is the result
    assert tuned.history.steps.tolist() == [3, 3]
    again = tuned.ask()
    assert (again.number, again.target, again.start_step, again.attempt) == (0, None, 3, 2)
    assert again.params == a.params
    assert tuned.tell(again, 0.1, step=9) is TrialState.COMPLETE
    assert tuned.trials[0].step == 9
    assert tuned.state.steps_spent == 12


def test_a_lost_attempt_is_handed_out_again_from_where_it_was_paused_or_saved() -> None:
    """It was handed out from its last report: with nothing left to train, and nothing saved there."""
    tuned = study(strategy=scripted(Start(target=3), Resume(0)), settings={"max_steps": 9})
    first = tuned.ask()
    tuned.report(first, 3, 0.5)
    tuned.execution.lost(first, "its worker is gone")
    again = tuned.ask()
    assert (again.target, again.start_step) == (3, 0)
    assert tuned.tell(again, 0.5) is TrialState.PAUSED
    on = tuned.ask()
    tuned.report(on, 6, 0.4)
    tuned.report(on, 8, 0.3)
    tuned.execution.lost(on, "its worker is gone")
    on = tuned.ask()
    assert on.start_step == 3
    tuned.execution.checkpointed(on, 6, "checkpoints/6")
    tuned.execution.lost(on, "its worker is gone")
    assert tuned.ask().start_step == 6


@pytest.mark.parametrize(
    ("values", "kwargs", "state"),
    [
        ({"loss": 0.5, "norm": math.inf}, {}, TrialState.PAUSED),
        ({"loss": math.nan}, {}, TrialState.FAILED),
        ({"los": 0.5}, {}, TrialState.FAILED),
        (0.5, {"step": 9}, TrialState.COMPLETE),
        (0.5, {"step": 2}, TrialState.COMPLETE),
        (0.5, {"state": "pruned"}, TrialState.PRUNED),
        (None, {"state": "failed"}, TrialState.FAILED),
        (2.0, {}, TrialState.PRUNED),
    ],
)
def test_what_is_told_at_a_target(values: Any, kwargs: dict[str, Any], state: TrialState) -> None:
    tuned = study(strategy=scripted(Start(target=3), stop_above=1.0), settings={"max_steps": 9})
    assert tuned.tell(tuned.ask(), values, **kwargs) is state


def test_a_target_at_the_end_is_the_end() -> None:
    tuned = study(strategy=scripted(Start(target=9)), settings={"max_steps": 9})
    assert tuned.tell(tuned.ask(), 0.5) is TrialState.COMPLETE


# -- late and lost ---------------------------------------------------------------------------------


def test_a_late_word_of_an_attempt_that_was_given_up_is_taken_or_ignored_but_no_error() -> None:
    tuned, journal = recorded(LINE)
    first = tuned.ask()
    tuned.execution.lost(first, "its host went away")
    second = tuned.ask()
    assert (second.number, second.attempt, second.params) == (0, 2, first.params)
    length = len(journal.lines)
    assert tuned.report(first, 5, 0.1) is None
    assert tuned.tell(first, 0.1) is TrialState.RUNNING
    assert len(journal.lines) == length
    assert tuned.tell(second, 0.7) is TrialState.COMPLETE
    assert tuned.best.values == {"loss": 0.7}

    third = tuned.ask()
    tuned.execution.lost(third, "its host went away")
    assert tuned.tell(third, 0.2) is TrialState.COMPLETE  # nobody has begun again, so its result is taken
    assert snapshot(replayed(journal)) == snapshot(tuned)


def test_a_late_result_at_a_target_is_left_to_the_repetition() -> None:
    tuned = study(strategy=scripted(Start(target=3)), settings={"max_steps": 9})
    trial = tuned.ask()
    tuned.execution.lost(trial, "gone")
    assert tuned.tell(trial, 0.5) is TrialState.WAITING
    assert tuned.ask().attempt == 2


def test_a_trial_is_given_up_after_so_many_losses() -> None:
    tuned = study(settings={"max_attempts": 3}, limits={"trials": 1})
    for attempt in (1, 2, 3):
        trial = tuned.ask()
        assert trial.attempt == attempt
        tuned.execution.lost(trial, "its host went away")
    assert tuned.trials[0].state is TrialState.LOST
    assert tuned.trials[0].reason == "its host went away (3 attempts were lost)"
    with pytest.raises(StudyFinished):
        tuned.ask()
    tuned.requeue(0)
    tuned.execution.lost(tuned.ask(), "its host went away")
    assert [t.state for t in tuned.trials] == [TrialState.WAITING]  # those of before count no more
    tuned = study(settings={"max_attempts": 1}, limits={"trials": 1})
    for _ in range(5):
        tuned.execution.lost(tuned.ask(), "the driver left", counted=False)
    assert tuned.trials[0].state is TrialState.WAITING


def test_must_wait_says_what_for() -> None:
    from hpo_core._strategy import Wait

    tuned = study(strategy=scripted(Start(), Wait("a rung to fill")))
    tuned.ask()
    with pytest.raises(
        MustWait, match="nothing can be started now: a rung to fill; tell a running trial first"
    ):
        tuned.ask()


# -- define-by-run ---------------------------------------------------------------------------------


def objective(trial: Trial) -> float:
    """Parameters that come up late, depend on others, and gain a choice."""
    kind = trial.suggest_categorical("kind", ["a", "b"] if trial.number < 4 else ["a", "b", "c"])
    x = trial.suggest_float("x", 0.0, 1.0)
    if kind == "a":
        return x + trial.suggest_int("n", 1, 5)
    return x + trial.suggest_float("late", 1e-3, 1.0, log=True) if trial.number > 6 else x


@pytest.mark.parametrize("strategy", ["random", "sobol", "tpe"])
def test_define_by_run_learns_the_space_as_it_goes(strategy: str) -> None:
    tuned, journal = recorded(None, strategy=strategy, seed=1)
    for _ in range(25):
        trial = tuned.ask()
        tuned.tell(trial, objective(trial))
    assert set(tuned.space.names) == {"kind", "x", "n", "late"}
    assert tuned.space.parameters["kind"] == Categorical(["a", "b", "c"])
    for record in tuned.trials:
        active = {"kind", "x"} | ({"n"} if record.params["kind"] == "a" else set())
        if record.params["kind"] != "a" and record.number > 6:
            active.add("late")
        assert set(record.params) == active, record
        row = tuned.history.X[record.number]
        present = {n for n, u in zip(tuned.space.column_names, row, strict=True) if u == u}
        assert present == active
    assert {t.params["kind"] for t in tuned.trials} == {"a", "b", "c"}
    assert len(tuned.history.evidence) == 25
    assert snapshot(replayed(journal)) == snapshot(tuned)


def test_what_was_proposed_is_used_where_it_fits_and_drawn_anew_where_not() -> None:
    tuned = study(None)
    first = tuned.ask()
    value = first.suggest_float("x", 0.0, 1.0)
    assert first.suggest_float("x", 0.0, 1.0) == value
    tuned.tell(first, value)
    second = tuned.ask()
    proposed = second.params["x"]
    assert second.suggest_float("x", 0.0, 1.0) == proposed
    tuned.tell(second, 0.0)
    third = tuned.ask()
    drawn = third.suggest_float("x", 5.0, 6.0)  # the range has moved away
    assert 5.0 <= drawn <= 6.0
    tuned.tell(third, 0.0)
    assert tuned.space.parameters["x"] == Float(0.0, 6.0)
    assert tuned.trials[2].params == {"x": drawn}


def test_a_repeated_attempt_draws_the_same_in_whatever_order() -> None:
    tuned = study(None)
    first = tuned.ask()
    a, b = first.suggest_float("a", 0, 1), first.suggest_int("b", 0, 1000)
    tuned.execution.lost(first, "gone")
    second = tuned.ask()
    assert (second.suggest_int("b", 0, 1000), second.suggest_float("a", 0, 1)) == (b, a)


def test_two_distributions_for_one_name_are_refused() -> None:
    tuned, journal = recorded(None)
    trial = tuned.ask()
    trial.suggest_float("x", 0.0, 1.0)
    with pytest.raises(SpaceError, match=r"'x' is .* and was asked for again as"):
        trial.suggest_float("x", 2.0, 3.0)
    tuned.tell(trial, 1.0)
    other = tuned.ask()
    other.suggest_int("x", 1, 3)
    length = len(journal.lines)
    with pytest.raises(SpaceError, match=r"'x' was Float\(0.0, 1.0\) and is now asked for as Int\(1, 3\)"):
        tuned.tell(other, 1.0)
    assert len(journal.lines) == length
    tuned.tell(other, state="failed") if not other._suggestions.found else tuned.tell(
        other.number, state="failed"
    )
    assert snapshot(replayed(journal)) == snapshot(tuned)


def test_a_declared_space_may_be_asked_for_too_and_be_fixed() -> None:
    space = SearchSpace({"lr": Constant(0.1), "n": Int(1, 9), "unused": Float(0, 1)})
    tuned = study(space)
    trial = tuned.ask()
    assert trial.suggest_float("lr", 1e-3, 1.0) == 0.1
    assert trial.suggest_int("n", 1, 9) == trial.params["n"]
    extra = trial.suggest_categorical("extra", ["u", "v"])
    tuned.tell(trial, 1.0)
    assert set(tuned.trials[0].params) == {"lr", "n", "unused", "extra"}  # declared ones always count
    assert tuned.trials[0].params["extra"] == extra
    second = tuned.ask()
    assert "extra" in second.params
    tuned.tell(second, 1.0)


def test_a_declared_range_is_kept_where_the_objective_asks_for_a_wider_one() -> None:
    """``--space`` narrows what a function asks for; its first trial had widened the space again."""
    space = SearchSpace({"x": Float(-1, 2), "n": Int(1, 2), "kind": Categorical(["a", "b"])})
    tuned, journal = recorded(space)
    for _ in range(30):
        trial = tuned.ask()
        x, n = trial.suggest_float("x", -5.0, 5.0), trial.suggest_int("n", 1, 9)
        kind = trial.suggest_categorical("kind", ["c", "a", "b"])
        assert -1 <= x <= 2
        assert n <= 2
        assert kind in ("a", "b")
        tuned.tell(trial, x**2)
    assert tuned.space.digest() == space.digest()
    assert snapshot(replayed(journal)) == snapshot(tuned)


def test_a_declared_range_that_the_objective_does_not_keep_to_is_widened() -> None:
    tuned = study(SearchSpace({"x": Float(0.0, 1.0)}))
    trial = tuned.ask()
    x = trial.suggest_float("x", 3.0, 5.0)
    tuned.tell(trial, x)
    assert tuned.trials[0].params == {"x": x}
    assert tuned.space.parameters["x"] == Float(0.0, 5.0)


def test_choices_come_back_as_they_were_given() -> None:
    layers = [(32,), (64, 64)]
    tuned, journal = recorded(None)
    for _ in range(2):
        trial = tuned.ask()
        choice = trial.suggest_categorical("layers", layers)
        assert any(choice is layer for layer in layers)
        tuned.tell(trial, 1.0)
    assert snapshot(replayed(journal)) == snapshot(tuned)


def test_choices_that_python_calls_equal_are_told_apart() -> None:
    """``[True]`` came back as ``[1]``, which is not what the journal and MLflow say of the trial."""
    choices = [[1], [True], [1.0], {"a": 0}, {"a": False}]
    tuned, _ = recorded(None)
    for _ in choices:
        trial = tuned.ask()
        choice = trial.suggest_categorical("kind", choices)
        assert json.dumps(choice) == json.dumps(trial.params["kind"])
        tuned.tell(trial, 1.0)


def test_a_strategy_that_cannot_handle_what_is_asked_for_says_so() -> None:
    tuned, journal = recorded(None, strategy={"sampler": {"name": "grid", "resolution": {}}})
    trial = tuned.ask()
    trial.suggest_float("x", 0.0, 1.0)
    length = len(journal.lines)
    with pytest.raises(InputError, match=r"grid: .*'x'"):
        tuned.tell(trial, 1.0)
    assert len(journal.lines) == length


# -- words -----------------------------------------------------------------------------------------


def test_what_is_shown_is_short_and_says_it_all() -> None:
    tuned = study(limits={"trials": 5}, name="demo")
    assert repr(tuned) == "Study('demo', random, {'loss': 'min'}, 0 of 5 trials)"
    trial = tuned.ask()
    assert repr(trial) == f"Trial(0, {trial.params})"
    tuned.tell(trial, 0.5)
    tuned.tell(tuned.ask(), math.nan)
    tuned.ask()
    assert repr(tuned.best) == f"TrialRecord(0, complete, params={trial.params}, values={{'loss': 0.5}})"
    assert (
        repr(tuned)
        == "Study('demo', random, {'loss': 'min'}, 3 of 5 trials: 1 running, 1 complete, 1 failed)"
    )
    assert "no finite value" in repr(tuned.trials[1])
    json.dumps(tuned.best.params)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"objectives": {}}, "at least one objective"),
        ({"objectives": {"loss": "minimise"}}, "must be 'min' or 'max', got 'minimise'"),
        ({"objectives": {1: "min"}}, "name must be a non-empty string, got 1"),
        ({"objectives": {"\ud800": "min"}}, "name must be text that can be written as UTF-8"),
        ({"name": "\ud800"}, "a study's name must be text that can be written as UTF-8"),
        ({"settings": {"max_steps": 2**63}}, r"max_steps must be below 2\*\*63, got a number of 64 bits"),
        ({"strategy": "tpee"}, "unknown strategy 'tpee'; did you mean 'tpe'"),
        ({"strategy": 3}, "a strategy is a name .*, a dict or an object, got 3"),
        ({"seed": -1}, "seed must be a whole number of at least 0, or None, got -1"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"limits": {"trials": 0}}, "the limit trials must be a positive number, got 0"),
        ({"limits": {"trials": 1.5}}, "the limit trials must be a whole number, got 1.5"),
        ({"limits": {"trial": 5}}, "unknown name 'trial' among the limits; did you mean 'trials'"),
        ({"limits": {"seconds": math.inf}}, "the limit seconds must be a positive number, got inf"),
        ({"limits": 100}, "limits must be a Limits or a dict of its fields, got 100"),
        ({"settings": {"rule": "mean"}}, "rule must be 'last', 'best' or 'average-K', got 'mean'"),
        ({"settings": {"rule": "average-0"}}, "got 'average-0'"),
        ({"settings": {"on_duplicate": "skip"}}, "on_duplicate must be"),
        ({"settings": {"workers": 0}}, "workers must be a whole number of at least 1, got 0"),
        ({"settings": {"max_steps": True}}, "max_steps must be a whole number of at least 1, got True"),
        ({"space": [1]}, "a search space is a dict"),
        ({"space": {"x": 3}}, r"wrap a fixed value as Constant\(3\)"),
    ],
)
def test_terms_that_make_no_sense_are_refused_before_anything_is_written(
    kwargs: dict[str, Any], words: str
) -> None:
    space = kwargs.pop("space", LINE)
    with pytest.raises(InputError, match=words) as caught:
        recorded(space, **kwargs)
    assert "\n" not in str(caught.value)


def test_importing_is_light() -> None:
    """numpy and the standard library alone; schedulers, samplers and scipy come when they are asked for."""
    program = "import sys, hpo_core; print([m for m in sys.modules if m.startswith('hpo_core.')])"
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert "samplers" not in done.stdout
    assert "schedulers" not in done.stdout
