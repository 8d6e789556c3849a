"""The driver: what runners deliver ends up in the journal, and interruptions leave a study to resume."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flows import _drive_session
from flows._carry import carry_out
from flows._driver import Driver
from flows._plan import plan_callable
from flows._request import Request
from flows._room import Room
from flows._stretch import Stretch
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import Curve, OnMessage, Report, RunIdWanted, Saved
from hpo_core import HpoError, Journal, SearchSpace, Segment, Strategy, Study, TrialState
from hpo_core._events import CurveLogged
from hpo_core._journal import read_journal
from tests.flows.fake_runner import SPACE, FakeRunner, at_once, drive, make_study, replayed
from tracking import NoRunYet, delete_checkpoint


def test_a_study_runs_to_its_planned_total_and_is_stopped(tmp_path: Path) -> None:
    study, runner = make_study(tmp_path), FakeRunner(at_once)
    ended = drive(study, runner, tmp_path)
    assert "10 trials" in ended
    assert study.history.count(TrialState.COMPLETE) == 10
    assert study.stopped is not None
    assert study.stopped.state == "finished"
    assert runner.most_at_once == 2
    assert replayed(tmp_path).best.values == study.best.values


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (m.RAISED, TrialState.FAILED),
        (m.PRUNED, TrialState.PRUNED),
        (m.INFEASIBLE, TrialState.INFEASIBLE),
        (m.TIMED_OUT, TrialState.TIMED_OUT),
        (m.OUT_OF_MEMORY, TrialState.OUT_OF_MEMORY),
    ],
)
def test_each_outcome_has_its_state_and_keeps_its_reason(
    kind: str, state: TrialState, tmp_path: Path
) -> None:
    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        return Outcome(kind=kind, reason="why", traceback="Traceback: here")

    study = make_study(tmp_path, limits={"trials": 3})
    drive(study, FakeRunner(script), tmp_path)
    assert study.history.count(state) == 3
    assert {t.reason for t in study.trials} == {"why"}
    assert (tmp_path / "artifacts" / "1" / "traceback.txt").read_text() == "Traceback: here"


def test_a_lost_attempt_is_repeated_and_the_total_stays_exact(tmp_path: Path) -> None:
    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        if job.trial % 3 == 0 and job.attempt == 1:
            return Outcome(kind=m.LOST, reason="gone")
        return await at_once(job, on_message, runner)

    study, runner = make_study(tmp_path), FakeRunner(script)
    drive(study, runner, tmp_path)
    assert study.history.count(TrialState.COMPLETE) == len(study.trials) == 10
    assert len(runner.jobs) == 14
    repeated = [j for j in runner.jobs if j.attempt == 2]
    assert [j.params for j in repeated] == [study.trials[j.trial].params for j in repeated]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("verb", ["report", "finish"])
def test_a_trial_that_cannot_be_told_ends_the_session(
    verb: str, deterministic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk under the journal: the driver waited for ever for the last trial, which was Running."""

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        await on_message(Report(1, {"loss": 1.0}))
        return Outcome(kind=m.RETURNED, values=1.0)

    study = make_study(tmp_path, limits={"trials": 2}, settings={"deterministic": deterministic})
    where = study if verb == "report" else study.execution
    told = getattr(where, verb)

    def full(trial: int, *terms: Any, **more: Any) -> Any:
        if trial == 0:
            raise HpoError("no space left")
        return told(trial, *terms, **more)

    monkeypatch.setattr(where, verb, full)
    driver = Driver(study, FakeRunner(script), folder=tmp_path)
    with pytest.raises(HpoError, match="no space left"):
        asyncio.run(asyncio.wait_for(driver.drive(), 10))


