"""Figures of how a study went: curves, rungs, workers, failures, forks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hpo_core import _events as ev
from hpo_core._disasters import robust_range
from hpo_core._history import History
from hpo_core._result import column_of
from hpo_core._states import TrialState
from hpo_core._study import Study
from hpo_core.plots import _common as c
from hpo_core.plots._common import Array, Figure, Ints

_MOST_CURVES, _MOST_CURVE_POINTS = 120, 60
_MOST_RUNGS = 12
_MOST_SPANS, _MOST_WORKERS = 1500, 64
_MOST_REASONS, _LONGEST_REASON = 12, 70
_MOST_LANES = 80
_FEW = 6


@c.of_a_study
def curves(study: Study, *, objective: str | None = None) -> Figure:
    """What trials reported by step; the best one stands out, pruned ones end where they were stopped."""
    column = column_of(study.history, objective)
    name, direction = list(study.objectives.items())[column]
    past, reports = study.history, study.history.reports
    numbers = np.unique(reports.trials[np.isfinite(reports.values[:, column])])
    if not len(numbers):
        raise c.nothing(study, "no reports")
    best = c.best_numbers(study, column, 15)
    chosen = c.thinned(numbers, best, _MOST_CURVES)
    left_out = f", {len(chosen)} of {len(numbers):,} trials" if len(chosen) < len(numbers) else ""
    figure = c.figure(f"Curves{left_out}", xaxis_title="step", yaxis_title=f"{name} ({direction})")
    top = int(best[0]) if len(best) and best[0] in chosen else None
    shown: list[Array] = []
    for state in (TrialState.PRUNED, TrialState.FAILED, TrialState.COMPLETE, None):
        x: list[float] = []
        y: list[float] = []
        whose: list[int] = []
        for trial in chosen.tolist():
            own = TrialState(int(past.states[trial]))
            group = own if own in (TrialState.PRUNED, TrialState.COMPLETE) else TrialState.FAILED
            if (trial == top) != (state is None) or (state is not None and group is not state):
                continue
            rows = _points_of(past, trial, column)
            values = reports.values[rows, column] * past.signs[column]
            shown.append(values)
            # A gap ends each curve, so that all of a kind are one trace.
            x += [*reports.steps[rows].tolist(), np.nan]
            y += [*values.tolist(), np.nan]
            whose += [trial] * (len(rows) + 1)
        if not x:
            continue
        label = (
            f"best, trial {top}" if state is None else "other" if state is TrialState.FAILED else state.label
        )
        colour = (
            c.GREEN if state is None else c.GREY if state is TrialState.FAILED else c.STATE_COLOURS[state]
        )
        figure.add_scatter(
            x=np.array(x),
            y=np.array(y),
            customdata=whose,
            mode="lines+markers" if max(reports.steps) == 1 else "lines",
            name=label,
            line={"color": colour, "width": 3 if state is None else 1},
            opacity=1.0 if state is None else 0.45,
            hovertemplate="trial %{customdata}, step %{x}: %{y:.6g}<extra></extra>",
        )
    span = robust_range(np.concatenate(shown), direction)
    if span is not None:
        figure.update_yaxes(range=list(span))
    return figure


def _points_of(past: History, trial: int, column: int) -> Ints:
    """Rows of the reports that a trial's curve is drawn of, thinned out.

    One that leaves the objective out would be a gap, and nothing is drawn between two gaps.
    """
    rows = np.array(past.reports_of(trial))
    rows = rows[past.reports.given[rows, column]]
    return np.asarray(rows[np.unique(np.linspace(0, len(rows) - 1, _MOST_CURVE_POINTS).astype(int))])


@c.of_a_study
def rungs(study: Study) -> Figure:
    """How many trials reached each step at which trials pause or end, by bracket."""
    past = study.history
    ended = (past.states >= TrialState.PAUSED) & (past.steps > 0)
    if not ended.any():
        raise c.nothing(study, "no trial that reported steps")
    common = Counter(past.steps[ended].tolist()).most_common(_MOST_RUNGS)
    levels = sorted(step for step, _ in common)
    figure = c.figure("Rungs", xaxis_title="step", yaxis_title="trials that got there", barmode="group")
    brackets = np.unique(past.brackets[past.steps > 0]).tolist()
    palette = (c.BLUE, c.ORANGE, c.GREEN, c.RED, "#a77bca", c.GREY)
    for i, bracket in enumerate(brackets):
        steps = past.steps[past.brackets == bracket]
        counts = [int((steps >= level).sum()) for level in levels]
        figure.add_bar(
            x=[str(level) for level in levels],
            y=counts,
            text=counts,
            name=f"bracket {bracket}",
            showlegend=len(brackets) > 1,
            marker={"color": palette[i % len(palette)]},
            hovertemplate="%{y} trials reached step %{x}<extra></extra>",
        )
    figure.update_xaxes(type="category")
    return figure


@dataclass(frozen=True, slots=True)
class Span:
    """One worker's time with one trial, in seconds since the epoch, and what became of it."""

    worker: str
    trial: int
    start: float
    end: float
    state: TrialState


