"""The report: one HTML file that needs no network, and pictures for where HTML is not shown.

It lies in the folder from which the projector uploads what belongs to the study's run. Plotly's script,
4.8 MB, is packed to less than half; the browser unpacks it.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hpo_core import InputError, Study, TrialRecord, TrialState
from hpo_core._events import Event
from tracking._text import number_text, preview

REPORT = "report.html"
_MOST_ROWS = 20
# Each objective gets figures of its own; more than a few make no page that anybody reads.
_MOST_OBJECTIVES = 3

Figure = Any

_STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #5f6b76; --line: #d8dde2; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --soft: #9aa5b0; --line: #343b42; --page: #16191c; }
}
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
figure { margin: 1.5rem 0; } noscript { color: #c33; }
"""

_SCRIPT = """
const of = id => document.getElementById(id).textContent;
(async () => {
  const packed = Uint8Array.from(atob(of("plotly")), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.appendChild(script);
  for (const place of document.querySelectorAll("[data-figure]")) {
    const figure = JSON.parse(of(place.dataset.figure));
    await Plotly.newPlot(place, figure.data, figure.layout, {responsive: true, displayModeBar: false});
  }
  document.body.dataset.drawn = "yes";
})();
"""


def write_report(study: Study, folder: Path, events: Iterable[Event] = ()) -> list[Path]:
    """Write ``report.html``, ``history.png`` and ``importance.png`` into ``folder``; returns the files.

    ``events``: the journal's, for the timeline of workers. Figures for which the study has nothing to
    show are left out; a study without a complete trial still gets its page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / REPORT
    page.write_text(report_html(study, events), encoding="utf-8")
    return [page, *_pictures(study, folder)]


def report_html(study: Study, events: Iterable[Event] = ()) -> str:
    """The page of :func:`write_report` as text."""
    from plotly.offline import get_plotlyjs

    figures = list(_figures(study, events))
    library = base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode()
    name = html.escape(study.name)
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>',
        f"<h1>{name}</h1>",
        *_summary(study),
        "<noscript>The figures need JavaScript; the tables do not.</noscript>",
    ]
    for number, (title, figure) in enumerate(figures):
        data = figure.to_json().replace("</", "<\\/")
        parts.append(
            f'<figure aria-label="{html.escape(title)}"><div data-figure="f{number}"></div></figure>'
            f'<script type="application/json" id="f{number}">{data}</script>'
        )
    parts.append(f'</main><script type="text/plain" id="plotly">{library}</script>')
    parts.append(f"<script>{_SCRIPT}</script></body></html>")
    return "".join(parts)


def _figures(study: Study, events: Iterable[Event]) -> Iterator[tuple[str, Figure]]:
    from hpo_core import plots

    several = len(study.objectives) > 1
    makers: list[tuple[str, Callable[[], Figure]]] = [("Pareto front", partial(plots.pareto, study))]
    makers = makers if several else []
    for objective in list(study.objectives)[:_MOST_OBJECTIVES]:
        of = f" of {objective}" if several else ""
        for title, plot in (
            ("History", plots.history),
            ("Parameter importance", plots.importance),
            ("Parallel coordinates", plots.parallel_coordinates),
            ("Slices", plots.slices),
            ("Contour", plots.contour),
            ("Curves", plots.curves),
        ):
            makers.append((title + of, partial(plot, study, objective=objective)))
    makers += [
        ("Rungs", partial(plots.rungs, study)),
        ("Lineage", partial(plots.lineage, study)),
        ("Workers over time", partial(plots.timeline, study, events)),
        ("Trials without a result", partial(plots.failures, study)),
    ]
    for title, make in makers:
        try:
            yield title, make()
        except InputError:
            # The study has nothing of this kind.
            continue


# -- tables ------------------------------------------------------------------------------------


def _summary(study: Study) -> Iterator[str]:
    counts = {s.label: study.history.count(s) for s in TrialState if study.history.count(s)}
    goals = ", ".join(f"{'maximise' if d == 'max' else 'minimise'} {n}" for n, d in study.objectives.items())
    stopped = study.stopped
    state = f"{stopped.state}: {stopped.reason}" if stopped else "still open"
    yield f'<p class="soft">{html.escape(goals)}. {html.escape(state)}.</p>'
    yield "<p>" + html.escape(", ".join(f"{n} {label.replace('_', ' ')}" for label, n in counts.items()))
    yield f" ({study.history.n_trials} trials)</p>"
    best = _best(study)
    if best:
        several = len(study.objectives) > 1
        yield f"<h2>{'Pareto front' if several else 'Best trials'}</h2>"
        yield _table(study, best)


def _best(study: Study) -> list[TrialRecord]:
    history = study.history
    complete = np.flatnonzero(history.states == TrialState.COMPLETE)
    if len(study.objectives) > 1:
        return study.pareto_front[:_MOST_ROWS]
    order = np.argsort(history.values[complete, 0], kind="stable")[:_MOST_ROWS]
    return [study.trials[number] for number in complete[order]]


def _table(study: Study, trials: list[TrialRecord]) -> str:
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    head = ["trial", *study.objectives, *names]
    rows = [
        [t.number, *(t.values.get(n) for n in study.objectives), *(t.params.get(n) for n in names)]
        for t in trials
    ]
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(c))}</td>" for c in row) + "</tr>" for row in rows
    )
    titles = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{cells}</tbody></table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = number_text(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return preview(text.strip('"'), 60)


# -- pictures ----------------------------------------------------------------------------------


def _pictures(study: Study, folder: Path) -> Iterator[Path]:
    from matplotlib.figure import Figure as Canvas

    from hpo_core.importance import importances

    history = study.history
    complete = np.flatnonzero(history.states == TrialState.COMPLETE)
    if not len(complete):
        return
    name, direction = next(iter(study.objectives.items()))
    values = history.values[complete, 0]
    best = np.minimum.accumulate(values)
    sign = 1.0 if direction == "min" else -1.0
    # Without pyplot: its global state belongs to the user.
    canvas = Canvas(figsize=(8, 4), layout="constrained")
    axes = canvas.subplots()
    axes.plot(complete, sign * values, ".", color="#4c8dd6", alpha=0.5, label="trial")
    axes.step(complete, sign * best, where="post", color="#e08a3c", label="best so far")
    axes.set(xlabel="trial", ylabel=name, title=study.name)
    axes.legend()
    yield _saved(canvas, folder / "history.png")
    shares = importances(study)[:_MOST_ROWS][::-1]
    if not shares:
        return
    canvas = Canvas(figsize=(8, 1.2 + 0.32 * len(shares)), layout="constrained")
    axes = canvas.subplots()
    errors = np.array([[max(s.share - s.low, 0.0), max(s.high - s.share, 0.0)] for s in shares]).T
    axes.barh([s.name for s in shares], [s.share for s in shares], xerr=errors, color="#4c8dd6")
    axes.set(xlabel="share of the variance", title=f"importance for {name}")
    yield _saved(canvas, folder / "importance.png")


def _saved(canvas: Any, path: Path) -> Path:
    canvas.savefig(path, dpi=120)
    return path