def test_a_verdict_stops_the_trial_and_it_counts_as_pruned(tmp_path: Path) -> None:
    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        slot = next(s for s, _ in runner.signals.items())
        for step in range(1, 100):
            await on_message(Report(step, {"loss": float("nan") if job.trial else 0.0}))
            if runner.signals[slot].is_set():
                return Outcome(kind=m.STOPPED)
        return Outcome(kind=m.RETURNED, values=0.0)

    class StopSecond:
        """Stops every trial but the first at step 2."""

        def check(self, n_objectives: int, max_steps: int | None) -> None: ...

        def next(self, history: Any, rng: Any) -> Any:
            from hpo_core._strategy import Start

            return Start()

        def judge(self, history: Any, trial: int) -> Any:
            from hpo_core._strategy import Stop

            return Stop("not good enough") if trial and history.steps[trial] >= 2 else None

        def why(self, history: Any, trial: int) -> str:
            return ""

        def explain(self, trials: int | None, max_steps: int | None) -> Any: ...

    from hpo_core._strategies import compose
    from hpo_core.samplers import Random

    study = make_study(tmp_path, strategy=compose(Random(), StopSecond()), limits={"trials": 3})
    drive(study, FakeRunner(script, slots=1), tmp_path)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED]
    assert study.trials[1].reason == "not good enough"
    assert study.trials[1].step == 2


def test_messages_are_journaled(tmp_path: Path) -> None:
    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        await on_message(Report(1, {"loss": 3.0, "other": 4.0}))
        await on_message(Curve("auc", [1, 2], [0.5, 0.6]))
        await on_message(Saved(1, "somewhere", 10))
        return Outcome(kind=m.RETURNED, values=1.0)

    study = make_study(tmp_path, limits={"trials": 1})
    drive(study, FakeRunner(script), tmp_path)
    again = replayed(tmp_path)
    assert again.history.reports.metric("other").tolist() == [4.0]
    assert again.trials[0].checkpoints == {1: ("somewhere", 10)}
    curves = [e for _, e, _ in read_journal(tmp_path / "journal.jsonl") if isinstance(e, CurveLogged)]
    assert [(e.name, e.steps, e.points) for e in curves] == [("auc", [1, 2], [0.5, 0.6])]


def test_the_next_trial_starts_while_the_orchestrator_ends_the_last_one(tmp_path: Path) -> None:
    """Prefect takes tens of milliseconds to end a task run; a slot must not stand idle meanwhile."""

    async def go() -> Study:
        study = make_study(tmp_path)
        runner = FakeRunner(at_once, slots=1)
        started: list[asyncio.Event] = [asyncio.Event() for _ in range(11)]

        async def orchestrate(stretch: Stretch) -> None:
            number = int(stretch.title[-4:])
            started[number].set()
            await stretch.body()
            if number < 9:
                await asyncio.wait_for(started[number + 1].wait(), 5.0)

        driver = Driver(study, runner, folder=tmp_path, orchestrate=orchestrate, granularity=0.0)
        await driver.drive()
        return study

    assert asyncio.run(go()).history.count(TrialState.COMPLETE) == 10


def test_a_resumed_segment_follows_the_one_whose_checkpoint_it_starts_from(tmp_path: Path) -> None:
    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        for step in range(job.from_step + 1, (job.target or 4) + 1):
            await on_message(Report(step, {"loss": job.params["x"] / step}))
        if job.target is not None and job.target < 4:
            await on_message(Saved(job.target, f"checkpoints/{job.trial}-{job.target}", 1))
            return Outcome(kind=m.PAUSED)
        return Outcome(kind=m.RETURNED, values=job.params["x"])

    edges: dict[str, tuple[str, ...]] = {}

    async def orchestrate(stretch: Stretch) -> str:
        edges[stretch.title] = stretch.after
        await stretch.body()
        await asyncio.sleep(0)
        return stretch.title

    strategy = {"scheduler": {"name": "asha", "eta": 2, "min_steps": 1, "max_steps": 4}, "sampler": "random"}
    study = make_study(tmp_path, strategy=strategy)
    drive(study, FakeRunner(script), tmp_path, orchestrate=orchestrate, granularity=0.0)
    resumed = {title: after for title, after in edges.items() if "rung" in title}
    assert resumed
    for title, after in resumed.items():
        trial, rung = title.split(" rung ")
        assert after == (trial if rung == "1" else f"{trial} rung {int(rung) - 1}",)


def test_draining_lets_running_trials_finish_and_leaves_the_study_open(tmp_path: Path) -> None:
    async def go() -> tuple[str, Study]:
        study = make_study(tmp_path)
        driver: Driver | None = None

        async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
            if job.trial == 3:
                assert driver is not None
                driver.drain("interrupted")
            return await at_once(job, on_message, runner)

        driver = Driver(study, FakeRunner(script), folder=tmp_path)
        return await driver.drive(), study

    ended, study = asyncio.run(go())
    assert ended == "interrupted"
    assert study.stopped is None
    assert not study.history.count(TrialState.RUNNING)
    rest = FakeRunner(at_once)
    drive(study, rest, tmp_path)
    assert study.history.count(TrialState.COMPLETE) == 10