def spans(study: Study, events: Iterable[ev.Event] = ()) -> list[Span]:
    """Who worked on what when. From the journal's events; without them from the trials, in which the
    pauses of a trial cannot be told from its work.
    """
    running: dict[int, tuple[str, float]] = {}
    found: list[Span] = []
    for event in events:
        if isinstance(event, ev.SegmentStarted):
            running[event.trial] = (event.worker, event.at)
        elif isinstance(event, ev.TrialPausedAt | ev.AttemptLost | ev.TrialFinished):
            worker, start = running.pop(event.trial, ("", 0.0))
            if start:
                state = _ended_as(event)
                found.append(Span(worker or "worker", event.trial, start, max(event.at, start), state))
    if found:
        return found
    return [
        Span(t.worker or "worker", t.number, t.started_at, max(t.finished_at, t.started_at), t.state)
        for t in study.trials
        if t.started_at and t.finished_at
    ]


def _ended_as(event: ev.TrialPausedAt | ev.AttemptLost | ev.TrialFinished) -> TrialState:
    if isinstance(event, ev.TrialPausedAt):
        return TrialState.PAUSED
    return TrialState.LOST if isinstance(event, ev.AttemptLost) else TrialState.of(event.state)


@c.of_a_study
def timeline(study: Study, events: Iterable[ev.Event] = ()) -> Figure:
    """Which worker ran which trial when; the title has the share of the time in which workers worked.

    ``events``: the study's journal, which knows every segment; without it a paused trial looks busy.
    """
    known = spans(study, events)
    if not known:
        raise c.nothing(study, "no times")
    begin, end = min(s.start for s in known), max(s.end for s in known)
    names = sorted({s.worker for s in known}, key=lambda w: (len(w), w))
    slots = max(len(names), study.history.workers)
    # A paused trial was nobody's work, and nights without a driver were nobody's time.
    driven = min(end - begin, study.state.seconds_spent)
    used = study.state.cost_spent / (slots * driven) if driven > 0 else 0.0
    names = names[:_MOST_WORKERS]
    shown = [s for s in known if s.worker in set(names)]
    longer = _longer(shown)
    left_out = f"<br><sup>{len(longer):,} of {len(known):,} segments, the longer ones first of all</sup>"
    title = f"Workers: {used:.0%} of {slots} busy{left_out if len(longer) < len(known) else ''}"
    unit, divisor = ("hours", 3600.0) if end - begin > 7200 else ("minutes", 60.0)
    unit, divisor = ("seconds", 1.0) if end - begin < 300 else (unit, divisor)
    figure = c.figure(
        title,
        height=170 + 26 * len(names),
        barmode="overlay",
        xaxis_title=f"{unit} since the study began",
        bargap=0.25,
    )
    for state in TrialState:
        group = [s for s in longer if s.state is state]
        if group:
            figure.add_bar(
                orientation="h",
                y=[s.worker for s in group],
                base=np.array([(s.start - begin) / divisor for s in group]),
                x=np.array([(s.end - s.start) / divisor for s in group]),
                customdata=[s.trial for s in group],
                name=state.label.replace("_", " "),
                marker={"color": c.STATE_COLOURS[state], "line": {"width": 0}},
                hovertemplate="trial %{customdata}, %{x:.3g} " + unit + "<extra></extra>",
            )
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], type="category")
    return figure


def _longer(known: list[Span]) -> list[Span]:
    """What can be drawn: the longer segments, and of those that are about as long some of all of the time."""
    if len(known) <= _MOST_SPANS:
        return known
    lengths = np.array([s.end - s.start for s in known])
    size = np.floor(np.log2(np.maximum(lengths, 1e-3)))
    # The size of which only a part has room: all that is larger has.
    least = np.sort(size)[-_MOST_SPANS]
    larger, equal = np.flatnonzero(size > least), np.flatnonzero(size == least)
    equal = equal[np.argsort([known[i].start for i in equal], kind="stable")]
    some = equal[np.linspace(0, len(equal) - 1, _MOST_SPANS - len(larger)).astype(int)]
    return [known[i] for i in (*larger, *some)]


