"""The runner contract: one suite, run against every runner."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows._make_runner import RunnerTerms, make_runner
from flows._repeats import Repeated
from flows._session import Session
from flows.runners import _messages as m
from flows.runners._child_process import Crew
from flows.runners._dask import DaskRunner
from flows.runners._local import LocalRunner
from flows.runners._messages import Job, Outcome
from flows.runners._port import Message, Report, RunIdWanted, Runner, Saved, TrialLimits, Work
from flows.runners._threads import ThreadRunner
from hpo_core import Float, InputError, Limits, ObjectiveError, Study
from tests.flows import objectives_for_tests as objectives
from tracking import StudyTracker

PROCESSES = ["local", "dask"] if importlib.util.find_spec("distributed") else ["local"]
ALL = ["thread", *PROCESSES]
PATIENCE = 60.0


@contextlib.asynccontextmanager
async def running(
    kind: str, objective: Callable[[Any], Any], folder: Path, limits: TrialLimits | None = None
) -> AsyncIterator[Runner]:
    """A started runner with one slot."""
    work = Work(objective=m.pack(objective), folder=folder, limits=limits or TrialLimits())
    runner: Runner
    if kind == "thread":
        runner = ThreadRunner(work, slots=1, objective=objective)
    elif kind == "dask":
        runner = DaskRunner(work, slots=1)
    else:
        runner = LocalRunner(work, slots=1)
    try:
        await runner.start()
        yield runner
    finally:
        await runner.close()


def job(folder: Path, **changes: Any) -> Job:
    fields: dict[str, Any] = {
        "trial": 0,
        "attempt": 1,
        "params": {"x": 0.5},
        "seed": 7,
        "target": None,
        "from_step": 0,
        "known_step": 0,
        "checkpoint": "",
        "folder": str(folder),
    }
    return Job(**{**fields, **changes})


class Heard:
    """Collects a segment's messages, and lets a test wait for one."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.first = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self.first.set()


def run_one(
    kind: str,
    objective: Callable[[Any], Any],
    folder: Path,
    limits: TrialLimits | None = None,
    **changes: Any,
) -> tuple[Outcome, list[Message]]:
    async def go() -> tuple[Outcome, list[Message]]:
        heard = Heard()
        async with running(kind, objective, folder, limits) as runner:
            outcome = await asyncio.wait_for(runner.run(0, job(folder, **changes), heard), PATIENCE)
        return outcome, heard.messages

    return asyncio.run(go())


@pytest.mark.parametrize("kind", ALL)
def test_a_returned_number_comes_back(kind: str, tmp_path: Path) -> None:
    outcome, _ = run_one(kind, objectives.square, tmp_path)
    assert (outcome.kind, outcome.values) == (m.RETURNED, 0.25)


@pytest.mark.parametrize("kind", ["thread", "local"])
@pytest.mark.parametrize(
    ("objective", "kind_of_end", "words"),
    [
        (objectives.raises, m.RAISED, "ValueError: this is the reason"),
        (objectives.exits, m.RAISED, "SystemExit: 3"),
        (objectives.infeasible, m.INFEASIBLE, "too wide"),
        (objectives.prunes, m.PRUNED, "hopeless"),
        (objectives.words, m.RAISED, "an objective returns a number"),
    ],
)
def test_every_end_has_its_kind_and_a_reason_of_one_line(
    kind: str, objective: Any, kind_of_end: str, words: str, tmp_path: Path
) -> None:
    outcome, _ = run_one(kind, objective, tmp_path)
    assert outcome.kind == kind_of_end
    assert words in outcome.reason
    assert "\n" not in outcome.reason


@pytest.mark.parametrize("kind", ALL)
def test_reports_and_checkpoints_arrive_in_order(kind: str, tmp_path: Path) -> None:
    outcome, messages = run_one(kind, objectives.stepper, tmp_path)
    assert outcome.values == pytest.approx(4.5)
    assert [x.step for x in messages if isinstance(x, Report)] == list(range(1, 10))
    assert [x.step for x in messages if isinstance(x, Saved)] == list(range(1, 10))


