"""What a user sees of a running study: a live display on a terminal, plain lines elsewhere, and the end."""

from __future__ import annotations

import io
import signal
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

from flows._signals import silence
from flows._words import (
    LEADERS,
    best_line,
    configuration,
    counted,
    ended_badly,
    printable,
    progress_of,
    scores,
    test_line,
    ways_to_see,
    what_next,
)
from hpo_core import Study, TrialRecord, TrialState
from hpo_core.folds import repeats_of, spread_of
from hpo_core.inner import leaders, many
from tracking import duration, goal, number_text

if TYPE_CHECKING:
    from flows._session import Session

# Between two plain lines; longer as the study goes on, so that a log of hours stays readable.
_PLAIN_SECONDS, _PLAIN_SECONDS_MOST = 5.0, 60.0
# Labels of lines that are commands and links.
_WHOLE = ("MLflow", "next")
_BAR = 30
# Letters of a line in a notebook's output, with room to spare.
_OUTPUT = 100


class Ended(Protocol):
    """What is read of a session's result, which itself says it with :func:`conclusion`."""

    @property
    def study(self) -> Study: ...

    @property
    def ended(self) -> str: ...

    @property
    def model(self) -> str | None: ...

    @property
    def scores(self) -> dict[str, float]: ...

    @property
    def summary(self) -> dict[str, Any]: ...


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

    def conclude(self, result: Ended) -> None:
        """Leaderboard, failures, final model, links."""


def make_console(**options: Any) -> Console:
    """For texts that users, objectives and other people's studies have written: no markup is read in them."""
    return Console(markup=False, highlight=False, **options)


class _Followed(Console):
    """Where a study's lines go. A reader who leaves, as ``head`` does, ends it as a closed terminal does."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        silence(self.file.fileno())
        # The usual SystemExit would come out of the event loop, and leave the study open.
        signal.raise_signal(signal.SIGTERM)


def make_view(*, quiet: bool = False) -> View:
    """A live view on a terminal, plain lines elsewhere; ``quiet`` leaves standard output to others."""
    # In a notebook too: a display that is redrawn there would need ipywidgets.
    console = _Followed(stderr=quiet, force_jupyter=False, markup=False, highlight=False)
    if quiet:
        return _Lines(console, progress=False)
    # FORCE_COLOR, which notebooks and CI set, makes no terminal of a file, and a dumb one redraws nothing.
    redraws = console.is_interactive and console.file.isatty()
    return _Terminal(console) if redraws else _Lines(console, progress=True)


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

    def conclude(self, result: Ended) -> None:
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

    def conclude(self, result: Ended) -> None:
        conclude(self._console, result)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


# -- while it runs -----------------------------------------------------------------------------


def introduction(current: Session) -> str:
    """What is about to happen, in a line."""
    study = current.study
    aims = ", ".join(goal(name, d) for name, d in study.objectives.items())
    p = progress_of(study)
    planned = p["planned"]
    if current.resumed:
        return (
            f"resuming study {study.name}: {p['done']}{f' of {planned}' if planned else ''} trials are done"
        )
    trials = f", {many(planned, 'trial')}" if planned else ""
    workers, repeats = study.state.settings.workers, repeats_of(study)
    each = f", each with {repeats} seeds" if repeats > 1 else ""
    at_once = f", {workers} at once" if workers > 1 else ""
    return f"study {study.name}: {aims} by {study.strategy.words}{trials}{each}{at_once}"


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
    for place, leader in enumerate(leaders(study.history)[:LEADERS].tolist()):
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
    value = number_text(trial.values[objective])
    return value if spread is None else f"{value} ± {spread:.2g}"


# -- the end -----------------------------------------------------------------------------------


def conclude(console: Console, result: Ended) -> None:
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
    facts = ended_badly(study)
    if complete:
        facts.append(("best", best_line(study)))
    if result.scores:
        facts.append(("test", test_line(result.scores)))
    if result.model:
        facts.append(("model", result.model))
    facts += ways_to_see(result.summary.get("tracking"))
    tell_facts(console, facts + [("next", line) for line in what_next(study)])


def conclusion(result: Ended) -> str:
    """The same as plain text, as wide as the outputs of a notebook are."""
    console = make_console(file=io.StringIO(), width=_OUTPUT, force_jupyter=False, color_system=None)
    with console.capture() as said:
        conclude(console, result)
    return said.get().strip("\n")


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
