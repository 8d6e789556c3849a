"""The Prefect flow ``tune``: one flow run per session of a study, one task run per stretch of work."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefect import flow
from prefect import task as prefect_task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed, State

from flows._artifact import publish
from flows._carry import carry_out
from flows._final import make_final_model
from flows._flow_run import Recall, claim
from flows._plan import Plan, Request, plan_request
from flows._prefect import expect_nothing_if_away, task_runs
from flows._result import Result
from flows._session import Watch


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
    return f"tune-{given.get('name') or given.get('objective') or 'lgbm'}"


@flow(name="tune", flow_run_name=_run_name, persist_result=False)
async def tune_flow(
    objective: str = "lgbm",
    data: str | None = None,
    target: str | None = None,
    metric: str | None = None,
    task: str | None = None,
    space: str | None = None,
    strategy: str = "auto",
    trials: int | None = None,
    timeout: float | None = None,
    workers: int | None = None,
    runner: str = "local",
    name: str | None = None,
    seed: int = 0,
    register_as: str | None = None,
    experiment: str | None = None,
    tracking_uri: str | None = None,
    warm_start: list[str] | None = None,
    options: dict[str, Any] | None = None,
    mlflow_run_id: str | None = None,
) -> State[Any]:
    """Tune hyperparameters: run a study, or go on with the one of this name.

    objective: lgbm, sklearn, torch, PATH.py:function or package.module:function.
    data: CSV or Parquet file, or sklearn:NAME (for the ready objectives).
    trials: total of the study, not per run; 100 where no timeout (seconds) ends it.
    register_as: model name for the champion.
    warm_start: results to begin with, each study:NAME, mlflow:EXPERIMENT, csv:FILE or optuna:STORAGE#STUDY.
    mlflow_run_id: an open MLflow run that is to become the study's.
    """
    context = handed.get()
    if context is None:
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
            register_as=register_as,
            experiment=experiment,
            tracking_uri=tracking_uri,
            warm_start=tuple(warm_start or ()),
            options=options or {},
        )
        plan = plan_request(request)
        plan = replace(plan, tracking=replace(plan.tracking, adopt_run=mlflow_run_id))
        context = Handed(plan, tell=print, watch=lambda session: None)
    context.begun = True
    recall = Recall()
    try:
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
        await expect_nothing_if_away()
    await publish(context.summary)
    return _state_of(context.summary)


def _state_of(summary: dict[str, Any]) -> State[Any]:
    """The flow run's end state follows the study's."""
    ended = str(summary["ended"])
    result = Result(**summary).to_json()
    stopped = summary["study"].stopped
    if stopped is None or stopped.state == "cancelled":
        return Cancelled(message=f"{ended}; run it again to resume")
    if not summary["summary"]["counts"].get("complete"):
        return Failed(message=f"no trial is complete: {ended}", data=result)
    return Completed(message=ended, data=result)


@prefect_task(name="final model", cache_policy=NO_CACHE, persist_result=False)
async def _final_model(current: Any, plan: Any) -> None:
    await make_final_model(current, plan)
