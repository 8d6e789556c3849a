"""Commands on studies that exist: look at them, go on with them, end them, clean up after them.

Looking never takes a study's lock, so a running study can be looked at.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows._live import BAD, duration, leaderboard, number, progress_of, scores
from flows._workspace import read_study, requeue_failed, studies_home, study_folder
from hpo_core import InputError, Journal, JournalError, Study, StudyLockedError, TrialState
from hpo_core._errors import nearest

_Name = Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
_Tracking = Annotated[str | None, typer.Option(help="MLflow tracking server or database")]
_console = Console(highlight=False)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("list")(list_studies)
    for command in (show, why, resume, extend, retry, cancel, sync, resync, delete, gc):
        app.command(command.__name__)(command)


# -- looking -----------------------------------------------------------------------------------


def list_studies(as_json: _Json = False) -> None:
    """List the studies in this folder's .hpo (or $HPO_HOME)."""
    rows = [_row(study) for study in _studies()]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo(f"no studies in {studies_home()}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("study", "state", "trials", "best", "strategy"):
        table.add_column(column, overflow="fold")
    for row in rows:
        planned = f"/{row['planned']}" if row["planned"] else ""
        best = scores(row["best"]) if row["best"] else "-"
        table.add_row(row["study"], row["state"], f"{row['done']}{planned}", best, row["strategy"])
    _console.print(table)


def show(study: _Name, as_json: _Json = False) -> None:
    """Show a study: its state, the best trials, what failed."""
    found = _study(study)
    if as_json:
        trials = [_trial_row(t) for t in found.trials]
        typer.echo(json.dumps({**_row(found), "trials": trials}))
        return
    p = progress_of(found)
    _console.print(f"study {found.name}: {_state(found)}", markup=False, soft_wrap=True)
    objectives = ", ".join(f"{n} ({d})" for n, d in found.objectives.items())
    _console.print(f"strategy {found.strategy.name}, objectives {objectives}", markup=False, soft_wrap=True)
    counts = {s.label: found.history.count(s) for s in TrialState if found.history.count(s)}
    told = ", ".join(f"{n} {label.replace('_', ' ')}" for label, n in counts.items()) or "none"
    _console.print(f"trials: {told}; {duration(p['spent'])} so far", markup=False, soft_wrap=True)
    if p["best"]:
        _console.print()
        _console.print(leaderboard(found))
        best = found.best
        _console.print(f"\nbest: trial {best.number}, {scores(best.values)}", markup=False, soft_wrap=True)
        for name, value in best.params.items():
            shown = number(value) if isinstance(value, float) else json.dumps(value)
            _console.print(f"  {name}: {shown}", markup=False, soft_wrap=True)
    for trial in [t for t in found.trials if t.state in BAD][:5]:
        _console.print(
            f"trial {trial.number} {trial.state.label}: {trial.reason}", markup=False, soft_wrap=True
        )
    final = next((n.data for n in reversed(found.state.notes) if n.topic == "final_model"), None)
    if final is not None:
        _console.print(
            f"on rows that tuning never saw: {scores(final['scores'])}", markup=False, soft_wrap=True
        )
        if final.get("model"):
            _console.print(f"model: {final['model']}", markup=False, soft_wrap=True)


def why(study: _Name, trial: Annotated[int | None, typer.Argument(help="Trial number")] = None) -> None:
    """Say why the study, or a trial, stands where it stands."""
    found = _study(study)
    if trial is None:
        typer.echo(f"study {found.name}: {_state(found)}")
        for waiting in found.history.pending.tolist():
            typer.echo(_why(found, waiting))
        return
    if not 0 <= trial < len(found.trials):
        raise InputError(f"study {study!r} has the trials 0 to {len(found.trials) - 1}, got {trial}")
    typer.echo(_why(found, trial))


def _why(study: Study, number_: int) -> str:
    trial = study.trials[number_]
    parts = [f"trial {trial.number} is {trial.state.label.replace('_', ' ')}"]
    if trial.step:
        parts.append(f"at step {trial.step}")
    if trial.reason:
        parts.append(f"because {trial.reason}")
    elif trial.state is TrialState.PAUSED:
        explain = getattr(study.strategy.scheduler, "why", None)
        parts.append(explain(study.history, number_) if explain else "waiting for a promotion")
    elif trial.state is TrialState.WAITING:
        parts.append("waiting for a free worker")
    elif trial.state is TrialState.RUNNING:
        parts.append(f"on {trial.worker}, attempt {trial.attempt}")
    if trial.note:
        parts.append(f"(chosen: {trial.note})")
    return " ".join(parts)


# -- going on ----------------------------------------------------------------------------------


def resume(study: _Name, as_json: _Json = False, tracking_uri: _Tracking = None) -> int:
    """Go on with a study, with the terms it was started with."""
    return _go_on(study, as_json=as_json, tracking_uri=tracking_uri)


def extend(
    study: _Name,
    trials: Annotated[int | None, typer.Option(help="New total of trials")] = None,
    timeout: Annotated[float | None, typer.Option(help="New total of seconds")] = None,
    as_json: _Json = False,
    tracking_uri: _Tracking = None,
) -> int:
    """Raise a study's limits and go on."""
    if trials is None and timeout is None:
        raise InputError("extend needs a new limit: --trials N, or --timeout SECONDS")
    limits = _study(study).state.limits
    for name, new, old in (("trials", trials, limits.trials), ("timeout", timeout, limits.seconds)):
        if new is not None and old is not None and new <= old:
            raise InputError(f"study {study!r} has {name} {old:g} already; give a higher number than {new:g}")
    return _go_on(study, as_json=as_json, tracking_uri=tracking_uri, trials=trials, timeout=timeout)


def retry(
    study: _Name,
    failed: Annotated[bool, typer.Option("--failed", help="All trials that ended badly")] = False,
    trial: Annotated[list[int] | None, typer.Option(help="This trial; may be repeated")] = None,
    as_json: _Json = False,
    tracking_uri: _Tracking = None,
) -> int:
    """Run trials that ended badly once more."""
    if not failed and not trial:
        raise InputError("retry needs --failed, or --trial N")
    _request_of(_study(study))
    with _opened(study) as found:
        count = requeue_failed(found, time.time(), wanted=lambda n: failed or n in (trial or []))
    if not count:
        raise InputError(f"study {study!r} has no such trial that ended badly; `hpo show {study}` lists them")
    typer.echo(f"{count} trials are run again", err=as_json)
    return _go_on(study, as_json=as_json, tracking_uri=tracking_uri)


def _go_on(study: str, *, as_json: bool, tracking_uri: str | None, **changes: Any) -> int:
    from flows._plan import plan_request
    from flows.cli._tune import carry_out

    request = _request_of(_study(study), tracking_uri=tracking_uri, **changes)
    return carry_out(plan_request(request), as_json=as_json)


def _request_of(study: Study, **changes: Any) -> Any:
    """The request that started the study. Raises :class:`InputError` for one that only Python can repeat."""
    from flows._plan import READY, Request, load_objective

    data = study.created.meta.get("request")
    if data is None:
        raise InputError(f"study {study.name!r} does not say how it was started; call tune() with its name")
    objective = data["objective"]
    if objective not in READY:
        try:
            load_objective(objective)
        except InputError as error:
            raise InputError(
                f"the objective {objective!r} of study {study.name!r} cannot be loaded here ({error}); call "
                f"tune() again with name={study.name!r} where it is defined"
            ) from None
    kept = {k: v for k, v in changes.items() if v is not None}
    limits = study.state.limits
    return Request(**{**data, "name": study.name, "trials": limits.trials, "timeout": limits.seconds, **kept})


# -- ending ------------------------------------------------------------------------------------


def cancel(study: _Name) -> None:
    """Cancel a study: what runs is stopped within seconds. `hpo resume` goes on with it."""
    found = _study(study)
    if found.stopped is not None:
        raise InputError(f"study {study!r} has ended already: {found.stopped.reason}")
    folder = study_folder(study)
    try:
        with _opened(study) as idle:
            for trial in idle.history.in_state(TrialState.RUNNING).tolist():
                idle.lost(trial, "its driver ended", counted=False, now=time.time())
            idle.stop("cancelled", "cancelled on request", now=time.time())
        typer.echo(f"study {study} is cancelled; nothing was running")
    except StudyLockedError:
        (folder / "cancel").touch()
        typer.echo(f"asked the driver of {study} to cancel it; what runs is stopped within seconds")


def delete(
    study: _Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go")] = False,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Leave the MLflow runs")] = False,
    tracking_uri: _Tracking = None,
) -> None:
    """Delete a study: journal, checkpoints, and its runs in MLflow."""
    folder = study_folder(study)
    _study(study)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    runs: list[str] = [] if keep_runs else _runs_of(study, tracking_uri)
    verb = "would delete" if dry_run else "deleted"
    if not dry_run:
        with _opened(study):
            pass  # a living driver holds the study, and must be cancelled first
        if runs:
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri)
            for run in runs:
                client.delete_run(run)
        shutil.rmtree(folder)
    typer.echo(f"{verb} {folder} ({size / 2**20:.1f} MiB) and {len(runs)} MLflow runs")


