"""Figures that compare studies: the best so far against effort, and the effort to reach a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hpo_core._disasters import robust_range
from hpo_core._errors import InputError, nearest
from hpo_core._study import Study
from hpo_core.compare import AXES, Comparison, Course, Side
from hpo_core.compare import compare as compared
from hpo_core.plots import _common as c
from hpo_core.plots._common import Array, Figure

COLOURS = (c.BLUE, c.ORANGE, c.GREEN, "#a77bca", c.RED, "#c9a227", "#79b8c4", c.GREY)
AXIS_WORDS = {"trials": "trials ended", "steps": "steps of all trials", "seconds": "seconds of driving"}
_MOST_CORNERS = 400


def compare(
    studies: Comparison | Mapping[str, Study | Sequence[Study]] | Sequence[Study],
    *,
    objective: str | None = None,
    against: str = "trials",
) -> Figure:
    """The best value so far of each study against effort.

    ``studies``: a :class:`~hpo_core.compare.Comparison`, or what one is made of. ``against``: ``"trials"``,
    ``"steps"`` or ``"seconds"``. A side of several studies is the line of their median, as far as all of them
    go, in a band from the worst to the best of them.
    """
    if against not in AXES:
        raise InputError(f"against must be one of {list(AXES)}, got {against!r}{nearest(against, AXES)}")
    found = studies if isinstance(studies, Comparison) else compared(studies, objective=objective)
    figure = c.figure(
        f"Best {found.objective} so far",
        xaxis_title=AXIS_WORDS[against],
        yaxis_title=f"{found.objective} ({found.direction})",
    )
    finals: list[Array] = []
    for i, side in enumerate(found.sides):
        if any(course.axis(against) is None for course in side.courses):
            continue
        line, band = envelope(side, against)
        colour = COLOURS[i % len(COLOURS)]
        finals.append(line[1])
        if band is not None:
            figure.add_scatter(
                **c.outline(line[0], *band),
                fill="toself",
                fillcolor=_pale(colour),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                name=f"{side.name}, range",
            )
        count = f" ({len(side.courses)} studies)" if len(side.courses) > 1 else ""
        figure.add_scatter(
            x=line[0],
            y=line[1],
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 2.5},
            name=f"{side.name}{count}",
            hovertemplate="%{y:.6g} after %{x:,}<extra>" + side.name.replace("<", "&lt;") + "</extra>",
        )
    if not finals:
        raise InputError(f"none of the studies counted its {against}, so there is nothing to draw")
    # The first results are often disasters; what matters is below them.
    span = robust_range(np.concatenate(finals), found.direction)
    if span is not None:
        figure.update_yaxes(range=list(span))
    return figure


def envelope(side: Side, against: str) -> tuple[tuple[Array, Array], tuple[Array, Array] | None]:
    """``(x, median)`` of a side, corners only, and the worst and best at the same ``x`` where several."""
    if len(side.courses) == 1:
        return _corners(side.courses[0], against), None
    axes = [course.axis(against) for course in side.courses]
    known = [x for x in axes if x is not None]
    begin = max(float(x[np.isfinite(s.best)][0]) for x, s in zip(known, side.courses, strict=True))
    end = min(float(x[-1]) for x in known)
    if end < begin:
        end = begin
    at = np.unique(np.concatenate([[begin, end], *(x[(x >= begin) & (x <= end)] for x in known)]))
    at = at[np.unique(np.linspace(0, len(at) - 1, _MOST_CORNERS).astype(np.int64))]
    rows = np.stack(
        [s.best[np.searchsorted(x, at, side="right") - 1] for x, s in zip(known, side.courses, strict=True)]
    )
    return (at, np.median(rows, axis=0)), (rows.min(axis=0), rows.max(axis=0))


def _corners(course: Course, against: str) -> tuple[Array, Array]:
    x = course.axis(against)
    assert x is not None
    seen = np.flatnonzero(np.isfinite(course.best))
    best = course.best[seen]
    kept = np.flatnonzero(np.append(True, best[1:] != best[:-1]))
    kept = np.append(kept, len(best) - 1)
    return x[seen[kept]], best[kept]


def _pale(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
