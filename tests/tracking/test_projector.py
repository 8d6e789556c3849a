"""The projector against an MLflow that fails: whatever is cut where, the runs come out the same."""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Float, Journal, SearchSpace, Segment, Study
from hpo_core._events import StudyCreated, TrialAsked, TrialFinished, TrialRequeued
from hpo_core._journal import encode_line, read_journal
from tests.full_disk import small_files
from tests.tracking.fake_mlflow import Away, FakeMlflow, Killed
from tests.tracking.studies import SPACE, Script, eventful
from tracking._cursor import FILE as CURSOR
from tracking._cursor import Cursor, Known, Target
from tracking._options import TrackerOptions
from tracking._projector import Projector
from tracking._states import TRIAL_STATUS

OPTIONS = TrackerOptions(flush=0.0, summary=0.0)
# One call after the other, and several at once as to any server.
URIS = st.sampled_from(["fake://", "http://fake"])


def project(folder: Path, mlflow: FakeMlflow, adopt_run: str | None = None) -> Projector:
    """One driver's life: open, write, leave."""
    projector = Projector(folder, mlflow.connection(), OPTIONS)
    try:
        projector.open(0.0, adopt_run)
        while projector.deliver(0.0):
            pass
        projector.finish(0.0)
        assert projector.uploads.close(time.monotonic() + 60)
    finally:
        projector.close()
    return projector


def runs(mlflow: FakeMlflow) -> dict[str, Any]:
    """The active runs by uid (the study's by name), without what differs between two projections."""
    active = [run for run in mlflow.stored.values() if run.stage == "active"]
    ids = {run.run_id: run.tags.get("hpo.uid", "study") for run in active}
    found = {}
    for run in active:
        uid = run.tags.get("hpo.uid", "study")
        assert uid not in found, f"two runs for {uid}"
        # A tag cannot be taken back, only emptied.
        tags = {k: re.sub(r"\brun\d+\b", lambda m: ids.get(m[0], m[0]), v) for k, v in run.tags.items() if v}
        found[uid] = (run.name, run.start_time, run.end_time, run.status, tags, run.params, run.points)
    return found


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, Any]]:
    """The journal of an eventful study, and its projection in one go."""
    folder = tmp_path_factory.mktemp("eventful")
    eventful(folder).close()
    mlflow = FakeMlflow()
    project(folder, mlflow)
    return (folder / "journal.jsonl").read_bytes(), runs(mlflow)


def test_every_trial_is_one_nested_run_with_its_state(everything: Any) -> None:
    """Status and tag say how each trial ended; nothing is left running."""
    _, shown = everything
    states = {uid: tags["hpo.state"] for uid, (*_, tags, _, _) in shown.items() if uid != "study"}
    assert set(states.values()) == set(TRIAL_STATUS) - {"lost"}
    for uid, (name, start, end, status, tags, params, _) in shown.items():
        if uid == "study":
            continue
        assert status == TRIAL_STATUS[tags["hpo.state"]]
        assert name == f"trial-{int(tags['hpo.trial']):04d}"
        assert tags["mlflow.parentRunId"] == "study"
        assert set(params) == set(SPACE)
        assert start <= end
    assert shown["study"][3] == "FINISHED"


def test_the_parent_tells_the_best_and_the_counts(everything: Any) -> None:
    """The study's run alone answers: best trial, best so far as a metric, counts by state."""
    _, shown = everything
    *_, tags, _, points = shown["study"]
    assert tags["hpo.best_trial"] == "2"
    assert tags["hpo.best_values"] == '{"loss":0.25}'
    assert sorted(p[1] for p in points if p[0] == "best_loss") == [0.25, 0.5]
    assert '"pruned":1' in tags["hpo.counts"]
    assert tags["hpo.made_with"] == '{"python":"3.11.7"}'
    # MLflow shows about three lines of it.
    second = tags["mlflow.note.content"].splitlines()[2]
    assert second.startswith("Best: trial 2, `loss` = **0.25**. [The study's live page](/hpo/studies/")


