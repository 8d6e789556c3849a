"""One segment in its worker: where its checkpoint lies by now, and what is told of its errors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows._execute import execute
from flows._segment import Running, job_of, settle
from flows._trial import Signals, checkpoint_folder
from flows.runners import _messages as m
from flows.runners._messages import Job
from flows.runners._port import Curve, Message, Report, Saved
from hpo_core import Float, Segment, Study, TrialState
from tracking import save_checkpoint


class NoChannel:
    """A driver that is told everything and asked nothing."""

    def send(self, message: Message) -> None: ...

    def ask_run_id(self) -> str:
        raise AssertionError("nothing is logged to MLflow")


def counting(trial: Any) -> float:
    """Three steps, each worth one; what was done before counts."""
    done = 0.0 if trial.checkpoint is None else trial.checkpoint.load()["done"]
    for step in trial.steps(3):
        done += 1.0
        trial.report(step, done=done)
    return float(done)


def job(study: Path, checkpoint: str, trial: int = 0) -> Job:
    """The third step is left to be done."""
    return Job(
        trial=trial,
        attempt=2,
        params={},
        seed=1,
        target=None,
        from_step=2,
        known_step=2,
        checkpoint=checkpoint,
        folder=str(study),
    )


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Path, str]:
    """The folder of a study now, and where its journal says that the checkpoint lies."""
    saved = checkpoint_folder(tmp_path / "old", 0, 2, 1)
    save_checkpoint(saved, {"done": 2.0})
    shutil.move(tmp_path / "old", tmp_path / "new")
    return tmp_path / "new", str(saved)


def test_a_trial_goes_on_from_a_checkpoint_that_came_along(moved: tuple[Path, str]) -> None:
    outcome = execute(counting, job(*moved), NoChannel(), Signals())
    assert (outcome.kind, outcome.values, outcome.note) == (m.RETURNED, 3.0, "")


def test_a_trial_whose_checkpoint_did_not_come_along_begins_anew(moved: tuple[Path, str]) -> None:
    shutil.rmtree(moved[0] / "checkpoints")
    outcome = execute(counting, job(*moved), NoChannel(), Signals())
    assert (outcome.kind, outcome.values) == (m.RETURNED, 3.0)
    assert outcome.note.startswith(f"began anew: its checkpoint {moved[1]} has not come along to {moved[0]} ")


def test_trials_that_ignore_their_checkpoints_have_one_thing_to_tell(tmp_path: Path) -> None:
    """A study of a thousand trials that pause said the same as often, each time with other numbers."""

    def forgetful(trial: Any) -> float:
        for _ in trial.steps(4):
            pass
        return 1.0

    notes = set()
    for number, step in ((0, 1), (7, 3)):
        saved = checkpoint_folder(tmp_path, number, step, 1)
        save_checkpoint(saved, {"done": float(step)})
        given = replace(job(tmp_path, str(saved)), trial=number, from_step=step)
        notes.add(execute(forgetful, given, NoChannel(), Signals()).note)
    assert len(notes) == 1
    said = notes.pop()
    assert "the objective never loaded it" in said
    # A trial that was cut off goes on from its checkpoint, too, by whatever strategy.
    assert said.endswith("or save none where nothing pauses trials")


@pytest.mark.parametrize(("target", "stop", "kind"), [(1, False, m.PAUSED), (None, True, m.STOPPED)])
def test_what_a_trial_returns_that_was_told_to_end_is_no_result(
    tmp_path: Path, target: int | None, stop: bool, kind: str
) -> None:
    """An objective may look itself, and leave its loop before the next step is asked for."""

    def looks(trial: Any) -> float:
        for step in trial.steps(3):
            trial.report(step, done=1.0)
            if trial.should_stop:
                break
        return 0.0

    signals = Signals()
    for told in (False, True):
        if told and stop:
            signals.stop.set()
        one = replace(job(tmp_path, ""), from_step=0, known_step=0, target=target if told else None)
        outcome = execute(looks, one, NoChannel(), signals)
        assert (outcome.kind, outcome.values) == ((kind, None) if told else (m.RETURNED, 0.0))


def test_a_fork_without_its_source_cannot_begin(moved: tuple[Path, str]) -> None:
    shutil.rmtree(moved[0] / "checkpoints")
    outcome = execute(counting, job(*moved, trial=1), NoChannel(), Signals())
    assert outcome.kind == m.RAISED
    assert "no whole checkpoint" in outcome.reason


def test_what_lies_outside_the_study_is_never_loaded(moved: tuple[Path, str], tmp_path: Path) -> None:
    """A journal from MLflow may name any folder of this machine."""
    save_checkpoint(tmp_path / "planted", {"done": 99.0})
    for trial in (0, 1):
        outcome = execute(counting, job(moved[0], str(tmp_path / "planted"), trial), NoChannel(), Signals())
        assert outcome.values != 100.0


def test_passwords_in_urls_stay_out_of_what_is_kept_of_an_error(tmp_path: Path) -> None:
    """The reason goes into the journal, MLflow, Prefect and reports; the traceback is an artifact."""

    def fails(trial: Any) -> float:
        raise ConnectionError("no answer from postgresql://me:hidden@db/x?a=1&password=hidden")

    outcome = execute(fails, job(tmp_path, ""), NoChannel(), Signals())
    assert outcome.kind == m.RAISED
    for text in (outcome.reason, outcome.traceback):
        assert "postgresql://me:***@db/x?a=1&password=***" in text
        assert "hidden" not in text


class Unprintable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Unreadable(float):
    """A number that is none."""

    def __float__(self) -> float:
        raise RuntimeError("no number")


@pytest.mark.parametrize(
    "returned",
    [{"loss": 1.0, "big": 10**400}, np.array("text"), np.str_("text"), Unreadable(), Unprintable(), object()],
)
def test_whatever_an_objective_comes_to_is_an_outcome(tmp_path: Path, returned: Any) -> None:
    def objective(trial: Any) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    outcome = execute(objective, job(tmp_path, ""), NoChannel(), Signals(), None)
    assert outcome.kind == m.RAISED
    assert "objective" in outcome.reason


def test_an_array_of_one_number_is_a_number(tmp_path: Path) -> None:
    returned = {"loss": np.array([0.5]), "more": np.array([[1]]), "plain": np.float32(2.0)}
    outcome = execute(lambda trial: returned, job(tmp_path, ""), NoChannel(), Signals(), None)
    assert outcome.values == {"loss": 0.5, "more": 1.0, "plain": 2.0}


def test_an_error_about_a_file_of_an_odd_name_can_be_written_down(tmp_path: Path) -> None:
    def objective(trial: Any) -> None:
        raise FileNotFoundError(os.fsdecode(b"caf\xe9.csv") + "\0")

    outcome = execute(objective, job(tmp_path, ""), NoChannel(), Signals(), None)
    assert "caf\\udce9.csv\\x00" in outcome.reason
    assert "caf\\udce9.csv\\x00" in outcome.traceback.encode().decode()


@pytest.mark.parametrize("metrics", [0.5, 0.0, [0.5]])
def test_a_report_without_names_is_told_how(tmp_path: Path, metrics: Any) -> None:
    def objective(trial: Any) -> None:
        trial.report(3, metrics)

    outcome = execute(objective, job(tmp_path, ""), NoChannel(), Signals(), None)
    assert "trial.report takes metrics by name, such as trial.report(3, loss=0.1)" in outcome.reason


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda trial: trial.report("3", loss=1.0),
            "the step of trial.report must be a whole number of at least 1",
        ),
        (lambda trial: trial.report(None, loss=1.0), "of at least 1, got None"),
        (lambda trial: trial.report(1, loss=None), "the value of 'loss' must be a number, got None"),
        (
            lambda trial: trial.save("3", b""),
            "the step of trial.save must be a whole number of at least 0, got '3'",
        ),
        (lambda trial: trial.save(1.5, b""), "got 1.5"),
        (lambda trial: list(trial.steps("9")), "number of trial.steps must be a whole number"),
        (lambda trial: trial.report(2**63, loss=1.0), "the step of trial.report must be below 2**63"),
        (
            lambda trial: trial.report(1, **{"\ud800": 1.0}),
            "a metric's name must be text that can",
        ),
        (lambda trial: {"\ud800": 1.0}, "a metric's name must be text that can"),
        (lambda trial: trial.suggest_int("\ud800", 0, 1), "name must be text that can be written as UTF-8"),
    ],
)
def test_a_wrong_step_or_metric_is_told_in_words(tmp_path: Path, wrong: Any, message: str) -> None:
    outcome = execute(wrong, job(tmp_path, ""), NoChannel(), Signals(), None)
    assert message in outcome.reason


@pytest.mark.parametrize("second", [1, 2])
def test_a_report_that_is_left_out_is_told(tmp_path: Path, second: int) -> None:
    """Two calls for one step, as of `mlflow.log_metric`: the second was lost, and nobody said so."""

    def objective(trial: Any) -> float:
        trial.report(2, loss=0.5)
        trial.report(second, accuracy=0.9)
        trial.report(3, loss=0.4)
        return 0.4

    line = _Line()
    outcome = execute(objective, replace(job(tmp_path, ""), known_step=0), line, Signals(), None)
    assert line.said == [("report", 2), ("report", 3)]
    assert "reported a step that was not above the last one, which was left out" in outcome.note


def test_a_trial_that_repeats_what_the_study_knows_is_not_told_of_it(moved: tuple[Path, str]) -> None:
    """Its worker was lost after step 3, and it goes on from an earlier one."""
    study, checkpoint = moved
    outcome = execute(counting, replace(job(study, checkpoint), known_step=3), NoChannel(), Signals(), None)
    assert (outcome.kind, outcome.note) == (m.RETURNED, "")


def test_steps_may_be_numbers_of_an_array(tmp_path: Path) -> None:
    def objective(trial: Any) -> float:
        for step in trial.steps(np.int64(9)):
            trial.save(np.int64(step), b"")
            trial.report(np.float64(step), loss=np.float32(0.5))
        return 0.5

    outcome = execute(objective, job(tmp_path, ""), NoChannel(), Signals(), None)
    assert outcome.kind == m.RETURNED, outcome.reason


def test_a_segment_that_was_lost_after_its_last_step_only_has_to_say_so(tmp_path: Path) -> None:
    """It trained one step beyond its target. An empty loop would do no better: what it makes is returned."""
    trained: list[int] = []

    def objective(trial: Any) -> float:
        for step in trial.steps(9):
            trained.append(step)
            loss = 1.0 / step
            trial.report(step, loss=loss)
        return loss

    saved = checkpoint_folder(tmp_path, 0, 2, 1)
    save_checkpoint(saved, b"2")
    there = replace(job(tmp_path, str(saved)), target=2)
    outcome = execute(objective, there, NoChannel(), Signals(), None)
    assert (outcome.kind, outcome.reason, outcome.note, trained) == (m.PAUSED, "", "", [])


class _Line(NoChannel):
    """Notes the steps of what is reported and saved."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []

    def send(self, message: Message) -> None:
        assert isinstance(message, Report | Saved)
        self.said.append(("report" if isinstance(message, Report) else "saved", message.step))


