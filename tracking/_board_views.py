"""What the live pages show, as plain JSON, made of a :class:`BoardStudy`; thinned here already."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from hpo_core import InputError
from hpo_core.confirm import around
from hpo_core.inner import choice_text, is_number, nearest, nondominated, robust_range, strategy_words
from tracking._board import BoardStudy, BoardTrial, parsed
from tracking._collecting import uncollected
from tracking._states import TRIAL_STATUS
from tracking._text import finite
from tracking.tags import (
    BEST_VALUES,
    CONFIRMATION,
    CONFIRMED_BY,
    CONFIRMS,
    COUNTS,
    FAILURES,
    LIMITS,
    NAMES,
    PLANNED,
    REASON,
    SPACE,
    STRATEGY,
    VERDICT,
)

_Made = TypeVar("_Made")
# Of each metric (step, value), by step.
Curves = dict[str, list[tuple[int, float]]]

MOST_POINTS = 600
_SLICE_POINTS = 250
_CURVE_POINTS = 250
_MOST_SLICES = 12
PAGE = 50
# A page gets all trials of a study up to this many, in blocks by number, and sorts and filters them itself.
BLOCK = 200
_MOST_SENT = 20_000


def listed(study: BoardStudy) -> dict[str, Any]:
    """A line in the list of studies, from the tags of its run alone."""
    counts = parsed(study.tags.get(COUNTS))
    return {
        "run_id": study.run_id,
        "name": study.name,
        "experiment": study.experiment,
        "experiment_id": study.experiment_id,
        "state": study.state,
        "reason": study.tags.get(REASON, ""),
        "objectives": study.objectives,
        "constraints": study.constraints,
        "strategy": strategy_name(study),
        "counts": counts,
        "done": sum(n for state, n in counts.items() if state in TRIAL_STATUS),
        "planned": _planned(study),
        "limits": parsed(study.tags.get(LIMITS)),
        "repeats": study.repeats,
        "best": parsed(study.tags.get(BEST_VALUES)) or None,
        "start": study.start,
        "end": study.end,
        "seconds": study.seconds,
        "since": study.since,
    }


def _planned(study: BoardStudy) -> int | None:
    """Trials that the budget allows in all; of a study from before the tag, without its forks."""
    said = study.tags.get(PLANNED, "")
    return int(said) if said.isdecimal() else parsed(study.tags.get(LIMITS)).get("trials")


def strategy_name(study: BoardStudy) -> str:
    """``tpe``, ``gp+asha (eta=2)``."""
    text = study.tags.get(STRATEGY, "")
    return strategy_words(parsed(text)) or text.strip('"')


def _once(view: Callable[[BoardStudy], _Made]) -> Callable[[BoardStudy], _Made]:
    """Make it once for each revision of a study, whatever threads ask for it."""
    name = view.__name__

    @functools.wraps(view)
    def remembered(study: BoardStudy) -> _Made:
        if name not in study.memo:
            with study.making.setdefault(name, threading.Lock()), uncollected():
                if name not in study.memo:
                    study.memo[name] = view(study)
        made: _Made = study.memo[name]
        return made

    return remembered


@_once
def summary(study: BoardStudy) -> dict[str, Any]:
    """The study's page but for its table of trials."""
    table_head = head(study)  # first: the page waits for the trials at the same time
    ranking = ranked(study)
    front = set(table_head["front"])
    counts = Counter(trial.state for trial in study.trials.values())
    best = ranking[0] if ranking else None
    return {
        **table_head,
        "counts": dict(counts),
        "done": sum(n for state, n in counts.items() if state in TRIAL_STATUS),
        "best": None if best is None else best.values,
        "best_trial": None if best is None else best.number,
        "best_params": None if best is None else best.params,
        "best_spread": None if best is None else best.spread,
        "history": history(study) if len(study.objectives) == 1 else None,
        "scatter": scatter(study, front) if len(study.objectives) > 1 else None,
        "slices": slices(study, ranking),
        "failures": study.tags.get(FAILURES, "").splitlines(),
    }


@_once
def head(study: BoardStudy) -> dict[str, Any]:
    """What a page needs to sort and show the trials themselves; ``blocks``: the tag of each, or ``None``."""
    return {
        **listed(study),
        "blocks": {i: tag for i, (tag, _) in blocks(study).items()} or None,
        "front": sorted(pareto(study)) if len(study.objectives) > 1 else [],
        "params": names(study),
    }


