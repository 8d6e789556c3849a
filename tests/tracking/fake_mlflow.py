"""An MLflow in memory that can fail before or after any call takes effect, or kill the caller there."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mlflow.entities import ViewType

from tracking._connection import Connection


class Killed(BaseException):
    """The process died here."""


class Away(OSError):
    """The server did not answer."""


class FakeMlflow:
    """The part of ``MlflowClient`` that the projector uses, with MLflow's rules for writing twice.

    ``fault(number, name)`` is asked at each writing call: ``None`` to go on, or ``(error, after)`` to raise
    the error, after the call took effect or before. ``uri``: a server's, and calls come from several threads.
    """

    def __init__(self, uri: str = "fake://") -> None:
        self._uri = uri
        self._one = threading.Lock()
        self.stored: dict[str, SimpleNamespace] = {}
        self.fault: Callable[[int, str], tuple[BaseException, bool] | None] = lambda number, name: None
        self.calls: list[str] = []
        self.artifacts: list[tuple[str, str]] = []
        self._ids = itertools.count()

    def connection(self) -> Connection:
        """As :func:`tracking._connection.connect` would make it."""
        return Connection(self, self._uri, "1")

    def _call(self, name: str, effect: Callable[[], Any]) -> Any:
        with self._one:
            self.calls.append(name)
            fault = self.fault(len(self.calls), name)
            if fault is None:
                return effect()
            error, after = fault
            if after:
                effect()
            raise error

    # -- writing -------------------------------------------------------------------------------

    def create_run(self, experiment_id: str, *, start_time: int, tags: dict[str, str], run_name: str) -> Any:
        def effect() -> Any:
            run_id = f"run{next(self._ids)}"
            self.stored[run_id] = SimpleNamespace(
                run_id=run_id,
                name=run_name,
                start_time=start_time,
                end_time=None,
                status="RUNNING",
                stage="active",
                tags={**tags, "mlflow.runName": run_name},
                params={},
                points=set(),
            )
            return self.get_run(run_id)

        return self._call("create_run", effect)

    def log_batch(
        self,
        run_id: str,
        metrics: Any = (),
        params: Any = (),
        tags: Any = (),
        synchronous: bool | None = None,
    ) -> None:
        assert synchronous is True

        def effect() -> None:
            run = self.stored[run_id]
            for param in params:
                assert run.params.setdefault(param.key, param.value) == param.value
            run.points.update((m.key, m.value, m.timestamp, m.step) for m in metrics)
            run.tags.update((t.key, t.value) for t in tags)

        self._call("log_batch", effect)

    def set_terminated(self, run_id: str, status: str, end_time: int | None = None) -> None:
        def effect() -> None:
            self.stored[run_id].status = status
            self.stored[run_id].end_time = end_time

        self._call("set_terminated", effect)

    def update_run(self, run_id: str, status: str) -> None:
        self._call("update_run", lambda: setattr(self.stored[run_id], "status", status))

    def delete_run(self, run_id: str) -> None:
        self._call("delete_run", lambda: setattr(self.stored[run_id], "stage", "deleted"))

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._call("set_tag", lambda: self.stored[run_id].tags.update({key: value}))

    def delete_tag(self, run_id: str, key: str) -> None:
        self._call("delete_tag", lambda: self.stored[run_id].tags.pop(key))

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        self._call("set_experiment_tag", lambda: None)

    def log_artifact(self, run_id: str, path: str) -> None:
        self.artifacts.append((run_id, path))

    log_artifacts = log_artifact

    # -- reading -------------------------------------------------------------------------------

    def get_experiment(self, experiment_id: str) -> Any:
        return SimpleNamespace(tags={}, artifact_location="")

    def get_run(self, run_id: str) -> Any:
        run = self.stored[run_id]
        info = SimpleNamespace(run_id=run_id, status=run.status, lifecycle_stage=run.stage, experiment_id="1")
        data = SimpleNamespace(tags=run.tags, metrics={p[0]: p[1] for p in run.points}, params=run.params)
        return SimpleNamespace(info=info, data=data)

    def search_runs(
        self,
        experiment_ids: list[str],
        query: str,
        *,
        run_view_type: int,
        max_results: int,
        order_by: list[str],
        page_token: str | None,
    ) -> Any:
        tags = dict(re.findall(r"tags\.`([^`]+)` = '([^']*)'", query))
        status = re.findall(r"attributes\.status = '(\w+)'", query)
        runs = [
            self.get_run(run.run_id)
            for run in sorted(self.stored.values(), key=lambda run: run.start_time)
            if run.stage == ViewType.to_string(run_view_type).partition("_")[0]
            and all(run.tags.get(key) == value for key, value in tags.items())
            and (not status or run.status == status[0])
        ]
        # Small pages, so that whoever forgets to turn them is found out.
        start = int(page_token or 0)
        page = _Page(runs[start : start + 3])
        page.token = str(start + 3) if start + 3 < len(runs) else None
        return page


class _Page(list):
    token: str | None = None