def test_the_parent_tells_why_trials_failed(everything: Any) -> None:
    """Only each trial's own run said why it failed; what went well later is not told."""
    _, shown = everything
    *_, tags, _, _ = shown["study"]
    told = tags["hpo.failures"].splitlines()
    assert sorted(told[:2]) == ["it was failed (trial 3)", "timed out: it was timed_out (trial 5)"]
    assert told[3] == "and 1 more reason"
    assert "once" not in tags["hpo.failures"]
    assert "Failed: it was failed (trial 3)" in tags["mlflow.note.content"]


def test_an_edit_of_the_space_ranks_anew_what_was_shown(tmp_path: Path) -> None:
    """The page of the study named a best trial that its space cannot have, the final model another."""
    script = Script(tmp_path, space={"x": Float(0.0, 1.0)})
    for x in (0.25, 0.75, 0.5):
        script.study.enqueue({"x": x})
        script.run(x)
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    assert runs(mlflow)["study"][4]["hpo.best_trial"] == "0"
    for low, best, outside in ((0.6, "1", {0, 2}), (0.4, "2", {0}), (0.0, "0", set())):
        script.study.change_space(SearchSpace({"x": Float(low, 1.0)}), script.now())
        project(tmp_path, mlflow)
        anew = FakeMlflow()
        (tmp_path / CURSOR).unlink()
        project(tmp_path, anew)
        for shown in (runs(mlflow), runs(anew)):
            *_, tags, _, points = shown.pop("study")
            assert tags["hpo.best_trial"] == best
            assert (
                max((p for p in points if p[0] == "best_loss"), key=lambda p: (p[3], p[2]))[1]
                == json.loads(tags["hpo.best_values"])["loss"]
            )
            told = {int(t["hpo.trial"]) for *_, t, _, _ in shown.values() if t.get("hpo.outside_space")}
            assert told == outside


def test_a_study_keeps_its_best_until_the_edited_space_has_one(tmp_path: Path) -> None:
    script = Script(tmp_path, space={"x": Float(0.0, 1.0)})
    script.run(0.25)
    script.study.change_space(SearchSpace({"x": Float(2.0, 3.0)}), script.now())
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    assert runs(mlflow)["study"][4]["hpo.best_trial"] == "0"
    script.run(0.5)
    project(tmp_path, mlflow)
    assert runs(mlflow)["study"][4]["hpo.best_trial"] == "1" == str(script.study.best.number)


def test_failures_are_told_whatever_becomes_of_their_checkpoints(tmp_path: Path) -> None:
    """Housekeeping after the end of a trial took its failure off the study's run."""
    script = Script(tmp_path)
    mlflow = FakeMlflow()
    bad = script.begin()
    script.study.execution.checkpointed(bad, 1, "checkpoints/0/1", now=script.now())
    script.finish(bad, state="failed", reason="out of luck")
    script.study.execution.dropped_checkpoint(bad, 1, now=script.now())
    project(tmp_path, mlflow)
    script.close()
    study = next(run for run in mlflow.stored.values() if run.tags["hpo.role"] == "study")
    assert study.tags["hpo.failures"] == "out of luck (trial 0)"


def test_failures_that_were_mended_are_no_longer_told(tmp_path: Path) -> None:
    """The tag is emptied: MLflow has no way to take one back in a batch."""
    script = Script(tmp_path)
    mlflow = FakeMlflow()
    bad = script.begin()
    script.finish(bad, state="failed", reason="out of luck")
    project(tmp_path, mlflow)
    study = next(run for run in mlflow.stored.values() if run.tags["hpo.role"] == "study")
    assert study.tags["hpo.failures"] == "out of luck (trial 0)"
    script.study.requeue(bad, now=script.now())
    due = script.study.execution.next(script.now())
    script.study.execution.started(due, now=script.now())  # type: ignore[arg-type]
    script.finish(bad, 0.75)
    project(tmp_path, mlflow)
    assert study.tags["hpo.failures"] == ""
    script.close()


