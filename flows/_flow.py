"""The Prefect flows ``tune`` and ``resume``: a flow run per session of a study, a task run per stretch.

What can be said of a parameter by its type is said there, and its meaning in the docstring's ``Args``:
Prefect makes the form of its pages from both, and its server refuses what does not fit before a run begins.
"""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger
from prefect import task as prefect_task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed, State
from pydantic import Field

from flows._again import fetched, plan_of, raised, run_again
from flows._artifact import publish
from flows._carry import carry_out
from flows._drive_session import Watch
from flows._final import make_final_model
from flows._find import find
from flows._flow_run import Recall, claim
from flows._plan import Plan, plan_request
from flows._prefect import expect_nothing_if_away, task_runs
from flows._relay import Relay, relay
from flows._request import TOTALS, Request, check_used
from flows._result import Result
from flows._session import Session
from hpo_core import HpoError


class Handed:
    """What a caller in this process hands to the flow beside its JSON parameters."""

    def __init__(self, plan: Plan, tell: Callable[[str], None], watch: Watch) -> None:
        self.plan = plan
        self.tell = tell
        self.watch = watch
        self.begun = False
        self.summary: dict[str, Any] | None = None
        self.error: BaseException | None = None


handed: contextvars.ContextVar[Handed | None] = contextvars.ContextVar("handed", default=None)


def _run_name() -> str:
    context = handed.get()
    if context is not None:
        return f"tune-{context.plan.terms.name}"
    given = flow_run.parameters or {}
    return f"tune-{given.get('name') or given.get('objective')}"


Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(gt=0)]


@flow(name="tune", flow_run_name=_run_name, persist_result=False)
async def tune_flow(
    objective: str,
    data: str | None = None,
    target: str | None = None,
    metric: str | None = None,
    task: Literal["binary", "multiclass", "regression"] | None = None,
    space: str | dict[str, Any] | None = None,
    strategy: str | dict[str, Any] = "auto",
    trials: Count | None = None,
    timeout: Seconds | None = None,
    workers: Count | None = None,
    runner: Literal["local", "dask", "gpu"] = "local",
    name: str | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    register_as: str | None = None,
    experiment: str | None = None,
    tracking_uri: str | None = None,
    warm_start: list[str] | None = None,
    enqueue: list[dict[str, Any]] | None = None,
    repeats: Count | None = None,
    outcome_constraints: list[str] | None = None,
    max_steps: Count | None = None,
    max_total_steps: Count | None = None,
    max_cost: Seconds | None = None,
    rule: str | None = None,
    on_duplicate: Literal["resample", "reuse", "repeat"] | None = None,
    stop_when: float | str | None = None,
    max_failures: Count | None = None,
    max_attempts: Count | None = None,
    trial_timeout: Seconds | None = None,
    trial_memory: Amount | None = None,
    checkpoint_quota: Amount | None = None,
    upload_checkpoints: Literal["none", "best", "kept"] = "best",
    granularity: Annotated[float, Field(ge=0)] = 1.0,
    isolation: Literal["process", "thread"] = "process",
    deterministic: bool = False,
    gpus_per_trial: Amount | None = None,
    dask: str | None = None,
    env_manager: str | None = None,
    edit_space: bool = False,
    offline: bool = False,
    options: dict[str, Any] | None = None,
    mlflow_run_id: str | None = None,
) -> State[Any]:
    """Tune hyperparameters: run a study, or go on with the one of this name.

    Args:
        objective: lgbm, sklearn, torch, PATH.py:function, package.module:function or a project, FOLDER#ENTRY.
        data: CSV or Parquet file, or sklearn:NAME; for lgbm, sklearn and torch.
        target: Column of the data to predict.
        metric: What to tune, such as auc or rmse; by default what suits the task.
        task: Left out, it is found from the target.
        space: YAML or JSON file, or its content as JSON, that narrows or replaces the search space.
        strategy: Such as auto, tpe, gp, asha, gp+asha, bohb; with options {"name": "asha", "eta": 2}.
        trials: The study's total, not this run's; 100 where no time, cost or total of steps ends it.
        timeout: Seconds for the study, all its runs together.
        workers: Trials at once; by default one per core.
        runner: Where trials are run.
        name: Of the study; the same name goes on with it. Left out, it is made from what is asked for.
        seed: Everything random follows from it.
        register_as: Registered model for the champion.
        experiment: Of MLflow; by default the study's name.
        tracking_uri: MLflow server or database; by default what MLFLOW_TRACKING_URI says.
        warm_start: Results to begin with: study:NAME, mlflow:EXPERIMENT, csv:FILE, optuna:STORAGE#STUDY.
        enqueue: Configurations to try before the sampler is asked; what one leaves out is sampled.
        repeats: Runs of each configuration, with other seeds; their mean counts.
        outcome_constraints: Bounds on metrics such as latency_ms <= 10; what breaks one does not count.
        max_steps: Step at which a trial is complete.
        max_total_steps: Steps of all trials together.
        max_cost: Seconds of all trials together.
        rule: Which result of a trial counts: last, best or average-K.
        on_duplicate: What is done with a configuration that was tried before.
        stop_when: End when further trials are expected to gain less: noise, or a number.
        max_failures: Failed trials after which the study stops.
        max_attempts: How often a trial is begun whose workers vanish.
        trial_timeout: Seconds per trial, then it is killed.
        trial_memory: MiB per trial, then it is killed.
        checkpoint_quota: MiB for all checkpoints; the least promising ones go first.
        upload_checkpoints: Which MLflow gets; kept is all that another machine needs to go on.
        granularity: Seconds of tiny trials that share one task run; 0 gives each its own.
        isolation: Whether trials run in processes or in threads of this one.
        deterministic: Take results in the order of the trials: the same study every time.
        gpus_per_trial: GPUs per trial, whole or a fraction; for the runners gpu and dask.
        dask: Address of a Dask scheduler, tcp://host:8786, for the runner dask.
        env_manager: Of a project: local, virtualenv, uv or conda.
        edit_space: Go on with an edited space.
        offline: Run without MLflow; deliver later.
        options: Further options of the objective.
        mlflow_run_id: An open MLflow run that is to become the study's.
    """
    given = dict(locals())
    context = handed.get()
    if context is not None:
        return await _carried(context)

    def ordered() -> Handed:
        run_id = given.pop("mlflow_run_id")
        request = _request(given)
        plan = plan_request(request)
        check_used(request)
        return _from_outside(replace(plan, tracking=replace(plan.tracking, adopt_run=run_id)))

    return await _carried_if_good(ordered)


