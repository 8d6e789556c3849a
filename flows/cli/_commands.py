"""Every command but ``tune`` as it is typed; what it does is in the module that it imports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli import _arguments as given

_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("up")(up)
    app.command("list")(list_studies)
    for command in (
        show,
        why,
        compare,
        resume,
        extend,
        retry,
        rerun,
        confirm,
        promote,
        cancel,
        sync,
        resync,
        delete,
        gc,
    ):
        app.command(command.__name__)(command)


def up(
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow server")] = 5000,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect server")] = 4200,
    database: Annotated[Path, typer.Option(help="MLflow's database file")] = Path("mlflow.db"),
    artifacts: Annotated[Path, typer.Option(help="Folder of MLflow's artifacts")] = Path("mlartifacts"),
) -> int:
    """Start MLflow, Prefect and the deployments; Ctrl-C ends them.

    The deployments are tune/lgbm, tune/sklearn, tune/torch, tune/function and resume/study; everything
    listens on the loopback interface only.
    """
    from flows.cli import _up

    return _up.up(mlflow_port, prefect_port, database, artifacts)


def list_studies(as_json: given.AsJson = False) -> None:
    """List the studies below .hpo (or $HPO_HOME)."""
    from flows.cli import _look

    _look.list_studies(as_json=as_json)


def show(study: given.Study, as_json: given.AsJson = False) -> None:
    """Show a study: its state, the best trials, what failed."""
    from flows.cli import _look

    _look.show(study, as_json=as_json)


def why(
    study: given.Study,
    trial: Annotated[int | None, typer.Argument(help="Trial number", metavar="[TRIAL]")] = None,
) -> None:
    """Say why the study, or a trial, stands where it stands."""
    from flows.cli import _look

    _look.why(study, trial)


def compare(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...",
            help="Two or more sides: a study, or several as A-1,A-2,A-3 or 'A-*'",
            show_default=False,
        ),
    ],
    objective: Annotated[str | None, typer.Option(help="Objective to compare by; default the first")] = None,
    score: Annotated[float | None, typer.Option(help="Also: what it took to reach this score")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the curves")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the curves as a picture")] = None,
    as_json: given.AsJson = False,
) -> None:
    """Compare studies: progress, effort to a score, significance.

    A side of several studies, one for each seed, is one way of searching; with a single study a side only
    the studies can be compared, not what found them.
    """
    from flows.cli import _compare

    _compare.compare(studies, objective=objective, score=score, html=html, png=png, as_json=as_json)


def resume(
    study: given.Study,
    offline: given.Offline = False,
    as_json: given.AsJson = False,
    tracking_uri: given.TrackingUri = None,
    experiment: Annotated[
        str | None,
        typer.Option(help="MLflow experiment to fetch the study from, or to show it in from now on"),
    ] = None,
) -> int:
    """Go on with a study, with the terms it was started with.

    A study that is not on this machine is fetched from MLflow, which --tracking-uri or
    MLFLOW_TRACKING_URI names.
    """
    from flows.cli import _go_on

    terms = _shown(tracking_uri, offline, experiment)
    return _go_on.resume(study, as_json=as_json, **terms)


def _shown(tracking_uri: str | None, offline: bool, experiment: str | None) -> dict[str, Any]:
    """The terms that say where the study is shown; an experiment only where one was named."""
    terms: dict[str, Any] = {"tracking_uri": tracking_uri, "offline": offline}
    return terms if experiment is None else {**terms, "experiment": experiment}


def extend(
    study: given.Study,
    trials: Annotated[int | None, typer.Option(help="New total of trials")] = None,
    timeout: Annotated[float | None, typer.Option(help="New total of seconds")] = None,
    max_total_steps: Annotated[int | None, typer.Option(help="New total of all trials' steps")] = None,
    max_cost: Annotated[float | None, typer.Option(help="New total of all trials' seconds")] = None,
    max_failures: Annotated[int | None, typer.Option(help="Failed trials after which it stops")] = None,
    offline: given.Offline = False,
    as_json: given.AsJson = False,
    tracking_uri: given.TrackingUri = None,
    experiment: given.ShownIn = None,
) -> int:
    """Raise a study's limits and go on."""
    said = dict(locals())
    from flows._request import TOTALS
    from flows.cli import _go_on

    terms = _shown(tracking_uri, offline, experiment)
    return _go_on.extend(study, {name: said[name] for name in TOTALS}, as_json=as_json, **terms)


def retry(
    study: given.Study,
    failed: Annotated[bool, typer.Option("--failed", help="All trials that ended badly")] = False,
    trial: Annotated[list[int] | None, typer.Option(help="This trial; may be repeated")] = None,
    offline: given.Offline = False,
    as_json: given.AsJson = False,
    tracking_uri: given.TrackingUri = None,
    experiment: given.ShownIn = None,
) -> int:
    """Run trials that ended badly once more."""
    from flows.cli import _go_on

    terms = _shown(tracking_uri, offline, experiment)
    return _go_on.retry(study, failed, trial or [], as_json=as_json, **terms)


