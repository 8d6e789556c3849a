"""``hpo compare``: which study, or which way of searching, got further, and with what effort."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows._find import find
from flows._live import make_console
from flows._notes import identity_of, request_data
from flows._workspace import studies_home, study_names
from hpo_core import InputError, Study
from hpo_core.compare import Comparison, Effort, Side
from hpo_core.compare import compare as compared
from hpo_core.folds import repeats_of
from tracking import duration, number_text

# Options of the ready objectives that decide which rows a fold has.
_FOLD_OPTIONS = ("folds", "split", "group", "time", "test_size", "split_seed", "seed", "drop")
_FOLD_FACTS = ("target", "metric", "split", "folds", "train_rows", "test_rows")

_Rows = tuple[list[str], list[list[str]]]


def compare(
    studies: Sequence[str],
    *,
    objective: str | None,
    score: float | None,
    html: Path | None,
    png: Path | None,
    as_json: bool,
) -> None:
    """See ``hpo compare``."""
    sides = {text: [find(name) for name in _names(text)] for text in studies}
    everything = [study for group in sides.values() for study in group]
    if len({study.name for study in everything}) < len(everything) or len(sides) < len(studies):
        raise InputError(f"a study is named twice in {' '.join(studies)}; each belongs to one side")
    found = compared(sides, objective=objective, same_folds=_same_folds(everything))
    notes = _notes(everything)
    scores = [found.target, *([] if score is None else [score])]
    tables = [("Finals", _finals(found)), *((_title(s, found), _efforts(found, s)) for s in scores)]
    _write(found, tables, notes, html, png)
    if as_json:
        typer.echo(json.dumps(_data(found, scores, notes)))
        return
    console = make_console(soft_wrap=False)
    for title, (columns, rows) in tables:
        _print(console, title, columns, rows)
    for line in (found.claim(), *notes):
        typer.echo(line)
    for path in (html, png):
        if path is not None:
            typer.echo(f"the curves are in {path}")


def _names(text: str) -> list[str]:
    """The studies of one side, in order."""
    names: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            raise InputError(f"a side is a study, or several with commas between them, got {text!r}")
        if "*" not in part:
            names.append(part)
            continue
        matching = [name for name in study_names() if fnmatch.fnmatchcase(name, part)]
        if not matching:
            raise InputError(f"no study in {studies_home()} matches {part!r}; `hpo list` lists them")
        names += matching
    return names


def _same_folds(studies: Sequence[Study]) -> bool:
    """Whether the studies are known to have been evaluated on the same folds of the same data."""

    def described(study: Study) -> str:
        meta = study.created.meta
        identity, summary = identity_of(meta), meta.get("summary") or {}
        options = request_data(meta).get("options") or {}
        # Of a function of the user's own nothing is known but which function it is.
        what = identity.get("data") or identity.get("objective")
        facts = {k: summary.get(k) for k in _FOLD_FACTS} | {k: options.get(k) for k in _FOLD_OPTIONS}
        return json.dumps([what, facts], sort_keys=True, default=str)

    return len({described(study) for study in studies}) == 1


def _notes(studies: Sequence[Study]) -> list[str]:
    """What a reader should know before believing the numbers."""
    notes = []
    data = {str(identity_of(s.created.meta).get("data")) for s in studies}
    if len(data) > 1:
        notes.append("The studies were not run on the same data: their scores may not mean the same.")
    if len({frozenset(s.state.settings.outcome_constraints) for s in studies}) > 1:
        notes.append("The studies bound outcomes differently: what is best in one may not count in another.")
    if len({(s.state.settings.rule, repeats_of(s)) for s in studies}) > 1:
        notes.append(
            "A result is not the same in all studies, by its rule or the number of its repeats: the best of "
            "noisier ones looks better than it is."
        )
    units: dict[str, list[str]] = {}
    for study in studies:
        if unit := study.created.meta.get("step_unit"):
            units.setdefault(unit, []).append(study.name)
    if len(units) > 1:
        said = "; ".join(f"{unit} in {', '.join(names)}" for unit, names in units.items())
        notes.append(f"A step is not the same in all studies, so steps say nothing about effort: {said}.")
    open_ = [study.name for study in studies if study.stopped is None]
    if open_:
        notes.append(f"Not finished: {', '.join(open_)}.")
    warm = [study.name for study in studies if study.state.observed]
    if warm:
        notes.append(f"Begun with results from elsewhere, which count as no effort: {', '.join(warm)}.")
    return notes


# -- tables ------------------------------------------------------------------------------------


def _title(score: float, found: Comparison) -> str:
    which = " (the worst of the finals)" if score == found.target else ""
    return f"Effort to reach {found.objective} {number_text(score)}{which}"


def _finals(found: Comparison) -> _Rows:
    lengths = {len(course.best) for side in found.sides for course in side.courses}
    at = [f"after {found.common:,}"] if found.common and len(lengths) > 1 else []
    columns = ["side", "studies", "trials", "best", *at, "steps", "time"]
    rows = []
    for side in found.sides:
        steps = [int(c.steps[-1]) for c in side.courses if c.steps is not None]
        seconds = [float(c.seconds[-1]) for c in side.courses if c.seconds is not None]
        rows.append(
            [
                side.name,
                str(len(side.courses)),
                _spread([len(c.best) for c in side.courses], _whole),
                _spread([c.final for c in side.courses], _short),
                *([_spread(side.best_at(found.common).tolist(), _short)] if at else []),
                _spread(steps, _whole) if len(steps) == len(side.courses) else "-",
                _spread(seconds, duration) if len(seconds) == len(side.courses) else "-",
            ]
        )
    return columns, rows


def _efforts(found: Comparison, score: float) -> _Rows:
    columns = ["side", "reached it", "trials", "steps", "time"]
    rows = []
    for side in found.sides:
        efforts = _reached(side, score, found.direction)
        steps = [e.steps for e in efforts if e.steps is not None]
        seconds = [e.seconds for e in efforts if e.seconds is not None]
        rows.append(
            [
                side.name,
                f"{len(efforts)} of {len(side.courses)}",
                _spread([e.trials for e in efforts], _whole),
                _spread(steps, _whole),
                _spread(seconds, duration),
            ]
        )
    return columns, rows


def _reached(side: Side, score: float, direction: str) -> list[Effort]:
    efforts = [course.effort(score, direction) for course in side.courses]
    return [effort for effort in efforts if effort is not None]


def _spread(values: Sequence[float], text: Callable[[float], str]) -> str:
    """The only value, or the median and the range."""
    if not values:
        return "-"
    middle, low, high = text(float(np.median(values))), text(min(values)), text(max(values))
    return middle if low == high else f"{middle} ({low} to {high})"


def _short(value: float) -> str:
    return f"{value:.4g}"


def _whole(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _print(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # A table's own title is broken where the table ends.
    console.print(Text(title, style="bold"))
    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for side, *figures in rows:
        # A side of several studies is broken between their names, not within one.
        table.add_row(side.replace(",", ", "), *figures)
    console.print(table)
    console.print()


# -- elsewhere ---------------------------------------------------------------------------------


def _write(
    found: Comparison,
    tables: Sequence[tuple[str, _Rows]],
    notes: Sequence[str],
    html: Path | None,
    png: Path | None,
) -> None:
    from tracking import comparison_html, draw_comparison

    try:
        if html is not None:
            html.write_text(comparison_html(found, tables, notes), encoding="utf-8")
        if png is not None:
            draw_comparison(found, png)
    except OSError as error:
        raise InputError(f"the comparison cannot be written ({error}); choose another file") from None


def _data(found: Comparison, scores: Sequence[float], notes: Sequence[str]) -> dict[str, Any]:
    return {
        "objective": found.objective,
        "direction": found.direction,
        "common_trials": found.common,
        "target": found.target,
        "claim": found.claim(),
        "notes": list(notes),
        "sides": [
            {
                "side": side.name,
                "studies": [
                    {
                        "study": course.study,
                        "trials": len(course.best),
                        "best": course.final,
                        "steps": None if course.steps is None else int(course.steps[-1]),
                        "seconds": None if course.seconds is None else float(course.seconds[-1]),
                        "reached": [
                            {"score": score, **_effort(course.effort(score, found.direction))}
                            for score in scores
                        ],
                    }
                    for course in side.courses
                ],
            }
            for side in found.sides
        ],
        "differences": [_fields(d) for d in found.differences],
        "configurations": None if found.configurations is None else _fields(found.configurations),
    }


def _effort(effort: Effort | None) -> dict[str, Any]:
    return dict.fromkeys(("trials", "steps", "seconds")) if effort is None else _fields(effort)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}