@pytest.mark.parametrize("kind", ALL)
def test_a_segment_ends_at_its_target_and_goes_on_from_its_checkpoint(kind: str, tmp_path: Path) -> None:
    async def go() -> tuple[Outcome, Outcome, list[Message]]:
        heard = Heard()
        async with running(kind, objectives.stepper, tmp_path) as runner:
            first = await runner.run(0, job(tmp_path, target=3), heard)
            saved = [x for x in heard.messages if isinstance(x, Saved)][-1]
            second = await runner.run(
                0,
                job(tmp_path, attempt=2, from_step=saved.step, known_step=3, checkpoint=saved.uri),
                heard,
            )
        return first, second, heard.messages

    first, second, messages = asyncio.run(go())
    assert first.kind == m.PAUSED
    assert second.values == pytest.approx(4.5)
    assert second.note == ""
    assert [x.step for x in messages if isinstance(x, Report)] == list(range(1, 10))


@pytest.mark.parametrize("kind", ALL)
def test_a_resumed_trial_that_has_no_checkpoint_reports_no_step_twice_and_is_told(
    kind: str, tmp_path: Path
) -> None:
    outcome, messages = run_one(kind, objectives.stepper, tmp_path, known_step=4, attempt=2)
    assert [x.step for x in messages if isinstance(x, Report)] == [5, 6, 7, 8, 9]
    assert "never saved a checkpoint" in outcome.note


@pytest.mark.parametrize("kind", ALL)
def test_stop_ends_a_running_trial_at_its_next_step(kind: str, tmp_path: Path) -> None:
    async def go() -> Outcome:
        heard = Heard()
        async with running(kind, objectives.waits_for_stop, tmp_path) as runner:
            segment = asyncio.create_task(runner.run(0, job(tmp_path), heard))
            await asyncio.wait_for(heard.first.wait(), PATIENCE)
            runner.stop(0)
            return await asyncio.wait_for(segment, PATIENCE)

    assert asyncio.run(go()).kind == m.STOPPED


@pytest.mark.parametrize("kind", ALL)
def test_what_a_define_by_run_objective_asked_for_comes_back(kind: str, tmp_path: Path) -> None:
    outcome, _ = run_one(kind, objectives.discovers, tmp_path, params={"kind": "deep"})
    assert set(outcome.found) == {"x", "kind", "depth"}
    assert outcome.params["kind"] == "deep"
    assert 1 <= outcome.params["depth"] <= 4


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_killed_worker_is_a_lost_attempt_and_the_slot_works_again(kind: str, tmp_path: Path) -> None:
    async def go() -> list[Outcome]:
        async with running(kind, objectives.dies, tmp_path) as runner:
            return [await asyncio.wait_for(runner.run(0, job(tmp_path), Heard()), PATIENCE) for _ in range(2)]

    for outcome in asyncio.run(go()):
        assert outcome.kind == m.LOST
        assert "SIGKILL" in outcome.reason


