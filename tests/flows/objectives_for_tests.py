"""Objectives that runner and driver tests send to worker processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from hpo_core import Infeasible, TrialPruned


def square(trial: Any) -> float:
    """The smallest objective there is."""
    return float(trial.params["x"]) ** 2


def stepper(trial: Any) -> float:
    """Reports nine steps and saves at each."""
    total = 0.0 if trial.checkpoint is None else float(trial.checkpoint.load().decode())
    for step in trial.steps(9):
        total += trial.params["x"]
        trial.save(step, repr(total).encode())
        trial.report(step, loss=total)
    return total


def card(trial: Any) -> int:
    """The one card that the process sees."""
    return int(os.environ["CUDA_VISIBLE_DEVICES"])


def raises(trial: Any) -> float:
    """A bug in the user's code."""
    raise ValueError("this is\nthe reason")


def exits(trial: Any) -> float:
    """Calls sys.exit, as a script turned objective may."""
    sys.exit(3)


def infeasible(trial: Any) -> float:
    """Cannot be evaluated."""
    raise Infeasible("too wide")


def prunes(trial: Any) -> float:
    """Ends itself."""
    trial.report(1, loss=1.0)
    raise TrialPruned("hopeless")


def long_winded(trial: Any) -> float:
    """In its first trial it says more at once than a driver listens to."""
    if not trial.number:
        trial.report(1, {f"metric-{n}": 1.0 for n in range(2000)})
    return 1.0


def words(trial: Any) -> Any:
    """Returns no number."""
    return "good"


def not_a_number(trial: Any) -> float:
    """Diverged."""
    return float("nan")


def dies(trial: Any) -> float:
    """Is killed from outside, as by a pre-emption."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def gives_up_asking(trial: Any) -> float:
    """Whether the run's id was this trial's; trial 0 is interrupted while it waits for one."""

    def interrupt(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGUSR1, interrupt)
    Path(trial.params["file"]).write_text(f"{os.getpid()}")
    return float(trial._channel.ask_run_id() == f"run-of-{trial.number}")


def crashes(trial: Any) -> float:
    """Takes the interpreter down."""
    os.abort()


def hangs(trial: Any) -> float:
    """Never ends, and has a child process that never ends either."""
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ)
    Path(trial.params["file"]).write_text(f"{os.getpid()} {pid}")
    trial.report(1, loss=1.0)
    threading.Event().wait()
    return 0.0


def swells(trial: Any) -> float:
    """Takes memory until it is stopped."""
    held = []
    while True:
        held.append(bytearray(16 * 2**20))
    return float(len(held))


def waits_for_stop(trial: Any) -> float:
    """Trains until the study says stop."""
    for step in trial.steps(10**9):
        trial.report(step, loss=float(step))
    return 0.0


def saves_until_told(trial: Any) -> float:
    """Trains, and saves what it has, until the study says anything."""
    for step in trial.steps(10**9):
        trial.save(step, b"")
        trial.report(step, loss=0.0)
    return 0.0


def prints_signs(trial: Any) -> float:
    """What not every terminal can write, and what none can."""
    print("grün 日本 \ud800")
    return 0.0


def prints(trial: Any) -> float:
    """Talks."""
    print("hello from the objective")
    print("and to stderr", file=sys.stderr)
    return 1.0


def discovers(trial: Any) -> float:
    """Define-by-run with a condition."""
    x = trial.suggest_float("x", 0.0, 1.0)
    if trial.suggest_categorical("kind", ["plain", "deep"]) == "deep":
        x += trial.suggest_int("depth", 1, 4)
    return float(x)


class Prepared:
    """An objective that has something to load, and says where it did."""

    loaded_in = 0

    def warm_up(self) -> None:
        """What takes long."""
        print("loading the table")
        self.loaded_in = os.getpid()

    def __call__(self, trial: Any) -> dict[str, float]:
        """Where it was loaded, and where it ran."""
        return {"loaded_in": float(self.loaded_in), "run_in": float(os.getpid())}
