"""The figure of what the winner of a population based study was trained with, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo_core._result import column_of
from hpo_core._study import Study
from hpo_core.plots import _common as c
from hpo_core.plots._common import Figure
from hpo_core.schedules import Stretch, lineage

_MOST_ROWS = 12


@c.of_a_study
def schedule(study: Study, *, objective: str | None = None) -> Figure:
    """Each hyperparameter over the steps of the best trial's model, through the forks that led to it.

    Shown are those that changed on the way, on axes of their whole ranges;
    :func:`hpo_core.schedules.followed` gives the same as a schedule to train by.
    """
    column = column_of(study.history, objective)
    best = c.best_numbers(study, column, 1)
    way = lineage(study, int(best[0])) if len(best) else ()
    names = [name for name in study.space.column_names if len(_values(study, way, name)) > 1][:_MOST_ROWS]
    if not names:
        raise c.nothing(study, "no hyperparameter that changed while its best trial was trained")
    figure = c.panels(
        f"What trial {int(best[0])} was trained with",
        height=120 + 130 * len(names),
        rows=len(names),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.24 / len(names),
    )
    for row, name in enumerate(names, start=1):
        y = [*(_place(study, stretch, name) for stretch in way), _place(study, way[-1], name)]
        figure.add_scatter(
            row=row,
            col=1,
            x=[*(stretch.start for stretch in way), way[-1].end],
            y=y,
            text=[_said(stretch, name) for stretch in (*way, way[-1])],
            mode="lines",
            line={"shape": "hv", "color": c.ORANGE, "width": 3},
            name=name,
            hovertemplate="%{text}<extra></extra>",
        )
        figure.update_yaxes(row=row, col=1, title_text=name, **c.axis_of(study, name))
    figure.update_xaxes(row=len(names), col=1, title_text="step")
    return figure


def _values(study: Study, way: Sequence[Stretch], name: str) -> set[float]:
    return {place for place in (_place(study, s, name) for s in way) if not np.isnan(place)}


def _place(study: Study, stretch: Stretch, name: str) -> float:
    """Where the stretch's value stands on the parameter's axis; NaN where it was inactive."""
    if name not in stretch.params:
        return float(np.nan)
    parameter, value = study.space.parameters[name], stretch.params[name]
    return float(value) if parameter.numeric else float(int(parameter.encode(value) * parameter.cardinality))


def _said(stretch: Stretch, name: str) -> str:
    steps = f"steps {stretch.start + 1} to {stretch.end}"
    return f"{name}={stretch.params.get(name)!r}, trial {stretch.trial}, {steps}"
