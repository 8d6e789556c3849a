"""What the live pages show, as plain JSON, made of a :class:`BoardStudy`; thinned here already."""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hpo_core import InputError
from hpo_core._errors import nearest
from tracking._board import BoardStudy, BoardTrial, no_collection, parsed
from tracking._states import TRIAL_STATUS

_Made = TypeVar("_Made")

MOST_POINTS = 600
_SLICE_POINTS = 250
_CURVE_POINTS = 250
_MOST_SLICES = 12
PAGE = 50


def listed(study: BoardStudy) -> dict[str, Any]:
    """A line in the list of studies, from the tags of its run alone."""
    counts = parsed(study.tags.get("hpo.counts"))
    return {
        "run_id": study.run_id,
        "name": study.name,
        "experiment": study.experiment,
        "experiment_id": study.experiment_id,
        "state": study.state,
        "reason": study.tags.get("hpo.reason", ""),
        "objectives": study.objectives,
        "strategy": strategy_name(study),
        "counts": counts,
        "done": sum(n for state, n in counts.items() if state in TRIAL_STATUS),
        "planned": parsed(study.tags.get("hpo.limits")).get("trials"),
        "best": parsed(study.tags.get("hpo.best_values")) or None,
        "start": study.start,
        "end": study.end,
    }


def strategy_name(study: BoardStudy) -> str:
    """``tpe``, ``gp+asha``."""
    text = study.tags.get("hpo.strategy", "")
    return str(parsed(text).get("name", text.strip('"')))


def _once(view: Callable[[BoardStudy], _Made]) -> Callable[[BoardStudy], _Made]:
    """Make it once for each revision of a study."""

    @functools.wraps(view)
    def remembered(study: BoardStudy) -> _Made:
        if view.__name__ not in study.memo:
            with no_collection():
                study.memo[view.__name__] = view(study)
        made: _Made = study.memo[view.__name__]
        return made

    return remembered


@_once
def summary(study: BoardStudy) -> dict[str, Any]:
    """The study's page but for its table of trials."""
    ranking = ranked(study)
    front = set(pareto(study)) if len(study.objectives) > 1 else set()
    counts = Counter(trial.state for trial in study.trials.values())
    best = ranking[0] if ranking else None
    return {
        **listed(study),
        "counts": dict(counts),
        "done": sum(n for state, n in counts.items() if state in TRIAL_STATUS),
        "best": None if best is None else best.values,
        "best_trial": None if best is None else best.number,
        "best_params": None if best is None else best.params,
        "front": sorted(front),
        "history": history(study) if len(study.objectives) == 1 else None,
        "scatter": scatter(study, front) if len(study.objectives) > 1 else None,
        "slices": slices(study, ranking),
        "params": names(study),
    }


@_once
def names(study: BoardStudy) -> list[str]:
    """Every parameter that any trial has, the space's order first."""
    declared = parsed(study.tags.get("hpo.space")).get("parameters", {})
    order = dict.fromkeys(name for name, p in declared.items() if p.get("type") != "constant")
    for trial in study.trials.values():
        order.update(dict.fromkeys(trial.params))
    return [name for name in order if declared.get(name, {}).get("type") != "constant"]


@_once
def ranked(study: BoardStudy) -> list[BoardTrial]:
    """The trials whose values count, the best first; of several objectives the Pareto front leads."""
    objectives = study.objectives
    if not objectives:
        return []
    first, direction = next(iter(objectives.items()))
    sign = -1 if direction == "max" else 1
    full = [t for t in study.trials.values() if t.ranked and t.values.keys() >= objectives.keys()]
    front = set(pareto(study)) if len(objectives) > 1 else set()
    return sorted(full, key=lambda t: (t.number not in front, sign * t.values[first], t.number))


@_once
def pareto(study: BoardStudy) -> list[int]:
    """The trials that no other trial beats in everything."""
    signs = {n: -1 if direction == "max" else 1 for n, direction in study.objectives.items()}
    rows = sorted(
        ([s * t.values[n] for n, s in signs.items()], t.number)
        for t in study.trials.values()
        if t.ranked and t.values.keys() >= signs.keys()
    )
    front: list[tuple[list[float], int]] = []
    for row, number in rows:
        # Sorted by the first objective, so only what is on the front already can beat a new point.
        if not any(all(a <= b for a, b in zip(kept, row, strict=True)) for kept, _ in front):
            front.append((row, number))
    return [number for _, number in front]


