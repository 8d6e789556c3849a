"""What a study promises its driver: totals, queue, duplicates, rules, limits, degenerate spaces."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import (
    Categorical,
    Constant,
    Float,
    InputError,
    Int,
    LogNormal,
    Normal,
    SearchSpace,
    Segment,
    SpaceError,
    Study,
    StudyFinished,
    StudyStateError,
    Trial,
    TrialState,
    make_strategy,
)
from hpo_core._events import AttemptLost
from hpo_core._history import History
from hpo_core._propose import Proposer
from hpo_core._strategy import Finish, Proposal, Stop, Wait
from hpo_core.testing import Script
from tests.hpo_core.studies import LINE, recorded, replayed, run_to_the_end, snapshot, started

FEW = SearchSpace({"n": Int(1, 3), "c": Categorical(["a", "b"])})


# -- totals ----------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(1, 5))
def test_the_total_is_exact_whatever_goes_wrong(seed: int, trials: int, workers: int) -> None:
    """Failures, losses and resumptions of the driver never make it more or fewer."""
    study, journal = recorded(
        LINE, limits={"trials": trials}, settings={"workers": workers, "max_steps": 4}, seed=seed
    )
    script = Script(seed=seed, workers=workers, max_steps=4, trouble=0.3, asides=0.0)
    for stop in range(40, 4000, 40):
        if script.play(study, stop):
            break
        study = Study.replay(journal.events(), journal=journal)
        study.execution.take_over("another driver")
    assert len(study.trials) == trials
    assert all(t.state.finished for t in study.trials)
    assert isinstance(study.execution.next(), Finish)


def test_a_finished_study_runs_nothing_and_extending_runs_the_rest() -> None:
    study, journal = recorded(LINE, limits={"trials": 3})
    assert run_to_the_end(study) == 3
    study.stop("finished", "done")
    again = replayed(journal)
    assert again.stopped is not None
    assert again.execution.next() == Finish("done")
    assert run_to_the_end(again) == 0
    again.extend(trials=5)
    assert again.stopped is None
    assert run_to_the_end(again) == 2
    assert [t.number for t in again.trials] == [0, 1, 2, 3, 4]


def test_a_segment_stays_due_until_it_is_started() -> None:
    study, journal = recorded(LINE)
    due = study.execution.next()
    assert isinstance(due, Segment)
    assert study.execution.next() == due
    assert replayed(journal).execution.next() == due
    assert len(study.trials) == 1
    study.execution.started(due)
    assert study.execution.next() != due


# -- the queue -------------------------------------------------------------------------------------


def test_what_is_enqueued_comes_first_exactly_as_it_was_given() -> None:
    space = SearchSpace(
        {
            "x": Float(1e-5, 1.0, log=True),
            "opt": Categorical(["sgd", "adam"]),
            "m": Float(0, 1).when("opt", "sgd"),
        }
    )
    study, journal = recorded(space)
    study.enqueue({"x": 0.1, "opt": "sgd", "m": 0.3})
    study.enqueue({"m": np.float64(0.7)})
    study.enqueue({"x": 0.2, "opt": "adam", "m": 0.3})
    assert study.ask().params == {"x": 0.1, "opt": "sgd", "m": 0.3}
    second = study.ask().params
    assert (second["opt"], second["m"]) == ("sgd", 0.7)
    assert study.ask().params == {"x": 0.2, "opt": "adam"}
    assert [t.origin for t in study.trials] == ["enqueued"] * 3
    # Whoever gave it: objectives have configurations to begin with, too.
    assert {t.note for t in study.trials} == {"given beforehand, not chosen by the sampler"}
    study.ask()
    assert study.trials[3].origin == "sampler"
    assert snapshot(replayed(journal)) == snapshot(study)


def test_a_queue_that_makes_no_sense_is_refused_at_once() -> None:
    study, journal = recorded(
        SearchSpace({"a": Float(0, 1), "b": Float(0, 1), "k": Constant(3)}, "a + b <= 1")
    )
    refused: list[tuple[dict[str, Any], str]] = [
        ({"c": 1}, "unknown parameter 'c'"),
        ({"a": 2.0}, "parameter 'a': 2.0 is outside"),
        ({"k": 4}, "'k' is fixed at 3, got 4"),
        ({"a": 0.7, "b": 0.7}, "does not meet the constraints .*'a . b <= 1'"),
        ({"a": object()}, "must be a JSON value"),
    ]
    for params, words in refused:
        with pytest.raises(SpaceError, match=words):
            study.enqueue(params)
        if "constraints" not in words:
            with pytest.raises(SpaceError, match=words):
                study.observe(params, 1.0)
    assert len(journal.lines) == 1
    study.enqueue({"a": 0.7})
    params = study.ask().params
    assert params["a"] == 0.7
    assert params["b"] <= 0.3 + 1e-12


@pytest.mark.parametrize("strategy", ["random+asha", "random+multi_fidelity", "random+hyperband"])
def test_a_paused_trial_that_an_edit_took_out_of_the_space_does_not_go_on(strategy: str) -> None:
    """It was trained to its end, with the best places of its rungs."""
    terms: dict[str, Any] = {"limits": {"trials": 24}, "settings": {"max_steps": 9}}
    study, journal = recorded({"x": Float(0, 1)}, strategy=strategy, **terms)

    def go_on(segments: int) -> list[int]:
        ran: list[int] = []
        while len(ran) < segments and isinstance(segment := study.execution.next(), Segment):
            study.execution.started(segment)
            for step in range(study.trials[segment.trial].step + 1, (segment.target or 9) + 1):
                study.report(segment.trial, step, {"loss": segment.params["x"]})
            if segment.target is None:
                study.execution.finish(segment.trial)
            else:
                study.execution.paused(segment.trial)
            ran.append(segment.trial)
        return ran

    go_on(8)
    study.change_space(SearchSpace({"x": Float(0.5, 1)}))
    assert all(study.trials[number].params["x"] >= 0.5 for number in go_on(200))
    taken_out = [trial for trial in study.trials if "as it was edited" in trial.reason]
    assert taken_out
    assert {trial.state for trial in taken_out} == {TrialState.PRUNED}
    assert study.history.count(TrialState.COMPLETE)
    assert snapshot(replayed(journal)) == snapshot(study)


def test_a_queue_survives_a_space_that_changes_under_it() -> None:
    study, journal = recorded(LINE)
    study.enqueue({"x": 0.9})
    study.enqueue({"x": 0.2})
    study.change_space(SearchSpace({"x": Float(0, 0.5)}))
    assert study.ask().params == {"x": 0.2}
    assert study.trials[0].origin == "enqueued"
    study.enqueue({"x": 0.4})
    study.change_space(SearchSpace({"x": Float(0, 0.5)}, "x < 0.3"))
    assert study.ask().params == {"x": 0.4}  # the user's word, and a queue must not block
    assert "no completion that meets the constraints" in study.trials[1].note
    assert snapshot(replayed(journal)) == snapshot(study)


def test_a_study_without_a_space_takes_any_names() -> None:
    study, journal = recorded(None)
    study.enqueue({"x": 0.25, "later": 3})
    study.observe({"x": 0.75}, 0.1)
    first = study.ask()
    assert first.suggest_float("x", 0.0, 1.0) == 0.25
    study.tell(first, 0.5)
    assert study.trials[0].params == {"x": 0.25}
    assert study.history.evidence.trials.tolist() == [0, -1] or study.history.evidence.trials.tolist() == [
        -1,
        0,
    ]
    assert sorted(study.history.evidence.X[:, 0].tolist()) == [0.25, 0.75]
    assert snapshot(replayed(journal)) == snapshot(study)


def test_observations_are_evidence_and_cost_nothing() -> None:
    study, journal = recorded(LINE, objectives={"acc": "max"}, limits={"trials": 2})
    study.observe({"x": 0.5}, 0.9, source="run 17")
    with pytest.raises(InputError, match=r"value of every objective \['acc'\], got .*did you mean 'ac'"):
        study.observe({"x": 0.5}, {"ac": 0.9})
    assert study.history.evidence.values.tolist() == [[-0.9]]
    assert run_to_the_end(study) == 2
    assert snapshot(replayed(journal)) == snapshot(study)


# -- duplicates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["random", "grid", "sobol", "halton", "tpe"])
def test_a_finite_space_is_gone_through_once(strategy: str) -> None:
    study = Study(FEW, strategy=strategy)
    assert run_to_the_end(study) == 6
    assert len({str(t.params) for t in study.trials}) == 6
    due = study.execution.next()
    assert isinstance(due, Finish)
    assert "every configuration of the space has been tried" in due.reason


def test_a_finite_space_is_exhausted_while_trials_still_run() -> None:
    study = Study(FEW, strategy="random")
    for _ in range(6):
        started(study)
    due = study.execution.next()
    assert isinstance(due, Wait)
    assert due.reason == "every configuration of the space has been tried; 6 trials still run"


def test_observed_configurations_are_not_run_again() -> None:
    study = Study(FEW, strategy="random")
    study.observe({"n": 1, "c": "a"}, 1.0)
    assert run_to_the_end(study) == 5
    assert {"n": 1, "c": "a"} not in [t.params for t in study.trials]


def test_a_repeat_is_known_by_its_values_whatever_point_it_came_from() -> None:
    """Else a proposal at the edge of a key's cell, which values round across, would run twice."""
    space = SearchSpace({"x": Float(1e-5, 1.0, log=True)})
    edges = ((cell + 0.5) / 1e12 for cell in range(10**11, 9 * 10**11, 10**8))
    edge = next(u for u in edges if space.key(as_held(space, u)) != space.key(np.array([u])))
    study = Study(space, objectives={"loss": "min"})
    study.observe(space.decode(np.array([edge])), 1.0)
    choice = Proposer(Always(edge), "resample").choose(study.history, ())
    assert choice is not None
    assert choice.params != space.decode(np.array([edge]))
    assert "repeated itself" in choice.note