def test_numbers_that_are_none_become_tags(everything: Any) -> None:
    """MLflow would keep NaN and turn infinity into 1.8e308; both would match filters."""
    _, shown = everything
    for *_, points in shown.values():
        assert all(math.isfinite(value) for _, value, _, _ in points)
    *_, tags, _, _ = next(run for run in shown.values() if "hpo.diverged" in run[4])
    assert tags["hpo.diverged"] == '{"loss": [1, "nan"]}'
    assert tags["hpo.state"] == "failed"


def test_a_requeued_trial_shows_its_last_end(everything: Any) -> None:
    """The first end's reason does not outlive it."""
    _, shown = everything
    *_, status, tags, _, _ = next(run for run in shown.values() if run[4].get("prefect.task_run") == "abc")
    assert (status, tags["hpo.state"], tags["hpo.attempt"]) == ("FINISHED", "complete", "2")
    assert tags.get("hpo.reason", "") == ""


def test_a_paused_trial_that_was_cancelled_shows_as_paused_again(tmp_path: Path) -> None:
    script = Script(tmp_path)
    mlflow = FakeMlflow()
    trial = script.begin()
    script.finish(trial, state="cancelled", reason="by somebody")
    project(tmp_path, mlflow)
    script.study._log.append(TrialRequeued(trial=trial, paused=True, at=script.now()))
    project(tmp_path, mlflow)
    run = next(run for run in mlflow.stored.values() if run.tags["hpo.role"] == "trial")
    assert (run.tags["hpo.state"], run.tags["hpo.reason"]) == ("paused", "")
    script.close()


def _dead_from(call: int, after: bool, number: int, _: str) -> tuple[BaseException, bool] | None:
    """The fault of who is killed at that call; nothing that is dead calls again."""
    return (Killed(), after and number == call) if number >= call else None


@given(data=st.data())
def test_death_at_any_call_and_event_leaves_one_run_per_trial(everything: Any, data: Any) -> None:
    """Kill the driver again and again, at any call to MLflow, with any part of the journal written.

    Somebody may have deleted the study's run meanwhile: its trials were written a second time if moving them
    below the new one broke off.
    """
    journal, expected = everything
    lines = journal.splitlines(keepends=True)
    mlflow = FakeMlflow(data.draw(URIS, label="uri"))
    lost_notes = data.draw(st.booleans(), label="notes are lost with each death")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = data.draw(st.integers(1, len(lines)), label="events")
        for _ in range(data.draw(st.integers(1, 3), label="deaths")):
            (folder / "journal.jsonl").write_bytes(b"".join(lines[:written]))
            die_at = len(mlflow.calls) + data.draw(st.integers(1, 40), label="call")
            after = data.draw(st.booleans(), label="after its effect")
            mlflow.fault = functools.partial(_dead_from, die_at, after)
            try:
                project(folder, mlflow)
            except Killed:
                if lost_notes:
                    (folder / "runs.jsonl").unlink(missing_ok=True)
            if data.draw(st.booleans(), label="the study's run is deleted"):
                for run in mlflow.stored.values():
                    if run.tags.get("hpo.role") == "study":
                        run.stage = "deleted"
            written = data.draw(st.integers(written, len(lines)), label="events")
        mlflow.fault = lambda number, name: None
        (folder / "journal.jsonl").write_bytes(journal)
        project(folder, mlflow)
        assert runs(mlflow) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 60), URIS)
def test_calls_that_fail_are_repeated_without_doubling_anything(
    everything: Any, effects: list[bool], first: int, uri: str
) -> None:
    """A call fails, before or after it took effect, and so do some of its repetitions."""
    journal, expected = everything
    mlflow = FakeMlflow(uri)
    faults = iter(effects)

    def fault(number: int, name: str) -> Any:
        if number < first:
            return None
        after = next(faults, None)
        return None if after is None else (Away("no answer"), after)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "journal.jsonl").write_bytes(journal)
        mlflow.fault = fault
        projector = Projector(folder, mlflow.connection(), OPTIONS)
        opened = done = False
        for _ in range(len(effects) + 1):
            try:
                if not opened:
                    projector = Projector(folder, mlflow.connection(), OPTIONS)
                    projector.open(0.0)
                    opened = True
                projector.finish(0.0)
                done = True
                break
            except Away:
                continue
        projector.close()
        assert done
        assert runs(mlflow) == expected
        assert projector.pending_events == 0


