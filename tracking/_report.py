"""The report: one HTML file that needs no network, and pictures for where HTML is not shown.

It lies in the folder from which the projector uploads what belongs to the study's run. Plotly's script,
4.8 MB, is packed to less than half; the browser unpacks it. The page follows the reader's choice of light
or dark, and says in words what each figure shows.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hpo_core import InputError, Study, TrialRecord, TrialState
from hpo_core.confirm import said_of
from hpo_core.folds import repeats_of, spread_of
from hpo_core.importance import Importance, importances
from hpo_core.inner import Event, choice_text, leaders
from hpo_core.schedules import followed
from tracking._errors import brief
from tracking._text import preview
from tracking._words import duration, goal, moment, number_text

REPORT, PLOTS, SCHEDULE = "report.html", "plots", "schedule.json"
_MOST_ROWS, _MOST_COLUMNS = 20, 14
# Each objective gets figures of its own; more than a few make no page that anybody reads.
_MOST_OBJECTIVES = 3
# Higher levels take a second for a tenth of the size.
_PACKING = 4
_MEAN = "mean ± standard deviation over them"

_Found = Mapping[str, Sequence[Importance]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One figure to be made, and what it shows in words."""

    title: str
    words: str
    make: Callable[[], Any]


def write_report(study: Study, folder: Path, events: Iterable[Event] = ()) -> list[Path]:
    """Write ``report.html`` and ``plots/*.png`` into ``folder``; returns the files.

    ``events``: the journal's, for the timeline of workers. Figures for which the study has nothing to
    show are left out; a study without a complete trial still gets its page. Of a study with forks,
    what the best trial was trained with over its steps is in ``schedule.json``, for
    :meth:`hpo_core.schedules.Recorded.from_json`.
    """
    from tracking._report_plots import draw_plots

    found = _importance(study)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / REPORT
    page.write_text(_page(study, _figures(study, found, list(events))), encoding="utf-8")
    return [page, *draw_plots(study, found, folder / PLOTS), *_write_schedule(study, folder)]


def _write_schedule(study: Study, folder: Path) -> Iterator[Path]:
    best = leaders(study.history)[:1].tolist()
    # Of a winner that is no fork, too: MLflow may have that of the fork which it has left behind.
    if best and any(trial.parent is not None for trial in study.trials):
        file = folder / SCHEDULE
        said = {"trial": best[0], **followed(study, best[0]).to_json()}
        file.write_text(json.dumps(said), encoding="utf-8")
        yield file


def report_html(study: Study) -> str:
    """The page of :func:`write_report` as text, without what only the journal's events say."""
    return _page(study, _figures(study, _importance(study), []))


def _importance(study: Study) -> _Found:
    names = list(study.objectives)[:_MOST_OBJECTIVES]
    return {name: importances(study, objective=name) for name in names}


def _figures(study: Study, found: _Found, events: list[Event]) -> list[Shown]:
    return [*_of_results(study, found), *_of_parameters(study, found), *_of_the_course(study, events)]


def _figure(
    study: Study, title: str, words: str, plot: Callable[..., Any], *args: Any, **options: Any
) -> Shown:
    return Shown(title=title, words=words, make=functools.partial(plot, study, *args, **options))


def _of_results(study: Study, found: _Found) -> Iterator[Shown]:
    """How good the trials are."""
    from hpo_core import plots

    several, repeats = len(study.objectives) > 1, repeats_of(study)
    source = (
        f"the standard error over its {repeats} seeds"
        if repeats > 1
        else "the standard error over folds where the best trials reported folds, else the noise of one "
        "result as a Gaussian process sees it"
    )
    for name in found:
        title = f"History of {name}" if several else "History"
        words = (
            f"Each trial's {name} by trial number, and the best so far. The band is its uncertainty: "
            f"{source}. The best of many noisy results is an optimistic one."
        )
        yield _figure(study, title, words, plots.history, objective=name)
    if several:
        words = (
            "Complete trials by their objectives; on the front are those that no other beats in all of them."
        )
        yield _figure(study, "Pareto front", words, plots.pareto)


