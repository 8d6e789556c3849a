"""``hpo report``: a study's report as a file, from its journal alone."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import _arguments as given


def report(
    study: given.Study,
    out: Annotated[Path, typer.Option(help="The file to write")] = Path("report.html"),
) -> None:
    """Write a study's report: one HTML file that needs no network.

    The study may be running; MLflow is not asked.
    """
    from flows._find import find
    from flows._report import write_study_report
    from flows._workspace import study_folder
    from hpo_core import InputError
    from hpo_core.inner import JOURNAL

    found = find(study)
    with tempfile.TemporaryDirectory() as scratch:
        page = write_study_report(found, study_folder(study) / JOURNAL, Path(scratch))
        try:
            shutil.copyfile(page, out)
        except OSError as error:
            raise InputError(f"the report cannot be written to {out}: {error.strerror}; see --out") from None
    typer.echo(f"the report of {study} is in {out}")
