"""Checkpoints come back as they were saved, or not at all; and what may be needed is never removable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_core import Float, InputError, Segment, Study
from hpo_core._events import SegmentStarted, TrialAsked, TrialFinished, TrialReported, TrialResumed
from tracking import (
    CheckpointError,
    beyond_quota,
    delete_checkpoint,
    disk_warning,
    load_checkpoint,
    locate_checkpoint,
    removable_checkpoints,
    save_checkpoint,
)

NUMBERS = st.floats(allow_nan=False) | st.integers(-(2**40), 2**40) | st.booleans() | st.none() | st.text()
ARRAYS = st.builds(
    lambda shape, kind: np.arange(int(np.prod(shape))).reshape(shape).astype(kind),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(["f4", "f8", "i2", "u1", "?", "c8"]),
)
TREES = st.recursive(
    NUMBERS | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def same(a: Any, b: Any) -> bool:
    """Equality that looks into arrays."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@given(tree=TREES.filter(lambda tree: not isinstance(tree, str)))
def test_any_tree_of_arrays_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    """Shapes, kinds and nesting included."""
    folder = tmp_path_factory.mktemp("tree") / "step"
    save_checkpoint(folder, tree)
    assert same(load_checkpoint(folder), tree)


def test_bytes_files_and_folders(tmp_path: Path) -> None:
    """The size is that of the data."""
    assert save_checkpoint(tmp_path / "a" / "1", b"\x00\x01") == 2
    assert load_checkpoint(tmp_path / "a" / "1") == b"\x00\x01"
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "x.txt").write_text("hello")
    assert save_checkpoint(tmp_path / "a" / "2", tmp_path / "in") == 5
    assert (load_checkpoint(tmp_path / "a" / "2") / "deep" / "x.txt").read_text() == "hello"
    save_checkpoint(tmp_path / "a" / "3", str(tmp_path / "in" / "deep" / "x.txt"))
    assert load_checkpoint(tmp_path / "a" / "3").read_text() == "hello"
    with pytest.raises(InputError, match="does not exist"):
        save_checkpoint(tmp_path / "a" / "4", "not/there")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["1", "2", "3"]


def test_torch_states_and_modules(tmp_path: Path) -> None:
    """The optimiser's state too; nothing in it is executed on loading."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": 3}
    save_checkpoint(tmp_path / "1", state)
    loaded = load_checkpoint(tmp_path / "1")
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["model"]["weight"], model.weight)
    other = torch.optim.Adam(torch.nn.Linear(2, 1).parameters())
    other.load_state_dict(loaded["optimiser"])
    save_checkpoint(tmp_path / "2", model)
    assert torch.equal(load_checkpoint(tmp_path / "2")["bias"], model.bias)


def test_boosters_and_estimators(tmp_path: Path) -> None:
    """Each by its own saver; predictions are the same."""
    lightgbm = pytest.importorskip("lightgbm")
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x, y = rng.random((60, 3)), rng.integers(0, 2, 60)
    booster = lightgbm.train(
        {"verbose": -1, "objective": "binary", "num_threads": 1}, lightgbm.Dataset(x, y), 3
    )
    save_checkpoint(tmp_path / "1", booster)
    assert json.loads((tmp_path / "1" / "checkpoint.json").read_text())["kind"] == "lightgbm"
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "1").predict(x), booster.predict(x))
    model = LogisticRegression().fit(x, y)
    save_checkpoint(tmp_path / "2", model)
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "2").predict(x), model.predict(x))


def test_saving_again_replaces(tmp_path: Path) -> None:
    """And leaves nothing else behind."""
    save_checkpoint(tmp_path / "s", b"one")
    save_checkpoint(tmp_path / "s", {"a": np.ones(2)})
    assert same(load_checkpoint(tmp_path / "s"), {"a": np.ones(2)})
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_save_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or a kill in the middle."""
    save_checkpoint(tmp_path / "s", b"old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "s", {"a": np.ones(2)})
    assert load_checkpoint(tmp_path / "s") == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    with pytest.raises(InputError, match="save it to a file yourself"):
        save_checkpoint(tmp_path / "s", (i for i in range(3)))


def test_missing_and_damaged_ones_are_named(tmp_path: Path) -> None:
    """Never half a state."""
    with pytest.raises(CheckpointError, match=r"no whole checkpoint at .*gone"):
        load_checkpoint(tmp_path / "gone")
    save_checkpoint(tmp_path / "s", b"12345")
    (tmp_path / "s" / "data.bin").write_bytes(b"123")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "s")
    (tmp_path / "s" / "data.bin").unlink()
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_checkpoint(tmp_path / "s")


