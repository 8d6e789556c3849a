"""Files on their way to MLflow."""

from __future__ import annotations

import errno
import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tracking._uploads import Uploads, checkpoint_artifact, checkpoint_upload, folder_upload, open_artifact


class _Client:
    """Takes copies of what is logged; ``meanwhile`` is called in the middle of each upload."""

    def __init__(self) -> None:
        self.taken: list[dict[str, str]] = []
        self.meanwhile: Callable[[], Any] = lambda: None

    def log_artifacts(self, run_id: str, folder: str) -> None:
        files = (path for path in Path(folder).rglob("*") if path.is_file())
        self.taken.append({str(path.relative_to(folder)): path.read_text() for path in files})
        self.meanwhile()


def _again(file: Path) -> None:
    file.write_text("second attempt")


def _more(file: Path) -> None:
    with file.open("a") as sink:
        sink.write(", second attempt")


@pytest.mark.parametrize("write", [_again, _more])
def test_what_a_trial_that_runs_again_leaves_during_an_upload_is_for_the_next_one(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    """It was removed with the rest of the folder, and nobody ever saw it."""
    folder, client = tmp_path / "7", _Client()
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "curve.svg").write_text("<svg/>")
    file = folder / "traceback.txt"
    file.write_text("first attempt")
    upload = folder_upload(client, "run", folder)

    client.meanwhile = lambda: write(file)
    upload()
    assert client.taken == [{"plots/curve.svg": "<svg/>", "traceback.txt": "first attempt"}]
    left = file.read_text()
    assert "second attempt" in left

    client.meanwhile = lambda: None
    upload()
    assert client.taken[1:] == [{"traceback.txt": left}]
    assert not folder.exists()


def test_what_was_refused_is_forgiven_once_it_is_there() -> None:
    """Else a study whose report went through in the end would lack something for good."""
    answers: list[Exception | None] = [PermissionError(errno.EACCES, "no"), None]

    def upload() -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    uploads = Uploads()
    uploads.add("report", upload)
    assert uploads.emptied(60.0)
    assert str(uploads.trouble).startswith("report cannot be uploaded: ")
    uploads.add("report", upload)
    assert uploads.close(time.monotonic() + 60.0)
    assert uploads.trouble is None


def test_a_folder_that_is_removed_as_it_is_written_to_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that ended between the two steps ended the driver."""
    folder, made = tmp_path / "7", Path.mkdir
    times = iter((True, False))

    def mkdir(path: Path, **more: Any) -> None:
        made(path, **more)
        if next(times):
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with open_artifact(folder / "traceback.txt", "wb") as file:
        file.write(b"here")
    assert (folder / "traceback.txt").read_bytes() == b"here"


def test_what_is_queued_anew_during_an_upload_that_fails_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old one is of yesterday, such as an earlier state of the journal."""
    monkeypatch.setattr("tracking._uploads._FIRST_PAUSE", 0.0)
    uploads, done = Uploads(), []

    def old() -> None:
        done.append("old")
        uploads.add("journal", lambda: done.append("new"))
        raise ConnectionError("gone")

    uploads.add("journal", old)
    assert uploads.close(time.monotonic() + 60.0)
    assert done == ["old", "new"]


def test_what_is_queued_anew_comes_behind_what_was_queued_in_between() -> None:
    """A journal that waited took the place of the one before, ahead of the checkpoints that it names."""
    uploads = Uploads()
    done: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        go.wait(60)

    uploads.add("first", first)
    assert begun.wait(60)
    for name, what in (("journal", "old"), ("checkpoint", "new"), ("journal", "new")):
        uploads.add(name, functools.partial(done.append, f"{what} {name}"))
    go.set()
    assert uploads.close(time.monotonic() + 60)
    assert done == ["new checkpoint", "new journal"]


def test_what_fails_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to the end of the queue, and so does what has taken its place."""
    monkeypatch.setattr("tracking._uploads._FIRST_PAUSE", 0.0)
    uploads = Uploads()
    done: list[str] = []

    def fails() -> None:
        for name in ("report", "table"):
            uploads.add(name, functools.partial(done.append, name))
        raise ConnectionError("gone")

    uploads.add("report", fails)
    assert uploads.close(time.monotonic() + 60.0)
    assert done == ["table", "report"]


class _Store:
    """The artifacts of a run; an upload may break off after ``most`` files."""

    def __init__(self, *, sizes: bool = True) -> None:
        self._sizes = sizes
        self.files: dict[str, bytes] = {}
        self.uploads = 0
        self.most = 99

    def list_artifacts(self, run_id: str, path: str) -> list[SimpleNamespace]:
        found = {}
        for name, content in self.files.items():
            if name.startswith(f"{path}/"):
                head, _, below = name.removeprefix(f"{path}/").partition("/")
                size = None if below or not self._sizes else len(content)
                found[head] = SimpleNamespace(path=f"{path}/{head}", is_dir=bool(below), file_size=size)
        return list(found.values())

    def log_artifacts(self, run_id: str, folder: str, target: str) -> None:
        self.uploads += 1
        for number, path in enumerate(sorted(p for p in Path(folder).rglob("*") if p.is_file())):
            if number == self.most:
                raise ConnectionError("gone")
            self.files[f"{target}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()


def _checkpoint(folder: Path) -> Path:
    (folder / "files" / "deep").mkdir(parents=True)
    for name in ("checkpoint.json", "files/a.bin", "files/deep/b.bin"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("sizes", [True, False])
def test_a_checkpoint_that_is_there_is_not_uploaded_again(sizes: bool, tmp_path: Path) -> None:
    """Nor one that has been deleted here, nor any that lies elsewhere than below the study."""
    _checkpoint(tmp_path / "checkpoints" / "t" / "s")
    store = _Store(sizes=sizes)

    def upload(uri: str, step: int) -> None:
        checkpoint_upload(store, "run", tmp_path, uri, step)()

    for _ in range(2):
        upload("/elsewhere/checkpoints/t/s", 3)
    upload("/elsewhere/checkpoints/t/gone", 4)
    upload("/etc", 5)
    assert store.uploads == 1
    assert {name.rpartition("/files")[0] for name in store.files if "deep" in name} == {
        checkpoint_artifact(3)
    }


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_checkpoint_of_which_the_upload_broke_off_is_uploaded_again(most: int, tmp_path: Path) -> None:
    """Its folder was there, so it counted as uploaded, and no other machine could go on from it."""
    folder = _checkpoint(tmp_path / "checkpoints" / "t" / "s")
    store = _Store()
    upload = checkpoint_upload(store, "run", tmp_path, str(folder), 3)
    store.most = most
    with pytest.raises(ConnectionError):
        upload()
    store.most = 99
    upload()
    target = checkpoint_artifact(3)
    assert store.files[f"{target}/files/deep/b.bin"] == b"files/deep/b.bin"
    assert len(store.files) == 3
    (folder / "files" / "a.bin").write_text("of another attempt")
    upload()
    assert store.files[f"{target}/files/a.bin"] == b"of another attempt"
