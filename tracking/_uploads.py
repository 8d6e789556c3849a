"""Files on their way to MLflow: a thread of their own, since a large file must not hold up the metrics."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from tracking._checkpoints import locate_checkpoint
from tracking._errors import brief, is_permanent

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHECKPOINTS = "checkpoints"
JOURNAL_ARTIFACT = "journal.jsonl.gz"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Uploads:
    """A queue of uploads, each named, each repeated until it succeeds or MLflow refuses it for good.

    What is queued under a name that waits already replaces it, behind all that has come in between.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Callable[[], None]] = OrderedDict()
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._trouble: str | None = None
        # What was given up, with the reason, by name: those who can may mend that.
        self._refused: dict[str, str] = {}
        self.done = 0

    def add(self, name: str, upload: Callable[[], None]) -> None:
        """Queue an upload."""
        with self._changed:
            if self._closed:
                return
            self._waiting[name] = upload
            self._waiting.move_to_end(name)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hpo-uploads", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def pending(self) -> int:
        """How many uploads are not done."""
        with self._changed:
            return len(self._waiting) + self._busy

    @property
    def trouble(self) -> str | None:
        """What is wrong with the uploads, in a sentence, or ``None``."""
        return self._trouble or next(reversed(self._refused.values()), None)

    def emptied(self, seconds: float) -> bool:
        """Wait that long at most for the queue to empty; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def close(self, deadline: float) -> bool:
        """Wait for the queue to empty until ``deadline`` (monotonic seconds); whether all was uploaded."""
        with self._changed:
            while (self._waiting or self._busy) and time.monotonic() < deadline:
                self._changed.wait(max(deadline - time.monotonic(), 0.0))
            self._closed = True
            self._changed.notify_all()
            empty = not self._waiting and not self._busy
        if empty and self._thread is not None:
            self._thread.join()
        return empty and not self._refused

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                name, upload = self._waiting.popitem(last=False)
                self._busy = True
            try:
                upload()
                failed, pause, self._trouble = False, _FIRST_PAUSE, None
                self._refused.pop(name, None)
                self.done += 1
            except Exception as error:  # noqa: BLE001 - a lost plot must never end a study
                failed = not is_permanent(error)
                said = f"{name} cannot be uploaded: {brief(error)}"
                if failed:
                    self._trouble = said
                else:
                    self._refused[name] = said
            with self._changed:
                self._busy = False
                if failed:
                    self._waiting.setdefault(name, upload)
                    self._waiting.move_to_end(name)
                self._changed.notify_all()
                if failed and not self._closed:
                    self._changed.wait_for(lambda: self._closed, pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)


def open_artifact(file: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """Open a file to be uploaded; an upload may remove its folder as soon as that is empty."""
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return file.open(mode)


def folder_upload(client: MlflowClient, run_id: str, folder: Path) -> Callable[[], None]:
    """Upload everything in ``folder`` to the root of the run's artifacts, then remove it.

    What is written anew meanwhile stays, as by a trial that is run again: that is for the next upload.
    """

    def upload() -> None:
        if not folder.is_dir():
            return
        there = sorted(folder.rglob("*"), reverse=True)
        sent = {path: _version(path) for path in there if path.is_file()}
        client.log_artifacts(run_id, str(folder))
        for path in (*there, folder):
            with contextlib.suppress(OSError):  # not empty, or gone
                if path not in sent:
                    path.rmdir()
                elif sent[path] == _version(path):
                    path.unlink()

    return upload


def _version(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def file_upload(client: MlflowClient, run_id: str, file: Path) -> Callable[[], None]:
    """Upload a file to the root of the run's artifacts, then remove it."""

    def upload() -> None:
        client.log_artifact(run_id, str(file))
        file.unlink(missing_ok=True)

    return upload


def journal_upload(client: MlflowClient, run_id: str, journal: Path) -> Callable[[], None]:
    """Upload a compressed copy of the journal as it is when the upload's turn comes."""

    def upload() -> None:
        copy = journal.with_name(JOURNAL_ARTIFACT)
        try:
            with journal.open("rb") as source, gzip.open(copy, "wb", compresslevel=5) as packed:
                shutil.copyfileobj(source, packed, 1 << 20)
            client.log_artifact(run_id, str(copy))
        finally:
            with contextlib.suppress(OSError):
                copy.unlink()

    return upload


def checkpoint_upload(
    client: MlflowClient, run_id: str, study: Path, uri: str, step: int
) -> Callable[[], None]:
    """Upload a checkpoint to :func:`checkpoint_artifact`, unless it is there or has been deleted here.

    One is there when all its files are: an upload that broke off has left some of them.
    """

    def upload() -> None:
        folder, target = locate_checkpoint(study, uri), checkpoint_artifact(step)
        if folder is None or not folder.is_dir():
            return
        there = dict(_artifacts(client, run_id, target))
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        # Not every store knows the sizes of what it has.
        if any(there.get(f"{target}/{n}", -1) not in (None, p.stat().st_size) for n, p in files.items()):
            client.log_artifacts(run_id, str(folder), target)

    return upload


def _artifacts(client: MlflowClient, run_id: str, folder: str) -> Iterator[tuple[str, int | None]]:
    """Path and size of all files there."""
    for artifact in client.list_artifacts(run_id, folder):
        if artifact.is_dir:
            yield from _artifacts(client, run_id, artifact.path)
        else:
            yield artifact.path, artifact.file_size


def checkpoint_artifact(step: int) -> str:
    """Where a trial's checkpoint lies among the artifacts of its run."""
    return f"{CHECKPOINTS}/step-{step:08d}"