def _save_first(trial: Any) -> None:
    for step in trial.steps(2):
        trial.save(step, b"")
        trial.report(step, loss=1.0)


def _report_first(trial: Any) -> None:
    for step in trial.steps(2):
        trial.report(step, loss=1.0)
        trial.save(step, b"")


def _report_seldom(trial: Any) -> None:
    for step in trial.steps(3):
        trial.save(step, b"")
        if step == 2:
            trial.report(step, loss=1.0)


def _by_hand(trial: Any) -> float:
    for step in (1, 2):
        trial.save(step, b"")
    return 1.0


@pytest.mark.parametrize(
    "objective, said",
    [
        (_save_first, "report 1, saved 1, report 2, saved 2"),
        (_report_first, "report 1, saved 1, report 2, saved 2"),
        (_report_seldom, "saved 1, report 2, saved 2, saved 3"),
        (_by_hand, "saved 1, saved 2"),
    ],
)
def test_no_checkpoint_is_known_before_the_report_of_its_step(
    objective: Callable[[Any], Any], said: str, tmp_path: Path
) -> None:
    """And none is forgotten, whether its step is reported or not."""
    line = _Line()
    execute(objective, replace(job(tmp_path, ""), from_step=0, known_step=0), line, Signals())
    assert ", ".join(f"{kind} {step}" for kind, step in line.said) == said


