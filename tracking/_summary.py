"""Descriptions, in Markdown, of a study's run and of a registered model's versions, for readers of MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo_core.inner import many
from tracking._states import TRIAL_STATUS
from tracking._text import MAX_DESCRIPTION, MAX_TAG, preview
from tracking._words import duration, goal, markdown_cell, markdown_table, number_text

if TYPE_CHECKING:
    from tracking._trial_view import TrialView

_ROWS = 40
# So many reasons of failures are given, and trials named with each.
_REASONS, _NUMBERS, _LONGEST = 3, 8, 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A study at one moment.

    ``best``: the best trial, or the Pareto front. ``failures``: see :func:`failure_lines`.
    """

    name: str
    state: str
    reason: str
    objectives: Mapping[str, str]
    strategy: str
    planned: int | None
    counts: Mapping[str, int]
    best: list[TrialView]
    seconds: float
    failures: list[str]


def failure_lines(ended: Iterable[tuple[int, str, str]]) -> list[str]:
    """Why trials ended badly, the most frequent reason first, with the trials' numbers.

    ``ended``: number, state (``failed``, ``timed_out``, ...) and reason of each that did; the state is
    said where it is another than failed, and may be left empty.
    """
    by_reason: dict[str, list[int]] = {}
    for number, state, reason in ended:
        label = "" if state in ("", "failed") else f"{state.replace('_', ' ')}: "
        by_reason.setdefault(_shortened(f"{label}{reason}"), []).append(number)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    lines = []
    for reason, numbers in ordered[:_REASONS]:
        listed = ", ".join(map(str, numbers[:_NUMBERS])) + (", ..." if len(numbers) > _NUMBERS else "")
        lines.append(f"{reason} (trial{'s' if len(numbers) > 1 else ''} {listed})")
    if (left := len(ordered) - _REASONS) > 0:
        lines.append(f"and {left} more reason{'s' if left > 1 else ''}")
    return lines


def _shortened(reason: str) -> str:
    """So many letters, with a sign that there are more: what ends within a word reads as if it were all."""
    return reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST].rstrip()} ..."


def note(standing: Standing, run_id: str | None) -> str:
    """The description in Markdown, for the tag ``mlflow.note.content``; ``run_id``: once there is one."""
    goals = " and ".join(goal(f"`{n}`", d) for n, d in standing.objectives.items())
    finished = sum(n for state, n in standing.counts.items() if state in TRIAL_STATUS)
    planned = f" of {standing.planned}" if standing.planned else ""
    headline, *table = _best_trial(standing) if len(standing.objectives) == 1 else _front(standing)
    # MLflow's page shows about three lines and folds the rest away: the result stands in the second.
    lines = [
        f"**{markdown_cell(standing.name)}** is {standing.state}"
        + (f": {markdown_cell(standing.reason)}" if standing.reason else "")
        + ".",
        "",
        headline + _page(run_id),
        "",
        f"{goals}, strategy `{standing.strategy}`. {finished}{planned} trials finished in "
        f"{duration(standing.seconds)}: "
        + (", ".join(f"{n} {state}" for state, n in sorted(standing.counts.items())) or "none yet")
        + ".",
        "",
        *(f"Failed: {markdown_cell(line)}  " for line in standing.failures),
        *([""] if standing.failures else []),
        *table,
    ]
    return preview("\n".join(lines), MAX_TAG)


def version_note(
    study: str,
    trial: int,
    values: Mapping[str, float],
    params: Mapping[str, object],
    *,
    tested: Mapping[str, float] | None = None,
    forked: bool = False,
) -> str:
    """The description of a registered version: which trial of which study it is, and how good.

    ``values``: of the study's objectives; ``tested``: the model's scores on rows that no trial saw;
    ``forked``: whether other trials' configurations had their turns before, ``params`` being the last.
    """
    lines = [f"Trial {trial} of study **{markdown_cell(study)}**: {_scores(values)}."]
    if tested:
        lines += ["", f"On test rows that no trial saw: {_scores(tested)}."]
    if forked:
        way = "It came about by forks: `schedule.json` of its run has what it was trained with. At the end:"
        lines += ["", way]
    return preview("\n".join([*lines, "", *_parameters(params)]), MAX_DESCRIPTION)


def _page(run_id: str | None) -> str:
    """MLflow's own pages have no way to ours, so the description has."""
    if run_id is None:
        return ""
    return f" [The study's live page](/hpo/studies/{run_id}), on a server with `--app-name hpo`."


def _best_trial(standing: Standing) -> list[str]:
    if not standing.best:
        return ["No trial is complete."]
    trial = standing.best[0]
    return [f"Best: trial {trial.number}, {_scores(trial.values)}.", *_parameters(trial.params)]


def _scores(values: Mapping[str, float]) -> str:
    return ", ".join(f"`{n}` = **{number_text(v)}**" for n, v in values.items())


def _parameters(params: Mapping[str, object]) -> list[str]:
    rows = [[_short(n), _short(v)] for n, v in params.items()]
    if (hidden := len(rows) - _ROWS) > 0:
        rows[_ROWS:] = [[f"and {hidden} more", ""]]
    return markdown_table(["parameter", "value"], rows)


def _front(standing: Standing) -> list[str]:
    if not standing.best:
        return ["No trial is complete."]
    names = list(standing.objectives)
    rows = [[str(t.number), *(number_text(t.values[n]) for n in names)] for t in standing.best[:_ROWS]]
    hidden = len(standing.best) - _ROWS
    return [
        f"Pareto front: {many(len(standing.best), 'trial')}.",
        *markdown_table(["trial", *map(_short, names)], rows),
        *([f"and {hidden} more"] if hidden > 0 else []),
    ]


def _short(value: object) -> str:
    return preview(number_text(value) if isinstance(value, float) else str(value), 80)
