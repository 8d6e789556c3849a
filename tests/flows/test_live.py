"""What the screen says: figures for people, and the tables they stand in."""

from __future__ import annotations

import io
import math
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows import Result
from flows._live import leaderboard, make_console, make_view, tell_facts
from flows._session import Session
from flows._signals import instead
from flows._words import ended_badly, failures, progress_of, ways_to_see, what_next
from flows._words import test_line as line_of_test
from hpo_core import Float, Segment, Study, TrialState
from hpo_core.confirm import CONFIRMS
from hpo_core.inner import events
from tracking import StudyTracker


def study(*values: float, objectives: dict[str, str] | None = None, **more: Any) -> Study:
    """A study with one complete trial of one step for each value, one second apart."""
    made = Study(
        {"x": Float(0.0, 1.0)},
        objectives=objectives or {"loss": "min"},
        strategy="random",
        now=1.0,
        **{"limits": {"trials": 10}, **more},
    )
    for at, value in enumerate(values):
        trial = made.ask(now=1.0 + at)
        made.tell(trial, value, now=2.0 + at, step=1)
    return made


def test_progress_counts_and_estimates() -> None:
    p = progress_of(study(3.0, 1.0))
    assert (p["done"], p["planned"], p["best"], p["best_trial"]) == (2, 10, {"loss": 1.0}, 1)
    assert p["left"] == pytest.approx(p["spent"] / 2 * 8)
    assert progress_of(study())["left"] is None
    limited = study(3.0, limits={"seconds": 60.0}, settings={"workers": 4})
    assert progress_of(limited)["left"] == 59.0
    limited = study(3.0, limits={"seconds": 60.0, "cost": 101.0}, settings={"workers": 4})
    assert progress_of(limited)["left"] == 25.0, "a hundred worker-seconds, of four workers"


@pytest.mark.parametrize(
    ("strategy", "off"), [("random+asha", 3.0), ("random+multi_fidelity", 1.01), ("random+hyperband", 1.01)]
)
def test_the_time_left_of_trials_that_pause_is_not_that_of_those_which_are_done(
    strategy: str, off: float
) -> None:
    """Hardly any is before the end: with two minutes to go two hours were said to be left."""
    made = Study(
        {"x": Float(0.0, 1.0)}, strategy=strategy, limits={"trials": 60}, settings={"max_steps": 27}, now=1.0
    )
    now, said = 1.0, []
    while isinstance(segment := made.execution.next(now), Segment):
        made.execution.started(segment, now=now)
        for step in range(made.trials[segment.trial].step + 1, (segment.target or 27) + 1):
            now += 1.0
            made.report(segment.trial, step, {"loss": segment.params["x"]}, now=now)
        if segment.target is None:
            made.execution.finish(segment.trial, now=now)
        else:
            made.execution.paused(segment.trial, now=now)
        said.append((now, progress_of(made)["left"]))
    middle, left = min(said, key=lambda at: abs(at[0] - now / 2))
    assert (now - middle) / off < left < (now - middle) * off


def test_the_time_that_is_left_shrinks_while_trials_run() -> None:
    """With two at once, ten seconds each, it was 10 when the first two had ended, and 19 just before the
    others had: what ran was no part of it.
    """
    made = Study(
        {"x": Float(0.0, 1.0)}, strategy="random", limits={"trials": 4}, settings={"workers": 2}, now=1.0
    )
    for trial in [made.ask(now=1.0), made.ask(now=1.0)]:
        made.tell(trial, 1.0, now=11.0)
    assert progress_of(made)["left"] == pytest.approx(10.0)
    running = [made.ask(now=11.0), made.ask(now=11.0)]
    made.note("any", {}, now=14.0)
    assert progress_of(made)["left"] == pytest.approx(7.0)
    made.tell(running[0], 1.0, now=20.0)
    assert progress_of(made)["left"] == pytest.approx(29.0 / 3 - 9.0)
    made.note("any", {}, now=30.0)
    assert progress_of(made)["left"] is None, "it takes longer than the others have"
    made.tell(running[1], 1.0, now=31.0)
    assert progress_of(made)["left"] == 0.0