def as_held(space: SearchSpace, u: float) -> np.ndarray:
    return space.encode(space.decode(np.array([u])))


@dataclass(frozen=True)
class Always:
    """Proposes one point for ever."""

    u: float

    def check(self, space: SearchSpace, n_objectives: int) -> None:
        pass

    def sample(self, history: History, rng: np.random.Generator) -> Proposal:
        return Proposal(u=np.array([self.u]))


def branching(trial: Trial) -> float:
    """Asks for what its model needs, and for nothing else."""
    if trial.suggest_categorical("model", ["forest", "linear"]) == "forest":
        return trial.suggest_float("features", 0.1, 1.0) - trial.suggest_int("trees", 10, 200) / 200
    return trial.suggest_float("c", 1e-3, 10.0, log=True)


@pytest.mark.parametrize("strategy", ["auto", "tpe", "forest", "random"])
def test_what_a_define_by_run_objective_does_not_ask_for_makes_no_new_configuration(strategy: str) -> None:
    """Else the best corner of one branch is run again and again, with ever new values of the other branch."""
    study = Study(None, objectives={"loss": "min"}, strategy=strategy, limits={"trials": 30})
    for _ in range(30):
        trial = study.ask()
        study.tell(trial, branching(trial))
    tried = Counter(str(sorted(t.params.items())) for t in study.trials)
    assert max(tried.values()) == 1
    assert {"c", "trees"} <= set(study.space.names)


