"""Objectives that the fault suite's studies run in worker processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from hpo_core import Float

SPACE = {"x": Float(0.0, 1.0)}
STEPS = 6


def hold(trace: Path, number: int, step: int) -> None:
    """Make trial ``number`` wait at a step, and later trials before their first one, until released."""
    (trace / "hold.new").write_text(f"{number} {step}")
    (trace / "hold.new").replace(trace / "hold")


def release(trace: Path) -> None:
    """Let all trials begin."""
    (trace / "hold").unlink(missing_ok=True)


def _wait_while_held(trace: Path, number: int, done: int) -> None:
    if "HPO_TEST_DEAF" in os.environ:
        _hear_nothing(trace, number, done)
    with contextlib.suppress(FileNotFoundError):
        while (number, done) >= tuple(map(int, (trace / "hold").read_text().split())):
            time.sleep(0.01)  # between two looks


def _hear_nothing(trace: Path, number: int, done: int) -> None:
    """Where the trial would wait, it ignores every signal: odd ones compute, even ones sleep in C code, which
    lets no other thread run. Each has started a process in a session of its own.
    """
    try:
        held = (number, done) >= tuple(map(int, (trace / "hold").read_text().split()))
    except FileNotFoundError:
        return
    if held:
        for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        other = subprocess.Popen(["sleep", "600"], start_new_session=True)
        (trace / f"pid-{number}-other").write_text(str(other.pid))
        if number % 2 == 0:
            ctypes.PyDLL(None).sleep(600)
        while True:
            pass


def work(trial: Any) -> float:
    """Six steps of a little work each; leaves its process id, and a line for every step it trained.

    ``HPO_TEST_TRACE`` names the folder that takes the traces, ``HPO_TEST_STEP`` the seconds of a step. With
    ``HPO_TEST_DEAF`` a trial that is held can only be killed.
    """
    trace = Path(os.environ["HPO_TEST_TRACE"])
    (trace / f"pid-{trial.number}-{trial.attempt}").write_text(str(os.getpid()))
    total = 0.0 if trial.checkpoint is None else float(trial.checkpoint.load().decode())
    for step in trial.steps(STEPS):
        _wait_while_held(trace, trial.number, step - 1)
        time.sleep(
            float(os.environ.get("HPO_TEST_STEP", "0.03"))
        )  # the training: long enough to be killed in
        total += trial.params["x"] * step
        # First of all: killed behind the checkpoint, the trial goes on there, and its step would be missing.
        with (trace / f"steps-{trial.number}").open("a") as file:
            file.write(f"{trial.attempt} {step}\n")
        trial.save(step, repr(total).encode())
        trial.report(step, loss=total)
    return total


work.space = SPACE  # type: ignore[attr-defined]