def test_the_leaderboard_keeps_numbers_whole_and_cuts_the_configuration() -> None:
    made = study(*[1.0 / 3 + n for n in range(3)])
    for trial in made.trials:
        trial.params.update({f"parameter_{n}": 0.123456 for n in range(20)})
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(leaderboard(made))
    lines = console.export_text().splitlines()
    console.file.close()
    assert max(map(len, lines)) <= 60
    assert lines[1].split()[:2] == ["0", "0.333333"]
    assert all(line.rstrip().endswith("…") for line in lines[1:4])


def test_failures_are_told_by_frequency() -> None:
    made = study(1.0)
    for reason in ("rare", "often", "often"):
        made.execution.finish(made.ask().number, state="failed", reason=reason)
    made.execution.finish(made.ask().number, state="timed_out", reason="too long")
    assert made.trials[1].state is TrialState.FAILED
    assert failures(made) == ["often (trials 2, 3)", "rare (trial 1)", "timed out: too long (trial 4)"]


def test_a_reason_that_is_cut_short_says_so() -> None:
    """It ended in the middle of a word, as if that were all."""
    made = study(1.0)
    made.execution.finish(made.ask().number, state="failed", reason="no such table " + "x" * 1000)
    (line,) = failures(made)
    assert line.startswith("no such table xxx")
    assert line.endswith("xxx ... (trial 1)")
    assert len(line) < 200


def test_why_nothing_is_complete_is_said_whatever_ended_the_trials() -> None:
    """A study of which every trial broke a constraint said that no trial is complete, and nothing more."""
    made = study(3.0, 4.0, settings={"outcome_constraints": ["loss <= 2"]})
    wants = "the study wants loss <= 2"
    assert ended_badly(made) == [
        ("infeasible", f"loss is 3, {wants} (trial 0)"),
        ("infeasible", f"loss is 4, {wants} (trial 1)"),
    ]
    made.execution.finish(made.ask().number, state="failed", reason="rare")
    made.execution.finish(made.ask().number, state="pruned", reason="no loss reported up to step 1")
    assert ended_badly(made)[0] == ("failed", "rare (trial 2)")
    assert ended_badly(made)[-1] == ("pruned", "no loss reported up to step 1 (trial 3)")
    made.tell(made.ask(), 1.0)
    assert ended_badly(made) == [("failed", "rare (trial 2)")]


