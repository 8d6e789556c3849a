"""Studies written to a journal without running anything: what the tests of the projector read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo_core import Categorical, Float, Int, Journal, Study
from hpo_core._journal import read_journal

SPACE = {"lr": Float(1e-4, 1e-1, log=True), "depth": Int(1, 9), "kind": Categorical(["a", "b"])}
START = 1_700_000_000.0


class Script:
    """A study whose every step is a call; its clock advances by a second at each."""

    def __init__(
        self,
        folder: Path,
        *,
        space: Any = None,
        objectives: Mapping[str, str] | None = None,
        name: str = "toy",
        trials: int = 100,
        at: float = START,
    ) -> None:
        self.folder = folder
        self.at = at
        self.journal = Journal(folder / "journal.jsonl")
        self.study = Study(
            SPACE if space is None else space,
            objectives or {"loss": "min"},
            "random",
            0,
            name=name,
            limits={"trials": trials},
            meta={"made_with": {"python": "3.11.7"}},
            journal=self.journal,
            now=at,
        )

    def now(self) -> float:
        """A second later."""
        self.at += 1.0
        return self.at

    def begin(self) -> int:
        """Ask for a trial and start it; returns its number."""
        return self.study.ask(now=self.now()).number

    def report(self, trial: int, step: int, **metrics: float) -> None:
        """Metrics of a running trial."""
        self.study.report(trial, step, metrics, now=self.now())

    def finish(self, trial: int, value: Any = None, state: str = "complete", reason: str = "") -> None:
        """End a trial."""
        self.study.finish(trial, value, state=state, reason=reason, now=self.now())

    def run(self, value: float, steps: int = 0) -> int:
        """A whole trial, reporting a falling loss."""
        trial = self.begin()
        for step in range(1, steps + 1):
            self.report(trial, step, loss=value + steps - step)
        self.finish(trial, value)
        return trial

    def stop(self, state: str = "finished", reason: str = "done") -> None:
        """End the study."""
        self.study.stop(state, reason, now=self.now())

    def close(self) -> int:
        """Close the journal; returns the number of events."""
        self.journal.close()
        return sum(1 for _ in read_journal(self.journal.path))


def eventful(folder: Path) -> Script:
    """A study in which everything happens that a projection can show."""
    script = Script(folder)
    script.run(0.5, steps=3)
    first, second = script.begin(), script.begin()
    script.report(first, 1, loss=0.9, accuracy=0.4)
    script.study.lost(second, "the worker died", now=script.now())
    script.report(first, 2, loss=0.8)
    script.finish(first, state="pruned", reason="below the median")
    due = script.study.next(script.now())
    script.study.started(due, worker="other", now=script.now())  # type: ignore[arg-type]
    script.finish(second, {"loss": 0.25, "extra": 7.0})
    for state in ("failed", "infeasible", "timed_out", "out_of_memory", "cancelled"):
        script.finish(script.begin(), state=state, reason=f"it was {state}")
    nan = script.begin()
    script.report(nan, 1, loss=float("nan"))
    script.finish(nan, float("inf"))
    again = script.begin()
    script.finish(again, state="failed", reason="once")
    script.study.requeue(again, now=script.now())
    due = script.study.next(script.now())
    script.study.started(due, now=script.now())  # type: ignore[arg-type]
    script.finish(again, 0.75)
    script.study.note("tags", {"trial": again, "tags": {"prefect.task_run": "abc"}}, now=script.now())
    script.stop()
    return script