def test_a_crash_of_the_interpreter_is_the_objectives_failure(tmp_path: Path) -> None:
    outcome, _ = run_one("local", objectives.crashes, tmp_path)
    assert outcome.kind == m.RAISED
    assert "SIGABRT" in outcome.reason


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_trial_that_hangs_is_killed_at_its_limit_with_all_it_started(kind: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    outcome, _ = run_one(
        kind, objectives.hangs, tmp_path, TrialLimits(seconds=1.5), params={"file": str(pids)}
    )
    assert outcome.kind == m.TIMED_OUT
    for pid in pids.read_text().split():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(int(pid)).wait(PATIENCE)
        assert not psutil.pid_exists(int(pid))


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_trial_that_swells_is_killed_at_its_limit(kind: str, tmp_path: Path) -> None:
    outcome, _ = run_one(kind, objectives.swells, tmp_path, TrialLimits(memory=300 * 2**20))
    assert outcome.kind == m.OUT_OF_MEMORY
    assert "300 MiB" in outcome.reason


@pytest.mark.parametrize("kind", ["thread", *PROCESSES])
def test_kill_ends_a_trial_that_heeds_nothing(kind: str, tmp_path: Path) -> None:
    async def go() -> Outcome:
        heard = Heard()
        async with running(kind, objectives.hangs, tmp_path) as runner:
            work = job(tmp_path, params={"file": str(tmp_path / "pids")})
            segment = asyncio.create_task(runner.run(0, work, heard))
            await asyncio.wait_for(heard.first.wait(), PATIENCE)
            await runner.kill(0, "cancelled")
            outcome = await asyncio.wait_for(segment, PATIENCE)
        for pid in (tmp_path / "pids").read_text().split()[kind == "thread" :]:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(int(pid)).kill()
        return outcome

    outcome = asyncio.run(go())
    assert (outcome.kind, outcome.reason) == (m.LOST, "cancelled")


def test_kill_ends_a_trial_whose_process_is_just_being_replaced(tmp_path: Path) -> None:
    """There was none to kill, and the trial ran in the next one."""
    begun = tmp_path / "begun"

    def objective(trial: Any) -> float:
        if trial.number:
            begun.touch()
            threading.Event().wait()
        return float(os.getpid())

    async def go() -> Outcome:
        async with running("local", objective, tmp_path) as runner:
            first = await asyncio.wait_for(runner.run(0, job(tmp_path), Heard()), PATIENCE)
            assert isinstance(first.values, float)
            process = psutil.Process(int(first.values))
            process.kill()
            process.wait()
            segment = asyncio.create_task(runner.run(0, job(tmp_path, trial=1), Heard()))
            await asyncio.sleep(0)
            await runner.kill(0, "cancelled")
            return await asyncio.wait_for(segment, PATIENCE)

    outcome = asyncio.run(go())
    assert (outcome.kind, outcome.reason) == (m.LOST, "cancelled")
    assert not begun.exists()


def test_a_trial_whose_process_is_just_being_replaced_can_be_suspended(tmp_path: Path) -> None:
    """Who pressed Ctrl-C once waited for all of the trial, which had not even begun."""

    async def go() -> Outcome:
        async with running("local", objectives.saves_until_told, tmp_path) as runner:
            segment = asyncio.create_task(runner.run(0, job(tmp_path), Heard()))
            await asyncio.sleep(0)
            await runner.kill(0, "to be replaced")
            await asyncio.wait_for(segment, PATIENCE)
            segment = asyncio.create_task(runner.run(0, job(tmp_path, trial=1), Heard()))
            await asyncio.sleep(0)
            runner.suspend(0)
            return await asyncio.wait_for(segment, PATIENCE)

    assert asyncio.run(go()).kind == m.SUSPENDED


@pytest.mark.parametrize("kind", PROCESSES)
def test_what_a_trial_prints_is_kept_with_the_trial(kind: str, tmp_path: Path) -> None:
    run_one(kind, objectives.prints, tmp_path)
    kept = (tmp_path / "artifacts" / "0" / "output.txt").read_text()
    assert "hello from the objective" in kept
    assert "and to stderr" in kept


def test_what_a_trial_prints_is_kept_whatever_the_terminal_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started from a terminal in Latin-1 all trials failed that printed another sign, into a file of ours."""
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    outcome, _ = run_one("local", objectives.prints_signs, tmp_path)
    assert outcome.kind == m.RETURNED, outcome.reason
    assert (tmp_path / "artifacts" / "0" / "output.txt").read_text(encoding="utf-8") == "grün 日本 \\ud800\n"


def test_threads_are_told_to_stop_when_their_runner_closes(tmp_path: Path) -> None:
    async def go() -> Outcome:
        heard = Heard()
        async with running("thread", objectives.waits_for_stop, tmp_path) as runner:
            segment = asyncio.create_task(runner.run(0, job(tmp_path), heard))
            await asyncio.wait_for(heard.first.wait(), PATIENCE)
        return await asyncio.wait_for(segment, PATIENCE)

    assert asyncio.run(go()).kind == m.STOPPED


def test_a_thread_that_is_killed_twice_is_lost_for_the_first_reason(tmp_path: Path) -> None:
    async def go() -> Outcome:
        heard = Heard()
        async with running("thread", objectives.waits_for_stop, tmp_path) as runner:
            segment = asyncio.create_task(runner.run(0, job(tmp_path), heard))
            await asyncio.wait_for(heard.first.wait(), PATIENCE)
            for reason in ("cancelled", "its limit"):
                await runner.kill(0, reason)
            return await asyncio.wait_for(segment, PATIENCE)

    assert asyncio.run(go()).reason == "cancelled"


def test_a_trial_keeps_what_it_printed_itself_in_all_attempts(tmp_path: Path) -> None:
    def prints(trial: Any) -> None:
        print(f"trial {trial.number}, attempt {trial.attempt}")

    async def go() -> None:
        async with running("local", prints, tmp_path) as runner:
            for trial, attempt in ((0, 1), (1, 1), (0, 2)):
                work = job(tmp_path, trial=trial, attempt=attempt)
                await asyncio.wait_for(runner.run(0, work, Heard()), PATIENCE)

    asyncio.run(go())
    kept = [(tmp_path / "artifacts" / str(trial) / "output.txt").read_text() for trial in (0, 1)]
    assert kept == ["trial 0, attempt 1\ntrial 0, attempt 2\n", "trial 1, attempt 1\n"]


def test_threads_refuse_limits_that_they_cannot_keep(tmp_path: Path) -> None:
    work = Work(objective="", folder=tmp_path, limits=TrialLimits(seconds=1.0))
    with pytest.raises(InputError, match="isolation='process'"):
        ThreadRunner(work, slots=1, objective=objectives.square)


def test_an_objective_that_no_worker_can_load_is_refused_before_the_study_starts(tmp_path: Path) -> None:
    async def go() -> None:
        import cloudpickle

        class Gone:
            def __reduce__(self) -> Any:
                return (__import__, ("no_such_module_here",))

        import base64

        packed = base64.b64encode(cloudpickle.dumps(Gone())).decode()
        runner = LocalRunner(Work(objective=packed, folder=tmp_path), slots=1)
        try:
            await runner.start()
        finally:
            await runner.close()

    with pytest.raises(ObjectiveError, match="no_such_module_here"):
        asyncio.run(go())


def test_a_run_id_is_asked_for_and_answered(tmp_path: Path) -> None:
    """The channel's question comes back as a message whose answer reaches the worker."""

    def asks(trial: Any) -> float:
        return float(len(trial._channel.ask_run_id()))

    async def go(kind: str) -> Outcome:
        async def answer(message: Message) -> None:
            if isinstance(message, RunIdWanted):
                message.answer("abc")

        async with running(kind, asks, tmp_path) as runner:
            return await asyncio.wait_for(runner.run(0, job(tmp_path), answer), PATIENCE)

    for kind in ALL:
        assert asyncio.run(go(kind)).values == 3.0


def test_a_late_answer_is_for_the_trial_that_asked(tmp_path: Path) -> None:
    """What came after a trial had given up waiting, the next one took for the id of its own run."""
    late: list[RunIdWanted] = []

    async def interrupts(message: Message) -> None:
        assert isinstance(message, RunIdWanted)
        late.append(message)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGUSR1)

    async def answers(message: Message) -> None:
        assert isinstance(message, RunIdWanted)
        late[0].answer("run-of-0")
        message.answer("run-of-1")

    async def go() -> list[Outcome]:
        params = {"file": str(tmp_path / "pid")}
        async with running("local", objectives.gives_up_asking, tmp_path) as runner:
            return [
                await asyncio.wait_for(runner.run(0, job(tmp_path, trial=i, params=params), hear), PATIENCE)
                for i, hear in enumerate((interrupts, answers))
            ]

    first, second = asyncio.run(go())
    assert (first.kind, first.reason) == (m.RAISED, "TimeoutError")
    assert second.values == 1.0


