"""Look at studies; never takes a study's lock, so that a running one can be looked at."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import typer
from rich.table import Table

from flows._find import find, find_all, is_driven, state_of, trial_of
from flows._live import leaderboard, make_console, tell_facts
from flows._notes import TRACKING, final_model, newest, request_data
from flows._warm_start import origin_lines, origins_of
from flows._words import (
    best_line,
    counted,
    ended_badly,
    printable,
    progress_of,
    scores,
    test_line,
    way_on,
    ways_to_see,
)
from flows._workspace import studies_home
from flows.cli._output import complain
from hpo_core import Study, TrialRecord, TrialState
from hpo_core.confirm import CONFIRMED, CONFIRMS, overtaken
from hpo_core.folds import repeats_of
from tracking import duration, finite, number_text

# Wider than any list of studies: a name has at most 120 characters.
_WIDE = 10_000


def list_studies(*, as_json: bool) -> None:
    """One line for each study."""
    rows = [_row(study) for study in find_all(complain)]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo(f"no studies in {studies_home()}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("study", "state", "trials", "best", "strategy"):
        table.add_column(column, no_wrap=True, justify="right" if column == "trials" else "left")
    for row in rows:
        planned = f"/{row['planned']}" if row["planned"] else ""
        best = scores(row["best"]) if row["best"] else "-"
        table.add_row(row["study"], row["state"], f"{row['done']}{planned}", best, row["strategy"])
    # A narrow terminal breaks the lines by itself; what is copied from it, or read by a program, is whole.
    make_console(width=_WIDE).print(table)


def show(name: str, *, as_json: bool) -> None:
    """The study on a page."""
    study = find(name)
    if as_json:
        typer.echo(json.dumps(_all_of(study)))
        return
    console = make_console()
    objectives = ", ".join(f"{n} ({d})" for n, d in study.objectives.items())
    spent = duration(study.state.seconds_spent)
    facts = [
        ("study", f"{study.name}, {_state(study)}"),
        ("asks", f"{objectives} by {study.strategy.words}{_often(study)}"),
        ("trials", f"{_of_planned(study)}: {counted(study, driven=is_driven(study.name))}; {spent}"),
    ]
    facts += [("where", line) for line in study.state.settings.outcome_constraints]
    facts += [("began", line) for line in origin_lines(study)]
    facts += [("confirms", str(of))] if (of := request_data(study.created.meta).get("confirms")) else []
    verdict = newest(study, CONFIRMS)
    facts += [("verdict", f"on the trials of {verdict['study']}: {verdict['sentence']}")] if verdict else []
    tell_facts(console, facts)
    if study.history.count(TrialState.COMPLETE):
        console.print()
        console.print(leaderboard(study))
        console.print()
        facts = [("best", best_line(study))]
        if len(study.objectives) == 1:
            facts += [("", f"{key} = {_value(value)}") for key, value in study.best.params.items()]
    else:
        facts = []
    if known := newest(study, CONFIRMED):
        since = "; another trial has become the best since" * overtaken(study, known)
        facts.append(("confirmed", f"{known['sentence']}{since}"))
    facts += ended_badly(study)
    final = final_model(study)
    if final:
        facts.append(("test", test_line(final["scores"])))
        if final.get("model"):
            facts.append(("model", final["model"]))
    tell_facts(console, facts + ways_to_see(newest(study, TRACKING)))


def why(name: str, number_: int | None) -> None:
    """Sentences about the study's state, or about one trial's."""
    study = find(name)
    if number_ is not None:
        typer.echo(printable(_why(study, trial_of(study, number_))))
        return
    typer.echo(printable(f"study {study.name} is {_state(study)}"))
    for waiting in study.history.pending.tolist():
        typer.echo(printable(_why(study, study.trials[waiting])))


def _why(study: Study, trial: TrialRecord) -> str:
    label = trial.state.label.replace("_", " ")
    interrupted = trial.state is TrialState.RUNNING and not is_driven(study.name)
    if trial.state is TrialState.WAITING:
        label += " for a free worker" if is_driven(study.name) else " until the study goes on"
    parts = [f"trial {trial.number} is {'interrupted' if interrupted else label}"]
    if trial.step:
        parts.append(f"at step {trial.step}")
    if known := {name: value for name, value in trial.values.items() if math.isfinite(value)}:
        parts.append(f"with {scores(known)}")
    if trial.state is TrialState.RUNNING:
        whose = "; its driver has ended" if interrupted else ""
        parts.append(f"on {trial.worker}, attempt {trial.attempt}{whose}")
    text = " ".join(parts)
    reason = study.why(trial.number) if trial.state is TrialState.PAUSED else trial.reason
    if reason:
        text += f": {reason}"
    if trial.number in study.history.outside:
        text += "; since the search space was edited it lies outside of it"
    return f"{text}; its configuration: {trial.note}" if trial.note else text


def _state(study: Study) -> str:
    state = state_of(study)
    said = state if study.stopped is None else f"{state}: {study.stopped.reason}"
    may_go_on = state == "interrupted" if study.stopped is None else study.stopped.resumable
    return f"{said}; `{way_on(study)}` goes on with it" if may_go_on else said


def _often(study: Study) -> str:
    repeats = repeats_of(study)
    return f", the mean of {repeats} repeats (± standard deviation of one)" if repeats > 1 else ""


def _of_planned(study: Study) -> str:
    p = progress_of(study)
    return f"{p['done']} of {p['planned']} done" if p["planned"] else f"{p['done']} done"


def _value(value: Any) -> str:
    return number_text(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _all_of(study: Study) -> dict[str, Any]:
    """The study in plain JSON types: how it stands, what it was asked to be, and its trials."""
    return {
        **_row(study),
        "objectives": study.objectives,
        "seed": study.created.seed,
        "limits": study.state.limits.to_json(),
        "settings": asdict(study.state.settings),
        "strategy_config": dict(study.strategy.config),
        "front": [trial.number for trial in study.pareto_front],
        "final": final_model(study),
        "confirmation": newest(study, CONFIRMED) or None,
        "warm_start": origins_of(study),
        "trials": [_trial_row(t) for t in study.trials],
    }


def _row(study: Study) -> dict[str, Any]:
    p = progress_of(study)
    return {
        "study": study.name,
        "state": state_of(study),
        "strategy": study.strategy.name,
        "counts": {s.label: study.history.count(s) for s in TrialState if study.history.count(s)},
        **{k: p[k] for k in ("done", "planned", "running", "best", "best_trial", "spent")},
    }


def _trial_row(trial: TrialRecord) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state.label,
        "params": trial.params,
        "values": finite(trial.values),
        "metrics": finite(trial.metrics),
        "step": trial.step,
        "attempt": trial.attempt,
        "reason": trial.reason,
        "seconds": trial.busy_seconds,
    }