@pytest.mark.parametrize("strategy", ["auto", "tpe", "forest", "random"])
def test_a_define_by_run_study_ends_when_every_path_was_gone(strategy: str) -> None:
    def paths(trial: Trial) -> int:
        kind = trial.suggest_categorical("kind", ["a", "b", "c"])
        return trial.suggest_int("n", 1, 3) if kind == "a" else trial.suggest_int(f"m{kind}", 1, 2)

    study = Study(None, objectives={"loss": "min"}, strategy=strategy, limits={"trials": 200})
    seen = []
    while not isinstance(end := study.execution.next(), Finish):
        trial = study.ask()
        study.tell(trial, paths(trial))
        seen.append(str(study.trials[-1].params))
    assert "every configuration" in end.reason
    assert len(seen) == len(set(seen)) == 7


def test_repeating_repeats_until_the_limit() -> None:
    study = Study(FEW, strategy="random", settings={"on_duplicate": "repeat"}, limits={"trials": 40})
    assert run_to_the_end(study) == 40
    assert max(Counter(str(t.params) for t in study.trials).values()) > 1


def test_reusing_takes_the_known_result_and_ends() -> None:
    """No configuration is run twice, reused trials count, and without a limit it does not go on for ever."""
    space = SearchSpace({"n": Int(1, 4)})
    study, journal = recorded(space, settings={"on_duplicate": "reuse"}, limits={"trials": 30})
    runs = run_to_the_end(study)
    assert runs <= 4
    assert len(study.trials) <= 30
    reused = [t for t in study.trials if "which has the same configuration" in t.reason]
    assert len(study.trials) == runs + len(reused)
    assert reused
    for trial in reused:
        assert (trial.state, trial.values, trial.attempt) == (TrialState.COMPLETE, {"loss": 1.0}, 0)
    assert study.state.steps_spent == 0
    assert snapshot(replayed(journal)) == snapshot(study)
    endless = Study(space, strategy="random", settings={"on_duplicate": "reuse"})
    assert run_to_the_end(endless) == 4


