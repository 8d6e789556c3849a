"""The board: what the study pages read is what the journal says, read whole or piece by piece."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from hpo_core import Float, InputError, SearchSpace
from hpo_core._disasters import robust_range
from hpo_core._events import SegmentStarted, TrialAsked, TrialFinished
from hpo_core._result import leaders
from tests.tracking.studies import START, Script, eventful
from tracking import Board, StudyTracker, TrackerOptions
from tracking import _board_views as views
from tracking._board import BoardStudy, BoardTrial, parsed_all
from tracking._connection import connect
from tracking._projector import Projector


def project(script: Script, uri: str, experiment: str) -> str:
    """Write the study to MLflow; returns its run."""
    tracker = StudyTracker(script.folder, uri, experiment)
    parent = tracker.start()
    assert tracker.close(60.0)
    assert parent is not None
    return parent


def board(uri: str, now: float = 0.0) -> Board:
    """A board without memory of anything, whose clock never stands still; ``now``: the time of day."""
    return Board(create_engine(uri), itertools.count(0.0, 100.0).__next__, lambda: now)


def facts(study: BoardStudy) -> list[tuple[object, ...]]:
    """What there is to know of the trials."""
    return [(t.number, t.state, t.params, t.values, t.status, t.end) for t in study.trials.values()]


def test_the_board_says_what_the_journal_says(tmp_path: Path, sqlite_uri: str, experiment: str) -> None:
    """State, configuration and final values of every trial, whatever happened to it."""
    script = eventful(tmp_path)
    found = board(sqlite_uri).study(project(script, sqlite_uri, experiment))
    assert (found.name, found.state, found.objectives) == ("toy", "finished", {"loss": "min"})
    for trial in script.study.trials:
        shown = found.trials[trial.number]
        assert (shown.state, shown.params) == (trial.state.label, trial.params)
        if shown.ranked:
            assert shown.values == {"loss": trial.values["loss"]}
    assert views.ranked(found)[0].number == script.study.best.number


def test_reading_on_is_the_same_as_reading_anew(tmp_path: Path, sqlite_uri: str, experiment: str) -> None:
    """A board that followed a study all along knows what a new one reads, deleted and requeued runs too."""
    from mlflow import MlflowClient

    script = Script(tmp_path)
    script.run(0.5)
    script.finish(script.begin(), state="failed", reason="once")
    script.begin()
    run = project(script, sqlite_uri, experiment)
    following = board(sqlite_uri)
    revisions = [following.study(run).revision]
    assert facts(following.study(run)) == facts(board(sqlite_uri).study(run))
    assert following.study(run).revision == revisions[0]
    script.finish(2, 0.25)
    script.study.requeue(1, now=script.now())
    due = script.study.execution.next(script.now())
    script.study.execution.started(due, now=script.now())  # type: ignore[arg-type]
    script.finish(1, 0.125)
    script.run(0.75)
    project(script, sqlite_uri, experiment)
    MlflowClient(sqlite_uri).delete_run(following.study(run).trials[0].run_id)
    assert [t.number for t in following.study(run).trials.values()] == [1, 2, 3]
    assert facts(following.study(run)) == facts(board(sqlite_uri).study(run))
    assert following.study(run).revision > revisions[0]


def test_a_run_that_is_no_study_is_not_found(tmp_path: Path, sqlite_uri: str, experiment: str) -> None:
    """Nor one that does not exist."""
    script = Script(tmp_path)
    script.run(0.5)
    shown = board(sqlite_uri)
    trial = shown.study(project(script, sqlite_uri, experiment)).trials[0]
    for run in (trial.run_id, "0" * 32):
        with pytest.raises(LookupError):
            shown.study(run)


def study_of(rows: list[tuple[float, float]], directions: tuple[str, str]) -> BoardStudy:
    """A study of two objectives."""
    objectives = f'{{"a": "{directions[0]}", "b": "{directions[1]}"}}'
    trials = {
        i: BoardTrial(i, str(i), "FINISHED", i, i + 1, "complete", {}, {"a": a, "b": b})
        for i, (a, b) in enumerate(rows)
    }
    return BoardStudy("r", "1", "e", "s", "FINISHED", 0, 1, {"hpo.objectives": objectives}, trials)


small = st.integers(0, 5).map(float)


@given(st.lists(st.tuples(small, small), max_size=12), st.tuples(*[st.sampled_from(["min", "max"])] * 2))
def test_the_front_is_what_nothing_beats(
    rows: list[tuple[float, float]], directions: tuple[str, str]
) -> None:
    """Against every pair; equals stand together."""
    found = views.pareto(study_of(rows, directions))
    signs = [-1 if d == "max" else 1 for d in directions]
    cost = [tuple(s * v for s, v in zip(signs, row, strict=True)) for row in rows]

    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    best = {i for i, c in enumerate(cost) if not any(beats(other, c) for other in cost)}
    assert found == sorted(best, key=lambda i: (cost[i][0], i))


@given(st.integers(0, 3000), st.integers(1, 200))
def test_thinning_keeps_what_matters_and_the_order(count: int, most: int) -> None:
    """At most so many and those to keep; everything where there are few."""
    rows = list(range(count))
    kept = views.thinned(rows, most, lambda row: row % 997 == 3)
    assert kept == sorted(set(kept))
    assert {row for row in rows if row % 997 == 3} <= set(kept)
    assert len(kept) <= most + 4
    assert len(kept) >= min(count, most)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2000))
def test_a_thinned_curve_keeps_its_ends_and_extremes(values: list[float]) -> None:
    """No spike disappears."""
    points = list(enumerate(values))
    thin = views.curves({"m": points})["m"]
    assert (thin[0], thin[-1]) == (list(points[0]), list(points[-1]))
    assert (min(p[1] for p in thin), max(p[1] for p in thin)) == (min(values), max(values))
    assert [p[0] for p in thin] == sorted({p[0] for p in thin})


def test_sorting_by_nonsense_is_refused() -> None:
    """With what there is."""
    with pytest.raises(InputError, match="did you mean 'seconds'"):
        views.table(study_of([], ("min", "min")), {"sort": "second"}, 0)


def test_configurations_are_read_together_and_a_broken_one_alone_is_lost() -> None:
    """As one text where that is whole; each for itself where one was cut, or two cuts make a whole."""
    whole = ['{"x": 1}', '{"kind": "a,b]"}', "{}"]
    assert parsed_all(whole) == [{"x": 1}, {"kind": "a,b]"}, {}]
    assert parsed_all([]) == []
    assert parsed_all([*whole, '{"x": "cut']) == [*parsed_all(whole), {}]
    assert parsed_all(['{"x": 1', '"y": 2}', '{"z": 3}, {"z": 4}']) == [{}, {}, {}]


def test_slices_keep_the_best_and_are_thinned() -> None:
    """Of 2,000 trials some hundreds are sent for each parameter, the best ten among them, once each.

    A parameter that only trials without a result had got an empty picture.
    """
    study = BoardStudy("run", "0", "e", "s", "FINISHED", 0, 1, {"hpo.objectives": '{"loss": "min"}'})
    for n in range(2000):
        params = {"x": n / 2000} | ({"inner": 0.5} if n % 3 == 0 else {})
        trial = BoardTrial(n, f"r{n}", "FINISHED", 0, 1, "complete", params, {"loss": abs(n - 700.0)})
        study.trials[n] = trial
    study.trials[2000] = BoardTrial(2000, "r2000", "FAILED", 0, 1, "failed", {"x": 0.5, "fatal": 1})
    x, inner = views.slices(study, views.ranked(study))
    for shown, best in ((x, range(695, 705)), (inner, range(672, 730, 3))):
        numbers = [row[2] for row in shown["points"]]
        assert len(numbers) == len(set(numbers)) <= 320
        assert set(best) <= set(numbers)
        assert shown["numeric"]
    assert [row[2] for row in x["points"] if row[3]] == [700]


@pytest.mark.parametrize("direction, turned", [("min", 1.0), ("max", -1.0)])
def test_the_line_of_the_best_ends_at_the_best(direction: str, turned: float) -> None:
    """Where each of many trials is better than all before, the last was among those thinned out."""
    study = BoardStudy("run", "0", "e", "s", "FINISHED", 0, 1, {"hpo.objectives": f'{{"a": "{direction}"}}'})
    for n in range(1001):
        values = {"a": -turned * n}
        study.trials[n] = BoardTrial(n, f"r{n}", "FINISHED", n, n + 1, "complete", {}, values)
    steps = views.history(study)["steps"]
    assert steps[0] == [1, 0.0, 0]
    assert steps[-1] == [1001, -turned * 1000, 1000]
    assert len(steps) < 400


def test_choices_stand_in_the_order_of_the_space() -> None:
    """They stood in that of the alphabet, numbers too: 128 before 16. What was not tried has no place."""
    declared = {"size": ["small", "medium", "large"], "batch": [16, 128, 1024]}
    space = {"parameters": {n: {"type": "categorical", "choices": c} for n, c in declared.items()}}
    tags = {"hpo.objectives": '{"loss": "min"}', "hpo.space": json.dumps(space)}
    study = BoardStudy("run", "0", "e", "s", "FINISHED", 0, 1, tags)
    tried = [("large", 128), ("medium", 16), ("small", 128), ("huge", 128)]
    for n, (size, batch) in enumerate(tried):
        params = {"size": size, "batch": batch}
        study.trials[n] = BoardTrial(n, f"r{n}", "FINISHED", 0, 1, "complete", params, {"loss": float(n)})
    shown = {one["name"]: one["choices"] for one in views.slices(study, views.ranked(study))}
    assert shown == {"size": ["small", "medium", "large", "huge"], "batch": ["16", "128"]}


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_axis_leaves_out_what_the_report_leaves_out(direction: str) -> None:
    """It began to leave out at an ordinary tail, and of few trials too: one study had two pictures."""
    sign = 1.0 if direction == "min" else -1.0

    def axis(*costs: float) -> list[float]:
        study = study_of([(sign * v, 0.0) for v in costs], (direction, "min"))
        return sorted(sign * end for end in views.history(study)["range"])

    tail = [*range(1, 20), 30]
    assert axis(*tail) == [1, 30]
    assert axis(1, 2, 1000) == [1, 1000]
    low, high = axis(*tail, 1e9)
    assert low <= 1 < 20 < high < 40
    found = robust_range(np.array([*tail, 1e9]) * sign, direction)
    assert found is not None
    assert sorted(sign * end for end in found) == [low, high]


def test_views_that_go_on_say_what_views_made_anew_say(
    tmp_path: Path, sqlite_uri: str, experiment: str
) -> None:
    """Rank, history, front and blocks of a study that grows, loses and changes trials."""
    from mlflow import MlflowClient

    script = Script(tmp_path, objectives={"loss": "min", "size": "max"})

    def step(values: list[dict[str, float]]) -> str:
        for value in values:
            script.finish(script.begin(), value)
        return project(script, sqlite_uri, experiment)

    run = step([{"loss": 0.5, "size": 1.0}, {"loss": 0.25, "size": 0.5}])
    script.finish(script.begin(), state="failed", reason="once")
    following = board(sqlite_uri)
    tags: list[dict[int, str]] = []
    for more in (
        [{"loss": 0.125, "size": 2.0}],
        [{"loss": 0.75, "size": 9.0}, {"loss": 0.125, "size": 2.0}],
        [],
    ):
        step(more)
        shown, anew = following.study(run), board(sqlite_uri).study(run)
        assert views.summary(shown) == views.summary(anew)
        assert views.ranked(shown) == views.ranked(anew)
        assert views.history(shown) == views.history(anew)
        assert views.blocks(shown) == views.blocks(anew)
        tags.append({i: tag for i, (tag, _) in views.blocks(shown).items()})
        if len(tags) == 1:
            script.study.requeue(2, now=script.now())
            script.study.execution.started(script.study.execution.next(script.now()), now=script.now())  # type: ignore[arg-type]
            script.finish(2, {"loss": 0.0625, "size": 0.25})
            MlflowClient(sqlite_uri).delete_run(shown.trials[0].run_id)
    assert tags[0] != tags[1] == tags[2]
    assert 0 not in following.study(run).trials


def test_only_the_block_of_a_trial_that_changed_gets_another_tag() -> None:
    """So a page that follows a growing study fetches little; numbers that JSON has not are null."""
    trials = {
        i: BoardTrial(i, str(i), "FINISHED", i, i + 1, "complete", {"x": i}, {"a": float(i)})
        for i in range(2 * views.BLOCK + 1)
    }
    study = BoardStudy("r", "1", "e", "s", "FINISHED", 0, 1, {"hpo.objectives": '{"a": "min"}'}, trials)
    before = {i: tag for i, (tag, _) in views.blocks(study).items()}
    changed = BoardTrial(1, "1", "FINISHED", 1, 2, "complete", {"x": float("nan")}, {"a": 1.0})
    later = replace(study, trials={**trials, 1: changed}, memo={})
    after = {i: tag for i, (tag, _) in views.blocks(later).items()}
    assert before[0] != after[0]
    assert (before[1], before[2]) == (after[1], after[2])
    sent = json.loads(views.blocks_text(later, [0, 2, 7, 2], 5))
    assert (sent["now"], list(sent["blocks"])) == (5, ["0", "2"])
    assert sent["blocks"]["0"][1][1] == [1, "1", "complete", 1, 2, 0, {"a": 1.0}, {"x": None}]
    assert [row[0] for row in sent["blocks"]["2"][1]] == [2 * views.BLOCK]
    assert json.loads(views.blocks_text(later, None, 5))["blocks"].keys() == {"0", "1", "2"}
    head, summary = sent["study"], json.loads(views.summary_text(later))
    assert all(head[name] == summary[name] for name in ("name", "objectives", "blocks", "front", "params"))
    assert {int(i): tag for i, tag in head["blocks"].items()} == after


def test_what_two_requests_need_is_made_once() -> None:
    """The summary and the trials are asked for at the same time, and both need the blocks."""
    both = threading.Barrier(2)
    made: list[int] = []

    @views._once
    def view(study: BoardStudy) -> int:
        made.append(len(made))
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # the other one comes in here only if nothing keeps it out
        return made[-1]

    study = BoardStudy("r", "1", "e", "s", "FINISHED", 0, 1, {})
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(view, [study, study])) == [0, 0]
    assert made == [0]


def test_the_spread_of_repeats_is_beside_the_value(tmp_path: Path, sqlite_uri: str, experiment: str) -> None:
    """In rows, blocks and the summary, of trials that were stopped too; the value alone is sorted by."""
    script = Script(tmp_path / "repeats", repeats=3)
    for values in ([1.0, 2.0, 3.0], [1.0, 1.25, 1.5], [9.0, 8.0]):
        script.repeat(values, "complete" if len(values) == 3 else "pruned")
    script.begin()
    found = board(sqlite_uri).study(project(script, sqlite_uri, experiment))
    assert {n: t.spread for n, t in found.trials.items()} == {
        0: {"loss": 1.0},
        1: {"loss": 0.25},
        2: {"loss": pytest.approx(0.5**0.5)},
        3: {},
    }
    table = views.table(found, {"sort": "value:loss"}, 0)
    assert [(r["trial"], r["values"].get("loss"), r["step"]) for r in table["rows"]] == [
        (1, 1.25, 3), (0, 2.0, 3), (2, 8.5, 2), (3, None, 0),
    ]  # fmt: skip
    assert [row["spread"] for row in table["rows"][:2]] == [{"loss": 0.25}, {"loss": 1.0}]
    assert (table["repeats"], views.listed(found)["repeats"]) == (3, 3)
    assert views.summary(found)["best_spread"] == {"loss": 0.25}
    sent = json.loads(views.blocks_text(found, None, 0))["blocks"]["0"][1]
    assert [row[8:] for row in sent[:2]] == [[{"spread": {"loss": 1.0}}], [{"spread": {"loss": 0.25}}]]
    assert len(sent[3]) == 8
    # NAME_std is the spread of repeats only where a study says that it has any.
    other = Script(tmp_path / "other", name="other")
    trial = other.begin()
    other.report(trial, 1, loss=1.0, loss_std=0.5)
    other.finish(trial, 1.0)
    plain = board(sqlite_uri).study(project(other, sqlite_uri, experiment))
    assert (plain.trials[0].spread, plain.repeats) == ({}, 1)


def test_a_study_and_the_one_that_confirms_it_know_each_other(
    tmp_path: Path, sqlite_uri: str, experiment: str
) -> None:
    """By identity, so another study of that name is not taken for it; a deleted run is not found."""
    from mlflow import MlflowClient

    script = Script(tmp_path / "mine", name="mine")
    script.run(0.5)
    again = Script(tmp_path / "again", name="again", repeats=2, confirms=script)
    runs = [
        project(s, sqlite_uri, experiment)
        for s in (script, again, Script(tmp_path / "later", name="mine", at=2e9))
    ]
    shown = board(sqlite_uri)
    ids = script.study.created.study_id, again.study.created.study_id
    assert views.confirmation(shown.study(runs[0])) is None
    assert views.confirmation(shown.study(runs[1])) == {
        "study": "mine", "study_id": ids[0], "before": "Runs the best trials of ",
        "after": " again on 2 fresh seeds; the verdict follows when all are done.",
    }  # fmt: skip
    script.confirmed(again, "it holds")
    for each in (script, again):
        project(each, sqlite_uri, experiment)
    assert views.confirmation(shown.study(runs[0])) == {
        "study": "again", "study_id": ids[1], "before": "Verdict of ", "after": ": it holds.",
    }  # fmt: skip
    assert views.confirmation(shown.study(runs[1])) == {
        "study": "mine", "study_id": ids[0], "before": "Verdict on the trials of ", "after": ": it holds.",
    }  # fmt: skip
    script.run(0.4)
    project(script, sqlite_uri, experiment)
    found = views.confirmation(board(sqlite_uri).study(runs[0]))
    assert found is not None
    assert found["after"] == ": it holds. Another trial has become the best since."
    here = shown.study(runs[0]).experiment_id
    assert [shown.run_of(known) for known in ids] == [(runs[0], here), (runs[1], here)]
    MlflowClient(sqlite_uri).delete_run(runs[1])
    assert shown.run_of(ids[1]) is None
    assert views.confirmation(shown.study(runs[2])) is None


def test_the_line_of_a_study_has_the_options_of_its_strategy() -> None:
    """Two studies that differ in them alone looked the same."""
    config = {"name": "gp+asha", "sampler": "gp", "scheduler": {"name": "asha", "eta": 2}}
    shown = study_of([(1.0, 2.0)], ("min", "min"))
    shown.tags["hpo.strategy"] = json.dumps(config)
    assert views.listed(shown)["strategy"] == "gp+asha (eta=2)"
    shown.tags["hpo.strategy"] = '"tpe"'
    assert views.listed(shown)["strategy"] == "tpe"


def test_forks_come_on_top_of_what_was_planned(tmp_path: Path, sqlite_uri: str, experiment: str) -> None:
    """The list and the run's description read "33 of 14 trials" of a population."""
    script = Script(tmp_path, trials=2)
    for value in (0.5, 0.25):
        script.run(value)
    fork = TrialAsked(at=script.now(), trial=2, params=script.study.trials[1].params, parent=1)
    script.journal.append(fork)
    script.journal.append(SegmentStarted(at=script.now(), trial=2, attempt=1))
    script.journal.append(TrialFinished(at=script.now(), trial=2, state="complete", values={"loss": 0.125}))
    found = board(sqlite_uri).study(project(script, sqlite_uri, experiment))
    line = views.listed(found)
    assert (line["done"], line["planned"]) == (3, 3)
    assert "3 of 3 trials finished" in found.tags["mlflow.note.content"]
    del found.tags["hpo.planned"]  # written by an earlier version
    assert views.listed(found)["planned"] == 2


