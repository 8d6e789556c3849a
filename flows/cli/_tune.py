"""``hpo tune``: one command from a table, or an objective, to the best model."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from flows.cli import _arguments as given
from flows.cli._dry_run import explain
from flows.cli._output import only_json
from tracking import finite

if TYPE_CHECKING:
    from flows._plan import Plan
    from flows._request import Request
    from flows._result import Result
    from flows._session import Session


def tune(
    objective: given.Objective,
    data: given.Data = None,
    target: given.Target = None,
    metric: given.Metric = None,
    task: given.Task = None,
    space: given.Space = None,
    strategy: given.Strategy = "auto",
    trials: given.Trials = None,
    timeout: given.Timeout = None,
    workers: given.Workers = None,
    runner: given.Runner = "local",
    name: given.Name = None,
    seed: given.Seed = 0,
    register: given.Register = None,
    estimator: given.Estimator = None,
    folds: given.Folds = None,
    split: given.Split = None,
    group: given.Group = None,
    time_column: given.TimeColumn = None,
    option: given.Option = None,
    max_steps: given.MaxSteps = None,
    rule: given.Rule = None,
    on_duplicate: given.OnDuplicate = None,
    max_attempts: given.MaxAttempts = None,
    repeats: given.Repeats = None,
    outcome_constraints: given.Constraint = None,
    trial_timeout: given.TrialTimeout = None,
    trial_memory: given.TrialMemory = None,
    checkpoint_quota: given.CheckpointQuota = None,
    upload_checkpoints: given.UploadCheckpoints = "best",
    max_failures: given.MaxFailures = None,
    max_total_steps: given.MaxTotalSteps = None,
    max_cost: given.MaxCost = None,
    stop_when: given.StopWhen = None,
    isolation: given.Isolation = "process",
    granularity: given.Granularity = 1.0,
    deterministic: given.Deterministic = False,
    env_manager: given.EnvManager = None,
    gpus_per_trial: given.GpusPerTrial = None,
    dask: given.Dask = None,
    experiment: given.Experiment = None,
    tracking_uri: given.TrackingUri = None,
    offline: given.Offline = False,
    warm_start: given.WarmStart = None,
    enqueue: given.Enqueue = None,
    edit_space: given.EditSpace = False,
    dry_run: given.DryRun = False,
    as_json: given.AsJson = False,
) -> int:
    """Tune an objective: run a study, or resume it.

    The same command again resumes, or says that the study is finished and runs nothing; a higher
    --trials extends it.
    """
    said = dict(locals())
    from flows._plan import plan_request
    from flows._request import check_used

    request = _request(said)
    with only_json(as_json):
        plan = plan_request(request)
        check_used(request)
    if dry_run:
        return explain(plan, as_json=as_json)
    return carry_out(plan, as_json=as_json)


def _request(said: dict[str, Any]) -> Request:
    """What the arguments of :func:`tune` ask for. Those of one objective go to its options."""
    from flows._mlproject import is_project
    from flows._request import Request

    for beside in ("dry_run", "as_json"):
        del said[beside]
    options = {name: said.pop(name) for name in ("estimator", "folds", "split", "group")}
    said["register_as"] = said.pop("register")
    said["metric"] = None if said["metric"] is None else ",".join(said["metric"])
    # An entry point of a project reads its parameters itself: what is 1.10 to it is no number.
    read = str if is_project(said["objective"]) else _plain
    options |= {"time": said.pop("time_column"), **_key_values(said.pop("option") or [], read)}
    return Request(
        **{
            **said,
            "warm_start": tuple(said["warm_start"] or ()),
            "enqueue": tuple(said["enqueue"] or ()),
            "outcome_constraints": tuple(said["outcome_constraints"] or ()),
            "options": {name: value for name, value in options.items() if value is not None},
        }
    )


def carry_out(plan: Plan, *, as_json: bool) -> int:
    """Run the plan with a view on it; the exit code."""
    result = watched(plan, as_json=as_json, conclude=not as_json)
    if result is None:
        typer.echo("hpo: interrupted; the same command goes on", err=True)
        return 130
    if as_json:
        typer.echo(json.dumps(finite(result.to_json()), sort_keys=True))
    if result.broken_off:
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


def _key_values(pairs: list[str], read: Callable[[str], Any]) -> dict[str, Any]:
    """``key=value`` pairs, with the values as ``read`` has them."""
    from hpo_core import InputError

    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--option takes KEY=VALUE, got {pair!r}")
        options[key.strip()] = read(value)
    return options


def _plain(text: str) -> Any:
    """What the text says as JSON, where it is JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text
