"""A Dask cluster whose scheduler and workers are processes that can be killed one by one."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults.harness import ROOT, free_port, wait_until


class Cluster:
    """A scheduler and workers, each a process of its own, at ``host``; ``inside`` begins their commands."""

    def __init__(
        self, folder: Path, trace: Path, *, host: str = "127.0.0.1", inside: Sequence[str] = ()
    ) -> None:
        self._folder, self._trace = folder, trace
        self._log = folder / "cluster.log"
        self._numbers = itertools.count()
        self.port = free_port()
        self.address = f"tcp://{host}:{self.port}"
        self._host, self._inside = host, inside
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as sink:
            return subprocess.Popen(
                [*self._inside, sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]],
                cwd=ROOT,
                env={**os.environ, "HPO_TEST_TRACE": str(self._trace), "PYTHONPATH": str(ROOT)},
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def start_scheduler(self) -> None:
        """On the same port each time."""
        host = ("--host", self._host, "--port", str(self.port), "--dashboard-address", "127.0.0.1:0")
        self.scheduler = self._start("dask_scheduler", *host)

    def kill_scheduler(self) -> None:
        """Workers leave when their scheduler is gone; whoever keeps a cluster starts new ones."""
        assert self.scheduler is not None
        self.scheduler.kill()
        for process in (self.scheduler, *self.workers):
            process.wait()
        self.workers.clear()

    def restart(self) -> None:
        """A scheduler at the same address, and two workers that have joined: without any no study begins."""
        self.start_scheduler()
        self.add_workers(2)

    def _joined(self) -> int:
        """How many workers have said so, those that are gone included."""
        return self._log.read_bytes().count(b"Registered to:") if self._log.exists() else 0

    def add_workers(self, count: int) -> None:
        """One thread each, no nanny: a dead worker stays dead.

        They have joined then: one that never knew a scheduler does not leave when that is killed.
        """
        before = self._joined()
        for _ in range(count):
            local = str(self._folder / f"worker-{next(self._numbers)}")
            flags = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", local)
            self.workers.append(self._start("dask_worker", self.address, *flags))
        wait_until(lambda: self._joined() == before + count, "the workers to join their scheduler")

    def kill_worker(self, number: int) -> None:
        """Its segment is lost with it."""
        process = self.workers.pop(number % len(self.workers))
        process.kill()
        process.wait()

    def close(self) -> None:
        """Kill what runs."""
        for process in [self.scheduler, *self.workers]:
            if process is not None:
                process.kill()
                process.wait()