def test_a_reused_result_costs_no_steps() -> None:
    study = Study(
        {"n": Int(1, 1)}, strategy="random", settings={"on_duplicate": "reuse"}, limits={"trials": 3}
    )
    study.tell(study.ask(), 1.0, step=7)
    with pytest.raises(StudyFinished):
        study.ask()
    assert [t.step for t in study.trials] == [7, 7, 7]
    assert study.state.steps_spent == 7


def test_failed_and_running_trials_are_not_reused() -> None:
    study = Study(SearchSpace({"n": Int(1, 2)}), strategy="random", settings={"on_duplicate": "reuse"})
    first, second = study.ask(), study.ask()
    assert first.params != second.params
    study.tell(first, state="failed")
    with pytest.raises((StudyFinished, Exception), match="every configuration"):
        study.ask()


def test_a_sampler_outside_of_the_constraints_is_overruled() -> None:
    """Whatever it proposes: a configuration that fails a constraint is never run."""
    from tests.hpo_core.stubborn import Stubborn

    space = SearchSpace({"x": Float(0, 1)}, "x < 0.5")
    study = Study(space, strategy=Stubborn(u=0.9), limits={"trials": 20})
    assert run_to_the_end(study) == 20
    assert all(t.params["x"] < 0.5 for t in study.trials)
    raw = Study(SearchSpace({"n": Int(0, 9)}), strategy=Stubborn(u=0.43))
    assert raw.ask().params == {"n": 4}
    assert raw.ask().params != {"n": 4}


# -- rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "direction", "expected"),
    [
        ("last", "min", 0.6),
        ("best", "min", 0.1),
        ("best", "max", 0.9),
        ("average-1", "min", 0.6),
        ("average-2", "min", (0.9 + 0.6) / 2),
        ("average-3", "min", (0.1 + 0.9 + 0.6) / 3),
        ("average-99", "min", (0.4 + 0.1 + 0.9 + 0.6) / 4),
    ],
)
@pytest.mark.parametrize(("reported", "returned"), [(4, 0.6), (5, None), (5, 0.6)])
def test_the_rule_makes_the_value(
    rule: str, direction: str, expected: float, reported: int, returned: float | None
) -> None:
    """NaN among the reports is skipped; what is returned is the last result, reported before or not."""
    study = Study(LINE, {"v": direction}, strategy="random", settings={"rule": rule})
    trial = study.ask()
    series = [0.4, 0.1, math.nan, 0.9, 0.6]
    for step, value in enumerate(series[:reported], start=1):
        study.report(trial, step, value)
    study.tell(trial, returned)
    assert study.best.values == {"v": pytest.approx(expected)}


