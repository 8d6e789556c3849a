"""SQLite as a tracking store on this machine: write-ahead log, fewer syncs, a busy timeout.

MLflow leaves SQLite in its slowest mode, a sync of the disk per transaction and several transactions
per trial. With a write-ahead log and ``synchronous=NORMAL`` a killed process loses nothing; a power
cut may lose the last transactions, which the projector writes again, and damages nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpo_core import InputError

# A write-ahead log needs shared memory, which file systems over a network do not have; the locks that
# SQLite takes without one are not kept there by all machines.
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "lustre", "beegfs", "ceph"})
_BUSY_MS = 20_000
# How long a process that is setting up a database is waited for, and how often is looked.
_ALONE_SECONDS, _LOOK_SECONDS = 60.0, 0.1
# What a process gets to hear while another one is setting up the same database.
_HALF_MADE = (
    "already exists",
    "no such table",
    "no such column",
    "no such index",
    "duplicate column",
    "database is locked",
    "out-of-date database schema",
)
_prepared: set[Path] = set()


def database_file(uri: str) -> Path | None:
    """The file of a ``sqlite:///`` URI, absolute; ``None`` for any other URI and for memory."""
    if not uri.startswith("sqlite:"):
        return None
    database: str | None = uri.removeprefix("sqlite:///")
    if database == uri or "?" in uri or "%" in uri:
        # To load it takes a while; a plain path needs none.
        from sqlalchemy.engine import make_url

        database = make_url(uri).database
    if not database or database == ":memory:" or database.startswith("file:"):
        return None
    return Path(database).absolute()


def database_uri(path: Path, scheme: str = "sqlite") -> str:
    """The URI of which :func:`database_file` is the path."""
    text = str(path)
    if ("%" in text or "?" in text) and _decodes():
        text = urllib.parse.quote(text)
    elif "?" in text:
        raise InputError(
            "expected a path without ? for a database file, as SQLAlchemy takes that for the path's end, got "
            f"{text}; take another folder, or the address of an MLflow server"
        )
    return f"{scheme}:///{text}"


def default_uri(mlflows: str) -> str:
    """MLflow's own default, whose path it writes as URLs do, whether SQLAlchemy reads it so or not."""
    path = mlflows.removeprefix("sqlite:///")
    return mlflows if path == mlflows else database_uri(Path(urllib.parse.unquote(path)))


@functools.cache
def _decodes() -> bool:
    """Whether SQLAlchemy reads a path as URLs write it: 2.1 does, and before a % was a %, and a ? the end."""
    from sqlalchemy.engine import make_url

    return make_url("sqlite:///%41").database == "A"


def network_of(path: Path) -> str:
    """The kind of network file system that the file is on, or would be; empty on a disk of this machine."""
    kind = _file_system(path.resolve().parent)
    return kind if kind in _NETWORK else ""


def identity_of(file: Path) -> tuple[int, int] | None:
    """Which file is at that place; ``None`` for none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes of ours from opening a database in the same folder meanwhile.

    MLflow sets up a new database in many steps, and two processes that do so at once end each other's. The
    lock is the folder's, so no file is left behind. One that is held for a minute is ignored.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    deadline = time.monotonic() + _ALONE_SECONDS
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(folder)


def is_half_made(error: BaseException) -> bool:
    """Whether this may be an answer of a database that somebody is setting up just now."""
    return any(words in str(error) for words in _HALF_MADE)


def prepare_sqlite(path: Path) -> None:
    """Switch the file, which may not exist yet, to a write-ahead log, and this process to fewer syncs."""
    if network_of(path):
        return
    # Another process may be writing: then the file stays as it is until the next time.
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(path, timeout=_BUSY_MS / 1000)) as database,
    ):
        database.execute("PRAGMA journal_mode=WAL")
    if not _prepared:
        import sqlalchemy

        sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", _on_connect)
    _prepared.add(path.resolve())


def _on_connect(connection: Any, _: Any) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    if not file or Path(file).resolve() not in _prepared:
        return
    # Only with a write-ahead log: with the ordinary one, NORMAL could damage the file in a power cut.
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        connection.execute("PRAGMA synchronous=NORMAL")


def _file_system(folder: Path) -> str:
    import psutil

    best, kind = "", ""
    for part in psutil.disk_partitions(all=True):
        inside = folder == Path(part.mountpoint) or Path(part.mountpoint) in folder.parents
        if inside and len(part.mountpoint) > len(best):
            best, kind = part.mountpoint, part.fstype
    return kind
