"""A comparison of studies as one HTML page that needs no network, and as a picture."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpo_core import plots
from hpo_core.compare import AXES, Comparison
from hpo_core.inner import robust_range
from hpo_core.plots.inner import AXIS_WORDS, COLOURS, envelope
from tracking._report import Shown, assembled
from tracking._report_plots import drawn, limit, plain
from tracking._words import goal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Table = tuple[Sequence[str], Sequence[Sequence[str]]]

_WORDS = (
    "The best value so far against {}. A side of several studies is the line of their median, as far as all "
    "of them go, in a band from the worst to the best."
)


def comparison_html(found: Comparison, tables: Sequence[tuple[str, Table]], notes: Sequence[str] = ()) -> str:
    """The page. ``tables``: title, columns and rows each; ``notes``: sentences below the verdict."""
    names = [side.name for side in found.sides]
    facts = [
        ("goal", goal(found.objective, found.direction)),
        ("verdict", found.claim()),
        *(("note", note) for note in notes),
    ]
    summary = "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in facts)
    figures = [
        Shown(
            title=f"Best so far against {axis}",
            words=_WORDS.format(AXIS_WORDS[axis]),
            make=partial(plots.compare, found, against=axis),
        )
        for axis in AXES
    ]
    drawn_tables = "".join(_table(title, table) for title, table in tables)
    return assembled(" against ".join(names), f"<dl>{summary}</dl>", drawn_tables, figures)


def _table(title: str, table: Table) -> str:
    columns, rows = table
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<section><h2>{html.escape(title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )


def draw_comparison(found: Comparison, path: Path) -> Path:
    """Write the best so far against everything that all sides counted as a PNG."""
    counted = [
        axis for axis in AXES if all(c.axis(axis) is not None for side in found.sides for c in side.courses)
    ]

    def draw(axes: list[Axes]) -> None:
        for axis, ax in zip(counted, axes, strict=True):
            shown = []
            for i, side in enumerate(found.sides):
                (x, y), band = envelope(side, axis)
                colour = COLOURS[i % len(COLOURS)]
                if band is not None:
                    ax.fill_between(x, *band, step="post", color=colour, alpha=0.18, linewidth=0)
                ax.step(x, y, where="post", color=colour, linewidth=2, label=plain(side.name))
                shown += y.tolist()
            limit(ax, robust_range(np.array(shown), found.direction))
            ax.set(xlabel=AXIS_WORDS[axis], ylabel=plain(found.objective) if ax is axes[0] else "")
        axes[0].legend(frameon=False)

    return drawn(path, (5.2 * len(counted), 4.2), len(counted), draw)