def test_the_last_result_counts_even_if_it_is_not_finite() -> None:
    for rule, state in (("last", TrialState.FAILED), ("best", TrialState.COMPLETE)):
        study = Study(LINE, strategy="random", settings={"rule": rule})
        trial = study.ask()
        study.report(trial, 1, 0.5)
        assert study.tell(trial, math.nan) is state


# -- limits ----------------------------------------------------------------------------------------


def test_the_limit_on_seconds_counts_drivers_and_not_the_time_between_them() -> None:
    study, journal = recorded(LINE, limits={"seconds": 100.0}, now=1000.0)
    started(study, now=1010.0)
    assert study.execution.exhausted(1099.0) is None
    assert study.execution.exhausted(1101.0) == "the time limit of 100 s is used up"
    study = Study.replay(journal.events(), journal=journal)
    study.execution.take_over("second", now=5000.0)
    assert study.execution.exhausted(5089.0) is None
    assert study.execution.exhausted(5091.0) == "the time limit of 100 s is used up"
    due = study.execution.next(5095.0)
    assert isinstance(due, Finish)
    study.extend(now=5100.0, seconds=1000.0)
    assert isinstance(study.execution.next(5101.0), Segment)


def test_the_limit_on_cost_counts_the_time_of_workers() -> None:
    """Also of those that are at work: else two trials of a day each would be let finish."""
    study = Study(LINE, strategy="random", limits={"cost": 100.0}, now=1000.0)
    for number in range(2):
        started(study, now=1000.0 + number)
    assert study.execution.exhausted(1050.0) is None
    assert study.execution.exhausted(1051.0) == "the limit of 100 worker-seconds is used up"
    study.execution.finish(0, 1.0, now=1040.0)
    assert study.trials[0].busy_seconds == 40.0
    assert study.execution.exhausted(1060.0) is None
    study.execution.lost(1, "gone", now=1051.0)
    assert study.execution.exhausted(1090.0) is None
    started(study, now=1090.0)
    assert study.execution.exhausted(1099.5) is None
    assert study.execution.exhausted(1100.5) == "the limit of 100 worker-seconds is used up"


def test_nobody_worked_on_a_trial_after_its_driver_was_gone() -> None:
    """A driver that died in the evening and was followed in the morning cost no night of its workers."""
    study, journal = recorded(LINE, limits={"cost": 100.0}, settings={"max_steps": 3}, now=1000.0)
    started(study, now=1010.0)
    study.report(0, 1, 0.5, now=1030.0)
    study = Study.replay(journal.events(), journal=journal)
    study.execution.take_over("second", now=50_000.0)
    assert study.trials[0].busy_seconds == study.state.cost_spent == 20.0
    started(study, now=50_001.0)
    study.execution.finish(0, 0.5, now=50_011.0)
    assert study.trials[0].busy_seconds == 30.0
    assert study.execution.exhausted(50_011.0) is None
    losses = [e for e in journal.events() if isinstance(e, AttemptLost)]
    assert [e.at for e in losses] == [1030.0], "charts of workers read it"


def test_the_limit_on_steps_holds_for_all_trials_together() -> None:
    study = Study(LINE, strategy="random", limits={"steps": 10}, settings={"max_steps": 4})
    for number in range(2):
        started(study)
        for step in (1, 2, 3, 4):
            study.report(number, step, 0.5)
        study.execution.finish(number)
    assert study.state.steps_spent == 8
    due = study.execution.next()
    assert isinstance(due, Finish)
    assert "the limit of 10 steps has no room for another segment" in due.reason
    at_once = Study(LINE, strategy="random", limits={"steps": 10}, settings={"max_steps": 4})
    started(at_once)
    started(at_once)
    due = at_once.execution.next()  # the two that run are to take eight
    assert isinstance(due, Wait)
    assert "has no room for another segment; 2 trials still run" in due.reason
    open_ended = Study(LINE, strategy="random", limits={"steps": 3})
    started(open_ended)
    assert open_ended.report(0, 2, 0.5) is None
    assert open_ended.report(0, 3, 0.5) == Stop("the limit of 3 steps is used up")


