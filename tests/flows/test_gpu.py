"""Which cards the slots see, as far as a machine without any can tell."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from flows._make_runner import RunnerTerms, make_runner
from flows._session import Session
from flows.runners._gpu import gpu_slots, visible_gpus
from flows.runners._messages import Job
from flows.runners._port import Message
from hpo_core import Float, InputError, Study
from tests.flows import objectives_for_tests as objectives
from tracking import StudyTracker


@pytest.mark.parametrize(
    ("each", "most", "slots"),
    [
        (1, None, ["0", "1", "2"]),
        (1, 2, ["0", "1"]),
        (2, None, ["0,1"]),
        (0.5, None, ["0", "1", "2", "0", "1", "2"]),
        (0.5, 4, ["0", "1", "2", "0"]),
        (0.3, 20, ["0", "1", "2"] * 3),
        (1e-12, 4, ["0", "1", "2", "0"]),  # a list of all shares would not fit in memory
    ],
)
def test_cards_are_filled_evenly_and_never_shared_beyond_one(
    each: float, most: int | None, slots: list[str]
) -> None:
    assert gpu_slots(["0", "1", "2"], gpus_per_trial=each, most=most) == slots


@pytest.mark.parametrize(
    ("each", "says"), [(4, "wants 4 GPUs and this machine has 3"), (1.5, "a whole"), (math.inf, "a whole")]
)
def test_amounts_that_no_card_can_give_are_refused(each: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        gpu_slots(["0", "1", "2"], gpus_per_trial=each, most=None)


def test_a_trial_sees_its_card_only_and_fewer_slots_than_workers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study said that four trials ran at once, where two cards let two."""

    async def heard(message: Message) -> None: ...

    async def seen() -> list[object]:
        await runner.start()
        try:
            outcomes = [await runner.run(slot, job, heard) for slot in range(runner.slots)]
        finally:
            await runner.close()
        return [outcome.values for outcome in outcomes]

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    tracker = StudyTracker(tmp_path, None, "none", offline=True)
    session = Session(study=Study({"x": Float(0.0, 1.0)}), folder=tmp_path, resumed=False, tracker=tracker)
    lines: list[str] = []
    runner = make_runner(session, objectives.card, RunnerTerms(workers=4, runner="gpu"), lines.append)
    job = Job(
        trial=0, attempt=1, params={"x": 0.5}, seed=7, target=None, from_step=0, known_step=0, checkpoint="",
        folder=str(tmp_path),
    )  # fmt: skip
    assert asyncio.run(seen()) == [5, 7]
    assert lines == ["2 at once, not 4: each trial takes 1 of GPUs 5, 7"]


@pytest.mark.parametrize(
    ("script", "cards"), [("echo 0; echo 1", ["0", "1"]), ("echo 'No devices were found'; exit 6", [])]
)
def test_without_a_variable_the_cards_are_those_that_the_driver_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, cards: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []  # there is no driver
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    assert visible_gpus() == cards


def test_the_variable_goes_before_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, cards in (
        ("", []),
        ("-1", []),
        ("2, 0", ["2", "0"]),
        ("1,-1,0", ["1"]),
        ("GPU-8932f937", ["GPU-8932f937"]),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert visible_gpus() == cards
