"""Databases that take MLflow and Prefect seconds to make: made once for a run, by whoever needs one first."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def copy_database(source: Path, target: Path) -> None:
    """A copy that has what still stands in the source's write-ahead log."""
    target.parent.mkdir(parents=True, exist_ok=True)
    original, copy = sqlite3.connect(source), sqlite3.connect(target)
    with contextlib.closing(original), contextlib.closing(copy):
        original.backup(copy)


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """``path``, which the first of several processes makes with ``make`` and the others wait for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            folder = path.with_suffix(".made")
            folder.mkdir(exist_ok=True)
            make(folder / path.name)
            copy_database(folder / path.name, folder / "whole.db")
            (folder / "whole.db").rename(path)
    return path


def mlflow_database(path: Path) -> None:
    """One of MLflow's that shows nothing."""
    from tracking import connect

    connection = connect(f"sqlite:///{path}", "empty")
    connection.client.delete_experiment(connection.experiment_id)


def prefect_database(path: Path) -> None:
    """One of Prefect's as its server makes it at its first start."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "prefect", "server", "database", "upgrade", "--yes"],
        env={**os.environ, "PREFECT_HOME": str(path.parent)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
