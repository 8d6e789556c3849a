"""The report on a study's run, made when the study has ended; a study never fails for the sake of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from flows._session import Session
from hpo_core import Study
from hpo_core._journal import read_journal

# What lies here, the tracker uploads to the study's run when the driver leaves.
_FOR_THE_STUDYS_RUN = ("artifacts", "study")


async def attach_report(current: Session, tell: Callable[[str], None]) -> None:
    """Leave a report for the tracker to upload, if the study ended in this session and MLflow shows it.

    Whatever goes wrong is told in a line.
    """
    if current.parent_run is None or not current.ended or current.study.stopped is None:
        return
    folder = current.folder.joinpath(*_FOR_THE_STUDYS_RUN)
    try:
        await asyncio.to_thread(write_study_report, current.study, current.folder / "journal.jsonl", folder)
    except Exception as error:  # noqa: BLE001 - the study is done; a picture of it must not fail it
        shutil.rmtree(folder, ignore_errors=True)
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        tell(f"no report was made ({why}); try `hpo report {current.study.name}`")


def write_study_report(study: Study, journal: Path, folder: Path) -> Path:
    """Write the report and its plots into ``folder``; returns the page."""
    from tracking import write_report

    events = (event for _, event, _ in read_journal(journal))
    return write_report(study, folder, events)[0]
