"""``hpo tune``: one command from a table, or an objective, to the best model."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli._dry_run import explain
from flows.cli._output import only_json
from tracking import finite

if TYPE_CHECKING:
    from flows._plan import Plan
    from flows._result import Result
    from flows._session import Session


def tune(
    objective: Annotated[
        str,
        typer.Argument(
            help="lgbm, sklearn, torch, PATH.py:function, package.module:function or a project: FOLDER#ENTRY"
        ),
    ],
    data: Annotated[str | None, typer.Option(help="CSV or Parquet file, or sklearn:NAME")] = None,
    target: Annotated[str | None, typer.Option(help="Column to predict")] = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric to tune, such as auc or rmse; of a project rmse=min")
    ] = None,
    task: Annotated[str | None, typer.Option(help="binary, multiclass or regression")] = None,
    space: Annotated[
        str | None, typer.Option(help="YAML or JSON file that narrows or replaces the space")
    ] = None,
    strategy: Annotated[str, typer.Option(help="Such as auto, tpe, gp, asha, gp+asha, bohb")] = "auto",
    trials: Annotated[
        int | None,
        typer.Option(help="The study's total, not this command's; default 100, with --timeout no limit"),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for the study")] = None,
    workers: Annotated[int | None, typer.Option(help="Trials at once; default one per core")] = None,
    runner: Annotated[str, typer.Option(help="local, dask or gpu")] = "local",
    name: Annotated[str | None, typer.Option(help="Name of the study; the same name resumes it")] = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it")] = 0,
    register: Annotated[str | None, typer.Option(help="Registered model for the champion")] = None,
    estimator: Annotated[str | None, typer.Option(help="sklearn: import path of the estimator")] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-validation folds")] = None,
    split: Annotated[str | None, typer.Option(help="stratified, plain, grouped or time")] = None,
    group: Annotated[str | None, typer.Option(help="Column whose rows stay together")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column that orders the rows in time")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, further options of the objective")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="Step at which a trial is complete")] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Runs of each configuration, with other seeds; their mean counts")
    ] = None,
    trial_timeout: Annotated[float | None, typer.Option(help="Seconds per trial, then it is killed")] = None,
    trial_memory: Annotated[float | None, typer.Option(help="MiB per trial, then it is killed")] = None,
    checkpoint_quota: Annotated[
        float | None, typer.Option(help="MiB for all checkpoints; the least promising ones go first")
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option(help="Failed trials after which the study stops")
    ] = None,
    stop_when: Annotated[
        str | None,
        typer.Option(help="End when further trials are expected to gain less: noise, or a number"),
    ] = None,
    isolation: Annotated[str, typer.Option(help="process or thread")] = "process",
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic", help="Take results in the order of the trials: the same study every time"
        ),
    ] = False,
    env_manager: Annotated[
        str | None, typer.Option(help="Of a project: local, virtualenv, uv or conda; default local")
    ] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(help="GPUs per trial, whole or a fraction")] = None,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, tcp://host:8786")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="MLflow experiment; default the study's name")
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow tracking server or database")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Run without MLflow; deliver later")] = False,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            help="Results to begin with: study:NAME, mlflow:EXPERIMENT, csv:FILE or optuna:STORAGE#STUDY, "
            "with ?OURS=THEIRS where names differ; may be repeated"
        ),
    ] = None,
    edit_space: Annotated[bool, typer.Option("--edit-space", help="Go on with an edited space")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run; create nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> int:
    """Tune an objective: run a study, or resume it.

    The same command again resumes, or says that the study is finished and runs nothing; a higher
    --trials extends it.
    """
    from flows._plan import plan_request
    from flows._request import Request, check_used

    options = {
        "estimator": estimator, "folds": folds, "split": split, "group": group, "time": time_column,
        **_key_values(option or []),
    }  # fmt: skip
    request = Request(
        objective=objective,
        data=data,
        target=target,
        metric=metric,
        task=task,
        space=space,
        strategy=strategy,
        trials=trials,
        timeout=timeout,
        workers=workers,
        runner=runner,
        name=name,
        seed=seed,
        register_as=register,
        max_steps=max_steps,
        trial_timeout=trial_timeout,
        trial_memory=trial_memory,
        checkpoint_quota=checkpoint_quota,
        max_failures=max_failures,
        stop_when=stop_when,
        isolation=isolation,
        gpus_per_trial=gpus_per_trial,
        dask=dask,
        experiment=experiment,
        tracking_uri=tracking_uri,
        offline=offline,
        edit_space=edit_space,
        warm_start=tuple(warm_start or ()),
        env_manager=env_manager,
        deterministic=deterministic,
        repeats=repeats,
        options={k: v for k, v in options.items() if v is not None},
    )
    with only_json(as_json):
        plan = plan_request(request)
        check_used(request)
    if dry_run:
        return explain(plan, as_json=as_json)
    return carry_out(plan, as_json=as_json)


def carry_out(plan: Plan, *, as_json: bool) -> int:
    """Run the plan with a view on it; the exit code."""
    result = watched(plan, as_json=as_json, conclude=not as_json)
    if result is None:
        typer.echo("hpo: interrupted; the same command goes on", err=True)
        return 130
    if as_json:
        typer.echo(json.dumps(finite(result.to_json()), sort_keys=True))
    if result.ended in ("interrupted", "terminated"):
        return 130
    return 0 if result.summary["counts"].get("complete") and result.state != "failed" else 1


def watched(plan: Plan, *, as_json: bool, conclude: bool = False) -> Result | None:
    """Run the plan with a view on it; ``None`` when it was interrupted outside of its trials."""
    from flows._live import make_view
    from flows._tune import run_plan

    view = make_view(quiet=as_json)
    notes = list(plan.notes)

    def watch(current: Session) -> None:
        # What the data are like is news once it is certain that the study runs.
        while notes and current.study.stopped is None:
            view.tell(f"note: {notes.pop(0)}")
        view.watch(current)

    try:
        with only_json(as_json), view:
            result = run_plan(plan, tell=view.tell, watch=watch)
    except KeyboardInterrupt:
        # Before the first trial, or after the last; in between, Ctrl-C is the driver's.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return None
    if conclude:
        view.conclude(result)
    return result


def _key_values(pairs: list[str]) -> dict[str, Any]:
    """``key=value`` pairs, values read as JSON where they are JSON."""
    from hpo_core import InputError

    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--option takes KEY=VALUE, got {pair!r}")
        try:
            options[key.strip()] = json.loads(value)
        except ValueError:
            options[key.strip()] = value
    return options
