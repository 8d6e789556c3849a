"""Objectives that the fault suite's studies run in worker processes."""

from __future__ import annotations

import contextlib
import os
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
    with contextlib.suppress(FileNotFoundError):
        while (number, done) >= tuple(map(int, (trace / "hold").read_text().split())):
            time.sleep(0.01)  # between two looks


def work(trial: Any) -> float:
    """Six steps of a little work each; leaves its process id, and a line for every step it trained.

    ``HPO_TEST_TRACE`` names the folder that takes the traces, ``HPO_TEST_STEP`` the seconds of a step.
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
        trial.save(step, repr(total).encode())
        trial.report(step, loss=total)
        with (trace / f"steps-{trial.number}").open("a") as file:
            file.write(f"{trial.attempt} {step}\n")
    return total


work.space = SPACE  # type: ignore[attr-defined]
