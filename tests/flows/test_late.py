"""Results that outlive their driver: which of them the next attempt takes over, and what it makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows._late import discard, find, leave
from flows.runners import _messages as m
from flows.runners._messages import Job, Outcome
from flows.runners._port import Curve, Message, Report, Saved
from tests.full_disk import small_files

RETURNED = Outcome(kind=m.RETURNED, values={"loss": 0.5}, params={"x": 1}, found={"x": {"type": "int"}})


def job(folder: Path, attempt: int, trial: int = 3) -> Job:
    """A segment that runs to step 9."""
    return Job(
        trial=trial, attempt=attempt, params={}, seed=1, target=9, from_step=0, known_step=0, checkpoint="",
        folder=str(folder),
    )  # fmt: skip


def test_the_next_attempt_finds_what_was_said_and_how_it_ended(tmp_path: Path) -> None:
    said: list[Message] = [
        Report(1, {"loss": 0.75}),
        Curve("lr", [1, 2], [0.1, 0.2]),
        Saved(1, str(tmp_path), 10),
    ]
    leave(job(tmp_path, 1), said, RETURNED)
    late = find(job(tmp_path, 2))
    assert late is not None
    assert (list(late.unheard({})), late.outcome) == (said, RETURNED)


def test_only_the_attempt_after_it_takes_a_result_over(tmp_path: Path) -> None:
    """A later one has begun to work after another; one to another step, or of another trial, is not it."""
    leave(job(tmp_path, 1), [], RETURNED)
    assert find(job(tmp_path, 2)) is not None
    assert find(job(tmp_path, 3)) is None
    assert find(job(tmp_path, 2, trial=4)) is None
    assert find(replace(job(tmp_path, 2), target=27)) is None
    assert find(replace(job(tmp_path, 2), target=None)) is None


@pytest.mark.parametrize("kind", [m.RAISED, m.STOPPED, m.SUSPENDED, m.TIMED_OUT, m.LOST, m.NO_SPACE])
def test_what_may_go_better_the_next_time_is_not_kept(tmp_path: Path, kind: str) -> None:
    leave(job(tmp_path, 1), [], Outcome(kind=kind))
    assert find(job(tmp_path, 2)) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [m.PAUSED, m.PRUNED, m.INFEASIBLE])
def test_every_end_that_is_the_trials_own_is_kept(tmp_path: Path, kind: str) -> None:
    leave(job(tmp_path, 1), [], Outcome(kind=kind, reason="said so"))
    late = find(job(tmp_path, 2))
    assert late is not None
    assert late.outcome == Outcome(kind=kind, reason="said so")


def test_checkpoints_that_are_known_or_gone_are_not_told_again(tmp_path: Path) -> None:
    """The journal has the one already; the other was deleted since, for room."""
    said = [Saved(1, str(tmp_path), 10), Saved(2, str(tmp_path), 10), Saved(3, str(tmp_path / "gone"), 10)]
    leave(job(tmp_path, 1), said, RETURNED)
    late = find(job(tmp_path, 2))
    assert late is not None
    assert list(late.unheard({1: ("", 0)})) == [said[1]]


def test_what_is_journaled_is_forgotten_with_all_before_it(tmp_path: Path) -> None:
    for attempt in (1, 2, 3):
        leave(job(tmp_path, attempt), [], RETURNED)
    leave(job(tmp_path, 1, trial=4), [], RETURNED)
    discard(job(tmp_path, 2))
    left = [attempt for attempt in (1, 2, 3) if find(job(tmp_path, attempt + 1)) is not None]
    assert left == [3]
    assert find(job(tmp_path, 2, trial=4)) is not None


def test_half_of_a_result_goes_when_the_whole_is_forgotten(tmp_path: Path) -> None:
    """A full disk kept what had still fitted on it, and a killed process what it had begun."""
    leave(job(tmp_path, 1, trial=3), [], RETURNED)
    leave(job(tmp_path, 1, trial=4), [], RETURNED)
    with small_files(20):
        leave(job(tmp_path, 2, trial=3), [], RETURNED)
    assert len(list((tmp_path / "outcomes").iterdir())) == 3
    discard(job(tmp_path, 2))
    (kept,) = (tmp_path / "outcomes").iterdir()
    assert find(job(tmp_path, 2, trial=4)) is not None, kept


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"target": 9}', '{"target": 9, "said": [{}]}'])
def test_half_of_a_result_is_none(tmp_path: Path, damage: str) -> None:
    """The disk was full, or the machine went down: the segment is repeated then."""
    leave(job(tmp_path, 1), [], RETURNED)
    (file,) = (tmp_path / "outcomes").iterdir()
    file.write_text(damage)
    assert find(job(tmp_path, 2)) is None


def test_where_nothing_can_be_kept_the_work_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "outcomes").write_text("in the way")
    leave(job(tmp_path, 1), [], RETURNED)
    assert find(job(tmp_path, 2)) is None