def _of_parameters(study: Study, found: _Found) -> Iterator[Shown]:
    """How the results depend on the parameters, of which the most important ones come first."""
    from hpo_core import plots

    several, first = len(study.objectives) > 1, next(iter(found))
    known = [i.name for i in found[first]]
    ordered = [*known, *(n for n in study.space.column_names if n not in known)]
    for name, rows in found.items():
        title = f"Parameter importance for {name}" if several else "Parameter importance"
        yield _figure(study, title, _importance_words(rows), plots.importance, objective=name, found=rows)
    words = (
        "A line for each complete trial through its parameters to its result; bright lines are the best. "
        "Drag along an axis to select."
    )
    yield _figure(study, "Parallel coordinates", words, plots.parallel_coordinates, names=ordered)
    words = f"{first} over each parameter, the most important one first; bright points are later trials."
    yield _figure(study, "Slices", words, plots.slices, names=ordered)
    words = (
        "What a forest expects over the two most important parameters that vary together, others averaged "
        "out; bright is good."
    )
    yield _figure(study, "Contour", words, plots.contour, names=ordered)
    words = (
        "Complete trials over pairs of the most important parameters that vary together; the colour is the "
        f"trial's rank by {first}, bright is good."
    )
    yield _figure(study, "Rank", words, plots.rank, names=ordered)
    for name in found:
        title = f"Rank correlation for {name}" if several else "Rank correlation"
        words = (
            f"Spearman's rank correlation of each parameter with {name} (first column), and among one "
            "another. Numbers stand where it is more than chance among independent trials; a sampler's "
            "trials are not quite that, and two parameters may go together because good results were sought "
            "there."
        )
        yield _figure(study, title, words, plots.correlation, objective=name)


def _of_the_course(study: Study, events: list[Event]) -> Iterator[Shown]:
    """What happened while the study ran."""
    from hpo_core import plots

    words = "What trials reported while they ran; pruned trials end where they were stopped."
    yield _figure(study, "Curves", words, plots.curves)
    words = "How many trials reached each step at which trials pause or end."
    yield _figure(study, "Rungs", words, plots.rungs)
    words = "Which trial was forked from which, and the way to the best one."
    yield _figure(study, "Lineage", words, plots.lineage)
    words = (
        "The hyperparameters that changed while the best trial's model was trained, over its steps; "
        "hpo_core.schedules.followed gives them as a schedule to train by, and so does schedule.json, which "
        "is beside this page in MLflow."
    )
    yield _figure(study, "The winner's schedule", words, plots.schedule)
    words = "Which worker ran which trial when; gaps are time without work."
    yield _figure(study, "Workers over time", words, plots.timeline, events)
    words = "How many trials ended without a result, by state and reason."
    yield _figure(study, "Trials without a result", words, plots.failures)


def _importance_words(found: Sequence[Importance]) -> str:
    top = ", ".join(f"{i.name} {i.share:.0%} ({i.low:.0%} to {i.high:.0%})" for i in found[:3])
    return (
        "Share of the variance that each parameter explains by itself, over the whole space and near the "
        "optimum, where all but the best quarter of the results count as equal. Whiskers run from the 5th to "
        "the 95th percentile over trees grown on bootstrap samples. A conditional parameter's share is that "
        "among the trials in which it was active." + (f" First: {top}." if top else "")
    )


# -- the page ----------------------------------------------------------------------------------


def _page(study: Study, figures: Sequence[Shown]) -> str:
    tables = _best(study) + _leaderboard(study) + _space(study)
    return assembled(study.name, _summary(study), tables, figures)


def assembled(title: str, summary: str, tables: str, figures: Sequence[Shown]) -> str:
    """The page. ``summary`` and ``tables`` are HTML; figures for which there is nothing are left out."""
    sections = [text for i, figure in enumerate(figures) if (text := _section(f"f{i}", figure))]
    here = resources.files("tracking").joinpath("_report_page")
    parts = {
        "TITLE": html.escape(title),
        "STYLE": here.joinpath("style.css").read_text("utf-8"),
        "SCRIPT": here.joinpath("draw.js").read_text("utf-8"),
        "PLOTLY": _plotly(),
        "SUMMARY": summary,
        "TABLES": tables,
        "FIGURES": "\n".join(sections),
    }
    # Split first, so that what a part says is never taken for a place.
    pieces = here.joinpath("page.html").read_text("utf-8").split("<!--")
    out = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("-->", 1)
        out += [parts[name], rest]
    return "".join(out)


