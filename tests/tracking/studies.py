"""Studies written to a journal without running anything: what the tests of the projector read."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
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
        repeats: int = 1,
        constraints: Sequence[str] = (),
        confirms: Script | None = None,
        strategy: Any = "random",
    ) -> None:
        self.folder = folder
        self.at = at
        self.journal = Journal(folder / "journal.jsonl")
        self.study = Study(
            SPACE if space is None else space,
            objectives or {"loss": "min"},
            strategy,
            0,
            name=name,
            limits={"trials": trials},
            settings={"outcome_constraints": constraints, **({"max_steps": repeats} if repeats > 1 else {})},
            meta={
                "made_with": {"python": "3.11.7"},
                **({"step_unit": "repeat"} if repeats > 1 else {}),
                **({} if confirms is None else {"confirms": _names(confirms)}),
            },
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
        self.study.execution.finish(trial, value, state=state, reason=reason, now=self.now())

    def run(self, value: float, steps: int = 0) -> int:
        """A whole trial, reporting a falling loss."""
        trial = self.begin()
        for step in range(1, steps + 1):
            self.report(trial, step, loss=value + steps - step)
        self.finish(trial, value)
        return trial

    def repeat(self, values: Sequence[float], state: str = "complete") -> int:
        """A trial with as many seeds as there are values, as `tune(repeats=...)` reports it."""
        trial, mean = self.begin(), {}
        for i, value in enumerate(values, start=1):
            mean = {"loss": statistics.fmean(values[:i])}
            mean |= {"loss_std": statistics.stdev(values[:i])} if i > 1 else {}
            self.report(trial, i, **mean, loss_fold=value)
        self.finish(trial, mean if state == "complete" else None, state=state)
        return trial

    def confirmed(self, by: Script, sentence: str) -> None:
        """Note in both studies what fresh seeds said of the best trial, as `hpo confirm` does."""
        data = {"study": by.study.name, "sentence": sentence, "trials": [{"trial": self.study.best.number}]}
        tags = {"hpo.confirmation": sentence}
        tags["hpo.confirmed_by"] = json.dumps({**_names(by), "winner": self.study.best.number})
        self.study.note("confirmation", data, now=self.now())
        self.study.note("tags", {"tags": tags}, now=self.now())
        by.study.note("verdict", {"study": self.study.name, "sentence": sentence}, now=by.now())
        by.study.note("tags", {"tags": {"hpo.verdict": sentence}}, now=by.now())

    def stop(self, state: str = "finished", reason: str = "done") -> None:
        """End the study."""
        self.study.stop(state, reason, now=self.now())

    def close(self) -> int:
        """Close the journal; returns the number of events."""
        self.journal.close()
        return sum(1 for _ in read_journal(self.journal.path))


def _names(script: Script) -> dict[str, str]:
    return {"study": script.study.name, "study_id": script.study.created.study_id}


def eventful(folder: Path) -> Script:
    """A study in which everything happens that a projection can show."""
    script = Script(folder)
    script.run(0.5, steps=3)
    first, second = script.begin(), script.begin()
    script.report(first, 1, loss=0.9, accuracy=0.4)
    script.study.execution.lost(second, "the worker died", now=script.now())
    script.report(first, 2, loss=0.8)
    script.finish(first, state="pruned", reason="below the median")
    due = script.study.execution.next(script.now())
    script.study.execution.started(due, worker="other", now=script.now())  # type: ignore[arg-type]
    script.finish(second, {"loss": 0.25, "extra": 7.0})
    for state in ("failed", "infeasible", "timed_out", "out_of_memory", "cancelled"):
        script.finish(script.begin(), state=state, reason=f"it was {state}")
    nan = script.begin()
    script.report(nan, 1, loss=float("nan"))
    script.finish(nan, float("inf"))
    again = script.begin()
    script.finish(again, state="failed", reason="once")
    script.study.requeue(again, now=script.now())
    due = script.study.execution.next(script.now())
    script.study.execution.started(due, now=script.now())  # type: ignore[arg-type]
    script.finish(again, 0.75)
    script.study.note("tags", {"trial": again, "tags": {"prefect.task_run": "abc"}}, now=script.now())
    script.stop()
    return script