def test_a_step_that_fails_after_it_was_saved_is_not_gone_on_from(tmp_path: Path) -> None:
    """Run once more, the trial would have no report of the step."""

    def broken(trial: Any) -> None:
        for step in trial.steps(3):
            trial.save(step, b"")
            if step == 2:
                raise ValueError("no score today")
            trial.report(step, loss=1.0)

    line = _Line()
    execute(broken, replace(job(tmp_path, ""), from_step=0, known_step=0), line, Signals())
    assert line.said == [("report", 1), ("saved", 1)]


@pytest.mark.parametrize("report_first", [True, False])
def test_the_last_steps_checkpoint_counts_when_the_objective_has_returned(
    report_first: bool, tmp_path: Path
) -> None:
    """Lost in between, a trial went on after its last step: a loop over nothing, and nothing to return."""
    line = _Line()
    before: list[tuple[str, int]] = []

    def objective(trial: Any) -> float:
        loss = 0.0
        for step in trial.steps(2):
            loss = 1.0 / step
            for act in (trial.report, trial.save) if report_first else (trial.save, trial.report):
                act(step, {"loss": loss})
        before.extend(line.said)
        return loss

    execute(objective, replace(job(tmp_path, ""), from_step=0, known_step=0), line, Signals())
    assert ("saved", 1) in before
    assert ("saved", 2) not in before
    assert line.said[len(before) :] == [("saved", 2)]


