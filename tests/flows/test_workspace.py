"""Studies on disk: created once, resumed by their name, refused when the name means another study."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows._find import find, find_all
from flows._workspace import (
    Opened,
    Terms,
    check_before,
    driver_label,
    open_study,
    read_study,
    requeue_failed,
    studies_home,
    study_folder,
    study_names,
)
from hpo_core import (
    Categorical,
    Float,
    InputError,
    JournalError,
    Limits,
    SearchSpace,
    Segment,
    Settings,
    Study,
    StudyExistsError,
    StudyLockedError,
    TrialState,
    make_strategy,
)

TERMS = Terms(
    name="mine",
    space=SearchSpace({"x": Float(0.0, 1.0)}),
    objectives={"loss": "min"},
    strategy=make_strategy("random"),
    seed=0,
    limits=Limits(trials=3),
    settings=Settings(),
    identity={"objective": "here:loss"},
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Studies of these tests."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    return tmp_path / "studies"


def opened(now: float = 1.0, *, edit: bool = False, **changes: Any) -> Opened:
    """Open the study with these terms changed."""
    return open_study(replace(TERMS, **changes), now=now, edit=edit)


def run(study: Any, *states: TrialState, now: float = 2.0) -> None:
    """Run one trial for each state to that end."""
    for state in states:
        due = study.execution.next(now)
        assert isinstance(due, Segment)
        study.execution.started(due, now=now)
        if state is TrialState.RUNNING:
            continue
        study.execution.finish(due.trial, due.params["x"], state=state, now=now)


def test_a_study_is_created_where_the_environment_says(home: Path) -> None:
    study = opened()
    study.journal.close()
    assert not study.resumed
    assert study.study.state.token == 1, "its driver can be told from later ones"
    asking = opened(name="asking", space=None)
    asking.journal.close()
    assert [s.study.created.meta["define_by_run"] for s in (study, asking)] == [False, True]
    assert study.folder == home / "mine" == study_folder("mine")
    assert studies_home() == home
    assert read_study(study.folder).created.study_id == study.study.created.study_id
    with pytest.raises(InputError, match="there is no study 'yours' in"):
        read_study(study_folder("yours"))


def test_the_folders_that_hold_studies_are_listed_by_their_names(home: Path) -> None:
    assert study_names() == []
    for name in ("b", "c", "a"):
        opened(name=name).journal.close()
    (home / "no-study").mkdir()
    assert study_names() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", ".hidden", "-x", "a" * 121, "a\nb", "a:b", "\N{SNOWMAN}", "木" * 81, 7]
)
def test_names_that_make_no_folder(name: Any, home: Path) -> None:
    with pytest.raises(InputError, match="study's name"):
        opened(name=name)
    assert not home.exists()


@pytest.mark.parametrize("name", ["a", "lgbm-my.table", "With spaces and 1+1", "ä", "木" * 80])
def test_names_that_do(name: str) -> None:
    opened(name=name).journal.close()
    assert (study_folder(name) / "journal.jsonl").exists()


def test_who_may_not_write_here_is_told_of_another_place(home: Path, tmp_path: Path) -> None:
    """A read-only working folder, as containers have it, was only named as the journal's."""
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"folder .* cannot be made .*; set HPO_HOME to a folder where"):
        open_study(TERMS, now=1.0, home=tmp_path / "taken")


def test_a_new_study_begins_with_what_its_terms_say_and_a_resumed_one_does_not_again() -> None:
    terms: dict[str, Any] = {"first": ({"x": 0.25}, {"x": 0.75}), "limits": Limits(trials=4)}
    here = opened(**terms)
    run(here.study, TrialState.COMPLETE)
    here.journal.close()
    there = opened(**terms)
    run(there.study, TrialState.COMPLETE, TrialState.COMPLETE)
    there.journal.close()
    tried = [t.params["x"] for t in there.study.trials]
    assert tried[:2] == [0.25, 0.75]
    assert tried.count(0.25) == tried.count(0.75) == 1


