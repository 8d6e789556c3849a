"""``hpo rerun``: does a trial come out the same once more?"""

from __future__ import annotations

import json
import shlex

import typer

from flows._again import plan_of
from flows._find import find, trial_of
from flows._rerun import Repetition
from flows._rerun import rerun as run_again
from flows.cli._output import only_json
from hpo_core import InputError, Study, TrialRecord, TrialState
from tracking import finite


def rerun(name: str, trial: int | None, tolerance: float, *, as_json: bool) -> int:
    """See ``hpo rerun``; 0 when it came out the same, else 1."""
    study = find(name)
    record = _best(study) if trial is None else trial_of(study, trial)
    with only_json(as_json):
        plan = plan_of(study, offline=True)  # it shows nothing to MLflow
        found = run_again(
            study, record.number, plan.objective, identity=plan.terms.identity, tolerance=tolerance
        )
    same = found.same(tolerance)
    if as_json:
        typer.echo(as_text(found, same=same))
        return 0 if same else 1
    typer.echo(f"trial {found.trial} of {name}, {'the best, ' if trial is None else ''}run once more")
    for when, ended in (("then", found.then), ("now", found.now)):
        typer.echo(f"  {when}: {_ended(*ended)}")
    if found.now[0] is not TrialState.COMPLETE and found.reason:
        typer.echo(f"  now it ended with: {found.reason}")
    if found.first is not None:
        step, metric, before, after = found.first
        typer.echo(f"  reports differ from step {step} on: {metric} {before!r} then, {after!r} now")
    for line in found.changed:
        typer.echo(f"note: {line}")
    if same:
        typer.echo("the same" if found.first is None else "the same result")
    else:
        typer.echo("not the same")
        if not found.changed:
            typer.echo("nothing that the study knows of has changed; does the objective use trial.seed?")
    return 0 if same else 1


def _best(study: Study) -> TrialRecord:
    if not study.history.count(TrialState.COMPLETE):
        ended = [trial.number for trial in study.trials if trial.state.finished and trial.parent is None]
        such = f"; name one, such as `hpo rerun {shlex.quote(study.name)} {ended[0]}`" if ended else ""
        raise InputError(
            f"study {study.name!r} has no complete trial, so there is no best one to run again{such}"
        )
    return study.best


def _ended(state: TrialState, values: dict[str, float]) -> str:
    pairs = ", ".join(f"{name} {value!r}" for name, value in values.items())
    return f"{state.label}, {pairs}" if pairs else state.label


def as_text(found: Repetition, *, same: bool) -> str:
    """One JSON object, ``null`` for numbers that there are not."""
    data = {
        "trial": found.trial,
        "same": same,
        "then": {"state": found.then[0].label, "values": found.then[1]},
        "now": {"state": found.now[0].label, "values": found.now[1], "reason": found.reason},
        "reports": dict(zip(("then", "now"), found.reports, strict=True)),
        "first_difference": found.first,
        "changed": list(found.changed),
    }
    return json.dumps(finite(data), allow_nan=False)
