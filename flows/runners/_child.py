"""A worker process: ``python -m flows.runners._child FD``. Warm, spawned, one segment at a time.

It loads the objective that standard input names, is told by the socket ``FD`` of the study, reads jobs from
there and writes reports and outcomes to it. It dies with its driver:
when the socket closes, its whole process group is killed, whatever the objective is doing. On Linux the
kernel ends even a process that sits in C code and lets no other thread run. What a segment of some
length came to is left in the study's folder first, for a driver that comes later.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
import os
import queue
import signal
import socket
import sys
import threading
import time
from typing import Any, BinaryIO

from flows._execute import Objective, execute
from flows._late import WORTH_SECONDS, leave
from flows._streams import write_anything
from flows._trial import Signals, checked_run_id
from flows.runners import _messages as m
from flows.runners._port import Message, RunIdWanted, data_of
from tracking import uncollected

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class SocketChannel:
    """The line to the driver; several threads may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.said: list[Message] = []
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def send(self, message: Message) -> None:
        """What the trial has to say; it stays in ``said``."""
        with self._lock:
            self.said.append(message)
            self._connection.sendall(m.encode(data_of(message)))

    def write(self, data: dict[str, Any]) -> None:
        """Write one line of the worker's own; a driver that is gone is noticed elsewhere."""
        with self._lock:
            self._connection.sendall(m.encode(data))

    def begin(self) -> None:
        """Another job comes, which gets no answer to what the one before it has asked."""
        before, self._answers = self._answers, queue.SimpleQueue()
        before.put("")

    def ask_run_id(self) -> str:
        """Ask the driver and wait."""
        answers = self._answers
        self.write(data_of(RunIdWanted(self.answer)))
        return checked_run_id(answers.get())

    def answer(self, run_id: str) -> None:
        """The driver's answer has come."""
        self._answers.put(run_id)


def main(argv: list[str]) -> None:
    """Serve jobs until the driver closes the line."""
    _die_with_parent()
    own = os.getpid()
    connection = socket.socket(fileno=int(argv[1]))
    os.set_inheritable(connection.fileno(), False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    stream = connection.makefile("rb")
    channel = SocketChannel(connection)
    setup = _setup()
    # To a file that MLflow shows as UTF-8, whatever terminal the study was started from.
    write_anything("utf-8")
    sys.path[:] = setup["path"]
    os.chdir(setup["cwd"])
    with uncollected():
        objective, problem = _objective(setup["objective"])
        gc.freeze()  # what it has loaded stays as long as the process does
    study = m.decode(stream.readline())
    _print_to(study["output"])
    active_run = _active_run(study["tracking"])
    channel.write({"type": "ready", "problem": problem})
    jobs: queue.SimpleQueue[tuple[m.Job, Signals]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(stream, channel, jobs), daemon=True).start()
    while True:
        job, signals = jobs.get()
        if objective is None:
            outcome = m.Outcome(kind=m.RAISED, reason=problem)
        else:
            channel.said.clear()
            began = time.monotonic()
            outcome = execute(objective, job, channel, signals, active_run, whole_process=True)
            if os.getpid() != own:
                os._exit(0)  # a fork of the objective's that came back: the trial is its parent's to end
            if time.monotonic() - began >= WORTH_SECONDS:
                leave(job, channel.said, outcome)
        for out in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                out.flush()
        done = {"trial": job.trial, "attempt": job.attempt, "outcome": outcome.to_json()}
        channel.write({"type": "done", **done})


def _die_with_parent() -> None:
    """A thread that reads the socket cannot run while the objective holds the interpreter."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _setup() -> dict[str, Any]:
    """What standard input holds, which from then on is empty: it is not the objective's."""
    with os.fdopen(os.dup(0), "rb") as given:
        setup = m.decode(given.readline())
    _point(os.devnull, os.O_RDONLY, 0)
    return setup


def _print_to(path: str) -> None:
    for out in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            out.flush()
    _point(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 1, 2)


def _point(path: str, flags: int, *descriptors: int) -> None:
    """Make the descriptors those of the file."""
    opened = os.open(path, flags, 0o666)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    os.close(opened)


def _objective(packed: str) -> tuple[Objective | None, str]:
    """The objective, with all it can load before its first trial, or what keeps it from being loaded."""
    try:
        objective = m.unpack(packed)
        warm_up = getattr(inspect.unwrap(objective), "warm_up", None)
        if warm_up is not None:
            warm_up()
        return objective, ""
    except Exception as error:  # noqa: BLE001 - whatever an import raises is the user's to read
        return None, f"the objective cannot be loaded in a worker process: {type(error).__name__}: {error}"


def _active_run(tracking: dict[str, Any]) -> Any:
    if not tracking:
        return None
    from tracking import TrialRunActivator

    return TrialRunActivator(**tracking)


def _listen(stream: BinaryIO, channel: SocketChannel, jobs: queue.SimpleQueue[tuple[m.Job, Signals]]) -> None:
    signals, job = Signals(), (-1, -1)
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            message = m.decode(line)
            match message.pop("type"):
                case "run":
                    signals, job = Signals(), (message["trial"], message["attempt"])
                    channel.begin()
                    jobs.put((m.Job(**message), signals))
                case "stop":
                    signals.stop.set()
                case "suspend":
                    signals.suspend.set()
                case "run_id" if (message["trial"], message["attempt"]) == job:
                    channel.answer(message["run_id"])
    # The driver is gone. Nothing may outlive it, not even what the objective started.
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv)