def rerun(
    study: given.Study,
    trial: Annotated[
        int | None, typer.Argument(help="Trial number; default the best", metavar="[TRIAL]")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Relative difference that counts as the same")] = 0.0,
    as_json: given.AsJson = False,
) -> int:
    """Run a trial once more: does it come out the same?

    The study is not touched. Configuration and seed are the trial's. Said is also what has changed
    since: data, code, packages.
    """
    from flows.cli import _rerun

    return _rerun.rerun(study, trial, tolerance, as_json=as_json)


def confirm(
    study: given.Study,
    top: Annotated[int, typer.Option(help="The best so many complete trials")] = 3,
    repeats: Annotated[int | None, typer.Option(help="Fresh seeds for each of them; default 5")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the study that does it; default STUDY-confirm")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Trials at once; default as the study")] = None,
    offline: given.Offline = False,
    as_json: given.AsJson = False,
    tracking_uri: given.TrackingUri = None,
) -> int:
    """Run the best trials again on fresh seeds: is the winner the best?

    They run as a study of their own. The same command again goes on with it, or shows the verdict, which
    hpo show STUDY tells too.
    """
    from flows._confirm import Wish
    from flows.cli import _confirm

    terms = {"workers": workers, "offline": offline or None, "tracking_uri": tracking_uri}
    wish = Wish(
        study=study,
        top=top,
        repeats=repeats,
        name=name,
        terms={key: value for key, value in terms.items() if value is not None},
    )
    return _confirm.confirm(wish, as_json=as_json)


def promote(
    study: given.Study,
    trial: Annotated[int | None, typer.Option(help="Trial to promote; default the best one")] = None,
    model: Annotated[
        str | None, typer.Option(help="Registered model; default what --register said, or the study's name")
    ] = None,
    alias: Annotated[str, typer.Option(help="Alias that the model is to get")] = "champion",
    metric: Annotated[str | None, typer.Option(help="Metric of the gate; default the tuned one")] = None,
    margin: Annotated[float, typer.Option(help="How much better than the alias's holder it must be")] = 0.0,
    gate: Annotated[
        str, typer.Option(help="margin: the models' scores; folds: a paired test over cross-validation folds")
    ] = "margin",
    level: Annotated[float, typer.Option(help="Gate folds: the p that the test must reach")] = 0.05,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Give the alias back to the version before")
    ] = False,
    dry_run: _DryRun = False,
    as_json: given.AsJson = False,
    tracking_uri: given.TrackingUri = None,
) -> int:
    """Give a trial's model an alias, if it beats the holder.

    The model is registered, and made first where need be. Doing it again changes nothing. Exit code 1:
    the gate said no.
    """
    from flows.cli import _promote

    wish = _promote.Wish(
        study=study, trial=trial, model=model, alias=alias, metric=metric, margin=margin, gate=gate,
        level=level, dry_run=dry_run,
    )  # fmt: skip
    if rollback:
        return _promote.roll_back(wish, as_json=as_json, tracking_uri=tracking_uri)
    return _promote.promote(wish, as_json=as_json, tracking_uri=tracking_uri)


def cancel(study: given.Study) -> None:
    """Cancel a study; what runs is stopped within seconds.

    `hpo resume` goes on with it.
    """
    from flows.cli import _end

    _end.cancel(study)


def sync(study: given.Study, tracking_uri: given.TrackingUri = None, experiment: given.ShownIn = None) -> int:
    """Deliver to MLflow what it has not got yet."""
    from flows.cli import _end

    return _end.deliver(study, tracking_uri, experiment, anew=False)


def resync(
    study: given.Study, tracking_uri: given.TrackingUri = None, experiment: given.ShownIn = None
) -> int:
    """Write a study's MLflow runs anew from its journal.

    Runs that are missing are made again; what users added to runs that are there stays.
    """
    from flows.cli import _end

    return _end.deliver(study, tracking_uri, experiment, anew=True)


def delete(
    study: given.Study,
    dry_run: _DryRun = False,
    keep_runs: Annotated[
        bool, typer.Option("--keep-runs", help="Leave the runs in MLflow and Prefect")
    ] = False,
    tracking_uri: given.TrackingUri = None,
) -> None:
    """Delete a study: journal, checkpoints, and its runs in MLflow and Prefect.

    Artifacts go with the runs, and models that are not registered.
    """
    from flows.cli import _end

    _end.delete(study, tracking_uri, dry_run=dry_run, keep_runs=keep_runs)


def gc(dry_run: _DryRun = False) -> None:
    """Delete checkpoints that no trial can need any more."""
    from flows.cli import _end

    _end.gc(dry_run=dry_run)
