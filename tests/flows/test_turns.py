"""Deterministic studies: on several workers, whatever takes how long, the same study comes out again."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows._driver import Driver
from flows._turns import Turns
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import OnMessage, Report
from hpo_core import Categorical, Float, Journal, JournalError, Study
from hpo_core._journal import read_journal

SPACE = {"x": Float(0.0, 1.0), "kind": Categorical(["a", "b", "c"])}
STEPS = 9


class Erratic:
    """Slots whose trials take turns of the event loop as ``delays`` says, and are sometimes lost.

    A trial's curve is a function of its configuration alone. ``lost``: of so many attempts one never ends.
    """

    def __init__(self, delays: np.random.Generator, *, slots: int = 3, lost: int = 0) -> None:
        self.slots = slots
        self._delays = delays
        self._lost = lost
        self._stopped: dict[int, asyncio.Event] = {}
        self._time = 0.0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def clock(self) -> float:
        self._time += float(self._delays.exponential())
        return self._time

    def label(self, slot: int) -> str:
        return f"slot-{slot}"

    async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
        stopped = self._stopped[slot] = asyncio.Event()
        if self._lost and job.attempt < 3 and self._delays.integers(self._lost) == 0:
            return Outcome(kind=m.LOST, reason="gone")
        level = float(job.params["x"]) + 0.1 * "abc".index(job.params["kind"])
        last = job.target or STEPS
        for step in range(job.known_step + 1, last + 1):
            for _ in range(int(self._delays.integers(0, 12))):
                await asyncio.sleep(0)
            if stopped.is_set():
                return Outcome(kind=m.STOPPED)
            await on_message(Report(step, {"loss": level + (1.0 - level / 2) / step}))
        loss = level + (1.0 - level / 2) / last
        return Outcome(kind=m.RETURNED, values=loss) if last >= STEPS else Outcome(kind=m.PAUSED)

    def stop(self, slot: int) -> None:
        self._stopped[slot].set()

    def suspend(self, slot: int) -> None:
        self._stopped[slot].set()

    async def kill(self, slot: int, reason: str) -> None:
        self._stopped[slot].set()


def test_the_lowest_trial_in_flight_is_heard_first_and_once_everybody_has_asked() -> None:
    async def go() -> None:
        turns = Turns(3, in_order=True)
        turns.runs(0, 7)
        turns.runs(1, 4)
        turn = {slot: asyncio.ensure_future(turns.come(slot)) for slot in (0, 1)}
        await asyncio.sleep(0)
        assert not any(task.done() for task in turn.values()), "slot 2 has yet to ask"
        turns.waits(2)
        await asyncio.wait([turn[1]], timeout=60.0)
        assert [slot for slot, task in turn.items() if task.done()] == [1]
        turns.asks(1)
        turns.leaves(1)
        await asyncio.wait_for(turn[0], 60.0)

    asyncio.run(go())


def test_who_waits_in_vain_is_asked_again_before_anybody_is_heard() -> None:
    """What was heard may have made work for it, which would come later or sooner than in another run."""

    async def go() -> None:
        turns = Turns(2, in_order=True)
        turns.runs(0, 3)
        turns.waits(1)
        await asyncio.wait_for(turns.come(0), 60.0)
        turns.wakes()
        turn = asyncio.ensure_future(turns.come(0))
        await asyncio.sleep(0)
        assert not turn.done()
        turns.waits(1)
        await asyncio.wait_for(turn, 60.0)

    asyncio.run(go())


def test_trials_that_report_nothing_end_in_their_order_all_the_same(tmp_path: Path) -> None:
    """Whichever returns first."""
    later: dict[int, asyncio.Event] = {}

    class Reversed(Erratic):
        async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
            later[job.trial] = asyncio.Event()
            if job.trial < 2:
                while job.trial + 1 not in later:
                    await asyncio.sleep(0)
                await later[job.trial + 1].wait()
            later[job.trial].set()
            return Outcome(kind=m.RETURNED, values=1.0)

    study = begin(tmp_path / "study", "random")
    runner = Reversed(np.random.default_rng(0))
    asyncio.run(Driver(study, runner, folder=tmp_path, granularity=0.0, now=runner.clock).drive())
    ends = [t.finished_at for t in study.trials]
    assert ends == sorted(ends)


def test_a_full_disk_ends_a_trial_at_its_next_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As without turns, and not when the trial is over, which may be hours later."""
    said = 0

    class Talkative(Erratic):
        async def run(self, slot: int, job: Job, on_message: OnMessage) -> Outcome:
            nonlocal said
            for step in range(1, 100):
                await on_message(Report(step, {"loss": 1.0}))
                said += 1
                await asyncio.sleep(0)
            return Outcome(kind=m.RETURNED, values=1.0)

    def full(*_: object, **__: object) -> None:
        raise JournalError("no space left")

    study = begin(tmp_path / "study", "random")
    monkeypatch.setattr(study, "report", full)
    runner = Talkative(np.random.default_rng(0), slots=1)
    with pytest.raises(JournalError, match="no space"):
        asyncio.run(Driver(study, runner, folder=tmp_path, granularity=0.0, now=runner.clock).drive())
    assert said <= 2


