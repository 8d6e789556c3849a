"""Figures of results: their history, what they depend on, the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo_core._disasters import robust_range
from hpo_core._history import History
from hpo_core._result import column_of, ranks
from hpo_core._states import TrialState
from hpo_core._study import Study
from hpo_core.importance import Importance, importances
from hpo_core.plots import _common as c
from hpo_core.plots._common import Array, Figure, Ints
from hpo_core.uncertainty import band

_MOST_POINTS = 2500
_MOST_PARAMETERS = 20


@c.of_a_study
def history(study: Study, *, objective: str | None = None) -> Figure:
    """Every trial's value by number, and the best value so far; the first objective unless one is named.

    Pruned trials are shown at the value they had when they were stopped. Values far on the bad side lie
    beyond the axis; the title counts them. The band around the best is its uncertainty, see
    :mod:`hpo_core.uncertainty`.
    """
    column = column_of(study.history, objective)
    name, direction = list(study.objectives.items())[column]
    past = study.history
    values = past.values[:, column] * past.signs[column]
    complete = np.flatnonzero(ranks(past) & np.isfinite(values))
    if not len(complete):
        raise c.nothing(study, "no complete trial")
    best = np.minimum.accumulate(past.values[complete, column]) * past.signs[column]
    records = np.flatnonzero(np.append(True, best[1:] != best[:-1]))
    span = robust_range(values[complete], direction)
    valued = values[np.isin(past.states, [TrialState.COMPLETE, TrialState.PRUNED]) & np.isfinite(values)]
    beyond = 0 if span is None else int(((valued < span[0]) | (valued > span[1])).sum())
    note = f"<br><sup>beyond the axis: {beyond:,}</sup>" if beyond else ""
    figure = c.figure(f"History of {name}{note}", xaxis_title="trial", yaxis_title=f"{name} ({direction})")
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        _add_trials(figure, past, state, values, always=complete[records])
    # The line needs its corners only, and its end.
    corners = np.append(complete[records], max(past.n_trials - 1, int(complete[-1])))
    found = band(study, complete[records].tolist(), objective=name)
    if found is not None:
        middle, half = np.append(best[records], best[-1]), np.append(found.half, found.half[-1])
        figure.add_scatter(
            **c.outline(corners, middle - half, middle + half),
            mode="lines",
            fill="toself",
            fillcolor="rgba(58,161,126,0.22)",
            line={"width": 0},
            hoverinfo="skip",
            name=found.what,
        )
    figure.add_scatter(
        x=corners,
        y=np.append(best[records], best[-1]),
        mode="lines",
        line={"shape": "hv", "color": c.GREEN, "width": 2.5},
        name="best so far",
        hovertemplate="best since trial %{x}: %{y:.6g}<extra></extra>",
    )
    if span is not None:
        figure.update_yaxes(range=list(span))
    return figure


def _add_trials(figure: Figure, past: History, state: TrialState, values: Array, *, always: Ints) -> None:
    """Add the trials in that state, thinned but ``always`` these. ``values``: of all trials, ``(n,)``."""
    numbers = np.flatnonzero((past.states == state) & np.isfinite(values))
    shown = c.thinned(numbers, always, _MOST_POINTS)
    if not len(shown):
        return
    left_out = f", {len(shown):,} of {len(numbers):,}" if len(shown) < len(numbers) else ""
    figure.add_scatter(
        x=shown,
        y=values[shown],
        mode="markers",
        name=f"{state.label}{left_out}",
        marker={
            "size": 6 if len(shown) < 500 else 4,
            "opacity": 0.65,
            "color": c.STATE_COLOURS[state],
            "symbol": "circle" if state is TrialState.COMPLETE else "x",
        },
        hovertemplate="trial %{x}: %{y:.6g}<extra></extra>",
    )


@c.of_a_study
def importance(
    study: Study, *, objective: str | None = None, found: Sequence[Importance] | None = None
) -> Figure:
    """What share of the variance each parameter explains, over the space and near the optimum.

    The whiskers run from the 5th to the 95th percentile over the trees. ``found``: the result of
    :func:`hpo_core.importance.importances` where it is at hand.
    """
    name = list(study.objectives)[column_of(study.history, objective)]
    found = importances(study, objective=objective) if found is None else found
    if not found:
        raise c.nothing(study, "too few different results to tell what matters")
    # Bars are drawn from the bottom up.
    rows = list(found)[:_MOST_PARAMETERS][::-1]
    most = max(i.trials for i in found)
    names = [i.name if i.trials == most else f"{i.name} (active in {i.trials:,})" for i in rows]
    more = f", the first {_MOST_PARAMETERS} of {len(found)}" if len(found) > _MOST_PARAMETERS else ""
    figure = c.figure(
        f"Importance for {name}{more}",
        height=150 + 44 * len(rows),
        barmode="group",
        xaxis_title="share of the variance explained alone",
    )
    series = (
        ("near the optimum", c.ORANGE, [(i.local, i.local_low, i.local_high) for i in rows]),
        ("over the whole space", c.BLUE, [(i.share, i.low, i.high) for i in rows]),
    )
    for label, colour, triples in series:
        figure.add_bar(
            y=names,
            x=[v for v, _, _ in triples],
            orientation="h",
            name=label,
            marker={"color": colour},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [max(high - v, 0.0) for v, _, high in triples],
                "arrayminus": [max(v - low, 0.0) for v, low, _ in triples],
                "color": c.GREY,
                "thickness": 1.2,
                "width": 3,
            },
            hovertemplate="%{y}: %{x:.1%}<extra>" + label + "</extra>",
        )
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_layout(legend={"traceorder": "reversed"})
    return figure


@c.of_a_study
def pareto(study: Study) -> Figure:
    """All complete trials by their first two or three objectives, and the Pareto front among all."""
    names = list(study.objectives)
    if len(names) < 2:
        raise c.nothing(study, "one objective")
    past = study.history
    complete = np.flatnonzero(ranks(past))
    if not len(complete):
        raise c.nothing(study, "no complete trial")
    axes = min(len(names), 3)
    V = past.values * past.signs
    front = np.array([t.number for t in study.pareto_front], dtype=np.int64)
    others = np.setdiff1d(c.thinned(complete, front, _MOST_POINTS), front)
    front = front[np.argsort(V[front, 0], kind="stable")]
    figure = c.figure(f"Pareto front: {len(front):,} of {len(complete):,} complete trials", height=520)
    groups = (("dominated", others, c.GREY, 4), ("Pareto front", front, c.ORANGE, 8 if axes == 2 else 5))
    for label, numbers, colour, size in groups:
        marker = {"size": size, "color": colour, "opacity": 0.55 if label == "dominated" else 1.0}
        hover = "trial %{customdata}<br>" + "<br>".join(
            f"{n} %{{{a}:.6g}}" for n, a in zip(names[:axes], "xyz", strict=False)
        )
        common = {
            "x": V[numbers, 0],
            "y": V[numbers, 1],
            "customdata": numbers,
            "name": label,
            "marker": marker,
            "hovertemplate": hover + "<extra></extra>",
        }
        if axes == 3:
            figure.add_scatter3d(z=V[numbers, 2], mode="markers", **common)
        else:
            line = {"shape": "hv" if past.signs[0] == past.signs[1] == 1 else "linear", "color": colour}
            both = label == "Pareto front" and len(names) == 2
            figure.add_scatter(mode="lines+markers" if both else "markers", line=line, **common)
    said = [f"{n} ({d})" for n, d in study.objectives.items()]
    if axes == 3:
        figure.update_layout(
            scene={f"{a}axis": {"title": {"text": t}} for a, t in zip("xyz", said, strict=False)}
        )
    else:
        figure.update_layout(xaxis_title=said[0], yaxis_title=said[1])
    return figure