@pytest.mark.parametrize(("terminal", "environment"), [(False, "FORCE_COLOR"), (True, "TERM")])
def test_only_what_can_be_redrawn_is(
    terminal: bool, environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notebooks say FORCE_COLOR, and kept eight pictures of a spinner for each second."""

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setenv(environment, "dumb")
    monkeypatch.setattr(sys, "stdout", stream := Stream())
    with make_view() as view:
        view.tell("a line")
    assert stream.getvalue() == "a line\n"


def test_facts_in_a_pipe_are_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    link = "http://127.0.0.1:5000/" + "x" * 200
    tell_facts(Console(width=40), [("MLflow", "mlflow ui"), ("MLflow", link), ("best", "w " * 60 + "end")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["MLflow  mlflow ui", f"        {link}"]
    assert len(lines) == 3


def test_names_that_steer_a_terminal_or_read_as_markup_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They may come from another user's study: a closing tag raised, an escape sequence was obeyed."""
    made = Study({"p\x1b[2J\u202e": Float(0.0, 1.0)}, objectives={"[/b]": "min"}, strategy="random")
    made.tell(made.ask(), 0.5)
    console = make_console(width=100)
    console.print(leaderboard(made))
    tell_facts(console, [("failed", "said \x1b]0;mine\x07\r")])
    shown = capsys.readouterr().out
    assert "[/b]" in shown
    assert "p\\x1b[2J\\u202e=" in shown
    assert "said \\x1b]0;mine\\x07\\r" in shown
    assert "\x1b" not in shown


def test_the_tuned_metric_comes_first() -> None:
    assert line_of_test({"auc": 0.9, "f1": 0.8}) == "auc 0.9 (f1 0.8) on rows that tuning never saw"
    assert line_of_test({"auc": 0.9}) == "auc 0.9 on rows that tuning never saw"


def test_a_command_to_copy_works_with_a_blank_in_the_path() -> None:
    (_, server), _ = ways_to_see({"run_id": "r", "uri": "sqlite:////home/me/my runs/x.db", "url": None})
    assert shlex.split(server)[-1] == "sqlite:////home/me/my runs/x.db"
    (_, server), _ = ways_to_see({"run_id": "r", "uri": None, "url": None})
    assert server.endswith("--backend-store-uri $MLFLOW_TRACKING_URI")


def test_what_has_ended_the_study_is_suggested_to_be_raised() -> None:
    """More trials would not change that the time is up, nothing that the space is exhausted."""
    made = study(*range(10))
    made.stop(reason="all 10 trials have been started", now=20.0)
    assert what_next(made) == ["hpo show study", "hpo extend study --trials 20"]
    for limit, option in (("seconds", "--timeout"), ("cost", "--max-cost"), ("steps", "--max-total-steps")):
        made = study(0.5, limits={"trials": 10, limit: 1})
        made.stop(reason=f"the limit on {limit}", now=2.0)
        assert what_next(made) == ["hpo show study", f"hpo extend study {option} 2"]
        made = study(0.5, limits={"trials": 1, limit: 1})  # started all, and may have some that are paused
        made.stop(reason=f"the limit on {limit}", now=2.0)
        assert what_next(made) == ["hpo show study", f"hpo extend study {option} 2"]
    made = study(0.5, limits={"trials": 10, "steps": 9})
    made.stop(reason="the limit of 9 steps has no room for another segment", now=2.0)
    assert what_next(made) == ["hpo show study", "hpo extend study --max-total-steps 18"]
    made = study(math.nan, math.nan, limits={"trials": 10, "failures": 2})
    made.stop("failed", "2 trials failed, the limit is 2", now=20.0)
    ways = ["hpo show study", "hpo extend study --max-failures 4", "hpo retry study --failed"]
    assert what_next(made) == ways
    made = study(math.nan, math.nan, limits={"trials": 2})
    made.stop("failed", "no trial is complete: all 2 trials have been started", now=20.0)
    assert what_next(made) == [ways[0], "hpo extend study --trials 4", ways[2]]
    early = study(1.0, 2.0)
    early.stop(reason="every configuration of the space has been tried", now=20.0)
    assert what_next(early) == ["hpo show study"]
    used_up = study(1.0, 2.0, limits={"trials": 2})
    used_up.stop(reason=f"{events.ALL_TRIED}: all 2 trials have been started", now=20.0)
    assert what_next(used_up) == ["hpo show study"], "more trials would find nothing to try"


def test_a_confirmation_that_is_over_leads_to_its_verdict() -> None:
    """After `hpo resume STUDY-confirm` more trials of it were suggested, which are drawn at random, and no
    command that tells the verdict.
    """
    for name, more in (("my own-confirm", ""), ("again", " --name again")):
        made = study(0.5, math.nan, name=name, meta={"request": {"objective": "lgbm", "confirms": "my own"}})
        made.stop(reason="all 2 trials have been started", now=20.0)
        show, retry = f"hpo show {shlex.quote(name)}", f"hpo retry {shlex.quote(name)} --failed"
        assert what_next(made) == [show, f"hpo confirm 'my own' --top 2{more}", retry]
        made.note(CONFIRMS, {"study": "my own", "sentence": "it holds"})
        assert what_next(made) == [show, retry]  # the verdict is there
    made = study(0.5, meta={"request": {"objective": "__main__:loss", "confirms": "other"}})
    made.stop(reason="all trials have been started", now=20.0)
    assert what_next(made) == ["hpo show study"]


@pytest.mark.parametrize("objective", ["__main__:loss", "study:make.<locals>.loss", "study:<lambda>"])
def test_a_study_of_a_notebook_is_gone_on_with_there(objective: str) -> None:
    """The commands that were suggested could not load its objective."""
    made = study(*range(9), math.nan, meta={"request": {"objective": objective}})
    assert what_next(made) == ["tune(..., name='study')"]
    made.stop(reason="all 10 trials have been started", now=20.0)
    assert what_next(made) == ["hpo show study", "tune(..., name='study', trials=20)"]


def test_a_notebook_shows_how_a_study_ended() -> None:
    """With leaders and failures, as plain text: whatever an objective is called, it is no markup."""
    made = study(0.5, 0.25, math.nan, objectives={"<b>loss": "min"})
    made.stop(reason="enough", now=20.0)
    page = Result(study=made, name="study", ended="enough")._repr_html_()
    assert page.startswith("<pre>study study: 2 complete, 1 failed in ")
    assert page.count("<") == 2
    assert [line.split()[:2] for line in page.splitlines() if "x=" in line] == [["1", "0.25"], ["0", "0.5"]]
    assert "failed  the objective gave no finite value for &#x27;&lt;b&gt;loss&#x27;" in page
    assert "\x1b" not in page


def session_of(made: Study, folder: Path) -> Session:
    tracker = StudyTracker(folder, None, "none", offline=True)
    return Session(study=made, folder=folder, resumed=False, tracker=tracker)


def test_a_log_gets_a_line_at_the_start_and_then_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("flows._live.time.monotonic", lambda: now)
    made = study(3.0, 1.0, math.nan, settings={"workers": 2})
    current = session_of(made, tmp_path)
    said = {}
    with make_view() as view:
        for now in (100.0, 104.9, 105.0, 200.0, 205.1, 10_000.0, 10_059.0, 10_060.0):
            view.watch(current)
            said[now] = capsys.readouterr().out
        made.stop(now=9.0)
        now = 20_000.0
        view.watch(current)
    assert said[100.0] == "study study: minimise loss by random, 10 trials, 2 at once\n"
    standing = said[105.0]
    assert standing.startswith("3/10 done  0 running  1 failed  ")
    assert standing.endswith(" left  best loss 1 (trial 1)\n")
    assert [at for at, line in said.items() if line == standing] == [105.0, 200.0, 10_000.0, 10_060.0]
    assert capsys.readouterr().out == ""
    with make_view(quiet=True) as view:
        view.watch(session_of(study(1.0), tmp_path))
        view.tell("a warning")
    assert capsys.readouterr() == ("", "a warning\n"), "standard output is somebody else's"


def test_several_objectives_have_a_front_and_no_best_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Study({"x": Float(0.0, 1.0)}, objectives={"loss": "min", "size": "min"}, strategy="random")
    for values in ((1.0, 2.0), (2.0, 1.0), (3.0, 3.0)):
        made.tell(made.ask(), dict(zip(("loss", "size"), values, strict=True)))
    monkeypatch.setattr("flows._live._PLAIN_SECONDS", 0.0)
    with make_view() as view:
        view.watch(session_of(made, tmp_path))
    assert capsys.readouterr().out.splitlines()[-1] == "3 done  0 running  2 on the Pareto front"


def test_a_reader_who_leaves_ends_the_study_as_a_closed_terminal_does() -> None:
    """``| head -1`` left runs RUNNING: the exit that the console asks for went past the study."""
    told: list[int] = []
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as file, instead(signal.SIGTERM, lambda number, _: told.append(number)):
        view = make_view()
        view._console.file = file  # type: ignore[attr-defined]
        view.tell("the study begins")
        view.tell("and goes on")
        file.write("what was buffered goes nowhere")
    assert told == [signal.SIGTERM]