def test_kill_ends_a_trial_in_a_thread_that_talks_without_end(tmp_path: Path) -> None:
    """It was heard as long as it had something to say."""
    ended, more, said = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def talks(trial: Any) -> None:
        trial.log_curve("loss", [1], [0.5])
        while more.acquire() and not ended.is_set():
            trial.log_curve("loss", [1], [0.5])
            said.release()

    async def go() -> Outcome:
        heard = Heard()

        async def hears(message: Message) -> None:
            await heard(message)
            more.release()
            await asyncio.to_thread(said.acquire)  # when this one has been heard, the next one is there

        runner = ThreadRunner(Work(objective="", folder=tmp_path), slots=1, objective=talks)
        segment = asyncio.create_task(runner.run(0, job(tmp_path), hears))
        await asyncio.wait_for(heard.first.wait(), PATIENCE)
        await runner.kill(0, "cancelled")
        try:
            return await asyncio.wait_for(segment, PATIENCE)
        finally:
            ended.set()
            more.release()

    assert asyncio.run(go()).reason == "cancelled"


def test_what_a_trial_prints_need_not_fit_in_memory(tmp_path: Path) -> None:
    """The driver, in whose memory it was, moves it on."""

    def prints(trial: Any) -> float:
        for _ in range(32):
            print("x" * 2**20)
        return 0.0

    tracemalloc.start()
    try:
        run_one("local", prints, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "artifacts" / "0" / "output.txt").stat().st_size == 32 * (2**20 + 1)
    assert peak < 2**24


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_first_trial_finds_its_process_started(kind: str, tmp_path: Path) -> None:
    """It would take seconds of the first trial's time, on all workers at once."""

    async def go() -> tuple[set[int], float]:
        async with running(kind, lambda trial: float(os.getpid()), tmp_path) as runner:
            there = {child.pid for child in psutil.Process().children(recursive=True)}
            outcome = await asyncio.wait_for(runner.run(0, job(tmp_path), Heard()), PATIENCE)
        assert isinstance(outcome.values, float)
        return there, outcome.values

    there, process = asyncio.run(go())
    assert process in there


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", PROCESSES)
def test_an_objective_is_warm_before_its_first_trial(kind: str, wrapped: bool, tmp_path: Path) -> None:
    """Each process loaded the table in its first trial, whose time that was not."""
    objective: Any = objectives.Prepared()
    if wrapped:
        objective = Repeated(objective=objective, repeats=1, objectives={"loaded_in": "min"})

    async def go() -> Outcome:
        async with running(kind, objective, tmp_path) as runner:
            return await asyncio.wait_for(runner.run(0, job(tmp_path), Heard()), PATIENCE)

    values = asyncio.run(go()).values
    assert isinstance(values, dict)
    assert values["loaded_in"] == values["run_in"] > 0
    if kind == "local":
        assert "loading the table" in (tmp_path / "artifacts" / "0" / "output.txt").read_text()


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_runner_takes_over_processes_that_were_started_before_it(slots: int, tmp_path: Path) -> None:
    """And whoever started them ends those that are left, with what they have started."""
    before = set(psutil.Process().children())
    crew = Crew(m.pack(lambda trial: float(os.getpid())), {"OMP_NUM_THREADS": "1"}, 2)
    early = set(psutil.Process().children()) - before
    runner = LocalRunner(Work(objective=crew.objective, folder=tmp_path), slots=slots, crew=crew)
    crew.end()

    async def go() -> set[Any]:
        await runner.start()
        jobs = (runner.run(slot, job(tmp_path), Heard()) for slot in range(slots))
        outcomes = await asyncio.wait_for(asyncio.gather(*jobs), PATIENCE)
        await runner.close()
        return {outcome.values for outcome in outcomes}

    used = asyncio.run(go())
    assert len(used) == slots
    assert len(used & {float(child.pid) for child in early}) == min(slots, 2)
    assert psutil.wait_procs(early, timeout=PATIENCE)[1] == []