def test_a_study_whose_driver_died_is_interrupted_once_its_lease_has_run_out(
    tmp_path: Path, sqlite_uri: str, experiment: str
) -> None:
    """It was running for ever, on the list and on its page, and its time grew."""
    from mlflow import MlflowClient

    script = Script(tmp_path, trials=2)
    script.run(0.5)
    run = project(script, sqlite_uri, experiment)
    client = MlflowClient(sqlite_uri)
    client.set_tag(run, "hpo.state", "running")
    shown = board(sqlite_uri, now=5000.0)
    client.set_tag(run, "hpo.lease", "3 5001 host:4711")
    driven = shown.study(run)
    assert driven.state == "running"
    client.set_tag(run, "hpo.lease", "3 4999 host:4711")
    found = shown.study(run)
    assert (found.state, found.end) == ("interrupted", 4_999_000)
    assert found.revision > driven.revision
    assert [s.state for s in shown.studies() if s.run_id == run] == ["interrupted"]
    client.set_tag(run, "hpo.lease", "")
    assert shown.study(run).state == "running"


def test_what_goes_on_after_an_end_has_none(tmp_path: Path, sqlite_uri: str, experiment: str) -> None:
    """The seconds of a study that was resumed, and of its trials, stood still until their next end."""
    script = Script(tmp_path, trials=2)
    script.run(0.5)
    trial = script.begin()
    run = project(script, sqlite_uri, experiment)
    left = board(sqlite_uri).study(run)
    assert None not in (left.end, left.trials[1].end)
    options = TrackerOptions(flush=0.0, summary=0.0)
    projector = Projector(tmp_path, connect(sqlite_uri, experiment), options)
    assert projector.open(0.0) == run
    script.report(trial, 1, loss=0.25)
    projector.read(0.0)
    projector.deliver(0.0)
    projector.close()
    resumed = board(sqlite_uri).study(run)
    assert (resumed.end, resumed.trials[0].end) == (None, left.trials[0].end)
    assert (resumed.trials[1].state, resumed.trials[1].end) == ("running", None)


