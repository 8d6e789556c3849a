"""Figures of the search space: which values led to which results."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpo_core._disasters import robust_range
from hpo_core._result import column_of, ranks
from hpo_core._study import Study
from hpo_core.importance import by_rank, filled, importances, outcomes
from hpo_core.plots import _common as c
from hpo_core.plots._common import Array, Figure, Ints
from hpo_core.samplers._trees import Trees

_MOST_LINES, _MOST_AXES = 1000, 14
_MOST_POINTS, _MOST_SLICES, _SLICES_ABREAST = 800, 12, 3
# Pixels between the first axis of parallel coordinates and the last; what is in a gap below a row of panels
# beside the names of choices; a panel's height.
_WIDTH, _GAP, _PANEL_HEIGHT = 900, 50, 173
# Where inactive values stand on an axis of [0, 1].
_INACTIVE = -0.14
_FOREST = Trees(number=32, features=1.0, leaf=3, bootstrap=True)
_CELLS, _MOST_CHOICES, _DRAWS = 28, 100, 48
# Trials in which two parameters are both active, below which there is no picture of them.
_FEW = 4


@c.of_a_study
def parallel_coordinates(
    study: Study, *, objective: str | None = None, names: Sequence[str] | None = None
) -> Figure:
    """A line for each complete trial through its parameters to its value; good trials are bright.

    Only searched parameters have axes. An axis has the scale that the parameter is searched on, with the
    real values as labels; every category has a place and a name of its own, and so has being inactive.
    ``names``: parameters to show, in this order; all by default, the first fourteen of many.
    """
    column = column_of(study.history, objective)
    numbers, z = _complete(study, column)
    name = list(study.objectives)[column]
    space = study.space
    shown = list(names or space.column_names)[:_MOST_AXES]
    chosen = c.thinned(numbers, c.best_numbers(study, column), _MOST_LINES)
    # Later lines lie on top: the best ones.
    chosen = chosen[np.argsort(-z[np.searchsorted(numbers, chosen)], kind="stable")]
    values = study.history.values[chosen, column] * study.history.signs[column]
    dimensions: list[dict[str, Any]] = []
    # Labels stand left of their axes: those of the first beside the figure, others before the axis before.
    narrow = min(max(_WIDTH // c.LETTER // max(len(shown), 1) - 3, 6), 28)
    for parameter_name in shown:
        parameter = space.parameters[parameter_name]
        units = study.history.X[chosen, space.column_names.index(parameter_name)]
        at, text = c.ticks(parameter, narrow if dimensions else 28)
        inactive = bool(np.isnan(units).any())
        dimensions.append(
            {
                "label": c.labels([parameter_name])[0],
                "values": np.where(np.isnan(units), _INACTIVE, units),
                "range": [_INACTIVE if inactive else 0.0, 1.0],
                "tickvals": [_INACTIVE, *at] if inactive else at,
                "ticktext": ["inactive", *text] if inactive else text,
            }
        )
    span = robust_range(values, study.objectives[name])
    ends = (float(values.min()), float(values.max())) if span is None else span
    # Of a range without a width Plotly makes one that is upside down below zero.
    room = 0.0 if ends[0] < ends[1] else abs(ends[0]) / 10 or 1.0
    axis = [ends[0] - room, ends[1] + room]
    dimensions.append({"label": name, "values": np.clip(values, *ends), "range": axis})
    figure = c.figure(
        "Parallel coordinates" + _of(len(chosen), len(numbers), "trials"),
        height=480,
        margin={"l": _room_for(dimensions[0]), "r": 70, "t": 90, "b": 40},
    )
    # By rank: a few disasters would leave all others one colour.
    rank = np.linspace(0.0, 1.0, len(chosen)) if len(chosen) > 1 else np.ones(1)
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": rank, "colorscale": c.SCALE, "cmin": 0.0, "cmax": 1.0},
        labelangle=-18 if len(shown) > 7 else 0,
    )
    return figure


def _room_for(axis: dict[str, Any]) -> int:
    """Pixels left of the first axis, where its labels stand; those of the others stand over the lines."""
    return max(90, 20 + c.LETTER * max(map(len, axis.get("ticktext", ())), default=0))


@c.of_a_study
def slices(study: Study, *, objective: str | None = None, names: Sequence[str] | None = None) -> Figure:
    """The value over each parameter by itself; later trials are brighter.

    Axes are logarithmic where the space is. ``names``: parameters to show; by default the twelve most
    important.
    """
    column = column_of(study.history, objective)
    objective = list(study.objectives)[column]
    numbers, _ = _complete(study, column)
    shown = list(names or _by_importance(study, objective))[:_MOST_SLICES]
    chosen = c.thinned(numbers, c.best_numbers(study, column), _MOST_POINTS)
    values = study.history.values[chosen, column] * study.history.signs[column]
    rows = math.ceil(len(shown) / _SLICES_ABREAST)
    axes = [c.axis_of(study, name, c.PANEL) for name in shown]
    gap = _gap_below(axes)
    height = rows * (_PANEL_HEIGHT + gap)
    figure = c.panels(
        f"Slices{_of(len(chosen), len(numbers), 'trials')}",
        height=60 + height,
        rows=rows,
        cols=min(_SLICES_ABREAST, max(len(shown), 1)),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=gap / (height - gap),
    )
    figure.update_layout(margin_b=gap)
    rng = np.random.default_rng(0)
    for i, parameter_name in enumerate(shown):
        row, col = i // _SLICES_ABREAST + 1, i % _SLICES_ABREAST + 1
        where = _places(study, parameter_name, chosen, rng)
        seen = ~np.isnan(where)
        figure.add_scatter(
            row=row,
            col=col,
            x=where[seen],
            y=values[seen],
            mode="markers",
            marker={"size": 5, "opacity": 0.75, "color": chosen[seen], "colorscale": c.SCALE},
            customdata=chosen[seen],
            name=parameter_name,
            **_said(study, parameter_name, where[seen]),
        )
        figure.update_xaxes(row=row, col=col, title_text=parameter_name, **axes[i])
        if col == 1:
            figure.update_yaxes(row=row, col=col, title_text=objective)
    span = robust_range(values, study.objectives[objective])
    if span is not None:
        figure.update_yaxes(range=list(span))
    return figure


def _gap_below(axes: Sequence[dict[str, Any]]) -> int:
    """Pixels below each row of panels: for the axis' title, and for names of choices that stand upright."""
    upright = [text for axis in axes if axis.get("tickangle") for text in axis["ticktext"]]
    return max(_GAP + c.LETTER * max(map(len, upright), default=0), 97)