def test_a_finished_trial_costs_three_calls(tmp_path: Path) -> None:
    """create_run with all tags, one log_batch, set_terminated."""
    script = Script(tmp_path)
    mlflow = FakeMlflow()
    projector = Projector(tmp_path, mlflow.connection(), TrackerOptions(flush=0.0, summary=1e9))
    projector.open(0.0)
    before = len(mlflow.calls)
    for value in range(10):
        script.run(float(value), steps=3)
    projector.read(0.0)
    while projector.deliver(0.0):
        pass
    assert len(mlflow.calls) - before == 30
    projector.close()
    script.close()


def test_a_long_trial_shows_up_early_and_streams(tmp_path: Path) -> None:
    """RUNNING with its parameters at once; its metrics as they come; never a metric twice."""
    script = Script(tmp_path)
    mlflow = FakeMlflow()
    projector = Projector(tmp_path, mlflow.connection(), OPTIONS)
    projector.open(0.0)
    trial = script.begin()
    for step in range(1, 4):
        script.report(trial, step, loss=1.0 / step)
        projector.read(0.0)
        projector.deliver(0.0)
        run = next(r for r in mlflow.stored.values() if r.name == "trial-0000")
        assert (run.status, len(run.points), set(run.params)) == ("RUNNING", step, set(SPACE))
    assert mlflow.calls.count("create_run") == 2
    projector.close()
    script.close()


def test_points_of_a_curve_that_a_later_attempt_repeats_are_shown_once(tmp_path: Path) -> None:
    """By the same projector, by the next driver's, and of a trial that failed and is run once more."""
    script = Script(tmp_path)
    mlflow = FakeMlflow()
    execution, trial = script.study.execution, script.begin()
    execution.curve(trial, "loss/repeat-1", [1, 2], [0.5, 0.4], now=script.now())
    execution.lost(trial, "killed", now=script.now())
    for least in (1, 2):
        if least == 2:
            project(tmp_path, mlflow)
            execution.finish(trial, state="failed", now=script.now())
            project(tmp_path, mlflow)
            script.study.requeue(trial, script.now())
        again = execution.next(script.now())
        assert isinstance(again, Segment)
        execution.started(again, now=script.now())
        execution.curve(trial, "loss/repeat-1", [1], [0.5], now=script.now())
        execution.curve(trial, "loss/repeat-1", [2, 3], [0.4, 0.3], now=script.now())
        execution.curve(trial, "loss/repeat-2", [1], [0.6], now=script.now())
    script.finish(trial, 0.3)
    project(tmp_path, mlflow)
    script.close()
    run = next(r for r in mlflow.stored.values() if r.name == "trial-0000")
    points = sorted((key, step, value) for key, value, _, step in run.points if "repeat" in key)
    first = [("loss/repeat-1", 1, 0.5), ("loss/repeat-1", 2, 0.4), ("loss/repeat-1", 3, 0.3)]
    assert points == [*first, ("loss/repeat-2", 1, 0.6)]


def test_leaving_an_open_study_closes_its_runs_and_coming_back_opens_them(tmp_path: Path) -> None:
    """Paused trials are RUNNING only as long as a driver lives."""
    script = Script(tmp_path)
    mlflow = FakeMlflow()
    trial = script.begin()
    script.report(trial, 1, loss=1.0)
    script.study.execution.paused(trial, now=script.now())
    project(tmp_path, mlflow)
    by_name = {run.name: run for run in mlflow.stored.values()}
    assert (by_name["toy"].status, by_name["toy"].tags["hpo.state"]) == ("KILLED", "suspended")
    paused = by_name["trial-0000"]
    assert (paused.status, paused.tags["hpo.state"]) == ("KILLED", "paused")

    again = Projector(tmp_path, mlflow.connection(), OPTIONS)
    again.open(0.0)
    assert (by_name["toy"].status, by_name["toy"].tags["hpo.state"]) == ("RUNNING", "running")
    script.finish(trial, 0.5)
    script.stop("cancelled", "enough")
    again.read(0.0)
    again.finish(0.0)
    again.close()
    script.close()
    assert (by_name["toy"].status, paused.status) == ("KILLED", "FINISHED")
    assert len(mlflow.stored) == 2