class _Curves(NoChannel):
    """Keeps what is said of curves."""

    def __init__(self) -> None:
        self.said: list[Curve] = []

    def send(self, message: Message) -> None:
        assert isinstance(message, Curve)
        self.said.append(message)


@pytest.mark.parametrize(
    ("name", "steps", "words"),
    [
        ("rate", [1, 2, 3], "a value for each step, got 3 steps and 1 values"),
        ("rate \ud800", [1], "must be text that can be written as UTF-8"),
    ],
)
def test_a_curve_that_is_none_fails_its_trial(
    name: str, steps: list[int], words: str, tmp_path: Path
) -> None:
    """It ended the study, in the driver; a name that no file takes held up all that MLflow was to get."""
    line = _Curves()
    outcome = execute(lambda trial: trial.log_curve(name, steps, [0.5]), job(tmp_path, ""), line, Signals())
    assert outcome.kind == m.RAISED
    assert words in outcome.reason
    assert line.said == []


def test_a_long_curve_comes_in_parts(tmp_path: Path) -> None:
    """In one it was longer than a line may be, and ended the study."""
    line, points = _Curves(), 250_000

    def objective(trial: Any) -> None:
        trial.log_curve("c", range(points), np.zeros(points))

    execute(objective, job(tmp_path, ""), line, Signals())
    assert [step for curve in line.said for step in curve.steps] == list(range(points))
    assert max(len(curve.points) for curve in line.said) == 100_000
    assert sum(len(curve.points) for curve in line.said) == points


def test_a_loop_that_reports_nothing_is_paused_at_its_target(tmp_path: Path) -> None:
    """How far it is, its steps say."""
    done: list[int] = []

    def objective(trial: Any) -> float:
        done.extend(trial.steps(9))
        return 1.0

    rung = replace(job(tmp_path, ""), from_step=0, known_step=0, target=3)
    assert execute(objective, rung, NoChannel(), Signals()).kind == m.PAUSED
    assert done == [1, 2, 3]


