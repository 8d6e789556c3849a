"""SQLite as a tracking store: several processes at its first opening, and disks that it is not for."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from sqlalchemy.engine import make_url

from hpo_core import InputError
from tests.databases import copy_database
from tracking import StudyTracker, _connection, _sqlite, database_uri, probe
from tracking._connection import connect

ROOT = Path(__file__).resolve().parents[2]
# Forked once MLflow is loaded, they meet in the middle of its setting up the database.
TOGETHER = """
import os, sys, warnings
warnings.simplefilter("ignore")
import mlflow.store.tracking.sqlalchemy_store
from pathlib import Path
from tracking import trial_run
from tracking._connection import connect

def study(name):
    connect(sys.argv[1], name)

def offline(name):
    def nobody():
        raise RuntimeError("tracking is offline")
    with trial_run(nobody, scratch=Path(sys.argv[1])):
        mlflow.log_metric(name, 1.0)

children = []
for name in ("a", "b", "c"):
    child = os.fork()
    if child == 0:
        try:
            globals()[sys.argv[2]](name)
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def _together(place: str, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER, place, what], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["my runs", "100%", "50%20off", "what?", "Tom's #1", "Übung"])
def test_a_folder_may_have_any_name(
    name: str, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow writes the path of its own default as URLs do, which SQLAlchemy reads so from 2.1 on only:
    artifacts, and the database, went to a folder `my%20runs`.
    """
    if "?" in name and make_url("sqlite:///%3F").database != "?":
        with pytest.raises(InputError, match=r"expected a path without \? for a database file"):
            database_uri(tmp_path / name / "mlflow.db")
        return
    folder = tmp_path / name
    folder.mkdir()
    copy_database(empty_database, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(None)  # the environment's, as in a new process
    by_default = connect(None, "made")
    assert by_default.sqlite == folder / "mlflow.db"
    experiment = by_default.client.get_experiment(by_default.experiment_id)
    assert experiment.artifact_location == (folder / "mlartifacts" / "made").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", by_default.uri)
    assert connect(None, "made").experiment_id == by_default.experiment_id
    assert connect("sqlite:///mlflow.db", "made").experiment_id == by_default.experiment_id
    assert probe(None) == by_default.uri
    # MLflow itself makes an empty folder of the quoted name, where there is one.
    assert [p for p in tmp_path.rglob("*") if p.is_file() and folder not in p.parents] == []


def test_studies_that_begin_together_share_a_new_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    _together(uri, "study")
    found = {e.name for e in mlflow.MlflowClient(uri).search_experiments()}
    assert found >= {"a", "b", "c"}
    assert {p.name.removesuffix("-wal").removesuffix("-shm") for p in tmp_path.iterdir()} == {"mlflow.db"}


def test_trials_that_begin_together_offline_share_a_new_database(tmp_path: Path) -> None:
    _together(str(tmp_path), "offline")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow-offline.db'}")
    experiment = client.get_experiment_by_name("offline")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(name for run in runs for name in run.data.metrics) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("sqlite:///x.db", "sqlite:///{here}/x.db"),
        ("sqlite:///sub/x.db?timeout=3", "sqlite:///{here}/sub/x.db?timeout=3"),
        ("sqlite+pysqlite:///x.db", "sqlite+pysqlite:///{here}/x.db"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("mlruns", "{here}/mlruns"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("databricks", "databricks"),
    ],
)
def test_a_place_for_runs_is_the_same_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = StudyTracker(tmp_path, given, "e")
    assert tracker.worker_settings()["environment"]["MLFLOW_TRACKING_URI"] == found.format(here=tmp_path)


def test_one_opens_the_database_while_the_others_wait(tmp_path: Path) -> None:
    order: list[str] = []
    held, waiting = threading.Event(), threading.Event()
    sleep = time.sleep

    def second() -> None:
        held.wait()
        with _sqlite.alone(tmp_path / "mlflow.db"):
            order.append("second")

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            waiting.set()
            sleep(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sqlite, "time", Clock)
        thread = threading.Thread(target=second)
        thread.start()
        with _sqlite.alone(tmp_path / "mlflow.db"):
            held.set()
            assert waiting.wait(60)
            order.append("first")
        thread.join()
    assert order == ["first", "second"]


def test_a_lock_that_nobody_gives_back_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite, "_ALONE_SECONDS", 0.2)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with _sqlite.alone(tmp_path / "mlflow.db"):
        os.close(folder)


@pytest.mark.parametrize(
    "said, opened",
    [
        (["(sqlite3.OperationalError) table runs already exists", "no such column: spans.x"], True),
        (["(sqlite3.OperationalError) no such index: index_spans_experiment_id"], True),
        ([f"out-of-date database schema (found version {v})" for v in (1, 2)], True),
        (["out-of-date database schema (found version 1)"] * 9, False),
        (["no permission"], False),
    ],
)  # fmt: skip
def test_a_database_that_a_server_is_setting_up_is_waited_for(
    sqlite_uri: str, experiment: str, said: list[str], opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answers = mlflow.MlflowClient, list(said)

    def client(uri: str) -> Any:
        if answers:
            raise RuntimeError(answers.pop(0))
        return real(uri)

    monkeypatch.setattr(mlflow, "MlflowClient", client)
    monkeypatch.setattr(_connection, "_AGAIN_SECONDS", 0.0)
    if opened:
        assert connect(sqlite_uri, experiment).experiment_id
    else:
        with pytest.raises(InputError, match="cannot track"):
            connect(sqlite_uri, experiment)
        assert len(said) - len(answers) == min(len(said), 5)


@pytest.mark.parametrize("way", [probe, lambda uri: connect(uri, "e")])
def test_a_database_on_a_network_file_system_is_refused(
    tmp_path: Path, way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite, "_file_system", lambda folder: "nfs4" if folder == tmp_path else "ext4")
    with pytest.raises(InputError, match=r"network file system \(nfs4\).*MLFLOW_TRACKING_URI"):
        way(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not list(tmp_path.iterdir())
    link = tmp_path.with_name(tmp_path.name + "-link")
    link.symlink_to(tmp_path)
    with pytest.raises(InputError, match="network file system"):
        way(f"sqlite:///{link / 'mlflow.db'}")