def test_a_study_that_was_moved_finds_its_checkpoints(tmp_path: Path) -> None:
    """And deletes only below its own folder."""
    here = tmp_path / "here" / "checkpoints" / "trial-000001" / "step-00000002-1"
    save_checkpoint(here, b"1")
    uri = "/somewhere/else/checkpoints/trial-000001/step-00000002-1"
    assert locate_checkpoint(tmp_path / "here", uri) == here
    assert locate_checkpoint(tmp_path / "here", str(here)) == here
    outside = tmp_path / "precious"
    # A journal that came from MLflow may say anything.
    for elsewhere in ("/etc", str(outside), "/a/checkpoints", "/a/checkpoints/../../precious", "t0s1"):
        assert locate_checkpoint(tmp_path / "here", elsewhere) is None
    outside.mkdir()
    delete_checkpoint(tmp_path / "here", str(outside))
    delete_checkpoint(tmp_path / "here", str(tmp_path / "here" / "checkpoints" / ".." / ".." / "precious"))
    assert outside.is_dir()
    delete_checkpoint(tmp_path / "here", uri)
    assert list(here.parent.iterdir()) == []


# -- what may be removed -----------------------------------------------------------------------


class Saved:
    """A study in memory whose trials save a checkpoint at every report."""

    def __init__(self, strategy: Any = "random") -> None:
        settings = {"max_steps": 9}
        self.study = Study({"x": Float(0, 1)}, strategy=strategy, limits={"trials": 10}, settings=settings)

    def begin(self, parent: tuple[int, int] | None = None) -> int:
        """A new trial, or a fork of ``(trial, step)``."""
        number = len(self.study.trials)
        source, step = parent or (None, 0)
        asked = TrialAsked(trial=number, params={"x": 0.5}, parent=source, start_step=step)
        self.study._log.append(asked)
        self.start(number)
        return number

    def start(self, number: int) -> None:
        """Begin the trial's segment."""
        attempt = self.study.trials[number].attempt + 1
        self.study._log.append(SegmentStarted(trial=number, attempt=attempt))

    def step(self, trial: int, step: int, loss: float) -> None:
        """Report and save."""
        self.study._log.append(TrialReported(trial=trial, step=step, metrics={"loss": loss}))
        self.study.execution.checkpointed(trial, step, f"t{trial}s{step}", 10)

    def finish(self, trial: int, state: str, loss: float = 1.0, reason: str = "") -> None:
        """End the trial."""
        values = {"loss": loss} if state == "complete" else {}
        end = TrialFinished(trial=trial, state=state, values=values, step=0, reason=reason)
        self.study._log.append(end)

    def removable(self, **options: Any) -> set[tuple[int, int]]:
        """Trial and step of what may go."""
        return {(r.trial, r.step) for r in removable_checkpoints(self.study, **options)}


def test_a_paused_trial_keeps_its_newest() -> None:
    """A running one the newest two, and what its segment began from: that was gone for who loaded it late."""
    saved = Saved()
    trial = saved.begin()
    for step in (1, 2, 3):
        saved.step(trial, step, 1.0)
    assert saved.removable() == {(0, 1)}
    saved.study.execution.paused(trial)
    assert saved.removable() == {(0, 1), (0, 2)}
    saved.study._log.append(TrialResumed(trial=trial, target=None))
    assert saved.removable() == {(0, 1), (0, 2)}
    due = saved.study.execution.next()
    assert isinstance(due, Segment)
    assert due.from_step == 3
    saved.study.execution.started(due)
    for step in (4, 5, 6):
        saved.step(trial, step, 1.0)
    assert saved.removable() == {(0, 1), (0, 2), (0, 4)}


def test_the_best_trial_keeps_best_and_last() -> None:
    """Others that are complete or pruned keep none; failed ones can be retried while the study is open."""
    saved = Saved()
    ends = {"complete": (0.5, 0.1, 0.3), "pruned": (0.9, 0.9, 0.9), "failed": (0.2, 0.2, 0.2)}
    for state, losses in ends.items():
        trial = saved.begin()
        for step, loss in enumerate(losses, start=1):
            saved.step(trial, step, loss)
        saved.finish(trial, state, losses[-1])
    worse = saved.begin()
    saved.step(worse, 1, 2.0)
    saved.finish(worse, "complete", 2.0)
    assert saved.removable() == {(0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)}
    assert (3, 1) not in saved.removable(keep_best=2)
    saved.study.stop("finished")
    assert (2, 3) in saved.removable()


