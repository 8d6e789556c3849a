"""The local runner's worker processes as their driver sees them, and a crew of them that starts early."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from flows._importing import python_command
from flows.runners import _messages as m
from flows.runners._strays import Guard

_LINE_LIMIT = 64 * 2**20
_START = "from flows.runners._child import main; main(sys.argv)"


class ChildProcess:
    """One worker process, which loads the objective at once, and the line to it.

    ``objective``: packed by :func:`flows.runners._messages.pack`. ``environment``: what its own has and
    ours has not.
    """

    def __init__(self, objective: str, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        setup = {"path": sys.path, "cwd": str(Path.cwd()), "objective": objective}
        # What it prints before it has a study; with no name, it goes with whoever holds it.
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - it outlives this method
        with theirs, tempfile.TemporaryFile() as given:
            given.write(m.encode(setup))
            given.seek(0)
            self.process = subprocess.Popen(
                python_command(_START, theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=given,
                stdout=self._noise,
                stderr=self._noise,
                env={**_inherited(), **environment},
                start_new_session=True,  # its own group, to be killed as one
            )
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.problem = ""
        self.unheard = ""  # why it is not listened to any more

    async def open(self, tracking: Mapping[str, Any], output: Path) -> None:
        """Tell it of the study and wait until it is ready; ``problem`` says what is wrong.

        ``tracking``: see :class:`flows.runners._port.Work`. ``output``: the file that takes what it prints.
        """
        if self._reader is not None:
            return
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=_LINE_LIMIT)
        output.parent.mkdir(parents=True, exist_ok=True)
        self.send({"type": "study", "tracking": tracking, "output": str(output)})
        ready = await self.receive()
        noise = await asyncio.to_thread(self._heard)
        if noise:
            with output.open("ab") as sink:
                sink.write(noise)
        if ready is None:
            self.problem = f"a worker process ended before it was ready: {_tail(noise)}"
        else:
            self.problem = str(ready["problem"])

    def _heard(self) -> bytes:
        with self._noise as noise:
            # Where in the file it is, it shares with all that still writes to it.
            return os.pread(noise.fileno(), os.fstat(noise.fileno()).st_size, 0)

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message; a dead child is noticed by :meth:`receive`."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(m.encode(message))

    def answer(self, job: m.Job, run_id: str) -> None:
        """The job has asked for the id of its run; a later one that has asked as well waits for its own."""
        self.send({"type": "run_id", "run_id": run_id, "trial": job.trial, "attempt": job.attempt})

    async def receive(self) -> dict[str, Any] | None:
        """The next message, or ``None`` when the child is gone, or has said something that is none."""
        assert self._reader is not None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                line = await self._reader.readline()
                if line.endswith(b"\n"):
                    return m.decode(line)
            except ValueError as error:
                self.unheard = f"what its process said cannot be read: {error}"
        return None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    async def kill(self) -> str:
        """End the process and all it started; returns how it had ended, for people."""
        code = await asyncio.to_thread(self._killed)
        if self._writer is not None:
            self._writer.close()
        return _died(code)

    def abandon(self) -> None:
        """:meth:`kill` without a loop, for one that was never opened."""
        self._killed()

    def _killed(self) -> int:
        self.end()
        code = self.process.wait()
        self._noise.close()
        if self._writer is None:
            self._socket.close()
        return code

    def end(self) -> None:
        """SIGKILL to its group and to what it started outside of it, whatever they are doing."""
        started: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            started = psutil.Process(self.process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in started:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def memory(self) -> int:
        """Resident bytes of the process and all it started."""
        total = 0
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self.process.pid)
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
        return total


class Crew:
    """Worker processes that load an objective while there is no study yet for them to work on.

    A runner takes them with :meth:`join`; who made the crew calls :meth:`end`, for those that none has taken.
    """

    def __init__(self, objective: str, environment: Mapping[str, str], size: int) -> None:
        self.objective = objective
        self._guard: Guard | None = Guard()
        marked = {**environment, **self._guard.marks}
        self._children: list[ChildProcess] = []
        try:
            for _ in range(size):
                self._children.append(ChildProcess(objective, marked))
        except BaseException:
            self.end()
            raise

    def join(self, slots: int) -> tuple[list[ChildProcess | None], Guard | None]:
        """A process for each slot, as far as there are, and the guard of what they start."""
        taken, self._children = self._children[:slots], self._children[slots:]
        guard, self._guard = self._guard, None
        return [*taken, *[None] * (slots - len(taken))], guard

    def end(self) -> None:
        """End those that nobody has taken. Calling it twice is harmless."""
        for child in self._children:
            child.abandon()
        self._children = []
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None


def _inherited() -> dict[str, str]:
    """This process's environment without what belongs to its own MLflow run."""
    return {k: v for k, v in os.environ.items() if k != "MLFLOW_RUN_ID"}


def _died(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _tail(noise: bytes) -> str:
    lines = noise.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it printed nothing"