@pytest.mark.parametrize("queued", [0, 1, 2])
def test_what_a_study_begins_with_is_queued_once_although_its_driver_dies_over_it(
    queued: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study that was killed before its first trial was resumed without them."""
    terms: dict[str, Any] = {"first": ({"x": 0.25}, {"x": 0.75}), "limits": Limits(trials=4)}
    enqueue = Study.enqueue

    def dying(study: Study, *given: Any, **more: Any) -> None:
        if len(study.state.queue) == queued:
            raise KeyboardInterrupt
        enqueue(study, *given, **more)

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(Study, "enqueue", dying)
        opened(**terms).journal.close()
    again = opened(**terms)
    assert [p["x"] for p in again.study.state.queue] == [0.25, 0.75]
    again.journal.close()


def test_the_same_terms_resume_and_what_ran_is_repeated() -> None:
    first = opened()
    run(first.study, TrialState.COMPLETE, TrialState.RUNNING)
    first.journal.close()
    again = opened(now=9.0)
    assert again.resumed
    assert [t.state for t in again.study.trials] == [TrialState.COMPLETE, TrialState.WAITING]
    assert again.study.trials[1].losses == 0
    due = again.study.execution.next(9.0)
    assert isinstance(due, Segment)
    assert (due.trial, due.attempt, due.params) == (1, 2, first.study.trials[1].params)
    assert again.study.state.token == first.study.state.token + 1
    again.journal.close()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"identity": {"objective": "there:loss"}}, "its objective is 'here:loss', not 'there:loss'"),
        ({"identity": {"objective": "__main__:gain"}}, "its objective is 'here:loss', not '__main__:gain'"),
        ({"objectives": {"loss": "max"}}, "its objectives are"),
        ({"space": SearchSpace({"x": Float(0.0, 2.0)})}, "its search space is another one"),
        ({"meta": {"request": {"repeats": 3}}}, "its configurations are run with 1 repeats, not 3"),
    ],
)
def test_another_study_of_the_same_name_is_refused(changes: dict[str, Any], says: str) -> None:
    opened().journal.close()
    terms = replace(TERMS, **changes)
    before = (study_folder("mine") / "journal.jsonl").read_bytes()
    for refuse in (lambda: check_before(terms), lambda: open_study(terms, now=2.0)):
        with pytest.raises(StudyExistsError, match=says):
            refuse()
    assert (study_folder("mine") / "journal.jsonl").read_bytes() == before
    opened().journal.close()  # the refusal has let go of the lock


@pytest.mark.parametrize(("first", "then"), [("__main__", "here"), ("here", "__main__"), ("here", "here")])
def test_a_function_is_the_same_in_a_script_and_where_that_is_deployed(first: str, then: str) -> None:
    opened(identity={"objective": f"{first}:loss"}).journal.close()
    again = opened(identity={"objective": f"{then}:loss"})
    assert again.resumed
    again.journal.close()


def test_scripts_without_a_function_are_not_taken_for_one_another() -> None:
    opened(identity={"objective": "__main__"}).journal.close()
    with pytest.raises(StudyExistsError, match="its objective is '__main__', not 'here'"):
        opened(identity={"objective": "here"})


def test_what_a_study_does_not_say_of_itself_or_is_not_asked_is_no_difference() -> None:
    """A journal of before the question was kept; and a call that leaves the space to the study."""
    opened().journal.close()
    again = opened(identity={**TERMS.identity, "question": "q"}, space=None, seed=None)
    assert again.resumed
    assert again.lines == ()
    again.journal.close()


def below_half(params: dict[str, Any]) -> bool:
    return bool(params["x"] < 0.5)


def test_a_constraint_that_is_a_function_holds_when_the_study_goes_on() -> None:
    """The journal has its name alone."""
    space = SearchSpace({"x": Float(0.0, 1.0)}, constraints=[below_half])
    opened(space=space).journal.close()
    again = opened(space=space)
    run(again.study, *[TrialState.COMPLETE] * 3)
    again.journal.close()
    assert all(trial.params["x"] < 0.5 for trial in again.study.trials)


def test_an_edited_space_is_taken_on_purpose_and_keeps_what_fits() -> None:
    first = opened()
    run(first.study, TrialState.COMPLETE)
    first.journal.close()
    value = first.study.trials[0].params["x"]
    edited = SearchSpace({"x": Float(value / 2, 2.0)})
    waiting = opened()
    for x in (value / 4, value):
        waiting.study.enqueue({"x": x})
    waiting.journal.close()
    again = opened(edit=True, space=edited)
    assert "the search space was changed" in again.lines[0]
    assert again.lines[1] == f"not tried, as the search space leaves it out: {{'x': {value / 4}}}"
    assert len(again.study.history.evidence) == 1
    again.journal.close()
    assert read_study(again.folder).state.declared.digest() == edited.digest()
    same = opened(edit=True, space=edited)
    assert same.lines == ()
    same.journal.close()


def test_a_space_that_was_exhausted_can_be_widened_within_the_same_total() -> None:
    """The edit was not taken, and the study said to be finished, until the total was raised as well."""
    few = replace(TERMS, space=SearchSpace({"x": Categorical([1.0, 2.0])}))
    first = open_study(few, now=1.0)
    run(first.study, *[TrialState.COMPLETE] * 2)
    assert not isinstance(first.study.execution.next(4.0), Segment)
    first.study.stop(reason="every configuration of the space has been tried", now=4.0)
    first.journal.close()
    wider = replace(TERMS, space=SearchSpace({"x": Categorical([1.0, 2.0, 3.0, 4.0])}))
    assert check_before(few, edit=True)
    assert not check_before(wider, edit=True)
    again = open_study(wider, now=4.0, edit=True)
    assert (again.study.stopped, len(again.study.history.evidence)) == (None, 2)
    run(again.study, TrialState.COMPLETE, now=5.0)
    again.study.stop(reason="all 3 trials have been started", now=6.0)
    again.journal.close()
    # Nothing is left to try another space with.
    assert check_before(few, edit=True)
    over = open_study(few, now=7.0, edit=True)
    assert over.lines == (
        "the study is finished: all 3 trials have been started",
        "its search space stays as it is; this command with a higher limit goes on with the new one",
    )
    assert over.study.space.digest() == again.study.space.digest()
    over.journal.close()


def test_what_is_no_term_of_the_study_stays_and_is_said() -> None:
    opened().journal.close()
    again = opened(strategy=make_strategy("sobol"), seed=5)
    assert "keeps its strategy 'random' (asked for: 'sobol')" in again.lines[0]
    assert "keeps its seed 0 (asked for: 5)" in again.lines[1]
    assert again.study.strategy.name == "random"
    again.journal.close()


def test_rules_that_were_asked_for_and_are_not_the_studys_are_said() -> None:
    opened(settings=Settings(rule="best", max_steps=9)).journal.close()
    wish = Settings(rule="average-2", on_duplicate="reuse", max_attempts=2, max_steps=27)
    again = opened(settings=wish)
    assert again.lines == (
        "the study keeps rule 'best' (asked for: 'average-2')",
        "the study keeps on_duplicate 'resample' (asked for: 'reuse')",
        "the study keeps max_attempts 5 (asked for: 2)",
        "the study keeps max_steps 9 (asked for: 27)",
    )
    assert again.study.state.settings.rule == "best"
    again.journal.close()
    same = opened(settings=Settings(rule="best"))
    assert same.lines == ()
    same.journal.close()


def test_what_is_to_be_tried_first_is_queued_once_before_what_comes_by_default() -> None:
    wish: dict[str, Any] = {"enqueued": ({"x": 0.5},), "first": ({"x": 0.25}, {"x": 0.75})}
    begun = opened(**wish)
    assert [dict(params) for params in begun.study.state.queue] == [{"x": 0.5}, {"x": 0.25}, {"x": 0.75}]
    begun.journal.close()
    again = opened(**wish)
    assert len(again.study.state.queue) == 3
    run(again.study, TrialState.COMPLETE)
    assert again.study.trials[0].params == {"x": 0.5}
    again.journal.close()
    later = opened(**{**wish, "enqueued": ({"x": 0.5}, {"x": 0.125})})
    assert [dict(params) for params in later.study.state.queue] == [{"x": 0.25}, {"x": 0.75}, {"x": 0.125}]
    later.journal.close()


@pytest.mark.parametrize("lines", range(3, 6))
def test_what_is_to_be_tried_is_queued_once_wherever_its_driver_died(lines: int) -> None:
    """It was queued again where the driver was killed before it had noted that it is in the queue."""
    wish: dict[str, Any] = {"enqueued": ({"x": 0.5}, {"x": 0.125}, {"x": 0.5}), "first": ({"x": 0.25},)}
    first = opened(**wish)
    first.journal.close()
    path = first.folder / "journal.jsonl"
    written = path.read_bytes().splitlines(keepends=True)
    assert len(written) == 5
    path.write_bytes(b"".join(written[:lines]))
    again = opened(**wish)
    assert [dict(params) for params in again.study.state.queue] == [{"x": 0.5}, {"x": 0.125}, {"x": 0.25}]
    again.journal.close()


def test_two_containers_with_one_name_are_two_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each took the other's lease in MLflow for its own, and both drove the study."""
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    monkeypatch.setattr("os.getpid", lambda: 1)
    drivers = {driver_label() for _ in range(3)}
    assert len(drivers) == 3
    assert {driver.partition("-")[0] for driver in drivers} == {"host:1"}


def test_what_comes_too_late_to_be_tried_is_said() -> None:
    done = opened(enqueued=({"x": 0.5},))
    run(done.study, *[TrialState.COMPLETE] * 3)
    done.study.stop("finished", "enough", now=3.0)
    done.journal.close()
    same = opened(enqueued=({"x": 0.5},))
    assert same.lines == ("the study is finished: enough",)
    same.journal.close()
    late = opened(enqueued=({"x": 0.125},))
    assert (
        late.lines[1] == "not tried, as the study is over: [{'x': 0.125}]; raise the number of trials with it"
    )
    late.journal.close()
    more = opened(enqueued=({"x": 0.125},), limits=Limits(trials=4))
    assert [dict(params) for params in more.study.state.queue] == [{"x": 0.125}]
    more.journal.close()


def test_a_clock_that_was_set_back_between_two_drivers_goes_on_from_the_last_event() -> None:
    """The study's run in MLflow ended before it began, and trials were drawn in the wrong order."""
    first = opened(now=9_000.0)
    run(first.study, TrialState.COMPLETE, now=9_010.0)
    first.journal.close()
    again = opened(now=1_800.0)
    assert again.study.state.last_at == 9_010.0
    again.journal.close()


def test_nothing_is_said_of_a_strategy_that_only_the_limits_made_another() -> None:
    """`auto` races where the time ends a study; who typed `auto` twice has asked for nothing else."""
    meta = {"request": {"strategy": "auto"}}
    opened(strategy=make_strategy("auto"), meta=meta).journal.close()
    again = opened(strategy=make_strategy("auto+race"), meta=meta)
    assert again.lines == ()
    again.journal.close()
    other = opened(strategy=make_strategy("auto+race"), meta={"request": {"strategy": "auto+race"}})
    assert "keeps its strategy 'auto' (asked for: 'auto+race')" in other.lines[0]
    other.journal.close()


def test_what_has_changed_since_the_study_began_is_said() -> None:
    """Trials of an objective and of what has become of it were ranked together without a word."""
    made_with = {"python": "3.11.7", "packages": {"numpy": "2.0"}, "code": "ab"}
    opened(meta={"made_with": made_with}).journal.close()
    for meta in ({"made_with": made_with}, {}):
        same = opened(meta=meta)
        assert same.lines == ()
        same.journal.close()
    opened(name="older").journal.close()
    unknown = opened(name="older", meta={"made_with": made_with})
    assert unknown.lines == ()
    unknown.journal.close()
    other = opened(meta={"made_with": {**made_with, "code": "cd", "packages": {"numpy": "2.1"}}})
    (line,) = other.lines
    assert line.startswith(
        "since the study began, numpy was 2.0 and is 2.1; the objective's file has changed: "
    )
    other.journal.close()


def test_how_a_study_takes_its_results_stays_and_is_said() -> None:
    opened(settings=Settings(deterministic=True)).journal.close()
    plain = opened(settings=Settings())
    assert "in the order of its trials, as it was started" in plain.lines[0]
    assert plain.study.state.settings.deterministic
    plain.journal.close()
    more = opened(settings=Settings(deterministic=True, workers=3))
    assert "another course with 3 workers than with the 1" in more.lines[0]
    more.journal.close()
    opened(name="plain").journal.close()
    free = opened(name="plain", settings=Settings(workers=3))
    assert free.lines == ()
    free.journal.close()


def test_a_finished_study_is_recognised_and_a_higher_total_opens_it() -> None:
    first = opened()
    run(first.study, *[TrialState.COMPLETE] * 3)
    first.study.stop("finished", "done", now=3.0)
    first.journal.close()
    assert check_before(TERMS)
    again = opened()
    assert again.lines == ("the study is finished: done",)
    length = again.study.history.length
    again.journal.close()
    assert read_study(again.folder).history.length == length
    more = replace(TERMS, limits=Limits(trials=5))
    assert not check_before(more)
    extended = open_study(more, now=4.0)
    assert extended.lines == ("its limits are now trials=5",)
    assert extended.study.stopped is None
    extended.journal.close()
    # A lower number takes nothing back.
    opened(limits=Limits(trials=2)).journal.close()
    assert read_study(extended.folder).state.limits.trials == 5


def test_what_ended_is_not_opened_again_by_a_limit_that_it_never_had_or_has_already() -> None:
    limits = Limits(trials=3, improvement="noise")
    first = opened(limits=limits)
    first.study.stop("failed", "no trial is complete", now=3.0)
    first.journal.close()
    for asked in (limits, replace(limits, seconds=60.0)):
        again = opened(limits=asked)
        assert again.lines == ("the study has failed: no trial is complete",)
        again.journal.close()
    assert read_study(first.folder).state.limits == limits


def test_a_limit_that_an_open_study_did_not_have_is_taken() -> None:
    opened().journal.close()
    again = opened(limits=Limits(trials=3, seconds=60.0))
    assert again.study.state.limits == Limits(trials=3, seconds=60.0)
    again.journal.close()


def test_a_cancelled_study_runs_its_cancelled_trials_again() -> None:
    first = opened()
    run(first.study, TrialState.COMPLETE, TrialState.FAILED, TrialState.RUNNING)
    first.study.stop("cancelled", "enough", now=3.0)
    first.journal.close()
    assert not check_before(TERMS)
    again = opened(now=4.0)
    assert again.lines[-1] == "it was cancelled; 1 cancelled trials are run again"
    assert again.study.stopped is None
    states = [t.state for t in again.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAILED, TrialState.WAITING]
    again.journal.close()


def test_paused_trials_of_a_cancelled_study_are_paused_again() -> None:
    first = opened(strategy=make_strategy("random+asha"), settings=Settings(max_steps=9))
    trial = first.study.ask(1.5)
    first.study.tell(trial, 0.5, now=2.0)
    first.study.ask(2.5)
    first.study.stop("cancelled", "enough", now=3.0)
    first.journal.close()
    again = opened(now=4.0)
    told = "it was cancelled; 1 cancelled trials are run again, 1 are paused as they were"
    assert again.lines[-1] == told
    assert [t.state for t in again.study.trials] == [TrialState.PAUSED, TrialState.WAITING]
    again.journal.close()


def test_a_study_cancelled_before_its_first_trial_goes_on() -> None:
    first = opened()
    first.study.stop("cancelled", "enough", now=3.0)
    first.journal.close()
    again = opened(now=4.0)
    assert again.study.stopped is None
    again.journal.close()


def test_a_living_driver_keeps_others_out_but_not_those_who_look() -> None:
    first = opened()
    with pytest.raises(StudyLockedError, match="this process already"):
        opened()
    assert read_study(first.folder).name == "mine"
    assert not check_before(TERMS)
    first.journal.close()


def test_a_journal_without_a_first_line_is_begun_anew() -> None:
    """As a kill between the creation of the file and its first line leaves it."""
    folder = study_folder("mine")
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(b'{"seq":0,"type":"study_cre')
    assert not check_before(TERMS)
    study = opened()
    assert not study.resumed
    study.journal.close()


def test_a_damaged_journal_is_an_error_and_stays_as_it_is() -> None:
    first = opened()
    run(first.study, TrialState.COMPLETE)
    first.journal.close()
    path = first.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"random", b"rondom"))
    damaged = path.read_bytes()
    with pytest.raises(JournalError, match="line 1"):
        opened()
    assert path.read_bytes() == damaged


