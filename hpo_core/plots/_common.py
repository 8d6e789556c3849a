"""What all figures share: looks, thinning, axes in the user's units."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from hpo_core._domain import choice_text
from hpo_core._errors import InputError, nearest
from hpo_core._is_study import check_study
from hpo_core._parameters import Parameter
from hpo_core._result import ranked
from hpo_core._states import TrialState
from hpo_core._study import Study

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Figure = Any
_Draw = TypeVar("_Draw", bound=Callable[..., Figure])

BLUE, ORANGE, GREEN, RED, GREY = "#4c8dd6", "#e08a3c", "#3aa17e", "#d65a5a", "#8c939c"
STATE_COLOURS = {
    TrialState.COMPLETE: BLUE,
    TrialState.PRUNED: ORANGE,
    TrialState.FAILED: RED,
    TrialState.INFEASIBLE: "#a77bca",
    TrialState.TIMED_OUT: "#c9a227",
    TrialState.OUT_OF_MEMORY: "#b0567d",
    TrialState.CANCELLED: GREY,
    TrialState.LOST: "#6b7785",
    TrialState.RUNNING: GREEN,
    TrialState.PAUSED: "#79b8c4",
    TrialState.WAITING: "#b8bec6",
}
# Good is bright in both looks of a page: perceptually even, safe for colour-blind eyes.
SCALE = "Viridis"
_GRID = "rgba(128,128,128,0.25)"
# The width of a letter of a label, in pixels, and how many letters fit side by side below a panel of three.
LETTER, PANEL = 7, 42
# Of more choices an axis names some only: their names would lie upon one another.
_MOST_NAMED = 20


def of_a_study(draw: _Draw) -> _Draw:
    """The function of a figure, which then refuses what is no study, and names of no parameters of it."""

    @functools.wraps(draw)
    def checked(study: Study, *more: Any, **options: Any) -> Figure:
        check_study(study, f"plots.{draw.__name__} draws")
        _check_names(study, options.get("names"))
        return draw(study, *more, **options)

    return cast(_Draw, checked)


def _check_names(study: Study, names: Any) -> None:
    known = study.space.column_names
    if isinstance(names, str) or not isinstance(names, list | tuple | None):
        raise InputError(f"names must be a list of parameters such as {list(known[:2])}, got {names!r}")
    for name in names or ():
        if name not in known:
            raise InputError(
                f"study {study.name!r} searches no parameter {name!r}{nearest(name, known)} (it searches "
                f"{', '.join(known)})"
            )


def figure(title: str, *, height: int = 420, **layout: Any) -> Figure:
    """An empty figure in the common looks; its text takes the page's colour."""
    import plotly.graph_objects as go

    axis = {"gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "automargin": True}
    # All at once: each update of a layout that is there already takes plotly 7 ms, this takes 3.
    out = go.Figure(
        layout={
            # What there is to say of a study stands in the traces; the default template is 7 kB of colours.
            "template": go.layout.Template(),
            "title": {"text": title, "x": 0.0, "xref": "container", "pad": {"l": 12}, "font": {"size": 16}},
            "height": height,
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#7a828c"},
            "margin": {"l": 70, "r": 24, "t": 60, "b": 56},
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
            "hovermode": "closest",
            "xaxis": axis,
            "yaxis": axis,
        }
    )
    if layout:
        out.update_layout(**layout)
    return out


def panels(title: str, *, height: int, **grid: Any) -> Figure:
    """A grid of empty panels in the common looks; ``grid``: what plotly's ``make_subplots`` takes."""
    from plotly.subplots import make_subplots

    out = make_subplots(figure=figure(title, height=height, showlegend=False), **grid)
    out.update_xaxes(gridcolor=_GRID, zeroline=False, linecolor=_GRID)
    out.update_yaxes(gridcolor=_GRID, zeroline=False, linecolor=_GRID, automargin=True)
    return out


def nothing(study: Study, what: str) -> InputError:
    """The error of a figure that would be empty."""
    return InputError(f"study {study.name!r} has {what}, so there is nothing to draw")


def thinned(numbers: Ints, keep: Ints, most: int) -> Ints:
    """At most ``most`` of ``numbers``, evenly spread and ascending; those in ``keep`` always stay."""
    if len(numbers) <= most:
        return numbers
    even = numbers[np.unique(np.linspace(0, len(numbers) - 1, most).astype(np.int64))]
    kept = np.intersect1d(numbers, keep)
    room = max(most - len(kept), 0)
    rest = np.setdiff1d(even, kept)
    if not room or not len(rest):
        return kept.astype(np.int64)
    spread = rest[np.unique(np.linspace(0, len(rest) - 1, room).astype(np.int64))]
    return np.union1d(kept, spread).astype(np.int64)


def best_numbers(study: Study, column: int, most: int = 50) -> Ints:
    """The complete trials that are best by one objective, best first."""
    return ranked(study.history, column)[:most]


def outline(x: Array, low: Array, high: Array) -> dict[str, Array]:
    """The border of a band, in steps as the line in it is."""
    at = np.repeat(x, 2)[1:]
    below, above = np.repeat(low, 2)[:-1], np.repeat(high, 2)[:-1]
    return {"x": np.concatenate([at, at[::-1]]), "y": np.concatenate([below, above[::-1]])}


def number(value: float) -> str:
    """A number as a reader wants it."""
    return f"{value:.4g}"


def labels(values: list[Any], longest: int = 28) -> list[str]:
    """Short labels of categories; two of them are never the same.

    What all of them begin and end with tells nothing, so of long ones that is left out first.
    """
    whole = [choice_text(v) for v in values]
    begin = _shared(whole) if len(whole) > 1 else 0
    end = _shared([t[begin:][::-1] for t in whole]) if len(whole) > 1 else 0
    short = [t if len(t) <= longest else _cut(t, begin, end, longest) for t in whole]
    times = Counter(short)
    return [s if times[s] == 1 else f"{s} #{i + 1}" for i, s in enumerate(short)]


def _shared(texts: list[str]) -> int:
    """How many letters all of them begin with."""
    places = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return sum(1 for _ in places)


def _cut(text: str, begin: int, end: int, longest: int) -> str:
    """``text`` less as much of its first ``begin`` and last ``end`` letters as is needed, then its middle."""
    room = max(longest - (len(text) - begin - end), 0)
    before = min(begin, max(room // 2, room - end))
    after = min(end, room - before)
    rest = text[begin - before : len(text) - end + after]
    if before < begin:
        rest = "…" + rest[min(before, 1) :]
    if after < end:
        rest = rest[: len(rest) - min(after, 1)] + "…"
    half = longest // 2
    return rest if len(rest) <= longest else f"{rest[:half]}…{rest[1 - half :]}"


def is_log(parameter: Parameter) -> bool:
    """Whether the parameter's own scale is logarithmic."""
    return bool(getattr(parameter, "log", False)) or type(parameter).__name__ == "LogNormal"


def ticks(parameter: Parameter, longest: int = 28) -> tuple[list[float], list[str]]:
    """Where on [0, 1] an axis of this parameter has ticks, and the real values written there.

    Of many choices only some have one. ``longest``: letters of a choice's label.
    """
    count = parameter.count
    if not parameter.numeric:
        places, text = named(parameter, longest)
        return [parameter.unit_at(i) for i in places], text
    low, high = float(parameter.decode(0.0)), float(parameter.decode(1.0))
    if count is not None and count <= 10:
        values = [parameter.value_at(i) for i in range(count)]
        return [parameter.unit_at(i) for i in range(count)], [number(v) for v in values]
    wanted = _log_ticks(low, high) if is_log(parameter) and low > 0 else _even_ticks(low, high)
    inside = [v for v in wanted if low < v < high]
    units = [(_unit(parameter, v), number(v)) for v in inside]
    # The ends are labelled, so what is too close to them is not.
    first, last = parameter.canonical(np.array([0.0, 1.0])).tolist()
    between = [(u, t) for u, t in units if first + 0.06 < u < last - 0.06]
    units = [(first, number(low)), *between, (last, number(high))]
    return [u for u, _ in units], [t for _, t in units]


def _unit(parameter: Parameter, value: float) -> float:
    """The place of a value by bisection: ``decode`` is monotone, and tick values need not be on a grid."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if float(parameter.decode(middle)) < value else (low, middle)
    # Of whole numbers and steps each has the middle of its cell, where trials are, and others lie between.
    below, above = map(float, parameter.canonical(np.array([low, high])))
    a, b = float(parameter.decode(below)), float(parameter.decode(above))
    return below + (above - below) * (value - a) / (b - a) if a < value < b else above


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    skip = max(len(decades) // 7, 1)
    factors = (1.0, 3.0) if len(decades) <= 3 else (1.0,)
    return [f * 10.0**d for d in decades if d % skip == 0 for f in factors]


def _even_ticks(low: float, high: float) -> list[float]:
    span = high / 5 - low / 5  # the whole range need not be a double
    if not span > 0:
        return []
    power = 10.0 ** math.floor(math.log10(span))
    step = next(f * power for f in (1.0, 2.0, 2.5, 5.0, 10.0) if f * power >= span)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def named(parameter: Parameter, longest: int) -> tuple[list[int], list[str]]:
    """The choices that an axis names, all unless they are many, by their places, and their labels."""
    every = -(-parameter.cardinality // _MOST_NAMED)
    text = labels([parameter.value_at(i) for i in range(parameter.cardinality)], longest)
    return list(range(0, len(text), every)), text[::every]


def axis_of(study: Study, name: str, across: float = math.inf, longest: int = 16) -> dict[str, Any]:
    """An axis in the parameter's own values: logarithmic where its scale is, named where it has names.

    ``across``: letters that fit side by side below a horizontal axis; names that do not stand upright.
    ``longest``: letters of a name.
    """
    parameter = study.space.parameters[name]
    if not parameter.numeric:
        places, text = named(parameter, longest)
        upright = len(text) * (max(map(len, text)) + 1) > across
        axis = {"tickvals": places, "ticktext": text, "range": [-0.6, parameter.cardinality - 0.4]}
        return {**axis, "tickangle": -90 if upright else 0, "title_standoff": 10}
    low, high = (float(parameter.decode(u)) for u in (0.0, 1.0))
    # A normal distribution without bounds has no ends to show.
    bounded = getattr(parameter, "low", None) is not None and getattr(parameter, "high", None) is not None
    if not is_log(parameter):
        return {"range": _padded(low, high)} if bounded else {}
    at, text = ticks(parameter)
    axis = {"type": "log", "tickvals": [float(parameter.decode(u)) for u in at], "ticktext": text}
    return {**axis, "range": _padded(math.log10(low), math.log10(high))} if bounded else {"type": "log"}


def _padded(low: float, high: float) -> list[float]:
    """The whole range of a parameter, tried or not, with a margin."""
    margin = 0.04 * high - 0.04 * low or 0.5
    return [low - margin, high + margin]