def test_notes_that_cannot_be_written_are_done_without(tmp_path: Path, everything: Any) -> None:
    """A disk that was full as tracking began ended the study, and the tracking server was to be started."""
    journal, expected = everything
    (tmp_path / "journal.jsonl").write_bytes(journal)
    (tmp_path / "runs.new").mkdir()  # in the way of the file that the notes are written to first
    mlflow = FakeMlflow()
    for _ in range(2):
        project(tmp_path, mlflow)
        assert runs(mlflow) == expected
    assert not (tmp_path / "runs.jsonl").exists()


def test_notes_end_where_the_disk_is_full(tmp_path: Path) -> None:
    """Those with a gap would have runs created twice; the file is closed, too."""
    cursor = Cursor(tmp_path, Target("9f", "http://somewhere", "1"), events=10)
    cursor.begin("parent")
    with small_files((tmp_path / "runs.jsonl").stat().st_size + 30):
        for trial in range(3):
            cursor.note(trial, Known("run"))
    assert not (tmp_path / "runs.jsonl").exists()
    cursor.note(3, Known("run"))
    assert list(tmp_path.iterdir()) == []
    cursor.close()


def test_ghosts_of_repeated_creations_are_removed(tmp_path: Path) -> None:
    """MLflow's HTTP client repeats a creation whose answer was lost: then there are two runs."""
    script = Script(tmp_path)
    script.run(1.0)
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    original = next(r for r in mlflow.stored.values() if r.name == "trial-0000")
    ghost = mlflow.create_run("1", start_time=0, tags=dict(original.tags), run_name="trial-0000")
    project(tmp_path, mlflow)
    script.close()
    ghost_run = mlflow.stored[ghost.info.run_id]
    assert (ghost_run.status, ghost_run.stage) == ("KILLED", "deleted")
    assert original.stage == "active"


def test_removing_a_ghost_hides_no_other_run(tmp_path: Path) -> None:
    """What is removed makes room in its page: the first run of the next one was not seen, and made anew."""
    script = Script(tmp_path)
    for value in range(6):
        script.run(float(value))
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    expected = runs(mlflow)
    first = next(r for r in mlflow.stored.values() if r.name == "trial-0000")
    mlflow.create_run("1", start_time=0, tags=dict(first.tags), run_name="trial-0000")
    (tmp_path / "runs.jsonl").unlink()
    project(tmp_path, mlflow)
    script.close()
    assert runs(mlflow) == expected


def test_a_define_by_run_trial_shows_only_what_it_used(tmp_path: Path) -> None:
    """Proposed parameters that the objective never asks for do not appear."""
    script = Script(tmp_path, space={})
    mlflow = FakeMlflow()
    first = script.begin()
    script.study.execution.resolved(first, {"x": 1.0, "y": 2.0}, {"x": _float(), "y": _float()})
    script.finish(first, 1.0)
    second = script.begin()
    projector = Projector(tmp_path, mlflow.connection(), OPTIONS)
    projector.open(0.0)
    projector.deliver(0.0)
    run = next(r for r in mlflow.stored.values() if r.name == "trial-0001")
    assert run.params == {}
    script.study.execution.resolved(second, {"x": 0.25}, {"x": _float()})
    script.finish(second, 1.0)
    projector.read(0.0)
    projector.finish(0.0)
    projector.close()
    script.close()
    assert run.params == {"x": "0.25"}
    assert run.tags["hpo.params"] == '{"x":0.25}'
    # The study's run has the space as it is now, which the pages take scales and choices from.
    shown = json.loads(runs(mlflow)["study"][4]["hpo.space"])
    assert shown == script.study.space.to_json()
    assert list(shown["parameters"]) == ["x", "y"]


def _float() -> Any:
    from hpo_core import Float

    return Float(0.0, 10.0)


