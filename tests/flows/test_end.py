"""What `hpo gc` and `hpo delete` do to folders, whoever else comes by and wherever they are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows._find import find, is_driven
from flows._workspace import study_folder
from flows.cli import _end
from hpo_core import Float, Journal, Study
from hpo_core.inner import JOURNAL
from tracking import Belongings, delete_checkpoint, load_checkpoint, locate_checkpoint, save_checkpoint


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_HOME", str(tmp_path))


def paused(name: str) -> Path:
    """A study whose only trial is paused and has saved twice; its folder."""
    folder = study_folder(name)
    folder.mkdir(parents=True)
    with Journal(folder / JOURNAL) as journal:
        study = Study({"x": Float(0, 1)}, name=name, limits={"trials": 3}, journal=journal)
        trial = study.ask().number
        for step in (1, 2):
            study.report(trial, step, {"loss": 1.0})
            place = folder / "checkpoints" / f"step-{step}"
            study.execution.checkpointed(trial, step, str(place), save_checkpoint(place, b"x" * 2**20))
        study.execution.paused(trial)
    return folder


def test_gc_frees_what_no_trial_can_need_and_keeps_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """Said before by a dry run; the journal no longer promises what is gone."""
    folder, _ = paused("mine"), paused("yours")
    _end.gc(dry_run=True)
    assert capsys.readouterr().out == "would free 2.0 MiB\n"
    assert len(list((folder / "checkpoints").iterdir())) == 2
    _end.gc(dry_run=False)
    assert capsys.readouterr().out == "freed 2.0 MiB\n"
    (left,) = (folder / "checkpoints").iterdir()
    assert load_checkpoint(left) == b"x" * 2**20
    assert find("mine").trials[0].checkpoints == {2: (str(left), 2**20)}
    _end.gc(dry_run=False)
    assert capsys.readouterr().out == "freed 0.0 MiB\n"


def test_gc_that_is_killed_leaves_no_promise_of_what_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its journal named checkpoints that it had deleted."""
    folder = paused("mine")

    def killed(study: Path, uri: str) -> None:
        delete_checkpoint(study, uri)
        raise KeyboardInterrupt

    monkeypatch.setattr("tracking.delete_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        _end.gc(dry_run=False)
    for uri, _ in find("mine").trials[0].checkpoints.values():
        place = locate_checkpoint(folder, uri)
        assert place is not None
        assert place.is_dir()


def test_no_driver_can_begin_while_a_study_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had asked whether one was there, and let go: one that began then wrote to runs that were going."""
    folder = paused("mine")
    driven: list[bool] = []
    monkeypatch.setattr(_end, "_shown_by", lambda *_: object())
    monkeypatch.setattr(_end, "belongings", lambda *_: Belongings())
    monkeypatch.setattr(_end, "take_out", lambda *_: driven.append(is_driven("mine")))
    _end.delete("mine", None, dry_run=False, keep_runs=False)
    assert driven == [True]
    assert not folder.exists()