def _said(study: Study, name: str, where: Array) -> dict[str, Any]:
    """What a point says; its choice too, which the axis may not name, or not in full."""
    parameter = study.space.parameters[name]
    if parameter.numeric:
        return {"hovertemplate": "trial %{customdata}: %{x:.6g}, %{y:.6g}<extra></extra>"}
    choices = [str(parameter.value_at(k)) for k in range(parameter.cardinality)]
    said = [choices[k] for k in np.rint(where).astype(np.int64).tolist()]
    return {"text": said, "hovertemplate": "trial %{customdata}: %{text}, %{y:.6g}<extra></extra>"}


@c.of_a_study
def contour(study: Study, *, objective: str | None = None, names: Sequence[str] | None = None) -> Figure:
    """What a forest expects over two parameters, averaged over all others, and the trials that were there.

    ``names``: the two parameters; of more, and by default of all in the order of their importance, the first
    two that vary together (:func:`_pairs`). Of conditional parameters the picture is of the trials in which
    both are active.
    """
    column = column_of(study.history, objective)
    objective = list(study.objectives)[column]
    numbers, _ = _complete(study, column)
    space = study.space
    pair = _pair(study, names or _by_importance(study, objective), numbers)
    at = [space.column_names.index(n) for n in pair]
    history = study.history
    X, y = outcomes(history, column)
    active = ~np.isnan(X[:, at]).any(axis=1)
    if active.sum() < _FEW:
        raise c.nothing(study, f"hardly a trial in which {pair[0]} and {pair[1]} are both active")
    ranked = by_rank(history)
    X, y = X[active], y[active] * (1.0 if ranked else history.signs[column])
    grid = [_grid(study, n) for n in pair]
    z = _marginal(study, X, y, at, grid)
    figure = c.figure(f"{pair[0]} and {pair[1]}", height=460)
    sides = [_values_at(study, n, units) for n, units in zip(pair, grid, strict=True)]
    smooth = all(space.parameters[n].numeric for n in pair)
    # What is good is bright, as everywhere.
    flipped = ranked or study.objectives[objective] == "min"
    common = {
        "x": sides[0],
        "y": sides[1],
        "z": z,
        "colorscale": c.SCALE,
        "reversescale": flipped,
        "colorbar": {"title": {"text": "rank" if ranked else objective}},
    }
    hover = f"{pair[0]} %{{x}}<br>{pair[1]} %{{y}}<br>expected %{{z:.4g}}<extra></extra>"
    if smooth:
        figure.add_contour(**common, line={"width": 0.4}, hovertemplate=hover)
    else:
        figure.add_heatmap(**common, hovertemplate=hover)
    chosen = c.thinned(numbers, c.best_numbers(study, column), 300)
    rng = np.random.default_rng(0)
    places = [_places(study, n, chosen, rng) for n in pair]
    figure.add_scatter(
        x=places[0],
        y=places[1],
        mode="markers",
        customdata=chosen,
        marker={"size": 5, "color": "white", "opacity": 0.8, "line": {"width": 0.6, "color": "#333"}},
        name="trials",
        hovertemplate="trial %{customdata}<extra></extra>",
    )
    figure.update_xaxes(title_text=pair[0], **c.axis_of(study, pair[0], _SLICES_ABREAST * c.PANEL))
    figure.update_yaxes(title_text=pair[1], **{**c.axis_of(study, pair[1]), "title_standoff": 18})
    return figure