def test_who_counts_steps_by_hand_ends_where_the_study_pauses_or_stops_the_trial(tmp_path: Path) -> None:
    """In the report: nothing after it is run, and what is returned is no result."""
    signals, done = Signals(), []

    def objective(trial: Any) -> float:
        for step in range(1, 10):
            trial.report(step, loss=1.0)
            done.append(step)
        return 1.0

    fresh = replace(job(tmp_path, ""), from_step=0, known_step=0)
    assert execute(objective, replace(fresh, target=3), NoChannel(), signals).kind == m.PAUSED
    assert done == [1, 2]
    signals.stop.set()
    assert execute(objective, fresh, NoChannel(), signals).kind == m.STOPPED
    assert done == [1, 2]


def test_what_an_attempt_before_has_reported_is_not_reported_again(tmp_path: Path) -> None:
    """The study knows the step; a second report of it would count twice."""

    def objective(trial: Any) -> float:
        for step in trial.steps(4):
            trial.report(step, loss=1.0)
        return 1.0

    line = _Line()
    execute(objective, replace(job(tmp_path, ""), from_step=0, known_step=2), line, Signals())
    assert line.said == [("report", 3), ("report", 4)]


def by_hand(trial: Any) -> float:
    """Goes on from files of its own, which the study knows nothing of."""
    for step in range(trial.params["first"], 7):
        trial.report(step, loss=1.0)
    return 1.0


def in_a_loop(trial: Any) -> float:
    """Validates every third step."""
    for step in trial.steps(9):
        if step % 3 == 0:
            trial.report(step, loss=1.0)
    return 1.0


@pytest.mark.parametrize(
    ("objective", "given", "begun"),
    [
        (by_hand, {"params": {"first": 1}, "known_step": 3}, [(4, 0), (5, None), (6, None)]),
        (by_hand, {"params": {"first": 4}, "known_step": 3}, [(4, None), (5, None), (6, None)]),
        (by_hand, {"params": {"first": 1}}, [(step, None) for step in range(1, 7)]),
        (in_a_loop, {"known_step": 2}, [(3, 0), (6, None), (9, None)]),
    ],
)
def test_a_report_says_where_training_began_that_was_done_before(
    objective: Any, given: dict[str, Any], begun: list[tuple[int, int | None]], tmp_path: Path
) -> None:
    """Steps that were trained again were counted once, and the limit on them was overshot by that much."""
    heard = Heard()
    first = {"from_step": 0, "known_step": 0, **given}
    execute(objective, replace(job(tmp_path, ""), **first), heard, Signals())
    assert [(report.step, report.begun) for report in heard.reports] == begun


class Heard(NoChannel):
    """Keeps what was reported; ``then``: what to do about it."""

    def __init__(self, then: Callable[[Report], None] = lambda report: None) -> None:
        self.reports: list[Report] = []
        self._then = then

    def send(self, message: Message) -> None:
        assert isinstance(message, Report)
        self.reports.append(message)
        self._then(message)


def shares(trial: Any) -> float:
    """Trains anew on more and more rows."""
    loss = 1.0
    for rows in trial.budgets(27):
        loss = trial.params["x"] + 1 / rows
        trial.report(rows, loss=loss)
    return float(loss)


@pytest.mark.parametrize(
    ("given", "budgets", "kind"),
    [
        ({"judged": False}, [27], m.RETURNED),
        ({}, [1, 3, 9, 27], m.RETURNED),
        ({"known_step": 3}, [9, 27], m.RETURNED),
        ({"known_step": 27}, [], m.RETURNED),
        ({"target": 5}, [5], m.PAUSED),
        ({"target": 11, "known_step": 5}, [11], m.PAUSED),
        ({"target": 11, "known_step": 11}, [], m.PAUSED),
        ({"target": 27, "known_step": 9}, [27], m.RETURNED),
        ({"budgets": [2, 7]}, [2, 7], m.RETURNED),
    ],
)
def test_what_begins_anew_is_trained_with_the_budgets_that_the_study_wants_alone(
    given: dict[str, Any], budgets: list[int], kind: str, tmp_path: Path
) -> None:
    """A budget of rows cost a training for each step on the way, as `steps` was the only way to go."""
    heard = Heard()
    first = {"params": {"x": 0.5}, "target": None, "from_step": 0, "known_step": 0, **given}
    outcome = execute(shares, replace(job(tmp_path, ""), **first), heard, Signals())
    assert ([report.step for report in heard.reports], outcome.kind) == (budgets, kind)
    assert outcome.note == ""