def test_a_trials_seconds_are_those_that_it_ran(tmp_path: Path, sqlite_uri: str, experiment: str) -> None:
    """A trial that waited to be promoted had its pauses counted, in `hpo show` it had not."""
    script = eventful(tmp_path)
    records = script.study.trials
    shown = board(sqlite_uri).study(project(script, sqlite_uri, experiment)).trials
    assert any(t.busy is not None for t in shown.values())
    assert any(t.busy is None for t in shown.values())
    assert [t.seconds(10**15) for t in shown.values()] == pytest.approx(
        [records[number].busy_seconds for number in shown], abs=0.01
    )


def test_what_breaks_a_constraint_is_not_ranked(tmp_path: Path, sqlite_uri: str, experiment: str) -> None:
    script = Script(tmp_path, constraints=["loss >= 0.5"])
    for value in (0.25, 0.75, 1.0):
        script.run(value)
    found = board(sqlite_uri).study(project(script, sqlite_uri, experiment))
    assert found.constraints == views.listed(found)["constraints"] == ["loss >= 0.5"]
    assert [t.state for t in found.trials.values()] == ["infeasible", "complete", "complete"]
    assert [t.number for t in views.ranked(found)] == [1, 2]
    assert replace(found, tags={"hpo.constraints": '["loss >= 0.'}).constraints == []