def confirmation(study: BoardStudy) -> dict[str, Any] | None:
    """What fresh seeds said, for a study that was confirmed, or that confirms another; else ``None``.

    ``study``, ``study_id``: the other one. ``before``, ``after``: what is to be read around its name.
    """
    by, of = parsed(study.tags.get(CONFIRMED_BY)), parsed(study.tags.get(CONFIRMS))
    other = by or of
    if not other:
        return None
    sentence = study.tags.get(CONFIRMATION if by else VERDICT, "")
    if sentence:
        best = next((trial.number for trial in ranked(study)), None)
        changed = bool(by) and len(study.objectives) == 1 and by.get("winner") not in (None, best)
        before, after = around(sentence, confirms=not by, changed=changed)
    else:
        before = "Runs the best trials of "
        after = f" again on {study.repeats} fresh seeds; the verdict follows when all are done."
    return {
        "study": other.get("study"),
        "study_id": other.get("study_id"),
        "before": before,
        "after": after,
    }


@_once
def summary_text(study: BoardStudy) -> str:
    """:func:`summary` as JSON."""
    return dumped(summary(study))


def _in_order(
    study: BoardStudy, name: str, key: Callable[[BoardTrial], tuple[Any, ...] | None]
) -> list[BoardTrial]:
    """The trials by their keys, which end in the number; those without a key left out.

    What was in order before stays so: only trials that changed are put in.
    """
    before: list[tuple[Any, ...]] = study.kept.get(name, [])
    here = study.trials
    pairs = [pair for pair in before if here.get(pair[-1].number) is pair[-1]]
    had = {pair[-1].number for pair in pairs}
    new = here.values() if not had else [t for t in here.values() if t.number not in had]
    pairs += [(*made, t) for t in new if (made := key(t)) is not None]
    pairs.sort()
    study.kept[name] = pairs
    return [pair[-1] for pair in pairs]