@pytest.mark.parametrize("limit", [60, 61, 100])
@pytest.mark.parametrize("strategy", ["random+asha", "hyperband", "multi_fidelity", "random"])
@pytest.mark.parametrize("loop", ["steps", "budgets"])
def test_the_limit_on_steps_holds_for_those_that_are_trained_again(
    loop: str, strategy: str, limit: int, tmp_path: Path
) -> None:
    """Without checkpoints every rung trains from the first step: of 100 steps 140 were trained."""
    limits, settings = {"trials": 200, "steps": limit}, {"max_steps": 9}
    study = Study({"x": Float(0, 1)}, strategy=strategy, seed=3, limits=limits, settings=settings)
    trained = 0

    def once(trial: Any) -> float:
        nonlocal trained
        for step in getattr(trial, loop)(9):
            trained += step if loop == "budgets" else 1
            trial.report(step, loss=trial.params["x"] + 1 / step)
        return float(trial.params["x"])

    while isinstance(segment := study.execution.next(), Segment):
        study.execution.started(segment)

        def told(report: Report, trial: int = segment.trial) -> None:
            assert study.report(trial, report.step, report.metrics, begun=report.begun) is None

        outcome = execute(once, job_of(study, segment, tmp_path), Heard(told), Signals())
        settle(study, Running(segment), outcome, leaving="", now=0.0)
    assert trained == study.state.steps_spent
    assert limit - 9 < trained <= limit


@pytest.mark.parametrize("signal", ["stop", "suspend"])
def test_training_that_begins_anew_ends_between_two_budgets(signal: str, tmp_path: Path) -> None:
    """It has no checkpoint to wait for, so Ctrl-C once waited for the largest of all."""
    signals = Signals()
    heard = Heard(lambda report: getattr(signals, signal).set())
    given = replace(job(tmp_path, ""), params={"x": 0.5}, from_step=0, known_step=0)
    assert execute(shares, given, heard, signals).kind == {"stop": m.STOPPED, "suspend": m.SUSPENDED}[signal]
    assert [report.step for report in heard.reports] == [1]


@pytest.mark.parametrize("strategy", ["asha", "hyperband", "random+asha_stopping", "multi_fidelity", "tpe"])
def test_a_study_over_budgets_trains_once_for_each_rung(strategy: str, tmp_path: Path) -> None:
    study = Study(
        {"x": Float(0, 1)}, strategy=strategy, seed=3, limits={"trials": 20}, settings={"max_steps": 27}
    )
    trained: list[tuple[int, int]] = []

    def once(trial: Any) -> float:
        for rows in trial.budgets(27):
            trained.append((trial.number, rows))
            trial.report(rows, loss=trial.params["x"] + 1 / rows)
        return float(trial.params["x"] + 1 / 27)

    while isinstance(segment := study.execution.next(), Segment):
        study.execution.started(segment)
        signals = Signals()

        def told(report: Report, trial: int = segment.trial, signals: Signals = signals) -> None:
            if study.report(trial, report.step, report.metrics) is not None:
                signals.stop.set()

        running = Running(segment, end="judged", state=TrialState.PRUNED)
        outcome = execute(once, job_of(study, segment, tmp_path), Heard(told), signals)
        settle(study, running, outcome, leaving="", now=0.0)
    assert study.history.count(TrialState.COMPLETE)
    assert len(set(trained)) == len(trained)
    assert {rows for _, rows in trained} <= ({27} if strategy == "tpe" else set(range(1, 28)))
    assert len(trained) < 20 * 27 / 4
    for trial in study.trials:
        assert [step for number, step in trained if number == trial.number][-1] == trial.step