def history(study: BoardStudy) -> dict[str, Any]:
    """Finished trials in the order of their ends, and the best so far.

    ``points``: [place, value, trial, counts or not]; thinned, improvements always kept. ``bad``: the places
    of trials without a value. ``steps``: [place, best value, trial] at each improvement.
    """
    name, direction = next(iter(study.objectives.items()))
    sign = -1 if direction == "max" else 1
    ended = sorted(
        (t for t in study.trials.values() if t.state in TRIAL_STATUS),
        key=lambda t: (t.end or 0, t.number),
    )
    best = math.inf
    points: list[list[Any]] = []
    bad: list[list[int]] = []
    steps: list[list[Any]] = []
    for place, trial in enumerate(ended, start=1):
        value = trial.values.get(name)
        if value is None or (not trial.ranked and trial.state != "pruned"):
            bad.append([place, trial.number])
            continue
        points.append([place, value, trial.number, int(trial.ranked)])
        if trial.ranked and sign * value < best:
            best = sign * value
            steps.append([place, value, trial.number])
    kept = {row[0] for row in steps}
    return {
        "metric": name,
        "direction": direction,
        "places": len(ended),
        "points": thinned(points, MOST_POINTS, lambda row: row[0] in kept),
        "bad": thinned(bad, MOST_POINTS // 4),
        "steps": thinned(steps, MOST_POINTS // 2),
        "range": robust_range([row[1] for row in points], sign),
    }


@_once
def _places(study: BoardStudy) -> dict[int, int]:
    return {trial.number: place for place, trial in enumerate(ranked(study), start=1)}


def scatter(study: BoardStudy, front: set[int]) -> dict[str, Any]:
    """The first two objectives against each other; ``points``: [x, y, trial, on the front or not]."""
    x, y = list(study.objectives)[:2]
    rows = [
        [t.values[x], t.values[y], t.number, int(t.number in front)]
        for t in study.trials.values()
        if t.ranked and x in t.values and y in t.values
    ]
    return {
        "x": x,
        "y": y,
        "points": thinned(rows, MOST_POINTS, lambda row: bool(row[3])),
        "x_range": robust_range([r[0] for r in rows], -1 if study.objectives[x] == "max" else 1),
        "y_range": robust_range([r[1] for r in rows], -1 if study.objectives[y] == "max" else 1),
    }


def slices(study: BoardStudy, ranking: Sequence[BoardTrial]) -> list[dict[str, Any]]:
    """The first objective against each parameter, complete trials only; the best tenth is kept."""
    if not ranking:
        return []
    objective, direction = next(iter(study.objectives.items()))
    declared = parsed(study.tags.get("hpo.space")).get("parameters", {})
    leaders = {t.number for t in ranking[: max(len(ranking) // 10, 10)][:60]}
    best = ranking[0].number
    shown: list[dict[str, Any]] = []
    for name in names(study)[:_MOST_SLICES]:
        # The best come first; rows are made of what is kept.
        have = [t for t in ranking if name in t.params]
        lead = sum(t.number in leaders for t in have[: len(leaders)])
        kept = [
            [t.params[name], t.values[objective], t.number, int(t.number == best)]
            for t in (*have[:lead], *thinned(have[lead:], _SLICE_POINTS))
        ]
        numeric = declared.get(name, {}).get("type") != "categorical" and all(
            isinstance(row[0], int | float) and not isinstance(row[0], bool) for row in kept
        )
        log = numeric and bool(declared.get(name, {}).get("log")) and all(row[0] > 0 for row in kept)
        if not numeric:
            kept = [[label(row[0]), *row[1:]] for row in kept]
        shown.append({"name": name, "numeric": numeric, "log": log, "points": kept})
    sign = -1 if direction == "max" else 1
    limits = robust_range([t.values[objective] for t in ranking], sign)
    return [{**one, "objective": objective, "range": limits} for one in shown]


def label(value: Any) -> str:
    """A choice of any JSON type as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def table(study: BoardStudy, query: dict[str, str], now: int) -> dict[str, Any]:
    """One page of the trials. ``query``: state, sort, order, offset, limit; see :func:`_sort_key`.

    Raises :class:`InputError` for what makes no sense.
    """
    offset, limit = whole(query, "offset", 0), min(max(whole(query, "limit", PAGE), 1), 200)
    state, sort = query.get("state", ""), query.get("sort", "rank")
    rank = _places(study)
    trials = [t for t in study.trials.values() if not state or t.state == state]
    key = _sort_key(study, sort, rank, now)
    keyed = [(key(t), t) for t in trials]
    have = [pair for pair in keyed if pair[0] is not None]
    lack = [t for value, t in keyed if value is None]
    have.sort(key=lambda pair: (pair[0], pair[1].number), reverse=query.get("order") == "desc")
    page = [t for _, t in have] + sorted(lack, key=lambda t: -t.number)
    return {
        "total": len(trials),
        "offset": offset,
        "params": names(study),
        "objectives": list(study.objectives),
        "states": sorted({t.state for t in study.trials.values()}),
        "rows": [row(t, now, rank.get(t.number)) for t in page[offset : offset + limit]],
    }


def row(trial: BoardTrial, now: int, rank: int | None = None) -> dict[str, Any]:
    """One trial in a table."""
    return {
        "trial": trial.number,
        "rank": rank,
        "state": trial.state,
        "values": trial.values,
        "step": trial.step,
        "seconds": round(trial.seconds(now), 1),
        "params": trial.params,
        "run_id": trial.run_id,
    }


def _sort_key(study: BoardStudy, sort: str, rank: dict[int, int], now: int) -> Callable[[BoardTrial], Any]:
    fixed: dict[str, Callable[[BoardTrial], Any]] = {
        "rank": lambda t: rank.get(t.number),
        "trial": lambda t: t.number,
        "state": lambda t: t.state,
        "step": lambda t: t.step,
        "seconds": lambda t: t.seconds(now),
    }
    kind, _, name = sort.partition(":")
    if kind == "value" and name in study.objectives:
        return lambda t: t.values.get(name)
    if kind == "param" and name:
        return lambda t: None if name not in t.params else _comparable(t.params[name])
    if sort in fixed:
        return fixed[sort]
    raise InputError(f"cannot sort by {sort!r}{nearest(sort, fixed)}; value:NAME and param:NAME work too")


def _comparable(value: Any) -> tuple[int, float, str]:
    """Numbers by size, before everything else by its text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def whole(query: dict[str, str], name: str, default: int) -> int:
    """A number that is not negative. Raises :class:`InputError`."""
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"{name} takes a whole number, got {text!r}")
    return int(text)


def curves(raw: dict[str, list[tuple[int, float]]]) -> dict[str, list[list[float]]]:
    """Metrics with more than one point, thinned; extremes kept."""
    return {
        key: [list(point) for point in _thin_curve(points)] for key, points in raw.items() if len(points) > 1
    }


def _thin_curve(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= _CURVE_POINTS:
        return points
    bins = _CURVE_POINTS // 2
    kept = [points[0]]
    for i in range(bins):
        part = points[i * len(points) // bins : (i + 1) * len(points) // bins]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return sorted({*kept, points[-1]})


def thinned(rows: list[Any], most: int, keep: Callable[[Any], bool] = lambda row: False) -> list[Any]:
    """At most about ``most`` rows, evenly chosen in their order, and those to ``keep``."""
    if len(rows) <= most:
        return rows
    chosen = {i * len(rows) // most for i in range(most)}
    return [row for i, row in enumerate(rows) if i in chosen or keep(row)]


def robust_range(values: list[float], sign: int) -> list[float] | None:
    """The axis: all of the good side, and the bad side up to where the far outliers begin."""
    if not values:
        return None
    ordered = sorted(sign * v for v in values)
    low, high = ordered[0], ordered[-1]
    typical = ordered[int(0.9 * (len(ordered) - 1))]
    high = min(high, typical + 0.5 * (typical - low)) if typical > low else high
    return sorted([sign * low, sign * high])