def test_an_interruption_repeats_what_ran_when_the_study_goes_on(tmp_path: Path) -> None:
    async def go() -> Study:
        study = make_study(tmp_path)
        driver: Driver | None = None

        async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
            if job.trial == 3:
                assert driver is not None
                driver.interrupt("terminated")
                return Outcome(kind=m.LOST, reason="terminated")
            return await at_once(job, on_message, runner)

        driver = Driver(study, FakeRunner(script), folder=tmp_path)
        await driver.drive()
        return study

    study = asyncio.run(go())
    assert study.trials[3].state is TrialState.WAITING
    assert study.trials[3].losses == 0
    due = study.execution.next()
    assert isinstance(due, Segment)
    assert (due.trial, due.attempt) == (3, 2)


def paused_with_checkpoints(tmp_path: Path) -> tuple[Study, list[Path]]:
    """Three trials that wait at the first rung, the first the best, and the folders of their checkpoints."""
    strategy = {"scheduler": {"name": "asha", "eta": 4, "min_steps": 1, "max_steps": 4}, "sampler": "random"}
    study = make_study(tmp_path, strategy=strategy)
    places = []
    for number in range(3):
        segment = study.execution.next()
        assert isinstance(segment, Segment)
        study.execution.started(segment)
        study.report(number, 1, {"loss": float(number)})
        places.append(tmp_path / "checkpoints" / f"trial-{number}" / "step-1")
        places[-1].mkdir(parents=True)
        study.execution.checkpointed(number, 1, str(places[-1]), 10)
        study.execution.paused(number)
    return study, places


def test_the_quota_gives_up_checkpoints_of_paused_trials_and_says_so_once(tmp_path: Path) -> None:
    study, places = paused_with_checkpoints(tmp_path)
    said: list[str] = []
    room = Room(study, tmp_path, said.append, quota=20)
    asyncio.run(room.tidy(lambda: 1.0))
    assert [place.exists() for place in places] == [True, True, False]
    assert [bool(trial.checkpoints) for trial in replayed(tmp_path).trials] == [True, True, False]
    again = Room(study, tmp_path, said.append, quota=10)
    asyncio.run(again.tidy(lambda: 1.0))
    asyncio.run(again.tidy(lambda: 1.0))
    assert [place.exists() for place in places] == [True, False, False]
    assert len(said) == 2
    assert "have reached their quota" in said[0]


def test_a_checkpoint_that_cannot_be_deleted_does_not_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, places = paused_with_checkpoints(tmp_path)
    said: list[str] = []

    def busy(folder: Path, uri: str) -> None:
        raise OSError(errno.EBUSY, "in use", uri)

    monkeypatch.setattr("flows._room.delete_checkpoint", busy)
    asyncio.run(Room(study, tmp_path, said.append, quota=1).tidy(lambda: 1.0))
    assert [place.exists() for place in places] == [True, True, True]
    assert [line for line in said if "stay on the disk" in line] == [
        f"checkpoints that nobody needs stay on the disk: [Errno {errno.EBUSY}] in use: {str(places[2])!r}"
    ]


