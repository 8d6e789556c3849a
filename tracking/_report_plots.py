"""PNG plots of a study for places that show pictures only; drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpo_core import Study, TrialState
from hpo_core.correlation import Correlations, correlations
from hpo_core.importance import Importance
from hpo_core.inner import ranks, robust_range
from hpo_core.plots.inner import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    best_numbers,
    is_log,
    labels,
    thinned,
)
from hpo_core.uncertainty import band

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS, _MOST_BARS, _MOST_SLICES = 3000, 15, 6
# Below a panel so many letters fit side by side, and so many upright labels of so many letters. A label that
# is cut to fewer letters than the last says little.
_ABREAST, _MOST_UPRIGHT, _HIGH, _FEW_LETTERS = 34, 18, 14, 8
_UPRIGHT = 90
_FARTHEST = 1e300


def draw_plots(study: Study, found: Mapping[str, Sequence[Importance]], folder: Path) -> list[Path]:
    """Write ``history.png``, ``pareto.png``, ``importance.png``, ``slices.png``, ``correlation.png``: those
    that have something to show.
    """
    if not study.history.count(TrialState.COMPLETE):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    first = next(iter(found.values()))
    shown = [i.name for i in first] or list(study.space.column_names)
    shown = shown[:_MOST_SLICES]
    files = [drawn(folder / "history.png", (8.0, 4.5), 1, lambda axes: _history(study, axes[0]))]
    if len(study.objectives) > 1:
        files.append(drawn(folder / "pareto.png", (8.0, 5.0), 1, lambda axes: _pareto(study, axes[0])))
    if first:
        size = (8.0, 1.4 + 0.42 * min(len(first), _MOST_BARS))
        files.append(drawn(folder / "importance.png", size, 1, lambda axes: _importance(first, axes[0])))
    if shown:
        files.append(
            drawn(
                folder / "slices.png",
                (9.0, 3.2 * -(-len(shown) // 3)),
                len(shown),
                lambda axes: _slices(study, shown, axes),
            )
        )
    related = correlations(study).strongest(_MOST_BARS)
    if np.isfinite(related.rho[0, 1:]).any():
        n = len(related.names)
        size, below = (3.2 + 0.62 * n, 2.2 + 0.4 * n), 1.3
        path = folder / "correlation.png"
        files.append(drawn(path, size, 1, lambda axes: _correlation(related, axes[0]), below=below))
    return files


def drawn(
    path: Path,
    size: tuple[float, float],
    count: int,
    draw: Callable[[list[Axes]], None],
    *,
    below: float = 0.62,
) -> Path:
    """A picture of ``count`` axes, three abreast, filled in by ``draw``; sizes in inches."""
    # No pyplot: it keeps figures for the whole process, and this runs beside the user's own.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    abreast = min(count, 3)
    axes = [figure.add_subplot(-(-count // abreast), abreast, i + 1) for i in range(count)]
    for ax in axes:
        ax.grid(visible=True, alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    draw(axes)
    # Measured: a constrained layout draws everything twice, which is most of the time.
    widest = max((len(t.get_text()) for ax in axes for t in ax.get_yticklabels()), default=0)
    left = min(0.05 + 0.075 * max(widest, 6) / size[0] + 0.2 / size[0], 0.5)
    upright = [t for ax in axes for t in ax.get_xticklabels() if t.get_rotation() == _UPRIGHT]
    below = max([below, *(0.45 + 0.07 * len(t.get_text()) for t in upright)])
    rows, gap = -(-count // abreast), below + 0.15
    height = (size[1] - 0.4 - below - (rows - 1) * gap) / rows
    figure.subplots_adjust(
        left=left, right=0.98, top=1 - 0.4 / size[1], bottom=below / size[1], wspace=0.28, hspace=gap / height
    )
    figure.savefig(path, dpi=90, pil_kwargs={"compress_level": 1})
    return path


def _drawable(study: Study) -> NDArray[np.float64]:
    """(n, k): minimised values, the farthest a little nearer: the largest numbers have no margin."""
    return np.clip(study.history.values, -_FARTHEST, _FARTHEST)


def _history(study: Study, ax: Axes) -> None:
    history = study.history
    name, direction = next(iter(study.objectives.items()))
    minimised = _drawable(study)
    values = minimised[:, 0] * history.signs[0]
    for state, colour in ((TrialState.PRUNED, ORANGE), (TrialState.COMPLETE, BLUE)):
        numbers = np.flatnonzero((history.states == state) & np.isfinite(values))
        numbers = thinned(numbers, best_numbers(study, 0), _MOST_POINTS)
        if len(numbers):
            ax.plot(numbers, values[numbers], ".", color=colour, alpha=0.6, label=state.label)
    complete = np.flatnonzero(ranks(history))
    best = np.minimum.accumulate(minimised[complete, 0]) * history.signs[0]
    records = np.flatnonzero(np.append(True, best[1:] != best[:-1]))
    found = band(study, complete[records].tolist())
    if found is not None:
        at = np.append(complete[records], complete[-1])
        middle, half = np.append(best[records], best[-1]), np.append(found.half, found.half[-1])
        ax.fill_between(
            at,
            middle - half,
            middle + half,
            step="post",
            color=GREEN,
            alpha=0.22,
            linewidth=0,
            label=found.what,
        )
    ax.step(complete, best, where="post", color=GREEN, linewidth=2, label="best so far")
    limit(ax, robust_range(values[complete], direction))
    ax.set(xlabel="trial", ylabel=f"{plain(name)} ({direction})", title=f"History of {plain(study.name)}")
    ax.legend(frameon=False)


def _pareto(study: Study, ax: Axes) -> None:
    """By the first two objectives; of more, the front looks wider than a line."""
    history = study.history
    (one, its), (two, other) = list(study.objectives.items())[:2]
    V = _drawable(study) * history.signs
    front = np.array([t.number for t in study.pareto_front], dtype=np.int64)
    complete = np.flatnonzero(ranks(history))
    rest = np.setdiff1d(thinned(complete, front, _MOST_POINTS), front)
    ax.plot(V[rest, 0], V[rest, 1], ".", color=GREY, alpha=0.6, label="dominated")
    ax.plot(V[front, 0], V[front, 1], "o", color=ORANGE, markersize=5, label="Pareto front")
    limit(ax, robust_range(V[complete, 1], other))
    across = robust_range(V[complete, 0], its)
    if across is not None:
        ax.set_xlim(*across)
    ax.set(xlabel=f"{plain(one)} ({its})", ylabel=f"{plain(two)} ({other})")
    ax.set_title(f"Pareto front: {len(front):,} of {len(complete):,} complete trials")
    ax.legend(frameon=False)


def _importance(found: Sequence[Importance], ax: Axes) -> None:
    rows = list(found)[:_MOST_BARS][::-1]
    at = np.arange(len(rows))
    series = (
        ("over the whole space", BLUE, 0.2, [(i.share, i.low, i.high) for i in rows]),
        ("near the optimum", ORANGE, -0.2, [(i.local, i.local_low, i.local_high) for i in rows]),
    )
    for label, colour, shift, triples in series:
        v, low, high = np.array(triples).T
        whiskers: Any = np.maximum([v - low, high - v], 0.0)
        ax.barh(at + shift, v, 0.38, xerr=whiskers, color=colour, ecolor=GREY, label=label)
    ax.set_yticks(at, [plain(t) for t in labels([i.name for i in rows])])
    ax.set_xlabel("share of the variance explained alone")
    ax.set_title("Importance", loc="left")
    # Bars and whiskers may fill the axes.
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)


def _correlation(found: Correlations, ax: Axes) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    n = len(found.names)
    rho = np.where(np.tril(np.ones((n, n), dtype=bool), -1), found.rho, np.nan)[1:, :-1]
    chance = found.chance[1:, :-1]
    scale = LinearSegmentedColormap.from_list("signs", [BLUE, "#f4f4f4", ORANGE])
    ax.imshow(rho, cmap=scale, vmin=-1, vmax=1, aspect="auto")
    for row, col in zip(*np.nonzero(np.abs(np.nan_to_num(rho)) > chance), strict=True):
        ax.text(col, row, f"{rho[row, col]:.2f}", ha="center", va="center", fontsize=8)
    names = [plain(t) for t in labels(list(found.names), 20)]
    ax.set_xticks(range(n - 1), names[:-1], rotation=35, ha="right")
    ax.set_yticks(range(n - 1), names[1:])
    ax.set(title="Rank correlation")
    ax.grid(visible=False)


def _slices(study: Study, shown: Sequence[str], axes: Sequence[Axes]) -> None:
    history, space = study.history, study.space
    complete = np.flatnonzero(ranks(history))
    numbers = thinned(complete, best_numbers(study, 0), _MOST_POINTS)
    name, direction = next(iter(study.objectives.items()))
    values = _drawable(study)[numbers, 0] * history.signs[0]
    span = robust_range(values, direction)
    for i, (parameter_name, ax) in enumerate(zip(shown, axes, strict=True)):
        parameter = space.parameters[parameter_name]
        units = history.X[numbers, space.column_names.index(parameter_name)]
        seen = ~np.isnan(units)
        if parameter.numeric:
            x = np.array([float(parameter.decode(u)) for u in units[seen].tolist()])
            ax.set_xscale("log" if is_log(parameter) else "linear")
            ax.minorticks_off()
        else:
            x = np.floor(units[seen] * parameter.cardinality)
            choices = [parameter.value_at(k) for k in range(parameter.cardinality)]
            # Choices of which too little would be left side by side stand upright, and of many only some.
            upright = len(choices) * min(max(len(str(c)) for c in choices), _FEW_LETTERS) > _ABREAST
            names = [plain(t) for t in labels(choices, _HIGH if upright else _ABREAST // len(choices))]
            every = -(-len(names) // _MOST_UPRIGHT)
            ax.set_xticks(
                range(0, len(names), every), names[::every], rotation=_UPRIGHT if upright else 0, fontsize=8
            )
            ax.set_xlim(-0.5, len(names) - 0.5)
        ax.scatter(x, values[seen], s=10, c=numbers[seen], cmap="viridis", alpha=0.8)
        limit(ax, span)
        ax.set(xlabel=plain(parameter_name), ylabel=plain(name) if i % 3 == 0 else "")


def limit(ax: Axes, span: tuple[float, float] | None) -> None:
    """Leave disasters beyond the axis."""
    if span is not None:
        ax.set_ylim(*span)


def plain(text: str) -> str:
    """The text as it is: matplotlib would take dollar signs for formulas."""
    return text.replace("$", r"\$")