def test_terms_that_make_no_study_leave_no_folder(home: Path) -> None:
    with pytest.raises(InputError):
        opened(objectives={"loss": "small"})
    assert not (home / "mine").exists()


def test_terms_that_make_no_study_leave_what_others_put_into_its_folder(home: Path) -> None:
    """What was wrong with the terms was not said: the folder could not be removed."""
    (home / "mine").mkdir(parents=True)
    (home / "mine" / "ui.log").touch()
    with pytest.raises(InputError, match="the direction must be 'min' or 'max', got 'small'"):
        opened(objectives={"loss": "small"})
    assert [path.name for path in (home / "mine").iterdir()] == ["ui.log"]


def test_only_what_ended_badly_is_queued_again() -> None:
    first = opened(limits=Limits(trials=5))
    states = [TrialState.COMPLETE, TrialState.FAILED, TrialState.PRUNED, TrialState.TIMED_OUT]
    run(first.study, *states)
    assert requeue_failed(first.study, 3.0, wanted=lambda n: n == 3) == 1
    assert requeue_failed(first.study, 3.0) == 1
    assert [t.state for t in first.study.trials[:4]] == [
        *(TrialState.COMPLETE, TrialState.WAITING, TrialState.PRUNED, TrialState.WAITING)
    ]
    first.journal.close()