def test_a_trial_that_goes_on_while_checkpoints_are_deleted_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on the list, and its objective found the folder gone that it had been given to go on from."""
    study, places = paused_with_checkpoints(tmp_path)

    def promoting(folder: Path, uri: str) -> None:
        delete_checkpoint(folder, uri)
        study.execution.finish(study.ask().number, {"loss": 9.0})
        due = study.execution.next()
        assert isinstance(due, Segment)
        assert due.checkpoint is not None
        assert (due.trial, due.checkpoint.uri) == (0, str(places[0]))
        study.execution.started(due)
        monkeypatch.setattr("flows._room.delete_checkpoint", delete_checkpoint)

    monkeypatch.setattr("flows._room.delete_checkpoint", promoting)
    asyncio.run(Room(study, tmp_path, lambda line: None, quota=1).tidy(lambda: 1.0))
    assert [place.exists() for place in places] == [True, False, False]
    assert list(study.trials[0].checkpoints) == [1]


def test_a_cancel_request_ends_the_study_and_what_runs(tmp_path: Path) -> None:
    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        (tmp_path / "cancel").touch()
        slot = max(runner.signals)
        await runner.signals[slot].wait()
        return Outcome(kind=m.STOPPED)

    study = make_study(tmp_path)
    ended = drive(study, FakeRunner(script, slots=1), tmp_path)
    assert ended == "cancelled on request"
    assert study.stopped is not None
    assert study.stopped.state == "cancelled"
    assert study.trials[0].state is TrialState.CANCELLED
    assert not (tmp_path / "cancel").exists()


def test_a_cancel_request_is_heeded_while_the_workers_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Starting(FakeRunner):
        async def start(self) -> None:
            (tmp_path / "studies" / "mine" / "cancel").touch()
            await asyncio.Event().wait()

    runner = Starting(at_once)
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    monkeypatch.setattr(_drive_session, "make_runner", lambda *terms: runner)
    request = Request(name="mine", trials=4, offline=True, isolation="thread")
    plan = plan_callable(lambda trial: 0.0, request=request, space=SearchSpace(SPACE), objectives=None)
    work = carry_out(plan, tell=lambda line: None, watch=lambda session: None)
    summary = asyncio.run(asyncio.wait_for(work, 60))
    assert summary["study"].stopped.state == "cancelled"
    assert runner.jobs == []


@pytest.mark.parametrize("broken", [False, True])
def test_the_strategy_warms_up_while_workers_start(
    broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong there goes wrong again in the proposal that needs it, if one does."""
    warmed = threading.Event()

    def warm_up(strategy: Strategy) -> None:
        warmed.set()
        if broken:
            raise ImportError("no such library")

    class Starting(FakeRunner):
        async def start(self) -> None:
            assert await asyncio.to_thread(warmed.wait, 30)

    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    monkeypatch.setattr(_drive_session, "make_runner", lambda *terms: Starting(at_once))
    monkeypatch.setattr(Strategy, "warm_up", warm_up)
    request = Request(name="mine", trials=4, offline=True, isolation="thread")
    plan = plan_callable(lambda trial: 0.0, request=request, space=SearchSpace(SPACE), objectives=None)
    summary = asyncio.run(carry_out(plan, tell=lambda line: None, watch=lambda session: None))
    assert summary["study"].stopped.state == "finished"


@pytest.mark.parametrize(("limit", "says"), [("seconds", "time limit"), ("cost", "0.3 worker-seconds")])
def test_the_limit_on_time_or_cost_ends_running_trials(limit: str, says: str, tmp_path: Path) -> None:
    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        await runner.signals[0].wait()
        return Outcome(kind=m.STOPPED)

    study = make_study(tmp_path, limits={limit: 0.3})
    ended = drive(study, FakeRunner(script, slots=1), tmp_path)
    assert says in ended
    assert study.trials[0].state is TrialState.CANCELLED


def test_short_segments_share_a_task_and_long_ones_get_their_own(tmp_path: Path) -> None:
    titles: list[str] = []

    async def orchestrate(stretch: Stretch) -> None:
        titles.append(stretch.title)
        await stretch.body()

    study = make_study(tmp_path, limits={"trials": 50})
    drive(study, FakeRunner(at_once), tmp_path, orchestrate=orchestrate, granularity=30.0)
    assert len(titles) == 2
    alone = tmp_path / "alone"
    study = make_study(alone, limits={"trials": 5})
    titles.clear()
    drive(study, FakeRunner(at_once), alone, orchestrate=orchestrate, granularity=0.0)
    assert titles == [f"trial-{n:04d}" for n in range(5)]


def test_a_later_segment_follows_the_task_that_ran_the_earlier_one(tmp_path: Path) -> None:
    """The flow run's graph is the study's DAG: an edge from each segment to the next of its trial."""
    follows: list[tuple[str, tuple[Any, ...]]] = []

    async def orchestrate(stretch: Stretch) -> str:
        follows.append((stretch.title, stretch.after))
        await stretch.body()
        return stretch.title

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        if job.attempt == 1:
            return Outcome(kind=m.LOST, reason="gone")
        return await at_once(job, on_message, runner)

    study = make_study(tmp_path, limits={"trials": 1})
    drive(study, FakeRunner(script), tmp_path, orchestrate=orchestrate, granularity=0.0)
    assert follows == [("trial-0000", ()), ("trial-0000 attempt 2", ("trial-0000",))]