def _runs_of(study: str, tracking_uri: str | None) -> list[str]:
    from tracking import connect

    request = _study(study).created.meta.get("request", {})
    connection = connect(tracking_uri, request.get("experiment") or study)
    study_id = _study(study).created.study_id
    parents = [run.info.run_id for run in connection.study_runs(study_id)]
    children = [run.info.run_id for parent in parents for run in connection.children(parent)]
    return [*children, *parents]


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go")] = False,
) -> None:
    """Delete checkpoints that no trial can need any more."""
    from tracking import delete_checkpoint, removable_checkpoints

    total = 0
    for found in _studies():
        folder = study_folder(found.name)
        try:
            with _opened(found.name) as study:
                for item in removable_checkpoints(study):
                    total += item.size
                    if not dry_run:
                        delete_checkpoint(folder, item.uri)
                        study.dropped_checkpoint(item.trial, item.step, now=time.time())
        except StudyLockedError:
            typer.echo(f"study {found.name} is running; its driver looks after its checkpoints")
    typer.echo(f"{'would free' if dry_run else 'freed'} {total / 2**20:.1f} MiB")


# -- MLflow ------------------------------------------------------------------------------------


def sync(study: _Name, tracking_uri: _Tracking = None) -> int:
    """Deliver to MLflow what it has not got yet."""
    return _deliver(study, tracking_uri, anew=False)