def begin(folder: Path, strategy: str, *, deterministic: bool = True) -> Study:
    folder.mkdir()
    return Study(
        SPACE, strategy=strategy, seed=3, limits={"trials": 12},
        settings={"workers": 3, "max_steps": STEPS, "deterministic": deterministic},
        journal=Journal(folder / "journal.jsonl"),
    )  # fmt: skip


def finished(study: Study, runner: Erratic, folder: Path) -> list[tuple[Any, ...]]:
    """Everything that the study asked for and was told, trial by trial and in the order of telling."""
    asyncio.run(Driver(study, runner, folder=folder, granularity=0.0, now=runner.clock).drive())
    trials = [(t.params, t.state, t.step, t.values) for t in study.trials]
    return [*trials, *zip(study.history.reports.trials, study.history.reports.steps, strict=True)]


STRATEGIES = ["random", "tpe", "gp", "tpe+asha", "random+hyperband", "tpe+median", "random+asha_stopping"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=4)
@given(seeds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), lost=st.sampled_from([0, 4]))
def test_how_long_trials_take_and_what_is_lost_changes_nothing(
    strategy: str, seeds: tuple[int, int], lost: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        one, other = (Path(place) / name for name in ("one", "other"))
        first = finished(begin(one, strategy), Erratic(np.random.default_rng(seeds[0])), one)
        again = Erratic(np.random.default_rng(seeds[1]), lost=lost)
        assert finished(begin(other, strategy), again, other) == first


def test_without_it_the_order_of_arrival_decides(tmp_path: Path) -> None:
    """Else the tests above show nothing: their delays do matter."""
    seen = []
    for i in range(4):
        folder = tmp_path / str(i)
        study = begin(folder, "tpe", deterministic=False)
        seen.append(finished(study, Erratic(np.random.default_rng(i)), folder))
    assert any(other != seen[0] for other in seen[1:])


@pytest.mark.parametrize("strategy", ["tpe", "gp", "tpe+asha", "random+hyperband"])
@settings(max_examples=4)
@given(seed=st.integers(0, 10**6), where=st.floats(0.05, 0.95))
def test_a_killed_driver_goes_on_to_the_same_end(strategy: str, seed: int, where: float) -> None:
    with tempfile.TemporaryDirectory() as place:
        whole, cut = (Path(place) / name for name in ("whole", "cut"))
        expected = finished(begin(whole, strategy), Erratic(np.random.default_rng(1)), whole)
        lines = (whole / "journal.jsonl").read_bytes().splitlines(keepends=True)
        lines = lines[: max(2, int(where * len(lines)))]
        cut.mkdir()
        (cut / "journal.jsonl").write_bytes(b"".join(lines))
        events = [event for _, event, _ in read_journal(cut / "journal.jsonl")]
        study = Study.replay(events, journal=Journal(cut / "journal.jsonl"))
        study.execution.take_over("test", now=0.0)
        ended = finished(study, Erratic(np.random.default_rng(seed)), cut)
        assert ended[: len(study.trials)] == expected[: len(study.trials)]
