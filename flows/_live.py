"""What a user sees of a running study: a live line on a terminal, plain lines elsewhere, and the end."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows._session import Session
from hpo_core import Study, TrialState

_PLAIN_SECONDS = 5.0
_LEADERS = 10
BAD = (TrialState.FAILED, TrialState.TIMED_OUT, TrialState.OUT_OF_MEMORY, TrialState.LOST)


class View(Protocol):
    """Follows a session and says how it ended."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def tell(self, line: str) -> None:
        """A line that stays."""

    def watch(self, current: Session) -> None:
        """The state of things, several times a second."""

    def conclude(self, result: Any) -> None:
        """Leaderboard, failures, final model, links."""


def make_view(*, quiet: bool = False) -> View:
    """A live view on a terminal, plain lines elsewhere; ``quiet`` keeps standard output free."""
    console = Console(stderr=quiet, highlight=False)
    if quiet:
        return _Lines(console, progress=False)
    return _Terminal(console) if console.is_terminal else _Lines(console, progress=True)


def progress_of(study: Study) -> dict[str, Any]:
    """Counts, best so far, seconds spent and an estimate of the seconds left."""
    history = study.history
    done = sum(history.count(s) for s in TrialState if s.finished)
    planned = history.max_trials
    best = study.best if history.count(TrialState.COMPLETE) else None
    spent = study.state.seconds_spent
    left = None
    if planned and done and spent:
        left = spent / done * max(planned - done, 0)
    if (seconds := study.state.limits.seconds) is not None:
        by_clock = max(seconds - spent, 0.0)
        left = by_clock if left is None else min(left, by_clock)
    return {
        "done": done,
        "planned": planned,
        "running": history.count(TrialState.RUNNING),
        "paused": history.count(TrialState.PAUSED),
        "failed": sum(history.count(s) for s in BAD),
        "best": None if best is None else dict(best.values),
        "best_trial": None if best is None else best.number,
        "spent": spent,
        "left": left,
    }


def duration(seconds: float | None) -> str:
    """``1 h 02 min``, ``3 min 05 s``, ``7 s``; a dash for unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def number(value: float) -> str:
    """Six significant digits."""
    return f"{value:.6g}"


def scores(values: dict[str, float]) -> str:
    """``auc 0.991``."""
    return ", ".join(f"{name} {number(value)}" for name, value in values.items())


def _line(study: Study) -> str:
    p = progress_of(study)
    planned = f"/{p['planned']}" if p["planned"] else ""
    parts = [f"{p['done']}{planned} done", f"{p['running']} running"]
    parts += [f"{p[k]} {k}" for k in ("paused", "failed") if p[k]]
    if p["best"]:
        parts.append(f"best {scores(p['best'])} (trial {p['best_trial']})")
    return "  ".join([*parts, f"ETA {duration(p['left'])}"])


class _Lines:
    """For pipes and logs: a line at the start, every few seconds, and at the end."""

    def __init__(self, console: Console, *, progress: bool) -> None:
        self._console = console
        self._progress = progress
        self._last = 0.0
        self._introduced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def tell(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def watch(self, current: Session) -> None:
        if not self._progress:
            return
        if not self._introduced:
            self._introduced = True
            for line in introduction(current):
                self.tell(line)
        if time.monotonic() - self._last >= _PLAIN_SECONDS:
            self._last = time.monotonic()
            self.tell(_line(current.study))

    def conclude(self, result: Any) -> None:
        conclude(self._console, result)


class _Terminal(_Lines):
    """A bar and the figures, refreshed in place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, progress=True)
        self._live = Live(console=console, refresh_per_second=5, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def watch(self, current: Session) -> None:
        if not self._introduced:
            self._introduced = True
            for line in introduction(current):
                self.tell(line)
        p = progress_of(current.study)
        rows: list[Any] = [Text(_line(current.study))]
        if p["planned"]:
            rows.append(ProgressBar(total=p["planned"], completed=p["done"], width=60))
        self._live.update(Group(*rows))


def introduction(current: Session) -> list[str]:
    """What is about to happen, in a line or two."""
    study = current.study
    verb = "resuming" if current.resumed else "starting"
    lines = [f"{verb} study {study.name}: {study.strategy.name}, {', '.join(study.objectives)}"]
    if url := current.tracker.parent_url:
        lines.append(f"MLflow run: {url}")
    return lines


def leaderboard(study: Study, most: int = _LEADERS) -> Table:
    """The best complete trials: score, seconds, configuration."""
    complete = [t for t in study.trials if t.state is TrialState.COMPLETE]
    sign = study.history.signs[0]
    first = next(iter(study.objectives))
    complete.sort(key=lambda t: sign * t.values[first])
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trial", justify="right", no_wrap=True, min_width=5)
    for objective in study.objectives:
        table.add_column(objective, justify="right", no_wrap=True, min_width=9)
    table.add_column("seconds", justify="right", no_wrap=True, min_width=7)
    table.add_column("configuration", no_wrap=True, overflow="ellipsis")
    for trial in complete[:most]:
        table.add_row(
            str(trial.number),
            *(number(trial.values[o]) for o in study.objectives),
            f"{trial.busy_seconds:.1f}",
            "  ".join(f"{name}={_short(value)}" for name, value in trial.params.items()),
        )
    return table


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def conclude(console: Console, result: Any) -> None:
    """The end of a session, for people."""
    study: Study = result.study
    counts = result.summary["counts"]
    told = ", ".join(f"{n} {label.replace('_', ' ')}" for label, n in counts.items())
    console.print(f"\nstudy {study.name}: {result.ended}", markup=False, soft_wrap=True)
    console.print(f"trials: {told or 'none'}", markup=False, soft_wrap=True)
    if counts.get("complete"):
        console.print()
        console.print(leaderboard(study))
        best = study.best
        console.print(f"\nbest: trial {best.number}, {scores(best.values)}", markup=False, soft_wrap=True)
    for reason, numbers in _failures(study).items():
        console.print(f"failed: {reason} (trials {numbers})", markup=False, soft_wrap=True)
    if result.scores:
        console.print(f"on rows that tuning never saw: {scores(result.scores)}", markup=False, soft_wrap=True)
    if result.model:
        console.print(f"model: {result.model}", markup=False, soft_wrap=True)
    if result.run_url:
        console.print(f"MLflow run: {result.run_url}", markup=False, soft_wrap=True)
    if result.ended in ("interrupted", "terminated"):
        console.print(f"resume with: hpo resume {study.name}", markup=False, soft_wrap=True)


def _failures(study: Study) -> dict[str, str]:
    """Reasons of failed trials, most frequent first, with the trials' numbers."""
    by_reason: dict[str, list[int]] = {}
    for trial in study.trials:
        if trial.state in BAD:
            by_reason.setdefault(f"{trial.state.label}: {trial.reason}"[:160], []).append(trial.number)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))[:3]
    return {
        reason: ", ".join(map(str, numbers[:8])) + ("..." if len(numbers) > 8 else "")
        for reason, numbers in ordered
    }