def test_what_an_edit_takes_out_of_the_space_is_not_ranked(
    tmp_path: Path, sqlite_uri: str, experiment: str
) -> None:
    """The page had the old best on top, and the model that was registered further down."""
    script = Script(tmp_path, space={"x": Float(0.0, 1.0)})
    for x in (0.25, 0.5, 0.75):
        script.study.enqueue({"x": x})
        script.run(x)
    following = board(sqlite_uri)
    run = project(script, sqlite_uri, experiment)
    assert [t.number for t in views.ranked(following.study(run))] == [0, 1, 2]
    for low, left in ((0.4, [1, 2]), (0.9, [0, 1, 2]), (0.6, [2])):
        script.study.change_space(SearchSpace({"x": Float(low, 1.0)}), script.now())
        project(script, sqlite_uri, experiment)
        for found in (following.study(run), board(sqlite_uri).study(run)):
            assert [t.number for t in views.ranked(found)] == left == leaders(script.study.history).tolist()
            line = views.history(found)
            assert len(line["points"]) == 3
            assert line["steps"][-1][2] == left[0]
            assert {row[2] for row in line["points"] if row[3]} == set(left)
            assert line["edited"]


def test_a_night_without_a_driver_is_in_nobodys_time(
    tmp_path: Path, sqlite_uri: str, experiment: str
) -> None:
    """What ran when the driver died was said to have run until another one came."""
    script = Script(tmp_path)
    script.run(0.5, steps=2)
    cut_off = script.begin()
    script.report(cut_off, 1, loss=0.7)
    script.at += 36_000.0
    script.study.execution.take_over("in the morning", now=script.at)
    assert script.begin() == cut_off
    script.finish(cut_off, 0.4)
    run = board(sqlite_uri).study(project(script, sqlite_uri, experiment))
    shown = run.trials[cut_off].seconds(10**15)
    assert shown == pytest.approx(script.study.trials[cut_off].busy_seconds) == 2.0
    assert run.seconds == script.study.state.seconds_spent < 10.0
    assert run.since is None


