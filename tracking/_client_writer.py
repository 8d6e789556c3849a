"""Writes runs through MLflow's client, for any tracking server: three calls for a trial that is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tracking._errors import brief, is_permanent
from tracking._states import RUNNING
from tracking._writes import REFUSED, Progress, Refused, RunWrite, all_refused, refused_text

if TYPE_CHECKING:
    from mlflow import MlflowClient


class ClientWriter:
    """Writes through a client, with explicit run ids; never touches MLflow's active run.

    ``at_once``: runs that are written side by side. Most of a call's time is the server's, or the way there
    and back, in which it can serve others.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, at_once: int = 1) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._at_once = at_once
        # Small, so that somebody who waits for a run id does not wait for everybody else's metrics.
        self.batch = 10 * at_once
        self._telling = threading.Lock()

    def write(self, writes: Sequence[RunWrite], progress: Progress) -> None:
        """See :class:`tracking._writes.Writer`."""
        todo = iter(writes)
        errors: list[BaseException] = []

        def work() -> None:
            try:
                for write in todo:
                    if errors:
                        return
                    self._write(write, progress)
            except BaseException as error:  # noqa: BLE001 - raised by the thread that called
                errors.append(error)

        # Not a pool of the standard library's: at exit Python waits for its threads, which a request that
        # hangs may keep for minutes.
        others = [
            threading.Thread(target=work, name=f"hpo-tracking-{n}", daemon=True)
            for n in range(1, min(self._at_once, len(writes)))
        ]
        for thread in others:
            thread.start()
        work()
        for thread in others:
            thread.join()
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Nothing is open: MLflow keeps its connections for all clients of a server."""

    def _write(self, write: RunWrite, progress: Progress) -> None:
        run_id, tags = write.run_id, write.tags
        if run_id is None:
            with self._telling:
                progress.creating(write)
            # One transaction, whatever the number of tags; and never a run without its parent.
            run = self._client.create_run(
                self._experiment_id, start_time=write.start_time, tags=tags, run_name=write.name
            )
            run_id, tags = run.info.run_id, {}
            with self._telling:
                progress.created(write, run_id)
        try:
            self._log(run_id, write, tags)
            self._set_status(run_id, write)
        except Exception as error:
            if not is_permanent(error):
                raise
            refused = self._piecewise(run_id, write)
        else:
            refused = []
        with self._telling:
            for item in refused:
                progress.refused(item)
            progress.done(write, run_id)

    def _log(self, run_id: str, write: RunWrite, tags: dict[str, str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(p.key, p.value, p.timestamp, p.step) for p in write.points],
            params=[Param(k, v) for k, v in write.params.items()],
            tags=[RunTag(k, v) for k, v in tags.items()],
            synchronous=True,
        )

    def _set_status(self, run_id: str, write: RunWrite) -> None:
        if write.status == RUNNING:
            self._client.update_run(run_id, status=RUNNING)
        elif write.status is not None:
            self._client.set_terminated(run_id, write.status, end_time=write.end_time)

    def _piecewise(self, run_id: str, write: RunWrite) -> list[Refused]:
        """MLflow refuses something in the write: find it, leave it out, say so in a tag; returns it."""
        from mlflow.entities import Metric, Param, RunTag

        client = self._client
        if client.get_run(run_id).info.lifecycle_stage != "active":
            return [all_refused(write, run_id)]
        refused: list[Refused] = []

        def attempt(what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
            try:
                call(*args, **kwargs)
            except Exception as error:
                if not is_permanent(error):
                    raise
                refused.append(Refused(write.number, what, brief(error)))
                return False
            return True

        metrics = [Metric(p.key, p.value, p.timestamp, p.step) for p in write.points]
        if not attempt("metrics", client.log_batch, run_id, metrics=metrics, synchronous=True):
            refused.pop()
            for m in metrics:
                attempt(f"metric {m.key}", client.log_batch, run_id, metrics=[m], synchronous=True)
        for key, text in write.params.items():
            param = [Param(key, text)]
            attempt(f"parameter {key}", client.log_batch, run_id, params=param, synchronous=True)
        for key, text in write.tags.items():
            tag = [RunTag(key, text)]
            attempt(f"tag {key}", client.log_batch, run_id, tags=tag, synchronous=True)
        attempt("status", self._set_status, run_id, write)
        if refused:
            attempt("remark", client.set_tag, run_id, REFUSED, refused_text(refused))
        return refused
