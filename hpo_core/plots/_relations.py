"""Figures of how parameters go together: with the outcome, and with one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpo_core._result import column_of
from hpo_core._study import Study
from hpo_core.correlation import correlations
from hpo_core.importance import mid_ranks
from hpo_core.plots import _common as c
from hpo_core.plots._common import Figure
from hpo_core.plots._space import _by_importance, _complete, _pairs, _places

_MOST_NAMES = 18
_MOST_POINTS, _ABREAST, _MOST_CHOSEN = 800, 3, 4
# Letters between two panels.
_BESIDE = 9
# From one through nothing to the other, readable on light and on dark.
_DIVERGING = [
    [0.0, c.BLUE],
    [0.5, "rgba(76,141,214,0.05)"],
    [0.5, "rgba(224,138,60,0.05)"],
    [1.0, c.ORANGE],
]


@c.of_a_study
def correlation(study: Study, *, objective: str | None = None) -> Figure:
    """Spearman's rank correlation of the parameters with an objective, and among one another.

    Numbers stand where a correlation is more than independent columns show in one case of twenty.
    """
    known = correlations(study, objective=objective)
    found = known.strongest(_MOST_NAMES)
    n, rho, trials = len(found.names), found.rho, found.trials
    if n < 2 or not np.isfinite(rho[0, 1:]).any():
        raise c.nothing(study, "too few different results to correlate")
    lower = np.tril(np.ones((n, n), dtype=bool), -1)
    rho = np.where(lower, rho, np.nan)
    strong = lower & (np.abs(rho) > found.chance)
    text = [
        [f"{r:.2f}" if s else "" for r, s in zip(*rows, strict=True)]
        for rows in zip(rho, strong, strict=True)
    ]
    labels = c.labels(list(found.names))
    more = f", {n - 1} of {len(known.names) - 1} columns" if n < len(known.names) else ""
    figure = c.figure(f"Rank correlation{more}", height=190 + 34 * n)
    # The first row and the last column would be empty.
    figure.add_heatmap(
        x=labels[:-1],
        y=labels[1:],
        z=rho[1:, :-1],
        text=[row[:-1] for row in text[1:]],
        texttemplate="%{text}",
        customdata=trials[1:, :-1],
        zmin=-1,
        zmax=1,
        colorscale=_DIVERGING,
        hoverongaps=False,
        xgap=2,
        ygap=2,
        hovertemplate="%{y} and %{x}: %{z:.3f}, from %{customdata:,} results<extra></extra>",
        colorbar={"title": {"text": "ρ"}},
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


@c.of_a_study
def rank(study: Study, *, objective: str | None = None, names: Sequence[str] | None = None) -> Figure:
    """Complete trials over pairs of parameters, coloured by their rank: bright is good.

    ``names``: up to four parameters, of which all pairs are shown that vary together; of more, and by default
    of all in the order of their importance, the first three pairs.
    """
    column = column_of(study.history, objective)
    numbers, z = _complete(study, column)
    listed = list(names or _by_importance(study, list(study.objectives)[column]))
    few = names is not None and len(listed) <= _MOST_CHOSEN
    pairs = _pairs(study, listed, numbers)[: None if few else _ABREAST]
    if not pairs:
        raise c.nothing(study, "no two searched parameters that vary together")
    # 1 for the best of all complete trials, thinned or not.
    places = 1.0 - mid_ranks(z) / max(len(z) - 1, 1)
    shown = c.thinned(numbers, c.best_numbers(study, column), _MOST_POINTS)
    shown = shown[np.argsort(places[np.searchsorted(numbers, shown)], kind="stable")]
    colours = places[np.searchsorted(numbers, shown)]
    abreast = min(len(pairs), _ABREAST)
    down = -(-len(pairs) // abreast)
    grid = c.panels(
        "Rank over pairs of parameters",
        height=110 + 330 * down,
        rows=down,
        cols=abreast,
        horizontal_spacing=0.1,
        vertical_spacing=0.16,
    )
    rng = np.random.default_rng(0)
    for i, listed_pair in enumerate(pairs):
        # Names of choices are long: they have room below a panel, not beside it.
        pair = sorted(listed_pair, key=lambda name: study.space.parameters[name].numeric)
        row, col = i // abreast + 1, i % abreast + 1
        x, y = (_places(study, name, shown, rng) for name in pair)
        both = ~(np.isnan(x) | np.isnan(y))
        grid.add_scatter(
            row=row,
            col=col,
            x=x[both],
            y=y[both],
            mode="markers",
            customdata=np.stack([shown[both], (1.0 - colours[both]) * max(len(z) - 1, 1) + 1], axis=1),
            marker={
                "size": 6, "opacity": 0.8, "color": colours[both], "cmin": 0, "cmax": 1,
                "colorscale": c.SCALE, "showscale": i == 0,
                "colorbar": {"tickvals": [0, 1], "ticktext": ["worst", "best"], "thickness": 14},
            },
            hovertemplate="trial %{customdata[0]}, rank %{customdata[1]:.0f}<extra></extra>",
        )  # fmt: skip
        grid.update_xaxes(row=row, col=col, title_text=pair[0], **c.axis_of(study, pair[0], c.PANEL))
        grid.update_yaxes(row=row, col=col, title_text=pair[1], **c.axis_of(study, pair[1], longest=_BESIDE))
    return grid
