"""What a user sees of a running study: a live display on a terminal, plain lines elsewhere, and the end."""

from __future__ import annotations

import math
import re
import shlex
import textwrap
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hpo_core import Study, TrialRecord, TrialState
from hpo_core._result import leaders
from hpo_core._states import BAD
from hpo_core.folds import repeats_of, spread_of

if TYPE_CHECKING:
    from flows._result import Result
    from flows._session import Session

# Between two plain lines; longer as the study goes on, so that a log of hours stays readable.
_PLAIN_SECONDS, _PLAIN_SECONDS_MOST = 5.0, 60.0
_LEADERS = 10
_SCORES = 4
# Labels of lines that are commands and links.
_WHOLE = ("MLflow", "next")
_FAILURES = 3
_BAR = 30
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


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

    def conclude(self, result: Result) -> None:
        """Leaderboard, failures, final model, links."""


def make_console(**options: Any) -> Console:
    """For texts that users, objectives and other people's studies have written: no markup is read in them."""
    return Console(markup=False, highlight=False, **options)


def printable(text: str) -> str:
    """``text`` with escapes for what would steer a terminal: control characters, changes of direction."""
    return _STEERING.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def make_view(*, quiet: bool = False) -> View:
    """A live view on a terminal, plain lines elsewhere; ``quiet`` leaves standard output to others."""
    # In a notebook too: a display that is redrawn there would need ipywidgets.
    console = make_console(stderr=quiet, force_jupyter=False)
    if quiet:
        return _Lines(console, progress=False)
    return _Terminal(console) if console.is_terminal else _Lines(console, progress=True)


class _Lines:
    """For pipes and logs: a line at the start, every few seconds, and at the end."""

    def __init__(self, console: Console, *, progress: bool) -> None:
        self._console = console
        self._progress = progress
        self._began = self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def tell(self, line: str) -> None:
        _say(self._console, line)

    def watch(self, current: Session) -> None:
        if not self._progress or current.study.stopped is not None:
            return
        now = time.monotonic()
        if not self._began:
            self._began = self._last = now
            self.tell(introduction(current))
        every = min(max((now - self._began) / 20, _PLAIN_SECONDS), _PLAIN_SECONDS_MOST)
        if now - self._last >= every:
            self._last = now
            self.tell("  ".join(_standing(current.study)))

    def conclude(self, result: Result) -> None:
        conclude(self._console, result)


