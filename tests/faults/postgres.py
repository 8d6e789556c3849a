"""A PostgreSQL server of the suite's own, made by the binaries of the distribution's package."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from flows._embedded import free_port

# PostgreSQL refuses to run as root; its package brings this user.
_USER = "postgres"


def binaries() -> Path | None:
    """Where ``initdb`` and its like are, the newest version of them; Debian keeps them off the path."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).parent)
    return max(found, key=lambda path: [int(part) for part in path.parts if part.isdigit()], default=None)


class Postgres:
    """A server on a port of the loopback interface; its data outlives its processes."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.port = free_port()
        # Not below pytest's folder, which other users may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="hpo-postgres-"))
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._run("initdb", "--pgdata", self._data, "--username", _USER, "--auth", "trust", "--no-sync")
        with (self._folder / "data" / "postgresql.conf").open("a") as file:
            file.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n"
                f"unix_socket_directories = '{self._folder}'\n"
            )

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        as_user = ["runuser", "-u", _USER, "--"] if os.geteuid() == 0 else []
        subprocess.run(
            [*as_user, str(self._programs / program), *arguments],
            check=True,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "--wait", "--silent", "--pgdata", self._data, "--log", log)

    def stop(self, mode: str = "immediate") -> None:
        """``immediate``: as a crash would, with every connection cut and recovery at the next start."""
        self._run("pg_ctl", "stop", "--silent", "--mode", mode, "--pgdata", self._data)

    def read_only(self, whether: bool) -> None:
        """Take no writes from now on, as some hosts do when a disk is nearly full, or take them again."""
        with (self._folder / "data" / "postgresql.conf").open("a") as file:
            file.write(f"default_transaction_read_only = {'on' if whether else 'off'}\n")
        self._run("pg_ctl", "reload", "--silent", "--pgdata", self._data)

    def database(self, name: str) -> str:
        """Make an empty database; returns its URL without a scheme."""
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--username", _USER)
        self._run("createdb", *where, name)
        return f"{_USER}@127.0.0.1:{self.port}/{name}"

    def remove(self) -> None:
        """End it and delete its data."""
        if (self._folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)