def test_all_trials_of_a_front_keep_theirs() -> None:
    """Each may be the one that is taken, however few of the best are to be kept."""
    study = Study({"x": Float(0, 1)}, {"loss": "min", "speed": "max"}, "random", limits={"trials": 9})
    for loss, speed in ((0.1, 1.0), (0.2, 2.0), (0.3, 1.5)):
        trial = study.ask().number
        study.execution.checkpointed(trial, 1, f"t{trial}", 10)
        study.tell(trial, {"loss": loss, "speed": speed})
    assert [r.trial for r in removable_checkpoints(study, keep_best=1)] == [2]


def test_a_cancelled_study_keeps_what_its_trials_go_on_from() -> None:
    saved = Saved()
    trial = saved.begin()
    for step in (1, 2):
        saved.step(trial, step, 1.0)
    saved.finish(trial, "cancelled")
    saved.study.stop("cancelled")
    assert saved.removable() == {(0, 1)}


@pytest.mark.parametrize("reason", ["the time is up", "no trial is complete: the time is up"])
def test_what_ran_when_a_limit_ended_the_study_goes_on_from_its_newest(reason: str) -> None:
    """Of a study whose time was too short for one trial each extension had begun it anew."""
    saved = Saved()
    ran, other = saved.begin(), saved.begin()
    for step in (1, 2):
        saved.step(ran, step, 1.0)
        saved.step(other, step, 1.0)
    saved.finish(other, "cancelled", reason="by hand")
    saved.finish(ran, "cancelled", reason="the time is up")
    saved.study.stop("failed", reason)
    assert saved.removable() == {(ran, 1), (other, 1), (other, 2)}
    saved.study.extend(trials=11)
    due = saved.study.execution.next()
    assert isinstance(due, Segment)
    assert (due.trial, due.from_step) == (ran, 2)


def test_what_a_fork_starts_from_stays_until_the_fork_has_its_own() -> None:
    """Whatever becomes of the parent meanwhile."""
    saved = Saved()
    parent = saved.begin()
    for step in (1, 2, 3):
        saved.step(parent, step, 1.0)
    fork = saved.begin((parent, 1))
    saved.finish(parent, "pruned")
    assert saved.removable() == {(0, 2)}  # 1 is needed, 3 may be forked again
    saved.step(fork, 2, 0.5)
    assert saved.removable() == {(0, 2)}
    saved.study.execution.paused(fork)
    assert saved.removable() == {(0, 1), (0, 2)}


def test_a_fork_begins_from_the_newest_that_was_saved_on_its_way() -> None:
    """It began from nothing where its parent had not saved at the very step, and was taken for its fork."""
    saved = Saved()
    parent = saved.begin()
    saved.step(parent, 2, 1.0)
    saved.study.report(parent, 3, {"loss": 1.0})
    for number, (source, step) in enumerate([(parent, 3), (1, 4)], start=1):
        asked = TrialAsked(trial=number, params={"x": 0.5}, parent=source, start_step=step)
        saved.study._log.append(asked)
        due = saved.study.execution.next()
        assert isinstance(due, Segment)
        assert (due.trial, due.from_step, due.checkpoint) == (number, 2, (parent, 2, "t0s2"))
        saved.start(number)
        saved.study.report(number, step + 1, {"loss": 1.0})
    for step in (4, 5, 6):
        saved.step(parent, step, 1.0)
    assert saved.removable() == {(0, 4)}


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_what_a_fork_starts_from_stays_as_long_as_the_fork_may_be_run_again(state: str) -> None:
    """One that ended before it saved anything, in a study that is resumed: it began anew, with no state."""
    saved = Saved()
    parent = saved.begin()
    saved.step(parent, 1, 1.0)
    fork = saved.begin((parent, 1))
    for step in (2, 3, 4):
        saved.step(parent, step, 1.0)
    saved.finish(fork, state)
    assert saved.removable() == {(0, 2)}
    saved.study.stop("cancelled")
    assert saved.removable() == {(0, 2), (0, 3)}
    saved.study.requeue(fork)
    due = saved.study.execution.next()
    assert isinstance(due, Segment)
    assert due.checkpoint is not None
    assert due.checkpoint.uri == "t0s1"
    saved.study.execution.started(due)
    saved.finish(fork, state)
    assert (0, 1) not in saved.removable()
    saved.study.requeue(fork)
    saved.start(fork)
    saved.step(fork, 5, 1.0)
    saved.finish(fork, state)
    assert saved.removable() == {(0, 1), (0, 2), (0, 3)}  # the fork has its own


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("srpxfk")), max_size=60))
def test_whoever_can_run_again_finds_its_checkpoint(moves: list[tuple[int, str]]) -> None:
    """Over random lives: a segment that may become due never starts from something removable."""
    saved = Saved()
    steps: dict[int, int] = {}
    for trial, move in moves:
        if trial >= len(saved.study.trials):
            trial = saved.begin()
        record = saved.study.trials[trial]
        label = record.state.label
        if move == "s" and label == "running":
            steps[trial] = max(steps.get(trial, 0), record.step) + 1
            saved.step(trial, steps[trial], 1.0)
        elif move == "p" and label == "running":
            saved.study.execution.paused(trial)
        elif move == "r" and label == "paused":
            saved.study._log.append(TrialResumed(trial=trial, target=None))
            saved.start(trial)
        elif move == "x" and not record.state.finished:
            saved.finish(trial, "failed")
        elif move == "f" and record.checkpoints and len(saved.study.trials) < 8:
            saved.begin((trial, max(record.checkpoints)))
        elif move == "k" and label == "failed":
            saved.study.requeue(trial)
            saved.start(trial)
        gone = {(r.trial, r.step) for r in removable_checkpoints(saved.study)}
        for each in saved.study.trials:
            if each.state.label in ("complete", "pruned"):
                continue
            if each.checkpoints:
                start = (each.number, max(each.checkpoints))
            elif each.parent is not None:
                start = (each.parent, each.start_step)
            else:
                continue
            assert start not in gone
        for number, step in gone:
            saved.study.execution.dropped_checkpoint(number, step)