def test_a_crew_that_nobody_needs_ends_with_all_it_started() -> None:
    before = set(psutil.Process().children())
    crew = Crew(m.pack(objectives.square), {}, 2)
    there = set(psutil.Process().children()) - before
    assert len(there) >= 2
    crew.end()
    crew.end()
    assert psutil.wait_procs(there, timeout=PATIENCE)[1] == []


@pytest.mark.skipif("dask" not in PROCESSES, reason="distributed is not installed")
def test_a_dask_cluster_of_our_own_lets_nobody_else_in(tmp_path: Path) -> None:
    """It listens on the loopback interface, where every user of the machine can knock."""
    from distributed import Client
    from distributed.security import Security

    async def knock() -> None:
        async with running("dask", objectives.square, tmp_path) as runner:
            assert isinstance(runner, DaskRunner)
            cluster = runner._connection._cluster
            assert cluster is not None
            address = cluster.scheduler_address
            assert address.startswith("tls://127.0.0.1:")
            stranger = Client(
                address, asynchronous=True, timeout=3, security=Security.temporary(), set_as_default=False
            )
            with pytest.raises(OSError, match=r"Timed out|CERTIFICATE|certificate|handshake"):
                await stranger
            await stranger.close()

    asyncio.run(knock())


def test_threads_leave_mlflows_settings_alone_between_two_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set and unset for each trial, they failed the tracker's requests, which read the environment too."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracking = StudyTracker(tmp_path, uri, "none").worker_settings()
    work = Work(objective="", folder=tmp_path, tracking=tracking)

    async def go() -> str | None:
        runner = ThreadRunner(work, slots=1, objective=objectives.square)
        await runner.start()
        await asyncio.wait_for(runner.run(0, job(tmp_path), Heard()), PATIENCE)
        between = os.environ.get("MLFLOW_TRACKING_URI")
        await runner.close()
        return between

    assert asyncio.run(go()) == uri
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("trials", "slots"), [(3, 3), (20, 8), (None, 8)])
def test_no_more_slots_are_made_than_there_are_trials(
    kind: str, trials: int | None, slots: int, tmp_path: Path
) -> None:
    # Three trials on a machine of 64 cores started 64 processes, each of which imported the objective.
    study = Study({"x": Float(0.0, 1.0)}, limits=Limits(trials=trials))
    tracker = StudyTracker(tmp_path, None, "none", offline=True)
    opened = Session(study=study, folder=tmp_path, resumed=False, tracker=tracker)
    thread = kind == "thread"
    runner_terms = RunnerTerms(
        workers=8, runner="local" if thread else kind, isolation="thread" if thread else "process"
    )
    assert make_runner(opened, objectives.square, runner_terms).slots == slots


