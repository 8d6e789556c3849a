"""Objectives that the fault suite's studies run in worker processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hpo_core import Float

SPACE = {"x": Float(0.0, 1.0)}


def work(trial: Any) -> float:
    """Six steps of a little work each; leaves its process id, and a line for every step it trained.

    ``HPO_TEST_TRACE`` names the folder that takes the traces.
    """
    trace = Path(os.environ["HPO_TEST_TRACE"])
    (trace / f"pid-{trial.number}-{trial.attempt}").write_text(str(os.getpid()))
    total = 0.0 if trial.checkpoint is None else float(trial.checkpoint.load().decode())
    for step in trial.steps(6):
        time.sleep(0.05)  # the training itself: long enough to be killed in
        total += trial.params["x"] * step
        trial.save(step, repr(total).encode())
        trial.report(step, loss=total)
        with (trace / f"steps-{trial.number}").open("a") as file:
            file.write(f"{trial.attempt} {step}\n")
    return total