def resync(study: _Name, tracking_uri: _Tracking = None) -> int:
    """Rebuild the study's MLflow runs from its journal."""
    return _deliver(study, tracking_uri, anew=True)


def _deliver(study: str, tracking_uri: str | None, *, anew: bool) -> int:
    from tracking import StudyTracker

    found = _study(study)
    request = found.created.meta.get("request", {})
    with _opened(study):
        tracker = StudyTracker(study_folder(study), tracking_uri, request.get("experiment") or study)
        if anew:
            tracker.forget()
        tracker.start()
        done = tracker.close(600.0)
    typer.echo(
        f"MLflow has all of study {study}"
        if done
        else f"MLflow did not take everything: {tracker.status.degraded}"
    )
    return 0 if done else 1


# -- helpers -----------------------------------------------------------------------------------


class _opened:  # noqa: N801 - used as a context manager, like a function
    """The study opened for writing, without driving it."""

    def __init__(self, name: str) -> None:
        self._journal = Journal(study_folder(name) / "journal.jsonl")

    def __enter__(self) -> Study:
        events, self._journal.events = self._journal.events, []
        return Study.replay(events, journal=self._journal)

    def __exit__(self, *_: object) -> None:
        self._journal.close()


def _study(name: str) -> Study:
    folder = study_folder(name)
    if not (folder / "journal.jsonl").exists():
        known = [p.parent.name for p in _journals()]
        raise InputError(f"there is no study {name!r} in {studies_home()}{nearest(name, known)}")
    return read_study(folder)


def _journals() -> Iterator[Path]:
    home = studies_home()
    if home.is_dir():
        yield from sorted(home.glob("*/journal.jsonl"))


def _studies() -> Iterator[Study]:
    for path in _journals():
        try:
            yield read_study(path.parent)
        except (JournalError, InputError) as error:
            typer.echo(f"{path.parent.name}: {error}", err=True)


def _state(study: Study) -> str:
    if study.stopped is not None:
        return f"{study.stopped.state}: {study.stopped.reason}"
    return "running" if _is_driven(study.name) else "interrupted; `hpo resume` goes on with it"


def _is_driven(name: str) -> bool:
    """Whether a living process on this machine holds the study's lock."""
    import fcntl

    path = study_folder(name) / "journal.lock"
    if not path.exists():
        return False
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _row(study: Study) -> dict[str, Any]:
    p = progress_of(study)
    state = study.stopped.state if study.stopped else "running" if _is_driven(study.name) else "interrupted"
    return {
        "study": study.name,
        "state": state,
        "strategy": study.strategy.name,
        "counts": {s.label: study.history.count(s) for s in TrialState if study.history.count(s)},
        **{k: p[k] for k in ("done", "planned", "running", "best", "best_trial", "spent")},
    }


def _trial_row(trial: Any) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state.label,
        "params": trial.params,
        "values": trial.values,
        "step": trial.step,
        "attempt": trial.attempt,
        "reason": trial.reason,
        "seconds": trial.busy_seconds,
    }