@c.of_a_study
def failures(study: Study) -> Figure:
    """Trials without a result, by state and by the first line of the reason."""
    bad = [t for t in study.trials if t.state > TrialState.PRUNED]
    if not bad:
        raise c.nothing(study, "no failed trial")
    kinds = Counter((t.state, _first_line(t.reason)) for t in bad)
    rows = kinds.most_common(_MOST_REASONS)[::-1]
    rest = len(bad) - sum(n for _, n in rows)
    figure = c.figure(
        f"{len(bad):,} of {len(study.trials):,} trials gave no result"
        + (f"<br><sup>{rest:,} of them for rarer reasons</sup>" if rest else ""),
        height=150 + 34 * len(rows),
        barmode="overlay",
        xaxis_title="trials",
    )
    places = [f"{state.label.replace('_', ' ')}: {reason}" for (state, reason), _ in rows]
    for state in TrialState:
        at = [i for i, ((own, _), _) in enumerate(rows) if own is state]
        if at:
            figure.add_bar(
                orientation="h",
                y=[places[i] for i in at],
                x=[rows[i][1] for i in at],
                text=[rows[i][1] for i in at],
                name=state.label.replace("_", " "),
                marker={"color": c.STATE_COLOURS[state]},
                hovertemplate="%{x} trials<extra></extra>",
            )
    figure.update_yaxes(categoryorder="array", categoryarray=places, type="category")
    if max(n for _, n in rows) < _FEW:  # else plotly's ticks are halves of a trial
        figure.update_xaxes(dtick=1)
    return figure


def _first_line(reason: str) -> str:
    line = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


@c.of_a_study
def lineage(study: Study, *, objective: str | None = None) -> Figure:
    """Which trial was forked from which and when; the way to the best trial stands out."""
    column = column_of(study.history, objective)
    past = study.history
    if not (past.parents >= 0).any():
        raise c.nothing(study, "no forks")
    best = c.best_numbers(study, column, 20)
    winners = _ancestry(past.parents, best[:1])
    keep = _ancestry(past.parents, best)
    chosen = c.thinned(np.arange(past.n_trials), keep, _MOST_LANES)
    lane = {int(t): i for i, t in enumerate(chosen)}
    left_out = f", {len(chosen)} of {past.n_trials:,} trials" if len(chosen) < past.n_trials else ""
    figure = c.figure(
        f"Lineage{left_out}",
        height=160 + 9 * len(chosen),
        xaxis_title="step",
        yaxis={"title": {"text": "trial"}, "autorange": "reversed", "showgrid": False},
    )
    parts: dict[str, tuple[list[float], list[float], list[str]]] = {
        n: ([], [], []) for n in ("fork", "trial", "way to the best")
    }
    end = {int(p): int(past.starts[t]) for t, p in zip(winners[1:], winners[:-1], strict=True)}
    for trial in chosen.tolist():
        start, stop, parent = int(past.starts[trial]), int(past.steps[trial]), int(past.parents[trial])
        text = ", ".join(f"{k}={_short(v)}" for k, v in study.trials[trial].params.items())
        _line(parts["trial"], (start, stop), (lane[trial], lane[trial]), f"trial {trial}: {text}")
        if parent in lane:
            said = f"trial {trial} from {parent} at step {start}"
            _line(parts["fork"], (start, start), (lane[parent], lane[trial]), said)
        if trial in winners:
            until = end.get(trial, stop)
            _line(
                parts["way to the best"], (start, until), (lane[trial], lane[trial]), f"trial {trial}: {text}"
            )
            if parent in lane:
                _line(parts["way to the best"], (start, start), (lane[parent], lane[trial]), said)
    colours = {"fork": c.GREY, "trial": c.BLUE, "way to the best": c.ORANGE}
    for name, (x, y, texts) in parts.items():
        line = {"color": colours[name], "width": 4 if "way" in name else 2 if name == "trial" else 1}
        if name == "fork":
            line["dash"] = "dot"
        figure.add_scatter(
            x=np.array(x), y=np.array(y), text=texts, mode="lines", name=name, line=line,
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    at = [i for i in range(len(chosen)) if len(chosen) <= 25 or i % (len(chosen) // 20) == 0]
    figure.update_yaxes(tickvals=at, ticktext=[str(chosen[i]) for i in at])
    return figure


def _ancestry(parents: Ints, trials: Ints) -> Ints:
    """The trials and all that they were forked from, the oldest first."""
    found: set[int] = set()
    for trial in trials.tolist():
        while trial >= 0 and trial not in found:
            found.add(trial)
            trial = int(parents[trial])
    return np.array(sorted(found), dtype=np.int64)


def _line(
    part: tuple[list[float], list[float], list[str]],
    x: tuple[float, float],
    y: tuple[float, float],
    text: str,
) -> None:
    part[0].extend((*x, np.nan))
    part[1].extend((*y, np.nan))
    part[2].extend((text, text, ""))


def _short(value: object) -> str:
    return c.number(value) if isinstance(value, float) else str(value)
