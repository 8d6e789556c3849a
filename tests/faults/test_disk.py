"""A small disk of its own that fills: under the journal, the checkpoints, and MLflow's artifacts."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo_core import TrialState
from tests.faults.checks import check_whole, runs_of
from tests.faults.conftest import MakeDriver
from tests.faults.harness import Driver, checkpoint, mlflow_server, wait_until
from tracking._writes import REFUSED

pytestmark = pytest.mark.faults


class Disk:
    """A small file system in memory."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)

    def fill(self, left: int = 0) -> None:
        """Leave that many bytes, if there are so many."""
        with (self.folder / "ballast").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1024))
            except OSError:
                file.truncate(max(file.tell() - left, 0))

    def free(self) -> None:
        """Make room again."""
        (self.folder / "ballast").unlink()

    def remove(self) -> None:
        """Whoever still has a file open keeps it."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """Empty so far; a study's report alone has five MiB."""
    if os.geteuid() != 0 or not Path("/proc/filesystems").exists():
        pytest.skip("NO DISK WAS FILLED: only root on Linux may mount one of its own")
    made = Disk(tmp_path / "disk", getattr(request, "param", "2m"))
    yield made
    made.remove()


@pytest.mark.parametrize("seed", range(4))
def test_a_full_disk_under_journal_and_checkpoints_ends_the_session_and_burns_no_trial(
    seed: int, make_driver: MakeDriver, disk: Disk
) -> None:
    left = random.Random(seed).choice([0, 5_000, 20_000, 60_000])
    driver = make_driver()
    (driver.folder / "home").symlink_to(disk.folder)
    driver.hold(3, 2)
    driver.start()
    wait_until(lambda: checkpoint(driver, 3) == 2, "a checkpoint of trial 3")
    disk.fill(left)
    driver.release()
    assert driver.process is not None
    assert driver.process.wait() == 1
    assert "free some space" in driver.process.err
    driver.process = None
    study = driver.study()
    assert study is not None
    ended = {t.state for t in study.trials if t.state.finished}
    assert ended == {TrialState.COMPLETE}
    disk.free()
    driver.finish()
    check_whole(driver)


@pytest.mark.parametrize("disk", ["32m"], indirect=True)
def test_a_full_disk_under_mlflows_artifacts_stops_no_training_and_gets_all_when_there_is_room(
    driver: Driver, disk: Disk, tmp_path: Path
) -> None:
    (tmp_path / "artifacts").symlink_to(disk.folder)
    server, driver.tracking_uri = mlflow_server(tmp_path)
    server.start()
    try:
        disk.fill()
        assert driver.finish()["complete"] == driver.trials
        disk.free()
        assert driver.hpo("sync", "study").code == 0
        check_whole(driver)
        parent = runs_of(driver.tracking_uri)[0]
        kept = list(disk.folder.rglob(f"{parent.info.run_id}/artifacts/journal.jsonl.gz"))
        assert len(kept) == 1
    finally:
        server.kill()


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("disk", ["32m"], indirect=True)
def test_a_full_disk_under_mlflows_database_stops_no_training_and_gets_all_when_there_is_room(
    served: bool, driver: Driver, disk: Disk, tmp_path: Path
) -> None:
    """In the middle of what is delivered: a server's database, and one that the driver writes itself."""
    database = disk.folder / "mlflow.db"
    shutil.move(driver.folder / "mlflow.db", database)
    server, address = mlflow_server(tmp_path, f"sqlite:///{database}")
    driver.tracking_uri = address if served else f"sqlite:///{database}"
    if served:
        server.start()
    try:
        driver.hold(6)
        driver.start()
        driver.wait_for(4)
        disk.fill()
        driver.release()
        assert driver.finish()["complete"] == driver.trials
        disk.free()
        assert driver.hpo("sync", "study").code == 0
        check_whole(driver)
        assert not [run for run in runs_of(driver.tracking_uri) if REFUSED in run.data.tags]
    finally:
        server.kill()