def _request(given: dict[str, Any]) -> Request:
    """What the parameters ask for. JSON that a command line or a form has read is text again, and a field of
    a form that was left empty asks for nothing.
    """
    given = {name: value for name, value in given.items() if value != "" or name == "objective"}
    for name in ("space", "strategy"):
        if isinstance(given.get(name), dict):
            given[name] = json.dumps(given[name])
    for name in ("warm_start", "enqueue", "outcome_constraints"):
        given[name] = tuple(given.get(name) or ())
    return Request(**{**given, "options": given.get("options") or {}})


@flow(name="resume", flow_run_name="resume-{study}", persist_result=False)
async def resume_flow(
    study: str,
    trials: Count | None = None,
    timeout: Seconds | None = None,
    max_total_steps: Count | None = None,
    max_cost: Seconds | None = None,
    max_failures: Count | None = None,
    retry_failed: bool = False,
    tracking_uri: str | None = None,
) -> State[Any]:
    """Go on with a study, whatever its objective: resume it, extend it, or run again what failed.

    One that was run on another machine is fetched from MLflow.

    Args:
        study: Its name.
        trials: A new total; more than the study has extends it, less takes nothing back.
        timeout: A new total of seconds, likewise.
        max_total_steps: A new total of all trials' steps, likewise.
        max_cost: A new total of all trials' seconds, likewise.
        max_failures: Failed trials after which it stops, likewise.
        retry_failed: Run the trials that ended badly once more.
        tracking_uri: MLflow server or database; by default the one that shows the study.
    """
    given = dict(locals())

    def ordered() -> Handed:
        line = fetched(study, tracking_uri)
        known = find(study)
        totals = raised(known, {name: given[name] for name in TOTALS})
        context = _from_outside(plan_of(known, tracking_uri=tracking_uri, **totals))
        if line:
            context.tell(line)
        if retry_failed:
            context.tell(f"trials that will run once more: {run_again(context.plan, wanted=lambda n: True)}")
        return context

    return await _carried_if_good(ordered)


def _from_outside(plan: Plan) -> Handed:
    """The context of a run that nobody in this process waits for: its lines are in the flow run's log."""
    return Handed(plan, tell=get_run_logger().info, watch=lambda session: None)


async def _carried_if_good(ordered: Callable[[], Handed]) -> State[Any]:
    """Carry out what was ordered. What is wrong with it is a line on the flow run's page, not a traceback."""
    try:
        return await _carried(ordered())
    except HpoError as error:
        return Failed(message=str(error))


async def _carried(context: Handed) -> State[Any]:
    """Carry the study out; the end state of the flow run."""
    context.begun = True
    recall = Recall()
    try:
        with relay.get(Relay()).above_prefect():
            context.summary = await carry_out(
                context.plan,
                tell=context.tell,
                watch=context.watch,
                orchestrate=task_runs(context.plan.terms.name, context.tell),
                finalise=_final_model,
                opened=claim,
                recalled=recall,
            )
    except BaseException as error:
        context.error = error
        raise
    finally:
        await recall.close()
        await expect_nothing_if_away(context.tell)
    await publish(context.summary)
    return _state_of(context.summary)


def _state_of(summary: dict[str, Any]) -> State[Any]:
    """The flow run's end state follows the study's."""
    ended = str(summary["ended"])
    result = Result(**summary).to_json()
    stopped = summary["study"].stopped
    if stopped is None or stopped.resumable:
        return Cancelled(message=f"{ended}; run it again to resume")
    if stopped.state == "failed":
        return Failed(message=ended, data=result)
    return Completed(message=ended, data=result)


@prefect_task(name="final model", cache_policy=NO_CACHE, persist_result=False)
async def _final_model(current: Session, plan: Plan) -> None:
    await make_final_model(current, plan)