def test_the_seconds_of_a_trial_go_on_while_it_runs_again_only(
    tmp_path: Path, sqlite_uri: str, experiment: str
) -> None:
    script = Script(tmp_path)
    options = TrackerOptions(flush=0.0, summary=0.0)
    projector = Projector(tmp_path, connect(sqlite_uri, experiment), options)
    run = projector.open(0.0)

    def shown() -> BoardTrial:
        projector.read(0.0)
        projector.deliver(0.0)
        return board(sqlite_uri).study(run).trials[0]

    trial = script.begin()
    script.study.execution.lost(trial, "the worker died", now=script.now())
    ran = script.study.trials[trial].busy_seconds
    waits = shown()
    assert [waits.busy, waits.since] == [ran, None]
    assert waits.seconds(round(script.now() * 1000)) == pytest.approx(ran)
    assert script.begin() == trial
    again, since = shown(), round(script.at * 1000)
    assert [again.busy, again.since] == [ran, since]
    whole = board(sqlite_uri).study(run)
    assert [whole.seconds, whole.since] == [script.study.state.seconds_spent, since]
    assert again.seconds(since + 60_000) == pytest.approx(ran + 60.0)
    sent = json.loads(views.blocks_text(board(sqlite_uri).study(run), None, 0))["blocks"]["0"][1][0]
    assert sent[8] == {"busy": again.busy, "since": again.since}
    projector.close()