@pytest.mark.parametrize(
    ("strategy", "space", "trials", "all_tried"),
    [
        ("grid", FEW, 6, True),
        ("grid", FEW, 5, False),
        ("grid+asha", FEW, 6, True),
        ("random", FEW, 6, True),
        ("tpe", FEW, 5, False),
        ("grid", LINE, 5, True),
        ("random", LINE, 5, False),
        ("random", SearchSpace(FEW.parameters, "n < 3"), 4, True),
        ("random", {"always": Constant(1)}, 1, True),
    ],
)
def test_a_plan_that_has_tried_everything_says_so_at_its_last_trial(
    strategy: str, space: Any, trials: int, all_tried: bool
) -> None:
    """A grid of exactly as many points as trials ended as if more trials would find more."""
    study = Study(space, strategy=strategy, limits={"trials": trials}, settings={"max_steps": 1})
    assert run_to_the_end(study) == trials
    due = study.execution.next()
    assert isinstance(due, Finish)
    assert due.reason.startswith("every configuration of the space has been tried: ") == all_tried


def test_steps_count_as_often_as_they_are_trained() -> None:
    """A trial that began anew, its worker lost and no checkpoint saved, had its first steps counted once."""
    study, journal = recorded(LINE, strategy="random", limits={"steps": 14}, settings={"max_steps": 4})
    started(study)
    study.report(0, 3, 0.5)
    study.execution.lost(0, "gone")
    started(study)
    due = study.execution.next()  # 3 are spent, and the first trial is to take 4 again, the second 4
    assert isinstance(due, Segment)
    study.execution.started(due)
    assert isinstance(study.execution.next(), Wait), "11 of 14, and another would take 4"
    study.report(0, 4, 0.5, begun=0)
    assert study.state.steps_spent == 7
    assert replayed(journal).state.steps_spent == 7
    with pytest.raises(InputError, match="the step that training began at"):
        study.report(1, 1, 0.5, begun=-1)


def test_steps_that_were_not_reported_count_too() -> None:
    study = Study(LINE, strategy="random")
    study.tell(study.ask(), 1.0, step=7)
    assert study.state.steps_spent == 7


def test_the_limit_on_failures_counts_what_went_wrong() -> None:
    study = Study(LINE, strategy="random", limits={"failures": 3})
    for state in ("failed", "infeasible", "timed_out", "cancelled", "pruned"):
        study.tell(study.ask(), state=state)
    assert study.execution.exhausted() is None
    study.tell(study.ask(), math.nan)
    assert study.execution.exhausted() == "3 trials failed, the limit is 3"
    due = study.execution.next()
    assert isinstance(due, Finish)
    assert due.state == "failed"
    study.stop(due.state, due.reason)
    assert study.execution.next() == due
    study.requeue(0)
    assert isinstance(study.execution.next(), Segment)
    with pytest.raises(StudyStateError, match="got 'tired'"):
        study.stop("tired")


@pytest.mark.parametrize("limits", [{"trials": 2}, {"seconds": 5.0}], ids=str)
def test_a_study_without_a_complete_trial_at_its_end_has_failed(limits: dict[str, float]) -> None:
    study = Study(LINE, strategy="random", limits=limits, now=1.0)
    first, second = study.ask(now=2.0), study.ask(now=2.0)
    study.tell(first, state="failed", now=7.0)
    assert isinstance(study.execution.next(7.0), Wait)
    study.report(second, 1, {"objective": 0.5}, now=7.0)
    study.tell(second, state="pruned", now=7.0)
    due = study.execution.next(7.0)
    assert isinstance(due, Finish)
    assert due.reason.startswith("no trial is complete: ")
    study.stop(due.state, due.reason, now=7.0)
    assert study.stopped is not None
    assert study.stopped.state == "failed"
    study.requeue(0, now=8.0)
    study.extend(trials=3, seconds=None, now=8.0)
    segment = study.execution.next(8.0)
    assert isinstance(segment, Segment)
    study.execution.started(segment, now=8.0)
    study.tell(segment.trial, 0.5, now=8.0)
    study.extend(trials=2, now=8.0)
    assert study.execution.next(8.0) == Finish("all 2 trials have been started")