@pytest.mark.skipif("dask" not in PROCESSES, reason="needs distributed")
@pytest.mark.parametrize("patience", ["soon", "nan", "-1"])
def test_a_patience_that_is_no_time_is_refused(
    patience: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nan it waited for workers without end, and for a scheduler not at all."""
    monkeypatch.setenv("HPO_DASK_PATIENCE", patience)
    tracker = StudyTracker(tmp_path, None, "none", offline=True)
    opened = Session(study=Study({"x": Float(0.0, 1.0)}), folder=tmp_path, resumed=False, tracker=tracker)
    with pytest.raises(InputError, match="HPO_DASK_PATIENCE must be a number of seconds"):
        make_runner(opened, objectives.square, RunnerTerms(runner="dask"))


def test_a_trial_that_says_more_than_can_be_heard_fails_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the study with an error of asyncio's."""
    monkeypatch.setattr("flows.runners._child_process._LINE_LIMIT", 2**13)

    async def go() -> list[Outcome]:
        async with running("local", objectives.long_winded, tmp_path) as runner:
            return [
                await asyncio.wait_for(runner.run(0, job(tmp_path, trial=trial), Heard()), PATIENCE)
                for trial in range(2)
            ]

    failed, after = asyncio.run(go())
    assert failed.kind == m.RAISED
    assert "what its process said cannot be read" in failed.reason
    assert (after.kind, after.values) == (m.RETURNED, 1.0)