def test_several_objectives_show_their_front(tmp_path: Path) -> None:
    """The parent lists the trials that no other dominates, equals together, whichever ended first."""
    script = Script(tmp_path, objectives={"loss": "min", "speed": "max"})
    values = ((1.0, 1.0), (2.0, 2.0), (2.0, 1.0), (0.5, 0.1), (1.0, 1.0))
    for trial in [script.begin() for _ in values][::-1]:
        script.finish(trial, dict(zip(("loss", "speed"), values[trial], strict=True)))
    script.stop()
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    script.close()
    parent = next(r for r in mlflow.stored.values() if r.name == "toy")
    assert parent.tags["hpo.pareto"] == "[3, 0, 4, 1]"
    assert {t.number for t in script.study.pareto_front} == {0, 1, 3, 4}


def test_of_equal_results_the_best_is_the_earliest_trial_as_in_the_core(tmp_path: Path) -> None:
    """Not the one that ended first, which with several workers may be another."""
    script = Script(tmp_path)
    for trial in [script.begin() for _ in range(3)][::-1]:
        script.finish(trial, 0.5)
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    script.close()
    parent = next(r for r in mlflow.stored.values() if r.name == "toy")
    assert parent.tags["hpo.best_trial"] == str(script.study.best.number) == "0"


def test_files_of_a_trial_are_uploaded_once_it_has_finished(tmp_path: Path) -> None:
    """Also those that an earlier driver left behind."""
    script = Script(tmp_path)
    trial = script.run(1.0)
    folder = tmp_path / "artifacts" / str(trial)
    folder.mkdir(parents=True)
    (folder / "traceback.txt").write_text("boom")
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    script.close()
    run = next(r for r in mlflow.stored.values() if r.name == "trial-0000")
    assert (run.run_id, str(folder)) in mlflow.artifacts
    assert not folder.exists()


def test_a_journal_from_a_copy_is_projected_anew(tmp_path: Path) -> None:
    """Notes on events that the journal does not have are notes on another journal."""
    eventful(tmp_path).close()
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    expected = runs(mlflow)
    path = tmp_path / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:8]))
    project(tmp_path, mlflow)
    path.write_bytes(b"".join(lines))
    project(tmp_path, mlflow)
    assert runs(mlflow) == expected
    path.write_bytes(b"".join(lines[:8]))
    with Journal(path) as journal:
        study = Study.replay(journal.events, journal=journal)
        study.execution.take_over("another driver", study.state.last_at)
        due = study.execution.next(study.state.last_at)
        assert isinstance(due, Segment)
        study.execution.started(due, now=study.state.last_at)
        study.execution.finish(due.trial, 0.0625, now=study.state.last_at)
    project(tmp_path, mlflow)
    again = next(run for run in mlflow.stored.values() if run.name == f"trial-{due.trial:04d}")
    assert 0.0625 in {point[1] for point in again.points}


def test_a_study_took_as_long_as_somebody_drove_it(tmp_path: Path) -> None:
    """Its description counted the night between two drivers, `hpo show` did not."""
    script = Script(tmp_path)
    script.run(0.5)
    script.at += 36_000.0
    script.study.execution.take_over("in the morning", now=script.at)
    script.run(0.4)
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    assert script.study.state.seconds_spent == 4.0
    assert "2 of 100 trials finished in 4 s: " in runs(mlflow)["study"][4]["mlflow.note.content"]


def test_reports_that_share_a_step_with_the_result_are_no_spikes(tmp_path: Path) -> None:
    """The value returned is the last report: one point, not two."""
    script = Script(tmp_path)
    script.run(0.5, steps=3)
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    events = [event for _, event, _ in read_journal(tmp_path / "journal.jsonl")]
    script.close()
    assert isinstance(events[0], StudyCreated)
    run = next(r for r in mlflow.stored.values() if r.name == "trial-0000")
    assert sorted((step, value) for _, value, _, step in run.points) == [(1, 2.5), (2, 1.5), (3, 0.5)]


