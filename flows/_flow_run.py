"""What a study's session asks of its flow run, and does for the flow runs of drivers that died."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.context import FlowRunContext
from prefect.states import Crashed

from flows._session import Session

_PAGE = 200


class Recall:
    """Whether somebody has asked Prefect to cancel the flow run, in its UI or otherwise.

    Prefect ends the process of a run that a worker started, in its own time; of a run in the user's
    process it only notes the wish. So the session looks itself.
    """

    def __init__(self) -> None:
        self._clients = contextlib.AsyncExitStack()
        self._client: Any = None

    async def __call__(self) -> str:
        """The reason to cancel, or an empty string; also when Prefect cannot be reached."""
        run = FlowRunContext.get()
        if run is None or run.flow_run is None:
            return ""
        try:
            if self._client is None:
                self._client = await self._clients.enter_async_context(get_client())
            state = (await self._client.read_flow_run(run.flow_run.id)).state
        except Exception:  # noqa: BLE001 - the study goes on without Prefect
            return ""
        wanted = state is not None and (state.is_cancelling() or state.is_cancelled())
        return "cancelled in Prefect" if wanted else ""

    async def close(self) -> None:
        """Let go of the connection."""
        with contextlib.suppress(Exception):  # to a server that may be gone
            await self._clients.aclose()


async def claim(current: Session) -> None:
    """Note which flow run drives the study, and close those of drivers that died."""
    run = FlowRunContext.get()
    if run is None or run.flow_run is None or current.study.stopped is not None:
        return
    earlier = {n.data["id"] for n in current.study.state.notes if n.topic == "flow_run"}
    current.study.note("flow_run", {"id": str(run.flow_run.id), "name": run.flow_run.name}, now=current.now())
    for flow_run_id in earlier - {str(run.flow_run.id)}:
        await _close_stale(UUID(flow_run_id))
    if str(run.flow_run.id) in earlier:  # it is retried
        await _close_task_runs(run.flow_run.id)


async def _close_stale(flow_run_id: UUID) -> None:
    """A flow run that still says Running although its driver is gone becomes Crashed."""
    try:
        async with get_client() as client:
            stale = await client.read_flow_run(flow_run_id)
            if stale.state is None or not (stale.state.is_running() or stale.state.is_cancelling()):
                return
            gone = Crashed(message="its driver died; a later flow run went on with the study")
            await client.set_flow_run_state(flow_run_id, gone, force=True)
    except Exception:  # noqa: BLE001 - another server, or none: nothing of ours is left running there
        return
    await _close_task_runs(flow_run_id)


async def _close_task_runs(flow_run_id: UUID) -> None:
    """What a flow run's dead process had running becomes Crashed."""
    running = TaskRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING"]}}})
    of_flow_run = FlowRunFilter.model_validate({"id": {"any_": [flow_run_id]}})
    try:
        async with get_client() as client:
            while left := await client.read_task_runs(
                flow_run_filter=of_flow_run, task_run_filter=running, limit=_PAGE
            ):
                for task_run in left:
                    gone = Crashed(message="its driver died")
                    await client.set_task_run_state(task_run.id, gone, force=True)
    except Exception:  # noqa: BLE001 - as above
        return