def _pair(study: Study, names: Sequence[str], numbers: Ints) -> Sequence[str]:
    """Two of the names: of more, the first two that vary together among the trials."""
    if len(names) < 2:
        raise c.nothing(study, "fewer than two searched parameters")
    return names if len(names) == 2 else next(iter(_pairs(study, names, numbers)), names[:2])


def _complete(study: Study, column: int) -> tuple[Ints, Array]:
    """Numbers of the complete trials and their values, minimised; without those that an edit of the space has
    taken out of it, which have no place on any axis.
    """
    history = study.history
    complete = ranks(history)
    if not complete.any():
        raise c.nothing(study, "no complete trial")
    if not study.space.dims:
        raise c.nothing(study, "no searched parameter")
    numbers = np.flatnonzero(complete & ~np.isnan(history.X).all(axis=1))
    if not len(numbers):
        raise c.nothing(study, "no complete trial in its space as it was edited")
    return numbers, history.values[numbers, column]


def _by_importance(study: Study, objective: str) -> list[str]:
    found = [i.name for i in importances(study, objective=objective)]
    return [*found, *(n for n in study.space.column_names if n not in found)]


def _pairs(study: Study, names: Sequence[str], numbers: Ints) -> list[tuple[str, str]]:
    """Pairs of parameters of which trials ``numbers`` say something, the most important first.

    Both are active in some of them, and take two values or more there. So not a conditional parameter and
    the one it depends on, which has a single value wherever the other is active.
    """
    X = study.history.X[numbers]
    column = {name: X[:, study.space.column_names.index(name)] for name in names}

    def together(pair: tuple[str, str]) -> bool:
        a, b = column[pair[0]], column[pair[1]]
        both = ~(np.isnan(a) | np.isnan(b))
        return bool(both.sum() >= _FEW) and all(np.ptp(side[both]) > 0 for side in (a, b))

    place = {name: i for i, name in enumerate(names)}
    found = [pair for pair in itertools.combinations(names[:_MOST_AXES], 2) if together(pair)]
    return sorted(found, key=lambda pair: (place[pair[0]] + place[pair[1]], place[pair[0]]))


def _of(shown: int, known: int, what: str) -> str:
    return f", {shown:,} of {known:,} {what}" if shown < known else ""


def _values_at(study: Study, name: str, units: Array) -> Array:
    parameter = study.space.parameters[name]
    if not parameter.numeric:
        return np.floor(units * parameter.cardinality)
    return np.array([float(parameter.decode(u)) for u in units.tolist()])


def _places(study: Study, name: str, numbers: Ints, rng: np.random.Generator) -> Array:
    """Where trials stand on the parameter's axis, NaN where it was inactive; categories are spread a bit."""
    parameter = study.space.parameters[name]
    units = study.history.X[numbers, study.space.column_names.index(name)]
    if not parameter.numeric:
        spread = rng.uniform(-0.22, 0.22, len(units))
        return np.asarray(np.floor(units * parameter.cardinality) + spread)
    decoded = [float(parameter.decode(u)) if not math.isnan(u) else np.nan for u in units.tolist()]
    return np.array(decoded)


def _grid(study: Study, name: str) -> Array:
    parameter = study.space.parameters[name]
    count = parameter.count
    if count is not None and count <= (_CELLS if parameter.numeric else _MOST_CHOICES):
        return np.array([parameter.unit_at(i) for i in range(count)])
    return np.unique(parameter.canonical(np.linspace(0.0, 1.0, _CELLS)))


def _marginal(study: Study, X: Array, y: Array, at: list[int], grid: list[Array]) -> Array:
    """(len(grid[1]), len(grid[0])) the forest's mean over rows of ``X`` with two columns replaced."""
    rng = np.random.default_rng(0)
    if len(y) > 1000:
        order = np.argsort(y, kind="stable")
        rows = np.unique(np.concatenate([order[:250], rng.permutation(order)[:750], order[-50:]]))
        X, y = X[rows], y[rows]
    X = filled(study.space, X, rng)
    grown = _FOREST.fit(study.space, X, y, rng)
    others = X[rng.integers(len(X), size=min(_DRAWS, len(X)))]
    a, b = np.meshgrid(grid[0], grid[1])
    U = np.tile(others, (a.size, 1))
    U[:, at[0]] = np.repeat(a.reshape(-1), len(others))
    U[:, at[1]] = np.repeat(b.reshape(-1), len(others))
    mean, _ = grown.predict(U)
    return np.asarray(mean.reshape(a.size, -1).mean(axis=1).reshape(a.shape))