@functools.cache
def _plotly() -> str:
    """Plotly's script, packed: 0.2 s that a process with several reports pays once."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), _PACKING, mtime=0)).decode()


def _section(key: str, shown: Shown) -> str:
    """One figure with its heading; empty when the study has nothing of the kind."""
    title, words = html.escape(shown.title), html.escape(shown.words)
    try:
        figure = shown.make()
        # "</" would end the script.
        data, height = figure.to_json().replace("</", "<\\/"), int(figure.layout.height)
    except InputError:
        return ""
    except Exception as error:  # noqa: BLE001 - one figure less, and the reader is told
        said = html.escape(brief(error))
        return f'<section><h2>{title}</h2><p class="trouble">It could not be drawn: {said}</p></section>'
    return (
        f"<section><h2>{title}</h2><p>{words}</p>"
        f'<figure aria-label="{title}"><div class="plot" data-figure="{key}" role="img" '
        f'aria-label="{title}. {words}" style="height:{height}px"></div></figure>'
        f'<script type="application/json" id="{key}">{data}</script></section>'
    )


def _summary(study: Study) -> str:
    history, stopped = study.history, study.stopped
    counts = ", ".join(
        f"{history.count(s):,} {s.label.replace('_', ' ')}" for s in TrialState if history.count(s)
    )
    planned = "" if history.planned is None else f" of {history.planned:,}"
    ended = "still open" if stopped is None else f"{stopped.state}: {stopped.reason}".removesuffix(": ")
    warm = int((history.evidence.trials < 0).sum())
    repeats = repeats_of(study)
    confirms = (study.created.meta.get("confirms") or {}).get("study")
    facts = [
        ("goal", ", ".join(goal(n, d) for n, d in study.objectives.items())),
        ("where", ", ".join(study.state.settings.outcome_constraints)),
        ("state", ended),
        ("trials", f"{history.n_trials:,}{planned}{': ' * bool(counts)}{counts}"),
        ("seeds", f"{repeats} for each configuration; results are {_MEAN}" if repeats > 1 else ""),
        ("confirms", f"the best trials of study {confirms}" if confirms else ""),
        ("evidence", f"{warm:,} results from elsewhere" if warm else ""),
        ("strategy", f"{study.strategy.words}, seed {study.created.seed}"),
        ("began", moment(study.created.at)),
        ("took", duration(study.state.seconds_spent) if study.state.seconds_spent > 0 else ""),
    ]
    rows = "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in facts if v)
    return f"<dl>{rows}</dl>"


def _best(study: Study) -> str:
    said = _verdict(study)
    if not study.history.count(TrialState.COMPLETE):
        return f"<p>No trial is complete.</p>{said}"
    if len(study.objectives) > 1:
        return said and f"<section><h2>Confirmation</h2>{said}</section>"
    best = study.best
    scores = ", ".join(f"{n} = {number_text(v)}{_spread(study, best, n)}" for n, v in best.values.items())
    rows = "".join(
        f'<tr><th scope="row">{html.escape(n)}</th><td>{_cell(v)}</td></tr>' for n, v in best.params.items()
    )
    return (
        f'<section><h2>Best: trial {best.number}</h2><p class="score">{html.escape(scores)}</p>{said}'
        f'<div class="wide"><table><tbody>{rows}</tbody></table></div></section>'
    )


def _spread(study: Study, trial: TrialRecord, objective: str) -> str:
    spread = spread_of(study, trial, objective)
    return "" if spread is None else f" ± {spread:.2g}"


def _verdict(study: Study) -> str:
    """What fresh seeds said of the best trial, in the report of either study; empty while they have not."""
    said = said_of(study)
    return f'<p class="verdict">{html.escape(said)}</p>' if said else ""


def _leaderboard(study: Study) -> str:
    numbers = leaders(study.history).tolist()
    trials = [study.trials[number] for number in numbers[:_MOST_ROWS]]
    if not trials:
        return ""
    values, names = list(study.objectives), list(study.space.names)
    params = names[:_MOST_COLUMNS]
    head = "".join(f'<th scope="col">{html.escape(n)}</th>' for n in ("trial", *values, *params))
    rows = "".join(
        f'<tr><th scope="row">{t.number}</th>'
        + "".join(f"<td>{_cell(t.values[n])}{_spread(study, t, n)}</td>" for n in values)
        + "".join(f"<td>{_cell(t.params[n]) if n in t.params else '–'}</td>" for n in params)
        + "</tr>"
        for t in trials
    )
    hidden = len(names) - len(params)
    more = f"<p>{hidden} further parameters are in the trials' runs.</p>" if hidden > 0 else ""
    title = "Best trials"
    if len(values) > 1:
        of = f": {len(trials)} of {len(numbers)}" if len(trials) < len(numbers) else ""
        title = f"Trials on the Pareto front{of}"
    return (
        f'<section><h2>{title}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{more}</section>"
    )


def _space(study: Study) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(n)}</th><td>{html.escape(preview(repr(p), 300))}</td></tr>'
        for n, p in study.space.parameters.items()
    )
    return f'<details><summary>Search space</summary><div class="wide"><table>{rows}</table></div></details>'


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return html.escape(number_text(value))
    return html.escape(preview(choice_text(value), 100))
