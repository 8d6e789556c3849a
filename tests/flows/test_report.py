"""The report on the study's run never fails a study, and the command writes it from the journal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows._report import attach_report
from flows.cli import main
from hpo_core import Float, Journal, Study


def ended(folder: Path) -> Study:
    """A finished study of three trials in ``folder``."""
    journal = Journal(folder / "journal.jsonl")
    study = Study({"x": Float(0, 1)}, strategy="random", name=folder.name, journal=journal, now=1.0)
    for number in range(3):
        study.tell(study.ask(now=2.0 + number), number, now=2.5 + number)
    study.stop(now=9.0)
    journal.close()
    return study


def attached(folder: Path, **changes: Any) -> list[str]:
    """The lines that making a report told."""
    told: list[str] = []
    current = {"study": ended(folder), "folder": folder, "parent_run": "r", "ended": "done"} | changes
    asyncio.run(attach_report(SimpleNamespace(**current), told.append))  # type: ignore[arg-type]
    return told


def test_a_report_waits_for_the_tracker(tmp_path: Path) -> None:
    """It lies where the tracker uploads from."""
    assert attached(tmp_path) == []
    assert (tmp_path / "artifacts" / "study" / "report.html").is_file()
    assert (tmp_path / "artifacts" / "study" / "plots" / "history.png").is_file()


def test_the_report_of_a_large_study_is_made_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries that draw never come into the driver."""
    monkeypatch.setattr("flows._report._LARGE", 3)
    monkeypatch.setattr("flows._report.write_study_report", None)
    assert attached(tmp_path) == []
    assert (tmp_path / "artifacts" / "study" / "report.html").is_file()
    assert (tmp_path / "artifacts" / "study" / "plots" / "history.png").is_file()


def test_what_another_process_cannot_do_is_done_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows._report._LARGE", 3)
    monkeypatch.setattr("flows._report._START", "sys.exit(1)")
    assert attached(tmp_path) == []
    assert (tmp_path / "artifacts" / "study" / "report.html").is_file()


@pytest.mark.parametrize("changes", [{"parent_run": None}, {"ended": ""}], ids=["offline", "nothing ran"])
def test_no_report_where_nobody_sees_it(changes: dict[str, Any], tmp_path: Path) -> None:
    """Neither offline nor when a finished study was only looked at."""
    assert attached(tmp_path, **changes) == []
    assert not (tmp_path / "artifacts").exists()


def test_a_report_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of it is left for the tracker."""

    def broken(*_: Any) -> None:
        raise RuntimeError("out of ink\nand more")

    monkeypatch.setattr("tracking.write_report", broken)
    (line,) = attached(tmp_path)
    assert "out of ink" in line
    assert "\n" not in line
    assert not (tmp_path / "artifacts" / "study").exists()


def test_the_command_writes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it was asked to; a folder that is not there is the user's to make."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path))
    from flows._workspace import study_folder

    folder = study_folder("seen")
    folder.mkdir(parents=True)
    ended(folder)
    assert main(["report", "seen", "--out", str(tmp_path / "page.html")]) == 0
    assert "<h1>seen</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert main(["report", "seen", "--out", str(tmp_path / "missing" / "page.html")]) == 2
    assert "--out" in capsys.readouterr().err