class _Terminal:
    """A bar and the figures, refreshed in place below the lines that stay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._introduced = False
        spinner = Spinner("dots", "starting ...")
        self._live = Live(spinner, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tell(self, line: str) -> None:
        _say(self._console, line)

    def watch(self, current: Session) -> None:
        if current.study.stopped is not None:
            self._live.update(Spinner("dots", "finishing ..."))
            return
        if not self._introduced:
            self._introduced = True
            self.tell(introduction(current))
        self._live.update(Group(*_rows(current.study)))

    def conclude(self, result: Result) -> None:
        conclude(self._console, result)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


# -- the figures -------------------------------------------------------------------------------


def progress_of(study: Study) -> dict[str, Any]:
    """Counts, best so far, seconds spent and an estimate of the seconds left."""
    history = study.history
    done = sum(history.count(s) for s in TrialState if s.finished)
    planned = history.planned
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
    """``auc 0.991, f1 0.95``."""
    return printable(", ".join(f"{name} {number(value)}" for name, value in values.items()))


def counted(study: Study) -> str:
    """``28 complete, 2 failed``."""
    counts = {s.label: study.history.count(s) for s in TrialState}
    return ", ".join(f"{n} {label.replace('_', ' ')}" for label, n in counts.items() if n) or "no trial yet"


def introduction(current: Session) -> str:
    """What is about to happen, in a line."""
    study = current.study
    aims = ", ".join(f"{_AIM[d]} {name}" for name, d in study.objectives.items())
    p = progress_of(study)
    planned = p["planned"]
    if current.resumed:
        return (
            f"resuming study {study.name}: {p['done']}{f' of {planned}' if planned else ''} trials are done"
        )
    many = f", {planned} trials" if planned else ""
    workers, repeats = study.state.settings.workers, repeats_of(study)
    each = f", each with {repeats} seeds" if repeats > 1 else ""
    at_once = f", {workers} at once" if workers > 1 else ""
    return f"study {study.name}: {aims} by {study.strategy.name}{many}{each}{at_once}"


_AIM = {"min": "minimise", "max": "maximise"}


def _standing(study: Study) -> list[str]:
    p = progress_of(study)
    planned = f"/{p['planned']}" if p["planned"] else ""
    parts = [f"{p['done']}{planned} done", f"{p['running']} running"]
    parts += [f"{p[k]} {k}" for k in ("paused", "failed") if p[k]]
    if p["left"] is not None:
        parts.append(f"{duration(p['left'])} left")
    if p["best"]:
        parts.append(_best(study))
    return parts


def _best(study: Study) -> str:
    if len(study.objectives) > 1:
        return f"{len(study.pareto_front)} on the Pareto front"
    best = study.best
    return f"best {scores(best.values)} (trial {best.number})"


def _rows(study: Study) -> list[RenderableType]:
    """The live display: a bar and counts, then the best so far."""
    p = progress_of(study)
    parts = _standing(study)
    rows: list[RenderableType] = []
    best = parts.pop() if p["best"] else ""
    first = Table.grid(padding=(0, 1))
    cells: list[RenderableType] = [Text("  ".join(parts), no_wrap=True, overflow="ellipsis")]
    if p["planned"]:
        cells.insert(0, ProgressBar(total=p["planned"], completed=p["done"], width=_BAR))
    first.add_row(*cells)
    rows.append(first)
    if best:
        params = "" if len(study.objectives) > 1 else f"  {configuration(study.best)}"
        rows.append(Text(f"{best}{params}", no_wrap=True, overflow="ellipsis"))
    return rows


# -- tables ------------------------------------------------------------------------------------


def leaderboard(study: Study) -> Table:
    """The leaders: score, seconds, configuration, as wide as the console."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("trial", justify="right", no_wrap=True)
    for objective in study.objectives:
        table.add_column(printable(objective), justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("configuration", no_wrap=True, overflow="ellipsis", ratio=1)
    for place, leader in enumerate(leaders(study.history)[:_LEADERS].tolist()):
        trial = study.trials[leader]
        table.add_row(
            str(trial.number),
            *(_with_spread(study, trial, o) for o in study.objectives),
            f"{trial.busy_seconds:.1f}",
            configuration(trial),
            style="bold" if place == 0 and len(study.objectives) == 1 else None,
        )
    return table


def _with_spread(study: Study, trial: TrialRecord, objective: str) -> str:
    """``0.135 ± 0.02``: the result, and the standard deviation of one repeat where there are several."""
    spread = spread_of(study, trial, objective)
    value = number(trial.values[objective])
    return value if spread is None else f"{value} ± {spread:.2g}"


def configuration(trial: TrialRecord) -> str:
    """``lr=0.01  depth=3``."""
    return printable("  ".join(f"{name}={_short(value)}" for name, value in trial.params.items()))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def failures(study: Study) -> list[str]:
    """Why trials ended badly, the most frequent reason first, with the trials' numbers."""
    by_reason: dict[str, list[int]] = {}
    for trial in study.trials:
        if trial.state in BAD:
            label = "" if trial.state is TrialState.FAILED else trial.state.label.replace("_", " ") + ": "
            by_reason.setdefault(f"{label}{trial.reason}"[:160], []).append(trial.number)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    lines = []
    for reason, numbers in ordered[:_FAILURES]:
        listed = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
        lines.append(f"{reason} (trial{'s' if len(numbers) > 1 else ''} {listed})")
    if len(ordered) > _FAILURES:
        lines.append(f"and {len(ordered) - _FAILURES} more reasons")
    return lines


# -- the end -----------------------------------------------------------------------------------


def conclude(console: Console, result: Result) -> None:
    """The end of a session, for people."""
    study = result.study
    console.print()
    spent = duration(study.state.seconds_spent)
    _say(console, f"study {study.name}: {counted(study)} in {spent} ({result.ended})")
    complete = study.history.count(TrialState.COMPLETE)
    if complete:
        console.print()
        console.print(leaderboard(study))
        console.print()
    facts = [("failed", line) for line in failures(study)]
    if complete:
        facts.append(("best", best_line(study)))
    if result.scores:
        facts.append(("test", test_line(result.scores)))
    if result.model:
        facts.append(("model", result.model))
    facts += ways_to_see(result.summary.get("tracking"))
    tell_facts(console, facts + [("next", line) for line in what_next(study)])


def tell_facts(console: Console, facts: list[tuple[str, str]]) -> None:
    """Labelled lines; a label that goes on is not repeated. What is to be copied is never broken."""
    width = max((len(label) for label, _ in facts), default=0)
    last = ""
    for label, fact in facts:
        text = printable(fact)
        begin = f"{'' if label == last else label:<{width}}  "
        last = label
        if not console.is_terminal or label in _WHOLE:
            _say(console, begin + text)
            continue
        wrapped = textwrap.wrap(
            begin + text, max(console.width, 40), subsequent_indent=" " * len(begin), break_long_words=False
        )
        for line in wrapped:
            _say(console, line)


def best_line(study: Study) -> str:
    """The best trial, or how many share the front."""
    if len(study.objectives) > 1:
        front = leaders(study.history).tolist()
        more = ", ..." if len(front) > _LEADERS else ""
        return f"{len(front)} trials on the Pareto front: {', '.join(map(str, front[:_LEADERS]))}{more}"
    return f"trial {study.best.number}, {scores(study.best.values)}"


def test_line(final: dict[str, float]) -> str:
    """The final model's scores, the tuned metric first."""
    first, *others = [scores({name: value}) for name, value in final.items()]
    rest = f" ({', '.join(others[: _SCORES - 1])})" if others else ""
    return f"{first}{rest} on rows that tuning never saw"


def ways_to_see(tracking: dict[str, Any] | None) -> list[tuple[str, str]]:
    """How to open the study in a browser."""
    if not tracking or not tracking.get("run_id"):  # it has not been shown yet
        return []
    if tracking.get("url"):
        return [("MLflow", tracking["url"])]
    # MLflow's own server, and the study pages on it.
    # A URI with a password is not kept; whoever has one has it in the environment.
    uri = shlex.quote(tracking["uri"]) if tracking["uri"] else "$MLFLOW_TRACKING_URI"
    server = f"mlflow server --app-name hpo --backend-store-uri {uri}"
    return [("MLflow", server), ("MLflow", f"http://127.0.0.1:5000/hpo/studies/{tracking['run_id']}")]


def what_next(study: Study) -> list[str]:
    """Commands that a user may want now."""
    name = f"'{study.name}'" if " " in study.name else study.name
    if study.stopped is None or study.stopped.resumable:
        return [f"hpo resume {name}"]
    lines = [f"hpo show {name}"]
    # Where something else has ended it, the time or a space that is exhausted, more trials are no way on.
    if study.history.trials_left == 0 and study.stopped.state == "finished":
        lines.append(f"hpo extend {name} --trials {2 * (study.history.max_trials or 0)}")
    if any(study.history.count(s) for s in BAD):
        lines.append(f"hpo retry {name} --failed")
    return lines