def test_objectives_and_parameters_keep_the_order_of_the_study(
    tmp_path: Path, sqlite_uri: str, experiment: str
) -> None:
    """They came in that of the alphabet, so that the pages ranked by another objective than `hpo show`."""
    space = {name: Float(0.0, 1.0) for name in ("lr", "depth", "a")}
    script = Script(tmp_path, space=space, objectives={"error": "min", "cost": "min"})
    for error, cost in ((0.5, 0.25), (0.25, 0.5)):
        script.finish(script.begin(), {"error": error, "cost": cost})
    found = board(sqlite_uri).study(project(script, sqlite_uri, experiment))
    assert list(found.objectives) == ["error", "cost"]
    assert views.names(found) == ["lr", "depth", "a"]
    assert [t.number for t in views.ranked(found)] == leaders(script.study.history).tolist() == [1, 0]


def test_what_a_dead_driver_had_running_is_interrupted_too(
    tmp_path: Path, sqlite_uri: str, experiment: str
) -> None:
    """It was shown as running, its seconds went on."""
    from mlflow import MlflowClient

    script = Script(tmp_path, trials=2)
    script.run(0.5)
    script.begin()
    run = project(script, sqlite_uri, experiment)
    client = MlflowClient(sqlite_uri)
    shown = board(sqlite_uri, now=2 * START)
    open_run = shown.study(run).trials[1].run_id
    for each in (run, open_run):  # as a driver that is killed leaves them
        client.set_tag(each, "hpo.state", "running")
    with create_engine(sqlite_uri).begin() as connection:
        left_open = "UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE run_uuid IN (:study, :trial)"
        connection.execute(text(left_open), {"study": run, "trial": open_run})
    client.set_tag(run, "hpo.lease", f"3 {2 * START + 1:.0f} host:4711")
    before, driven = shown.study(run).trials.values()
    assert (driven.state, driven.end) == ("running", None)
    client.set_tag(run, "hpo.lease", f"3 {2 * START - 1:.0f} host:4711")
    left = shown.study(run)
    assert (left.trials[1].state, left.trials[1].end) == ("interrupted", (2 * START - 1) * 1000)
    assert left.trials[0] == before
    assert views.summary(left)["counts"] == {"complete": 1, "interrupted": 1}
    client.set_tag(run, "hpo.lease", f"4 {2 * START + 1:.0f} host:4712")
    assert shown.study(run).trials[1] == driven
