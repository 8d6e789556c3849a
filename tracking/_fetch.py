"""Bring a study from MLflow to this machine: its journal is an artifact of the study's run."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from pathlib import Path

from hpo_core import InputError
from hpo_core._journal import read_journal
from tracking._connection import connect
from tracking._errors import brief, is_permanent
from tracking._projector import JOURNAL
from tracking._uploads import JOURNAL_ARTIFACT


def fetch_journal(study: str, folder: Path, *, tracking_uri: str | None, experiment: str) -> Path:
    """Download the journal of the newest study of that name into ``folder``; returns the file.

    An unbroken copy that is there already and has more events stays. Raises :class:`InputError` when
    MLflow knows no such study or its journal was never uploaded.
    """
    connection = connect(tracking_uri, experiment)
    runs = connection.named_studies(study)
    if not runs:
        raise InputError(
            f"experiment {experiment!r} at {connection.uri} has no study {study!r}; check the name, or run "
            "it where its folder is"
        )
    with tempfile.TemporaryDirectory() as scratch:
        try:
            packed = connection.client.download_artifacts(runs[0].info.run_id, JOURNAL_ARTIFACT, scratch)
        except Exception as error:
            if not (is_permanent(error) or isinstance(error, OSError)):
                raise
            raise InputError(
                f"the study {study!r} has not uploaded its journal ({brief(error)}); it does so every few "
                "minutes and when its driver ends"
            ) from None
        fresh = Path(scratch, JOURNAL)
        with gzip.open(packed, "rb") as source, fresh.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        path = folder / JOURNAL
        if _length(path) < _length(fresh):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
    return path


def _length(journal: Path) -> int:
    return sum(1 for _ in read_journal(journal))
