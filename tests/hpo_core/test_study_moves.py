"""The moves between a trial's states, and what journals and results make of them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import (
    Categorical,
    Float,
    Journal,
    JournalError,
    SearchSpace,
    Segment,
    SpaceError,
    Study,
    StudyStateError,
    TrialState,
)
from hpo_core import _events as ev
from hpo_core._history import History
from hpo_core._states import check_move
from hpo_core._strategies import compose
from hpo_core._strategy import Action, Close, Finish, Fork, Start, Strategy, Wait
from hpo_core.samplers import Random
from hpo_core.testing import Recorder
from tests.hpo_core.studies import (
    LINE,
    Scripted,
    recorded,
    replayed,
    run_to_the_end,
    scripted,
    snapshot,
    started,
)

# -- states ----------------------------------------------------------------------------------------


def in_state(state: TrialState) -> Study:
    """A study whose trial 0 is in the state."""
    study = Study(LINE, strategy=scripted(Start(target=3), Wait("x")), settings={"max_steps": 9})
    due = study.execution.next()
    assert isinstance(due, Segment)
    if state is not TrialState.WAITING:
        study.execution.started(due)
    if state is TrialState.PAUSED:
        study.report(0, 3, 0.5)
        study.execution.paused(0)
    elif state.finished:
        study.execution.finish(0, 0.5, state=state)
    assert study.trials[0].state is state
    return study


MOVES = {
    "start": (
        {"waiting"},
        lambda s: s._log.append(ev.SegmentStarted(trial=0, attempt=s.trials[0].attempt + 1)),
    ),
    "pause": ({"running"}, lambda s: s.execution.paused(0)),
    "lose": ({"running"}, lambda s: s.execution.lost(0, "gone")),
    "resume": ({"paused"}, lambda s: s._log.append(ev.TrialResumed(trial=0, target=9))),
    "finish": ({"waiting", "running", "paused"}, lambda s: s.execution.finish(0, 0.5)),
    "cancel": ({"waiting", "running", "paused"}, lambda s: s.execution.finish(0, state="cancelled")),
    "requeue": (
        {"pruned", "failed", "infeasible", "timed_out", "out_of_memory", "cancelled", "lost"},
        lambda s: s.requeue(0),
    ),
    "resolve": (
        {"waiting", "running", "paused"},
        lambda s: s._log.append(ev.TrialResolved(trial=0, params={"x": 0.1})),
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", TrialState, ids=lambda s: s.label)
@pytest.mark.parametrize("move", MOVES)
def test_the_table_of_moves(state: TrialState, move: str) -> None:
    """What is not allowed raises, and changes neither the study nor its journal."""
    allowed, act = MOVES[move]
    study = in_state(state)
    if state.label in allowed:
        act(study)
        return
    journal = Recorder()
    study._log._sink = journal
    before = snapshot(study)
    with pytest.raises(StudyStateError):
        act(study)
    assert snapshot(study) == before
    assert journal.lines == []


def test_moves_name_what_is_possible() -> None:
    with pytest.raises(StudyStateError, match="trial 3 is complete and cannot become failed"):
        check_move(3, TrialState.COMPLETE, TrialState.FAILED)
    with pytest.raises(
        StudyStateError,
        match="trial 3 is paused and cannot become running; it can become waiting, complete, pruned",
    ):
        check_move(3, TrialState.PAUSED, TrialState.RUNNING)


def test_reports_of_a_trial_that_does_not_run_are_ignored() -> None:
    for state in TrialState:
        study = in_state(state)
        length = study.history.length
        study.report(0, 8, 0.1)
        assert study.history.length == length + (state is TrialState.RUNNING)


def test_attempts_are_fenced() -> None:
    study = Study(LINE, strategy="random")
    stale = started(study)
    study.execution.lost(0, "gone")
    fresh = study.execution.next()
    assert isinstance(fresh, Segment)
    assert (stale.attempt, fresh.attempt) == (1, 2)
    with pytest.raises(StudyStateError, match="has had 1 attempts, so the next is 2, got 1"):
        study.execution.started(stale)
    study.execution.started(fresh)
    assert study.trials[0].attempt == 2


def test_stopping_leaves_nothing_open_and_is_done_once() -> None:
    for state, ends in (
        ("finished", "pruned cancelled cancelled"),
        ("cancelled", "cancelled cancelled cancelled"),
    ):
        study, journal = recorded(
            LINE, strategy=scripted(Start(target=3), Start(), Start()), settings={"max_steps": 9}
        )
        started(study)
        study.report(0, 3, 0.5)
        study.execution.paused(0)
        started(study)
        study.execution.next()
        assert [t.state.label for t in study.trials] == ["paused", "running", "waiting"]
        study.stop(state, "enough")
        assert " ".join(t.state.label for t in study.trials) == ends
        assert len(study.history.pending) == 0
        study.stop(state, "again")
        assert study.stopped is not None
        assert study.stopped.reason == "enough"
        assert study.execution.next() == Finish("enough", state)
        assert snapshot(Study.replay(journal.events(), strategy=study.strategy)) == snapshot(study)
    with pytest.raises(StudyStateError, match="'finished', 'failed' or 'cancelled', got 'done'"):
        Study(LINE, strategy="random").stop("done")


def test_requeueing_runs_the_same_configuration_again() -> None:
    study, journal = recorded(LINE, limits={"trials": 2})
    first = study.ask()
    study.tell(first, state="failed")
    study.tell(study.ask(), 1.0)
    study.stop("finished", "done")
    study.requeue(0)
    again = study.ask()
    assert (again.number, again.params, again.seed, again.attempt) == (0, first.params, first.seed, 2)
    study.tell(again, 0.5)
    assert study.best.number == 0
    assert run_to_the_end(study) == 0
    assert snapshot(replayed(journal)) == snapshot(study)


def test_a_paused_trial_that_was_cancelled_waits_for_its_promotion_again() -> None:
    """Every paused trial of a cancelled study was run once more, up to the step where it had been paused."""
    study, journal = recorded(
        {"x": Float(0.0, 1.0)},
        strategy={"sampler": "random", "scheduler": {"name": "asha", "timed": False}},
        settings={"max_steps": 9},
        limits={"trials": 4},
    )
    for _ in range(2):
        study.tell(study.ask(), 0.5)
    running = study.ask()
    study.stop("cancelled", "by somebody")
    for trial in study.trials:
        study.requeue(trial.number)
    assert [t.state.label for t in study.trials] == ["paused", "paused", "waiting"]
    again = study.ask()
    assert (again.number, again.attempt, again.start_step, again.target) == (running.number, 2, 0, 1)
    study.tell(again, 0.25)
    promoted = study.ask()
    assert (promoted.number, promoted.start_step, promoted.target) == (running.number, 1, 3)
    assert snapshot(replayed(journal)) == snapshot(study)


def test_a_new_driver_fences_off_the_old_one_and_repeats_what_ran() -> None:
    study, journal = recorded(LINE)
    started(study)
    started(study)
    assert study.execution.take_over("a") == 1
    assert study.execution.take_over("b") == 2
    assert [t.state.label for t in study.trials] == ["waiting", "waiting"]
    assert [t.losses for t in study.trials] == [0, 0]
    with pytest.raises(StudyStateError, match="driver token 1 is not above 2"):
        study._log.append(ev.DriverTookOver(driver="c", token=1))
    assert snapshot(replayed(journal)) == snapshot(study)


def test_checkpoints_decide_where_a_segment_begins() -> None:
    study = Study(
        LINE,
        strategy=scripted(Start(target=3), Fork(0, 3, np.array([0.25]), target=6)),
        settings={"max_steps": 9},
    )
    started(study)
    study.report(0, 1, 0.9)
    study.execution.checkpointed(0, 1, "one")
    study.execution.checkpointed(0, 3, "three", 100)
    study.execution.lost(0, "gone")
    due = study.execution.next()
    assert isinstance(due, Segment)
    assert (due.checkpoint, due.from_step) == ((0, 3, "three"), 3)
    study.execution.started(due)
    study.report(0, 3, 0.5)
    study.execution.paused(0)
    fork = started(study)
    assert (fork.parent, fork.checkpoint, fork.from_step, fork.params) == (0, (0, 3, "three"), 3, {"x": 0.25})
    assert study.trials[1].origin == "fork"
    assert study.history.starts.tolist() == [0, 3]
    study.execution.dropped_checkpoint(0, 1)
    assert study.trials[0].checkpoints == {3: ("three", 100)}
    study.report(1, 4, 0.4)
    assert study.state.steps_spent == 4  # the fork's own step alone
    study.extend(trials=2)
    assert study.history.trials_left == 1  # the fork is none of them


class Tidy(Scripted):
    """Closes whatever is paused, and starts trials of three steps."""

    @classmethod
    def strategy(cls) -> Strategy:
        return compose(Random(), cls())

    def next(self, history: History, rng: np.random.Generator) -> Action:
        paused = history.in_state(TrialState.PAUSED).tolist()
        return Close(paused[0], "too bad") if paused else Start(target=3)


def test_closing_goes_on_to_the_next_action() -> None:
    study = Study(LINE, strategy=Tidy.strategy(), settings={"max_steps": 9})
    started(study)
    study.report(0, 3, 0.5)
    study.execution.paused(0)
    due = started(study)
    assert due.trial == 1
    assert (study.trials[0].state, study.trials[0].reason) == (TrialState.PRUNED, "too bad")
    assert study.trials[0].values == {"loss": 0.5}


def test_a_scheduler_that_waits_for_nothing_ends_the_study() -> None:
    study = Study(LINE, strategy=scripted(Wait("godot"), Wait("godot")))
    due = study.execution.next()
    assert isinstance(due, Finish)
    assert due.reason.endswith("the scheduler waits although nothing runs: godot")


def test_a_segment_cannot_be_used_to_change_the_study() -> None:
    study = Study(SearchSpace({"layers": Categorical([[1, 2]])}), strategy="random")
    due = study.execution.next()
    assert isinstance(due, Segment)
    due.params["layers"].append(3)
    due.params["x"] = 1
    assert study.space.parameters["layers"] == Categorical([[1, 2]])


# -- results ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25))
def test_the_front_is_what_nothing_dominates(values: list[tuple[int, int]]) -> None:
    study = Study(LINE, {"a": "min", "b": "max"}, strategy="random")
    for a, b in values:
        study.tell(study.ask(), {"a": float(a), "b": float(b)})
    study.tell(study.ask(), {"a": -1.0, "b": math.nan})
    expected = [
        i for i, (a, b) in enumerate(values)
        if not any(c <= a and d >= b and (c < a or d > b) for c, d in values)
    ]  # fmt: skip
    assert [t.number for t in study.pareto_front] == expected
    assert study.best.values["a"] == min(a for a, _ in values)


def test_the_best_of_equals_is_the_first() -> None:
    study = Study(LINE, strategy="random")
    for value in (2.0, 1.0, 1.0):
        study.tell(study.ask(), value)
    assert study.best.number == 1


# -- journals --------------------------------------------------------------------------------------


def test_a_study_resumes_from_its_file(tmp_path: Any) -> None:
    path = tmp_path / "study" / "journal.jsonl"
    with Journal(path) as journal:
        study = Study(LINE, strategy="sobol", limits={"trials": 6}, journal=journal)
        for _ in range(3):
            study.tell(study.ask(), 1.0)
        study.ask()
    with Journal(path) as journal:
        resumed = Study.replay(journal.events, journal=journal)
        assert snapshot(resumed) == snapshot(study)
        resumed.execution.take_over("second")
        assert run_to_the_end(resumed) == 3
    with Journal(path) as journal:
        assert snapshot(Study.replay(journal.events)) == snapshot(resumed)
        assert len(resumed.trials) == 6


def test_what_the_journal_refuses_has_not_happened() -> None:
    class Full(Recorder):
        full = False

        def append(self, event: ev.Event) -> int:
            if self.full:
                raise JournalError("the disk is full")
            return super().append(event)

    journal = Full()
    study = Study(LINE, strategy="random", journal=journal)
    trial = study.ask()
    before = snapshot(study)
    journal.full = True
    for act in (
        lambda: study.tell(trial, 1.0),
        study.ask,
        lambda: study.enqueue({"x": 0.5}),
        lambda: study.stop(),
    ):
        with pytest.raises(JournalError):
            act()
        assert snapshot(study) == before
    journal.full = False
    study.tell(trial, 1.0)
    assert snapshot(replayed(journal)) == snapshot(study)


def test_events_that_make_no_study_are_refused() -> None:
    with pytest.raises(StudyStateError, match="a journal begins with study_created, got None"):
        Study.replay([])
    study, journal = recorded(LINE)
    study.ask()
    events = journal.events()
    with pytest.raises(StudyStateError, match="a journal begins with study_created"):
        Study.replay(events[1:])
    with pytest.raises(StudyStateError, match="expected trial 1 next, got 0"):
        Study.replay([*events, events[1]])
    with pytest.raises(StudyStateError, match="'study_created' cannot occur inside a study"):
        Study.replay([*events, events[0]])
    created = events[0]
    assert isinstance(created, ev.StudyCreated)
    with pytest.raises(JournalError, match=r"version 99 and this program reads up to .*; upgrade"):
        Study.replay([dataclasses.replace(created, version=99)])


def no_large(params: dict[str, Any]) -> bool:
    return bool(params["x"] < 0.5)


def test_constraint_functions_are_handed_in_again() -> None:
    study, journal = recorded(SearchSpace({"x": Float(0, 1)}, no_large))
    study.tell(study.ask(), 1.0)
    read_only = replayed(journal)
    assert read_only.best.params == study.best.params
    with pytest.raises(SpaceError, match=r"constraint function .*no_large"):
        read_only.ask()
    resumed = replayed(journal, space=study.space)
    assert resumed.ask().params == study.ask().params
