"""The report on a study's run, made when the study has ended; a study never fails for the sake of it."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from flows._importing import python_command
from flows._session import Session
from flows._workspace import read_study
from hpo_core import Study
from hpo_core.inner import JOURNAL, read_journal

# What lies here, the tracker uploads to the study's run when the driver leaves.
_FOR_THE_STUDYS_RUN = ("artifacts", "study")
# From so many trials on, the report is made by a process of its own: the plotting libraries take more memory
# than everything else that the driver of a study needs, and the two seconds to start one do not matter.
_LARGE = 1000
_START = "from flows._report import main; main(sys.argv[1:])"


async def attach_report(current: Session, tell: Callable[[str], None]) -> None:
    """Leave a report for the tracker to upload, if the study ended in this session and MLflow shows it.

    Whatever goes wrong is told in a line.
    """
    if current.parent_run is None or not current.ended or current.study.stopped is None:
        return
    why = await asyncio.to_thread(renew_report, current.study, current.folder)
    if why is not None:
        tell(f"no report was made ({why}); try `hpo report {shlex.quote(current.study.name)}`")


def renew_report(study: Study, home: Path) -> str | None:
    """Leave a report in the study's folder for the tracker to upload; returns why there is none."""
    folder, journal = home.joinpath(*_FOR_THE_STUDYS_RUN), home / JOURNAL
    try:
        if study.history.n_trials < _LARGE or not _by_a_process(journal, folder):
            write_study_report(study, journal, folder)
    except Exception as error:  # noqa: BLE001 - the study is done; a picture of it must not fail it
        shutil.rmtree(folder, ignore_errors=True)
        return next(iter(str(error).splitlines()), "") or type(error).__name__
    return None


def write_study_report(study: Study, journal: Path, folder: Path) -> Path:
    """Write the report and its plots into ``folder``; returns the page."""
    from tracking import write_report

    events = (event for _, event, _ in read_journal(journal))
    return write_report(study, folder, events)[0]


def _by_a_process(journal: Path, folder: Path) -> bool:
    """Have it written by a process of its own; whether that went well.

    A strategy that is an object of the user's cannot be read from the journal there.
    """
    command = python_command(_START, journal, folder)
    return not subprocess.run(command, capture_output=True, check=False).returncode


def main(arguments: list[str]) -> None:
    """That process: the journal, and the folder for the report."""
    journal, folder = map(Path, arguments)
    write_study_report(read_study(journal.parent), journal, folder)