def test_a_study_that_only_somebody_else_may_read_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To show it was a traceback, and the list of studies did not have it."""
    mine, theirs = opened(), opened(name="theirs")
    for one in (mine, theirs):
        one.journal.close()

    def guarded(how: Callable[..., Any]) -> Callable[..., Any]:
        def refusing(path: Path, *more: Any, **named: Any) -> Any:
            if theirs.folder in path.parents:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return how(path, *more, **named)

        return refusing

    monkeypatch.setattr(Path, "open", guarded(Path.open))
    monkeypatch.setattr(Path, "stat", guarded(Path.stat))  # `exists` says no to that from Python 3.14 on
    with pytest.raises(
        JournalError, match=r"cannot read the journal .*: Permission denied; check who may read it"
    ):
        find("theirs")
    complaints: list[str] = []
    assert [study.name for study in find_all(complaints.append)] == ["mine"]
    assert complaints[0].startswith("theirs: cannot read the journal")


def test_a_copy_of_a_study_is_no_study_of_its_own(home: Path) -> None:
    """Commands on a copy went on with the original, and deleted its runs in MLflow."""
    first = opened()
    first.journal.close()
    copy = shutil.copytree(first.folder, home / "copy")
    for read in (lambda: read_study(copy), lambda: opened(name="copy"), lambda: find("copy")):
        with pytest.raises(InputError, match=r"copy holds the study 'mine'.*give it that name back"):
            read()
    complaints: list[str] = []
    assert [study.name for study in find_all(complaints.append)] == ["mine"]
    assert len(complaints) == 1
    shutil.rmtree(first.folder)
    copy.rename(first.folder)
    assert read_study(first.folder).name == "mine"