@_once
def blocks(study: BoardStudy) -> dict[int, tuple[str, str]]:
    """All trials, those of each :data:`BLOCK` numbers as JSON with a tag of its content; none of too many.

    A trial is [number, run, state, start, end, step, values, params], and an object of its ``spread``,
    ``busy``, ``since`` and ``outside`` (:class:`BoardTrial`) where it has any of them.
    """
    if len(study.trials) > _MOST_SENT:
        return {}
    groups: dict[int, list[BoardTrial]] = {}
    for trial in study.trials.values():
        groups.setdefault(trial.number // BLOCK, []).append(trial)
    before = study.kept.get("blocks", {})
    made = {}
    for i, group in groups.items():
        known, found = before.get(i, ([], ("", "")))
        made[i] = (group, found if known == group else _block(group))
    study.kept["blocks"] = made
    return {i: found for i, (_, found) in made.items()}


def _block(group: list[BoardTrial]) -> tuple[str, str]:
    rows = [
        [t.number, t.run_id, t.state, t.start, t.end, t.step, t.values, t.params, *filter(None, [_seldom(t)])]
        for t in group
    ]
    text = dumped(rows)
    return hashlib.sha256(text.encode()).hexdigest()[:12], text


def _seldom(trial: BoardTrial) -> dict[str, Any]:
    """What most trials have not got."""
    named = {
        "spread": trial.spread or None,
        "busy": trial.busy,
        "since": trial.since,
        "outside": trial.outside or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def blocks_text(study: BoardStudy, wanted: Iterable[int] | None, now: int) -> str:
    """The blocks as JSON, all where none are named, with the :func:`head` of their study.

    ``{"now": .., "study": .., "blocks": {number: [tag, [trial, ..]]}}``
    """
    made = blocks(study)
    chosen = made if wanted is None else dict.fromkeys(wanted)
    found = [f'"{i}":["{made[i][0]}",{made[i][1]}]' for i in chosen if i in made]
    return f'{{"now":{now},"study":{dumped(head(study))},"blocks":{{{",".join(found)}}}}}'


def dumped(payload: Any) -> str:
    """JSON, with ``null`` for numbers that it does not have."""
    try:
        return json.dumps(payload, separators=(",", ":"), allow_nan=False)
    except ValueError:  # looking at each number takes far longer, and is needed for next to none
        return json.dumps(finite(payload), separators=(",", ":"), allow_nan=False)


@_once
def names(study: BoardStudy) -> list[str]:
    """Every parameter that any trial has, the space's order first."""
    declared = parsed(study.tags.get(SPACE)).get("parameters", {})
    order = dict.fromkeys(name for name, p in declared.items() if p.get("type") != "constant")
    # Trials of one branch of a space have the same keys, so there are few to look at.
    for keys in dict.fromkeys(tuple(trial.params) for trial in study.trials.values()):
        order.update(dict.fromkeys(keys))
    return [name for name in order if declared.get(name, {}).get("type") != "constant"]


@_once
def ranked(study: BoardStudy) -> list[BoardTrial]:
    """The trials that may be the best, the best first; of several objectives the Pareto front leads."""
    objectives = study.objectives
    if not objectives:
        return []
    first = next(iter(objectives))
    sign, needed = study.sign(first), objectives.keys()

    def key(t: BoardTrial) -> tuple[float, int] | None:
        return (sign * t.values[first], t.number) if t.ranked and t.values.keys() >= needed else None

    ordered = [t for t in _in_order(study, "ranked", key) if _places(study, t)]
    if len(objectives) == 1:
        return ordered
    front = set(pareto(study))
    return [t for t in ordered if t.number in front] + [t for t in ordered if t.number not in front]


def _places(study: BoardStudy, trial: BoardTrial) -> bool:
    """Whether the trial may be the best: complete, and one that the space can have, once there is any."""
    return trial.ranked and not (trial.outside and _some_inside(study))


@_once
def _some_inside(study: BoardStudy) -> bool:
    return any(t.ranked and not t.outside for t in study.trials.values())


@_once
def pareto(study: BoardStudy) -> list[int]:
    """The trials that no other dominates, by the first objective; equals together."""
    signs = {name: study.sign(name) for name in study.objectives}
    full = [t for t in study.trials.values() if _places(study, t) and t.values.keys() >= signs.keys()]
    if not full:
        return []
    cost = np.array([[sign * t.values[name] for name, sign in signs.items()] for t in full])
    leading = zip(cost[:, 0].tolist(), full, nondominated(cost), strict=True)
    return [number for _, number in sorted((first, t.number) for first, t, leads in leading if leads)]


def history(study: BoardStudy) -> dict[str, Any]:
    """Finished trials in the order of their ends, and the best so far.

    ``points``: [place, value, trial, ranked or not]; thinned, improvements always kept. ``bad``: the places
    of trials without a value. ``steps``: [place, best value, trial] at each improvement. ``edited``: whether
    an edit of the space has left trials outside of it.
    """
    name, direction = next(iter(study.objectives.items()))
    sign = study.sign(name)
    ended = _in_order(study, "ended", lambda t: (t.end or 0, t.number) if t.state in TRIAL_STATUS else None)
    points, bad, steps = _told(study, ended, name, sign)
    kept = {row[0] for row in steps}
    return {
        "metric": name,
        "direction": direction,
        "places": len(ended),
        "points": thinned(points, MOST_POINTS, lambda row: row[0] in kept),
        "bad": thinned(bad, MOST_POINTS // 4),
        # The last is the best of all, where the line ends.
        "steps": thinned(steps, MOST_POINTS // 2, lambda row: row is steps[-1]),
        "range": _axis([row[1] for row in points], direction),
        "edited": any(trial.outside for trial in ended),
    }


def _told(
    study: BoardStudy, ended: list[BoardTrial], name: str, sign: float
) -> tuple[list[list[Any]], list[list[int]], list[list[Any]]]:
    """``points``, ``bad`` and ``steps`` of :func:`history`, going on from where they were before."""
    inside = _some_inside(study)
    before, points, bad, steps, then = study.kept.get("told", ([], [], [], [], inside))
    if not before or then != inside or ended[: len(before)] != before:
        before, points, bad, steps = [], [], [], []
    points, bad, steps = list(points), list(bad), list(steps)
    best = sign * steps[-1][1] if steps else math.inf
    for place, trial in enumerate(ended[len(before) :], start=len(before) + 1):
        value = trial.values.get(name)
        if value is None or (not trial.ranked and trial.state != "pruned"):
            bad.append([place, trial.number])
            continue
        ranks = _places(study, trial)
        points.append([place, value, trial.number, int(ranks)])
        if ranks and sign * value < best:
            best = sign * value
            steps.append([place, value, trial.number])
    study.kept["told"] = (ended, points, bad, steps, inside)
    return points, bad, steps


@_once
def places(study: BoardStudy) -> dict[int, int]:
    """The place of each ranked trial, by its number."""
    return {trial.number: place for place, trial in enumerate(ranked(study), start=1)}


def scatter(study: BoardStudy, front: set[int]) -> dict[str, Any]:
    """The first two objectives against each other; ``points``: [x, y, trial, on the front or not]."""
    x, y = list(study.objectives)[:2]
    rows = [
        [t.values[x], t.values[y], t.number, int(t.number in front)]
        for t in study.trials.values()
        if _places(study, t) and x in t.values and y in t.values
    ]
    return {
        "x": x,
        "y": y,
        "points": thinned(rows, MOST_POINTS, lambda row: bool(row[3])),
        "x_range": _axis([r[0] for r in rows], study.objectives[x]),
        "y_range": _axis([r[1] for r in rows], study.objectives[y]),
    }


def slices(study: BoardStudy, ranking: Sequence[BoardTrial]) -> list[dict[str, Any]]:
    """The first objective against each parameter, complete trials only; the best tenth is kept.

    ``choices``: the values of a parameter that is no number, in the order of the space.
    """
    if not ranking:
        return []
    objective = next(iter(study.objectives))
    declared = parsed(study.tags.get(SPACE)).get("parameters", {})
    leaders = {t.number for t in ranking[: max(len(ranking) // 10, 10)][:60]}
    best = ranking[0].number
    # Trials of one branch of a space have the same keys, so there are few to look at.
    asked_for = set().union(*{tuple(trial.params) for trial in ranking})
    shown: list[dict[str, Any]] = []
    for name in [n for n in names(study) if n in asked_for][:_MOST_SLICES]:
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
        more: dict[str, Any] = {}
        if not numeric:
            kept = [[choice_text(row[0]), *row[1:]] for row in kept]
            there = dict.fromkeys(row[0] for row in kept)
            known = map(choice_text, declared.get(name, {}).get("choices", ()))
            more["choices"] = list(dict.fromkeys([*(c for c in known if c in there), *there]))
        shown.append({"name": name, "numeric": numeric, "log": log, "points": kept, **more})
    limits = _axis([t.values[objective] for t in ranking], study.objectives[objective])
    return [{**one, "objective": objective, "range": limits} for one in shown]


def table(study: BoardStudy, query: dict[str, str], now: int) -> dict[str, Any]:
    """One page of the trials. ``query``: state, sort, order, offset, limit; see :func:`_sort_key`.

    Raises :class:`InputError` for what makes no sense.
    """
    offset, limit = whole(query, "offset", 0), min(max(whole(query, "limit", PAGE), 1), 200)
    state, sort = query.get("state", ""), query.get("sort", "rank")
    rank = places(study)
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
        "repeats": study.repeats,
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
        "spread": trial.spread,
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
    if is_number(value):
        return 0, float(value), ""
    return 1, 0.0, choice_text(value)


def whole(query: dict[str, str], name: str, default: int) -> int:
    """A number that is not negative. Raises :class:`InputError`."""
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"{name} takes a whole number, got {text!r}")
    return int(text)


def by_name(raw: Curves, tags: Mapping[str, str], params: Container[str]) -> Curves:
    """Metrics by the names that the objective gave them: MLflow does not accept every character in a name.

    ``tags``, ``params``: the trial's. The tag that holds these names holds those of parameters as well.
    """
    names = {key: name for key, name in parsed(tags.get(NAMES)).items() if name not in params}
    return {names.get(key, key): points for key, points in raw.items()}


def curves(raw: Curves, also: Iterable[str] = ()) -> dict[str, list[list[float]]]:
    """Metrics with more than one point, thinned; extremes kept. ``also``: those with one point too."""
    wanted = {key for key, points in raw.items() if len(points) > 1} | raw.keys() & set(also)
    return {key: [list(point) for point in _thin_curve(raw[key])] for key in sorted(wanted)}


def _thin_curve(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= _CURVE_POINTS:
        return points
    bins = _CURVE_POINTS // 2
    kept = [points[0]]
    for i in range(bins):
        part = points[i * len(points) // bins : (i + 1) * len(points) // bins]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return sorted({*kept, points[-1]})


def thinned(rows: list[Any], most: int, keep: Callable[[Any], bool] | None = None) -> list[Any]:
    """At most about ``most`` rows, evenly chosen in their order, and those to ``keep``."""
    if len(rows) <= most:
        return rows
    if keep is None:
        return [rows[i * len(rows) // most] for i in range(most)]
    chosen = {i * len(rows) // most for i in range(most)}
    return [row for i, row in enumerate(rows) if i in chosen or keep(row)]


def _axis(values: list[float], direction: str) -> list[float] | None:
    """The ends of an axis, which leaves out what the report leaves out; ``None`` where there is nothing."""
    shown = np.array([v for v in values if math.isfinite(v)])
    if not len(shown):
        return None
    return list(robust_range(shown, direction) or (float(shown.min()), float(shown.max())))