def test_a_result_that_is_no_report_is_the_latest_point_of_its_step(tmp_path: Path) -> None:
    """Within a millisecond of the last report, MLflow showed the larger of the two as the result."""
    script = Script(tmp_path)
    trial = script.begin()
    at = script.now()
    script.study.report(trial, 3, {"loss": 0.75}, now=at)
    script.study.execution.finish(trial, {"loss": 0.5}, now=at)
    script.close()
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    run = next(r for r in mlflow.stored.values() if r.name == "trial-0000")
    latest = max((step, when, value) for name, value, when, step in run.points if name == "loss")
    assert latest == (3, int(at * 1000) + 1, 0.5)


def test_ten_thousand_events_are_read_once(tmp_path: Path) -> None:
    """The offset moves on: a growing journal is not read from its beginning at each turn."""
    script = Script(tmp_path)
    mlflow = FakeMlflow()
    projector = Projector(tmp_path, mlflow.connection(), OPTIONS)
    projector.open(0.0)
    seen: list[int] = []
    apply = projector.view.apply

    def counted(seq: int, event: Any) -> Any:
        seen.append(seq)
        return apply(seq, event)

    projector.view.apply = counted  # type: ignore[method-assign]
    for value in range(5):
        script.run(float(value))
        projector.read(0.0)
    projector.close()
    script.close()
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == 15


def test_a_trial_that_never_started_shows_when_it_ends(tmp_path: Path) -> None:
    """A duplicate takes over a known result without running; it is a run all the same."""
    script = Script(tmp_path)
    mlflow = FakeMlflow()
    line = TrialAsked(at=script.now(), trial=0, params={"lr": 0.1})
    script.journal.append(line)
    projector = Projector(tmp_path, mlflow.connection(), OPTIONS)
    projector.open(0.0)
    projector.deliver(0.0)
    assert len(mlflow.stored) == 1
    script.journal.append(TrialFinished(at=script.now(), trial=0, state="complete", values={"loss": 1.0}))
    projector.read(0.0)
    projector.finish(0.0)
    projector.close()
    script.close()
    assert {run.status for run in mlflow.stored.values()} == {"FINISHED", "KILLED"}


def test_encode_line_is_what_the_projector_reads(tmp_path: Path) -> None:
    """A line torn by a crash is not read, and not skipped either once it is whole."""
    script = Script(tmp_path)
    script.close()
    path = tmp_path / "journal.jsonl"
    line = encode_line(1, TrialAsked(at=1.0, trial=0, params={"lr": 0.1}))
    whole = path.read_bytes()
    mlflow = FakeMlflow()
    projector = Projector(tmp_path, mlflow.connection(), OPTIONS)
    projector.open(0.0)
    path.write_bytes(whole + line[:-9])
    assert not projector.read(0.0)
    path.write_bytes(whole + line)
    assert projector.read(0.0)
    assert [view.number for view in projector.view.trials] == [0]
    projector.close()


def test_fault_points_cover_every_kind_of_call(everything: Any, tmp_path: Path) -> None:
    """The cut points above are real: an eventful study uses every call that writes runs."""
    journal, _ = everything
    (tmp_path / "journal.jsonl").write_bytes(journal)
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    assert {"create_run", "log_batch", "set_terminated"} <= set(mlflow.calls)
    assert len(list(itertools.takewhile(lambda n: n <= 40, range(len(mlflow.calls))))) > 20


def test_what_is_noted_afterwards_makes_a_study_no_longer(tmp_path: Path) -> None:
    """A model promoted a day later: the study took as long as it did, in its times and in its words."""
    script = Script(tmp_path)
    script.run(0.5)
    script.stop()
    mlflow = FakeMlflow()
    project(tmp_path, mlflow)
    before = runs(mlflow)["study"]
    script.study.note("promotion", {"trial": 0}, now=script.at + 86_400)
    script.study.note("tags", {"tags": {"promoted": "yes"}}, now=script.at + 86_400)
    script.close()
    project(tmp_path, mlflow)
    after = runs(mlflow)["study"]
    assert after[:4] == before[:4]
    assert after[4]["promoted"] == "yes"
    assert after[4]["mlflow.note.content"] == before[4]["mlflow.note.content"]