def test_a_full_disk_ends_the_session_and_leaves_a_journal_that_opens(tmp_path: Path) -> None:
    class FullAfter(Journal):
        room = 12

        def append(self, event: Any) -> int:
            if self._seq >= self.room:
                raise self._refused(OSError(28, "No space left on device"))
            return super().append(event)

    from hpo_core import JournalError

    journal = FullAfter(tmp_path / "journal.jsonl")
    study = Study(SPACE, strategy="random", limits={"trials": 10}, journal=journal, now=time.time())
    with pytest.raises(JournalError, match="free some space"):
        drive(study, FakeRunner(at_once), tmp_path)
    journal.close()
    with Journal(tmp_path / "journal.jsonl") as left:
        assert len(left.events) == 12


def test_a_study_with_nothing_left_to_gain_ends_and_keeps_the_reason(tmp_path: Path) -> None:
    limits = {"trials": 60, "improvement": 1.0}
    study = make_study(tmp_path, limits=limits)
    ended = drive(study, FakeRunner(at_once), tmp_path)
    assert "all further trials are expected to gain" in ended
    assert study.history.count(TrialState.COMPLETE) == study.history.n_trials < 40
    stopped = replayed(tmp_path).stopped
    assert stopped is not None
    assert (stopped.state, stopped.reason) == ("finished", ended)


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_a_clock_that_jumps_changes_nothing(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No limit in seconds is spent by it, and no trial ends before it began."""
    real = time.time

    async def script(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        if job.trial == 3:
            monkeypatch.setattr(time, "time", lambda: real() + jump)
        return await at_once(job, on_message, runner)

    study = make_study(tmp_path, limits={"trials": 10, "seconds": 3600.0})
    drive(study, FakeRunner(script), tmp_path)
    assert study.history.count(TrialState.COMPLETE) == 10
    assert study.state.seconds_spent < 3600
    ends = [t.finished_at for t in study.trials]
    assert ends == sorted(ends)


def test_trials_that_get_no_run_are_told_of_once(tmp_path: Path) -> None:
    """What their own code logged was in another database, and only a file among their artifacts said so."""

    class NoRuns:
        offline = False
        fenced = None

        def run_id(self, trial: int, timeout: float) -> str:
            raise NoRunYet(f"trial {trial} has no run yet: MLflow did not answer in time")

        def notify(self) -> None: ...

    async def logs(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await on_message(RunIdWanted(answer.set_result))
        assert await answer == ""
        return Outcome(kind=m.RETURNED, values=1.0)

    lines: list[str] = []
    study = make_study(tmp_path, limits={"trials": 3})
    driver = Driver(study, FakeRunner(logs, slots=1), folder=tmp_path, tracker=NoRuns(), tell=lines.append)
    asyncio.run(driver.drive())
    (line,) = lines
    assert line.startswith("trial 0 has no run yet: MLflow did not answer in time; ")
    assert line.endswith("what the trial itself logs to MLflow goes elsewhere, its output says where")


def test_waiting_for_a_run_holds_up_nothing_else(tmp_path: Path) -> None:
    """MLflow may take minutes; with more trials than the event loop has threads, none could be killed."""
    free, asked = threading.Event(), [threading.Event() for _ in range(3)]

    class Slow:
        offline = False
        fenced = None

        def run_id(self, trial: int, timeout: float) -> str:
            asked[trial].set()
            return f"run {trial}" if free.wait(5.0) else "late"

        def notify(self) -> None: ...

    answers: list[str] = []

    async def logs(job: Job, on_message: OnMessage, runner: FakeRunner) -> Outcome:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await on_message(RunIdWanted(answer.set_result))
        if job.trial == 2:
            while sum(event.is_set() for event in asked) < 2:
                await asyncio.sleep(0)
            await asyncio.to_thread(free.set)
        answers.append(await answer)
        return Outcome(kind=m.RETURNED, values=1.0)

    async def go() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        study = make_study(tmp_path, limits={"trials": 3})
        await Driver(study, FakeRunner(logs, slots=3), folder=tmp_path, tracker=Slow()).drive()

    asyncio.run(go())
    assert sorted(answers) == ["run 0", "run 1", "run 2"]