def test_limits_are_extended_by_name() -> None:
    study = Study(LINE, strategy="random", limits={"trials": 1, "failures": 2})
    refused: list[tuple[dict[str, Any], str]] = [
        ({"trial": 5}, "there is no limit 'trial'; did you mean 'trials'"),
        ({"trials": -1}, "the limit trials must be a positive number, got -1"),
        ({"trials": math.nan}, "got nan"),
    ]
    for limits, words in refused:
        with pytest.raises(InputError, match=words):
            study.extend(**limits)
    study.extend(trials=np.int64(7), failures=None, seconds=5)
    assert study.state.limits.to_json() == {"trials": 7, "seconds": 5.0}


# -- degenerate spaces -----------------------------------------------------------------------------

DEGENERATE = {
    "one point": (SearchSpace({"n": Int(3, 3), "f": Float(2.0, 2.0), "c": Categorical(["a"])}), 1),
    "all constants": (SearchSpace({"a": Constant(1), "b": Constant(None)}), 1),
    "200 dimensions": (SearchSpace({f"x{i}": Float(-1e300, 1e300) for i in range(200)}), 12),
    "nearly a point": (SearchSpace({"x": Float(1e300, float(np.nextafter(1e300, np.inf)))}), 12),
    "a wide integer": (SearchSpace({"n": Int(-(2**49), 2**49 - 1), "m": Int(1, 2**40, log=True)}), 12),
    "far tails": (SearchSpace({"a": LogNormal(700.0, 100.0), "b": Normal(0, 1e300)}), 12),
    "a rare point": (SearchSpace({"a": Int(0, 99), "b": Int(0, 99)}, ["a == b", "a % 10 == 3"]), 10),
    "a deep chain": (
        SearchSpace({"p0": Int(0, 1)} | {f"p{i}": Int(0, 1).when(f"p{i - 1}", 1) for i in range(1, 12)}),
        12,
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("policy", ["resample", "reuse", "repeat"])
@pytest.mark.parametrize("result", [1.0, math.nan, 1e300])
def test_degenerate_spaces_finish(name: str, policy: str, result: float) -> None:
    """Without a warning (they are errors here), without a loop, with the expected number of runs."""
    space, expected = DEGENERATE[name]
    study, journal = recorded(space, limits={"trials": 12}, settings={"on_duplicate": policy})
    runs = run_to_the_end(study, value=result)
    if policy == "resample":
        assert runs == expected
    elif policy == "repeat":
        assert runs == 12
    else:
        assert 1 <= runs <= 12
    assert len(study.trials) <= 12
    assert snapshot(replayed(journal)) == snapshot(study)


def test_a_huge_categorical_is_no_trouble() -> None:
    """100,000 choices, with children on a few of them."""
    words = Categorical([f"word{i}" for i in range(100_000)])
    space = SearchSpace({"c": words, "x": Float(0, 1).when("c", "word7", "word99999")})
    study, journal = recorded(space, limits={"trials": 12})
    study.enqueue({"c": "word99999"})
    assert run_to_the_end(study) == 12
    assert "x" in study.trials[0].params
    assert snapshot(replayed(journal)) == snapshot(study)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e308, -1e308])
def test_results_beyond_all_bounds(value: float) -> None:
    study = Study(LINE, {"a": "max", "b": "min"}, strategy="random", limits={"trials": 10})
    for number in range(10):
        study.tell(study.ask(), {"a": value, "b": float(number)})
    if math.isfinite(value):
        assert study.best.number == 0
        assert [t.number for t in study.pareto_front] == [0]
    else:
        assert study.pareto_front == []


def test_one_of_a_kind_is_counted_in_the_singular() -> None:
    """A study of one trial said that all 1 trials have been started."""
    single = Study({"x": Float(0.0, 1.0)}, strategy="random", seed=0, limits={"trials": 1})
    single.tell(single.ask(), 0.5)
    with pytest.raises(StudyFinished, match="its one trial has been started"):
        single.ask()
    assert make_strategy("random+asha").explain(4, 9).lines[0] == (
        "bracket 0: 4 trials to step 1, about 1 trial to step 3, about 1 trial to step 9"
    )
