"""Writes runs straight into MLflow's SQLite file: hundreds of trials in one transaction.

MLflow's own store spends 10 to 30 ms of Python per trial, in the driver's process, on some fifty
statements through an ORM. The same rows take a fraction of a millisecond here, and a trial appears whole
or not at all. Only for a database of exactly the tables that this module knows; for any other, and for
every server, :class:`tracking._client_writer.ClientWriter` does the same by MLflow's client.
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tracking._connection import Connection
from tracking._errors import TrackingError
from tracking._sqlite import identity_of
from tracking._writes import REFUSED, Progress, Refused, RunWrite, all_refused, refused_text

# Tables as MLflow 3.17 makes them, with their columns in any order. A column more or less is a reason
# to leave the file to MLflow.
_TABLES = {
    "runs": (
        "run_uuid name source_type source_name entry_point_name user_id status start_time end_time "
        "source_version lifecycle_stage artifact_uri experiment_id deleted_time"
    ),
    "tags": "key value run_uuid",
    "params": "key value run_uuid",
    "metrics": "key value timestamp run_uuid step is_nan",
    "latest_metrics": "key value timestamp step is_nan run_uuid",
}
_BUSY_SECONDS = 20.0

_NEW_RUN = """
INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,
                  source_version, lifecycle_stage, artifact_uri, experiment_id)
VALUES (?, ?, 'UNKNOWN', '', '', ?, 'RUNNING', ?, '', 'active', ?, ?)"""
_TAG = """
INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)
ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value"""
_PARAM = "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_POINT = """
INSERT INTO metrics (key, value, timestamp, step, run_uuid, is_nan) VALUES (?, ?, ?, ?, ?, 0)
ON CONFLICT DO NOTHING"""
# The latest value is that of the highest step, then of the latest time, then the highest.
_LATEST = """
INSERT INTO latest_metrics (key, value, timestamp, step, run_uuid, is_nan) VALUES (?, ?, ?, ?, ?, 0)
ON CONFLICT (key, run_uuid) DO UPDATE
SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = 0
WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)"""
_STATUS = "UPDATE runs SET status = ?, end_time = coalesce(?, end_time) WHERE run_uuid = ?"


class SqliteWriter:
    """See :class:`tracking._writes.Writer`. Use it from one thread at a time."""

    batch = 200

    def __init__(
        self, database: sqlite3.Connection, file: Path, experiment_id: str, artifact_root: str
    ) -> None:
        self._database = database
        self._file, self._identity = file, identity_of(file)
        self._experiment_id = int(experiment_id)
        self._artifact_root = artifact_root.rstrip("/")

    @classmethod
    def over(cls, connection: Connection) -> SqliteWriter | None:
        """A writer for this connection, or ``None`` where it is not to a file of the known tables."""
        store = getattr(getattr(connection.client, "_tracking_client", None), "store", None)
        known = type(store).__module__ == "mlflow.store.tracking.sqlalchemy_store"
        if connection.sqlite is None or not known:
            return None
        root = connection.client.get_experiment(connection.experiment_id).artifact_location
        with contextlib.ExitStack() as unused:
            database = sqlite3.connect(
                connection.sqlite, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            unused.callback(database.close)
            if "?" in root or not _has_known_tables(database):
                return None
            database.execute("PRAGMA foreign_keys = ON")
            if database.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                database.execute("PRAGMA synchronous = NORMAL")
            unused.pop_all()
            return cls(database, connection.sqlite, connection.experiment_id, root)

    def write(self, writes: Sequence[RunWrite], progress: Progress) -> None:
        """Write all in one transaction; ``progress`` hears of it once it is committed.

        Raises :class:`TrackingError` where the file is no longer at its place: SQLite would go on writing to
        one that nobody can find.
        """
        if identity_of(self._file) != self._identity:
            raise TrackingError(f"the database {self._file} was moved, removed or replaced")
        for write in writes:
            if write.run_id is None:
                progress.creating(write)
        refused: list[Refused] = []
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        try:
            ids = [self._write(write, refused) for write in writes]
            run("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                run("ROLLBACK")
            raise
        for item in refused:
            progress.refused(item)
        for write, run_id in zip(writes, ids, strict=True):
            progress.done(write, run_id)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _write(self, write: RunWrite, refused: list[Refused]) -> str:
        run_id = write.run_id
        tags: Iterable[tuple[str, str]] = write.tags.items()
        if run_id is None:
            run_id = self._create(write)
            tags = [*tags, ("mlflow.runName", write.name)]
        elif not self._is_active(run_id):
            refused.append(all_refused(write, run_id))
            return run_id
        elif write.params:
            tags = [*tags, *self._conflicts(run_id, write, refused)]
        many = self._database.executemany
        many(_TAG, [(key, value, run_id) for key, value in tags])
        many(_PARAM, [(key, value, run_id) for key, value in write.params.items()])
        points = [(*point, run_id) for point in write.points]
        many(_POINT, points)
        many(_LATEST, points)
        if write.status is not None:
            self._database.execute(_STATUS, (write.status, write.end_time, run_id))
        return run_id

    def _create(self, write: RunWrite) -> str:
        run_id = uuid.uuid4().hex
        user = write.tags.get("mlflow.user", "unknown")
        root = f"{self._artifact_root}/{run_id}/artifacts"
        self._database.execute(
            _NEW_RUN, (run_id, write.name, user, write.start_time, root, self._experiment_id)
        )
        return run_id

    def _is_active(self, run_id: str) -> bool:
        query = "SELECT lifecycle_stage FROM runs WHERE run_uuid = ?"
        row = self._database.execute(query, (run_id,)).fetchone()
        if row is None:
            raise TrackingError(f"run {run_id} has vanished from the database; was it replaced?")
        return bool(row[0] == "active")

    def _conflicts(self, run_id: str, write: RunWrite, refused: list[Refused]) -> list[tuple[str, str]]:
        """A parameter that has another value already keeps it; a tag says so."""
        rows: Any = self._database.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,))
        there = dict(rows)
        wrong = [k for k, v in write.params.items() if there.get(k, v) != v]
        if not wrong:
            return []
        items = [
            Refused(write.number, f"parameter {k}", f"it was logged as {there[k]!r} before") for k in wrong
        ]
        refused.extend(items)
        return [(REFUSED, refused_text(items))]


def _has_known_tables(database: sqlite3.Connection) -> bool:
    for table, columns in _TABLES.items():
        found = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        if found != set(columns.split()):
            return False
    triggers = database.execute("SELECT tbl_name FROM sqlite_master WHERE type = 'trigger'")
    return not any(table in _TABLES for (table,) in triggers)