def test_a_paused_trial_is_as_good_as_its_newest_result_not_as_its_newest_report() -> None:
    """The better one reported another metric since."""
    saved = Saved()
    for loss, metrics in ((0.1, {"seconds": 1.0}), (0.8, {"loss": 0.8})):
        trial = saved.begin()
        saved.step(trial, 1, loss)
        saved.study.report(trial, 2, metrics)
        saved.study.execution.paused(trial)
    assert [removable.trial for removable in beyond_quota(saved.study, 10)] == [1]


def test_beyond_the_quota_the_least_promising_paused_trials_go_first() -> None:
    """By step, then by result, one that is no number first; running ones and the best complete one stay."""
    saved = Saved()
    for loss in (0.3, float("nan"), 0.9, 0.1):
        trial = saved.begin()
        saved.step(trial, 1, loss)
        saved.study.execution.paused(trial)
    further = saved.begin()
    saved.step(further, 1, 0.8)
    saved.step(further, 2, 0.8)
    saved.study.execution.dropped_checkpoint(further, 1)
    saved.study.execution.paused(further)
    saved.step(saved.begin(), 1, 2.0)
    best = saved.begin()
    saved.step(best, 1, 5.0)
    saved.finish(best, "complete", 5.0)
    assert [r.trial for r in beyond_quota(saved.study, 70)] == []
    assert [r.trial for r in beyond_quota(saved.study, 69)] == [1]
    assert [r.trial for r in beyond_quota(saved.study, 40)] == [1, 2, 0]
    assert [(r.trial, r.step) for r in beyond_quota(saved.study, 0)] == [
        (1, 1),
        (2, 1),
        (0, 1),
        (3, 1),
        (4, 2),
    ]


def test_where_trials_fork_no_quota_takes_a_checkpoint() -> None:
    """Any of them may be the one that is copied next."""
    saved = Saved()
    parent = saved.begin()
    saved.step(parent, 1, 1.0)
    saved.study.execution.paused(parent)
    saved.begin((parent, 1))
    assert beyond_quota(saved.study, 0) == []


def test_a_strategy_that_forks_is_known_before_its_first_fork() -> None:
    """By what it is: the word stood in the name of another one, whose checkpoints were all kept."""
    for strategy, forks in (("pbt", True), ({"sampler": "random", "name": "no pbt"}, False)):
        saved = Saved(strategy)
        trial = saved.begin()
        saved.step(trial, 1, 1.0)
        saved.study.execution.paused(trial)
        assert (beyond_quota(saved.study, 0) == []) == forks
        saved.finish(trial, "pruned")
        assert (saved.removable() == set()) == forks


def test_the_warning_comes_ahead_with_numbers() -> None:
    """Three trials tell what the other seven will take."""
    saved = Saved()
    for _ in range(3):
        assert disk_warning(saved.study, 0) is None  # too few to judge by
        saved.step(saved.begin(), 1, 1.0)
    assert disk_warning(saved.study, 70) is None
    assert "70 B more, but the disk has 50 B" in str(disk_warning(saved.study, 50))
    assert "the quota leaves 20 B" in str(disk_warning(saved.study, 1000, quota=50))
