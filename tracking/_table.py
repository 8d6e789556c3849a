"""All trials as one table: an artifact of the study's run that opens in MLflow's pages and in any tool."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tracking._trial_view import TrialView

FILE = "trials.csv"


def write_table(path: Path, trials: Iterable[TrialView], objectives: Iterable[str]) -> None:
    """One row a trial: number, state, objectives, times, its run, and every parameter that any trial has.

    Times are UTC in ISO 8601 with milliseconds; a parameter that a trial does not have is empty.
    """
    trials, objectives = list(trials), list(objectives)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    fixed = ["trial", "state", *objectives, "step", "attempt", "start", "end", "run_id"]
    # A parameter may have the name of a column of ours.
    header = fixed + [f"params.{name}" if name in fixed else name for name in names]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for trial in trials:
            writer.writerow(
                [
                    trial.number,
                    trial.state,
                    *(trial.values.get(name, "") for name in objectives),
                    trial.step,
                    trial.attempt,
                    *(_time(at) for at in trial.times),
                    trial.run_id or "",
                    *(_cell(trial.params.get(name, "")) for name in names),
                ]
            )


def _time(milliseconds: int) -> str:
    if not milliseconds:
        return ""
    at = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return at.isoformat(timespec="milliseconds")


def _cell(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
